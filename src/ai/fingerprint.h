/* The key of a request's answer: what must be the same for one answer to stand for another. */
#pragma once

#include "ai/facts.h"

enum fingerprint_kind {
    FINGERPRINT_EXACT,
    FINGERPRINT_CANONICAL, /* `last_user` is the canonical form of the last user message */
    FINGERPRINT_PARTITION, /* all but the last user message: where the semantic index looks for neighbours */
};

/* Everything is borrowed for the call. What is empty is hashed as empty, so that "not said" is a value of its own. */
struct fingerprint_context {
    enum fingerprint_kind kind;
    enum ai_endpoint endpoint; /* of the client's side, and by it the dialect */
    struct view scope;         /* whose entry it is: tenant, and user where the route says so; any bytes */
    uint64_t epoch;            /* counted up to forget all */
    uint64_t policy_revision;  /* of policy and redaction: what they do to requests and answers */
    struct view region, provider;
    struct view model; /* as the provider is asked for it */
    struct view anthropic_version, anthropic_beta, openai_beta;
    struct view query;   /* of the request's path, which the provider gets, too */
    bool stream_matters; /* the stream flag changes the content */
    struct view
        last_user; /* CANONICAL: stands in for the text of facts->last_user_at, which must be there; else ignored */
};

enum { FINGERPRINT_DIGEST_LEN = 32 };

/* SHA-256, for what must not be written down as it is. False when it cannot be had. Any thread. */
bool ai_digest(struct view text, unsigned char ret[FINGERPRINT_DIGEST_LEN]);

/* A key is shorter than this and the scope's length together. */
enum { FINGERPRINT_MAX = 128 };

/* Appends "<length of scope>:<scope>:<epoch>:<64 hexadecimal digits>" to `out`. In it are the context and, in
 * canonical form, all members of the request save model, stream (unless it matters), stream_options, metadata, user,
 * safety_identifier, prompt_cache_key, timeout and request_id. What we do not know is in. Two kinds never have the
 * same key. -ENOMEM; -ENOSPC: `out` is too short; -EINVAL: the kind needs a last user message, and there is none.
 * `out` is as it was on errors. */
int ai_fingerprint(const struct fingerprint_context *context, const struct json *doc, const struct ai_facts *facts,
                   struct text *out);
