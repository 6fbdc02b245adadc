/* Wiring of what lies below memory. The order of making: state, marks and what the state knows of them, disk, store, ladder,
 * bus. The end goes the other way; the state is closed while the loops can still take its answers. */
#include "main/tiers.h"

#include "base/check.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/rcu.h"
#include "http/purge.h"

#include <errno.h>
#include <stdlib.h>

#define WORKERS 4u
#define SECRET_LEN 32u
/* At the end: bytes that may wait for the disk, and how many milliseconds it may take over a shard of memory. */
#define SAVE_QUEUE_MAX ((uint64_t)16 << 20)
#define SAVE_PAUSES_MAX 2000u
/* How long after a start the database may keep us from trusting what is stored. */
#define PG_DOUBT_MS 5000u
/* How often it is looked whether the disk tier still works. */
#define WATCH_MS 1000u

/* ---- making ---- */

/* Without its durable state a node cannot tell what was purged: it goes on without disk tier then. Only what waiting would not
 * cure stops it: another node has the file, or it is no database of ours. */
static int open_state(struct tiers *tiers, const struct site *site)
{
    char path_memory[4096], memory[256];
    struct text path = TEXT_ON(path_memory), reason = TEXT_ON(memory);
    int r;

    text_put(&path, site->state.path);
    if (path.len == 0 && site->disk.path.len)
        text_printf(&path, "%.*s/state.db", VIEW_ARG(site->disk.path));
    text_str(&path);
    r = state_open(text_view(&path), &tiers->state, &reason);
    if (r < 0 && r != -EBUSY && r != -EINVAL && r != -ENOMEM) {
        log_error("durable state %s: %s; going on without it, and without disk tier: purges do not outlive this run",
                  text_str(&path), reason.len ? text_str(&reason) : strerror(-r));
        tiers->forgetful = true;
        r = state_open(VIEW_NONE, &tiers->state, &reason);
    }
    if (r < 0)
        log_error("durable state %s: %s", text_str(&path), reason.len ? text_str(&reason) : strerror(-r));
    tiers->server->state = tiers->state;
    return r;
}

static int open_marks(struct tiers *tiers, const struct site *site)
{
    struct purger_options options = { .state = tiers->state, .wait_ms = (uint32_t)site->purge.wait };
    struct marks_stats stats;
    int r = marks_new((unsigned)site->purge.marks, &tiers->server->marks);

    options.marks = tiers->server->marks;
    if (r == 0)
        r = purger_new(&options, &tiers->server->purger);
    if (r < 0) {
        log_error("the purges of earlier runs cannot be read: %s", strerror(-r));
        return r;
    }
    marks_stats(tiers->server->marks, &stats);
    if (stats.marks)
        log_info("%llu purges of earlier runs are known", (unsigned long long)stats.marks);
    return 0;
}

static bool decode_secret(struct view hex, uint8_t ret[SECRET_LEN])
{
    static const char digits[] = "0123456789abcdef";

    if (hex.len != 2 * SECRET_LEN)
        return false;
    for (unsigned i = 0; i < SECRET_LEN * 2; i++) {
        const char *at = memchr(digits, hex.ptr[i] | 0x20, 16);

        if (!at)
            return false;
        ret[i / 2] = (uint8_t)(i % 2 ? ret[i / 2] | (at - digits) : (at - digits) << 4);
    }
    return true;
}

/* 1: a key; 0: none wanted; -EINVAL, said. */
static int read_secret(const struct site *site, uint8_t ret[SECRET_LEN])
{
    char memory[256];
    struct view hex = site->disk.key;
    size_t got;
    FILE *file;

    if (site->disk.key_file.len) {
        file = fopen(site->disk.key_file.ptr, "re");
        got = file ? fread(memory, 1, sizeof(memory), file) : 0;
        if (!file || ferror(file)) {
            log_error("disk.key_file %s: %s", site->disk.key_file.ptr, strerror(errno));
            if (file)
                fclose(file);
            return -EINVAL;
        }
        fclose(file);
        hex = view_trim(view_make(memory, got));
        if (hex.len && (hex.ptr[hex.len - 1] == '\n' || hex.ptr[hex.len - 1] == '\r'))
            hex = view_first(hex, MIN(view_find(hex, '\n'), view_find(hex, '\r')));
    }
    if (hex.len == 0)
        return 0;
    if (decode_secret(hex, ret))
        return 1;
    log_error("the disk tier's key is not 64 hexadecimal digits; make one with: openssl rand -hex 32");
    return -EINVAL;
}

