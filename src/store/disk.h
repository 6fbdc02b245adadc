/* The disk tier: responses by key in append-only segment files. What is here may be lost, is never wrong: every block carries
 * a CRC-32C (or a GCM tag) that is checked before the bytes are used, and a failed check is a miss.
 *
 * Reads that can block run on the worker pool and come back to a task; writing is the business of two threads of the tier.
 * The functions below never block (but disk_open(), disk_close() and those that say so). When the directory cannot be used (full, read-only, EIO, removed) the tier is off: lookups
 * miss, writes are refused, and it tries again with growing pauses; clients see nothing of it.
 *
 * Bodies up to `inline_max` are read whole into an object. Larger ones come as an object without chunks whose `external`
 * says where its body lies; disk_stream_*() reads it piece by piece, from any offset. */
#pragma once

#include "base/text.h"
#include "loop/work.h"
#include "store/entry.h"

#include <sys/types.h>

struct disk;

struct disk_options {
    const char *path;       /* directory; made when missing */
    uint64_t size;          /* bytes of all files together, hard */
    uint32_t segment_size;  /* bytes; 0: 8 MiB */
    uint64_t max_object;    /* body bytes; 0: 1 GiB */
    uint64_t inline_max;    /* see above; 0: 1 MiB */
    uint64_t checkpoint_ms; /* 0: 30 s */
    uint64_t queue_max;     /* bytes that may wait to be written; 0: 64 MiB */
    const uint8_t *key;     /* 32 bytes for AES-256-GCM, copied; NULL: in clear */
    uint8_t identity[16];   /* of the node's durable state; what was written under another is not trusted: it goes */
    struct workers *workers;
};

/* Reads the checkpoint and scans what was written since. An unusable directory is no failure (the tier starts off and keeps
 * trying); 0, -ENOMEM, -EINVAL with the reason appended (options that can never work). */
int disk_open(const struct disk_options *options, struct disk **ret, struct text *reason);
/* Writes what is queued and a checkpoint. No other thread uses the tier any more, and the loops have stopped: reads that did
 * not come back to their loop are released. When there may be such reads, free the workers first (nothing here needs them).
 * NULL is fine. */
void disk_close(struct disk *disk);

/* ---- looking up; on a loop's thread ---- */

/* From the index alone: false means surely not here. No I/O, no lock that waits for I/O. */
bool disk_has(struct disk *disk, struct entry_key at);

struct disk_get; /* a read under way */

/* Reads the entry at `at`, which must be of `key` (compared in full). 0 and *ret_object (one reference, complete or external)
 * when the bytes were in the page cache; -ENOENT; -EAGAIN and *ret_get: `task` is woken, then disk_get_result(). An
 * ENTRY_VARY comes as an object with status 0, its names in object_vary_names() and the generation in object->generation.
 * Position and times are as stored. */
int disk_get(struct disk *disk, struct entry_key at, const struct key *key, struct task *task,
             struct disk_get **ret_get, struct object **ret_object);
/* As disk_get(), but waits for the disk: for tests, tools and measurements. */
int disk_get_blocking(struct disk *disk, struct entry_key at, const struct key *key, struct object **ret_object);
/* As above: -EAGAIN while it runs; any other answer ends the read. */
int disk_get_result(struct disk_get *get, struct object **ret_object);
/* The caller does not want the answer any more; the task is not woken. NULL is fine. */
void disk_get_cancel(struct disk_get *get);

/* ---- bodies on disk; on one loop's thread ---- */

struct disk_stream;

/* For an external object. Keeps the files it needs open, also when their segments are recycled meanwhile. 0; -ESTALE: the body
 * is not there any more; -ENOMEM. */
int disk_stream_open(struct disk *disk, struct object *object, struct task *task, struct disk_stream **ret);
/* Up to `max` (> 0) verified bytes at `offset` (< body_len) of the body, borrowed until the next call. > 0; -EAGAIN: the task
 * is woken; -EIO: the bytes are not what was written. Reads ahead while offsets follow each other. */
