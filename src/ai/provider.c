/* Credentials take turns. One that was told to pause rests, one that was refused is not used again: both are facts about the key, not
 * about the provider, whose own health the breaker of its upstream keeps. */
#include "ai/provider.h"

#include "base/log.h"

#include <errno.h>

#define REST_DEFAULT_MS ((uint64_t)10000)
#define REST_MAX_MS ((uint64_t)3600 * 1000)

/* Looks from `start` on; nothing is noted. */
static int find_credential(struct ai_provider *provider, unsigned start, uint32_t tried, uint64_t now_ms,
                           uint64_t *ret_wait_ms)
{
    unsigned count = provider->credential_count;
    uint64_t wait = UINT64_MAX;

    if (count == 0)
        return tried & 1 ? -ENOENT : (int)AI_CREDENTIALS_MAX;
    for (unsigned i = 0; i < count; i++) {
        unsigned at = (start + i) % count;
        struct ai_credential *credential = &provider->credentials[at];
        uint64_t until = atomic_load_explicit(&credential->rest_until_ms, memory_order_relaxed);

        if (tried & 1u << at || atomic_load_explicit(&credential->dead, memory_order_relaxed))
            continue;
        if (until <= now_ms)
            return (int)at;
        wait = MIN(wait, until - now_ms);
    }
    if (wait == UINT64_MAX)
        return -ENOENT;
    *ret_wait_ms = wait;
    return -EAGAIN;
}

int ai_credential_choose(struct ai_provider *provider, uint32_t tried, uint64_t now_ms, uint64_t *ret_wait_ms)
{
    unsigned start = atomic_fetch_add_explicit(&provider->turn, 1, memory_order_relaxed);

    return find_credential(provider, start, tried, now_ms, ret_wait_ms);
}

bool ai_credential_is_left(struct ai_provider *provider, uint32_t tried, uint64_t now_ms)
{
    uint64_t wait;

    return find_credential(provider, 0, tried, now_ms, &wait) >= 0;
}

void ai_credential_rest(struct ai_provider *provider, unsigned index, uint64_t now_ms, uint64_t after_s)
{
    uint64_t rest = after_s ? MIN(after_s, REST_MAX_MS / 1000) * 1000 : REST_DEFAULT_MS;

    if (index < provider->credential_count)
        atomic_store_explicit(&provider->credentials[index].rest_until_ms, now_ms + rest, memory_order_relaxed);
}

void ai_credential_kill(struct ai_provider *provider, unsigned index, const char *why)
{
    if (index < provider->credential_count &&
        !atomic_exchange_explicit(&provider->credentials[index].dead, true, memory_order_relaxed))
        log_warn("provider %.*s: credential %u of %u is dead: %s; it is not used before the next reload",
                 VIEW_ARG(provider->name), index + 1, provider->credential_count, why);
}

int ai_provider_look(struct ai_provider *provider, uint64_t now_ms, uint64_t *ret_wait_ms)
{
    *ret_wait_ms = 0;
    if (upstream_is_down(provider->upstream)) {
        *ret_wait_ms = upstream_down_for_ms(provider->upstream);
        return -EAGAIN;
    }
    return MIN(find_credential(provider, 0, 0, now_ms, ret_wait_ms), 0); /* only asked: takes no turn */
}
