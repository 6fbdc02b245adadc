/* What a row of checks says about a server. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct health_mark {
    uint32_t good, bad; /* in a row */
    bool out;
};

/* A check ended. True when `out` changed: `unhealthy` bad ones in a row take the server out, `healthy` good ones bring it back. */
static inline bool health_note(struct health_mark *mark, bool good, uint32_t healthy, uint32_t unhealthy)
{
    mark->good = good ? mark->good + 1 : 0;
    mark->bad = good ? 0 : mark->bad + 1;
    if (mark->out ? mark->good < healthy : mark->bad < unhealthy)
        return false;
    mark->out = !mark->out;
    return true;
}
