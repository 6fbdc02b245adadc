/* Replays a trace of requests through the memory tier's eviction policy (src/store/policy.c, the code the node runs) and
 * prints object and byte miss ratios beside LRU's, with the cache at a share of all distinct bytes.
 *
 *     build/bench/replay                             synthetic: Zipf 0.9, 1,000,000 requests, 100,000 objects
 *     build/bench/replay FILE                        `time key size` a line, or big-endian 32-bit keys of equal size
 *     xz -dc FILE.xz | build/bench/replay -
 *     build/bench/replay [--zipf A] [--requests N] [--objects N] [--shares 1,3,10]
 *
 * "value, exact" re-keys the heap on every hit, under what would be a lock; "value" is what the node does: hits only bump a
 * counter. A newcomer worth less than what it would push out is not let in, in both. */
#include "base/heap.h"
#include "base/key.h"
#include "store/policy.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct trace {
    uint32_t *requests; /* object numbers */
    size_t count, cap;
    uint64_t *keys; /* of each object */
    uint32_t *sizes;
    uint32_t objects, objects_cap;
    uint32_t *table; /* object number + 1 by hashed key */
    size_t table_size;
    uint64_t distinct_bytes, requested_bytes;
};

struct item {
    struct policy_item policy;
    uint32_t size;
    uint64_t hash;
    uint32_t newer, older; /* LRU, number + 1 */
    bool in;
};

struct result {
    double objects, bytes, seconds;
};

static no_return void die(const char *what)
{
    fprintf(stderr, "replay: %s\n", what);
    exit(1);
}

static uint64_t hash_u64(uint64_t key)
{
    return hash64(view_make((const char *)&key, sizeof(key)));
}

/* ---- reading ---- */

static void index_grow(struct trace *t)
{
    t->table_size = t->table_size ? t->table_size * 2 : 1 << 16;
    heap_free(t->table);
    t->table = heap_zalloc(t->table_size * sizeof(*t->table));
    if (!t->table)
        die("out of memory");
    for (uint32_t i = 0; i < t->objects; i++) {
        size_t at = hash_u64(t->keys[i]) & (t->table_size - 1);

        while (t->table[at])
            at = (at + 1) & (t->table_size - 1);
        t->table[at] = i + 1;
    }
}

static uint32_t object_number(struct trace *t, uint64_t key, uint32_t size)
{
    size_t at;

    if (t->objects * (size_t)2 >= t->table_size)
        index_grow(t);
    for (at = hash_u64(key) & (t->table_size - 1); t->table[at]; at = (at + 1) & (t->table_size - 1))
        if (t->keys[t->table[at] - 1] == key)
            return t->table[at] - 1;
    if (t->objects == t->objects_cap) {
        t->objects_cap = t->objects_cap ? t->objects_cap * 2 : 1 << 14;
        t->keys = heap_resize(t->keys, t->objects_cap * sizeof(*t->keys));
        t->sizes = heap_resize(t->sizes, t->objects_cap * sizeof(*t->sizes));
        if (!t->keys || !t->sizes)
            die("out of memory");
    }
    t->keys[t->objects] = key;
    t->sizes[t->objects] = size;
    t->distinct_bytes += size;
    t->table[at] = ++t->objects;
    return t->objects - 1;
}

static void request(struct trace *t, uint64_t key, uint32_t size)
{
    uint32_t number = object_number(t, key, MAX(size, 1));

    if (t->count == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 1 << 16;
        t->requests = heap_resize(t->requests, t->cap * sizeof(*t->requests));
        if (!t->requests)
            die("out of memory");
    }
    t->requests[t->count++] = number;
    t->requested_bytes += t->sizes[number];
}

