/* Entries in the shared store. A read is one GET and a careful look at what came; a write is one SET, encoded straight from the
 * object's chunks into the bytes that are sent, and forgotten: the ledger counts what became of it.
 *
 * What is shared between loops is immutable; each loop has its own counters and ledger. Nothing an entry says is trusted before
 * its checksums, its key and its times were looked at: the store is open to others. */
#include "store/shared.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/heap.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>

#define NAME_MAX_LEN 64u
/* Nobody waits for it: longer than a read may take. */
#define UNLINK_TIMEOUT_MS 2000
#define KEY_MAX (2 * NAME_MAX_LEN + 48u)
#define TOKEN_LEN 32u
/* A clock that is known worse than this is not known. */
#define CLOCK_ERROR_MAX_MS 2000u
/* An answer from the future by more than the clocks' error and this cannot be: some clock is wrong. */
#define FUTURE_MS 1000
/* No answer lives longer than ten years (and no sum of times overflows). */
#define TIME_MAX_MS ((int64_t)10 * 366 * 86400 * 1000)

enum counter {
    COUNT_HITS,
    COUNT_MISSES,
    COUNT_ERRORS,
    COUNT_TIMEOUTS,
    COUNT_TORN,
    COUNT_FOREIGN,
    COUNT_WRITES,
    COUNT_WRITTEN_BYTES,
    COUNT_DROPPED_FULL,
    COUNT_DROPPED_LARGE,
    COUNT_DROPPED_OTHER,
    COUNT_DROPS,
    COUNT_LEASES,
    COUNT_LEASES_LOST,
    COUNTERS,
};

/* Written by one loop, read by whoever prints metrics. */
struct shared_loop {
    _Alignas(64) _Atomic uint64_t counters[COUNTERS];
    struct redis_ledger ledger;
    _Atomic int64_t clock_offset_ms;
    _Atomic uint32_t clock_error_ms;
    atomic_bool clock_known;
};

struct shared {
    struct redis *redis;
    char *prefix; /* with the region and a colon */
    uint64_t max_object, queue_bytes;
    int64_t keep_stale_ms;
    uint32_t timeout_ms;
    unsigned loops;
    char token[TOKEN_LEN]; /* says which leases are ours */
    struct shared_loop *per_loop;
};

static struct shared_loop *mine(struct shared *shared, struct loop *loop)
{
    CHECK(loop_index(loop) < shared->loops);
    return &shared->per_loop[loop_index(loop)];
}

static void count(struct shared_loop *l, enum counter counter, uint64_t add)
{
    uint64_t now = atomic_load_explicit(&l->counters[counter], memory_order_relaxed);

    atomic_store_explicit(&l->counters[counter], now + add, memory_order_relaxed);
}

/* ---- life ---- */

static bool is_name(struct view v)
{
    return v.len <= NAME_MAX_LEN && !view_contains(v, '{') && !view_contains(v, '}');
}

static int make_prefix(struct shared *shared, const struct shared_options *options)
{
    char memory[2 * NAME_MAX_LEN + 1];
    struct text text = TEXT_ON(memory);

    text_put(&text, options->prefix);
    text_put(&text, options->region);
    text_char(&text, ':');
    shared->prefix = heap_strdup(text.ptr, text.len);
    return shared->prefix ? 0 : -ENOMEM;
}

static void make_token(struct shared *shared)
{
    uint64_t random[2] = { 0, (uint64_t)(uintptr_t)shared };
    struct text text = TEXT_ON(shared->token);

    if (getrandom(random, sizeof(random), GRND_NONBLOCK) < 0)
        random[0] = (uint64_t)(uintptr_t)&random;
    text_hex(&text, random[0], 16);
    text_hex(&text, random[1], 16);
}

int shared_new(const struct shared_options *options, struct shared **ret)
{
    unsigned loops = options->loops ? options->loops : 1;
    struct shared *shared;

    if (!is_name(options->prefix) || !is_name(options->region))
        return -EINVAL;
    shared = heap_zalloc(sizeof(*shared));
    if (!shared)
        return -ENOMEM;
    shared->redis = options->redis;
    shared->max_object = options->max_object ? options->max_object : (uint64_t)1 << 20;
    shared->queue_bytes = options->queue_bytes ? options->queue_bytes : (uint64_t)16 << 20;
    shared->keep_stale_ms = options->keep_stale_ms == 0 ? 3600000 : MAX(options->keep_stale_ms, 0);
    shared->timeout_ms = options->timeout_ms ? options->timeout_ms : 50;
    shared->loops = loops;
    make_token(shared);
    shared->per_loop = aligned_alloc(_Alignof(struct shared_loop), loops * sizeof(shared->per_loop[0]));
    if (!shared->per_loop || make_prefix(shared, options) < 0) {
        shared_free(shared);
        return -ENOMEM;
    }
    memset(shared->per_loop, 0, loops * sizeof(shared->per_loop[0]));
    *ret = shared;
    return 0;
}

