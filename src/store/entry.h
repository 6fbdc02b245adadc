/* The stored form of a response, the same in every tier below memory: a head of fixed numbers and texts, closed by its own
 * CRC-32C, then the body. What it cannot say is not kept: reference counts, hit counters, the memory tier's bookkeeping.
 *
 *   bytes       meaning (numbers are little-endian)
 *   0..3        magic "DSE1"
 *   4..5        format version; another one is foreign: a miss, never an error
 *   6..7        kind: ENTRY_RESPONSE or ENTRY_VARY
 *   8..11       length of the head, this table and the closing CRC included
 *   12..        flags, status, method, cost, times, position, body range, text lengths, then the texts
 *   last 4      CRC-32C of everything before it
 *
 * A key whose responses have a Vary holds an ENTRY_VARY: the names, and a generation that enters the keys of the variants, so
 * that dropping the one entry makes every variant unreachable at once. */
#pragma once

#include "store/object.h"

#define ENTRY_VERSION 1u
#define ENTRY_HEAD_MAX ((size_t)256 * 1024)
#define ENTRY_PREFIX 12u /* bytes that tell how long the head is */

enum entry_kind { ENTRY_RESPONSE = 1, ENTRY_VARY = 2 };

struct entry {
    enum entry_kind kind;
    uint32_t flags; /* of the object, OBJECT_STORED_FLAGS of them */
    uint16_t status, method;
    uint32_t cost_ms;
    uint32_t etag_at, etag_len;
    struct object_times times; /* wall clock of the reader: already shifted */
    uint64_t position;         /* purge position, in the terms of the tier */
    uint64_t generation;       /* of an ENTRY_VARY */
    uint64_t body_first, body_len, complete_len;
    uint32_t body_crc;                                         /* CRC-32C of the body; 0 with external bodies */
    struct view key, url, tags, head, vary_names, vary_values; /* into the parsed bytes */
};

/* Bytes of the head that entry_put() will write for this entry. */
size_t entry_head_len(const struct entry *entry);
/* Writes exactly that many. `shift_ms` is added to every wall-clock time: towards the clock that all readers share. */
void entry_put(const struct entry *entry, int64_t shift_ms, char *out);
/* Describes an object for entry_put(); the views borrow from it. */
void entry_of(const struct object *object, struct entry *ret);

/* Length of the head that begins here, from at least ENTRY_PREFIX bytes. 0, -EPROTONOSUPPORT: foreign version, -EBADMSG. */
int entry_peek(struct view bytes, size_t *ret_head_len);
/* Parses and checks a whole head; `shift_ms` is taken off every wall-clock time. The views borrow from `bytes`. 0,
 * -EPROTONOSUPPORT, -EBADMSG: torn, rotten or no entry at all. */
int entry_parse(struct view bytes, int64_t shift_ms, struct entry *ret);

/* A response as an object without its body, one reference, flags without OBJECT_COMPLETE. `key` must equal entry->key in text;
 * `body_hint` bytes of room follow. NULL when memory is out. */
struct object *entry_object(const struct entry *entry, const struct key *key, size_t body_hint);

/* The key under which a variant stands: the primary key's hash, the generation of its ENTRY_VARY, the request's values. */
struct entry_key {
    uint64_t hash[2];
};
struct entry_key entry_key_primary(const struct key *key);
struct entry_key entry_key_variant(const struct key *key, uint64_t generation, struct view vary_values);