static void read_trace(struct trace *t, const char *path)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    char *line = NULL, *end;
    size_t cap = 0;
    int first;

    if (!file)
        die(strerror(errno));
    first = getc(file);
    ungetc(first, file);
    if (first >= '0' && first <= '9') {
        while (getline(&line, &cap, file) > 0) {
            uint64_t key;

            (void)strtoull(line, &end, 10);
            key = strtoull(end, &end, 10);
            request(t, key, (uint32_t)MIN(strtoull(end, NULL, 10), UINT32_MAX));
        }
        free(line);
    } else {
        unsigned char b[4];

        while (fread(b, sizeof(b), 1, file) == 1)
            request(t, (uint64_t)b[0] << 24 | (uint64_t)b[1] << 16 | (uint64_t)b[2] << 8 | b[3], 1000);
    }
    if (file != stdin)
        (void)fclose(file);
    if (t->count == 0)
        die("no requests in the trace");
}

/* ---- generating ---- */

static uint64_t random_state = 88172645463325252u;

static double random_unit(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (double)(random_state >> 11) / 9007199254740992.0;
}

/* Popularity by Zipf, sizes log-normal around 8 KiB and independent of it, as on the web. */
static void generate(struct trace *t, double alpha, size_t requests, uint32_t objects)
{
    double *upto = heap_array(objects, sizeof(*upto)), sum = 0;

    if (!upto)
        die("out of memory");
    for (uint32_t i = 0; i < objects; i++)
        upto[i] = sum += pow(i + 1, -alpha);
    for (size_t i = 0; i < requests; i++) {
        double want = random_unit() * sum, normal;
        uint32_t low = 0, high = objects - 1;
        uint64_t seed;

        while (low < high) {
            uint32_t middle = (low + high) / 2;

            if (upto[middle] < want)
                low = middle + 1;
            else
                high = middle;
        }
        seed = hash_u64(low);
        normal = sqrt(-2 * log(((double)(seed >> 40) + 1) / 16777217.0)) *
                 cos(6.283185307 * (double)(seed & 0xffffff) / 16777216.0);
        request(t, low, (uint32_t)MIN(exp(9.0 + 1.5 * normal), 5e7));
    }
    heap_free(upto);
}

/* ---- caches ---- */

static struct item *new_items(const struct trace *t)
{
    struct item *items = heap_zalloc((t->objects + (size_t)1) * sizeof(*items));

    if (!items)
        die("out of memory");
    for (uint32_t i = 0; i < t->objects; i++) {
        items[i].size = t->sizes[i];
        items[i].hash = hash_u64(t->keys[i]);
    }
    return items;
}

/* The ring of all cached items; the element after the last real one is its head. */
static void lru_unlink(struct item *items, uint32_t i)
{
    items[items[i].newer].older = items[i].older;
    items[items[i].older].newer = items[i].newer;
}

static void lru_push(struct item *items, uint32_t head, uint32_t i)
{
    items[i].older = items[head].older;
    items[i].newer = head;
    items[items[head].older].newer = i;
    items[head].older = i;
}

static bool lru_get(const struct trace *t, struct item *items, uint64_t *used, uint64_t cap, uint32_t i)
{
    uint32_t head = t->objects;
    bool hit = items[i].in;

    if (hit) {
        lru_unlink(items, i);
    } else {
        if (items[i].size > cap)
            return false;
        while (*used + items[i].size > cap) {
            uint32_t oldest = items[head].newer;

            lru_unlink(items, oldest);
            items[oldest].in = false;
            *used -= items[oldest].size;
        }
        *used += items[i].size;
        items[i].in = true;
    }
    lru_push(items, head, i);
    return hit;
}

static double weight(struct policy_item *policy)
{
    return 1.0 / sqrt((double)CONTAINER_OF(policy, struct item, policy)->size);
}

