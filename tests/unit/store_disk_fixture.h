/* Directories, objects and readers for the tests of the disk tier. Bodies are made from a name and a number, so that every
 * byte of an answer can be checked. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"
#include "store/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KIB = 1024, MIB = 1 << 20 };

static struct workers *pool;
static char home[64];

static inline int setup(void **state)
{
    (void)state;
    (void)snprintf(home, sizeof(home), "/tmp/disk-test-XXXXXX");
    return mkdtemp(home) && workers_new(&pool, 2) == 0 ? 0 : -1;
}

/* Calls `each` for the files of a directory. */
static inline void each_file(const char *path, void (*each)(const char *file, void *arg), void *arg)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    char file[512];

    while (dir && (entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        each(file, arg);
    }
    if (dir)
        (void)closedir(dir);
}

static inline void remove_file(const char *file, void *arg)
{
    (void)arg;
    (void)unlink(file);
}

static inline void remove_folder(const char *path)
{
    each_file(path, remove_file, NULL);
    (void)rmdir(path);
}

static inline int teardown(void **state)
{
    (void)state;
    workers_free(pool);
    remove_folder(home);
    return 0;
}

static inline struct disk_options options_for(const char *path)
{
    return (struct disk_options){
        .path = path,
        .size = 16 * MIB,
        .segment_size = MIB,
        .checkpoint_ms = 3600000,
        .identity = "identity of ours",
        .workers = pool,
    };
}

static inline struct disk *open_with(const struct disk_options *options)
{
    char memory[200];
    struct text reason = TEXT_ON(memory);
    struct disk *disk = NULL;

    assert_int_equal(disk_open(options, &disk, &reason), 0);
    return disk;
}

static inline struct disk *open_at(const char *path)
{
    struct disk_options options = options_for(path);

    return open_with(&options);
}

static inline struct disk_stats stats_of(struct disk *disk)
{
    struct disk_stats stats;

    disk_stats(disk, &stats);
    return stats;
}

/* ---- objects ---- */

static inline uint64_t body_seed(const char *name, unsigned version)
{
    return hash64(view_str(name)) + version * 0x9e3779b97f4a7c15u;
}

static inline char body_byte(uint64_t seed, uint64_t at)
{
    uint64_t x = (at / 8 ^ seed) * 0xff51afd7ed558ccdu;

    return (char)((x ^ x >> 29) >> at % 8 * 8);
}

static inline struct key key_named(const char *name)
{
    return key_of(view_str(name));
}

static inline struct entry_key at_named(const char *name)
{
    struct key key = key_named(name);

    return entry_key_primary(&key);
}

/* A complete object; its version is its response time. */
static inline struct object *make(const char *name, unsigned version, size_t body)
{
    struct key key = key_named(name);
    struct object_parts parts = { .key = key.text,
                                  .url = view_str(name),
                                  .tags = VIEW("tag-a tag-b"),
                                  .head = VIEW("HTTP/1.1 200 OK\r\nETag: \"x\"\r\n"),
                                  .etag_at = 23,
                                  .etag_len = 3,
                                  .body_hint = body };
    struct object *object = object_new(&key, &parts);
    uint64_t seed = body_seed(name, version);

    assert_non_null(object);
    object->status = 200;
    object->complete_len = body;
    object->times =
        (struct object_times){ .response_ms = (int64_t)version, .lifetime_ms = 1000, .last_modified_s = -1 };
    atomic_store(&object->purge_pos, 77);
    atomic_fetch_or(&object->flags, OBJECT_LENGTH_KNOWN);
    for (size_t done = 0, cap; done < body; done += cap) {
        char *at = object_reserve(object, body - done, &cap);

        assert_non_null(at);
        for (size_t i = 0; i < cap; i++)
            at[i] = body_byte(seed, done + i);
        object_commit(object, cap);
    }
    atomic_fetch_or(&object->flags, OBJECT_COMPLETE);
    return object;
}

