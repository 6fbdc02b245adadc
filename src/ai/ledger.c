/* Batches and where they are: each loop fills one; a full or old one goes to the state; the state's thread lays it into the loop's
 * list of finished ones; the loop's next tick (50 ms) uses its memory again, or keeps it for another attempt when it failed.
 *
 *     filling -> with the state -> finished -> free
 *                     ^               |
 *                     +--- failed <---+        one a second while there is trouble, as a probe; then one after the other
 *
 * The loop's thread owns everything but `finished`, `with_state` and what the counters say, which are under the loop's lock or atomic.
 * A batch that failed is filled up with the next one: what waits in memory for the disk is dense. */
#include "ai/ledger.h"

#include "base/check.h"
#include "base/heap.h"
#include "base/log.h"

#include <errno.h>
#include <pthread.h>

#define TICK_MS 50u
#define RETRY_MS 1000u
#define RETRY_AT_ONCE 4u
#define FORGET_EVERY_MS 60000
#define FORGET_AT_ONCE 1000u
#define DAY_MS 86400000

enum counter {
    COUNT_ROWS,
    COUNT_COMMITTED,
    COUNT_LOST,
    COUNT_LOST_MONEY,
    COUNT_LOST_COST,
    COUNT_RETRIED,
    COUNTERS,
};

struct batch {
    struct state_rows rows; /* its link is the state's, or that of `finished` */
    struct ledger_loop *home;
    struct node link; /* of `failed` */
    struct text text;
    int64_t cost;   /* of all its rows */
    unsigned money; /* rows with a cost */
    int result;
};

struct ledger_loop {
    struct ledger *ledger;
    struct task task;
    struct timer timer;
    bool begun, closed;
    struct batch *filling, *spare;
    struct node failed; /* oldest first */
    uint64_t retry_ms;  /* not before */
    unsigned batches;   /* all that live, but the spare one */

    pthread_mutex_t lock;
    pthread_cond_t came;
    struct node finished;
    unsigned with_state;

    _Atomic uint64_t counters[COUNTERS];
    _Atomic uint64_t pending;
    _Atomic bool in_trouble;
};

struct ledger {
    struct state *state;
    unsigned loops, retention_days;
    unsigned batches_max; /* of a loop */
    size_t batch_bytes;
    bool durable;
    struct state_rows forget;
    _Atomic bool forgetting;
    _Atomic bool troubled;     /* and said so */
    _Atomic int64_t forget_ms; /* wall clock: next time */
    _Atomic uint64_t forgotten;
    struct workers *workers; /* one, for who reads */
    struct ledger_loop per_loop[];
};

static void count(struct ledger_loop *l, enum counter which, uint64_t n)
{
    atomic_fetch_add_explicit(&l->counters[which], n, memory_order_relaxed);
}

/* ---- batches ---- */

static struct batch *batch_new(struct ledger_loop *l)
{
    size_t cap = l->ledger->batch_bytes;
    struct batch *batch = l->spare;

    l->spare = NULL;
    if (!batch) {
        batch = heap_alloc(sizeof(*batch) + cap);
        if (!batch)
            return NULL;
    }
    *batch = (struct batch){ .home = l, .text = text_make(batch + 1, cap) };
    list_init(&batch->link);
    l->batches++;
    return batch;
}

static void batch_end(struct ledger_loop *l, struct batch *batch)
{
    l->batches--;
    atomic_fetch_sub_explicit(&l->pending, batch->text.len, memory_order_relaxed);
    if (l->spare)
        heap_free(batch);
    else
        l->spare = batch;
}

static void batch_lost(struct ledger_loop *l, struct batch *batch)
{
    count(l, COUNT_LOST, batch->rows.count);
    count(l, COUNT_LOST_MONEY, batch->money);
    count(l, COUNT_LOST_COST, (uint64_t)batch->cost);
    batch_end(l, batch);
}

/* Trouble is said when it begins and when it ends. */
static void tell(struct ledger *ledger, int result)
{
    if (atomic_exchange(&ledger->troubled, result != 0) == (result != 0))
        return;
    if (result)
        log_warn("ledger: rows are not written (%s): they wait in memory", strerror(-result));
    else
        log_info("ledger: rows are written again");
}

