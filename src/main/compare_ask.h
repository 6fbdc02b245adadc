/* One prompt asked of one model through a node, as a stream, with a clock beside it. Blocking: the command has nothing else to do. */
#pragma once

#include "ai/usage.h"
#include "base/buf.h"

struct compare_target {
    const char *address; /* "host:port" */
    struct view host;    /* what the Host field says */
    struct view prefix;  /* of the path, before "/v1/" */
    struct view key;     /* empty: none is sent */
    unsigned timeout_s;  /* of silence */
};

struct compare_answer {
    int status;   /* 0: there was no answer */
    bool ended;   /* the stream said that it was over */
    bool tools;   /* it called one */
    bool refusal; /* the model said, in the protocol's own way, that it would not */
    char finish[24];
    char provider[64], model[128]; /* as the node says; empty: it does not */
    char error[192];               /* what went wrong; empty: nothing */
    uint64_t first_us, total_us;   /* from the request on; first_us 0: no content came */
    struct ai_usage usage;
    struct buf text;
};

/* `body` is complete; `tier` may be empty. Everything that goes wrong is in the answer, which goes to compare_answer_free(). */
void compare_ask(const struct compare_target *target, struct view tier, struct view body, struct compare_answer *ret);
void compare_answer_free(struct compare_answer *answer);
