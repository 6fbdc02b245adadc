/* A pull filter between the bytes of a stream, stored or arriving, and one client: hides the chunk that says nothing but usage from a
 * client that did not ask for it, and the "usage":null that the other chunks have then, and sends at a given pace. Everything else is
 * passed on untouched and, as far as nothing is hidden in it and it lies in the input, uncopied. One per client; used by one thread. */
#pragma once

#include "ai/endpoint.h"
#include "proto/json.h"
#include "proto/sse.h"

/* A longer event is refused, when events must be told apart at all. */
#define REPLAY_EVENT_MAX ((size_t)4 << 20)

struct replay {
    struct sse sse;
    struct json doc;       /* scratch */
    struct buf edited;     /* the run at hand, when something was left out within it */
    struct sse_event held; /* an event that came in pieces and waits for its time; its bytes are kept in sse */
    uint64_t due_us;       /* when the next event may go; 0: nothing has gone yet */
    uint64_t us_per_token; /* 0: no pace */
    int error;             /* sticky */
    bool hide_usage, holds;
};

/* `tokens_per_s` 0: at once. `hide_usage` matters for chat and completions only. */
void replay_init(struct replay *r, enum ai_endpoint endpoint, bool hide_usage, uint32_t tokens_per_s);
void replay_free(struct replay *r);

/* Takes bytes from the front of *input. 1: *ret_run (never empty) is to be sent next; it is valid until the next call and as long as the
 * input's bytes. 0 with *ret_wait_us == 0: the input is used up; 0 with *ret_wait_us > 0: call again in that time, with what is left of
 * the input (and more, if any came). -EMSGSIZE, -ENOMEM, -EINVAL as sse_next(). `now_us` is any clock that never goes back. */
int replay_next(struct replay *r, struct view *input, uint64_t now_us, struct view *ret_run, uint64_t *ret_wait_us);
/* The input has ended: bytes kept of an event that was cut, to be sent as they are; 1 or 0 (none). */
int replay_end(struct replay *r, struct view *ret_run);

/* Is this data OpenAI's usage chunk: no choices, but usage? Does not parse what cannot be one. `doc` is scratch. */
bool replay_is_usage(struct json *doc, struct view data);
/* Has this data a top member "usage" that is null? Then *ret is its bytes within the data, with the comma that goes with it. */
bool replay_has_null(struct view data, struct view *ret);
