/* From what a file says (struct site) to what the node runs on (struct http_config): upstreams are made, routes compiled. */
#pragma once

#include "ai/config.h"
#include "http/server.h"
#include "main/site.h"

/* Takes the site over (also on failure). The configuration owns its upstreams; when its last user goes, their connections are
 * closed on each of `loops` in turn. `ai` answers for routes of the AI gateway. 0, or -errno with the reason in `reason`. */
int compile_site(struct site *site, struct http_stats *stats, const struct service *ai, struct loop *const *loops,
                 unsigned loop_count, struct http_config **ret, struct text *reason);
const struct ai_config *compiled_ai(const struct http_config *config);
/* What the configuration was compiled from. */
const struct site *compiled_site(const struct http_config *config);
unsigned compiled_upstreams(const struct http_config *config, struct upstream *const **ret);
/* Upstreams keep what is known about the servers of those with the same name in `old`; before anybody uses `config`. */
void compiled_inherit(struct http_config *config, const struct http_config *old);
/* On a loop's thread: closes what this configuration's upstreams hold there. */
void compiled_close_loop(struct http_config *config, struct loop *loop);
/* Frees without going through the loops: they have all ended. */
void compiled_free(struct http_config *config);
