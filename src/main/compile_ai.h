/* The AI side of a configuration: providers, models and routes as src/ai wants them. Part of compile.c, which owns the memory. */
#pragma once

#include "ai/config.h"
#include "main/site.h"

/* Everything is taken from the site's arena. `upstreams`: one for each provider, in the order of the site. 0; -ENOMEM; -EINVAL with the
 * reason (a key file that cannot be read). */
int compile_ai(struct site *site, struct upstream *const *upstreams, struct fill_keep *keep, struct ai_config **ret,
               struct text *reason);
/* One route of it; its cache policy is filled in by the caller. NULL: no memory. */
struct ai_route *compile_ai_route(struct site *site, const struct ai_config *config, const struct site_route *from);
