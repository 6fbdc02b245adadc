/* The admin listener's answers:
 *
 *     GET  /healthz            200 while the process runs its loops; no token
 *     GET  /readyz             200, or 503 while it drains; no token
 *     GET  /metrics            Prometheus text
 *     GET  /top                counters, memory, upstreams, top URLs: JSON
 *     GET  /why?url=URL        how this URL is treated now and why: JSON, or text with format=text
 *     POST /purge?url=URL      also ?prefix=, ?tag=, ?host=, ?group=, ?all=1; with soft=1 marks stale. The listener carries it
 *                              out and answers when it is durable and known elsewhere: {"purged":true,...}
 *     GET  /ai/keys            the API keys of this node, without their secrets: JSON
 *     POST /ai/keys?name=NAME  also &tenant=, &scopes=, &rules=, &expires=SECONDS: makes one; the answer has its text, once
 *     POST /ai/keys/revoke?key=PREFIX-OR-ID
 *     GET  /ai/ledger          rows, the oldest first: JSON lines, or format=csv; since=, until= (milliseconds), tenant=, key=,
 *                              limit=, after= the id of the last row seen; or sum=tenant|key|model|day
 *
 * Errors are JSON: {"status":401,"error":"..."}. With a token set, everything but the two health paths wants
 * "Authorization: Bearer TOKEN"; over a Unix socket file permissions decide and no token is asked for. Without a token a
 * purge that a browser sent for a page (Origin, or Sec-Fetch-Site of another site) is refused with 403. */
#pragma once

#include "base/metrics.h"
#include "http/server.h"

struct ai_config;
struct ai_keys;
struct budgets;
struct ledger;
struct semantic;
struct telemetry;
struct tracer;

struct admin;

struct admin_options {
    struct server *server; /* borrowed, as all below */
    struct metrics *metrics;
    struct view token;       /* copied; empty: none asked for */
    struct ai_keys *ai_keys; /* NULL: this node has none */
    struct ledger *ledger;   /* NULL: likewise, as those below */
    struct budgets *budgets;
    struct telemetry *telemetry;
    struct semantic *semantic;
    struct tracer *tracer;
    const struct ai_config *(*ai_config)(const struct http_config *config); /* what it says of AI; may give NULL */
};

/* Registers the metrics of memory, upstreams and process too. 0 or -ENOMEM. */
int admin_new(struct admin **ret, const struct admin_options *options);
/* After the loops have ended, and before the metrics are freed. Accepts NULL. */
void admin_free(struct admin *admin);
/* The handler for server.admin; `arg` is the struct admin. On a loop's thread, inside its turn. */
admin_handler admin_handle;

/* The upstreams of a configuration, each once. Returns how many (at most `max`). */
unsigned admin_upstreams(const struct http_config *config, struct upstream **ret, unsigned max);
#define ADMIN_UPSTREAMS_MAX 64u
