/* What lies below memory, and what keeps it right, for /metrics and /top: disk, shared store, purges, bus, durable state. */
#include "admin/answer.h"
#include "cache/bus.h"
#include "cache/purge_pg.h"

#define DISK(member, name, type, help) \
    { \
        "doorstep_disk_" name, type, help, offsetof(struct disk_stats, member) \
    }
#define SHARED(member, name, type, help) \
    { \
        "doorstep_shared_" name, type, help, offsetof(struct shared_stats, member) \
    }
#define REDIS(member, name, type, help) \
    { \
        "doorstep_store_" name, type, help, offsetof(struct redis_stats, member) \
    }
#define BUS(member, name, type, help) \
    { \
        "doorstep_bus_" name, type, help, offsetof(struct bus_stats, member) \
    }
#define MARKS(member, name, type, help) \
    { \
        "doorstep_purge_" name, type, help, offsetof(struct marks_stats, member) \
    }
#define STATE(member, name, type, help) \
    { \
        "doorstep_state_" name, type, help, offsetof(struct state_stats, member) \
    }
#define PG(member, name, type, help) \
    { \
        "doorstep_purge_database_" name, type, help, offsetof(struct purge_pg_stats, member) \
    }

static const struct series disk_series[] = {
    DISK(size, "limit_bytes", "gauge", "Configured size of the disk tier."),
    DISK(bytes, "bytes", "gauge", "What its files take."),
    DISK(live_bytes, "live_bytes", "gauge", "Of these, what can still be found."),
    DISK(objects, "objects", "gauge", "Stored responses, bodies and lists of variants."),
    DISK(segments, "segments", "gauge", "Segment files."),
    DISK(index_bytes, "index_bytes", "gauge", "Memory that the index takes."),
    DISK(queued_bytes, "queued_bytes", "gauge", "Responses that wait to be written."),
    DISK(hits, "hits_total", "counter", "Lookups that found a response."),
    DISK(hits_resident, "hits_resident_total", "counter", "Of these, answered from the page cache."),
    DISK(misses, "misses_total", "counter", "Lookups that found none."),
    DISK(written, "writes_total", "counter", "Responses written."),
    DISK(written_bytes, "written_bytes_total", "counter", "Their bytes."),
    DISK(reinserted, "reinserted_total", "counter", "Responses in use, saved from a segment that was recycled."),
    DISK(evicted, "evicted_total", "counter", "Responses lost with a segment that was recycled."),
    DISK(dropped, "dropped_total", "counter", "Responses purged or invalidated."),
    DISK(refused_full, "refused_full_total", "counter", "Responses not written: too many waited."),
    DISK(refused_admission, "refused_admission_total", "counter", "Responses not written: asked for only once so far."),
    DISK(corrupt, "corrupt_total", "counter", "Records whose checksum was wrong: misses."),
    DISK(read_errors, "read_errors_total", "counter", "Reads that failed."),
    DISK(write_errors, "write_errors_total", "counter", "Writes that failed."),
    DISK(switched_off, "switched_off_total", "counter", "Times the tier switched itself off."),
};

static const struct series shared_series[] = {
    SHARED(hits, "hits_total", "counter", "Responses found in the shared store."),
    SHARED(misses, "misses_total", "counter", "Lookups that found none, for whatever reason."),
    SHARED(timeouts, "timeouts_total", "counter", "Lookups that took too long."),
    SHARED(errors, "errors_total", "counter", "Lookups that the store answered with an error, or not at all."),
    SHARED(torn, "torn_total", "counter", "Entries that were damaged or made no sense."),
    SHARED(foreign, "foreign_total", "counter", "Entries of another format version."),
    SHARED(writes, "writes_total", "counter", "Responses written."),
    SHARED(written_bytes, "written_bytes_total", "counter", "Their bytes."),
    SHARED(write_failures, "write_failures_total", "counter", "Of these, not taken by the store."),
    SHARED(dropped_full, "dropped_full_total", "counter", "Responses not written: too many waited."),
    SHARED(dropped_large, "dropped_large_total", "counter", "Responses not written: larger than shared.max_object."),
    SHARED(dropped_other, "dropped_other_total", "counter", "Responses not written: the store is away."),
    SHARED(queued_bytes, "queued_bytes", "gauge", "Writes that the store has not confirmed."),
    SHARED(leases, "leases_total", "counter", "Leases this node was given."),
    SHARED(leases_lost, "leases_lost_total", "counter", "Leases another node had."),
};