ssize_t disk_stream_read(struct disk_stream *stream, uint64_t offset, size_t max, struct view *ret);
/* Bytes at `offset` that were verified before, since the body was found, and are in the page cache: to be sent with sendfile()
 * from *ret_fd at *ret_at, which stay good until the next call on the stream, whatever happens to the tier. > 0: how many; 0: none
 * that way, see disk_stream_read(). */
ssize_t disk_stream_span(struct disk_stream *stream, uint64_t offset, size_t max, int *ret_fd, off_t *ret_at);
void disk_stream_close(struct disk_stream *stream);

/* ---- writing ---- */

enum disk_reason {
    DISK_FILLED,  /* a fill is complete: taken on second sight, or when immutable */
    DISK_EVICTED, /* leaves memory: taken with two uses or more */
    DISK_PINNED,  /* the route wants it kept */
};
/* Any thread; returns at once. Takes its own reference; written by a thread of the tier. Dropped and counted when the queue is
 * full. Objects already here unchanged are not written again. */
void disk_offer(struct disk *disk, struct entry_key at, struct object *object, enum disk_reason reason);
/* The names and generation of a key that has variants. Any thread. */
void disk_put_vary(struct disk *disk, const struct key *key, struct view vary_names, uint64_t generation,
                   uint64_t position);
/* A freshened head for a body that is on disk already (object->external set). Any thread. */
void disk_put_head(struct disk *disk, struct entry_key at, struct object *object);
/* The entry is not found from now on, also not after a kill -9 and restart (a tombstone is written at once, not synced). Any
 * thread; returns at once. */
void disk_drop(struct disk *disk, struct entry_key at);

struct disk_writer; /* a body too large for memory, written while it arrives; one loop's thread */

/* `object` has its head, times and texts; its body may be of unknown length. 0; -ENOSPC, -EIO: not now; -ENOMEM. */
int disk_writer_new(struct disk *disk, struct entry_key at, struct object *object, struct task *task,
                    struct disk_writer **ret);
/* Copies. 0; -EAGAIN: nothing taken, the task is woken when there is room; -EIO, -ENOSPC, -EFBIG: give up (abort). */
int disk_writer_append(struct disk_writer *writer, struct view bytes);
/* The object is complete (flags, complete_len): makes it findable once everything is written. Ends the writer. */
void disk_writer_commit(struct disk_writer *writer);
/* NULL is fine. */
void disk_writer_abort(struct disk_writer *writer);

/* Waits until everything offered and dropped before is written, or the tier is off: for tests and tools. */
void disk_settle(struct disk *disk);
/* Writes a checkpoint now, in the caller's thread: for tests and tools. */
void disk_checkpoint(struct disk *disk);

/* ---- what it is doing ---- */

struct disk_stats {
    bool on;              /* false: switched itself off */
    char trouble[96];     /* why, "" when on */
    char notice[128];     /* what was removed at the last start, and why (another key, another node): for the log; "" */
    uint64_t size, bytes; /* limit, and what the files take */
    uint64_t live_bytes;  /* of records that can be found */
    uint64_t objects, segments, index_bytes;
    uint64_t hits, misses, hits_resident; /* the last: answered without a worker */
    uint64_t written, written_bytes, reinserted, reinserted_bytes, evicted, dropped, refused_full, refused_admission;
    uint64_t foreign; /* segments removed that were written under another key, identity or format */
    uint64_t checkpoints, checkpoints_skipped; /* the latter: no room; the next start reads footers instead */
    uint64_t queued_bytes;                     /* that wait to be written */
    uint64_t corrupt, read_errors, write_errors, switched_off;
    uint64_t open_ms;       /* what disk_open() took */
    uint64_t scanned_bytes; /* of that, read because no checkpoint covered it */
};
void disk_stats(struct disk *disk, struct disk_stats *ret);
