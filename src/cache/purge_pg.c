/* The listener's thread: connect, look, wait, look again; after any failure a pause and from the start.
 *
 * A look reads what the position has not seen, in batches; each batch is posted to the loop, and the thread waits until all of
 * it is applied and durable. When a look is through, its snapshot is the new position.
 *
 * Three positions: `read`, where the next look starts; `candidate`, one that waits; `hard`, where it starts after a
 * reconnect, and what is kept in the state. A position becomes hard once PostgreSQL's log up to it is on its disk: a server that
 * crashes may forget the last transactions that it had not synced (aborted ones, and those of synchronous_commit=off) and give
 * their numbers again; a position that counts those numbers as seen would skip the new ones.
 *
 * Lock: `lock` guards stopping, stats, the end of a batch. All else is the thread's. */
#include "cache/purge_pg.h"

#include "base/clock.h"
#include "base/heap.h"
#include "base/log.h"
#include "cache/purge_pg_read.h"

#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 20000
#define ANSWER_MS 25000
#define POLL_MS 5000
#define POLL_CANDIDATE_MS 1000
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 30000
/* A position that moves without purges is kept this often: the older it is, the more deletions look like a gap. */
#define KEEP_IDLE_MS 60000
#define LOG_AGAIN_MS 300000

static const struct view state_name = { "postgres", 8 };

struct purge_pg_done {
    struct message message;
    struct purge_pg *pg;
    PGresult *rows; /* what the events' targets borrow from; NULL: nothing */
    struct purge_event *events;
    unsigned count;
    atomic_uint left; /* events not done, and one for the handler that hands them out */
    atomic_int result;
    bool finished; /* under lock */
};

struct purge_pg {
    struct purge_pg_options options; /* its views are not valid */
    char *url;
    struct outbox outbox;
    int stop_fd; /* readable once stopping */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t finished;
    bool stopping;
    struct purge_pg_stats stats;
    struct message caught_up;
    atomic_bool caught_up_posted;
    struct purge_pg_done *abandoned;

    /* the thread's */
    struct pg link;
    struct position read, candidate, hard;
    char kept_anchor[24]; /* xid of the anchor in the kept position */
    bool kept;            /* the state has `hard`, or one as good */
    uint64_t kept_ms;
    uint64_t backoff_ms, jitter;
    char logged[160];
    uint64_t logged_ms;
};

/* ---- batches ---- */

static void free_batch(struct purge_pg_done *batch)
{
    if (!batch)
        return;
    PQclear(batch->rows);
    heap_free(batch->events);
    heap_free(batch);
}

void purge_pg_done(struct purge_pg_done *done, int result)
{
    struct purge_pg *pg = done->pg;

    if (result < 0)
        atomic_store(&done->result, result);
    if (atomic_fetch_sub(&done->left, 1) != 1)
        return;
    pthread_mutex_lock(&pg->lock);
    done->finished = true;
    pthread_cond_signal(&pg->finished);
    pthread_mutex_unlock(&pg->lock);
}

/* Whoever stopped us does not expect calls any more. */
static bool is_stopping(struct purge_pg *pg)
{
    bool stopping;

    pthread_mutex_lock(&pg->lock);
    stopping = pg->stopping;
    pthread_mutex_unlock(&pg->lock);
    return stopping;
}

static void hand_out(struct loop *loop, struct message *message)
{
    struct purge_pg_done *batch = CONTAINER_OF(message, struct purge_pg_done, message);
    const struct purge_pg_options *options = &batch->pg->options;

    (void)loop;
    if (is_stopping(batch->pg))
        return;
    for (unsigned i = 0; i < batch->count; i++)
        options->apply(options->arg, &batch->events[i], batch);
    purge_pg_done(batch, 0);
}

