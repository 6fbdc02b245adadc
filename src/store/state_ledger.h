/* The ledger's part of the state: one row for each request to an AI provider or its cache, and sums of them by day that outlive the
 * rows. The rows of one batch are kept together or not at all, with what they add to the sums.
 *
 * Rows are queued beside the other writes (state_write()), which go first: a batch waits, a purge does not wait for batches. */
#pragma once

#include "base/buf.h"
#include "base/list.h"
#include "store/state.h"

enum ledger_outcome {
    LEDGER_OK,           /* a provider answered */
    LEDGER_HIT,          /* answered from what is stored */
    LEDGER_COLLAPSED,    /* shared the provider call of another request */
    LEDGER_ERROR,        /* providers failed */
    LEDGER_DISCONNECTED, /* the client went before the end */
    LEDGER_REFUSED,      /* key, policy, rate or budget */
    LEDGER_OUTCOMES
};

enum ledger_tier {
    LEDGER_TIER_NONE,
    LEDGER_TIER_MEMORY,
    LEDGER_TIER_DISK,
    LEDGER_TIER_SHARED,
    LEDGER_TIER_SEMANTIC,
    LEDGER_TIERS
};

/* No prompt, no answer. Texts longer than LEDGER_TEXT_MAX are cut. Money in micro-units (1,000,000 = 1 USD, or whatever the prices
 * are in). */
struct ledger_row {
    int64_t time_ms; /* wall clock, of the reservation if there was one: it decides the day the money is spent on */
    struct view request_id, tenant, key, route;
    struct view client_model; /* as asked for: often an alias */
    struct view provider, model, region;
    struct view error_class;
    struct view
        other_model; /* of a further call for this request; empty: none. Known to the sums alone, which count its part as its own */
    uint64_t input, cached, cache_write, output, reasoning; /* usage, also of a hit (then of the stored answer) */
    uint64_t tokens;                                        /* what was charged to token budgets: 0 for a hit */
    int64_t reserved, cost, saved;
    uint64_t other_tokens; /* of tokens and cost: what the other model came to */
    int64_t other_cost;
    int64_t first_token_us, duration_us; /* first_token_us < 0: none came */
    uint32_t attempts;                   /* provider calls */
    uint16_t status;                     /* of the answer to the client; 0: none was sent */
    uint16_t similarity;                 /* of a semantic hit, in 1/10000 */
    uint8_t endpoint;                    /* enum ai_endpoint */
    uint8_t outcome;                     /* enum ledger_outcome */
    uint8_t tier;                        /* enum ledger_tier */
    bool estimated;                      /* usage was not said by the provider */
};

#define LEDGER_TEXTS 10
#define LEDGER_TEXT_MAX 255u
/* A row in a batch never takes more. */
#define LEDGER_ROW_MAX 4096u

/* Appends a row in the form of a batch. False when it does not fit: nothing was appended. */
bool state_ledger_put(struct text *batch, const struct ledger_row *row);
/* Takes the first row off *batch; views into it. False at its end. */
bool state_ledger_take(struct view *batch, struct ledger_row *ret);

/* ---- writing; any thread ---- */

struct state_rows {
    struct view batch;     /* of state_ledger_put(); borrowed until done; may be empty */
    unsigned count;        /* rows in it */
    int64_t forget_before; /* rows with smaller times go, the oldest first, at most forget_max; 0: none */
    unsigned forget_max, forgotten;
    /* Called on the state's thread after the commit (or at once, when nothing is kept). It owns the struct then, and must not
     * block or call the state. result: 0, -EIO, -ENOSPC, -ENOMEM: nothing of it is on disk. */
    void (*done)(struct state_rows *rows, int result);
    struct node link;
};
/* Takes the struct over until `done`. Order is kept. */
void state_append(struct state *state, struct state_rows *rows);

/* ---- reading: blocks (behind a commit too), never on a loop ---- */

/* Pages go in the order of time. `after` and *ret_after are row ids: 0 is before all. */
struct state_ledger_query {
    int64_t since_ms, until_ms; /* since <= time < until; until 0: no end */
    struct view tenant, key;    /* empty: all */
    int64_t after;
    unsigned limit; /* rows given */
};
/* 0 and *ret_after (0: that was all); -EIO, -ENOMEM. A page looks at a bounded number of rows, so it may give few (none, too)
 * without being the last. `each` must copy what it keeps and not call the state. */
int state_ledger_page(struct state *state, const struct state_ledger_query *query,
                      void (*each)(const struct ledger_row *row, int64_t id, void *arg), void *arg, int64_t *ret_after);

/* Everything that was ever spent, by UTC day, tenant, key and model. */
struct ledger_sum {
    int32_t day; /* since 1970 */
    struct view tenant, key, model;
    uint64_t requests, hits; /* hits: HIT and COLLAPSED */
    uint64_t input, output, tokens;
    int64_t cost, saved;
};
/* Sums of days from `first` to `last`. 0 or -EIO. */
int state_ledger_sums(struct state *state, int32_t first, int32_t last,
                      void (*each)(const struct ledger_sum *sum, void *arg), void *arg);
