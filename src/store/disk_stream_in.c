/* Bodies that are written while they arrive: pieces of an extent's size go to the writer through the queue; the head follows
 * behind the last, so an unfinished body is never found.
 *
 * The struct is shared by the loop, the queued pieces and a message on its way: a count of references. */
#include "store/disk_internal.h"

#include "base/heap.h"

#include <errno.h>
#include <sys/random.h>

struct disk_writer {
    atomic_uint refs;
    struct disk *disk;
    uint64_t key[2];
    uint64_t id;
    atomic_int error; /* positive errno: the body is lost */
    /* the loop's: */
    struct object *object;
    struct task *task;
    bool closed;
    char *piece;
    uint32_t len, block;
    uint64_t total;
    /* the writer's: */
    struct disk_extent *extents;
    uint32_t count, cap;
    uint64_t written;
    /* under queue.lock: */
    struct node waiting;
    struct message room;
    atomic_bool posted; /* `room` is on its way */
};

void disk_writer_unref(struct disk_writer *writer)
{
    if (atomic_fetch_sub_explicit(&writer->refs, 1, memory_order_acq_rel) != 1)
        return;
    object_unref(writer->object);
    heap_free(writer->piece);
    heap_free(writer->extents);
    heap_free(writer);
}

static struct disk_writer *writer_ref(struct disk_writer *writer)
{
    atomic_fetch_add_explicit(&writer->refs, 1, memory_order_relaxed);
    return writer;
}

void disk_writer_fail(struct disk_writer *writer, int error)
{
    atomic_store(&writer->error, error);
}

/* ---- the loop's side ---- */

static void room_came(struct loop *loop, struct message *message)
{
    struct disk_writer *writer = CONTAINER_OF(message, struct disk_writer, room);

    (void)loop;
    atomic_store(&writer->posted, false);
    if (!writer->closed)
        task_wake(writer->task);
    disk_writer_unref(writer);
}

void disk_writers_wake(struct queue *queue)
{
    struct node *link;

    while ((link = list_pop(&queue->writers))) {
        struct disk_writer *writer = CONTAINER_OF(link, struct disk_writer, waiting);

        if (atomic_exchange(&writer->posted, true))
            continue;
        writer_ref(writer);
        loop_post(writer->task->loop, &writer->room);
    }
}

int disk_writer_new(struct disk *disk, struct entry_key at, struct object *object, struct task *task,
                    struct disk_writer **ret)
{
    struct disk_writer *writer;

    if (!atomic_load(&disk->on))
        return -EIO;
    writer = heap_zalloc(sizeof(*writer));
    if (!writer)
        return -ENOMEM;
    if (getrandom(&writer->id, sizeof(writer->id), 0) != sizeof(writer->id)) {
        heap_free(writer);
        return -EIO;
    }
    atomic_init(&writer->refs, 1);
    writer->disk = disk;
    writer->object = object_ref(object);
    writer->task = task;
    writer->room.handle = room_came;
    list_init(&writer->waiting);
    disk_mask(disk, at, writer->key);
    *ret = writer;
    return 0;
}

/* Sends the piece. 0 or -ENOMEM. */
static int send_piece(struct disk_writer *writer, bool last)
{
    struct disk_item *item = heap_zalloc(sizeof(*item));

    if (!item)
        return -ENOMEM;
    item->kind = ITEM_EXTENT;
    item->writer = writer_ref(writer);
    item->key[0] = writer->key[0];
    item->key[1] = writer->key[1];
    item->bytes = writer->piece;
    item->len = writer->len;
    item->block = writer->block;
    item->last = last;
    item->cost = sizeof(*item) + writer->len;
    writer->block += extent_blocks(writer->len);
    writer->piece = NULL;
    writer->len = 0;
    queue_push(writer->disk, item);
    return 0;
}

