/* What the files of the disk tier share; internal to src/store/disk*.c.
 *
 *   thread    owns
 *   loops     lookups, resident reads, streams, offers: short locks only
 *   workers   reads that would block
 *   writer    appends, recycling, switching off and on again; the only one that changes which segments there are
 *   keeper    fdatasync of full segments, checkpoints
 *
 * Locks, outermost first: keeping, queue.lock, then a shard of the index or space.lock. Only `keeping` is held over I/O. */
#pragma once

#include "store/disk.h"
#include "store/disk_crypt.h"
#include "store/disk_index.h"
#include "store/disk_record.h"

#include <pthread.h>
#include <sys/types.h>

#define DISK_BUFFER ((uint32_t)2 << 20)      /* what the writer gathers before it writes */
#define DISK_NOWAIT_MAX ((size_t)256 * 1024) /* read on the loop when resident */
#define DISK_LOST_MAX 4096u                  /* drops remembered while the tier is off */

/* ---- segments (disk_segment.c) ---- */

/* A file. It stays while it has pins, under another name when it was recycled meanwhile. */
struct segment {
    uint32_t seq;
    _Atomic uint32_t size; /* bytes the file takes */
    uint64_t stamp;
    bool encrypted;
    uint8_t key[32];
    char head[SEGMENT_HEAD]; /* as in the file */
    /* under space.lock: */
    int fd;               /* -1: closed for now */
    unsigned pins, users; /* users: of fd, each of them a pin too */
    bool retired;         /* out of the table */
    bool abandoned;       /* the tier was switched off: freed with the last pin, the file is left alone */
    bool sealed, synced;
    struct node link; /* of space.open by last use while fd >= 0; of space.retired */
};

struct space {
    pthread_mutex_t lock;
    struct segment **table; /* by seq, ascending: [first, first + count) */
    uint32_t first, count, cap;
    uint64_t bytes;                            /* of all segment files, retired ones too */
    uint64_t retired_bytes;                    /* of those */
    uint64_t checkpoint_bytes, checkpoint_new; /* of the file, and of the one being written */
    uint64_t ceiling;    /* bytes of segments that fit when the file system was full; 0: no such thing */
    struct node open;    /* segments with a descriptor */
    struct node retired; /* with pins */
    unsigned open_count, open_max;
};

/* ---- the queue (disk_queue.c) ---- */

struct disk_item;
struct disk_body;
struct disk_writer;

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t more; /* for the writer */
    pthread_cond_t idle; /* for disk_settle(): the writer has nothing to do, or is off */
    bool is_idle;
    struct node items, tombstones;
    struct node pending[1024]; /* puts by key, until they are findable */
    uint64_t bytes;
    bool stopping, fault, graves; /* what the writer should look at */
    struct node writers;          /* waiting for room */
    uint64_t (*lost)[2];          /* keys dropped while off */
    uint32_t lost_count;
    bool lost_overflow;
    char trouble[96], notice[128];
    uint32_t done_seq, done_offset; /* everything before is on its way to the disk and findable */
    uint64_t retry_ms, backoff_ms;
};

enum item_kind { ITEM_PUT, ITEM_EXTENT, ITEM_TOMBSTONE };

struct disk_item {
    struct node link, by_key;
    enum item_kind kind;
    uint64_t key[2];
    uint32_t version;
    size_t cost;
    bool cancelled;             /* queue.lock; a drop or a newer put has come */
    struct object *object;      /* of a put */
    struct disk_writer *writer; /* of what a writer sent; a reference */
    char *bytes;                /* of an extent */
    uint32_t len, block;
    bool last;
};

/* ---- bodies in extents ---- */

/* Memory alone: it may outlive the tier. */
struct disk_body {
    struct object_external base;
    uint64_t key[2]; /* of the entry it was read for */
    uint64_t id, len;
    uint32_t count;
    /* A bit for each block that was verified since the body was found: those may be sent straight from the page cache. */
    _Atomic uint64_t *verified;
    struct disk_extent extents[];
};

