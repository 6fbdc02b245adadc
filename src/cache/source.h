/* A source is where a fill gets its bytes from when it is not a plain exchange with an upstream: whoever makes an answer out of
 * something else implements these functions. They mean what those of upstream/exchange.h mean, and are called on the fill's loop alone;
 * the source wakes the fill's task after changes. */
#pragma once

#include "base/buf.h"
#include "upstream/exchange.h"

struct source;

struct source_functions {
    enum exchange_state (*state)(const struct source *source); /* CONNECTING, BODY, DONE, FAILED */
    const struct http_response *(*head)(const struct source *source);
    struct view (*head_bytes)(const struct source *source);
    ssize_t (*read)(struct source *source, void *memory, size_t cap);
    /* Body bytes still to come, as far as that can be told; else UINT64_MAX. A fill that nobody reads goes on when it is little. */
    uint64_t (*left)(const struct source *source);
    enum exchange_error (*error)(const struct source *source);
    const char *(*detail)(const struct source *source);
    const struct exchange_timing *(*timing)(const struct source *source);
    /* At the end of the body: may it be kept? `fields`: complete lines that its stored head gets besides. */
    bool (*sound)(struct source *source, struct buf *fields);
    /* The fill is over, however it ended. */
    void (*close)(struct source *source);
};

/* The first member of whatever implements it. */
struct source {
    const struct source_functions *functions;
};

/* Makes the source of a fill, woken through `owner`. 0 or -errno. */
typedef int source_open(void *arg, struct task *owner, struct source **ret);
