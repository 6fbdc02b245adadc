/* The latest reason why a key's response was not stored, for `doorstep why`. A direct-mapped table per loop: two keys in one
 * place push each other out, so a reason may be forgotten, and never belongs to another key. Fed by one loop, read by any. */
#pragma once

#include "cache/why.h"

#include <stdint.h>

struct whynot;

struct whynot_note {
    enum why why;
    uint16_t status; /* of the response that was not stored */
    int64_t at_s;    /* wall clock */
};

/* 0 or -ENOMEM. */
int whynot_new(struct whynot **ret);
/* Accepts NULL. */
void whynot_free(struct whynot *whynot);
/* `key_hash`: key.hash[0]. Only on the owner's thread. */
void whynot_put(struct whynot *whynot, uint64_t key_hash, enum why why, uint16_t status, int64_t now_s);
/* False when nothing is known. Any thread. */
bool whynot_get(const struct whynot *whynot, uint64_t key_hash, struct whynot_note *ret);
