/* A call: one request to one provider and its answer, as the source of a fill. It tries the provider's credentials, watches the answer as
 * it comes, translates it into the client's dialect when the provider speaks the other, and says nothing to its fill before the first
 * content is there: until then a failure costs nobody anything but time.
 *
 *   provider                                  the fill sees
 *   content has begun, or a whole answer      200, text/event-stream or application/json, in the client's dialect
 *   400, 404, 413, 422                        the same status and an error body in the client's dialect
 *   any other failure                         429, 502, 503, 504, likewise: the next candidate is worth asking
 *   breaks after content                      the rest, then the dialect's error event; not sound, so it is not kept
 *
 * On the loop of the fill; the request and what it points to live until `done`. */
#pragma once

#include "ai/config.h"
#include "ai/usage.h"

#define AI_CALL_TRIES 6u

/* One attempt: a request with one credential. Times are monotonic. */
struct ai_call_try {
    uint64_t start_us, end_us;
    uint32_t queue_us;       /* waited for a connection */
    uint16_t status;         /* the provider's; 0: no answer */
    const char *error_class; /* NULL: it was the last one, and went well */
};

/* What the call came to, told once. */
struct ai_call_report {
    struct ai_usage usage; /* known: said by the provider; else estimated from what was received */
    unsigned attempts;
    uint16_t status;   /* as the fill saw it; 0: no answer */
    bool sound;        /* a whole answer */
    bool billed;       /* something was received that costs */
    bool stored;       /* by the edge: it costs nothing */
    uint64_t first_us; /* from the start to the first content; 0: none came */
    uint64_t duration_us;
    const char *error_class;                 /* "rate_limit", "timeout", ...; NULL: none; static */
    struct ai_call_try tries[AI_CALL_TRIES]; /* the first of them */
};

struct ai_call_request {
    struct ai_candidate *candidate;
    enum ai_endpoint client, provider; /* what either side speaks; equal: bytes go through as they are */
    struct view method, path;          /* path with query, from "/v1/" on */
    struct view fields;                /* further request lines for the provider: versions, betas, traceparent */
    struct view content_type;
    struct buf body;       /* complete, in the provider's dialect; the call takes it */
    struct view model;     /* as the client said it, for translated answers */
    uint64_t prompt_bytes; /* for an estimate */
    uint64_t max_age_s;    /* for how long the answer may be kept; 0: not at all */
    bool stream;           /* the client asked for a stream: its first content has a limit of its own */
    bool raw;              /* pass through as it comes: nothing of it is understood */
    bool limited;          /* in a way that no key knows: an answer cut by that is not kept */
    bool usage_asked;      /* the client asked for usage in its stream */
    unsigned retries;      /* of this provider, besides changing credentials */
    struct view tags;      /* Cache-Tag of the stored answer */
    void (*done)(void *arg, const struct ai_call_report *report); /* the call has ended; then it is gone */
    void *arg;
};

/* A source_open of cache/source.h; `arg` is a struct ai_call_request, read before this returns but for its views. */
int ai_call_open(void *arg, struct task *owner, struct source **ret);
