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
/* Once it is: what requests use that must not leave the node, or not be written down. */
void compile_ai_caches(struct ai_route *route);

/* compile_ai_rules.c: 0 or -ENOMEM. */
int compile_ai_rules(struct site *site, struct ai_config *to);
/* False: no memory. */
bool compile_ai_route_rules(const struct ai_config *config, const struct site_ai_route *from, struct ai_route *to);
