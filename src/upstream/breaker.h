/* A circuit breaker: says whether requests may go somewhere, from how those that went ended. No clock and no I/O: time is an
 * argument (monotonic milliseconds).
 *
 *   CLOSED     everything goes; failures are counted
 *   OPEN       nothing goes until a time
 *   HALF_OPEN  one probe at a time
 *   RAMP       everything goes that breaker_share() allows, 20 % growing to 100 %; failures are counted
 *
 * Any thread may call everything but init and end. Asking costs one atomic load while CLOSED. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN, BREAKER_RAMP };
enum breaker_force { BREAKER_AUTO, BREAKER_FORCE_OPEN, BREAKER_FORCE_CLOSED };

struct breaker_options {
    bool enabled;
    uint32_t failures;       /* in a row open it; 0: this rule is off */
    uint32_t ratio_permille; /* of failures among at least `requests` in `window_ms`; 0: off */
    uint32_t requests;
    uint32_t window_ms;
    uint32_t slow_ms;       /* an answer that took longer is slow; 0: off */
    uint32_t slow_permille; /* of slow answers, counted like failures */
    uint32_t open_ms;       /* the first time; n times as long the n-th time in a row, 10 % jitter */
    uint32_t open_max_ms;
    uint32_t successes; /* probes that must go well before it closes */
    uint32_t ramp_ms;   /* 0: all traffic at once */
};

#define BREAKER_BUCKETS 6u

struct breaker {
    struct breaker_options options;
    _Atomic uint32_t word;     /* epoch << 2 | state; the epoch counts changes, RAMP -> CLOSED excepted */
    _Atomic uint64_t since_ms; /* of the state */
    _Atomic uint64_t until_ms; /* OPEN: when a probe may go; HALF_OPEN: while this lies ahead a probe is out */
    _Atomic int forced;        /* enum breaker_force */
    pthread_mutex_t lock;      /* everything below, and every change of what is above */
    uint64_t random;
    uint32_t consecutive, probes_good, opens_in_row;
    uint64_t opened_for_ms, opens;
    struct breaker_bucket {
        uint64_t number; /* time / width */
        uint32_t total, failed, slow;
    } buckets[BREAKER_BUCKETS];
};

/* What was admitted; hand it to breaker_report() once. */
struct breaker_ticket {
    uint32_t epoch;
    bool probe;
};

enum breaker_outcome { BREAKER_NOTHING, BREAKER_GOOD, BREAKER_FAILED };

/* 5 failures in a row, or 50 % of at least 10 in 30 s; open 30 s, at most 300 s; 2 probes; ramp 10 s. */
void breaker_options_init(struct breaker_options *options);

void breaker_init(struct breaker *breaker, const struct breaker_options *options, uint64_t seed);
void breaker_end(struct breaker *breaker);

/* Would a request be let through now? A hint: takes nothing. */
bool breaker_may(const struct breaker *breaker, uint64_t now_ms);
/* True: let through, report *ret. Whoever got a probe must report it; a probe never reported is given up after open_ms. */
bool breaker_admit(struct breaker *breaker, uint64_t now_ms, struct breaker_ticket *ret);
/* How a request ended. `took_ms`: until its answer began, for GOOD. NOTHING gives the probe back without a verdict. */
void breaker_report(struct breaker *breaker, struct breaker_ticket ticket, enum breaker_outcome outcome,
                    uint64_t took_ms, uint64_t now_ms);
/* Permille of the usual traffic that should go there: 1000 but for RAMP. */
uint32_t breaker_share(const struct breaker *breaker, uint64_t now_ms);
/* CLOSED or RAMP: what is let through is no probe. */
bool breaker_is_trusted(const struct breaker *breaker);
/* True while OPEN, or forced so, and no probe is due: who waits for this may stop waiting. */
bool breaker_is_open(const struct breaker *breaker, uint64_t now_ms);

/* By hand: open or closed until AUTO, which starts over as CLOSED. */
void breaker_force(struct breaker *breaker, enum breaker_force force, uint64_t now_ms);

/* Takes over the state of a breaker for the same thing; `to` is not shared yet. A probe that is out there does not count here. */
void breaker_inherit(struct breaker *to, struct breaker *from);

struct breaker_view {
    enum breaker_state state;
    enum breaker_force forced;
    uint32_t consecutive; /* failures in a row */
    uint64_t opens;       /* times it opened */
    uint64_t open_for_ms; /* OPEN: until a probe may go; 0 else, or when it is forced */
    uint32_t share_permille;
};
void breaker_look(struct breaker *breaker, uint64_t now_ms, struct breaker_view *ret);
/* "closed", "open", "half-open", "ramp". */
const char *breaker_state_name(enum breaker_state state);
