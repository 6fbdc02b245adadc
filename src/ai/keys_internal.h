/* Internal to src/ai/keys*.c: a record, and its form in the state. */
#pragma once

#include "ai/keys.h"

#include <openssl/evp.h>
#include <pthread.h>

#define KEYS_HASH_LEN 32u
#define KEYS_PREFIX_LEN 8u
#define KEYS_ID_LEN 16u
#define KEYS_SLOTS 32768u /* more than three times AI_KEYS_MAX, so that a search is short */
#define KEYS_MACS 16u

struct ai_key {
    char id[KEYS_ID_LEN], prefix[KEYS_PREFIX_LEN];
    uint8_t hash[KEYS_HASH_LEN];
    int64_t created_s, expires_s;
    _Atomic int64_t revoked_s, used_s; /* 0: not */
    struct view name, tenant, scopes, rules;
    bool lost; /* the state did not take it: it is not written again. Under the lock */
    char texts[];
};

struct ai_keys {
    struct state *state;
    EVP_MAC_CTX *mac;                       /* keyed; copied, never used */
    _Atomic(EVP_MAC_CTX *) idle[KEYS_MACS]; /* copies nobody uses now */
    _Atomic(struct ai_key *) slots[KEYS_SLOTS];
    pthread_mutex_t lock; /* of what follows; never held while something blocks */
    struct ai_key **all;
    size_t count, cap;
};

/* A record with copies of these texts; NULL when memory is out. */
struct ai_key *keys_record(const struct ai_key_wish *texts);
/* keys_form.c: one line for each record. */
void keys_write(const struct ai_key *key, struct buf *out);
/* Reads one line (without its end). 0, -EBADMSG, -ENOMEM. */
int keys_read(struct view line, struct ai_key **ret);
/* Is the wish as ai_keys_create() wants it? */
bool keys_wish_fits(const struct ai_key_wish *wish);
