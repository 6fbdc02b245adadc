/* What is counted about AI requests, under the names of OpenTelemetry's conventions for generative AI: one call when a request's ledger
 * row is complete, a few plain stores on the loop's own cache lines.
 *
 * Labels are names of the configuration (providers, models, aliases), of this source (outcomes, tiers, error classes) or "other": their
 * number is bounded, and nothing a client says becomes one. */
#pragma once

#include "ai/config.h"
#include "ai/ledger.h"

struct telemetry;

int telemetry_new(unsigned loops, struct telemetry **ret); /* 0 or -ENOMEM */
/* After the loops. NULL is fine. */
void telemetry_free(struct telemetry *telemetry);
/* Providers and models of a configuration get labels of their own, those of older ones keep theirs. Not on a loop: takes a lock. */
void telemetry_learn(struct telemetry *telemetry, const struct ai_config *config);
/* What earlier runs spent today and this month. At start; blocks. 0, -EIO, -ENOMEM. `state` NULL: nothing. */
int telemetry_restore(struct telemetry *telemetry, struct state *state, int64_t now_ms);

/* What the row does not say. */
struct telemetry_more {
    unsigned failovers; /* candidates that failed before another one was asked */
    uint64_t call_us;   /* of the last provider call, to its end; 0: none was made */
    bool streamed;      /* its answer came piece by piece: a first token has a time of its own */
};
/* On the loop's thread, once a request. */
void telemetry_request(struct telemetry *telemetry, struct loop *loop, const struct ledger_row *row,
                       const struct telemetry_more *more);
/* A second candidate was asked because the first was late; or, `won`: it is whose answer is waited for now. `provider` and `model` are the
 * second's. On the loop's thread. */
void telemetry_hedge(struct telemetry *telemetry, struct loop *loop, struct view provider, struct view model,
                     enum ai_endpoint endpoint, bool won);
/* Is this a model of the configuration, at this provider? Any thread. */
bool telemetry_knows(const struct telemetry *telemetry, struct view provider, struct view model);

/* ---- reading, any thread ---- */

enum { TELEMETRY_RUNGS = 4 }; /* enum ai_rung, and no provider */

struct telemetry_model {
    struct view provider, model; /* "none" where no provider was chosen */
    unsigned rung;               /* enum ai_rung, or 3: none */
    uint64_t requests[LEDGER_OUTCOMES][LEDGER_TIERS];
    uint64_t input, cached, cache_write, output, reasoning; /* paid */
    uint64_t tokens_saved, attempts, failovers;
    uint64_t hedges, hedges_won; /* asked because another one was late */
    uint64_t cost, saved;        /* micro-units */
    uint64_t estimated;          /* requests whose usage the provider did not say */
};
/* Sums since start; those that were never asked are left out. */
void telemetry_each(const struct telemetry *telemetry, void (*each)(const struct telemetry_model *model, void *arg),
                    void *arg);

/* By UTC; earlier runs included. */
struct telemetry_money {
    int64_t today, today_saved, month, month_saved; /* micro-units */
};
void telemetry_money(const struct telemetry *telemetry, int64_t now_ms, struct telemetry_money *ret);

/* As Prometheus text. */
void telemetry_write(const struct telemetry *telemetry, struct text *out);
/* "device", "edge", "cloud", "none". */
struct view telemetry_rung_name(unsigned rung);
