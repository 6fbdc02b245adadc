/* GCRA: a bucket is one number, the time at which it will be full again; taking n moves it n * interval ahead, and it may not lie
 * more than a minute ahead. So buckets fill by themselves, and one whose time has passed is as good as none: it can be forgotten.
 *
 * Times are in nanoseconds; the interval of a unit is a fraction of them, so what a unit costs is computed from the whole amount
 * (60e9 * n / limit). Buckets lie in shards by hash, each a table of sets of eight with one lock. A set that is full of buckets in
 * use gives up the one that is nearest to being full: under a flood of names a limit gets a little too generous, never too strict. */
#include "ai/rate.h"

#include "base/heap.h"

#include <errno.h>
#include <pthread.h>
#include <sys/random.h>
#include <time.h>

#define SHARDS 64u
#define WAYS 8u
#define MINUTE_NS ((int64_t)60000000000)
#define RETRY_MAX_S 60u
#define KINDS 2 /* of buckets: requests, tokens */

struct bucket {
    uint64_t hash; /* 0: free */
    int64_t full_ns;
};

struct shard {
    pthread_mutex_t lock;
    struct bucket *buckets; /* sets * WAYS */
};

struct rates {
    uint64_t seed;
    uint32_t sets; /* of a shard; a power of two */
    struct shard shards[SHARDS];
};

int rate_new(const struct rate_options *options, struct rates **ret)
{
    uint64_t buckets = options->buckets ? options->buckets : 65536;
    struct rates *rates = heap_zalloc(sizeof(*rates));

    if (!rates)
        return -ENOMEM;
    for (rates->sets = 1; (uint64_t)rates->sets * WAYS * SHARDS < buckets && rates->sets < 1u << 20;)
        rates->sets *= 2;
    if (getrandom(&rates->seed, sizeof(rates->seed), 0) != sizeof(rates->seed))
        rates->seed = 0;
    for (unsigned i = 0; i < SHARDS; i++)
        pthread_mutex_init(&rates->shards[i].lock, NULL);
    /* Memory comes with the first use of a shard: a node without limits has none. */
    *ret = rates;
    return 0;
}

void rate_free(struct rates *rates)
{
    if (!rates)
        return;
    for (unsigned i = 0; i < SHARDS; i++) {
        pthread_mutex_destroy(&rates->shards[i].lock);
        heap_free(rates->shards[i].buckets);
    }
    heap_free(rates);
}

/* ---- buckets ---- */

static uint64_t mix(uint64_t hash)
{
    hash ^= hash >> 32;
    hash *= 0xd6e8feb86659fd93u;
    hash ^= hash >> 32;
    hash *= 0xd6e8feb86659fd93u;
    return hash ^ hash >> 32;
}

static uint64_t hash_subject(const struct rates *rates, const struct rate_subject *subject, unsigned kind)
{
    uint64_t hash = mix(rates->seed ^ (uint64_t)(unsigned char)subject->kind << 8 ^ kind);

    for (size_t i = 0; i < subject->name.len; i++)
        hash = (hash ^ (unsigned char)subject->name.ptr[i]) * 0x100000001b3u;
    return mix(hash ^ subject->name.len) | 1;
}

/* With the shard's lock held. NULL: no memory, no limit. */
static struct bucket *find(struct rates *rates, struct shard *shard, uint64_t hash, int64_t now_ns)
{
    struct bucket *set, *best = NULL;

    if (!shard->buckets) {
        shard->buckets = heap_array((size_t)rates->sets * WAYS, sizeof(struct bucket));
        if (!shard->buckets)
            return NULL;
        memset(shard->buckets, 0, (size_t)rates->sets * WAYS * sizeof(struct bucket));
    }
    set = &shard->buckets[((hash >> 16) & (rates->sets - 1)) * WAYS];
    for (unsigned i = 0; i < WAYS; i++) {
        if (set[i].hash == hash)
            return &set[i];
        if (!best || set[i].full_ns < best->full_ns)
            best = &set[i];
    }
    *best = (struct bucket){ .hash = hash, .full_ns = now_ns };
    return best;
}

/* What `amount` of a limit per minute is in time. */
static int64_t span(uint64_t amount, uint64_t limit)
{
    unsigned __int128 ns = (unsigned __int128)amount * (uint64_t)MINUTE_NS / limit;

    return ns > INT64_MAX / 4 ? INT64_MAX / 4 : (int64_t)ns;
}

