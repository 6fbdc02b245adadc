/* The AI gateway's parts that outlive configurations: prices, budgets, ledger and the gateway itself. Made when the tiers are, before
 * anything is compiled, and ended before them. */
#pragma once

#include "ai/gateway.h"
#include "ai/keys.h"
#include "http/server.h"
#include "main/site.h"

struct gateway {
    struct ai_gateway *ai; /* NULL: the site has no AI */
    struct ai_keys *keys;  /* freed with the loops: writes of the state may still answer them */
    struct ledger *ledger;
    struct budgets *budgets;
    struct rates *rates;
    struct prices *_Atomic prices;
    struct telemetry *telemetry; /* freed with the loops, like keys */
    struct semantic *semantic;
    struct embed *embed; /* NULL: canonical prompts only */
    struct semantic_keeper *keeper;
    char *semantic_path;   /* where the index is kept between runs; NULL: nowhere */
    struct tracer *tracer; /* borrowed; set before gateway_open() */
    struct redis *redis;   /* borrowed */
    struct state *state;   /* borrowed */
};

/* 0; -errno, the reason logged. The server's fill context, ladder and state are there. */
int gateway_open(struct gateway *gateway, struct server *server, struct workers *workers, const struct site *site,
                 unsigned loop_count);
/* A changed configuration: prices and budgets anew. False, and nothing changed: the reason is in `reason`. */
bool gateway_reload(struct gateway *gateway, const struct site *site, struct text *reason);
/* On each loop's thread, its fills ended. */
void gateway_close_loop(struct gateway *gateway, struct loop *loop);
/* From the main thread, the loops closed, the state still open. */
void gateway_close(struct gateway *gateway);
/* After the loops and the state. */
void gateway_free(struct gateway *gateway);