void shared_loop_close(struct shared *shared, struct loop *loop)
{
    /* The ledger is written until the client has closed this loop; nothing else is held per loop. */
    (void)mine(shared, loop);
}

void shared_free(struct shared *shared)
{
    if (!shared)
        return;
    heap_free(shared->prefix);
    heap_free(shared->per_loop);
    heap_free(shared);
}

/* ---- keys and clocks ---- */

static struct view put_key(const struct shared *shared, char kind, struct entry_key at, struct text *text)
{
    text_put(text, view_str(shared->prefix));
    text_char(text, kind);
    text_lit(text, ":{");
    text_hex(text, at.hash[0], 16);
    text_hex(text, at.hash[1], 16);
    text_char(text, '}');
    CHECK(!text->overflow);
    return text_view(text);
}

/* Remembers it for the statistics; false when it is not good enough to tell times by. */
static bool clock_usable(struct shared_loop *l, const struct redis_clock *clock)
{
    bool usable = clock->known && clock->error_ms <= CLOCK_ERROR_MAX_MS;

    atomic_store_explicit(&l->clock_known, usable, memory_order_relaxed);
    if (usable) {
        atomic_store_explicit(&l->clock_offset_ms, clock->offset_ms, memory_order_relaxed);
        atomic_store_explicit(&l->clock_error_ms, clock->error_ms, memory_order_relaxed);
    }
    return usable;
}

/* ---- reading ---- */

int shared_get(struct shared *shared, struct entry_key at, const struct key *key, struct task *task,
               struct shared_get *get)
{
    struct shared_loop *l = mine(shared, task->loop);
    char memory[KEY_MAX];
    struct text text = TEXT_ON(memory);
    struct view args[] = { VIEW("GET"), put_key(shared, 'o', at, &text) };

    *get = (struct shared_get){ .shared = shared, .loop = task->loop, .key = key, .at = at };
    if (redis_send(shared->redis, task, &get->call, args, 2, 1, shared->timeout_ms) == 0)
        return -EAGAIN;
    count(l, COUNT_ERRORS, 1);
    count(l, COUNT_MISSES, 1);
    return -ENOENT;
}

static bool is_time(int64_t ms)
{
    return ms >= 0 && ms <= TIME_MAX_MS;
}

/* What a node can have meant. */
static bool times_are_sound(const struct entry *entry, int64_t now_ms, uint32_t error_ms)
{
    const struct object_times *times = &entry->times;

    return times->response_ms >= 0 && times->response_ms <= now_ms + error_ms + FUTURE_MS &&
           is_time(times->initial_age_ms) && is_time(times->lifetime_ms) && times->swr_ms >= -1 &&
           times->swr_ms <= TIME_MAX_MS && times->sie_ms >= -1 && times->sie_ms <= TIME_MAX_MS;
}

static int append_body(struct object *object, struct view body)
{
    while (body.len) {
        size_t cap;
        char *room = object_reserve(object, body.len, &cap);

        if (!room)
            return -ENOMEM;
        memcpy(room, body.ptr, cap);
        object_commit(object, cap);
        body = view_skip(body, cap);
    }
    return 0;
}

/* 0, -ENOENT: another key with the same hash; -EPROTONOSUPPORT; -EBADMSG; -ENOMEM. */
static int read_entry(const struct shared_get *get, struct view value, struct object **ret)
{
    const struct redis_clock *clock = &get->call.clock;
    struct entry entry = { 0 };
    struct object *object;
    struct view body;
    size_t head_len;
    int r = entry_peek(value, &head_len);

    if (r == 0)
        r = entry_parse(value, clock->offset_ms, &entry);
    if (r < 0)
        return r;
    body = view_skip(value, head_len);
    if (body.len != entry.body_len || crc32c(0, body.ptr, body.len) != entry.body_crc ||
        !times_are_sound(&entry, loop_wall_ms(get->loop), clock->error_ms))
        return -EBADMSG;
    if (!view_eq(entry.key, get->key->text))
        return -ENOENT;
    object = entry_object(&entry, get->key, body.len);
    if (!object)
        return -ENOMEM;
    if (append_body(object, body) < 0) {
        object_unref(object);
        return -ENOMEM;
    }
    atomic_fetch_or(&object->flags, OBJECT_COMPLETE);
    *ret = object;
    return 0;
}