/* On the state's thread. Signalled under the lock: whoever waits for the last one frees the loop's part afterwards. */
static void batch_done(struct state_rows *rows, int result)
{
    struct batch *batch = CONTAINER_OF(rows, struct batch, rows);
    struct ledger_loop *l = batch->home;

    batch->result = result;
    if (result == 0)
        count(l, COUNT_COMMITTED, rows->count);
    atomic_store_explicit(&l->in_trouble, result != 0, memory_order_relaxed);
    tell(l->ledger, result);
    pthread_mutex_lock(&l->lock);
    list_push(&l->finished, &rows->link);
    l->with_state--;
    pthread_cond_signal(&l->came);
    pthread_mutex_unlock(&l->lock);
}

static void hand_over(struct ledger_loop *l, struct batch *batch)
{
    pthread_mutex_lock(&l->lock);
    l->with_state++;
    pthread_mutex_unlock(&l->lock);
    batch->rows.batch = text_view(&batch->text);
    batch->rows.done = batch_done;
    list_init(&batch->rows.link);
    state_append(l->ledger->state, &batch->rows);
}

/* Keeps it, behind what is kept already, or inside of the last one when there is room. */
static void keep(struct ledger_loop *l, struct batch *batch)
{
    struct batch *last = list_empty(&l->failed) ? NULL : CONTAINER_OF(l->failed.prev, struct batch, link);

    if (!last || last->text.cap - last->text.len < batch->text.len) {
        list_push(&l->failed, &batch->link);
        return;
    }
    text_put(&last->text, text_view(&batch->text));
    last->rows.count += batch->rows.count;
    last->cost += batch->cost;
    last->money += batch->money;
    atomic_fetch_add_explicit(&l->pending, batch->text.len, memory_order_relaxed);
    batch_end(l, batch);
}

/* Takes back what the state is done with. */
static void reap(struct ledger_loop *l, uint64_t now_ms)
{
    struct node finished, *link;

    pthread_mutex_lock(&l->lock);
    list_take(&finished, &l->finished);
    pthread_mutex_unlock(&l->lock);
    while ((link = list_pop(&finished))) {
        struct batch *batch = CONTAINER_OF(CONTAINER_OF(link, struct state_rows, link), struct batch, rows);

        if (batch->result == 0) {
            l->retry_ms = 0;
            batch_end(l, batch);
        } else {
            l->retry_ms = now_ms + RETRY_MS;
            keep(l, batch);
        }
    }
}

/* One to see whether the trouble is over, some more when it is. */
static void retry(struct ledger_loop *l, uint64_t now_ms)
{
    unsigned most = l->retry_ms ? 1 : RETRY_AT_ONCE;

    if (list_empty(&l->failed) || now_ms < l->retry_ms)
        return;
    if (l->retry_ms)
        l->retry_ms = now_ms + RETRY_MS;
    for (unsigned i = 0; i < most; i++) {
        struct node *link = list_pop(&l->failed);

        if (!link)
            return;
        count(l, COUNT_RETRIED, 1);
        hand_over(l, CONTAINER_OF(link, struct batch, link));
    }
}

/* ---- old rows ---- */

static void forget_done(struct state_rows *rows, int result)
{
    struct ledger *ledger = CONTAINER_OF(rows, struct ledger, forget);

    atomic_fetch_add_explicit(&ledger->forgotten, result == 0 ? rows->forgotten : 0, memory_order_relaxed);
    /* As many as were asked for: there are more. */
    if (result == 0 && rows->forgotten == rows->forget_max)
        atomic_store(&ledger->forget_ms, 0);
    atomic_store(&ledger->forgetting, false);
}

static void forget(struct ledger *ledger, int64_t wall_ms)
{
    if (wall_ms < atomic_load_explicit(&ledger->forget_ms, memory_order_relaxed) ||
        atomic_exchange(&ledger->forgetting, true))
        return;
    atomic_store(&ledger->forget_ms, wall_ms + FORGET_EVERY_MS);
    ledger->forget = (struct state_rows){
        .forget_before = wall_ms - (int64_t)ledger->retention_days * DAY_MS,
        .forget_max = FORGET_AT_ONCE,
        .done = forget_done,
    };
    state_append(ledger->state, &ledger->forget);
}

/* ---- a loop's part ---- */

