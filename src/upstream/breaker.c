/* The state machine of a circuit breaker.
 *
 *   CLOSED --failures--> OPEN --time--> HALF_OPEN --2 good probes--> RAMP --time--> CLOSED
 *                          ^---- a bad probe --'      ^failures-- RAMP -> OPEN
 *
 * State and epoch lie in one atomic word, so that a ticket always belongs to the state it was given in: what ends after the
 * state has moved on says nothing about the present one and is not counted. Everything else changes under the lock. */
#include "upstream/breaker.h"

#include "base/compiler.h"

#include <string.h>

#define STATE_BITS 2u
#define STATE_MASK 3u
#define RAMP_FROM 200u

void breaker_options_init(struct breaker_options *options)
{
    *options = (struct breaker_options){
        .enabled = true,
        .failures = 5,
        .ratio_permille = 500,
        .requests = 10,
        .window_ms = 30000,
        .slow_permille = 500,
        .open_ms = 30000,
        .open_max_ms = 300000,
        .successes = 2,
        .ramp_ms = 10000,
    };
}

void breaker_init(struct breaker *breaker, const struct breaker_options *options, uint64_t seed)
{
    memset(breaker, 0, sizeof(*breaker));
    breaker->options = *options;
    breaker->random = seed * 2 + 1;
    pthread_mutex_init(&breaker->lock, NULL);
}

void breaker_end(struct breaker *breaker)
{
    pthread_mutex_destroy(&breaker->lock);
}

static enum breaker_state state_of(uint32_t word)
{
    return (enum breaker_state)(word & STATE_MASK);
}

static uint32_t word_now(const struct breaker *b)
{
    return atomic_load_explicit(&b->word, memory_order_acquire);
}

static uint64_t until(const struct breaker *b)
{
    return atomic_load_explicit(&b->until_ms, memory_order_relaxed);
}

/* xorshift64*: only for jitter. */
static uint32_t random32(struct breaker *b)
{
    b->random ^= b->random >> 12;
    b->random ^= b->random << 25;
    b->random ^= b->random >> 27;
    return (uint32_t)((b->random * 0x2545F4914F6CDD1Du) >> 32);
}

/* Loops read the clock at different moments: another's time may lie a little ahead of ours. */
static uint64_t elapsed(const struct breaker *b, uint64_t now_ms)
{
    uint64_t since = atomic_load_explicit(&b->since_ms, memory_order_relaxed);

    return now_ms > since ? now_ms - since : 0;
}

/* ---- changes, under the lock ---- */

static void set_state(struct breaker *b, enum breaker_state state, bool same_epoch, uint64_t now_ms)
{
    uint32_t epoch = (word_now(b) >> STATE_BITS) + (same_epoch ? 0 : 1);

    atomic_store_explicit(&b->since_ms, now_ms, memory_order_relaxed);
    atomic_store_explicit(&b->word, epoch << STATE_BITS | (uint32_t)state, memory_order_release);
}

static void forget_counts(struct breaker *b)
{
    b->consecutive = b->probes_good = 0;
    memset(b->buckets, 0, sizeof(b->buckets));
}

/* n counts openings with less than the last open time of good behaviour between them. */
static void open_now(struct breaker *b, uint64_t now_ms)
{
    const struct breaker_options *o = &b->options;
    bool was_good = state_of(word_now(b)) != BREAKER_HALF_OPEN && elapsed(b, now_ms) > b->opened_for_ms;
    uint64_t span;

    b->opens_in_row = was_good ? 1 : b->opens_in_row + 1;
    span = MIN((uint64_t)o->open_ms * b->opens_in_row, (uint64_t)o->open_max_ms);
    span = span * 9 / 10 + span * (random32(b) % 201) / 1000;
    span = MIN(span, (uint64_t)MAX(o->open_max_ms, o->open_ms));
    b->opened_for_ms = span;
    b->opens++;
    atomic_store_explicit(&b->until_ms, now_ms + span, memory_order_relaxed);
    set_state(b, BREAKER_OPEN, false, now_ms);
}

static void close_now(struct breaker *b, uint64_t now_ms)
{
    forget_counts(b);
    set_state(b, b->options.ramp_ms ? BREAKER_RAMP : BREAKER_CLOSED, false, now_ms);
}

static void end_ramp(struct breaker *b, uint64_t now_ms)
{
    if (state_of(word_now(b)) == BREAKER_RAMP && elapsed(b, now_ms) >= b->options.ramp_ms)
        set_state(b, BREAKER_CLOSED, true, atomic_load(&b->since_ms) + b->options.ramp_ms);
}