/* Takes rows and events. 0 when all is applied, what purge_pg_done() said, -ECANCELED, -ENOMEM. */
static int apply(struct purge_pg *pg, PGresult *rows, struct purge_event *events, unsigned count)
{
    struct purge_pg_done *batch = heap_zalloc(sizeof(*batch));
    int r = -ECANCELED;

    if (!batch) {
        PQclear(rows);
        heap_free(events);
        return -ENOMEM;
    }
    *batch =
        (struct purge_pg_done){ .message.handle = hand_out, .pg = pg, .rows = rows, .events = events, .count = count };
    atomic_init(&batch->left, count + 1);
    loop_post(pg->options.loop, &batch->message);
    pthread_mutex_lock(&pg->lock);
    while (!batch->finished && !pg->stopping)
        pthread_cond_wait(&pg->finished, &pg->lock);
    if (batch->finished) {
        r = atomic_load(&batch->result);
        if (r == 0)
            pg->stats.events += count;
    } else {
        pg->abandoned = batch; /* the loop, or who applies, may still have it */
    }
    pthread_mutex_unlock(&pg->lock);
    if (r != -ECANCELED)
        free_batch(batch);
    return r;
}

static int apply_all_stale(struct purge_pg *pg)
{
    struct purge_event *event = heap_zalloc(sizeof(*event));

    if (!event)
        return -ENOMEM;
    *event = (struct purge_event){ .kind = MARK_ALL, .soft = true };
    return apply(pg, NULL, event, 1);
}

/* ---- positions ---- */

static void keep(struct purge_pg *pg)
{
    size_t cap = strlen(pg->hard.snapshot) + 400;
    struct text line = text_make(heap_alloc(cap), cap);
    struct state_write write = { .name = state_name };

    pg->kept = false;
    if (!line.ptr)
        return;
    position_put(&pg->hard, &line);
    write.value = text_view(&line);
    if (!line.overflow && state_write_wait(pg->options.state, &write) == 0) {
        pg->kept = true;
        pg->kept_ms = clock_mono_ms();
        memcpy(pg->kept_anchor, pg->hard.anchor_xid, sizeof(pg->kept_anchor));
    }
    heap_free(line.ptr);
}

static bool is_kept(const struct purge_pg *pg, const struct position *position)
{
    return pg->kept && strcmp(pg->kept_anchor, position->anchor_xid) == 0;
}

static void harden(struct purge_pg *pg, const struct outbox_look *look)
{
    if (!pg->candidate.snapshot || look->wal_flushed < pg->candidate.wal)
        return;
    position_free(&pg->hard);
    pg->hard = pg->candidate;
    pg->candidate = (struct position){ 0 };
    if (!is_kept(pg, &pg->hard) || clock_mono_ms() - pg->kept_ms >= KEEP_IDLE_MS)
        keep(pg);
}

/* After a look that is through: what can become hard does. On a server with nothing else to do that is at once; on a busy one
 * an older candidate first, since the newest is always a little ahead of the disk. */
static int settle(struct purge_pg *pg, const struct outbox_look *look)
{
    int r = 0;

    harden(pg, look);
    if (!pg->candidate.snapshot && strcmp(pg->read.snapshot, pg->hard.snapshot) != 0)
        r = position_copy(&pg->candidate, &pg->read);
    harden(pg, look);
    return r;
}

/* `position` moves to the look's snapshot; its anchor stays. */
static int move_to(struct position *position, const struct outbox_look *look)
{
    char *copy = heap_strdup(look->snapshot, strlen(look->snapshot));

    if (!copy)
        return -ENOMEM;
    heap_free(position->snapshot);
    position->snapshot = copy;
    position->xmin = look->xmin;
    position->xmax = look->xmax;
    memcpy(position->identity, look->identity, sizeof(position->identity));
    position->deletions = look->deletions;
    position->wal = look->wal_inserted;
    return 0;
}

static void set_anchor(struct position *position, const char *xid, const char *id, const char *made)
{
    snprintf(position->anchor_xid, sizeof(position->anchor_xid), "%s", xid);
    snprintf(position->anchor_id, sizeof(position->anchor_id), "%s", id);
    snprintf(position->anchor_made, sizeof(position->anchor_made), "%s", made);
}

/* Nobody can say what was missed: everything is stale, and it starts from here. That position is kept at once, hard or not: a node
 * that is started again before it is must not find none, or the old one. */
static int start_over(struct purge_pg *pg, const struct outbox_look *look, const char *why)
{
    int r;

    if (pg->read.snapshot)
        log_warn("purge: PostgreSQL: %s; everything stored until now counts as stale", why);
    r = apply_all_stale(pg);
    if (r == 0)
        r = move_to(&pg->read, look);
    if (r == 0)
        set_anchor(&pg->read, "0", "0", "0");
    if (r == 0)
        r = position_copy(&pg->hard, &pg->read);
    if (r == 0)
        r = position_copy(&pg->candidate, &pg->read);
    if (r < 0)
        return r;
    keep(pg);
    pthread_mutex_lock(&pg->lock);
    pg->stats.gaps++;
    pthread_mutex_unlock(&pg->lock);
    return 0;
}

