/* What the disk tier costs, beside one file for each object, in the same run and directory.
 *
 *     build/bench/disk [DIRECTORY [OBJECTS [MEGABYTES [THREADS]]]]     default /tmp/doorstep-disk 200000 980 4
 *
 * Stores that many objects (sizes log-normal; the megabytes are those of the stored entries, head, key and times included; a
 * file holds the same bytes), then prints bytes on disk, random reads a second with a cold and a warm page cache, and how long a start takes: with the checkpoint, by footers, by walking every
 * record, and for files by walking the directories and reading each head. Cold needs root (drop_caches); otherwise the files
 * are dropped from the cache one by one. BENCH_KEY=1 encrypts. */
#include "base/heap.h"
#include "store/disk.h"
#include "store/disk_record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 16, READ_SECONDS = 3, COLD_READS = 20000 };

static const char head[] =
    "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 05:00:00 GMT\r\nContent-Type: text/html; charset=utf-8\r\n"
    "Cache-Control: max-age=3600\r\nETag: \"5f3c-1a2b3c4d5e6f\"\r\nServer: demo\r\n";
static const char *root = "/tmp/doorstep-disk";
static unsigned long objects = 200000, megabytes = 980;
static unsigned threads = 4;
static char *page; /* bytes to fill bodies with */
static double scale = 1;
static size_t overhead; /* of an entry without its body */
static struct workers *pool;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
    return x ^ x >> 33;
}

/* Of the whole response; the mean is made right by `scale`. */
static size_t size_of(uint64_t id)
{
    double u = ((double)(mix(id) >> 40) + 1) / 16777217.0, v = (double)(mix(~id) >> 40) / 16777216.0;
    double size = scale * exp(sqrt(-2 * log(u)) * cos(6.283185307 * v));

    return (size_t)MIN(MAX(size, 500.0), 1000000.0);
}

static void find_scale(void)
{
    double low = 100, high = 100000;

    for (int i = 0; i < 40; i++) {
        double sum = 0;

        scale = (low + high) / 2;
        for (unsigned long id = 0; id < objects; id++)
            sum += (double)size_of(id);
        if (sum < (double)megabytes * 1e6)
            low = scale;
        else
            high = scale;
    }
}

static struct key key_for(char memory[96], uint64_t id)
{
    int len = snprintf(memory, 96, "6:public4:http11:example.org21:/assets/%08llx.html0:", (unsigned long long)mix(id));

    return key_of(view_make(memory, (size_t)len));
}

static struct object *make(uint64_t id)
{
    char name[96], url[64];
    struct key key = key_for(name, id);
    size_t size = size_of(id), body = size - MIN(size, overhead);
    int url_len = snprintf(url, sizeof(url), "http://example.org/assets/%08llx.html", (unsigned long long)mix(id));
    struct object_parts parts = {
        .key = key.text, .url = view_make(url, (size_t)url_len), .head = VIEW(head), .body_hint = body
    };
    struct object *object = object_new(&key, &parts);

    if (!object)
        exit(1);
    object->status = 200;
    object->complete_len = body;
    object->times = (struct object_times){ .response_ms = 1, .lifetime_ms = 3600000 };
    for (size_t done = 0, cap; done < body; done += cap) {
        char *at = object_reserve(object, body - done, &cap);

        if (!at)
            exit(1);
        memcpy(at, page + done, cap);
        object_commit(object, cap);
    }
    atomic_fetch_or(&object->flags, OBJECT_COMPLETE | OBJECT_LENGTH_KNOWN);
    return object;
}

/* ---- the file system ---- */

static unsigned long long used_bytes;
static unsigned long walked;

/* Calls `each` for every file below `path`, two levels deep at most. */
static void walk(const char *path, int depth, void (*each)(const char *file))
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    char file[1200];

    while (dir && (entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        if (entry->d_type == DT_DIR && depth > 0)
            walk(file, depth - 1, each);
        each(file);
    }
    if (dir)
        (void)closedir(dir);
}

static void add_used(const char *file)
{
    struct stat info;

    if (lstat(file, &info) == 0)
        used_bytes += (unsigned long long)info.st_blocks * 512;
}