static const struct series redis_series[] = {
    REDIS(calls, "commands_total", "counter", "Commands sent to the store."),
    REDIS(timeouts, "timeouts_total", "counter", "Commands that took too long."),
    REDIS(errors, "errors_total", "counter", "Commands that failed."),
    REDIS(refused_full, "refused_full_total", "counter", "Commands not sent: too many waited."),
    REDIS(refused_breaker, "refused_breaker_total", "counter", "Commands not sent: the store had failed too often."),
    REDIS(connects, "connects_total", "counter", "Connections made."),
    REDIS(connect_failures, "connect_failures_total", "counter", "Connections that could not be made."),
    REDIS(redirects, "redirects_total", "counter", "MOVED and ASK of a Cluster."),
    REDIS(connections, "connections", "gauge", "Connections now."),
};

static const struct series bus_series[] = {
    BUS(published, "published_total", "counter", "Purges sent to the other nodes."),
    BUS(received, "received_total", "counter", "Purges received."),
    BUS(queued, "queued", "gauge", "Purges that wait for the bus to be back."),
    BUS(gaps, "gaps_total", "counter", "Times everything was made stale, because purges may have been missed."),
    BUS(bad, "bad_total", "counter", "Entries that made no sense."),
};

static const struct series marks_series[] = {
    MARKS(position, "position", "gauge", "This node's purge position."),
    MARKS(marks, "marks_total", "counter", "Purges taken in, those of earlier runs included."),
    MARKS(folds, "folds_total", "counter", "Times older purges were folded into one of everything before."),
    MARKS(checks, "checks_total", "counter", "Stored responses looked at again after a purge."),
};

static const struct series state_series[] = {
    STATE(writes, "writes_total", "counter", "Changes made durable."),
    STATE(commits, "commits_total", "counter", "Commits they took."),
    STATE(errors, "errors_total", "counter", "Changes that could not be made durable."),
    STATE(queued, "queued", "gauge", "Changes that wait for a commit."),
};

static const struct series pg_series[] = {
    PG(events, "events_total", "counter", "Purges read from the database."),
    PG(refused, "refused_total", "counter", "Rows that say no purge."),
    PG(gaps, "gaps_total", "counter", "Times everything was made stale, because rows may have been missed."),
    PG(connects, "connects_total", "counter", "Connections made."),
    PG(errors, "errors_total", "counter", "Connections and reads that failed."),
};

#define WRITE(out, series, stats) admin_series(out, series, ARRAY_LEN(series), stats)

static void write_disk(struct text *out, const struct server *server)
{
    struct disk_stats stats;

    disk_stats(server->disk, &stats);
    admin_single(out, "doorstep_disk_up", "gauge",
                 "1: the disk tier works; 0: it switched itself off and keeps trying.", stats.on);
    WRITE(out, disk_series, &stats);
}

static void write_shared(struct text *out, const struct server *server)
{
    struct shared_stats shared;
    struct redis_stats redis;

    shared_stats(server->shared, &shared);
    redis_stats(server->redis, &redis);
    admin_single(out, "doorstep_shared_clock_known", "gauge",
                 "1: the store's clock is known; without it nothing is shared.", shared.clock_known);
    admin_single(out, "doorstep_shared_clock_error_milliseconds", "gauge",
                 "What the measurement of it can be wrong by.", shared.clock_error_ms);
    WRITE(out, shared_series, &shared);
    admin_single(out, "doorstep_store_breaker_open", "gauge",
                 "1: the store failed too often and is left alone for a while.", redis.breaker_open);
    WRITE(out, redis_series, &redis);
}

