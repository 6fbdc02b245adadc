/* Choosing one of several servers. Pure: everything that counts is an argument. */
#pragma once

#include <stdint.h>

enum balance { BALANCE_ROUND_ROBIN, BALANCE_LEAST_REQUESTS, BALANCE_HASH };

struct balance_server {
    unsigned index;     /* the caller's name for it */
    uint32_t weight;    /* > 0 */
    uint32_t in_flight; /* requests there now; least requests */
    uint64_t hash;      /* of its name; consistent hashing */
    int64_t *current;   /* round robin: kept between calls, one per server, 0 at first */
};

/* The position in `list` (count > 0) of the chosen one. `turn` breaks ties in round robin; `random` is for least requests;
 * `key` for hashing.
 *
 *   ROUND_ROBIN     in turn, by weight, evenly mixed
 *   LEAST_REQUESTS  two at random by weight, then the one with fewer requests per weight
 *   HASH            the same key goes to the same server as long as that one is in the list; when it is not, only its own keys
 *                   move (highest random weight) */
unsigned balance_pick(enum balance how, const struct balance_server *list, unsigned count, unsigned turn,
                      uint64_t random, uint64_t key);
