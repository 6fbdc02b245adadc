/* The thread and the queue over the database: who writes links its struct to the queue and goes on; the thread takes all that
 * is there, makes one transaction of it, and answers after the commit. While it waits for the disk the queue fills for the
 * next one: the slower the disk, the more share a commit.
 *
 * Locks: `lock` for the queue and the counters, held for moments; `db_lock` for the database, held through a commit. Nobody
 * takes both at once. Loops only ever take `lock`.
 *
 * A struct state_write belongs to the state from state_write() until it is answered: posted to its loop, freed, or (waited
 * for) marked under `lock`. */
#include "store/state.h"

#include "base/check.h"
#include "base/heap.h"
#include "store/state_db.h"
#include "store/state_ledger.h"

#include <errno.h>
#include <pthread.h>
#include <sys/random.h>

#define QUEUED_BYTES_MAX ((uint64_t)64 << 20)
/* Bounds how long an answer can be put off by those that came with it. */
#define GROUP_MAX 4096
#define GROUP_BATCHES_MAX 8

struct state {
    struct state_db db;
    bool durable;
    uint8_t identity[STATE_IDENTITY_SIZE];
    pthread_mutex_t db_lock;

    pthread_mutex_t lock;
    pthread_cond_t more;      /* the queue is not empty any more, or stopping */
    pthread_cond_t committed; /* for state_write_wait() */
    struct node queue;        /* of struct state_write, oldest first */
    struct node batches;      /* of struct state_rows */
    uint64_t queued_bytes;
    bool stopping;
    struct state_stats stats;
    pthread_t thread;
};

/* What one transaction is made of. */
struct group {
    struct node writes, batches;
    uint64_t count; /* of both */
    int batches_result;
};

/* ---- the thread ---- */

static uint64_t copied_len(const struct state_write *write)
{
    return write->mark.text.len + write->name.len + write->value.len;
}

/* Up to GROUP_MAX writes and some batches from the queues. With the lock held. */
static void take_group(struct state *state, struct group *group)
{
    unsigned batches = 0;

    list_init(&group->writes);
    list_init(&group->batches);
    group->count = 0;
    while (group->count < GROUP_MAX && !list_empty(&state->queue)) {
        list_push(&group->writes, list_pop(&state->queue));
        group->count++;
    }
    for (; batches < GROUP_BATCHES_MAX && !list_empty(&state->batches); batches++)
        list_push(&group->batches, list_pop(&state->batches));
    group->count += batches;
}

/* All of them in one transaction. */
static int commit_group(struct state *state, const struct node *writes, const struct node *batches,
                        struct text *trouble)
{
    int r = state_db_begin(&state->db);

    LIST_EACH (it, writes) {
        if (r < 0)
            break;
        r = state_db_write(&state->db, CONTAINER_OF(it, struct state_write, link));
    }
    LIST_EACH (it, batches) {
        if (r < 0)
            break;
        r = state_db_ledger_write(&state->db, CONTAINER_OF(it, struct state_rows, link));
    }
    if (r == 0)
        r = state_db_commit(&state->db);
    if (r == 0)
        return 0;
    if (r == -ESTALE)
        text_lit(trouble, "the file was moved or removed under us");
    else
        state_db_trouble(&state->db, trouble);
    state_db_rollback(&state->db);
    return r == -ESTALE ? -EIO : r;
}

/* One by one, each with a result of its own: a large write that finds no room must not fail the small ones beside it. */
static void commit_each(struct state *state, const struct node *writes, struct text *trouble)
{
    struct node none;

    list_init(&none);
    LIST_EACH (it, writes) {
        struct state_write *write = CONTAINER_OF(it, struct state_write, link);
        struct node alone;
        struct node *next = it->next, *prev = it->prev;

        list_init(&alone);
        list_push(&alone, it);
        trouble->len = 0;
        write->result = commit_group(state, &alone, &none, trouble);
        it->next = next;
        it->prev = prev;
    }
}

/* Commits, and leaves each write's result in it, and the batches' in the group. Batches come again and can share their fate. */
static void commit(struct state *state, struct group *group, struct text *trouble)
{
    struct node none;
    int r;

    list_init(&none);
    pthread_mutex_lock(&state->db_lock);
    r = group->batches_result = commit_group(state, &group->writes, &group->batches, trouble);
    if (group->count > 1 && (r == -ENOSPC || r == -ENOMEM)) {
        commit_each(state, &group->writes, trouble);
        if (!list_empty(&group->batches)) {
            trouble->len = 0;
            group->batches_result = commit_group(state, &none, &group->batches, trouble);
        }
    } else {
        LIST_EACH (it, &group->writes)
            CONTAINER_OF(it, struct state_write, link)->result = r;
    }
    pthread_mutex_unlock(&state->db_lock);
}

