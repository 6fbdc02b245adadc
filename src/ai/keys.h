/* API keys that this node gives to its clients. A key is "ds_", 8 characters by which it is recognised, 32 of secret (190 bits) and 6 that
 * check the others for typing errors. Only its HMAC-SHA256 under a secret of this node is kept, in the durable state; the text is
 * shown once, to who has it made, and never again to anybody.
 *
 * Looking up takes no lock: records only ever come, and of a record only `revoked` and `used` change. They live as long as the struct
 * ai_keys, so what a lookup returns may be kept that long, too. */
#pragma once

#include "base/buf.h"
#include "loop/loop.h"
#include "store/state.h"

#define AI_KEY_LEN 49u
#define AI_KEYS_MAX 10000u

struct ai_keys;

/* Loads what the state keeps; makes the node's secret when there is none. Blocks: at start. `state` NULL: nothing is kept. 0; -EIO,
 * -ENOMEM, -EBADMSG (what is kept there is none of ours). */
int ai_keys_open(struct state *state, struct ai_keys **ret);
/* After the loops have ended and the state is closed. NULL is fine. */
void ai_keys_free(struct ai_keys *keys);

/* ---- looking up; any thread ---- */

struct ai_identity {
    struct view id, prefix, name, tenant;
    struct view scopes; /* with commas */
    struct view rules;  /* name of configured rules; empty: none */
    int64_t expires_s;  /* 0: never */
};
/* 0; -ENOENT (no key of ours, or a wrong one); -EKEYEXPIRED, -EKEYREVOKED. Takes as long for a wrong secret as for a right one.
 * `now_s`: since 1970. */
int ai_keys_find(struct ai_keys *keys, struct view presented, int64_t now_s, struct ai_identity *ret);
bool ai_identity_may(const struct ai_identity *identity, struct view scope);
/* Has it the form of a key of ours, right or not? For messages that must not repeat it. */
bool ai_keys_looks_like_one(struct view text);

/* ---- changing; on a loop's thread ---- */

struct ai_keys_job;

struct ai_key_wish {
    struct view name;   /* 1 to 128 bytes of UTF-8 without controls */
    struct view tenant; /* 1 to 64 of A-Z a-z 0-9 . _ - ; empty: "default" */
    struct view scopes; /* up to 256 of those and : / * with commas; empty: AI_KEYS_SCOPES */
    struct view rules;  /* up to 64, like a tenant */
    int64_t expires_s;  /* 0: never */
};
#define AI_KEYS_SCOPES "inference,embeddings,models"

/* `task` is woken when the job is done. 0; -EINVAL (the wish is not as said above), -ENOSPC (AI_KEYS_MAX), -ENOMEM. The key counts
 * once it is durable. */
int ai_keys_create(struct ai_keys *keys, struct loop *loop, const struct ai_key_wish *wish, int64_t now_s,
                   struct task *task, struct ai_keys_job **ret);
/* `which` is an id or a prefix, with or without "ds_". The key is refused from now on, durable or not. -ENOENT, -ENOMEM. */
int ai_keys_revoke(struct ai_keys *keys, struct loop *loop, struct view which, int64_t now_s, struct task *task,
                   struct ai_keys_job **ret);

struct ai_keys_result {
    int result; /* 0: durable, or nothing is; -EIO, -ENOSPC, -ENOMEM: a new key does not count, a revoked one comes back at
                        the next start */
    bool durable;    /* it survives a restart */
    struct view key; /* the text, of a new one; until ai_keys_job_leave() */
    struct ai_identity identity;
};
/* False: wait for the wake. */
bool ai_keys_job_done(struct ai_keys_job *job, struct ai_keys_result *ret);
/* The end of a job in any state; what was begun goes on. Wipes the key. NULL is fine. */
void ai_keys_job_leave(struct ai_keys_job *job);

/* ---- listing; any thread, takes the writers' lock ---- */

struct ai_key_info {
    struct ai_identity identity;
    int64_t created_s;
    int64_t revoked_s; /* 0: it is not */
    int64_t used_s;    /* 0: not since the start of the node */
};
/* In the order in which they were made. `each` must not call back. */
void ai_keys_list(struct ai_keys *keys, void (*each)(const struct ai_key_info *info, void *arg), void *arg);
