/* The slots of an upstream: filled from URLs and SRV records, looked at and switched from outside. Internal to src/upstream. */
#pragma once

#include "upstream/pool.h"

void servers_init(struct upstream *upstream, const struct breaker_options *breaker);
/* Parses a configured URL into a slot, or an SRV name to follow. *tls becomes true when it is https. 0, -EINVAL with the
 * reason, -ENOMEM. */
int servers_add(struct upstream *upstream, const char *url, bool *tls, struct text *reason);
void servers_free(struct upstream *upstream);