/* Tells whoever waits. Takes the lock, and does not touch a write after it was handed back. */
static void answer(struct state *state, struct group *group, struct text *trouble)
{
    struct node *link;

    pthread_mutex_lock(&state->lock);
    LIST_EACH (it, &group->writes) {
        const struct state_write *write = CONTAINER_OF(it, struct state_write, link);

        state->stats.writes += write->result == 0;
        state->stats.errors += write->result != 0;
        state->queued_bytes -= copied_len(write);
        state->stats.queued--;
    }
    state->stats.commits += trouble->len == 0;
    text_str(trouble);
    memcpy(state->stats.trouble, trouble->ptr, trouble->len + 1);
    while ((link = list_pop(&group->writes))) {
        struct state_write *write = CONTAINER_OF(link, struct state_write, link);

        if (write->_waited) {
            write->_committed = true;
            continue;
        }
        heap_free(write->_copies);
        write->mark.text = write->name = write->value = VIEW_NONE;
        if (write->done.handle)
            loop_post(write->loop, &write->done);
        else
            heap_free(write);
    }
    pthread_cond_broadcast(&state->committed);
    pthread_mutex_unlock(&state->lock);
    while ((link = list_pop(&group->batches))) {
        struct state_rows *rows = CONTAINER_OF(link, struct state_rows, link);

        rows->done(rows, group->batches_result);
    }
}

static void *state_main(void *arg)
{
    struct state *state = arg;

    (void)pthread_setname_np(pthread_self(), "state");
    for (;;) {
        char memory[sizeof(state->stats.trouble)];
        struct text trouble = TEXT_ON(memory);
        struct group group;

        pthread_mutex_lock(&state->lock);
        while (list_empty(&state->queue) && list_empty(&state->batches) && !state->stopping)
            pthread_cond_wait(&state->more, &state->lock);
        take_group(state, &group);
        pthread_mutex_unlock(&state->lock);
        if (!group.count)
            return NULL;
        commit(state, &group, &trouble);
        answer(state, &group, &trouble);
    }
}

/* ---- open and close ---- */

static void free_state(struct state *state)
{
    if (state->durable)
        state_db_close(&state->db);
    pthread_cond_destroy(&state->more);
    pthread_cond_destroy(&state->committed);
    pthread_mutex_destroy(&state->lock);
    pthread_mutex_destroy(&state->db_lock);
    heap_free(state);
}

int state_open(struct view path, struct state **ret, struct text *reason)
{
    struct state *state = heap_zalloc(sizeof(*state));
    int r = 0;

    if (!state) {
        text_lit(reason, "out of memory");
        return -ENOMEM;
    }
    pthread_mutex_init(&state->lock, NULL);
    pthread_mutex_init(&state->db_lock, NULL);
    pthread_cond_init(&state->more, NULL);
    pthread_cond_init(&state->committed, NULL);
    list_init(&state->queue);
    list_init(&state->batches);
    if (path.len)
        r = state_db_open(&state->db, path, state->identity, reason);
    else
        CHECK(getrandom(state->identity, sizeof(state->identity), 0) == sizeof(state->identity));
    state->durable = path.len && r == 0;
    if (state->durable) {
        r = -pthread_create(&state->thread, NULL, state_main, state);
        if (r < 0)
            text_lit(reason, "its thread could not be started");
    }
    if (r < 0) {
        free_state(state);
        return r;
    }
    *ret = state;
    return 0;
}

void state_close(struct state *state)
{
    if (!state)
        return;
    if (state->durable) {
        pthread_mutex_lock(&state->lock);
        state->stopping = true;
        pthread_cond_signal(&state->more);
        pthread_mutex_unlock(&state->lock);
        pthread_join(state->thread, NULL);
    }
    free_state(state);
}

const uint8_t *state_identity(const struct state *state)
{
    return state->identity;
}

bool state_is_durable(const struct state *state)
{
    return state->durable;
}

/* ---- reading ---- */