static inline void put(struct disk *disk, const char *name, unsigned version, size_t body)
{
    struct object *object = make(name, version, body);

    disk_offer(disk, at_named(name), object, DISK_PINNED);
    object_unref(object);
}

static inline void check_head(const struct object *object, const char *name, unsigned version)
{
    assert_true(view_eq(object->key.text, view_str(name)));
    assert_true(view_eq(object_url(object), view_str(name)));
    assert_true(view_eq(object_etag(object), VIEW("\"x\"")));
    assert_true(view_eq(object_tags(object), VIEW("tag-a tag-b")));
    assert_int_equal(object->times.response_ms, version);
    assert_int_equal(atomic_load(&object->purge_pos), 77);
    assert_true(atomic_load(&object->flags) & OBJECT_COMPLETE);
}

static inline void check_bytes(struct view bytes, const char *name, unsigned version, uint64_t from)
{
    uint64_t seed = body_seed(name, version);

    for (size_t i = 0; i < bytes.len; i++)
        if (bytes.ptr[i] != body_byte(seed, from + i))
            fail_msg("%s: byte %zu of version %u is wrong", name, (size_t)from + i, version);
}

/* The whole body, in memory. */
static inline void check_body(struct object *object, const char *name, unsigned version, size_t len)
{
    struct object_cursor cursor = { 0 };
    struct view run;

    assert_int_equal(atomic_load(&object->body_len), len);
    while ((run = object_peek(object, &cursor)).len) {
        check_bytes(run, name, version, cursor.offset);
        object_advance(object, &cursor, run.len);
    }
    assert_int_equal(cursor.offset, len);
}

/* NULL: a miss. */
static inline struct object *get(struct disk *disk, const char *name)
{
    struct key key = key_named(name);
    struct object *object = NULL;
    int r = disk_get_blocking(disk, entry_key_primary(&key), &key, &object);

    assert_true(r == 0 || r == -ENOENT);
    return r == 0 ? object : NULL;
}

static inline bool has(struct disk *disk, const char *name)
{
    return disk_has(disk, at_named(name));
}

/* It is there, in this version, complete and in memory. */
static inline void expect(struct disk *disk, const char *name, unsigned version, size_t body)
{
    struct object *object = get(disk, name);

    if (!object) {
        fail_msg("%s is missing", name);
        return;
    }
    assert_null(object->external);
    check_head(object, name, version);
    check_body(object, name, version, body);
    object_unref(object);
}

static inline void expect_miss(struct disk *disk, const char *name)
{
    assert_null(get(disk, name));
}

/* ---- files ---- */

/* Paths below the test's directory, in static memory. */
static inline const char *sub(const char *name)
{
    static char paths[4][128];
    static unsigned next;

    next = (next + 1) % 4;
    (void)snprintf(paths[next], sizeof(paths[next]), "%s/%s", home, name);
    return paths[next];
}