/* ---- the writer's own (disk_write.c) ---- */

struct batch_entry {
    struct disk_item *item; /* NULL: a record that moves */
    struct disk_slot slot;
    struct disk_slot old; /* where it moves from */
};

struct writing {
    struct segment *current;
    char *buffer;
    uint32_t buffer_at, buffer_len; /* where the buffer goes in `current`, what is in it */
    struct disk_slot *footer;
    uint32_t footer_count, footer_cap;
    struct batch_entry *batch;
    uint32_t batch_count, batch_cap;
    bool urgent; /* a tombstone: room is made at any price */
};

struct sights {
    uint32_t bits; /* of one filter, a power of two */
    atomic_uint count;
    uint64_t *filters[2]; /* words that many threads set bits in: __atomic_*() */
    /* the younger one takes what comes */
    atomic_uint young;
};

struct counters {
    _Atomic uint64_t hits, misses, hits_resident, written, written_bytes, reinserted, reinserted_bytes, evicted,
        dropped, refused_full, refused_admission, corrupt, read_errors, write_errors, switched_off, foreign,
        checkpoints, checkpoints_skipped, open_ms, scanned_bytes;
};

struct disk {
    struct disk_options options; /* sizes filled in; path and key are ours */
    char *path;
    struct disk_crypt *crypt; /* NULL: in clear */
    int dir_fd, lock_fd;      /* writer's; readers of dir_fd hold a pin */
    atomic_bool on;
    uint32_t extent_blocks; /* of a full extent */
    uint32_t next_seq;      /* never used twice in a directory; the writer's */
    struct disk_index *index;
    struct space space;
    struct queue queue;
    struct writing writing;
    struct sights sights;
    struct counters count;
    atomic_uint read_errors_row;
    pthread_mutex_t keeping; /* a keeper's pass, or switching off and on */
    pthread_mutex_t keeper_lock;
    pthread_cond_t keeper_more;
    bool keeper_stop, keeper_kicked;
    uint32_t saved_seq, saved_offset; /* position of the last checkpoint; under keeping */
    pthread_t writer, keeper;
    bool writer_runs, keeper_runs;
    pthread_mutex_t jobs_lock; /* reads on workers; disk_close() waits for them */
    pthread_cond_t jobs_none;
    unsigned jobs;
    struct node reads; /* of struct disk_job: sent to a worker, not yet back on their loop */
};

/* A read by a worker; embedded in what waits for it. */
struct disk_job {
    struct work work;
    struct disk *disk;
    struct node link;
    void (*abandon)(struct disk_job *job); /* disk_close(): no loop will ever handle it */
};

static inline void disk_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* ---- disk.c, disk_run.c ---- */

/* The directory cannot be used: `what` failed with `error`. Any thread. The tier is off when this returns. */
void disk_trouble(struct disk *disk, int error, const char *what);
/* The key as index and files have it. */
void disk_mask(const struct disk *disk, struct entry_key at, uint64_t ret[2]);
/* What tells two versions of an entry apart. Never 0. */
uint32_t disk_version(const struct object *object, uint64_t body_len);
/* Sends a job to a worker; work.run, work.done.handle, work.loop, disk and abandon are set. */
void disk_job_send(struct disk_job *job);
/* The last thing a job does on its worker. */
void disk_job_ran(struct disk_job *job);
/* The first thing it does back on its loop. */
void disk_job_back(struct disk_job *job);

/* ---- disk_segment.c ---- */