static void load(struct purge_pg *pg)
{
    char *line;
    size_t len;

    if (state_get(pg->options.state, state_name, &line, &len) < 0)
        return;
    if (position_parse(view_make(line, len), &pg->hard) == 0) {
        pg->kept = true;
        pg->kept_ms = clock_mono_ms();
        memcpy(pg->kept_anchor, pg->hard.anchor_xid, sizeof(pg->kept_anchor));
    }
    heap_free(line);
}

/* ---- looking ---- */

static bool row_before(const struct outbox_row *a, const struct outbox_row *b)
{
    return a->xid != b->xid ? a->xid < b->xid : a->id < b->id;
}

/* The events of a look's rows, and the last of them (borrowed from the result). Takes nothing. */
static int read_rows(struct purge_pg *pg, const struct outbox_look *look, struct purge_event **ret_events,
                     unsigned *ret_count, struct outbox_row *last, struct text *reason)
{
    struct purge_event *events = heap_array((size_t)look->rows, sizeof(*events));
    unsigned count = 0, refused = 0;

    if (!events)
        return -ENOMEM;
    for (int i = 0; i < look->rows; i++) {
        struct outbox_row row;

        if (!outbox_row(look, i, &row)) {
            text_lit(reason, "the server's answer is not understood");
            heap_free(events);
            return -EIO;
        }
        if (i == 0 || row_before(last, &row))
            *last = row;
        if (row.target.ptr && purge_event_make(row.kind, row.target, row.soft, &events[count]) == 0)
            count++;
        else if (refused++ == 0)
            log_warn("purge: PostgreSQL: row %s says no purge that is understood; it is skipped", row.id_text);
    }
    pthread_mutex_lock(&pg->lock);
    pg->stats.refused += refused;
    pthread_mutex_unlock(&pg->lock);
    *ret_events = events;
    *ret_count = count;
    return 0;
}

/* Applies one batch; takes the look's result. The last row becomes the anchor of `next`. */
static int apply_rows(struct purge_pg *pg, struct outbox_look *look, struct position *next, struct text *reason)
{
    struct purge_event *events = NULL;
    struct outbox_row last = { 0 };
    unsigned count;
    int r = read_rows(pg, look, &events, &count, &last, reason);

    if (r < 0) {
        PQclear(look->result);
        return r;
    }
    set_anchor(next, last.xid_text, last.id_text, last.made_text);
    return apply(pg, look->result, events, count);
}

static const char *judge(const struct purge_pg *pg, const struct outbox_look *look)
{
    const struct position_facts facts = { look->identity, look->xmax, look->deletions, look->deleted_xid,
                                          look->anchor_found };

    return position_gap(&pg->read, &facts);
}

/* Applies the rows of the first look (its result is taken) and of as many more as it takes to have all that the first one's
 * snapshot sees. 1: start over, because of *ret_why and *look, whose result is then the caller's. */
static int read_all(struct purge_pg *pg, struct outbox_look *look, struct position *next, const char **ret_why,
                    struct text *reason)
{
    for (;;) {
        int rows = look->rows, r;

        if (rows == 0) {
            PQclear(look->result);
            return 0;
        }
        r = apply_rows(pg, look, next, reason);
        if (r < 0 || rows < OUTBOX_BATCH)
            return r;
        r = outbox_look(&pg->outbox, &pg->link, &pg->read, next->snapshot, next->anchor_xid, next->anchor_id, look,
                        reason);
        if (r < 0)
            return r;
        *ret_why = judge(pg, look);
        if (*ret_why)
            return 1;
        next->deletions = look->deletions;
    }
}

