/* One statement reads rows and facts, so that both are of one snapshot: what the facts do not tell about deleted rows, the rows
 * have. All columns are text; the row of facts has no kind. */
#include "cache/purge_pg_read.h"

#include "base/heap.h"

#include <assert.h>
#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_MAX_LEN 56 /* PostgreSQL's 63 less "_state" */

/* ---- making the SQL ---- */

static bool is_name(struct view v)
{
    for (size_t i = 0; i < v.len; i++) {
        char c = ascii_lower(v.ptr[i]);

        if (!((c >= 'a' && c <= 'z') || c == '_' || (i > 0 && ((c >= '0' && c <= '9') || c == '$'))))
            return false;
    }
    return v.len > 0 && v.len <= NAME_MAX_LEN;
}

/* %1$: the table. Its names are checked, and not quoted: PostgreSQL folds them as it did when the table was made.
 *
 * Not visible in snapshot $1 is what has a number from its xmax on, or was running then. Asked as two ranges of the primary key:
 * one from xmin on would read again and again all that was written while an old transaction stays open. Numbers beyond the
 * present (rows of a dump from another server) are not visible in any snapshot here, and left alone. */
#define VISIBLE_THEN "pg_visible_in_snapshot(o.xid, coalesce($2::pg_snapshot, (SELECT pg_current_snapshot())))"
#define FIRST_ID "(-9223372036854775808)"

static const char read_form[] =
    "SELECT NULL, pg_current_snapshot()::text, s.deletions::text, s.deleted_xid::text, '%1$.*2$s'::regclass::oid::text,"
    " (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::text, (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::text,"
    " EXISTS (SELECT FROM %1$.*2$s a WHERE a.xid = $5::xid8 AND a.id = $6::bigint"
    " AND (extract(epoch FROM a.made) * 1000000)::bigint = $7::bigint)::text"
    " FROM %1$.*2$s_state s "
    "UNION ALL SELECT coalesce(left(r.kind, 16), ''), r.xid::text, r.id::text,"
    " CASE WHEN octet_length(r.target) <= 8192 THEN r.target END, r.soft::text,"
    " (extract(epoch FROM r.made) * 1000000)::bigint::text, '', '' FROM ("
    "(SELECT o.* FROM %1$.*2$s o WHERE (o.xid, o.id) > (greatest($3::xid8, pg_snapshot_xmax($1::pg_snapshot)),"
    " CASE WHEN $3::xid8 < pg_snapshot_xmax($1::pg_snapshot) THEN " FIRST_ID " ELSE $4::bigint END)"
    " AND " VISIBLE_THEN " ORDER BY o.xid, o.id LIMIT 1000) "
    "UNION ALL (SELECT late.* FROM pg_snapshot_xip($1::pg_snapshot) x(xid) CROSS JOIN LATERAL"
    " (SELECT o.* FROM %1$.*2$s o WHERE o.xid = x.xid"
    " AND o.id > CASE WHEN x.xid = $3::xid8 THEN $4::bigint ELSE " FIRST_ID " END"
    " AND " VISIBLE_THEN " ORDER BY o.id LIMIT 1000) late WHERE x.xid >= $3::xid8)"
    " ORDER BY xid, id LIMIT 1000) r";
static_assert(OUTBOX_BATCH == 1000, "read_form says the same");

int outbox_init(struct outbox *outbox, struct view channel, struct view table, unsigned answer_ms, struct text *reason)
{
    struct view name = table, schema = view_cut(&name, '.');
    size_t cap = sizeof(read_form) + 8 * table.len + channel.len + 64;
    struct text sql;

    if (!is_name(channel)) {
        text_lit(reason, "the channel is not a plain name");
        return -EINVAL;
    }
    if (!is_name(schema) || (name.ptr && !is_name(name))) {
        text_lit(reason, "the table is not a plain name, or schema.name");
        return -EINVAL;
    }
    *outbox = (struct outbox){ .listen_sql = heap_alloc(cap), .read_sql = heap_alloc(cap), .answer_ms = answer_ms };
    if (!outbox->listen_sql || !outbox->read_sql) {
        outbox_free(outbox);
        text_lit(reason, "out of memory");
        return -ENOMEM;
    }
    /* Quoted: pg_notify() takes its channel as it is spelled. */
    sql = text_make(outbox->listen_sql, cap);
    text_printf(&sql, "LISTEN \"%.*s\"", VIEW_ARG(channel));
    text_str(&sql);
    sql = text_make(outbox->read_sql, cap);
    text_printf(&sql, read_form, table.ptr, (int)table.len);
    text_str(&sql);
    return 0;
}

void outbox_free(struct outbox *outbox)
{
    heap_free(outbox->listen_sql);
    heap_free(outbox->read_sql);
    *outbox = (struct outbox){ 0 };
}

/* ---- the session ---- */

static int ask(const struct outbox *outbox, struct pg *pg, const char *sql, int count, const char *const *values,
               PGresult **ret, struct text *reason)
{
    static const struct view missing[] = { { "42P01", 5 }, { "42703", 5 }, { "3F000", 5 } };
    char state[6];
    int r = pg_query(pg, sql, count, values, outbox->answer_ms, ret, state, reason);

    for (size_t i = 0; r < 0 && i < ARRAY_LEN(missing); i++)
        if (view_eq(view_str(state), missing[i]))
            text_lit(reason, "; run outbox.sql in this database (docs/purge-on-write.md)");
    return r;
}