static void forget_file(const char *file)
{
    int fd = open(file, O_RDONLY);

    if (fd < 0)
        return;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

static void remove_any(const char *file)
{
    if (unlink(file) < 0)
        (void)rmdir(file);
}

/* What a start does that knows nothing: looks at every file and reads its head. */
static void read_head(const char *file)
{
    char bytes[512];
    int fd = open(file, O_RDONLY);

    if (fd < 0)
        return;
    if (read(fd, bytes, sizeof(bytes)) > 0)
        walked++;
    close(fd);
}

static void chill(const char *path)
{
    int fd;

    sync();
    fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
    if (fd >= 0 && write(fd, "3", 1) == 1) {
        close(fd);
        return;
    }
    if (fd >= 0)
        close(fd);
    walk(path, 1, forget_file);
}

/* ---- reading ---- */

struct reader {
    pthread_t thread;
    struct disk *disk; /* NULL: files */
    uint64_t seed;
    unsigned long reads, missing, limit;
};

static const char *file_for(char memory[600], uint64_t id)
{
    (void)snprintf(memory, 600, "%s/files/%02x/%08llx", root, (unsigned)(mix(id) & 255), (unsigned long long)id);
    return memory;
}

static bool read_one(struct reader *reader, uint64_t id, char *memory)
{
    char name[600];
    struct object *object;
    struct key key;
    ssize_t n;
    int fd;

    if (reader->disk) {
        key = key_for(name, id);
        if (disk_get_blocking(reader->disk, entry_key_primary(&key), &key, &object) < 0)
            return false;
        object_unref(object);
        return true;
    }
    fd = open(file_for(name, id), O_RDONLY);
    if (fd < 0)
        return false;
    n = read(fd, memory, 1 << 20);
    close(fd);
    return n > 0;
}

static void *read_main(void *arg)
{
    struct reader *reader = arg;
    double end = now() + READ_SECONDS;
    char *memory = malloc(1 << 20);

    while (memory && reader->reads < reader->limit && now() < end) {
        reader->seed = mix(reader->seed + 1);
        if (!read_one(reader, reader->seed % objects, memory))
            reader->missing++;
        reader->reads++;
    }
    free(memory);
    return NULL;
}

static double reads_per_second(struct disk *disk, unsigned long limit)
{
    struct reader readers[THREADS_MAX] = { 0 };
    unsigned long reads = 0, missing = 0;
    double start = now();

    for (unsigned i = 0; i < threads; i++) {
        readers[i].disk = disk;
        readers[i].limit = limit / threads;
        readers[i].seed = mix((uint64_t)(start * 1e6)) + i;
        if (pthread_create(&readers[i].thread, NULL, read_main, &readers[i]) != 0)
            exit(1);
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(readers[i].thread, NULL);
        reads += readers[i].reads;
        missing += readers[i].missing;
    }
    if (missing)
        printf("  (%lu of %lu reads found nothing)\n", missing, reads);
    return (double)reads / (now() - start);
}

/* ---- the two ---- */

struct result {
    double megabytes, write_s, cold_reads, warm_reads, start_s, start_warm_s, footers_s, walk_s, index_bytes;
};

static struct disk *open_tier(const char *path)
{
    static const uint8_t key[32] = "not a secret: it is in the text";
    struct disk_options options = { .path = path,
                                    .size = (uint64_t)megabytes * 2000000 + (64 << 20),
                                    .key = getenv("BENCH_KEY") ? key : NULL,
                                    .workers = pool };
    char memory[200];
    struct text reason = TEXT_ON(memory);
    struct disk *disk;

    if (disk_open(&options, &disk, &reason) < 0) {
        fprintf(stderr, "%s\n", text_str(&reason));
        exit(1);
    }
    return disk;
}

static double time_open(const char *path, struct disk **ret)
{
    double start;

    chill(path);
    start = now();
    *ret = open_tier(path);
    return now() - start;
}

/* So that the next start has to look at every record. */
static void spoil_footer(const char *file)
{
    struct stat info;
    int fd = strstr(file, ".segment") ? open(file, O_RDWR) : -1;

    if (fd < 0)
        return;
    if (fstat(fd, &info) < 0 || pwrite(fd, "x", 1, info.st_size - (off_t)SEGMENT_TRAILER) != 1)
        exit(1);
    close(fd);
}

static void measure_tier(const char *path, struct result *ret)
{
    struct disk *disk;
    struct disk_stats stats;
    char file[1200];
    double start;

    (void)mkdir(path, 0700);
    disk = open_tier(path);
    start = now();
    for (unsigned long id = 0; id < objects; id++) {
        struct object *object = make(id);
        char name[96];
        struct key key = key_for(name, id);

        disk_offer(disk, entry_key_primary(&key), object, DISK_PINNED);
        object_unref(object);
        if (id % 2000 == 1999)
            disk_settle(disk);
    }
    disk_settle(disk);
    disk_stats(disk, &stats);
    disk_close(disk);
    ret->write_s = now() - start;
    ret->index_bytes = (double)stats.index_bytes / (double)stats.objects;
    used_bytes = 0;
    walk(path, 0, add_used);
    ret->megabytes = (double)used_bytes / 1e6;
    start = now();
    disk = open_tier(path);
    ret->start_warm_s = now() - start;
    disk_close(disk);
    ret->start_s = time_open(path, &disk);
    disk_stats(disk, &stats);
    if (stats.objects != objects)
        printf("  (%llu objects of %lu after the start)\n", (unsigned long long)stats.objects, objects);
    chill(path);
    ret->cold_reads = reads_per_second(disk, COLD_READS);
    (void)reads_per_second(disk, ULONG_MAX);
    ret->warm_reads = reads_per_second(disk, ULONG_MAX);
    disk_close(disk);

    (void)snprintf(file, sizeof(file), "%s/checkpoint", path);
    (void)unlink(file);
    ret->footers_s = time_open(path, &disk);
    disk_close(disk);
    (void)unlink(file);
    walk(path, 0, spoil_footer);
    ret->walk_s = time_open(path, &disk);
    disk_stats(disk, &stats);
    if (stats.objects != objects)
        printf("  (%llu objects of %lu after the walk)\n", (unsigned long long)stats.objects, objects);
    disk_close(disk);
}

static void write_file(uint64_t id)
{
    char name[600];
    int fd = open(file_for(name, id), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    struct object *object = make(id);
    struct object_cursor cursor = { 0 };
    struct entry entry;
    char *memory = malloc(1 << 20);
    size_t len;
    struct view run;

    if (fd < 0 || !memory)
        exit(1);
    entry_of(object, &entry);
    len = entry_head_len(&entry);
    entry_put(&entry, 0, memory);
    while ((run = object_peek(object, &cursor)).len) {
        memcpy(memory + len, run.ptr, run.len);
        len += run.len;
        object_advance(object, &cursor, run.len);
    }
    if (write(fd, memory, len) != (ssize_t)len)
        exit(1);
    close(fd);
    free(memory);
    object_unref(object);
}

static void find_overhead(void)
{
    struct object *object = make(0);
    struct entry entry;

    entry_of(object, &entry);
    overhead = entry_head_len(&entry);
    object_unref(object);
}

static void measure_files(const char *path, struct result *ret)
{
    char folder[1200];
    double start = now();

    (void)mkdir(path, 0700);
    for (unsigned i = 0; i < 256; i++) {
        (void)snprintf(folder, sizeof(folder), "%s/%02x", path, i);
        (void)mkdir(folder, 0700);
    }
    for (unsigned long id = 0; id < objects; id++)
        write_file(id);
    sync();
    ret->write_s = now() - start;
    used_bytes = 0;
    walk(path, 1, add_used);
    ret->megabytes = (double)used_bytes / 1e6;
    chill(path);
    start = now();
    walk(path, 1, read_head);
    ret->walk_s = now() - start;
    chill(path);
    ret->cold_reads = reads_per_second(NULL, COLD_READS);
    (void)reads_per_second(NULL, ULONG_MAX);
    ret->warm_reads = reads_per_second(NULL, ULONG_MAX);
}

static void print(const struct result *tier, const struct result *files)
{
    printf("%lu objects, %lu MB, %u threads%s\n\n", objects, megabytes, threads,
           getenv("BENCH_KEY") ? ", encrypted" : "");
    printf("| | disk tier | file per object |\n|---|---|---|\n");
    printf("| on disk | %.0f MB | %.0f MB |\n", tier->megabytes, files->megabytes);
    printf("| writing all | %.1f s | %.1f s |\n", tier->write_s, files->write_s);
    printf("| random reads/s, cold | %.0f | %.0f |\n", tier->cold_reads, files->cold_reads);
    printf("| random reads/s, warm | %.0f | %.0f |\n", tier->warm_reads, files->warm_reads);
    printf("| start, warm | %.3f s | |\n", tier->start_warm_s);
    printf("| start, cold | %.3f s | %.1f s |\n", tier->start_s, files->walk_s);
    printf("| start, cold, without checkpoint | %.3f s | |\n", tier->footers_s);
    printf("| start, cold, without footers either | %.2f s | |\n", tier->walk_s);
    printf("| index memory per object | %.1f bytes | |\n", tier->index_bytes);
}

int main(int argc, char **argv)
{
    struct result tier = { 0 }, files = { 0 };
    char path[600];

    root = argc > 1 ? argv[1] : root;
    objects = argc > 2 ? strtoul(argv[2], NULL, 10) : objects;
    megabytes = argc > 3 ? strtoul(argv[3], NULL, 10) : megabytes;
    threads = argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : threads;
    threads = MIN(MAX(threads, 1), (unsigned)THREADS_MAX);
    page = malloc(1 << 20);
    if (!page || objects == 0 || workers_new(&pool, 2) < 0)
        return 1;
    for (size_t i = 0; i < 1 << 17; i++)
        ((uint64_t *)(void *)page)[i] = mix(i);
    find_scale();
    find_overhead();
    (void)mkdir(root, 0700);
    (void)snprintf(path, sizeof(path), "%s/tier", root);
    walk(path, 0, remove_any);
    measure_tier(path, &tier);
    walk(path, 0, remove_any);
    (void)rmdir(path);
    (void)snprintf(path, sizeof(path), "%s/files", root);
    measure_files(path, &files);
    print(&tier, &files);
    walk(path, 1, remove_any);
    (void)rmdir(path);
    (void)rmdir(root);
    workers_free(pool);
    free(page);
    return 0;
}
