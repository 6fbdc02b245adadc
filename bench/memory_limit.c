/* Proves the memory limit on the real tier, and counts what an object costs.
 *
 *     build/bench/memory_limit [INSERTS [LIMIT_MIB [THREADS]]]      default 10,000,000 512 2
 *     build/bench/memory_limit overhead [OBJECTS]                   default 1,000,000, of 1 KiB each
 *
 * The first stores bodies of mixed sizes (log-normal, 200 bytes to 4 MiB) as a fill does, with a reservation for each piece,
 * looks some up, and prints resident memory against the limit. The second prints resident bytes an object beyond body, URL
 * and stored head. Exit code 1 when a promise is broken. */
#include "base/heap.h"
#include "base/rcu.h"
#include "store/memory.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ALLOWANCE_MIB = 32, OVERHEAD_GOAL = 400 };

static const char head[] =
    "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 05:00:00 GMT\r\nContent-Type: text/html; charset=utf-8\r\n"
    "Cache-Control: max-age=3600\r\nETag: \"5f3c-1a2b3c4d5e6f\"\r\nServer: demo\r\n";
static char page[65536];

struct worker {
    pthread_t thread;
    struct memory *memory;
    unsigned long first, count;
    unsigned long stored, refused, skipped, waited, hits;
};

static uint64_t resident_bytes(void)
{
    unsigned long pages = 0, all = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (!file)
        return 0;
    if (fscanf(file, "%lu %lu", &all, &pages) != 2)
        pages = 0;
    (void)fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
    return x ^ x >> 33;
}

/* Median 3 KiB, one in a hundred above 100 KiB, as on web sites. */
static size_t body_size(uint64_t id)
{
    double u = ((double)(mix(id) >> 40) + 1) / 16777217.0, v = (double)(mix(~id) >> 40) / 16777216.0;
    double size = exp(8.0 + 1.5 * sqrt(-2 * log(u)) * cos(6.283185307 * v));

    return (size_t)MIN(MAX(size, 200.0), 4194304.0);
}

static struct key name_of(char *memory, size_t cap, uint64_t id)
{
    int len = snprintf(memory, cap, "6:public4:http11:example.org21:/assets/%08llx.html0:", (unsigned long long)id);

    return key_of(view_make(memory, (size_t)len));
}

/* As a fill stores: room is reserved before each allocation. NULL when there is none. */
static struct object *fetch(struct memory *memory, uint64_t id, size_t body)
{
    char name[96], url[64];
    struct key key = name_of(name, sizeof(name), id);
    int url_len = snprintf(url, sizeof(url), "http://example.org/assets/%08llx.html", (unsigned long long)id);
    struct object_parts parts = {
        .key = key.text, .url = view_make(url, (size_t)url_len), .head = VIEW(head), .body_hint = body
    };
    struct object *object = NULL;
    size_t room = body + 1024;

    if (memory_reserve(memory, room) < 0)
        return NULL;
    object = object_new(&key, &parts);
    if (object) {
        object->complete_len = body;
        atomic_fetch_or(&object->flags, OBJECT_LENGTH_KNOWN);
    }
    for (size_t done = 0, cap; object && done < body; done += cap) {
        char *at = object_reserve(object, body - done, &cap);

        if (!at) {
            object_unref(object);
            object = NULL;
            break;
        }
        cap = MIN(cap, sizeof(page));
        memcpy(at, page, cap);
        object_commit(object, cap);
    }
    memory_unreserve(memory, room);
    if (object)
        atomic_fetch_or(&object->flags, OBJECT_COMPLETE);
    return object;
}

/* A node that finds no room streams without storing. Here storing is the point, and nothing else slows this loop down: it
 * waits for a grace period and tries once more. */
static void store(struct worker *w, uint64_t id)
{
    for (int tries = 0; tries < 2; tries++) {
        struct object *object = fetch(w->memory, id, body_size(id));
        enum memory_refusal why = object ? MEMORY_STORED : MEMORY_FULL;

        if (object)
            (void)!memory_put(w->memory, object, &why);
        object_unref(object);
        if (why == MEMORY_STORED) {
            w->stored++;
            return;
        }
        if (why != MEMORY_FULL) {
            w->refused++;
            return;
        }
        w->waited++;
        memory_settle(w->memory);
    }
    w->skipped++;
}

static void *work(void *arg)
{
    struct worker *w = arg;

    urcu_qsbr_register_thread();
    for (unsigned long i = 0; i < w->count; i++) {
        /* A third are asked for again before long; those are hits or come back as ghosts. */
        uint64_t id = w->first + (mix(i) % 3 ? i : mix(i * 7) % (i / 4 + 1));
        char name[96];
        struct key key = name_of(name, sizeof(name), id);
        const struct memory_entry *entry = memory_find(w->memory, &key);

        if (entry && memory_variants(entry).count) {
            memory_touch(memory_variant(memory_variants(entry), 0));
            w->hits++;
        } else {
            store(w, id);
        }
        rcu_quiet();
    }
    urcu_qsbr_unregister_thread();
    return NULL;
}

