/* The table of fills in flight and the reader lists: everything that more than one loop touches. */
#include "cache/fill_table.h"

#include "base/check.h"
#include "base/heap.h"
#include "cache/vary.h"

#include <errno.h>

int fill_table_new(struct fill_table **ret)
{
    struct fill_table *table = heap_zalloc(sizeof(*table));

    if (!table)
        return -ENOMEM;
    for (int i = 0; i < FILL_LOOPS_MAX; i++)
        list_init(&table->live[i]);
    for (int i = 0; i < FILL_SHARDS; i++) {
        pthread_mutex_init(&table->shards[i].lock, NULL);
        list_init(&table->shards[i].fills);
    }
    *ret = table;
    return 0;
}

void fill_table_free(struct fill_table *table)
{
    if (!table)
        return;
    for (int i = 0; i < FILL_SHARDS; i++) {
        CHECK(list_empty(&table->shards[i].fills));
        pthread_mutex_destroy(&table->shards[i].lock);
    }
    heap_free(table);
}

struct fill_shard *fill_table_shard(struct fill_table *table, const struct key *key)
{
    return &table->shards[key->hash[0] % FILL_SHARDS];
}

void fill_table_doom(struct fill_table *table, const struct key *key)
{
    struct fill_shard *shard = fill_table_shard(table, key);

    pthread_mutex_lock(&shard->lock);
    LIST_EACH_SAFE (link, &shard->fills) {
        struct fill *fill = CONTAINER_OF(link, struct fill, link);

        if (!key_eq(&fill->key, key))
            continue;
        atomic_store(&fill->doomed, true);
        list_remove(link);
    }
    pthread_mutex_unlock(&shard->lock);
}

unsigned fill_table_count(struct fill_table *table)
{
    unsigned count = 0;

    for (int i = 0; i < FILL_SHARDS; i++) {
        pthread_mutex_lock(&table->shards[i].lock);
        LIST_EACH (link, &table->shards[i].fills)
            count++;
        pthread_mutex_unlock(&table->shards[i].lock);
    }
    return count;
}

void fill_unshare(struct fill *fill)
{
    if (!fill->shard)
        return;
    pthread_mutex_lock(&fill->shard->lock);
    fill->shared = false;
    pthread_mutex_unlock(&fill->shard->lock);
}

void fill_unlist(struct fill *fill)
{
    if (!fill->shard)
        return;
    pthread_mutex_lock(&fill->shard->lock);
    list_remove(&fill->link);
    pthread_mutex_unlock(&fill->shard->lock);
}

bool fill_is_current(const struct fill *fill)
{
    return marks_unmoved_for(fill->context.marks, fill->purge_pos, fill->url);
}

/* ---- readers ---- */

/* Runs on the reader's loop. */
static void reader_message(struct loop *loop, struct message *message)
{
    struct fill_reader *reader = CONTAINER_OF(message, struct fill_reader, message);
    struct fill *fill = reader->fill;
    bool gone;

    (void)loop;
    pthread_mutex_lock(&fill->lock);
    reader->posted = false;
    gone = reader->detached;
    if (!gone) {
        pthread_mutex_unlock(&fill->lock);
        task_wake(reader->task);
        return;
    }
    heap_free(reader);
    fill_put_locked(fill);
}

void fill_wake_readers(struct fill *fill)
{
    LIST_EACH (link, &fill->readers) {
        struct fill_reader *reader = CONTAINER_OF(link, struct fill_reader, link);

        if (reader->task->loop == fill->task.loop) {
            task_wake(reader->task);
        } else if (!reader->posted) {
            reader->posted = true;
            loop_post(reader->task->loop, &reader->message);
        }
    }
}

static bool fits_locked(const struct fill *fill, const struct http_request *request)
{
    char values[2048];
    struct text text = TEXT_ON(values);

    if (fill->outcome == FILL_UNDECIDED)
        return true;
    if (fill->outcome != FILL_STORING || fill->phase == FILL_FAILED)
        return false;
    return vary_values(object_vary_names(fill->object), &request->fields, &text) &&
           view_eq(text_view(&text), object_vary_values(fill->object));
}

bool fill_fits(struct fill *fill, const struct http_request *request)
{
    bool fits;

    pthread_mutex_lock(&fill->lock);
    fits = fits_locked(fill, request);
    pthread_mutex_unlock(&fill->lock);
    return fits;
}

static struct fill_reader *reader_new(struct fill *fill, struct task *task)
{
    struct fill_reader *reader = heap_zalloc(sizeof(*reader));

    if (!reader)
        return NULL;
    reader->message.handle = reader_message;
    reader->fill = fill;
    reader->task = task;
    list_push(&fill->readers, &reader->link);
    fill->reader_count++;
    fill->refs++;
    return reader;
}