static int judge(struct shared_get *get, struct object **ret)
{
    struct shared_loop *l = mine(get->shared, get->loop);
    const struct redis_call *call = &get->call;
    bool known;
    int r;

    if (call->error || resp_is_error(call->reply)) {
        count(l, call->error == -ETIMEDOUT ? COUNT_TIMEOUTS : COUNT_ERRORS, 1);
        return -ENOENT;
    }
    known = clock_usable(l, &call->clock);
    if (call->reply->type == RESP_NULL)
        return -ENOENT;
    if (!known) {
        count(l, COUNT_ERRORS, 1);
        return -ENOENT;
    }
    r = call->reply->type == RESP_STRING ? read_entry(get, call->reply->text, ret) : -EBADMSG;
    if (r == -EBADMSG)
        count(l, COUNT_TORN, 1);
    else if (r == -EPROTONOSUPPORT)
        count(l, COUNT_FOREIGN, 1);
    else if (r == -ENOMEM)
        count(l, COUNT_ERRORS, 1);
    return r < 0 ? -ENOENT : 0;
}

int shared_get_result(struct shared_get *get, struct object **ret_object)
{
    int r;

    if (get->call.state == REDIS_WAITING)
        return -EAGAIN;
    r = get->call.state == REDIS_DONE ? judge(get, ret_object) : -ENOENT;
    count(mine(get->shared, get->loop), r == 0 ? COUNT_HITS : COUNT_MISSES, 1);
    redis_call_end(&get->call);
    return r;
}

void shared_get_cancel(struct shared_get *get)
{
    if (get->shared)
        redis_call_end(&get->call);
}

/* ---- writing ---- */

/* Milliseconds from now that an entry is of any use; <= 0: none. */
static int64_t life_left(const struct shared *shared, const struct object_times *times, int64_t now_ms)
{
    int64_t age = MIN(times->initial_age_ms, TIME_MAX_MS) + MAX(now_ms - times->response_ms, 0);
    int64_t window = MIN(MAX(MAX(times->swr_ms, times->sie_ms), 0), TIME_MAX_MS);

    return MIN(times->lifetime_ms, TIME_MAX_MS) - age + window + MIN(shared->keep_stale_ms, TIME_MAX_MS);
}

static uint32_t copy_body(struct object *object, struct text *out)
{
    struct object_cursor cursor = { 0 };
    uint32_t crc = 0;
    struct view run;

    while ((run = object_peek(object, &cursor)).len) {
        crc = crc32c(crc, run.ptr, run.len);
        text_put(out, run);
        object_advance(object, &cursor, run.len);
    }
    return crc;
}

/* The command in one block: SET key <head body> PX life. NULL when memory is out. */
static char *encode_set(struct view key, struct entry *entry, struct object *object, int64_t shift_ms, int64_t life_ms,
                        size_t *ret_len)
{
    size_t head_len = entry_head_len(entry), value_len = head_len + (size_t)entry->body_len;
    size_t cap = value_len + key.len + (size_t)8 * RESP_HEAD_MAX;
    struct text text = text_make(heap_alloc(cap), cap), body;
    char memory[24], *head;
    struct text life = TEXT_ON(memory);

    if (!text.ptr)
        return NULL;
    resp_put_array(&text, 5);
    resp_put_arg(&text, VIEW("SET"));
    resp_put_arg(&text, key);
    resp_put_arg_head(&text, value_len);
    /* The head ends with a CRC over the body's, so the body goes first. */
    head = text.ptr + text.len;
    body = text_make(head + head_len, (size_t)entry->body_len);
    if (object)
        entry->body_crc = copy_body(object, &body);
    CHECK(body.len == entry->body_len && !body.overflow);
    entry_put(entry, shift_ms, head);
    text.len += value_len;
    text_lit(&text, "\r\n");
    resp_put_arg(&text, VIEW("PX"));
    text_i64(&life, life_ms);
    resp_put_arg(&text, text_view(&life));
    CHECK(!text.overflow);
    *ret_len = text.len;
    return text.ptr;
}

