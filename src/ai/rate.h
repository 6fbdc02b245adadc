/* Requests and tokens per minute, for a key, a tenant, a route: token buckets (GCRA) that hold one minute's worth. Time is an
 * argument, in monotonic microseconds. Any thread; a lock per shard of the table, held for a moment. */
#pragma once

#include "ai/endpoint.h"
#include "base/text.h"

struct rates;

struct rate_options {
    unsigned
        buckets; /* subjects known at once; 0: 65536 (16 bytes each). More: those that are full again are forgotten first */
};
int rate_new(const struct rate_options *options, struct rates **ret); /* 0 or -ENOMEM */
void rate_free(struct rates *rates);

/* One limit of a request. `kind` keeps a tenant called "a" from a key called "a". */
struct rate_subject {
    char kind;                 /* 'k' key, 't' tenant, 'r' route, ... */
    struct view name;          /* for a limit of a key within a route: both, joined by the caller */
    uint64_t requests, tokens; /* per minute; 0: no limit */
};
#define RATE_SUBJECTS_MAX 8

/* Of the subject that has least left in proportion; limit 0: none is limited. */
struct rate_meter {
    uint64_t limit, remaining;
    uint64_t reset_ms; /* until it is full again */
};

struct rate_result {
    bool allowed;
    bool tokens;            /* refused for tokens, not for requests */
    unsigned subject;       /* refused: which */
    uint32_t retry_after_s; /* refused: 1..60 */
    struct rate_meter requests_meter, tokens_meter;
};

/* Takes one request and `tokens` (an estimate; more than a minute's worth counts as just that) from every subject, or nothing
 * from any. `count` at most RATE_SUBJECTS_MAX. */
void rate_take(struct rates *rates, uint64_t now_us, const struct rate_subject *subjects, unsigned count,
               uint64_t tokens, struct rate_result *ret);
/* The real number, after: gives back what was too much, takes what was missing (which may put a bucket below empty). */
void rate_correct(struct rates *rates, uint64_t now_us, const struct rate_subject *subjects, unsigned count,
                  uint64_t taken, uint64_t tokens);

/* Fields as the dialect's SDKs read them, each with CRLF: x-ratelimit-limit-requests, -remaining-, -reset- ("1m2.5s") and the same
 * for tokens; or anthropic-ratelimit-requests-limit, -remaining, -reset (RFC 3339, from `wall_ms`); retry-after when refused. */
void rate_put_headers(struct text *out, enum ai_dialect dialect, const struct rate_result *result, int64_t wall_ms);
/* The same one by one: `put` gets each name and value; the views die with the call. */
void rate_each_header(enum ai_dialect dialect, const struct rate_result *result, int64_t wall_ms,
                      void (*put)(struct view name, struct view value, void *arg), void *arg);
