/* The disk tier's life: options, threads, end, and what it tells about itself. */
#include "store/disk.h"

#include "base/heap.h"
#include "store/disk_internal.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define SEGMENT_SIZE_MIN ((uint32_t)256 * 1024)
#define SEGMENT_SIZE_DEFAULT ((uint32_t)8 << 20)
#define SEGMENTS_MIN 4u

void disk_mask(const struct disk *disk, struct entry_key at, uint64_t ret[2])
{
    ret[0] = at.hash[0];
    ret[1] = at.hash[1];
    if (disk->crypt)
        disk_crypt_mask(disk->crypt, ret);
}

uint32_t disk_version(const struct object *object, uint64_t body_len)
{
    uint64_t marks[9] = { (uint64_t)object->times.response_ms,
                          (uint64_t)object->times.initial_age_ms,
                          (uint64_t)object->times.lifetime_ms,
                          object->body_first,
                          body_len,
                          object->generation,
                          object->status,
                          (uint64_t)object->head_len << 32 | object->tags_len,
                          atomic_load(&object->flags) & OBJECT_STORED_FLAGS };
    uint64_t hash = hash64(view_make((const char *)marks, sizeof(marks)));

    if (!object->status)
        hash ^= hash64(object_vary_names(object));
    return (uint32_t)hash | 1;
}

void disk_job_send(struct disk_job *job)
{
    struct disk *disk = job->disk;

    pthread_mutex_lock(&disk->jobs_lock);
    disk->jobs++;
    list_push(&disk->reads, &job->link);
    pthread_mutex_unlock(&disk->jobs_lock);
    workers_submit(disk->options.workers, &job->work);
}

void disk_job_ran(struct disk_job *job)
{
    struct disk *disk = job->disk;

    pthread_mutex_lock(&disk->jobs_lock);
    if (--disk->jobs == 0)
        pthread_cond_broadcast(&disk->jobs_none);
    pthread_mutex_unlock(&disk->jobs_lock);
}

void disk_job_back(struct disk_job *job)
{
    pthread_mutex_lock(&job->disk->jobs_lock);
    list_remove(&job->link);
    pthread_mutex_unlock(&job->disk->jobs_lock);
}

/* Reads whose loops have stopped before they came back. */
static void abandon_jobs(struct disk *disk)
{
    struct node *link;

    pthread_mutex_lock(&disk->jobs_lock);
    while (disk->jobs)
        pthread_cond_wait(&disk->jobs_none, &disk->jobs_lock);
    pthread_mutex_unlock(&disk->jobs_lock);
    while ((link = list_pop(&disk->reads))) {
        struct disk_job *job = CONTAINER_OF(link, struct disk_job, link);

        job->abandon(job);
    }
}

/* ---- opening ---- */

/* Of a full extent: it should not take more than a quarter of a segment. */
static uint32_t blocks_for(uint32_t segment_size)
{
    uint32_t blocks = EXTENT_BLOCKS_MAX;

    while (blocks > 1 && blocks * BLOCK_SIZE + 1024 > segment_size / 4)
        blocks /= 2;
    return blocks;
}

/* Fills in what is 0. */
static int settle_options(struct disk_options *options, struct text *reason)
{
    uint64_t per_extent, list_max;

    if (!options->path || !options->path[0]) {
        text_lit(reason, "disk: no directory");
        return -EINVAL;
    }
    if (!options->segment_size) {
        options->segment_size = SEGMENT_SIZE_DEFAULT;
        while (options->segment_size > SEGMENT_SIZE_MIN && options->size / 8 < options->segment_size)
            options->segment_size /= 2;
    }
    if (options->segment_size < SEGMENT_SIZE_MIN || options->segment_size > SEGMENT_SIZE_MAX ||
        options->segment_size % 4096) {
        text_lit(reason, "disk: a segment is 256 KiB to 16 MiB, in pages");
        return -EINVAL;
    }
    if (options->size < (uint64_t)SEGMENTS_MIN * options->segment_size) {
        text_printf(reason, "disk: the size must hold %u segments of %u KiB", SEGMENTS_MIN,
                    options->segment_size / 1024);
        return -EINVAL;
    }
    per_extent = blocks_for(options->segment_size) * BLOCK_SIZE;
    list_max = (options->segment_size / 8) / EXTENT_LIST_ITEM;
    options->max_object = options->max_object ? options->max_object : (uint64_t)1 << 30;
    /* A body may not push its own beginning out, and the list of its extents is one record. */
    options->max_object = MIN(MIN(options->max_object, options->size / 4), list_max * per_extent);
    options->inline_max = options->inline_max ? options->inline_max : (uint64_t)1 << 20;
    options->inline_max = MIN(MIN(options->inline_max, options->segment_size / 8), (uint64_t)DISK_BUFFER / 2);
    options->queue_max = options->queue_max ? options->queue_max : (uint64_t)64 << 20;
    options->checkpoint_ms = options->checkpoint_ms ? options->checkpoint_ms : 30000;
    return 0;
}