static int open_disk(struct tiers *tiers, const struct site *site)
{
    char memory[256];
    struct text reason = TEXT_ON(memory);
    uint8_t secret[SECRET_LEN];
    struct disk_stats stats;
    struct disk_options options = {
        .path = site->disk.path.ptr,
        .size = site->disk.size,
        .segment_size = (uint32_t)site->disk.segment,
        .max_object = site->disk.max_object,
        .checkpoint_ms = site->disk.checkpoint,
    };
    int r;

    if (site->disk.path.len == 0 || tiers->forgetful)
        return 0;
    r = read_secret(site, secret);
    if (r < 0)
        return r;
    options.key = r > 0 ? secret : NULL;
    memcpy(options.identity, state_identity(tiers->state), sizeof(options.identity));
    r = workers_new(&tiers->workers, WORKERS);
    options.workers = tiers->workers;
    if (r == 0)
        r = disk_open(&options, &tiers->server->disk, &reason);
    explicit_bzero(secret, sizeof(secret));
    if (r < 0) {
        log_error("disk tier %s: %s", site->disk.path.ptr, reason.len ? text_str(&reason) : strerror(-r));
        return r;
    }
    disk_stats(tiers->server->disk, &stats);
    if (*stats.notice)
        log_warn("disk tier %s: %s", site->disk.path.ptr, stats.notice);
    if (!stats.on)
        log_warn("disk tier %s is off: %s", site->disk.path.ptr, stats.trouble);
    else
        log_info("disk tier %s: %llu responses found in %llu ms", site->disk.path.ptr,
                 (unsigned long long)stats.objects, (unsigned long long)stats.open_ms);
    return 0;
}

static int open_redis(struct tiers *tiers, const struct site *site, unsigned loop_count)
{
    const struct site_store *at = &site->shared.at;
    char memory[256];
    struct text reason = TEXT_ON(memory);
    struct redis_options options = {
        .host = at->host,
        .port = at->port,
        .path = at->path,
        .tls = at->tls,
        .tls_options = { .ca_file = site->shared.tls.ca.len ? site->shared.tls.ca.ptr : NULL,
                         .cert_file = site->shared.tls.certificate.len ? site->shared.tls.certificate.ptr : NULL,
                         .key_file = site->shared.tls.key.len ? site->shared.tls.key.ptr : NULL,
                         .insecure = !site->shared.tls.verify },
        .tls_name = site->shared.tls.server_name.len ? site->shared.tls.server_name.ptr : NULL,
        .user = site->shared.user.len ? site->shared.user : at->user,
        .password = site->shared.password.len ? site->shared.password : at->password,
        .database = (unsigned)(at->database == OPTION_UNSET ? site->shared.database : at->database),
        .cluster = site->shared.cluster,
        .connections = (unsigned)site->shared.connections,
        .loops = loop_count,
        .queue_bytes = site->shared.queue,
    };
    int r = redis_new(&options, &tiers->redis, &reason);

    if (r < 0)
        log_error("shared store: %s", reason.len ? text_str(&reason) : strerror(-r));
    return r;
}

static void apply_bus(void *arg, struct loop *loop, const struct purge_event *event, uint64_t bus)
{
    int r = purge_apply(arg, loop, event, bus);

    if (r < 0)
        log_warn("a purge from the bus was not understood: %s", strerror(-r));
}

static int open_shared(struct tiers *tiers, const struct site *site, struct loop *const *loops, unsigned loop_count)
{
    struct server *server = tiers->server;
    struct view region = site->shared.region.len ? site->shared.region : site->node.region;
    struct shared_options shared = {
        .prefix = site->shared.prefix,
        .region = region,
        .max_object = site->shared.max_object,
        .timeout_ms = (uint32_t)site->shared.timeout,
        .queue_bytes = site->shared.queue,
        .loops = loop_count,
    };
    struct bus_options bus = {
        .state = tiers->state,
        .marks = server->marks,
        .loop = loops[0],
        .node = site->node.name,
        .prefix = site->shared.prefix,
        .region = region,
        .channel = site->purge.redis_channel,
        .apply = apply_bus,
        .arg = server,
    };
    int r;

    if (site->shared.url.len == 0)
        return 0;
    r = open_redis(tiers, site, loop_count);
    server->redis = shared.redis = bus.redis = tiers->redis;
    if (r == 0)
        r = shared_new(&shared, &server->shared);
    if (r == 0 && site->purge.bus)
        r = bus_new(&bus, &server->bus);
    if (r == 0 && server->bus)
        purger_set_bus(server->purger, server->bus);
    return r;
}