int space_init(struct space *space);
void space_release(struct space *space);
/* Adds a segment with the highest seq so far. 0 or -ENOMEM. */
int space_add(struct space *space, struct segment *segment);
struct segment *segment_new(uint32_t seq) must_use;
/* Pinned; NULL when there is no such segment. */
struct segment *segment_pin(struct disk *disk, uint32_t seq);
/* One more pin for a pinned one. */
void segment_unpin(struct disk *disk, struct segment *segment);
/* A descriptor of a pinned segment to read from, until segment_done(). -EAGAIN: not open, and may not block. */
/* With `may_block` false never opens a file. */
int segment_use(struct disk *disk, struct segment *segment, bool may_block);
void segment_done(struct disk *disk, struct segment *segment);
/* All bytes there, or -errno. -EIO when the file ends. */
int file_read(int fd, char *memory, size_t len, uint64_t offset);
int file_write(int fd, const char *bytes, size_t len, uint64_t offset);
/* A new preallocated file with its header. Writer. 0 or -errno. */
int segment_create(struct disk *disk, struct segment **ret);
/* Takes the oldest out of the table and removes its file, at once or with the last pin. Writer. */
void segment_retire_oldest(struct disk *disk);
/* Removes files whose last pin is gone. Writer. */
void space_bury(struct disk *disk);
/* The tier goes off: no segment is known any more, files stay. Writer. */
void space_abandon(struct disk *disk);
/* Is there room for one more segment? */
bool space_has_room(struct disk *disk);
/* Readers hold the oldest segment, and a quarter of the tier in recycled ones already: recycling more would only empty it. */
bool space_is_held(struct disk *disk);
/* The file system is full: what we have now is all we get, until space_lift(). */
void space_ceil(struct disk *disk);
void space_lift(struct disk *disk);
void segment_name(char name[24], uint32_t seq, const char *suffix);
/* The footer of a full segment (heap, the caller's): slots or -errno. */
int segment_footer(int fd, const struct segment *segment, uint32_t file_size, struct disk_slot **ret);
/* Writes footer and trailer; `cut` gives back what is free. Returns the size of the file or -errno. */
int64_t segment_seal(int fd, const struct segment *segment, const struct disk_slot *slots, uint32_t count, uint32_t end,
                     bool cut);

/* ---- disk_queue.c ---- */

int queue_init(struct queue *queue);
void queue_release(struct disk *disk);
/* Frees everything that waits; tombstones are remembered. The tier is off. */
void queue_flush(struct disk *disk);
/* Drops an item that has left the queue: references, bytes, and whoever waits for room is woken. */
void queue_item_free(struct disk *disk, struct disk_item *item);
void queue_push(struct disk *disk, struct disk_item *item);
/* For the writer: something to look at. */
void queue_kick(struct disk *disk);
/* As disk_drop() for a masked key, for records found rotten. */
void queue_drop(struct disk *disk, const uint64_t key[2]);

int sights_init(struct sights *sights, uint64_t objects);
void sights_release(struct sights *sights);
/* Notes the key; true when it was seen before. */
bool sights_seen(struct sights *sights, uint64_t tag);

/* ---- disk_write.c ---- */

int writing_init(struct disk *disk);
void writing_release(struct disk *disk);
/* Room for a record in the buffer of the current segment. NULL: the tier is in trouble, or (with `carry`) it does not fit. */
char *writing_reserve(struct disk *disk, uint32_t size, uint32_t *ret_offset);
int writing_batch(struct disk *disk, struct disk_item *item, const struct disk_slot *slot, const struct disk_slot *old);
/* Notes a record for the footer. */
void writing_note(struct disk *disk, const struct disk_slot *slot);
/* Hands what was gathered to the kernel and makes it findable. 0 or -errno (the tier is in trouble then). */
int writing_flush(struct disk *disk);
void write_item(struct disk *disk, struct disk_item *item);
/* Closes the current segment; `cut`: gives back what is free of it. */
int writing_seal(struct disk *disk, bool cut);
/* Forgets everything gathered. */
void writing_reset(struct disk *disk);
/* One extent: up to EXTENT_BLOCKS_MAX blocks from `bytes`. 0 or -errno. */
int write_extent(struct disk *disk, const uint64_t key[2], uint64_t body_id, uint32_t block, bool last,
                 const char *bytes, uint32_t len, struct disk_extent *ret);
/* A record with this payload, encrypted when the tier is. Returns its slot. 0 or -errno. */
int write_record(struct disk *disk, struct record *record, struct view payload, struct disk_slot *ret);

/* ---- disk_stream_in.c ---- */

