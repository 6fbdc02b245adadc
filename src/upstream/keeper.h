/* What an upstream does without being asked: active checks of its servers, and following the SRV records that name them. It
 * lives on one loop. Internal to src/upstream. */
#pragma once

#include "upstream/pool.h"

struct keeper;

/* On the loop's thread. NULL when memory is out: then nothing is checked. */
struct keeper *keeper_new(struct upstream *upstream, struct loop *loop);
/* On the same thread. */
void keeper_free(struct keeper *keeper);