static void tick(struct task *task)
{
    struct ledger_loop *l = CONTAINER_OF(task, struct ledger_loop, task);
    uint64_t now_ms = loop_now_ms(task->loop);

    timer_clear(&l->timer);
    reap(l, now_ms);
    retry(l, now_ms);
    if (l->filling && l->filling->rows.count && list_empty(&l->failed)) {
        hand_over(l, l->filling);
        l->filling = NULL;
    }
    forget(l->ledger, loop_wall_ms(task->loop));
    /* With nothing to write there is still what grows old. */
    timer_set(&l->timer, l->batches || atomic_load(&l->ledger->forgetting) ? TICK_MS : FORGET_EVERY_MS);
}

static void begin(struct ledger_loop *l, struct loop *loop)
{
    task_init(&l->task, loop, tick);
    timer_init(&l->timer, &l->task);
    l->begun = true;
}

static void lose(struct ledger_loop *l, const struct ledger_row *row)
{
    count(l, COUNT_LOST, 1);
    if (row->cost > 0) {
        count(l, COUNT_LOST_MONEY, 1);
        count(l, COUNT_LOST_COST, (uint64_t)row->cost);
    }
}

/* A batch with room for any row; NULL: there is none for this one. */
static struct batch *batch_for(struct ledger_loop *l, const struct ledger_row *row)
{
    unsigned max = l->ledger->batches_max;

    if (l->filling && l->filling->text.cap - l->filling->text.len >= LEDGER_ROW_MAX)
        return row->cost > 0 || l->batches <= max / 2 + 1 ? l->filling : NULL;
    if (l->filling) {
        if (list_empty(&l->failed))
            hand_over(l, l->filling);
        else
            keep(l, l->filling);
        l->filling = NULL;
    }
    if (l->batches >= (row->cost > 0 ? max : max / 2))
        reap(l, loop_now_ms(l->task.loop));
    if (l->batches >= (row->cost > 0 ? max : max / 2))
        return NULL;
    l->filling = batch_new(l);
    return l->filling;
}

void ledger_write(struct ledger *ledger, struct loop *loop, const struct ledger_row *row)
{
    struct ledger_loop *l = &ledger->per_loop[loop_index(loop)];
    struct batch *batch;
    size_t len;

    CHECK(loop_index(loop) < ledger->loops);
    count(l, COUNT_ROWS, 1);
    if (!ledger->durable)
        return;
    if (l->closed) {
        lose(l, row);
        return;
    }
    if (!l->begun)
        begin(l, loop);
    batch = batch_for(l, row);
    if (!batch) {
        lose(l, row);
        return;
    }
    len = batch->text.len;
    CHECK(state_ledger_put(&batch->text, row));
    atomic_fetch_add_explicit(&l->pending, batch->text.len - len, memory_order_relaxed);
    batch->rows.count++;
    batch->money += row->cost > 0;
    batch->cost += row->cost;
    if (l->timer.expires_ms == 0 || l->timer.expires_ms > loop_now_ms(loop) + TICK_MS)
        timer_set(&l->timer, TICK_MS);
}

void ledger_loop_close(struct ledger *ledger, struct loop *loop)
{
    struct ledger_loop *l = &ledger->per_loop[loop_index(loop)];

    l->closed = true;
    if (!l->begun)
        return;
    timer_clear(&l->timer);
    task_cancel(&l->task);
    if (l->filling)
        hand_over(l, l->filling);
    l->filling = NULL;
}

/* ---- the whole ---- */

int ledger_new(const struct ledger_options *options, struct ledger **ret)
{
    unsigned loops = MAX(options->loops, 1u);
    size_t pending = options->pending_bytes ? options->pending_bytes : (size_t)8 << 20;
    struct ledger *ledger = heap_zalloc(sizeof(*ledger) + loops * sizeof(ledger->per_loop[0]));

    if (!ledger)
        return -ENOMEM;
    ledger->state = options->state;
    ledger->loops = loops;
    ledger->retention_days = options->retention_days ? options->retention_days : 90;
    ledger->batch_bytes = MAX(options->batch_bytes ? options->batch_bytes : (size_t)64 << 10, 2 * LEDGER_ROW_MAX);
    ledger->batches_max = (unsigned)MAX(pending / ledger->batch_bytes, 4u);
    ledger->durable = state_is_durable(options->state);
    if (ledger->durable && workers_new(&ledger->workers, 1) < 0) {
        heap_free(ledger);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < loops; i++) {
        struct ledger_loop *l = &ledger->per_loop[i];

        l->ledger = ledger;
        list_init(&l->failed);
        list_init(&l->finished);
        pthread_mutex_init(&l->lock, NULL);
        pthread_cond_init(&l->came, NULL);
    }
    *ret = ledger;
    return 0;
}