static inline void copy_file(const char *file, void *to)
{
    char target[512], memory[65536];
    int in = open(file, O_RDONLY), out;
    ssize_t n;

    (void)snprintf(target, sizeof(target), "%s/%s", (const char *)to, strrchr(file, '/') + 1);
    out = open(target, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    while (in >= 0 && (n = read(in, memory, sizeof(memory))) > 0)
        assert_int_equal(write(out, memory, (size_t)n), n);
    close(in);
    close(out);
}

/* What a kill -9 right now would leave behind. */
static inline void copy_folder(const char *from, const char *to)
{
    assert_int_equal(mkdir(to, 0700), 0);
    each_file(from, copy_file, (void *)(uintptr_t)to);
}

static inline void add_size(const char *file, void *sum)
{
    struct stat info;

    if (stat(file, &info) == 0)
        *(uint64_t *)sum += MAX((uint64_t)info.st_size, (uint64_t)info.st_blocks * 512);
}

static inline uint64_t folder_size(const char *path)
{
    uint64_t sum = 0;

    each_file(path, add_size, &sum);
    return sum;
}

/* Out of the page cache, so that reads need a worker. */
static inline void chill(const char *file, void *arg)
{
    int fd = open(file, O_RDONLY);

    (void)arg;
    (void)fdatasync(fd);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

static inline void find_last(const char *file, void *last)
{
    if (strstr(file, ".segment") && strcmp(file, last) > 0)
        (void)snprintf(last, 512, "%s", file);
}

/* The newest segment's path, in static memory. */
static inline char *last_segment(const char *path)
{
    static char last[512];

    last[0] = 0;
    each_file(path, find_last, last);
    assert_true(last[0]);
    return last;
}

/* ---- on a loop ---- */

struct reading {
    struct task task;
    struct disk *disk;
    struct key key;
    struct disk_get *get;
    struct object *object;
    int result;
    bool waited;
};

static inline void reading_run(struct task *task)
{
    struct reading *reading = CONTAINER_OF(task, struct reading, task);

    if (reading->get)
        reading->result = disk_get_result(reading->get, &reading->object);
    else
        reading->result = disk_get(reading->disk, entry_key_primary(&reading->key), &reading->key, task, &reading->get,
                                   &reading->object);
    if (reading->result == -EAGAIN)
        reading->waited = true;
    else
        loop_stop(task->loop);
}

/* As a loop does it: NULL is a miss; *ret_waited: it took a worker. */
static inline struct object *get_on_loop(struct disk *disk, const char *name, bool *ret_waited)
{
    struct reading reading = { .disk = disk, .key = key_named(name) };
    struct loop *loop;

    assert_int_equal(loop_new(&loop, 0), 0);
    task_init(&reading.task, loop, reading_run);
    task_wake(&reading.task);
    loop_run(loop);
    loop_free(loop);
    if (ret_waited)
        *ret_waited = reading.waited;
    assert_true(reading.result == 0 || reading.result == -ENOENT);
    return reading.object;
}

/* ---- reading a body on a loop ---- */

struct streaming {
    struct task task;
    struct disk *disk;
    struct object *object;
    struct disk_stream *stream;
    const char *name;
    unsigned version;
    uint64_t at, end;
    size_t max;
    void (*between)(struct streaming *streaming); /* called once, after the first piece */
    ssize_t result;
    unsigned waits, pieces;
};

static inline void streaming_run(struct task *task)
{
    struct streaming *s = CONTAINER_OF(task, struct streaming, task);
    struct view bytes;

    while (s->at < s->end) {
        s->result = disk_stream_read(s->stream, s->at, MIN(s->max, (size_t)(s->end - s->at)), &bytes);
        if (s->result == -EAGAIN) {
            s->waits++;
            return;
        }
        if (s->result < 0)
            break;
        assert_int_equal(s->result, bytes.len);
        check_bytes(bytes, s->name, s->version, s->at);
        s->at += bytes.len;
        if (s->pieces++ == 0 && s->between)
            s->between(s);
    }
    disk_stream_close(s->stream);
    s->stream = NULL;
    loop_stop(task->loop);
}

/* Reads [from, to) in pieces of `max` and checks every byte. Returns the last result; < 0: an error. */
static inline ssize_t stream_from(struct streaming *s, struct disk *disk, const char *name, unsigned version,
                                  uint64_t from, uint64_t to)
{
    struct loop *loop;
    ssize_t r;

    s->disk = disk;
    s->name = name;
    s->version = version;
    s->at = from;
    s->end = to;
    s->max = s->max ? s->max : 100000;
    s->waits = s->pieces = 0;
    s->result = 0;
    if (!s->object)
        s->object = get(disk, name);
    assert_non_null(s->object);
    assert_non_null(s->object->external);
    assert_int_equal(loop_new(&loop, 0), 0);
    task_init(&s->task, loop, streaming_run);
    r = disk_stream_open(disk, s->object, &s->task, &s->stream);
    if (r < 0) {
        loop_free(loop);
        return r;
    }
    task_wake(&s->task);
    loop_run(loop);
    loop_free(loop);
    return s->result;
}