/* Everything that is visible now and was not before is applied when it returns 0. */
static int look_through(struct purge_pg *pg, struct text *reason)
{
    struct position next = { 0 };
    struct outbox_look look;
    const char *why;
    int r = outbox_look(&pg->outbox, &pg->link, &pg->read, NULL, "0", "0", &look, reason);

    if (r < 0)
        return r;
    why = judge(pg, &look);
    r = why ? 1 : position_copy(&next, &pg->read);
    if (r == 0)
        r = move_to(&next, &look);
    if (r == 0)
        r = read_all(pg, &look, &next, &why, reason);
    else if (r < 0)
        PQclear(look.result);
    if (r == 1) {
        r = start_over(pg, &look, why);
        PQclear(look.result);
    } else if (r == 0) {
        position_free(&pg->read);
        pg->read = next;
        next.snapshot = NULL;
        r = settle(pg, &look);
    }
    position_free(&next);
    if (r < 0 && r != -ECANCELED && !reason->len)
        text_printf(reason, "purges could not be made durable (%s)", strerrordesc_np(-r));
    return r;
}

/* ---- the thread ---- */

static void post_caught_up(struct purge_pg *pg)
{
    pthread_mutex_lock(&pg->lock);
    pg->stats.current = true;
    pg->stats.trouble[0] = '\0';
    pthread_mutex_unlock(&pg->lock);
    pg->backoff_ms = BACKOFF_MIN_MS;
    pg->logged_ms = 0;
    if (!atomic_exchange(&pg->caught_up_posted, true))
        loop_post(pg->options.loop, &pg->caught_up);
}

static void on_caught_up(struct loop *loop, struct message *message)
{
    struct purge_pg *pg = CONTAINER_OF(message, struct purge_pg, caught_up);

    (void)loop;
    atomic_store(&pg->caught_up_posted, false);
    if (is_stopping(pg))
        return;
    if (pg->options.caught_up)
        pg->options.caught_up(pg->options.arg);
    log_info("purge: PostgreSQL: listening, nothing is missed");
}

static unsigned poll_ms(const struct purge_pg *pg)
{
    unsigned usual = pg->options.poll_ms ? pg->options.poll_ms : POLL_MS;

    /* What was applied and is not kept would be applied again after a restart: harmless, but soon done away with. */
    return pg->candidate.snapshot && (!pg->kept || !is_kept(pg, &pg->candidate)) ? MIN(usual, POLL_CANDIDATE_MS)
                                                                                 : usual;
}

/* One connection's life. Never 0. */
static int listen_and_look(struct purge_pg *pg, struct text *reason)
{
    bool first = true;
    int r = pg_open(&pg->link, pg->url, pg->stop_fd, CONNECT_TIMEOUT_MS, reason);

    if (r < 0)
        return r;
    r = outbox_begin(&pg->outbox, &pg->link, reason);
    position_free(&pg->candidate);
    if (r == 0)
        r = position_copy(&pg->read, &pg->hard);
    while (r >= 0) {
        r = look_through(pg, reason);
        pthread_mutex_lock(&pg->lock);
        pg->stats.connects += first;
        pg->stats.reads++;
        pg->stats.kept = r == 0 && is_kept(pg, &pg->read);
        pthread_mutex_unlock(&pg->lock);
        if (r == 0 && first)
            post_caught_up(pg);
        first = false;
        if (r == 0)
            r = pg_wait(&pg->link, poll_ms(pg), reason);
    }
    pg_close(&pg->link);
    return r;
}

/* Says it once, and again when it has changed or lasts. */
static void note_trouble(struct purge_pg *pg, struct text *reason)
{
    uint64_t now = clock_mono_ms();

    text_str(reason);
    pthread_mutex_lock(&pg->lock);
    pg->stats.current = false;
    pg->stats.errors++;
    memcpy(pg->stats.trouble, reason->ptr, reason->len + 1);
    pthread_mutex_unlock(&pg->lock);
    if (pg->logged_ms && strcmp(pg->logged, reason->ptr) == 0 && now - pg->logged_ms < LOG_AGAIN_MS)
        return;
    log_warn("purge: PostgreSQL: %s; trying again", reason->ptr);
    memcpy(pg->logged, reason->ptr, reason->len + 1);
    pg->logged_ms = now;
}