int tiers_open(struct tiers *tiers, struct server *server, const struct site *site, struct loop *const *loops,
               unsigned loop_count)
{
    struct ladder_options options = {
        .memory = server->memory,
        .loops = loop_count,
        .lease_ms = (uint32_t)site->shared.lease.time,
        .lease_wait_ms = (uint32_t)site->shared.lease.wait,
        .purge = purge_by_write,
        .purge_arg = server,
    };
    int r;

    tiers->server = server;
    tiers->home = loops[0];
    tiers->url = site->purge.postgres;
    tiers->channel = site->purge.channel;
    tiers->table = site->purge.table;
    list_init(&tiers->pg_batch);
    r = open_state(tiers, site);
    if (r == 0)
        r = open_marks(tiers, site);
    if (r == 0)
        r = open_disk(tiers, site);
    if (r == 0)
        r = open_shared(tiers, site, loops, loop_count);
    /* From the first request on, on whichever loop: bus and listener begin on theirs only after the others have begun. */
    if (r == 0) {
        marks_set_doubt(server->marks, server->bus != NULL);
        marks_set_doubt_database(server->marks, tiers->url.len > 0);
    }
    options.disk = server->disk;
    options.shared = server->shared;
    options.marks = server->marks;
    if (r == 0 && (options.disk || options.shared))
        r = ladder_new(&options, &server->ladder);
    server->fill.ladder = server->ladder;
    server->fill.disk = server->disk;
    server->fill.marks = server->marks;
    server->fill.purge = purge_by_write;
    server->fill.purge_arg = server;
    return r;
}

/* ---- purges from the database ---- */

struct pg_purge {
    struct node link;
    struct task task;
    struct purge_job *job;
    struct purge_pg_done *done;
};

static void pg_purge_run(struct task *task)
{
    struct pg_purge *purge = CONTAINER_OF(task, struct pg_purge, task);
    struct purge_result result;

    if (!purge_job_done(purge->job, &result))
        return;
    purge_pg_done(purge->done, result.durable ? 0 : -EIO);
    purge_job_leave(purge->job);
    list_remove(&purge->link);
    heap_free(purge);
}

/* A listener that cannot know what it missed makes everything stale, here only: the other nodes have heard for themselves. */
static bool concerns_others(const struct purge_event *event)
{
    return !(event->kind == MARK_ALL && event->soft);
}

static void apply_pg(void *arg, const struct purge_event *event, struct purge_pg_done *done)
{
    struct tiers *tiers = arg;
    struct pg_purge *purge = heap_zalloc(sizeof(*purge));
    int r;

    if (!purge) {
        purge_pg_done(done, -ENOMEM);
        return;
    }
    task_init(&purge->task, tiers->home, pg_purge_run);
    purge->done = done;
    r = purge_run(tiers->server, tiers->home, event, concerns_others(event), &purge->task, &purge->job);
    if (r < 0) {
        log_warn("a purge from the database was not understood: %s", strerror(-r));
        heap_free(purge);
        purge_pg_done(done, r == -ENOMEM ? r : 0); /* reading it again would not help */
        return;
    }
    list_push(&tiers->pg_batch, &purge->link);
    task_wake(&purge->task);
}

static void pg_caught_up(void *arg)
{
    struct tiers *tiers = arg;

    timer_clear(&tiers->pg_timer);
    marks_set_doubt_database(tiers->server->marks, false);
}

/* The database did not answer in time: what is stored is used, as it would be if the connection had broken later. */
static void pg_timeout(struct task *task)
{
    struct tiers *tiers = CONTAINER_OF(task, struct tiers, pg_task);

    if (!tiers->pg_timer.fired)
        return;
    log_warn("the purge database has not answered so far: going on with what is stored");
    marks_set_doubt_database(tiers->server->marks, false);
}

static void start_pg(struct tiers *tiers)
{
    char memory[256];
    struct text reason = TEXT_ON(memory);
    struct purge_pg_options options = {
        .url = tiers->url,
        .channel = tiers->channel,
        .table = tiers->table,
        .state = tiers->state,
        .loop = tiers->home,
        .apply = apply_pg,
        .caught_up = pg_caught_up,
        .arg = tiers,
    };

    task_init(&tiers->pg_task, tiers->home, pg_timeout);
    timer_init(&tiers->pg_timer, &tiers->pg_task);
    marks_set_doubt_database(tiers->server->marks, true);
    timer_set(&tiers->pg_timer, PG_DOUBT_MS);
    if (purge_pg_new(&options, &tiers->pg, &reason) < 0) {
        log_error("purge.postgres: %s", reason.len ? text_str(&reason) : "out of memory");
        pg_caught_up(tiers);
    }
    tiers->server->pg = tiers->pg;
}