static bool value_get(struct policy *policy, struct item *item, uint64_t *used, uint64_t cap, bool exact)
{
    double value;

    if (item->policy.at) {
        if (exact)
            policy_touch_exact(policy, &item->policy);
        else
            policy_touch(&item->policy);
        return true;
    }
    if (item->size > cap / 8)
        return false;
    item->policy = (struct policy_item){ 0 };
    value = policy_value(policy, &item->policy, item->hash);
    while (*used + item->size > cap) {
        struct policy_item *worst = policy_worst(policy);

        if (!worst || policy_worst_value(policy) > value) {
            policy_refuse(policy, value, item->hash);
            return false;
        }
        *used -= CONTAINER_OF(worst, struct item, policy)->size;
        policy_evict(policy, worst, CONTAINER_OF(worst, struct item, policy)->hash);
    }
    if (policy_insert(policy, &item->policy, item->hash) < 0)
        die("out of memory");
    *used += item->size;
    return false;
}

enum which { LRU, VALUE_EXACT, VALUE, WHICH_COUNT };
static const char *const names[WHICH_COUNT] = { "LRU", "value, exact", "value" };

static struct result replay(const struct trace *t, enum which which, uint64_t cap)
{
    struct item *items = new_items(t);
    struct policy policy;
    uint64_t used = 0, missed = 0, missed_bytes = 0;
    struct timespec before, after;

    items[t->objects].newer = items[t->objects].older = t->objects;
    policy_init(&policy, weight);
    (void)clock_gettime(CLOCK_MONOTONIC, &before);
    for (size_t r = 0; r < t->count; r++) {
        uint32_t i = t->requests[r];
        bool hit = which == LRU ? lru_get(t, items, &used, cap, i)
                                : value_get(&policy, &items[i], &used, cap, which == VALUE_EXACT);

        if (!hit) {
            missed++;
            missed_bytes += items[i].size;
        }
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &after);
    policy_release(&policy);
    heap_free(items);
    return (struct result){ (double)missed / (double)t->count, (double)missed_bytes / (double)t->requested_bytes,
                            (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9 };
}

static void print_table(const struct trace *t, const char *shares)
{
    printf("%zu requests, %u objects, %.0f MB distinct, %.0f MB requested; misses: objects/bytes\n", t->count,
           t->objects, (double)t->distinct_bytes / 1e6, (double)t->requested_bytes / 1e6);
    while (*shares) {
        char *end;
        double share = strtod(shares, &end);
        uint64_t cap = (uint64_t)((double)t->distinct_bytes * share / 100);
        struct result lru = { 0 };

        if (end == shares)
            die("--shares wants numbers: 1,3,10");
        for (int which = 0; which < WHICH_COUNT; which++) {
            struct result r = replay(t, (enum which)which, cap);

            if (which == LRU)
                lru = r;
            printf("%5.1f%%  %-14s %.3f/%.3f  %+5.1f%%/%+5.1f%% against LRU  %4.0f ns a request\n", share, names[which],
                   r.objects, r.bytes, (r.objects / lru.objects - 1) * 100, (r.bytes / lru.bytes - 1) * 100,
                   r.seconds / (double)t->count * 1e9);
        }
        shares = *end == ',' ? end + 1 : end;
    }
}

int main(int argc, char **argv)
{
    const char *path = NULL, *shares = "1,3,10";
    double alpha = 0.9;
    size_t requests = 1000000;
    uint32_t objects = 100000;
    struct trace trace = { 0 };

    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (strncmp(argv[i], "--", 2) != 0) {
            path = argv[i];
            continue;
        }
        if (!value)
            die("usage: replay [FILE | -] [--zipf A] [--requests N] [--objects N] [--shares 1,3,10]");
        if (strcmp(argv[i], "--zipf") == 0)
            alpha = strtod(value, NULL);
        else if (strcmp(argv[i], "--requests") == 0)
            requests = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--objects") == 0)
            objects = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--shares") == 0)
            shares = value;
        else
            die("unknown option");
        i++;
    }
    if (!path && (requests == 0 || objects == 0))
        die("--requests and --objects want numbers above 0");
    if (path)
        read_trace(&trace, path);
    else
        generate(&trace, alpha, requests, objects);
    print_table(&trace, shares);
    heap_free(trace.requests);
    heap_free(trace.keys);
    heap_free(trace.sizes);
    heap_free(trace.table);
    return 0;
}
