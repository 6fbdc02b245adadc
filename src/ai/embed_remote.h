/* An embedding model behind a provider's /v1/embeddings (OpenAI's form): on this machine or far away. The model is a name, its vectors are
 * asked for one at a time through the provider's own upstream, credentials and breaker, and never waited for longer than its timeout:
 * whoever asks goes on without a vector then. One loop's, but for the model. */
#pragma once

#include "ai/call.h"
#include "ai/embed.h"

struct embed_remote_options {
    struct view provider; /* its name in the configuration */
    struct view server;   /* where it is: part of the model's identity */
    struct view model;
    unsigned dims; /* answers of another size are refused */
    uint32_t timeout_ms;
};

/* Copies the names. 0, -EINVAL (dims), -ENOMEM. Freed with embed_free(); embed_text() and embed_start() are not for it. */
int embed_remote_new(const struct embed_remote_options *options, struct embed **ret);
/* What it was made from; NULL: a model on this machine. */
const struct embed_remote_options *embed_remote(const struct embed *e);
/* False: the last three answers failed, and the pause after that is not over. */
bool embed_remote_is_up(const struct embed *e, uint64_t now_ms);

struct embed_ask;

struct embed_ask_options {
    const struct embed *embed;
    struct ai_candidate *candidate; /* of its provider; lives until embed_ask_drop() */
    struct view text, fields;       /* request lines for the provider; copied */
    void (*done)(void *arg,
                 const struct ai_call_report *report); /* the call is over: at the latest in embed_ask_drop() */
    void *arg;
};

/* `task` is woken when there is news. NULL when memory is out; then `done` is not called. */
struct embed_ask *embed_ask_start(const struct embed_ask_options *options, struct task *task);
/* -EAGAIN: not yet. 0: *out has embed_dims() floats of length 1. Else there will be none: -ETIMEDOUT; -EIO (no good answer); -EBADMSG
 * (not a vector, or one of other dimensions). */
int embed_ask_done(struct embed_ask *ask, float *out);
/* Gives it up, done or not. NULL is fine. */
void embed_ask_drop(struct embed_ask *ask);
