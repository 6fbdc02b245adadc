-- The outbox that a Doorstep node reads (purge.postgres), and a trigger that fills it. PostgreSQL 13 or newer.
--
--   psql -f outbox.sql YOUR_DATABASE          as the owner of the schema; may be run again
--
-- Goes to the first schema of search_path. For another channel than doorstep_purge change the trigger doorstep_outbox_notify.

BEGIN;

-- One row is one purge. `xid` is the transaction that wrote it: it orders what a node has seen, so leave it to its default.
CREATE TABLE IF NOT EXISTS doorstep_outbox (
    xid    xid8        NOT NULL DEFAULT pg_current_xact_id(),
    id     bigint      GENERATED ALWAYS AS IDENTITY,
    kind   text        NOT NULL CHECK (kind IN ('url', 'prefix', 'tag', 'host', 'group', 'all')),
    target text        NOT NULL DEFAULT '' CHECK (octet_length(target) <= 8192),
    soft   boolean     NOT NULL DEFAULT false,
    made   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (xid, id)
);

-- One row: what was deleted from the outbox. A node that was away sees by it whether it may have missed something.
CREATE TABLE IF NOT EXISTS doorstep_outbox_state (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    deletions   bigint  NOT NULL DEFAULT 0,
    deleted_xid xid8    NOT NULL DEFAULT '0'
);
INSERT INTO doorstep_outbox_state DEFAULT VALUES ON CONFLICT DO NOTHING;

-- The functions below run with their owner's rights, in this schema, whoever changes a table.
DO $$ BEGIN PERFORM set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true); END $$;

CREATE OR REPLACE FUNCTION doorstep_outbox_notify() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_notify(TG_ARGV[0], '');
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION doorstep_outbox_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    highest xid8;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        highest := pg_current_xact_id();
    ELSE
        -- Nobody can have waited for numbers beyond the present: such rows came with a dump of another server.
        SELECT xid INTO highest FROM gone WHERE xid < pg_snapshot_xmax(pg_current_snapshot()) ORDER BY xid DESC LIMIT 1;
    END IF;
    UPDATE doorstep_outbox_state
        SET deletions = deletions + 1, deleted_xid = greatest(deleted_xid, highest) WHERE highest IS NOT NULL;
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS doorstep_outbox_notify ON doorstep_outbox;
CREATE TRIGGER doorstep_outbox_notify AFTER INSERT ON doorstep_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION doorstep_outbox_notify('doorstep_purge');
DROP TRIGGER IF EXISTS doorstep_outbox_deleted ON doorstep_outbox;
CREATE TRIGGER doorstep_outbox_deleted AFTER DELETE ON doorstep_outbox
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION doorstep_outbox_deleted();
DROP TRIGGER IF EXISTS doorstep_outbox_truncated ON doorstep_outbox;
CREATE TRIGGER doorstep_outbox_truncated AFTER TRUNCATE ON doorstep_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION doorstep_outbox_deleted();

-- Deletes what nodes have long read; returns how many rows. Call it from cron, once a day. A node that was away for longer than
-- `keep` makes everything it holds stale when it returns. Rows beyond a transaction that still runs stay.
CREATE OR REPLACE FUNCTION doorstep_prune(keep interval DEFAULT '1 day') RETURNS bigint
LANGUAGE sql SET search_path FROM CURRENT AS $$
    WITH pruned AS (
        DELETE FROM doorstep_outbox
        WHERE (xid < pg_snapshot_xmin(pg_current_snapshot()) OR xid >= pg_snapshot_xmax(pg_current_snapshot()))
            AND made < now() - keep RETURNING 1
    )
    SELECT count(*) FROM pruned;
$$;

-- For any table. Its arguments are purges in words; {column} stands for the row's value, for the old one and the new one:
--
--   CREATE TRIGGER product_purge AFTER INSERT OR UPDATE OR DELETE ON product
--       FOR EACH ROW EXECUTE FUNCTION doorstep_purge('tag product-{id}', 'soft url /category/{category}');
--
-- A row with NULL in such a column is skipped. For bulk changes use FOR EACH STATEMENT and words without columns.
CREATE OR REPLACE FUNCTION doorstep_purge() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    versions jsonb[] := ARRAY['{}'::jsonb];
    version  jsonb;
    words    text[];
    said     text;
    name     text;
    target   text;
    previous text;
BEGIN
    IF TG_LEVEL = 'ROW' THEN
        versions := CASE TG_OP WHEN 'INSERT' THEN ARRAY[to_jsonb(NEW)]
                               WHEN 'DELETE' THEN ARRAY[to_jsonb(OLD)]
                               ELSE ARRAY[to_jsonb(OLD), to_jsonb(NEW)] END;
    END IF;
    FOREACH said IN ARRAY TG_ARGV LOOP
        words := regexp_match(said, '^(soft )?(url|prefix|tag|host|group|all) ?(.*)$');
        IF words IS NULL THEN
            RAISE EXCEPTION 'doorstep_purge: "%" is no purge', said;
        END IF;
        previous := NULL;
        FOREACH version IN ARRAY versions LOOP
            target := words[3];
            FOR name IN SELECT DISTINCT m[1] FROM regexp_matches(words[3], '\{([^{}]+)\}', 'g') AS m LOOP
                IF NOT version ? name THEN
                    RAISE EXCEPTION 'doorstep_purge: "%" on %: there is no column % here', said, TG_TABLE_NAME, name;
                END IF;
                target := replace(target, '{' || name || '}', version ->> name);
            END LOOP;
            CONTINUE WHEN target IS NULL OR target = previous;
            previous := target;
            IF octet_length(target) > 8192 THEN -- rather too much than too little
                INSERT INTO doorstep_outbox (kind, soft) VALUES ('all', true);
            ELSE
                INSERT INTO doorstep_outbox (kind, target, soft) VALUES (words[2], target, words[1] IS NOT NULL);
            END IF;
        END LOOP;
    END LOOP;
    RETURN NULL;
END $$;

-- For the node: CREATE ROLE doorstep LOGIN; GRANT SELECT ON doorstep_outbox, doorstep_outbox_state TO doorstep;
-- (and USAGE on the schema when it is not public).

COMMIT;