int outbox_begin(struct outbox *outbox, struct pg *pg, struct text *reason)
{
    /* The timeline changes when a standby is promoted or a base backup restored: numbers of transactions may then have been
     * given twice. */
    static const char sql[] =
        "SELECT set_config('statement_timeout', $1, false), set_config('jit', 'off', false),"
        " set_config('default_transaction_read_only', 'on', false), set_config('extra_float_digits', '3', false),"
        " (SELECT system_identifier FROM pg_control_system()) || '/' ||"
        " left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || '/' ||"
        " (SELECT oid FROM pg_database WHERE datname = current_database())";
    PGresult *result;
    struct text server = TEXT_ON(outbox->server);
    char limit[16];
    const char *const values[] = { limit };
    int r;

    /* Below our own patience, so that it is the server that gives up, and says so. */
    snprintf(limit, sizeof(limit), "%u", outbox->answer_ms - outbox->answer_ms / 5);
    if (PQserverVersion(pg->conn) < 130000) {
        text_lit(reason, "the server is older than PostgreSQL 13");
        return -EIO;
    }
    r = ask(outbox, pg, sql, 1, values, &result, reason);
    if (r < 0)
        return r;
    if (PQntuples(result) == 1 && PQnfields(result) == 5)
        text_put(&server, view_str(PQgetvalue(result, 0, 4)));
    text_str(&server);
    PQclear(result);
    if (server.len == 0 || server.overflow || view_contains(text_view(&server), ' ')) {
        text_lit(reason, "the server does not say who it is");
        return -EIO;
    }
    r = ask(outbox, pg, outbox->listen_sql, 0, NULL, &result, reason);
    if (r == 0)
        PQclear(result);
    return r;
}

/* ---- reading ---- */

static bool number(const PGresult *result, int row, int column, uint64_t *ret)
{
    return view_parse_u64(view_str(PQgetvalue(result, row, column)), ret);
}

static int read_facts(const struct outbox *outbox, struct outbox_look *look, struct text *reason)
{
    PGresult *result = look->result;
    int count = PQntuples(result), at = 0;

    while (at < count && !PQgetisnull(result, at, 0))
        at++;
    if (at == count || PQnfields(result) != 8) {
        text_lit(reason, "the table's state row is missing; run outbox.sql again (docs/purge-on-write.md)");
        return -EIO;
    }
    look->facts_row = at;
    look->rows = count - 1;
    look->snapshot = PQgetvalue(result, at, 1);
    look->anchor_found = view_eq(view_str(PQgetvalue(result, at, 7)), VIEW("true"));
    if (position_parse_snapshot(look->snapshot, &look->xmin, &look->xmax) < 0 ||
        !number(result, at, 2, &look->deletions) || !number(result, at, 3, &look->deleted_xid) ||
        !number(result, at, 5, &look->wal_inserted) || !number(result, at, 6, &look->wal_flushed)) {
        text_lit(reason, "the server's answer is not understood");
        return -EIO;
    }
    snprintf(look->identity, sizeof(look->identity), "%s/%.20s", outbox->server, PQgetvalue(result, at, 4));
    return 0;
}

int outbox_look(struct outbox *outbox, struct pg *pg, const struct position *position, const char *until,
                const char *after_xid, const char *after_id, struct outbox_look *ret, struct text *reason)
{
    bool some = position->snapshot != NULL;
    const char *const values[] = { position->snapshot,
                                   until,
                                   after_xid,
                                   after_id,
                                   some ? position->anchor_xid : "0",
                                   some ? position->anchor_id : "0",
                                   some ? position->anchor_made : "0" };
    struct outbox_look look = { 0 };
    int r = ask(outbox, pg, outbox->read_sql, ARRAY_LEN(values), values, &look.result, reason);

    if (r < 0)
        return r;
    r = read_facts(outbox, &look, reason);
    if (r < 0) {
        PQclear(look.result);
        return r;
    }
    *ret = look;
    return 0;
}

bool outbox_row(const struct outbox_look *look, int i, struct outbox_row *ret)
{
    int at = i < look->facts_row ? i : i + 1;
    PGresult *result = look->result;
    char *end;

    *ret = (struct outbox_row){
        .kind = view_make(PQgetvalue(result, at, 0), (size_t)PQgetlength(result, at, 0)),
        .target = view_make(PQgetvalue(result, at, 3), (size_t)PQgetlength(result, at, 3)),
        .soft = view_eq(view_str(PQgetvalue(result, at, 4)), VIEW("true")),
        .xid_text = PQgetvalue(result, at, 1),
        .id_text = PQgetvalue(result, at, 2),
        .made_text = PQgetvalue(result, at, 5),
    };
    if (PQgetisnull(result, at, 3))
        ret->target = VIEW_NONE;
    ret->id = strtoll(ret->id_text, &end, 10);
    return number(result, at, 1, &ret->xid) && *ret->id_text && !*end;
}