/* ---- the disk tier switches itself off and on, in threads of its own: here it is said ---- */

static void watch_disk(struct task *task)
{
    struct tiers *tiers = CONTAINER_OF(task, struct tiers, watch_task);
    struct disk_stats stats;

    if (!tiers->watch_timer.fired)
        return;
    disk_stats(tiers->server->disk, &stats);
    if (tiers->disk_on && stats.switched_off != tiers->disk_switched_off)
        log_warn("disk tier switched itself off%s%s: going on without it, and trying again", *stats.trouble ? ", " : "",
                 stats.trouble);
    if (stats.on && (!tiers->disk_on || stats.switched_off != tiers->disk_switched_off))
        log_info("disk tier is back: %llu responses found", (unsigned long long)stats.objects);
    tiers->disk_on = stats.on;
    tiers->disk_switched_off = stats.switched_off;
    timer_set(&tiers->watch_timer, WATCH_MS);
}

static void start_watch(struct tiers *tiers)
{
    struct disk_stats stats;

    disk_stats(tiers->server->disk, &stats);
    tiers->disk_on = stats.on;
    task_init(&tiers->watch_task, tiers->home, watch_disk);
    timer_init(&tiers->watch_timer, &tiers->watch_task);
    timer_set(&tiers->watch_timer, WATCH_MS);
}

static void stop_watch(struct tiers *tiers)
{
    timer_clear(&tiers->watch_timer);
    task_cancel(&tiers->watch_task);
}

/* ---- life ---- */

void tiers_start(struct tiers *tiers)
{
    if (tiers->server->disk)
        start_watch(tiers);
    if (tiers->server->bus)
        bus_start(tiers->server->bus);
    if (tiers->url.len)
        start_pg(tiers);
}

void tiers_stop(struct tiers *tiers)
{
    if (tiers->server->bus)
        bus_stop(tiers->server->bus);
    if (tiers->server->disk)
        stop_watch(tiers);
    if (!tiers->pg)
        return;
    tiers->server->pg = NULL;
    purge_pg_stop(tiers->pg);
    timer_clear(&tiers->pg_timer);
    task_cancel(&tiers->pg_task);
    while (!list_empty(&tiers->pg_batch)) {
        struct pg_purge *purge = CONTAINER_OF(tiers->pg_batch.next, struct pg_purge, link);

        purge_pg_done(purge->done, -ECANCELED);
        purge_job_leave(purge->job);
        task_cancel(&purge->task);
        list_remove(&purge->link);
        heap_free(purge);
    }
}

void tiers_close_loop(struct tiers *tiers, struct loop *loop)
{
    if (tiers->server->ladder)
        ladder_loop_close(tiers->server->ladder, loop);
    if (tiers->server->shared)
        shared_loop_close(tiers->server->shared, loop);
    if (tiers->redis)
        redis_loop_close(tiers->redis, loop);
}

void tiers_close_state(struct tiers *tiers)
{
    tiers->server->state = NULL;
    state_close(tiers->state);
    tiers->state = NULL;
}

static enum memory_visit offer(struct object *object, void *arg)
{
    ladder_evicted(arg, object);
    return MEMORY_KEEP;
}

/* Memory is about to go: what was in use goes to disk, as if it were evicted, so that the next start is warm. A shard at a time,
 * and not faster than the disk takes it. */
static void save_memory(struct server *server)
{
    struct timespec pause = { .tv_nsec = 1000000 };
    struct disk_stats stats;
    unsigned cursor = 0;
    bool more = true;

    urcu_qsbr_register_thread();
    while (more) {
        more = memory_each(server->memory, &cursor, offer, server->ladder);
        for (unsigned waited = 0; waited < SAVE_PAUSES_MAX; waited++) {
            disk_stats(server->disk, &stats);
            if (!stats.on || stats.queued_bytes < SAVE_QUEUE_MAX)
                break;
            nanosleep(&pause, NULL);
        }
        more = more && stats.on;
    }
    urcu_qsbr_unregister_thread();
}

void tiers_free(struct tiers *tiers)
{
    struct server *server = tiers->server;

    if (!server)
        return;
    state_close(tiers->state);
    if (server->disk && server->ladder)
        save_memory(server);
    purge_pg_free(tiers->pg);
    bus_free(server->bus);
    ladder_free(server->ladder);
    workers_free(
        tiers
            ->workers); /* first: a read under way posts to its loop, and the tier lets go of what came back to nobody */
    disk_close(server->disk);
    shared_free(server->shared);
    redis_free(tiers->redis);
    purger_free(server->purger);
    marks_free(server->marks);
}
