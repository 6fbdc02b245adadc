/* Choosing among a provider's credentials, and what its answers teach about them. Any loop. */
#pragma once

#include "ai/config.h"

#define AI_CREDENTIALS_MAX 32u
#define AI_RETRY_AFTER_MAX_S 60u /* some SDKs sleep through whatever is said, others ignore more */

/* A credential that is neither dead nor resting nor in `tried` (bits): its index; -ENOENT: none, ever; -EAGAIN: later, *ret_wait_ms.
 * A provider without credentials gives AI_CREDENTIALS_MAX once. */
int ai_credential_choose(struct ai_provider *provider, uint32_t tried, uint64_t now_ms, uint64_t *ret_wait_ms);
/* Would ai_credential_choose() find one? It does not take a turn. */
bool ai_credential_is_left(struct ai_provider *provider, uint32_t tried, uint64_t now_ms);
/* It answered 429. `after_s`: its Retry-After, 0: not said. */
void ai_credential_rest(struct ai_provider *provider, unsigned index, uint64_t now_ms, uint64_t after_s);
/* It was refused. `why`, for the log, which hears of it once: "refused with 401". */
void ai_credential_kill(struct ai_provider *provider, unsigned index, const char *why);
/* May it be asked now? 0; -EAGAIN: later, *ret_wait_ms says when, if that is known; -ENOENT: all its credentials were refused. */
int ai_provider_look(struct ai_provider *provider, uint64_t now_ms, uint64_t *ret_wait_ms);