static int prove_limit(unsigned long inserts, uint64_t limit_mib, unsigned threads)
{
    struct memory_options options = { .limit = limit_mib << 20 };
    struct worker workers[16] = { 0 };
    struct worker all = { 0 };
    struct memory_stats stats;
    struct memory *memory;
    uint64_t peak = 0, charged = 0, resident, bound = (limit_mib + ALLOWANCE_MIB) << 20;
    struct timespec tick = { .tv_nsec = 20000000 };
    bool running = true;

    threads = MIN(MAX(threads, 1), (unsigned)ARRAY_LEN(workers));
    if (memory_new(&options, &memory) < 0)
        return 1;
    for (unsigned i = 0; i < threads; i++) {
        workers[i] = (struct worker){ .memory = memory, .first = (unsigned long)i << 32, .count = inserts / threads };
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            return 1;
    }
    for (unsigned i = 0; i < threads; i++)
        for (running = true; running;) {
            running = pthread_tryjoin_np(workers[i].thread, NULL) != 0;
            peak = MAX(peak, resident_bytes());
            memory_stats(memory, &stats);
            charged = MAX(charged, stats.bytes);
            if (running)
                nanosleep(&tick, NULL);
        }
    for (unsigned i = 0; i < threads; i++) {
        all.stored += workers[i].stored;
        all.refused += workers[i].refused;
        all.skipped += workers[i].skipped;
        all.waited += workers[i].waited;
        all.hits += workers[i].hits;
    }
    memory_stats(memory, &stats);
    resident = resident_bytes();
    printf("%lu requests by %u threads: %lu hits, %lu stored, %lu not admitted, %lu without room (waited %lu times)\n",
           inserts, threads, all.hits, all.stored, all.refused, all.skipped, all.waited);
    printf("  evicted %llu objects, %.1f GB; %llu objects now, %llu ghost hits\n", (unsigned long long)stats.evictions,
           (double)stats.evicted_bytes / 1e9, (unsigned long long)stats.objects, (unsigned long long)stats.ghost_hits);
    printf("  limit %llu MiB, effective %.1f; charged %.1f MiB, at most %.1f\n", (unsigned long long)limit_mib,
           (double)stats.effective_limit / 1048576, (double)stats.bytes / 1048576, (double)charged / 1048576);
    printf("  resident %.1f MiB at the end, at most %.1f: %s limit + %d MiB\n", (double)resident / 1048576,
           (double)peak / 1048576, peak <= bound ? "within" : "ABOVE", ALLOWANCE_MIB);
    memory_free(memory);
    return peak <= bound && charged <= limit_mib << 20 ? 0 : 1;
}

static int count_overhead(unsigned long objects)
{
    struct memory_options options = { .limit = (uint64_t)objects * 4096 + (64 << 20) };
    struct memory_stats stats;
    struct memory *memory;
    double own = 0, keys = 0, each;
    uint64_t before;

    if (memory_new(&options, &memory) < 0)
        return 1;
    urcu_qsbr_register_thread();
    before = resident_bytes();
    for (unsigned long i = 0; i < objects; i++) {
        struct object *object = fetch(memory, i, 1024);

        if (!object || memory_put(memory, object, NULL) < 0)
            return 1;
        own += 1024 + (double)object_url(object).len + (double)object_head(object).len;
        keys += (double)object->key.text.len;
        object_unref(object);
        rcu_quiet();
    }
    memory_settle(memory);
    heap_trim();
    memory_stats(memory, &stats);
    each = ((double)(resident_bytes() - before) - own) / (double)objects;
    printf("%llu objects of 1 KiB: %.0f bytes each beyond body, URL and stored head (goal %d)\n",
           (unsigned long long)stats.objects, each, OVERHEAD_GOAL);
    printf("  of these: struct %zu, key text %.0f; charged %.0f bytes an object in all, resident %.0f\n",
           sizeof(struct object), keys / (double)objects, (double)stats.bytes / (double)objects,
           (double)(resident_bytes() - before) / (double)objects);
    urcu_qsbr_unregister_thread();
    memory_free(memory);
    return each <= OVERHEAD_GOAL ? 0 : 1;
}

int main(int argc, char **argv)
{
    memset(page, 'x', sizeof(page));
    if (argc > 1 && strcmp(argv[1], "overhead") == 0)
        return count_overhead(argc > 2 ? strtoul(argv[2], NULL, 10) : 1000000);
    return prove_limit(argc > 1 ? strtoul(argv[1], NULL, 10) : 10000000, argc > 2 ? strtoull(argv[2], NULL, 10) : 512,
                       argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 2);
}
