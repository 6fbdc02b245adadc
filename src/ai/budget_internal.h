/* The pieces of the budgets. Internal to src/ai/budget*.c. Everything is under the one lock unless it says otherwise. */
#pragma once

#include "ai/budget.h"

#include "base/list.h"

#include <pthread.h>

/* Of a request, and of a limit: sums of them do not overflow. */
#define BUDGET_AMOUNT_MAX ((int64_t)1 << 46)
#define BUDGET_LIMIT_MAX ((int64_t)1 << 60)
/* What Lua's numbers hold exactly. */
#define BUDGET_SHARED_MAX ((int64_t)1 << 53)

struct rule {
    struct budget_rule is; /* views into `texts` */
    char *texts;
    bool gone;     /* by a reload; kept, since reservations may hold on it */
    bool restored; /* what the ledger says is in */
    bool kept;     /* mark of a reload */
};

/* One window of an instance. */
struct slot {
    int64_t window; /* budget_window_of() */
    int64_t spent, reserved;
    int64_t granted, everywhere; /* shared: leased by this node; by all */
    bool known;                  /* an answer came for this window */
};

struct budget_instance {
    struct budget_instance *next; /* of its place in the table */
    struct rule *rule;
    uint64_t hash;
    struct view tenant, key, model; /* of an each_...; else empty; in `texts` */
    struct slot slots[2];           /* the window of now, and the one before it */
    uint64_t holds;                 /* reservations that are out */
    uint64_t refused, overshoots, soft_exceeded, late;
    int64_t overshoot_max, overshoot_sum;
    /* shared */
    bool leasing, dry, unavailable;
    uint64_t retry_ms;   /* monotonic; dry or unavailable: when to ask again */
    uint64_t waiting_ms; /* monotonic: since when requests are told to come back; 0: they are not */
    char texts[];
};

struct budget_lease;

struct budgets {
    pthread_mutex_t lock;
    struct rule **rules;
    unsigned rule_count, rule_cap;
    struct budget_instance **table;
    unsigned table_size; /* a power of two */
    unsigned instances, instances_max;

    /* not changed after budget_new() */
    struct redis *redis;
    struct view node, prefix;
    char *texts;
    double share;
    unsigned loops;

    bool closing;         /* no more leases */
    struct node leases[]; /* one list for each loop, its own thread's */
};

/* ---- budget_window.c ---- */

/* A number for each window, growing: days, months since the year 0; 0 for all time. */
int64_t budget_window_of(enum budget_window window, int64_t ms);
/* When window number `id` ends; 0: never. */
int64_t budget_window_end_ms(enum budget_window window, int64_t id);
/* The first UTC day of the window that holds `ms`; INT32_MIN for all time. */
int32_t budget_first_day(enum budget_window window, int64_t ms);

/* ---- budget.c ---- */

bool budget_fits(const struct rule *rule, const struct budget_identity *identity);
/* The instance of `rule` for this identity, made when it is not there. NULL: too many, or no memory. */
struct budget_instance *budget_instance_get(struct budgets *budgets, struct rule *rule,
                                            const struct budget_identity *identity, int64_t now_ms);
/* The slot of a window, made when it is none of the two that are counted. A clock that went days ahead and came back may so begin an old
 * window anew. */
struct slot *budget_slot(struct budget_instance *instance, int64_t window);

/* ---- budget_shared.c ---- */

enum share_answer { SHARE_ENOUGH, SHARE_COME_BACK, SHARE_EXHAUSTED };

/* Has this node `amount` more in hand? *ret_lease: budget_lease_begin() is to be called for it, without the lock. */
enum share_answer budget_share_ask(struct budgets *budgets, struct budget_instance *instance, struct slot *slot,
                                   int64_t amount, uint64_t mono_ms, bool *ret_lease);
/* On the loop's thread, without the lock. */
void budget_lease_begin(struct budgets *budgets, struct loop *loop, struct budget_instance *instance, int64_t window,
                        int64_t amount);