static void disk_free(struct disk *disk)
{
    writing_release(disk);
    queue_release(disk);
    space_release(&disk->space);
    sights_release(&disk->sights);
    disk_index_free(disk->index);
    disk_crypt_free(disk->crypt);
    if (disk->lock_fd >= 0)
        close(disk->lock_fd);
    if (disk->dir_fd >= 0)
        close(disk->dir_fd);
    heap_free(disk->path);
    pthread_mutex_destroy(&disk->keeping);
    pthread_mutex_destroy(&disk->keeper_lock);
    pthread_mutex_destroy(&disk->jobs_lock);
    pthread_cond_destroy(&disk->keeper_more);
    pthread_cond_destroy(&disk->jobs_none);
    heap_free(disk);
}

/* Locks and lists first, so that disk_free() works from here on. */
static int init_parts(struct disk *disk)
{
    pthread_condattr_t attr;
    int r;

    disk->dir_fd = disk->lock_fd = -1;
    disk->next_seq = 1;
    list_init(&disk->reads);
    pthread_mutex_init(&disk->keeping, NULL);
    pthread_mutex_init(&disk->keeper_lock, NULL);
    pthread_mutex_init(&disk->jobs_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&disk->keeper_more, &attr);
    pthread_condattr_destroy(&attr);
    pthread_cond_init(&disk->jobs_none, NULL);
    (void)space_init(&disk->space);
    r = queue_init(&disk->queue);
    disk->index = disk_index_new();
    disk->path = heap_strdup(disk->options.path, strlen(disk->options.path));
    if (!disk->index || !disk->path)
        r = -ENOMEM;
    if (r == 0)
        r = sights_init(&disk->sights, disk->options.size / 8192);
    if (r == 0)
        r = writing_init(disk);
    if (r == 0 && disk->options.key && !(disk->crypt = disk_crypt_new(disk->options.key)))
        r = -ENOMEM;
    disk->options.path = disk->path;
    disk->options.key = NULL;
    return r;
}

static void stop_threads(struct disk *disk)
{
    if (disk->keeper_runs) {
        pthread_mutex_lock(&disk->keeper_lock);
        disk->keeper_stop = true;
        pthread_cond_signal(&disk->keeper_more);
        pthread_mutex_unlock(&disk->keeper_lock);
        pthread_join(disk->keeper, NULL);
    }
    if (disk->writer_runs) {
        pthread_mutex_lock(&disk->queue.lock);
        disk->queue.stopping = true;
        pthread_cond_signal(&disk->queue.more);
        pthread_mutex_unlock(&disk->queue.lock);
        pthread_join(disk->writer, NULL);
    }
}

int disk_open(const struct disk_options *options, struct disk **ret, struct text *reason)
{
    struct disk_options settled = *options;
    struct disk *disk;
    int r = settle_options(&settled, reason);

    if (r < 0)
        return r;
    disk = heap_zalloc(sizeof(*disk));
    if (!disk)
        return -ENOMEM;
    disk->options = settled;
    disk->extent_blocks = blocks_for(settled.segment_size);
    r = init_parts(disk);
    if (r == 0) {
        (void)bring_up(disk);
        disk->writer_runs = pthread_create(&disk->writer, NULL, writer_main, disk) == 0;
        disk->keeper_runs = pthread_create(&disk->keeper, NULL, keeper_main, disk) == 0;
        r = disk->writer_runs && disk->keeper_runs ? 0 : -ENOMEM;
    }
    if (r < 0) {
        stop_threads(disk);
        disk_free(disk);
        return r;
    }
    *ret = disk;
    return 0;
}

void disk_close(struct disk *disk)
{
    if (!disk)
        return;
    stop_threads(disk);
    abandon_jobs(disk);
    keeper_checkpoint(disk);
    disk_free(disk);
}

/* ---- telling ---- */

void disk_stats(struct disk *disk, struct disk_stats *ret)
{
    const struct counters *count = &disk->count;
    struct disk_stats stats = { .size = disk->options.size };

#define COPY(name) stats.name = atomic_load_explicit(&count->name, memory_order_relaxed)
    COPY(hits), COPY(misses), COPY(hits_resident), COPY(written), COPY(written_bytes), COPY(reinserted);
    COPY(reinserted_bytes), COPY(evicted), COPY(dropped), COPY(refused_full), COPY(refused_admission), COPY(corrupt);
    COPY(read_errors), COPY(write_errors), COPY(switched_off), COPY(foreign), COPY(checkpoints);
    COPY(checkpoints_skipped), COPY(open_ms), COPY(scanned_bytes);
#undef COPY
    disk_index_count(disk->index, &stats.objects, &stats.live_bytes, &stats.index_bytes);
    pthread_mutex_lock(&disk->queue.lock);
    stats.on = atomic_load(&disk->on);
    memcpy(stats.trouble, disk->queue.trouble, sizeof(stats.trouble));
    memcpy(stats.notice, disk->queue.notice, sizeof(stats.notice));
    stats.queued_bytes = disk->queue.bytes;
    pthread_mutex_unlock(&disk->queue.lock);
    pthread_mutex_lock(&disk->space.lock);
    stats.bytes = disk->space.bytes + disk->space.checkpoint_bytes + disk->space.checkpoint_new;
    stats.segments = disk->space.count;
    stats.index_bytes += disk->space.cap * sizeof(void *) + disk->space.count * sizeof(struct segment);
    pthread_mutex_unlock(&disk->space.lock);
    *ret = stats;
}
