/* What reading a price file and using it have in common. Internal to src/ai/price*.c. */
#pragma once

#include "ai/price.h"
#include "base/buf.h"

/* A currency's whole unit for one token; far above any price, and five of it times 2^64 fit in 128 bits. */
#define PRICE_MAX ((uint64_t)1000000000000)

struct prices {
    struct price *items; /* the one that wins first */
    unsigned count;
    struct view currency;
    struct buf texts; /* what the views point into; its size is fixed before the first view is made */
};
