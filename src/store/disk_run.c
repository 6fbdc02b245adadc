/* The writer's main loop, and switching off and on.
 *
 * Off: lookups miss, offers are refused, the index is empty, segments are forgotten (their files are left as they are).
 * Drops that come meanwhile are remembered and applied before the tier is on again; when there were too many to remember, it
 * starts empty. */
#include "store/disk_internal.h"

#include "base/clock.h"
#include "base/heap.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define RETRY_MIN_MS 1000u
#define RETRY_MAX_MS 60000u

void disk_trouble(struct disk *disk, int error, const char *what)
{
    struct queue *queue = &disk->queue;
    char text[64];

    pthread_mutex_lock(&queue->lock);
    if (atomic_load(&disk->on)) {
        atomic_store(&disk->on, false);
        queue->fault = true;
        (void)snprintf(queue->trouble, sizeof(queue->trouble), "%s: %s", what, strerror_r(error, text, sizeof(text)));
        disk_add(&disk->count.switched_off, 1);
        pthread_cond_signal(&queue->more);
    }
    pthread_mutex_unlock(&queue->lock);
}

/* Drops from the time when the tier was off. Under queue.lock. */
static void apply_lost(struct disk *disk)
{
    struct queue *queue = &disk->queue;

    for (uint32_t i = 0; i < queue->lost_count; i++) {
        struct disk_item *item = heap_zalloc(sizeof(*item));

        if (!item) {
            /* Better nothing than something dropped. */
            disk_index_clear(disk->index);
            break;
        }
        if (!disk_index_remove(disk->index, queue->lost[i][0])) {
            heap_free(item);
            continue;
        }
        item->kind = ITEM_TOMBSTONE;
        item->key[0] = queue->lost[i][0];
        item->key[1] = queue->lost[i][1];
        list_init(&item->by_key);
        list_push(&queue->tombstones, &item->link);
    }
    queue->lost_count = 0;
    queue->lost_overflow = false;
}

static void let_go(struct disk *disk)
{
    disk_index_clear(disk->index);
    space_abandon(disk);
    if (disk->lock_fd >= 0)
        close(disk->lock_fd);
    disk->lock_fd = -1;
    disk->saved_seq = disk->saved_offset = 0;
    disk->queue.done_seq = disk->queue.done_offset = 0;
}

int bring_up(struct disk *disk)
{
    struct queue *queue = &disk->queue;
    const char *what = "";
    uint64_t start = clock_mono_ms();
    char text[64];
    bool empty;
    int r;

    atomic_store(&disk->count.scanned_bytes, 0);
    pthread_mutex_lock(&queue->lock);
    empty = queue->lost_overflow;
    pthread_mutex_unlock(&queue->lock);
    r = recover(disk, empty, &what);
    if (r < 0)
        let_go(disk);
    atomic_store(&disk->count.open_ms, clock_mono_ms() - start);
    pthread_mutex_lock(&queue->lock);
    if (r == 0 && queue->lost_overflow && !empty) {
        /* Too many drops while we were reading: once more, from nothing. */
        pthread_mutex_unlock(&queue->lock);
        let_go(disk);
        return -EAGAIN;
    }
    if (r == 0) {
        apply_lost(disk);
        queue->trouble[0] = 0;
        atomic_store(&disk->read_errors_row, 0);
        atomic_store(&disk->on, true);
    } else if (r == -EBUSY) {
        (void)snprintf(queue->trouble, sizeof(queue->trouble), "%s", what);
    } else {
        (void)snprintf(queue->trouble, sizeof(queue->trouble), "%s: %s", what, strerror_r(-r, text, sizeof(text)));
    }
    pthread_mutex_unlock(&queue->lock);
    return r;
}

static void go_off(struct disk *disk)
{
    pthread_mutex_lock(&disk->keeping);
    writing_reset(disk);
    queue_flush(disk);
    let_go(disk);
    pthread_mutex_unlock(&disk->keeping);
}

static void set_retry(struct queue *queue)
{
    queue->backoff_ms = queue->backoff_ms ? MIN(queue->backoff_ms * 2, RETRY_MAX_MS) : RETRY_MIN_MS;
    queue->retry_ms = clock_mono_ms() + queue->backoff_ms;
}

static void try_again(struct disk *disk)
{
    int r;

    pthread_mutex_lock(&disk->keeping);
    r = bring_up(disk);
    pthread_mutex_unlock(&disk->keeping);
    pthread_mutex_lock(&disk->queue.lock);
    if (r < 0)
        set_retry(&disk->queue);
    else
        disk->queue.retry_ms = clock_mono_ms(); /* on since then */
    pthread_mutex_unlock(&disk->queue.lock);
}

/* Under queue.lock. */
static void wait_until(struct queue *queue, uint64_t ms)
{
    struct timespec until = { .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000 };

    queue->is_idle = true;
    pthread_cond_broadcast(&queue->idle);
    (void)pthread_cond_timedwait(&queue->more, &queue->lock, &until);
    queue->is_idle = false;
}

/* Off: waits for the next try. Under queue.lock. */
static void run_off(struct disk *disk)
{
    struct queue *queue = &disk->queue;

    if (queue->fault) {
        queue->fault = false;
        if (clock_mono_ms() > queue->retry_ms + RETRY_MAX_MS)
            queue->backoff_ms = 0; /* it had been well for a while */
        set_retry(queue);
        pthread_mutex_unlock(&queue->lock);
        go_off(disk);
        pthread_mutex_lock(&queue->lock);
    } else if (clock_mono_ms() >= queue->retry_ms) {
        pthread_mutex_unlock(&queue->lock);
        try_again(disk);
        pthread_mutex_lock(&queue->lock);
    } else {
        wait_until(queue, queue->retry_ms);
    }
}

/* On: does one thing, or waits. Under queue.lock. False: nothing is left and the tier is closing. */
static bool run_on(struct disk *disk)
{
    struct queue *queue = &disk->queue;
    struct node *link = list_pop(&queue->tombstones);

    if (!link)
        link = list_pop(&queue->items);
    if (!link && !disk->writing.buffer_len && !queue->graves) {
        if (queue->stopping)
            return false;
        queue->is_idle = true;
        pthread_cond_broadcast(&queue->idle);
        pthread_cond_wait(&queue->more, &queue->lock);
        queue->is_idle = false;
        return true;
    }
    queue->graves = false;
    pthread_mutex_unlock(&queue->lock);
    if (link) {
        list_init(link);
        write_item(disk, CONTAINER_OF(link, struct disk_item, link));
    } else {
        space_bury(disk);
        (void)writing_flush(disk);
    }
    pthread_mutex_lock(&queue->lock);
    return true;
}

void *writer_main(void *arg)
{
    struct disk *disk = arg;
    struct queue *queue = &disk->queue;

    (void)pthread_setname_np(pthread_self(), "disk-writer");
    pthread_mutex_lock(&queue->lock);
    if (!atomic_load(&disk->on))
        set_retry(queue);
    for (;;) {
        if (atomic_load(&disk->on)) {
            if (!run_on(disk))
                break;
        } else if (queue->stopping && !queue->fault) {
            break;
        } else {
            run_off(disk);
        }
    }
    pthread_mutex_unlock(&queue->lock);
    if (atomic_load(&disk->on))
        (void)writing_seal(disk, true);
    return NULL;
}
