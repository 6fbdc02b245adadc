/* What a configuration says about AI: providers, models, routes. One generation, compiled by main; it lives as long as the
 * http_config it belongs to, which every call keeps alive. Immutable but for the atomics that say how providers are doing. */
#pragma once

#include "ai/policy.h"
#include "cache/fill.h"
#include "upstream/budget.h"
#include "upstream/latency.h"

#include <stdatomic.h>

enum ai_rung { AI_DEVICE, AI_EDGE, AI_CLOUD };

/* One key of ours at a provider. The value never leaves but in requests to it. */
struct ai_credential {
    struct view value;
    _Atomic uint64_t rest_until_ms; /* monotonic: the provider asked for a pause */
    _Atomic bool dead;              /* refused (401, 402, 403, quota used up): not before the next configuration */
};

struct ai_provider {
    struct view name, region;
    enum ai_dialect dialect;
    enum ai_rung rung;
    struct upstream *upstream;
    struct view host;   /* Host sent there */
    struct view prefix; /* what stands before "/v1/" there */
    struct ai_credential *credentials;
    unsigned credential_count;
    _Atomic unsigned turn;     /* round robin over credentials */
    const struct view *models; /* globs of the model names it serves */
    size_t model_count;
    uint32_t total_ms; /* of a whole answer */
    uint32_t retries;
};

/* A model at a provider. */
struct ai_candidate {
    struct ai_provider *provider;
    struct view model;   /* as the provider calls it; empty: as the client does */
    uint64_t context;    /* tokens; 0: not known */
    uint64_t max_output; /* tokens, for requests that set no limit; 0: none */
    uint32_t weight;
    uint32_t concurrency;       /* requests at once; 0: no limit */
    uint32_t first_ms, idle_ms; /* to the first content, between two pieces */
    uint32_t latency_ms;        /* expected first content above this: the next is asked first; 0: no limit */
    bool tools, images, schema;
    _Atomic uint32_t in_flight;
    _Atomic uint32_t first_content_us; /* smoothed */
    _Atomic uint64_t measured_ms;      /* monotonic: when that was last learned, or is being learned */
    struct latency latency[2];         /* of first contents: of whole answers, of streams */
};

enum ai_order { AI_LISTED, AI_WEIGHTED };

struct ai_model {
    struct view name; /* the alias */
    enum ai_order order;
    struct ai_candidate *candidates;
    unsigned candidate_count;
    bool escalates;          /* prompts that seem hard are not for `device` first */
    float threshold;         /* of ai/classify.h, from which on they do */
    unsigned languages;      /* its bits of what `device` knows; 0: any */
    bool hedges;             /* when the first content is late, the next candidate is asked as well */
    uint32_t hedge_after_ms; /* late is later than this; 0: than 95 % of the candidate's */
    struct budget hedge_budget;
};

enum ai_semantic { AI_SEMANTIC_OFF, AI_SEMANTIC_CANONICAL, AI_SEMANTIC_EMBEDDING };
enum ai_scope { AI_SCOPE_TENANT, AI_SCOPE_USER, AI_SCOPE_PUBLIC };

/* What happens to a prompt in which personal data is found. */
enum ai_private_act {
    AI_PRIVATE_ALLOW,  /* nothing */
    AI_PRIVATE_PIN,    /* only `device`, or the region, may answer it, and no shared store keeps it */
    AI_PRIVATE_REDACT, /* it goes on without it */
    AI_PRIVATE_REFUSE
};

struct ai_private {
    unsigned kinds; /* of enum pii_kind; 0: nobody looks */
    enum ai_private_act act;
    struct view region; /* of AI_PRIVATE_PIN */
    bool media;         /* what cannot be looked into (images, audio, files) counts as found */
};

struct ai_alias {
    struct view name;  /* as a client says it */
    struct view model; /* what it means: an alias of the configuration, or a model */
};

struct ai_limits {
    uint64_t requests, tokens; /* a minute; 0: no limit */
};

/* Rules by name, as keys, tenants and routes refer to them. */
struct ai_ruleset {
    struct view name;
    struct ai_rules rules;
    const struct ai_alias *aliases;
    size_t alias_count;
    struct ai_private private;
    struct ai_limits limits; /* of each key that names these rules, in place of those of the configuration */
    uint64_t revision;       /* a hash of what they do to requests; part of every key */
};

struct ai_tenant {
    struct view name;
    const struct ai_ruleset *rules; /* NULL: none */
    struct ai_limits limits;
};

struct ai_config {
    struct view node, region;
    struct view store_region; /* where the shared store is */
    bool keys;                /* clients need a key of ours */
    bool price_needed;        /* a model without a price is refused */
    struct ai_provider *providers;
    unsigned provider_count;
    struct ai_model *models;
    unsigned model_count;
    struct ai_candidate *direct; /* one per provider, for names that are no alias */
    const struct ai_ruleset *rules;
    const struct ai_tenant *tenants; /* by name, as view_compare() has it */
    unsigned rules_count, tenant_count;
    struct ai_limits limits; /* of each key; without keys, of each address */
    struct fill_keep *keep;
};

struct ai_route {
    const struct ai_config *config;
    struct view name;
    struct cache_policy cache;      /* memory, disk and shared rungs; its scope is not used */
    struct cache_policy local;      /* the same for what may not leave the node: no shared rung */
    struct cache_policy passing;    /* and for what may not be written down: memory only */
    const struct ai_ruleset *rules; /* NULL: none */
    struct ai_private private;
    uint64_t private_revision;
    struct ai_limits limits;
    uint64_t ttl_ms, ttl_max_ms; /* 0: nothing is stored */
    uint64_t stale_ms;           /* how old an answer may be when every candidate fails */
    enum ai_scope scope;
    bool only_deterministic;
    uint32_t pace; /* tokens per second of a replayed stream; 0: at once */
    enum ai_semantic semantic;
    bool semantic_shadow;
    uint32_t verify_permille; /* of semantic hits */
    uint32_t waiters;
    uint64_t epoch;
};