static void put_entry(struct shared *shared, struct loop *loop, struct entry_key at, struct entry *entry,
                      struct object *object, int64_t life_ms)
{
    struct shared_loop *l = mine(shared, loop);
    size_t len = entry_head_len(entry) + (size_t)entry->body_len;
    char memory[KEY_MAX], *block;
    struct text text = TEXT_ON(memory);
    struct view key = put_key(shared, 'o', at, &text);
    struct redis_clock clock;
    int r;

    redis_clock(shared->redis, loop, key, &clock);
    if (!clock_usable(l, &clock)) {
        count(l, COUNT_DROPPED_OTHER, 1);
        return;
    }
    if (atomic_load_explicit(&l->ledger.bytes, memory_order_relaxed) + len > shared->queue_bytes) {
        count(l, COUNT_DROPPED_FULL, 1);
        return;
    }
    block = encode_set(key, entry, object, clock.offset_ms, MIN(life_ms, TIME_MAX_MS), &len);
    r = block ? redis_forget_block(shared->redis, loop, block, len, key, &l->ledger) : -ENOMEM;
    if (r < 0) {
        count(l, r == -EBUSY ? COUNT_DROPPED_FULL : COUNT_DROPPED_OTHER, 1);
        return;
    }
    count(l, COUNT_WRITES, 1);
    count(l, COUNT_WRITTEN_BYTES, len);
}

void shared_put(struct shared *shared, struct loop *loop, struct entry_key at, struct object *object, uint64_t position,
                bool release)
{
    int64_t now_ms = loop_wall_ms(loop), life_ms = life_left(shared, &object->times, now_ms);
    bool whole = (atomic_load(&object->flags) & OBJECT_COMPLETE) && !object->external;
    struct entry entry;

    entry_of(object, &entry);
    entry.position = position;
    /* A response time ahead of our clock: the clock was set back since, its age is not known any more. */
    if (whole && life_ms > 0 && times_are_sound(&entry, now_ms, 0)) {
        size_t head_len = entry_head_len(&entry);

        if (head_len > ENTRY_HEAD_MAX || head_len + entry.body_len > shared->max_object)
            count(mine(shared, loop), COUNT_DROPPED_LARGE, 1);
        else
            put_entry(shared, loop, at, &entry, object, life_ms);
    }
    if (release)
        shared_lease_release(shared, loop, at);
}

void shared_put_vary(struct shared *shared, struct loop *loop, struct entry_key at, const struct key *key,
                     struct view vary_names, uint64_t generation, uint64_t position, int64_t lifetime_ms)
{
    int64_t now_ms = loop_wall_ms(loop),
            life_ms = MIN(MAX(lifetime_ms, 0), TIME_MAX_MS) + MIN(shared->keep_stale_ms, TIME_MAX_MS);
    struct entry entry = {
        .kind = ENTRY_VARY,
        .times = { .response_ms = now_ms,
                   .lifetime_ms = MIN(MAX(lifetime_ms, 0), TIME_MAX_MS),
                   .swr_ms = -1,
                   .sie_ms = -1,
                   .date_s = now_ms / 1000,
                   .last_modified_s = -1 },
        .position = position,
        .generation = generation,
        .key = key->text,
        .vary_names = vary_names,
    };

    if (life_ms > 0)
        put_entry(shared, loop, at, &entry, NULL, life_ms);
}

void shared_drop(struct shared *shared, struct loop *loop, struct entry_key at)
{
    struct shared_loop *l = mine(shared, loop);
    char memory[KEY_MAX];
    struct text text = TEXT_ON(memory);
    struct view args[] = { VIEW("UNLINK"), put_key(shared, 'o', at, &text) };

    if (redis_forget(shared->redis, loop, args, 2, 1, &l->ledger) == 0)
        count(l, COUNT_DROPS, 1);
    else
        count(l, COUNT_DROPPED_OTHER, 1);
}

int shared_unlink(struct shared *shared, struct entry_key at, struct task *task, struct shared_get *get)
{
    char memory[KEY_MAX];
    struct text text = TEXT_ON(memory);
    struct view args[] = { VIEW("UNLINK"), put_key(shared, 'o', at, &text) };

    *get = (struct shared_get){ .shared = shared, .loop = task->loop, .at = at };
    return redis_send(shared->redis, task, &get->call, args, 2, 1, UNLINK_TIMEOUT_MS) == 0 ? -EAGAIN : -ENOENT;
}

int shared_unlink_result(struct shared_get *get)
{
    const struct redis_call *call = &get->call;
    int r;

    if (call->state == REDIS_WAITING)
        return -EAGAIN;
    r = call->state == REDIS_DONE && call->error == 0 && !resp_is_error(call->reply) ? 0 : -ENOENT;
    redis_call_end(&get->call);
    return r;
}