/* False: stop. */
static bool pause_before_retry(struct purge_pg *pg)
{
    struct pollfd stop = { .fd = pg->stop_fd, .events = POLLIN };
    uint64_t wait_ms;
    int r;

    pg->jitter = pg->jitter * 6364136223846793005ULL + 1442695040888963407ULL;
    wait_ms = pg->backoff_ms / 2 + (pg->jitter >> 33) % (pg->backoff_ms / 2 + 1);
    pg->backoff_ms = MIN(pg->backoff_ms * 2, (uint64_t)BACKOFF_MAX_MS);
    do
        r = poll(&stop, 1, (int)wait_ms);
    while (r < 0 && errno == EINTR);
    return r == 0;
}

static void *purge_pg_main(void *arg)
{
    struct purge_pg *pg = arg;

    pthread_setname_np(pthread_self(), "purge-pg");
    load(pg);
    do {
        char memory[sizeof(pg->stats.trouble)];
        struct text reason = TEXT_ON(memory);

        if (listen_and_look(pg, &reason) == -ECANCELED)
            break;
        note_trouble(pg, &reason);
    } while (pause_before_retry(pg));
    return NULL;
}

/* ---- from outside ---- */

/* The parts, when something fails half-way; the thread does not run. */
static void free_parts(struct purge_pg *pg)
{
    free_batch(pg->abandoned);
    position_free(&pg->read);
    position_free(&pg->candidate);
    position_free(&pg->hard);
    outbox_free(&pg->outbox);
    heap_free(pg->url);
    if (pg->stop_fd >= 0)
        close(pg->stop_fd);
    pthread_cond_destroy(&pg->finished);
    pthread_mutex_destroy(&pg->lock);
    heap_free(pg);
}

static int start(struct purge_pg *pg, const struct purge_pg_options *options, struct text *reason)
{
    int r = pg->url ? pg_check_url(pg->url, reason) : -ENOMEM;

    if (r == 0)
        r = outbox_init(&pg->outbox, options->channel.len ? options->channel : VIEW("doorstep_purge"),
                        options->table.len ? options->table : VIEW("doorstep_outbox"),
                        options->answer_ms ? options->answer_ms : ANSWER_MS, reason);
    if (r == 0 && pg->stop_fd < 0)
        r = -errno;
    if (r == 0)
        r = -pthread_create(&pg->thread, NULL, purge_pg_main, pg);
    if (r < 0 && !reason->len)
        text_put(reason, view_str(strerrordesc_np(-r)));
    return r;
}

int purge_pg_new(const struct purge_pg_options *options, struct purge_pg **ret, struct text *reason)
{
    struct purge_pg *pg = heap_zalloc(sizeof(*pg));
    int r;

    if (!pg) {
        text_lit(reason, "out of memory");
        return -ENOMEM;
    }
    pg->options = *options;
    pg->caught_up.handle = on_caught_up;
    pg->backoff_ms = BACKOFF_MIN_MS;
    if (getrandom(&pg->jitter, sizeof(pg->jitter), 0) < 0)
        pg->jitter = clock_mono_us();
    pthread_mutex_init(&pg->lock, NULL);
    pthread_cond_init(&pg->finished, NULL);
    pg->url = heap_strdup(options->url.ptr, options->url.len);
    pg->stop_fd = eventfd(0, EFD_CLOEXEC);
    r = start(pg, options, reason);
    if (r < 0) {
        free_parts(pg);
        return r;
    }
    *ret = pg;
    return 0;
}

void purge_pg_stop(struct purge_pg *pg)
{
    static const uint64_t one = 1;

    pthread_mutex_lock(&pg->lock);
    pg->stopping = true;
    pthread_cond_signal(&pg->finished);
    pthread_mutex_unlock(&pg->lock);
    if (write(pg->stop_fd, &one, sizeof(one)) < 0)
        log_error("purge: PostgreSQL: stopping: %s", strerrordesc_np(errno));
    pthread_join(pg->thread, NULL);
}

void purge_pg_free(struct purge_pg *pg)
{
    if (pg)
        free_parts(pg);
}

bool purge_pg_current(struct purge_pg *pg)
{
    bool current;

    pthread_mutex_lock(&pg->lock);
    current = pg->stats.current;
    pthread_mutex_unlock(&pg->lock);
    return current;
}

void purge_pg_stats(struct purge_pg *pg, struct purge_pg_stats *ret)
{
    pthread_mutex_lock(&pg->lock);
    *ret = pg->stats;
    pthread_mutex_unlock(&pg->lock);
}
