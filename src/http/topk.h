/* The few heaviest of many: which URLs cause most misses, most bytes. A fixed table (the space-saving sketch of Metwally,
 * Agrawal and El Abbadi, 2005): whatever weighs more than 1/TOPK_SLOTS of all is in it for certain.
 *
 * One sketch per loop, fed by its loop only; any thread may read. Weights are halved every minute, so what is shown is
 * recent. Names are host and path; a query is shown as "?*", never its text. */
#pragma once

#include "base/view.h"

#include <stdint.h>

#define TOPK_SLOTS 128u
#define TOPK_NAME_MAX 120u

struct topk;

struct topk_item {
    char name[TOPK_NAME_MAX + 1]; /* host and path, cut when long */
    uint64_t weight;              /* recent; at most 1/TOPK_SLOTS of the total too high */
};

/* 0 or -ENOMEM. */
int topk_new(struct topk **ret);
/* Accepts NULL. */
void topk_free(struct topk *topk);
/* Only on the owner's thread. Never waits: while somebody reads, the weight goes to the next URL instead. Most calls with a small weight
 * only add to a sum; the URL at which the sum passes a thousandth of the total gets it all. */
void topk_add(struct topk *topk, struct view host, struct view path, bool has_query, uint64_t weight, uint64_t now_ms);
/* The heaviest over several sketches, heaviest first; returns how many (at most `max`). Any thread. 0 also when memory is
 * out. */
unsigned topk_read(struct topk *const *sketches, unsigned count, struct topk_item *ret_items, unsigned max);
