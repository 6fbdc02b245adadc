/* Shared by the tokenizer and the readers of vocabularies. */
#pragma once

#include "ai/wordpiece.h"
#include "base/buf.h"

#define WORDPIECE_COUNT_MAX (1u << 22)
#define WORDPIECE_CHARS_MAX 100u /* of a word; longer ones are unknown */

struct wordpiece_piece {
    uint32_t at; /* in the pool */
    uint16_t len;
    bool inside; /* written with "##" */
};

struct wordpiece_slot {
    uint32_t hash; /* its high half */
    uint32_t id1;  /* id + 1; 0: free */
};

struct wordpiece {
    bool clean, ideographs, strip, lower;
    uint32_t chars_max, unknown, count, longest;
    struct buf pool;
    struct wordpiece_piece *pieces; /* by id; length 0: there is none */
    uint32_t cap;
    struct wordpiece_slot *table;
    uint32_t mask;
};

/* 0, -EINVAL (number or length out of bounds), -ENOMEM. */
int wordpiece_add(struct wordpiece *words, struct view token, uint32_t id);
/* After the last wordpiece_add(). 0, -ENOMEM. */
int wordpiece_build(struct wordpiece *words);
