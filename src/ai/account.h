/* What a request costs: its ledger row, held by the request and by every provider call made for it, and written when the last of them
 * lets go; and what a call reserves of the budgets before it is made. One loop's. */
#pragma once

#include "ai/budget.h"
#include "ai/call.h"
#include "ai/ledger.h"
#include "ai/price.h"
#include "ai/spans.h"
#include "ai/rate.h"
#include "base/arena.h"

struct ai_money {
    struct ledger *ledger;          /* NULL: none is kept */
    struct budgets *budgets;        /* NULL: none are set */
    struct prices *_Atomic *prices; /* NULL inside: none. RCU: valid for this turn */
    struct telemetry *telemetry;    /* NULL: nothing is counted */
    struct rates *rates;            /* NULL: nothing is limited */
};

#define ACCOUNT_LIMITS_MAX 3u
#define ACCOUNT_MODELS_MAX 3u

struct account {
    unsigned refs;
    const struct ai_money *money;
    struct loop *loop;
    struct ledger_row row;
    struct telemetry_more more;
    struct {
        struct view model;
        uint64_t tokens;
        int64_t cost;
    } models[ACCOUNT_MODELS_MAX]; /* whose calls cost something */
    struct ai_spans *spans;       /* NULL: not recorded */
    unsigned open;                /* calls that are not settled yet */
    unsigned calls;               /* those that are */
    struct rate_subject limits[ACCOUNT_LIMITS_MAX];
    unsigned limit_count;
    uint64_t taken;     /* tokens, from each of them */
    struct view broken; /* the provider whose answer broke after its first content; empty: none */
    struct arena arena; /* the row's texts */
    char memory[512];
};

/* One reference. NULL when memory is out. */
struct account *account_new(const struct ai_money *money, struct loop *loop);
void account_ref(struct account *account);
void account_unref(struct account *account);
/* A copy that lives as long as the account; cut when there is no room. */
struct view account_text(struct account *account, struct view text);

/* Takes one request and `tokens` (estimated) from each limit; the names are copied. When the account ends, what was really spent is what
 * was taken. With money->rates only. */
void account_limit(struct account *account, const struct rate_subject *limits, unsigned count, uint64_t tokens,
                   struct rate_result *ret);

/* Before a call: input and output tokens are bounds. 0; -EDQUOT, -EAGAIN, ... as budget_reserve(); -ENOENT: the model has no price and
 * `need_price` says that it must have one. */
int account_reserve(struct account *account, const struct ai_candidate *candidate, struct view model, uint64_t input,
                    uint64_t output, bool need_price, struct reservation *ret, struct budget_refusal *ret_refusal);
/* After it. Returns what it cost, in micro-units. */
int64_t account_settle(struct account *account, const struct ai_candidate *candidate, struct view model,
                       struct reservation *reservation, const struct ai_call_report *report);
/* After a call that was not for the answer itself (a vector): its money and tokens are the request's, the rest of its row is not. */
void account_settle_aside(struct account *account, const struct ai_candidate *candidate, struct view model,
                          struct reservation *reservation, const struct ai_call_report *report);
/* What an answer that was not paid for would have cost. */
int64_t account_worth(const struct account *account, struct view provider, struct view model,
                      const struct ai_usage *usage);