static void write_bus(struct text *out, const struct server *server)
{
    struct bus_stats stats;

    bus_stats(server->bus, &stats);
    admin_single(out, "doorstep_bus_connected", "gauge", "1: the bus is connected.", stats.connected);
    admin_single(out, "doorstep_bus_caught_up", "gauge", "1: no purge of another node is known that is not applied.",
                 stats.caught_up);
    admin_single(out, "doorstep_bus_nodes", "gauge", "Nodes alive on the bus, this one included.", stats.nodes);
    WRITE(out, bus_series, &stats);
}

static void write_tiers(struct text *out, void *arg)
{
    const struct server *server = ((const struct admin *)arg)->server;
    struct marks_stats marks;

    if (server->disk)
        write_disk(out, server);
    if (server->shared && server->redis)
        write_shared(out, server);
    if (server->bus)
        write_bus(out, server);
    marks_stats(server->marks, &marks);
    WRITE(out, marks_series, &marks);
    if (server->state) {
        struct state_stats stats;

        state_stats(server->state, &stats);
        WRITE(out, state_series, &stats);
    }
    if (server->pg) {
        struct purge_pg_stats stats;

        purge_pg_stats(server->pg, &stats);
        admin_single(out, "doorstep_purge_database_current", "gauge", "1: everything the database says is applied.",
                     stats.current);
        WRITE(out, pg_series, &stats);
    }
}

void admin_register_tiers(struct admin *admin)
{
    metrics_collector(admin->metrics, write_tiers, admin);
}

/* ---- /top ---- */

static void put_disk(struct text *out, const struct server *server)
{
    struct disk_stats stats;

    disk_stats(server->disk, &stats);
    member_name(out, "disk");
    text_char(out, '{');
    member_bool(out, "on", stats.on);
    member_text(out, "trouble", view_str(stats.trouble));
    member_u64(out, "limit", stats.size);
    member_u64(out, "bytes", stats.bytes);
    member_u64(out, "objects", stats.objects);
    member_u64(out, "hits", stats.hits);
    member_u64(out, "misses", stats.misses);
    member_u64(out, "written_bytes", stats.written_bytes);
    text_char(out, '}');
}

static void put_shared(struct text *out, const struct server *server)
{
    struct shared_stats shared;
    struct redis_stats redis;

    shared_stats(server->shared, &shared);
    redis_stats(server->redis, &redis);
    member_name(out, "shared");
    text_char(out, '{');
    member_bool(out, "on", !redis.breaker_open && redis.connections > 0);
    member_u64(out, "hits", shared.hits);
    member_u64(out, "misses", shared.misses);
    member_u64(out, "timeouts", shared.timeouts);
    member_u64(out, "writes", shared.writes);
    member_u64(out, "dropped", shared.dropped_full + shared.dropped_large + shared.dropped_other);
    member_i64(out, "clock_offset_ms", shared.clock_offset_ms);
    member_u64(out, "clock_error_ms", shared.clock_error_ms);
    text_char(out, '}');
}

static void put_purges(struct text *out, const struct server *server)
{
    struct marks_stats marks;
    struct bus_stats bus;

    marks_stats(server->marks, &marks);
    member_name(out, "purges");
    text_char(out, '{');
    member_u64(out, "position", marks.position);
    member_u64(out, "marks", marks.marks);
    member_bool(out, "in_doubt", marks_in_doubt(server->marks));
    if (server->bus) {
        bus_stats(server->bus, &bus);
        member_bool(out, "bus_connected", bus.connected);
        member_bool(out, "bus_caught_up", bus.caught_up);
        member_u64(out, "bus_nodes", bus.nodes);
        member_u64(out, "bus_queued", bus.queued);
    }
    if (server->pg)
        member_bool(out, "database_current", purge_pg_current(server->pg));
    text_char(out, '}');
}

void admin_put_tiers(struct text *out, const struct server *server)
{
    if (server->disk)
        put_disk(out, server);
    if (server->shared && server->redis)
        put_shared(out, server);
    put_purges(out, server);
}
