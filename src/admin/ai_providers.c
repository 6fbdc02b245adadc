/* Providers of the AI gateway and their candidates, for /metrics, /top and /upstreams: who can be asked, and what is under way there. Of
 * credentials only how many there are. */
#include "admin/answer.h"
#include "ai/telemetry.h"
#include "base/clock.h"

#define LABELS_MAX 1024u

const struct ai_config *admin_ai_config(const struct admin *admin)
{
    const struct http_config *config = server_config(admin->server);

    return config && admin->ai_config ? admin->ai_config(config) : NULL;
}

struct credentials_seen {
    unsigned ready, resting, dead;
};

static struct credentials_seen look_at_credentials(const struct ai_provider *provider)
{
    struct credentials_seen seen = { 0 };
    uint64_t now = clock_mono_ms();

    for (unsigned i = 0; i < provider->credential_count; i++) {
        const struct ai_credential *credential = &provider->credentials[i];

        if (atomic_load_explicit(&credential->dead, memory_order_relaxed))
            seen.dead++;
        else if (atomic_load_explicit(&credential->rest_until_ms, memory_order_relaxed) > now)
            seen.resting++;
        else
            seen.ready++;
    }
    return seen;
}

/* ---- metrics ---- */

static void write_credentials(struct text *out, const struct ai_config *config)
{
    admin_family(out, "doorstep_ai_credentials", "gauge",
                 "Credentials at a provider: usable, told to pause, or refused.");
    for (unsigned i = 0; i < config->provider_count; i++) {
        struct credentials_seen seen = look_at_credentials(&config->providers[i]);
        char memory[LABELS_MAX];
        struct text labels = TEXT_ON(memory);

        metrics_label(&labels, "provider", config->providers[i].name);
        text_printf(out, "doorstep_ai_credentials{%.*s,state=\"ready\"} %u\n", VIEW_ARG(text_view(&labels)),
                    seen.ready);
        text_printf(out, "doorstep_ai_credentials{%.*s,state=\"resting\"} %u\n", VIEW_ARG(text_view(&labels)),
                    seen.resting);
        text_printf(out, "doorstep_ai_credentials{%.*s,state=\"dead\"} %u\n", VIEW_ARG(text_view(&labels)), seen.dead);
    }
}

static void write_candidate(struct text *out, const struct ai_candidate *candidate, struct view alias, bool times)
{
    uint32_t us = atomic_load_explicit(&candidate->first_content_us, memory_order_relaxed);
    char memory[LABELS_MAX];
    struct text labels = TEXT_ON(memory);

    if (times && us == 0)
        return;
    metrics_label(&labels, "alias", alias);
    metrics_label(&labels, "provider", candidate->provider->name);
    metrics_label(&labels, "model", candidate->model);
    if (times)
        text_printf(out, "doorstep_ai_expected_first_content_seconds{%.*s} %u.%06u\n", VIEW_ARG(text_view(&labels)),
                    us / 1000000, us % 1000000);
    else
        text_printf(out, "doorstep_ai_in_flight{%.*s} %u\n", VIEW_ARG(text_view(&labels)),
                    atomic_load_explicit(&candidate->in_flight, memory_order_relaxed));
}

static void write_candidates(struct text *out, const struct ai_config *config)
{
    for (int times = 0; times < 2; times++) {
        if (times)
            admin_family(out, "doorstep_ai_expected_first_content_seconds", "gauge",
                         "Smoothed time to the first content, which decides about slow candidates.");
        else
            admin_family(out, "doorstep_ai_in_flight", "gauge",
                         "Calls under way; without alias: models named by clients.");
        for (unsigned i = 0; i < config->provider_count; i++)
            write_candidate(out, &config->direct[i], VIEW_NONE, times);
        for (unsigned i = 0; i < config->model_count; i++)
            for (unsigned k = 0; k < config->models[i].candidate_count; k++)
                write_candidate(out, &config->models[i].candidates[k], config->models[i].name, times);
    }
}

void admin_write_providers(struct text *out, const struct ai_config *config)
{
    write_credentials(out, config);
    write_candidates(out, config);
}

/* ---- JSON ---- */

static uint64_t in_flight(const struct ai_config *config, const struct ai_provider *provider)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < config->provider_count; i++)
        if (config->direct[i].provider == provider)
            sum += atomic_load_explicit(&config->direct[i].in_flight, memory_order_relaxed);
    for (unsigned i = 0; i < config->model_count; i++)
        for (unsigned k = 0; k < config->models[i].candidate_count; k++)
            if (config->models[i].candidates[k].provider == provider)
                sum += atomic_load_explicit(&config->models[i].candidates[k].in_flight, memory_order_relaxed);
    return sum;
}

void admin_put_providers(struct text *out, const struct ai_config *config)
{
    member_name(out, "providers");
    text_char(out, '[');
    for (unsigned i = 0; config && i < config->provider_count; i++) {
        const struct ai_provider *provider = &config->providers[i];
        struct credentials_seen seen = look_at_credentials(provider);

        member_comma(out);
        text_char(out, '{');
        member_text(out, "name", provider->name);
        member_text(out, "rung", telemetry_rung_name(provider->rung));
        member_text(out, "region", provider->region);
        member_u64(out, "credentials", provider->credential_count);
        member_u64(out, "ready", seen.ready);
        member_u64(out, "resting", seen.resting);
        member_u64(out, "dead", seen.dead);
        member_u64(out, "in_flight", in_flight(config, provider));
        admin_put_breakers(out, provider->upstream);
        text_char(out, '}');
    }
    text_char(out, ']');
}