/* Moves a bucket by `ns`. False, unless forced: it would lie more than a minute ahead. *ret_ahead: how far it lies ahead, then
 * or (refused) now. */
static bool move(struct rates *rates, uint64_t hash, int64_t now_ns, int64_t ns, bool forced, int64_t *ret_ahead)
{
    struct shard *shard = &rates->shards[(hash >> 8) % SHARDS];
    struct bucket *bucket;
    bool moved = true;

    pthread_mutex_lock(&shard->lock);
    bucket = find(rates, shard, hash, now_ns);
    if (bucket) {
        int64_t base = MAX(bucket->full_ns, now_ns);

        moved = forced || base - now_ns + ns <= MINUTE_NS;
        if (moved)
            bucket->full_ns = MAX(base + ns, now_ns);
        *ret_ahead = (moved ? bucket->full_ns : base) - now_ns;
    } else {
        *ret_ahead = 0;
    }
    pthread_mutex_unlock(&shard->lock);
    return moved;
}

/* ---- a request ---- */

static uint64_t limit_of(const struct rate_subject *subject, unsigned kind)
{
    return kind == 0 ? subject->requests : subject->tokens;
}

/* More than a bucket holds could never be taken. */
static int64_t price(const struct rate_subject *subject, unsigned kind, uint64_t tokens)
{
    uint64_t limit = limit_of(subject, kind);

    return span(kind == 0 ? 1 : MIN(tokens, limit), limit);
}

/* The meter of a bucket that lies so far ahead, if it is the one that has least left. */
static void note(struct rate_meter *meter, uint64_t limit, int64_t ahead)
{
    int64_t left = MAX(MINUTE_NS - ahead, 0);
    uint64_t remaining = (uint64_t)((unsigned __int128)(uint64_t)left * limit / (uint64_t)MINUTE_NS);

    if (meter->limit && (unsigned __int128)remaining * meter->limit >= (unsigned __int128)meter->remaining * limit)
        return;
    *meter = (struct rate_meter){ limit, remaining, (uint64_t)(ahead + 999999) / 1000000 };
}

static void give_back(struct rates *rates, int64_t now_ns, const struct rate_subject *subjects, unsigned taken,
                      uint64_t tokens)
{
    for (unsigned i = 0; i < taken; i++) {
        const struct rate_subject *subject = &subjects[i / KINDS];
        int64_t ahead;

        if (limit_of(subject, i % KINDS))
            move(rates, hash_subject(rates, subject, i % KINDS), now_ns, -price(subject, i % KINDS, tokens), true,
                 &ahead);
    }
}

void rate_take(struct rates *rates, uint64_t now_us, const struct rate_subject *subjects, unsigned count,
               uint64_t tokens, struct rate_result *ret)
{
    struct rate_result result = { .allowed = true };
    int64_t now_ns = (int64_t)now_us * 1000, ahead;

    for (unsigned i = 0; i < count * KINDS; i++) {
        const struct rate_subject *subject = &subjects[i / KINDS];
        unsigned kind = i % KINDS;
        uint64_t limit = limit_of(subject, kind);
        int64_t ns;

        if (limit == 0)
            continue;
        ns = price(subject, kind, tokens);
        if (!move(rates, hash_subject(rates, subject, kind), now_ns, ns, false, &ahead)) {
            int64_t wait = ahead + ns - MINUTE_NS;

            give_back(rates, now_ns, subjects, i, tokens);
            result.allowed = false;
            result.tokens = kind == 1;
            result.subject = i / KINDS;
            result.retry_after_s = (uint32_t)MIN((wait + 999999999) / 1000000000, RETRY_MAX_S);
            result.retry_after_s = MAX(result.retry_after_s, 1u);
            /* The one that refuses is the one to show. */
            *(kind == 0 ? &result.requests_meter : &result.tokens_meter) = (struct rate_meter){ 0 };
            note(kind == 0 ? &result.requests_meter : &result.tokens_meter, limit, ahead);
            break;
        }
        note(kind == 0 ? &result.requests_meter : &result.tokens_meter, limit, ahead);
    }
    *ret = result;
}