/* ---- asking ---- */

static enum breaker_force forced(const struct breaker *b)
{
    return (enum breaker_force)atomic_load_explicit(&b->forced, memory_order_relaxed);
}

bool breaker_may(const struct breaker *breaker, uint64_t now_ms)
{
    enum breaker_state state = state_of(word_now(breaker));

    if (likely(state == BREAKER_CLOSED) || state == BREAKER_RAMP)
        return true;
    return forced(breaker) == BREAKER_AUTO && now_ms >= until(breaker);
}

bool breaker_is_trusted(const struct breaker *breaker)
{
    enum breaker_state state = state_of(word_now(breaker));

    return state == BREAKER_CLOSED || state == BREAKER_RAMP;
}

bool breaker_is_open(const struct breaker *breaker, uint64_t now_ms)
{
    return state_of(word_now(breaker)) == BREAKER_OPEN && !breaker_may(breaker, now_ms);
}

bool breaker_admit(struct breaker *breaker, uint64_t now_ms, struct breaker_ticket *ret)
{
    uint32_t word = word_now(breaker);
    bool admitted = true;

    *ret = (struct breaker_ticket){ .epoch = word >> STATE_BITS };
    if (likely(state_of(word) == BREAKER_CLOSED))
        return true;
    pthread_mutex_lock(&breaker->lock);
    end_ramp(breaker, now_ms);
    if (!breaker_may(breaker, now_ms)) {
        admitted = false;
    } else if (state_of(word_now(breaker)) == BREAKER_OPEN || state_of(word_now(breaker)) == BREAKER_HALF_OPEN) {
        if (state_of(word_now(breaker)) == BREAKER_OPEN) {
            forget_counts(breaker);
            set_state(breaker, BREAKER_HALF_OPEN, false, now_ms);
        }
        atomic_store_explicit(&breaker->until_ms, now_ms + MAX(breaker->options.open_ms, 1u), memory_order_relaxed);
        ret->probe = true;
    }
    ret->epoch = word_now(breaker) >> STATE_BITS;
    pthread_mutex_unlock(&breaker->lock);
    return admitted;
}

uint32_t breaker_share(const struct breaker *breaker, uint64_t now_ms)
{
    uint64_t ramp = breaker->options.ramp_ms, part;

    if (likely(state_of(word_now(breaker)) != BREAKER_RAMP))
        return 1000;
    part = elapsed(breaker, now_ms);
    return part >= ramp ? 1000 : RAMP_FROM + (uint32_t)((1000 - RAMP_FROM) * part / ramp);
}

/* ---- telling ---- */

static void probe_ended(struct breaker *b, enum breaker_outcome outcome, bool slow, uint64_t now_ms)
{
    if (outcome == BREAKER_NOTHING) {
        atomic_store_explicit(&b->until_ms, 0, memory_order_relaxed); /* the next one may go */
    } else if (outcome == BREAKER_FAILED || slow) {
        b->consecutive++;
        open_now(b, now_ms);
    } else if (++b->probes_good >= b->options.successes) {
        close_now(b, now_ms);
    } else {
        atomic_store_explicit(&b->until_ms, 0, memory_order_relaxed);
    }
}

static struct breaker_bucket *bucket_now(struct breaker *b, uint64_t now_ms)
{
    uint64_t number = now_ms / MAX(b->options.window_ms / BREAKER_BUCKETS, 1u);
    struct breaker_bucket *bucket = &b->buckets[number % BREAKER_BUCKETS];

    if (bucket->number != number)
        *bucket = (struct breaker_bucket){ .number = number };
    return bucket;
}

static bool is_share(uint64_t part, uint64_t whole, uint32_t permille)
{
    return permille && part * 1000 >= whole * permille;
}

/* Do the counts open it? */
static bool must_open(const struct breaker *b, uint64_t now_number)
{
    const struct breaker_options *o = &b->options;
    uint64_t total = 0, failed = 0, slow = 0;

    if (o->failures && b->consecutive >= o->failures)
        return true;
    for (unsigned i = 0; i < BREAKER_BUCKETS; i++) {
        if (b->buckets[i].number + BREAKER_BUCKETS <= now_number)
            continue;
        total += b->buckets[i].total;
        failed += b->buckets[i].failed;
        slow += b->buckets[i].slow;
    }
    if (total == 0 || total < o->requests)
        return false;
    return is_share(failed, total, o->ratio_permille) || (o->slow_ms && is_share(slow, total, o->slow_permille));
}