/* ---- leases ---- */

int shared_lease(struct shared *shared, struct entry_key at, uint32_t lease_ms, struct task *task,
                 struct shared_get *get)
{
    char memory[KEY_MAX], number[16];
    struct text text = TEXT_ON(memory), life = TEXT_ON(number);
    struct view args[] = {
        VIEW("SET"), put_key(shared, 'l', at, &text), view_make(shared->token, TOKEN_LEN), VIEW("NX"), VIEW("PX"),
        VIEW_NONE
    };

    text_u64(&life, MAX(lease_ms, 1));
    args[5] = text_view(&life);
    *get = (struct shared_get){ .shared = shared, .loop = task->loop, .at = at, .lease = true };
    return redis_send(shared->redis, task, &get->call, args, 6, 1, shared->timeout_ms) == 0 ? -EAGAIN : -ENOENT;
}

int shared_lease_result(struct shared_get *get)
{
    struct shared_loop *l = mine(get->shared, get->loop);
    const struct redis_call *call = &get->call;
    int r = -ENOENT;

    if (call->state == REDIS_WAITING)
        return -EAGAIN;
    if (call->state == REDIS_DONE && call->error == 0 && !resp_is_error(call->reply))
        r = call->reply->type == RESP_NULL ? -EBUSY : 0;
    if (r == 0)
        count(l, COUNT_LEASES, 1);
    else if (r == -EBUSY)
        count(l, COUNT_LEASES_LOST, 1);
    else if (call->error == -ETIMEDOUT) /* it may have been granted too late for us to know */
        shared_lease_release(get->shared, get->loop, get->at);
    redis_call_end(&get->call);
    return r;
}

void shared_lease_release(struct shared *shared, struct loop *loop, struct entry_key at)
{
    /* Compare and delete in one step: ours may have run out and be another node's by now. */
    static const char script[] =
        "if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('UNLINK',KEYS[1]) end return 0";
    char memory[KEY_MAX];
    struct text text = TEXT_ON(memory);
    struct view args[] = { VIEW("EVAL"), view_make(script, sizeof(script) - 1), VIEW("1"),
                           put_key(shared, 'l', at, &text), view_make(shared->token, TOKEN_LEN) };

    redis_forget(shared->redis, loop, args, 5, 3, NULL);
}

/* ---- statistics ---- */

void shared_stats(struct shared *shared, struct shared_stats *ret)
{
    uint64_t sum[COUNTERS] = { 0 };
    struct shared_stats stats = { 0 };

    for (unsigned i = 0; i < shared->loops; i++) {
        const struct shared_loop *l = &shared->per_loop[i];

        for (unsigned c = 0; c < COUNTERS; c++)
            sum[c] += atomic_load_explicit(&l->counters[c], memory_order_relaxed);
        stats.queued_bytes += atomic_load_explicit(&l->ledger.bytes, memory_order_relaxed);
        stats.write_failures += atomic_load_explicit(&l->ledger.failed, memory_order_relaxed) +
                                atomic_load_explicit(&l->ledger.refused, memory_order_relaxed);
        if (!atomic_load_explicit(&l->clock_known, memory_order_relaxed))
            continue;
        stats.clock_known = true;
        stats.clock_offset_ms = atomic_load_explicit(&l->clock_offset_ms, memory_order_relaxed);
        stats.clock_error_ms = atomic_load_explicit(&l->clock_error_ms, memory_order_relaxed);
    }
    stats.hits = sum[COUNT_HITS];
    stats.misses = sum[COUNT_MISSES];
    stats.errors = sum[COUNT_ERRORS];
    stats.timeouts = sum[COUNT_TIMEOUTS];
    stats.torn = sum[COUNT_TORN];
    stats.foreign = sum[COUNT_FOREIGN];
    stats.writes = sum[COUNT_WRITES];
    stats.written_bytes = sum[COUNT_WRITTEN_BYTES];
    stats.dropped_full = sum[COUNT_DROPPED_FULL];
    stats.dropped_large = sum[COUNT_DROPPED_LARGE];
    stats.dropped_other = sum[COUNT_DROPPED_OTHER];
    stats.drops = sum[COUNT_DROPS];
    stats.leases = sum[COUNT_LEASES];
    stats.leases_lost = sum[COUNT_LEASES_LOST];
    *ret = stats;
}
