/* Budgets: reserve before a provider is called, settle after. A reservation holds on all budgets that fit or on none.
 *
 * Money is in micro-units. Windows are UTC days, UTC months, or all time. What is spent belongs to the window of the reservation's
 * time, which is therefore also the time of the ledger row: after a restart the sums of the ledger give the same numbers.
 *
 * Calls are a lock held for a moment and no waiting. Shared budgets spend slices leased from Redis (ai/budget_shared.h) that are
 * refilled before they are used up; only before the first slice of a window is there a request told to come back. */
#pragma once

#include "base/text.h"
#include "loop/loop.h"
#include "store/redis.h"
#include "store/state.h"

enum budget_unit { BUDGET_MONEY, BUDGET_TOKENS };
enum budget_window { BUDGET_DAY, BUDGET_MONTH, BUDGET_TOTAL };

struct budget_rule {
    struct view name;                       /* unique; 64 bytes at most */
    struct view tenant, key, model;         /* which requests: patterns with *; empty: all */
    bool each_tenant, each_key, each_model; /* a budget for each of them, not one for all */
    enum budget_unit unit;
    enum budget_window window;
    int64_t limit;
    bool soft;   /* never refuses; counted and shown */
    bool shared; /* with the other nodes, through Redis */
};

/* Which of them a reservation is charged to. `model` is the provider's, as in the ledger row. */
struct budget_identity {
    struct view tenant, key, model;
};

struct budgets;

struct budget_options {
    const struct budget_rule *rules; /* copied */
    unsigned count;
    struct redis *redis; /* NULL: shared budgets are this node's alone */
    struct view node;    /* names this node among those that share; the same after a restart, 64 bytes at most */
    struct view prefix;  /* of Redis keys; empty: "doorstep:" */
    double share;        /* Redis gone: this part of a shared budget may be spent without a lease, 0..1 */
    unsigned loops;      /* 0: 1 */
    unsigned instances;  /* with each_...: at most so many; 0: 65536 */
};

/* 0; -EINVAL with the reason: two of one name, a limit below 0, a name too long; -ENOMEM. */
int budget_new(const struct budget_options *options, struct budgets **ret, struct text *reason);
/* At start, before the first reservation: what the ledger says was spent. Blocks. 0, -EIO, -ENOMEM. */
int budget_restore(struct budgets *budgets, struct state *state, int64_t now_ms);
/* A reload: rules of a known name, unit, window, each_... and shared keep what was spent; others begin new (budget_restore() then
 * fills only these). Reservations that are out settle all the same. As budget_new(). Not on a loop. */
int budget_set_rules(struct budgets *budgets, const struct budget_rule *rules, unsigned count, struct text *reason);
/* On one loop's thread, when the node drains and while its loops still turn: gives back to Redis what was leased and is neither
 * spent nor reserved. Nothing more is leased afterwards. (A node that ends without this has its slice back when it starts again
 * under the same name.) */
void budget_give_back(struct budgets *budgets, struct loop *loop);
/* On each loop's thread, before redis_loop_close(): ends its calls to Redis. */
void budget_loop_close(struct budgets *budgets, struct loop *loop);
/* After all loops. Accepts NULL. */
void budget_free(struct budgets *budgets);

struct budget_instance;

/* More budgets than this on one request: the request is refused (-E2BIG). */
#define BUDGET_HOLDS_MAX 12

/* Embedded in its owner; zeroed: nothing is held. */
struct reservation {
    int64_t time_ms; /* for the ledger row */
    int64_t money;
    uint64_t tokens;
    bool hard; /* the amounts count, on a budget that refuses: they had better be bounds */
    unsigned count;
    struct {
        struct budget_instance *instance;
        int64_t window;
    } holds[BUDGET_HOLDS_MAX];
};

/* Why not. */
struct budget_refusal {
    char name[65]; /* of the rule */
    enum budget_unit unit;
    enum budget_window window;
    int64_t limit, used; /* used: spent and reserved, here or (shared) by all nodes as last heard */
    int64_t resets_ms;   /* wall clock; 0: never */
    bool unavailable;    /* Redis is gone, and what this node had in hand is used up */
};

/* 0; -EDQUOT and *ret_refusal; -EAGAIN: the first slice of a shared budget is on its way: ask again in a few ms (this ends in 0 or
 * -EDQUOT within BUDGET_WAIT_MS); -E2BIG; -ENOMEM: too many instances. Nothing is held unless 0. `now_ms`: wall clock. */
int budget_reserve(struct budgets *budgets, struct loop *loop, int64_t now_ms, const struct budget_identity *identity,
                   int64_t money, uint64_t tokens, struct reservation *ret, struct budget_refusal *ret_refusal);
#define BUDGET_WAIT_MS 250u

/* What it really was; 0, 0 when no provider was reached. Harmless when nothing is held, with budgets NULL, too. Any thread. */
void budget_settle(struct budgets *budgets, struct reservation *reservation, int64_t money, uint64_t tokens);

/* ---- to look at ---- */

struct budget_view {
    struct view name;
    struct view tenant, key, model; /* of an each_... budget's instance; else empty */
    enum budget_unit unit;
    enum budget_window window;
    bool soft, shared;
    int64_t limit, spent, reserved; /* in the window of now */
    int64_t granted;                /* shared: leased by this node, what it spent included */
    int64_t everywhere;             /* shared: leased by all nodes, as last heard */
    int64_t resets_ms;
    bool unavailable;      /* Redis does not answer */
    int64_t without_lease; /* allowed since it is gone */
    uint64_t refused;      /* requests since start */
    uint64_t overshoots;   /* settled above what was reserved */
    int64_t overshoot_max, overshoot_sum;
    uint64_t soft_exceeded; /* requests that went over a soft limit */
    uint64_t late;          /* settled after their window was over */
};
/* Any thread; `each` runs under the lock: copy, do not call budgets. Returns how many. */
unsigned budget_each(struct budgets *budgets, int64_t now_ms, void (*each)(const struct budget_view *view, void *arg),
                     void *arg);
/* "day", "month", "total"; "money", "tokens". */
struct view budget_window_name(enum budget_window window);
struct view budget_unit_name(enum budget_unit unit);
/* When the window that holds `now_ms` ends; 0: never. */
int64_t budget_resets_ms(enum budget_window window, int64_t now_ms);