int state_get(struct state *state, struct view name, char **ret, size_t *ret_len)
{
    int r;

    if (!state->durable)
        return -ENOENT;
    pthread_mutex_lock(&state->db_lock);
    r = state_db_get(&state->db, name, ret, ret_len);
    pthread_mutex_unlock(&state->db_lock);
    return r;
}

int state_marks(struct state *state, void (*each)(const struct state_mark *mark, void *arg), void *arg)
{
    int r;

    if (!state->durable)
        return 0;
    pthread_mutex_lock(&state->db_lock);
    r = state_db_marks(&state->db, each, arg);
    pthread_mutex_unlock(&state->db_lock);
    return r;
}

int state_ledger_page(struct state *state, const struct state_ledger_query *query,
                      void (*each)(const struct ledger_row *row, int64_t id, void *arg), void *arg, int64_t *ret_after)
{
    int r;

    if (!state->durable) {
        *ret_after = 0;
        return 0;
    }
    pthread_mutex_lock(&state->db_lock);
    r = state_db_ledger_page(&state->db, query, each, arg, ret_after);
    pthread_mutex_unlock(&state->db_lock);
    return r;
}

int state_ledger_sums(struct state *state, int32_t first, int32_t last,
                      void (*each)(const struct ledger_sum *sum, void *arg), void *arg)
{
    int r;

    if (!state->durable)
        return 0;
    pthread_mutex_lock(&state->db_lock);
    r = state_db_ledger_sums(&state->db, first, last, each, arg);
    pthread_mutex_unlock(&state->db_lock);
    return r;
}

/* ---- writing ---- */

static void copy_one(struct text *to, struct view *v)
{
    const char *at = to->ptr + to->len;

    text_put(to, *v);
    v->ptr = at;
}

/* The views then point into memory of the write's own. */
static int copy_in(struct state_write *write)
{
    struct text copies = text_make(heap_alloc(copied_len(write) + 1), copied_len(write) + 1);

    if (!copies.ptr)
        return -ENOMEM;
    copy_one(&copies, &write->mark.text);
    copy_one(&copies, &write->name);
    copy_one(&copies, &write->value);
    write->_copies = copies.ptr;
    return 0;
}

/* With the lock held. */
static int enqueue(struct state *state, struct state_write *write)
{
    uint64_t bytes = copied_len(write);

    if (state->queued_bytes + bytes > QUEUED_BYTES_MAX)
        return -ENOMEM;
    state->queued_bytes += bytes;
    state->stats.queued++;
    list_push(&state->queue, &write->link);
    pthread_cond_signal(&state->more);
    return 0;
}

static void answer_at_once(struct state_write *write)
{
    write->result = 0;
    if (write->done.handle)
        loop_post(write->loop, &write->done);
    else
        heap_free(write);
}

int state_write(struct state *state, struct state_write *write)
{
    struct view text = write->mark.text, name = write->name, value = write->value;
    int r;

    CHECK(write->mark.position <= INT64_MAX);
    if (!state->durable) {
        answer_at_once(write);
        return 0;
    }
    write->_waited = false;
    r = copy_in(write);
    if (r < 0)
        return r;
    pthread_mutex_lock(&state->lock);
    r = enqueue(state, write);
    pthread_mutex_unlock(&state->lock);
    if (r < 0) {
        heap_free(write->_copies);
        write->mark.text = text;
        write->name = name;
        write->value = value;
    }
    return r;
}

int state_write_wait(struct state *state, struct state_write *write)
{
    int r;

    CHECK(write->mark.position <= INT64_MAX);
    if (!state->durable)
        return 0;
    write->_waited = true;
    write->_committed = false;
    pthread_mutex_lock(&state->lock);
    r = enqueue(state, write);
    while (r == 0 && !write->_committed)
        pthread_cond_wait(&state->committed, &state->lock);
    pthread_mutex_unlock(&state->lock);
    return r < 0 ? r : write->result;
}

void state_append(struct state *state, struct state_rows *rows)
{
    if (!state->durable) {
        rows->done(rows, 0);
        return;
    }
    pthread_mutex_lock(&state->lock);
    list_push(&state->batches, &rows->link);
    pthread_cond_signal(&state->more);
    pthread_mutex_unlock(&state->lock);
}

void state_stats(struct state *state, struct state_stats *ret)
{
    pthread_mutex_lock(&state->lock);
    *ret = state->stats;
    pthread_mutex_unlock(&state->lock);
}
