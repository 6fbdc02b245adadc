/* What a route says about caching: the compiled form that lookups and fills read. Immutable; belongs to a configuration
 * generation, which every fill keeps alive. */
#pragma once

#include "cache/decide.h"
#include "cache/freshness.h"
#include "cache/key.h"
#include "cache/ladder.h"
#include "cache/storable.h"

struct cache_policy {
    struct key_rules key;
    struct view scope; /* tenant scope: the first part of every key */
    struct freshness_policy freshness;
    struct storable_policy storable;
    struct decide_policy decide;
    struct ladder_rule ladder; /* where below memory it is kept */
    bool strip_tags;           /* clients do not see Cache-Tag and Surrogate-Key */
    uint64_t max_object;       /* body bytes; what is larger is passed on */
    uint64_t memory_max;       /* body bytes; larger ones go to disk only, where there is one */
    int64_t pass_marker_ms;    /* how long "not cacheable" is remembered for a key */
};