static void wait_for_state(struct ledger_loop *l)
{
    pthread_mutex_lock(&l->lock);
    while (l->with_state)
        pthread_cond_wait(&l->came, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

static void finish(struct ledger_loop *l)
{
    struct node *link;

    if (l->filling)
        hand_over(l, l->filling);
    wait_for_state(l);
    reap(l, 0);
    while ((link = list_pop(&l->failed))) {
        count(l, COUNT_RETRIED, 1);
        hand_over(l, CONTAINER_OF(link, struct batch, link));
    }
    wait_for_state(l);
    reap(l, 0);
    while ((link = list_pop(&l->failed)))
        batch_lost(l, CONTAINER_OF(link, struct batch, link));
    heap_free(l->spare);
    pthread_cond_destroy(&l->came);
    pthread_mutex_destroy(&l->lock);
}

/* An empty batch behind the last forgetting: what the state has of ours is done when it is. */
struct fence {
    struct state_rows rows;
    pthread_mutex_t lock;
    pthread_cond_t came;
    bool passed;
};

static void fence_done(struct state_rows *rows, int result)
{
    struct fence *fence = CONTAINER_OF(rows, struct fence, rows);

    (void)result;
    pthread_mutex_lock(&fence->lock);
    fence->passed = true;
    pthread_cond_signal(&fence->came);
    pthread_mutex_unlock(&fence->lock);
}

static void pass_fence(struct ledger *ledger)
{
    struct fence fence = { .rows.done = fence_done };

    pthread_mutex_init(&fence.lock, NULL);
    pthread_cond_init(&fence.came, NULL);
    list_init(&fence.rows.link);
    state_append(ledger->state, &fence.rows);
    pthread_mutex_lock(&fence.lock);
    while (!fence.passed)
        pthread_cond_wait(&fence.came, &fence.lock);
    pthread_mutex_unlock(&fence.lock);
    pthread_cond_destroy(&fence.came);
    pthread_mutex_destroy(&fence.lock);
}

static void tell_lost(struct ledger *ledger)
{
    struct ledger_stats stats;

    ledger_stats(ledger, &stats);
    if (stats.lost)
        log_error("ledger: %llu rows were lost; they cost %lld millionths", (unsigned long long)stats.lost,
                  (long long)stats.lost_cost);
}

void ledger_close(struct ledger *ledger)
{
    if (!ledger)
        return;
    if (ledger->workers)
        workers_free(ledger->workers);
    for (unsigned i = 0; i < ledger->loops; i++)
        finish(&ledger->per_loop[i]);
    tell_lost(ledger);
    if (atomic_load(&ledger->forgetting))
        pass_fence(ledger);
    heap_free(ledger);
}

struct workers *ledger_workers(struct ledger *ledger)
{
    return ledger->workers;
}

void ledger_stats(struct ledger *ledger, struct ledger_stats *ret)
{
    struct ledger_stats stats = { .forgotten = atomic_load(&ledger->forgotten) };

    for (unsigned i = 0; i < ledger->loops; i++) {
        struct ledger_loop *l = &ledger->per_loop[i];

        stats.rows += atomic_load(&l->counters[COUNT_ROWS]);
        stats.committed += atomic_load(&l->counters[COUNT_COMMITTED]);
        stats.lost += atomic_load(&l->counters[COUNT_LOST]);
        stats.lost_money += atomic_load(&l->counters[COUNT_LOST_MONEY]);
        stats.lost_cost += (int64_t)atomic_load(&l->counters[COUNT_LOST_COST]);
        stats.retried += atomic_load(&l->counters[COUNT_RETRIED]);
        stats.pending_bytes += atomic_load(&l->pending);
        stats.in_trouble = stats.in_trouble || atomic_load(&l->in_trouble);
    }
    *ret = stats;
}

struct state *ledger_state(struct ledger *ledger)
{
    return ledger->state;
}