/* True when `bytes` more may be queued; otherwise the task is woken when they may. */
static bool may_send(struct disk_writer *writer, size_t bytes)
{
    struct queue *queue = &writer->disk->queue;
    bool may;

    pthread_mutex_lock(&queue->lock);
    may = queue->bytes == 0 || queue->bytes + bytes <= writer->disk->options.queue_max;
    if (!may && !list_linked(&writer->waiting))
        list_push(&queue->writers, &writer->waiting);
    pthread_mutex_unlock(&queue->lock);
    return may;
}

int disk_writer_append(struct disk_writer *writer, struct view bytes)
{
    uint32_t cap = (uint32_t)(writer->disk->extent_blocks * BLOCK_SIZE);
    int error = atomic_load(&writer->error);

    if (error)
        return -error;
    if (writer->total + bytes.len > writer->disk->options.max_object)
        return -EFBIG;
    if (writer->len + bytes.len > cap && !may_send(writer, writer->len + bytes.len))
        return -EAGAIN;
    while (bytes.len) {
        size_t n;

        if (writer->len == cap && send_piece(writer, false) < 0)
            break;
        if (!writer->piece) {
            writer->piece = heap_alloc(cap);
            if (!writer->piece)
                break;
        }
        n = MIN(bytes.len, (size_t)(cap - writer->len));
        memcpy(writer->piece + writer->len, bytes.ptr, n);
        writer->len += (uint32_t)n;
        writer->total += n;
        bytes = view_skip(bytes, n);
    }
    if (bytes.len == 0)
        return 0;
    atomic_store(&writer->error, ENOMEM);
    return -ENOMEM;
}

void disk_writer_commit(struct disk_writer *writer)
{
    struct disk_item *item = heap_zalloc(sizeof(*item));

    writer->closed = true;
    if (item && !atomic_load(&writer->error) && atomic_load(&writer->disk->on) &&
        (writer->len == 0 || send_piece(writer, true) == 0)) {
        item->kind = ITEM_PUT;
        item->key[0] = writer->key[0];
        item->key[1] = writer->key[1];
        item->version = disk_version(writer->object, writer->total);
        item->object = object_ref(writer->object);
        item->writer = writer->total ? writer_ref(writer) : NULL;
        item->cost = sizeof(*item) + writer->object->head_len;
        queue_push(writer->disk, item);
        item = NULL;
    }
    heap_free(item);
    disk_writer_abort(writer);
}

void disk_writer_abort(struct disk_writer *writer)
{
    if (!writer)
        return;
    writer->closed = true;
    pthread_mutex_lock(&writer->disk->queue.lock);
    list_remove(&writer->waiting);
    pthread_mutex_unlock(&writer->disk->queue.lock);
    disk_writer_unref(writer);
}

/* ---- the writer's side ---- */

int disk_writer_extent(struct disk *disk, struct disk_item *item)
{
    struct disk_writer *writer = item->writer;
    int r = 0;

    if (atomic_load(&writer->error))
        return -EIO;
    if (writer->count == writer->cap) {
        uint32_t cap = writer->cap ? writer->cap * 2 : 16;
        struct disk_extent *extents = heap_resize(writer->extents, cap * sizeof(*extents));

        if (extents) {
            writer->extents = extents;
            writer->cap = cap;
        } else {
            r = -ENOMEM;
        }
    }
    if (r == 0)
        r = write_extent(disk, item->key, writer->id, item->block, item->last, item->bytes, item->len,
                         &writer->extents[writer->count]);
    if (r < 0) {
        disk_writer_fail(writer, -r);
        return r;
    }
    writer->count++;
    writer->written += item->len;
    return 0;
}

int disk_writer_body(struct disk_writer *writer, struct disk_body **ret)
{
    struct disk_body *body;

    if (atomic_load(&writer->error) || writer->count == 0)
        return -EIO;
    body = disk_body_new(writer->id, writer->written, writer->count);
    if (!body)
        return -ENOMEM;
    memcpy(body->extents, writer->extents, writer->count * sizeof(*body->extents));
    *ret = body;
    return 0;
}