struct fill_reader *fill_add_starter(struct fill *fill, struct task *task)
{
    struct fill_reader *reader = reader_new(fill, task);

    if (reader)
        reader->starter = true;
    return reader;
}

static enum fill_joined join_locked(struct fill *fill, const struct http_request *request, unsigned waiters_max,
                                    struct task *task, struct fill_reader **ret_reader)
{
    enum fill_joined result = FILL_NONE;

    pthread_mutex_lock(&fill->lock);
    if (fits_locked(fill, request)) {
        if (fill->reader_count >= waiters_max)
            result = FILL_CROWDED;
        else if (!(*ret_reader = reader_new(fill, task)))
            result = FILL_NO_MEMORY;
        else
            result = FILL_JOINED;
    }
    pthread_mutex_unlock(&fill->lock);
    return result;
}

enum fill_joined fill_join(struct fill_table *table, const struct key *key, const struct http_request *request,
                           unsigned waiters_max, struct task *task, struct fill_reader **ret_reader)
{
    struct fill_shard *shard = fill_table_shard(table, key);
    enum fill_joined result = FILL_NONE;

    pthread_mutex_lock(&shard->lock);
    LIST_EACH (link, &shard->fills) {
        struct fill *fill = CONTAINER_OF(link, struct fill, link);

        if (!fill->shared || !key_eq(&fill->key, key) || !fill_is_current(fill))
            continue;
        result = join_locked(fill, request, waiters_max, task, ret_reader);
        if (result != FILL_NONE)
            break;
    }
    pthread_mutex_unlock(&shard->lock);
    return result;
}

bool fill_in_flight(struct fill_table *table, const struct key *key)
{
    struct fill_shard *shard = fill_table_shard(table, key);
    bool found = false;

    pthread_mutex_lock(&shard->lock);
    LIST_EACH (link, &shard->fills) {
        const struct fill *fill = CONTAINER_OF(link, struct fill, link);

        found = found || (fill->shared && key_eq(&fill->key, key) && fill_is_current(fill));
    }
    pthread_mutex_unlock(&shard->lock);
    return found;
}

/* Runs on the owner's loop. */
static void nudge_message(struct loop *loop, struct message *message)
{
    struct fill *fill = CONTAINER_OF(message, struct fill, nudge);

    (void)loop;
    pthread_mutex_lock(&fill->lock);
    fill->nudged = false;
    /* It may have ended since; its task was cancelled then and must not outlive what follows. */
    if (fill->phase < FILL_DONE)
        task_wake(&fill->task);
    fill_put_locked(fill);
}

/* Asks the owner to look again. Called with fill.lock held, from any loop. */
static void nudge_locked(struct fill *fill, struct loop *here)
{
    if (fill->phase >= FILL_DONE)
        return;
    if (here == fill->task.loop) {
        task_wake(&fill->task);
    } else if (!fill->nudged) {
        fill->nudged = true;
        fill->refs++;
        fill->nudge.handle = nudge_message;
        loop_post(fill->task.loop, &fill->nudge);
    }
}

void fill_leave(struct fill_reader *reader)
{
    struct fill *fill;

    if (!reader)
        return;
    fill = reader->fill;
    pthread_mutex_lock(&fill->lock);
    list_remove(&reader->link);
    fill->reader_count--;
    nudge_locked(fill, reader->task->loop);
    if (reader->posted) {
        reader->detached = true; /* its message frees it */
        pthread_mutex_unlock(&fill->lock);
        return;
    }
    heap_free(reader);
    fill_put_locked(fill);
}

void fill_look(struct fill_reader *reader, struct fill_view *ret)
{
    struct fill *fill = reader->fill;

    pthread_mutex_lock(&fill->lock);
    *ret = (struct fill_view){
        .phase = fill->phase,
        .outcome = fill->outcome,
        .object = fill->object,
        .why = fill->why,
        .status = fill->status,
        .interims = fill->interim_count,
        .doomed = atomic_load(&fill->doomed),
        .behind = fill->behind,
    };
    pthread_mutex_unlock(&fill->lock);
}

struct view fill_interim(struct fill_reader *reader, unsigned i)
{
    struct view head;

    pthread_mutex_lock(&reader->fill->lock);
    head = i < reader->fill->interim_count ? reader->fill->interims[i] : VIEW_NONE;
    pthread_mutex_unlock(&reader->fill->lock);
    return head;
}

void fill_passed(struct fill_reader *reader, uint64_t bytes)
{
    struct fill *fill = reader->fill;

    /* In one order with `stalled`: either the owner sees these bytes, or we see that it stopped for them. */
    atomic_fetch_add(&reader->passed, bytes);
    if (!atomic_load(&fill->stalled))
        return;
    pthread_mutex_lock(&fill->lock);
    if (atomic_load(&fill->stalled))
        nudge_locked(fill, reader->task->loop);
    pthread_mutex_unlock(&fill->lock);
}
