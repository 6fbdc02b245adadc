/* The AI gateway: the service (cache/service.h) behind routes with `ai`. A request is read, checked, looked for on every rung under the
 * fingerprint of each candidate in turn, and else asked of the first candidate that can answer; its answer is streamed to all who asked
 * the same, stored, priced and written to the ledger. */
#pragma once

#include "ai/account.h"
#include "ai/embed.h"
#include "ai/keys.h"
#include "ai/semantic.h"
#include "cache/ladder.h"
#include "cache/service.h"

struct ai_gateway;

struct ai_gateway_options { /* all borrowed */
    const struct fill_context *fill;
    struct ladder *ladder; /* NULL: memory only */
    unsigned loops;
    struct ai_money money;
    struct tracer *tracer;     /* NULL: no traces of our own */
    struct ai_keys *keys;      /* NULL: no key is known */
    struct semantic *semantic; /* NULL: none */
    struct embed *embed;       /* NULL: canonical prompts only */
    struct workers *workers;   /* for an `embed` that blocks */
};

int ai_gateway_new(const struct ai_gateway_options *options, struct ai_gateway **ret); /* 0 or -ENOMEM */
/* After all loops. NULL is fine. */
void ai_gateway_free(struct ai_gateway *gateway);
/* For routes; its route argument is a struct ai_route. */
const struct service *ai_gateway_service(const struct ai_gateway *gateway);