static void count(struct breaker *b, enum breaker_outcome outcome, bool slow, uint64_t now_ms)
{
    struct breaker_bucket *bucket = bucket_now(b, now_ms);

    bucket->total++;
    bucket->failed += outcome == BREAKER_FAILED;
    bucket->slow += slow;
    b->consecutive = outcome == BREAKER_FAILED ? b->consecutive + 1 : 0;
    /* A good, quick answer never opens it, whatever came before. */
    if ((outcome == BREAKER_FAILED || slow) && forced(b) == BREAKER_AUTO && must_open(b, bucket->number))
        open_now(b, now_ms);
}

void breaker_report(struct breaker *breaker, struct breaker_ticket ticket, enum breaker_outcome outcome,
                    uint64_t took_ms, uint64_t now_ms)
{
    bool slow = outcome == BREAKER_GOOD && breaker->options.slow_ms && took_ms > breaker->options.slow_ms;

    if (!breaker->options.enabled || (outcome == BREAKER_NOTHING && !ticket.probe))
        return;
    pthread_mutex_lock(&breaker->lock);
    end_ramp(breaker, now_ms);
    if (ticket.epoch == word_now(breaker) >> STATE_BITS) {
        switch (state_of(word_now(breaker))) {
        case BREAKER_HALF_OPEN:
            if (ticket.probe)
                probe_ended(breaker, outcome, slow, now_ms);
            break;
        case BREAKER_CLOSED:
        case BREAKER_RAMP: count(breaker, outcome, slow, now_ms); break;
        case BREAKER_OPEN: break;
        }
    }
    pthread_mutex_unlock(&breaker->lock);
}

/* ---- by hand ---- */

void breaker_force(struct breaker *breaker, enum breaker_force force, uint64_t now_ms)
{
    pthread_mutex_lock(&breaker->lock);
    forget_counts(breaker);
    breaker->opens_in_row = 0;
    breaker->opened_for_ms = 0;
    atomic_store_explicit(&breaker->forced, (int)force, memory_order_relaxed);
    atomic_store_explicit(&breaker->until_ms, UINT64_MAX, memory_order_relaxed);
    set_state(breaker, force == BREAKER_FORCE_OPEN ? BREAKER_OPEN : BREAKER_CLOSED, false, now_ms);
    pthread_mutex_unlock(&breaker->lock);
}

void breaker_inherit(struct breaker *to, struct breaker *from)
{
    pthread_mutex_lock(&from->lock);
    pthread_mutex_lock(&to->lock);
    to->consecutive = from->consecutive;
    to->probes_good = from->probes_good;
    to->opens_in_row = from->opens_in_row;
    to->opened_for_ms = from->opened_for_ms;
    to->opens = from->opens;
    atomic_store(&to->forced, atomic_load(&from->forced));
    atomic_store(&to->since_ms, atomic_load(&from->since_ms));
    atomic_store(&to->until_ms, state_of(word_now(from)) == BREAKER_HALF_OPEN ? 0 : until(from));
    atomic_store(&to->word, word_now(from));
    /* A breaker that has been switched off stays open only by hand. */
    if (!to->options.enabled && forced(to) != BREAKER_FORCE_OPEN)
        atomic_store(&to->word, (uint32_t)BREAKER_CLOSED);
    pthread_mutex_unlock(&to->lock);
    pthread_mutex_unlock(&from->lock);
}

void breaker_look(struct breaker *breaker, uint64_t now_ms, struct breaker_view *ret)
{
    pthread_mutex_lock(&breaker->lock);
    end_ramp(breaker, now_ms);
    *ret = (struct breaker_view){
        .state = state_of(word_now(breaker)),
        .forced = forced(breaker),
        .consecutive = breaker->consecutive,
        .opens = breaker->opens,
        .share_permille = breaker_share(breaker, now_ms),
    };
    if (ret->state == BREAKER_OPEN && ret->forced == BREAKER_AUTO && until(breaker) > now_ms)
        ret->open_for_ms = until(breaker) - now_ms;
    pthread_mutex_unlock(&breaker->lock);
}

const char *breaker_state_name(enum breaker_state state)
{
    static const char *const names[] = { "closed", "open", "half-open", "ramp" };

    return names[state & STATE_MASK];
}
