/* What a configuration file says about the AI gateway: part of main/site.h, which see for the conventions. */
#pragma once

#include "main/site_upstream.h"

struct site_ai_provider {
    struct view name;
    struct option_url url;
    struct site_upstream upstream; /* made of the options here; its servers by site_ai_check() */
    unsigned dialect, rung;        /* enum ai_dialect, enum ai_rung */
    struct view region;
    struct option_strings keys;
    struct option_strings key_files;
    struct option_strings models;
    uint64_t first_token_timeout, token_timeout; /* OPTION_UNSET: by the rung */
    uint64_t retries;
};

struct site_ai_candidate {
    struct view provider;
    size_t provider_index; /* filled by site_ai_check() */
    struct view model;
    uint64_t weight;
    uint64_t context;
    uint64_t max_output;
    uint64_t concurrency;
    uint64_t max_first_token;
    uint64_t first_token_timeout, token_timeout; /* OPTION_UNSET: as the provider */
    bool tools, images, json_schema;
};

struct site_ai_model {
    struct view name;
    unsigned order; /* enum ai_order */
    struct {
        struct site_ai_candidate *items;
        size_t count;
    } candidates;
    struct {
        double threshold; /* 0: never */
        struct option_strings languages;
        unsigned known; /* bits, filled by site_ai_check() */
    } escalate;
    struct {
        bool enabled;
        uint64_t after, percent;
    } hedge;
};

struct site_ai_budget {
    struct view name;
    struct view tenant, key, model;
    struct option_strings each;
    unsigned unit, window;
    struct view limit; /* money: "12.50"; tokens: "1000000" */
    int64_t amount;    /* filled by site_ai_check() */
    bool soft, shared;
};

enum site_ai_embedding { EMBEDDING_STATIC, EMBEDDING_ONNX, EMBEDDING_ENDPOINT };

struct site_ai_semantic {
    double threshold;
    double false_hits;
    uint64_t entries;
    struct view model; /* directory, or an endpoint's model; empty: canonical prompts only */
    unsigned kind;     /* enum site_ai_embedding */
    struct view library;
    struct view provider;  /* of an endpoint */
    size_t provider_index; /* filled by site_ai_check() */
    uint64_t dimensions, timeout;
};

struct site_ai_private {
    struct option_strings find;
    unsigned act; /* enum ai_private_act */
    struct view region;
    unsigned media; /* 1: counts as found */
    unsigned kinds; /* filled by site_ai_rules_check() */
};

struct site_ai_rules {
    struct view name;
    struct {
        struct option_strings allow, deny, aliases;
    } models;
    uint64_t max_tokens, context, context_bytes;
    bool tools, server_tools, images, audio, files;
    struct option_strings force, forbid, regions, hours;
    struct view utc_offset;
    uint64_t requests, tokens;
    struct site_ai_private private;
    int utc_minutes; /* filled by site_ai_rules_check() */
};

struct site_ai_tenant {
    struct view name;
    struct view rules;
    size_t rules_index; /* filled by site_ai_rules_check() */
    uint64_t requests, tokens;
};

struct site_ai {
    bool present; /* some route is one of the gateway's; filled by site_check() */
    unsigned auth;
    struct {
        struct site_ai_provider *items;
        size_t count;
    } providers;
    struct {
        struct site_ai_model *items;
        size_t count;
    } models;
    struct view prices;
    unsigned unknown_price;
    struct {
        struct site_ai_budget *items;
        size_t count;
    } budgets;
    double budget_share;
    uint64_t ledger_days;
    struct {
        struct site_ai_rules *items;
        size_t count;
    } rules;
    struct {
        struct site_ai_tenant *items;
        size_t count;
    } tenants;
    struct {
        uint64_t requests, tokens;
    } limits;
    struct site_ai_semantic semantic;
};

struct site_ai_route {
    bool present; /* filled by site_check() */
    uint64_t ttl, ttl_max, stale_if_error;
    unsigned scope, semantic;
    bool shadow;
    double verify;
    bool only_deterministic;
    uint64_t pace;
    uint64_t epoch;
    uint64_t body_limit;
    struct view rules;
    size_t rules_index; /* filled by site_ai_rules_check() */
    uint64_t requests, tokens;
    struct site_ai_private private;
};