/* Writes an extent that a disk_writer sent; ends with a negative errno when the body is lost. Writer. */
int disk_writer_extent(struct disk *disk, struct disk_item *item);
/* The body that was sent, once its last extent is written. Writer. 0 or -errno. */
int disk_writer_body(struct disk_writer *writer, struct disk_body **ret);
void disk_writer_fail(struct disk_writer *writer, int error);
void disk_writer_unref(struct disk_writer *writer);
/* Tells those who wait for room. Under queue.lock. */
void disk_writers_wake(struct queue *queue);

/* ---- disk_recycle.c ---- */

/* Room in the tier, or in the file system, is used up: makes some for a new segment and opens it as the current one; what was used since moves over. 0 or -errno. */
int recycle(struct disk *disk);

/* ---- disk_run.c ---- */

void *writer_main(void *arg);
/* Opens the directory and switches on. Writer, or before there are threads. 0 or -errno, then trouble says why. */
int bring_up(struct disk *disk);

/* ---- disk_recover.c, disk_checkpoint.c ---- */

/* Opens the directory and fills the index; `empty` removes what is there. 0; -errno with *ret_what. Writer, or before there
 * are threads. */
int recover(struct disk *disk, bool empty, const char **ret_what);
/* A checkpoint being read. */
struct checkpoint {
    int fd;
    struct checkpoint_head head;
    uint64_t offset; /* of what is read next */
    uint32_t crc;    /* of the header and the heads of the blocks so far */
    char *memory;    /* for a block */
    char *segments;  /* SAVED_SEGMENT bytes each, by seq */
};

/* Header and segments. -errno: there is no checkpoint that can be used; *ret is as if there were none. */
int checkpoint_open(struct disk *disk, struct checkpoint *ret);
/* Size and header of a segment that was full and synced; NULL when it is not listed. */
const char *checkpoint_segment(const struct checkpoint *checkpoint, uint32_t seq);
/* Fills the index. 0 or -errno. */
int checkpoint_load(struct disk *disk, struct checkpoint *checkpoint);
void checkpoint_close(struct checkpoint *checkpoint);
void *keeper_main(void *arg);
/* Syncs all segments and writes a checkpoint. Under `keeping`. */
void keeper_checkpoint(struct disk *disk);
/* A segment is full. */
void keeper_kick(struct disk *disk);

/* ---- disk_read.c, disk_stream.c ---- */

/* A whole record with its payload in clear, verified against the slot. `bytes` holds at least its header. 0, -EBADMSG, or
 * -ENODATA: *ret_size bytes are needed. */
int decode_record(struct disk *disk, const struct segment *segment, const struct disk_slot *slot, const uint64_t *key,
                  char *bytes, size_t len, struct record *ret, struct view *ret_payload, size_t *ret_size);
struct disk_body *disk_body_of(const struct object *object);
/* Notes that these blocks of the body are what was written. */
void disk_body_verified(struct disk_body *body, uint32_t block, uint32_t count);
bool disk_body_is_verified(const struct disk_body *body, uint32_t block);
struct disk_body *disk_body_new(uint64_t id, uint64_t len, uint32_t count) must_use;
/* The list of an entry's extents, whose segments are all there. 0, -EBADMSG, -ESTALE, -ENOMEM. */
int body_from_list(struct disk *disk, const struct record *record, struct view bytes, struct disk_body **ret);
/* Reads a whole record from `segment`: as decode_record(), into *ret_memory (heap, the caller's). Blocks. */
int read_record(struct disk *disk, struct segment *segment, const struct disk_slot *slot, const uint64_t *key,
                char **ret_memory, struct record *ret, struct view *ret_payload);
/* Blocks [from, from + count) of an extent, verified, to `out`. With `may_block` false -EAGAIN when not resident. */
int read_blocks(struct disk *disk, struct segment *segment, const struct disk_body *body,
                const struct disk_extent *extent, uint32_t from, uint32_t count, char *out, bool may_block);
/* A read failed with `error`. */
void disk_read_failed(struct disk *disk, int error);