void rate_correct(struct rates *rates, uint64_t now_us, const struct rate_subject *subjects, unsigned count,
                  uint64_t taken, uint64_t tokens)
{
    int64_t now_ns = (int64_t)now_us * 1000, ahead;

    for (unsigned i = 0; i < count; i++) {
        uint64_t limit = subjects[i].tokens;
        int64_t ns;

        if (limit == 0)
            continue;
        ns = span(tokens, limit) - span(MIN(taken, limit), limit);
        if (ns)
            move(rates, hash_subject(rates, &subjects[i], 1), now_ns, ns, true, &ahead);
    }
}

/* ---- fields ---- */

/* As Go writes durations, which is what OpenAI sends: "120ms", "1.5s", "6m0s". */
static void put_duration(struct text *to, uint64_t ms)
{
    if (ms < 1000) {
        text_printf(to, "%llums", (unsigned long long)ms);
        return;
    }
    if (ms >= 60000)
        text_printf(to, "%llum", (unsigned long long)(ms / 60000));
    ms %= 60000;
    text_printf(to, "%llu", (unsigned long long)(ms / 1000));
    if (ms % 1000) {
        unsigned rest = (unsigned)(ms % 1000), digits = 3;

        for (; rest % 10 == 0; digits--)
            rest /= 10;
        text_printf(to, ".%0*u", (int)digits, rest);
    }
    text_char(to, 's');
}

static void put_rfc3339(struct text *to, int64_t wall_ms)
{
    time_t at = (time_t)((wall_ms + 999) / 1000);
    struct tm tm = { 0 };

    gmtime_r(&at, &tm);
    text_printf(to, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                tm.tm_min, tm.tm_sec);
}

static void each_of_meter(enum ai_dialect dialect, bool tokens, const struct rate_meter *meter, int64_t wall_ms,
                          void (*put)(struct view name, struct view value, void *arg), void *arg)
{
    static const struct view names[2][2][3] = {
        [AI_OPENAI] = { { { "x-ratelimit-limit-requests", 26 },
                          { "x-ratelimit-remaining-requests", 30 },
                          { "x-ratelimit-reset-requests", 26 } },
                        { { "x-ratelimit-limit-tokens", 24 },
                          { "x-ratelimit-remaining-tokens", 28 },
                          { "x-ratelimit-reset-tokens", 24 } } },
        [AI_ANTHROPIC] = { { { "anthropic-ratelimit-requests-limit", 34 },
                             { "anthropic-ratelimit-requests-remaining", 38 },
                             { "anthropic-ratelimit-requests-reset", 34 } },
                           { { "anthropic-ratelimit-tokens-limit", 32 },
                             { "anthropic-ratelimit-tokens-remaining", 36 },
                             { "anthropic-ratelimit-tokens-reset", 32 } } },
    };
    const struct view *name = names[dialect][tokens];
    char memory[48];
    struct text value = TEXT_ON(memory);

    if (meter->limit == 0)
        return;
    text_u64(&value, meter->limit);
    put(name[0], text_view(&value), arg);
    value.len = 0;
    text_u64(&value, meter->remaining);
    put(name[1], text_view(&value), arg);
    value.len = 0;
    if (dialect == AI_OPENAI)
        put_duration(&value, meter->reset_ms);
    else
        put_rfc3339(&value, wall_ms + (int64_t)MIN(meter->reset_ms, (uint64_t)INT32_MAX));
    put(name[2], text_view(&value), arg);
}

void rate_each_header(enum ai_dialect dialect, const struct rate_result *result, int64_t wall_ms,
                      void (*put)(struct view name, struct view value, void *arg), void *arg)
{
    char memory[24];
    struct text value = TEXT_ON(memory);

    each_of_meter(dialect, false, &result->requests_meter, wall_ms, put, arg);
    each_of_meter(dialect, true, &result->tokens_meter, wall_ms, put, arg);
    if (result->allowed)
        return;
    text_u64(&value, result->retry_after_s);
    put(VIEW("retry-after"), text_view(&value), arg);
}

static void put_field(struct view name, struct view value, void *arg)
{
    struct text *out = arg;

    text_put(out, name);
    text_lit(out, ": ");
    text_put(out, value);
    text_lit(out, "\r\n");
}

void rate_put_headers(struct text *out, enum ai_dialect dialect, const struct rate_result *result, int64_t wall_ms)
{
    rate_each_header(dialect, result, wall_ms, put_field, out);
}
