/* What the option tables share: internal to src/main/site*.c. */
#pragma once

#include "main/site.h"

#define MEMBER(type, field) offsetof(struct type, field)

#define YEARS(n) ((uint64_t)(n)*365 * 86400000)
#define HOURS(n) ((uint64_t)(n)*3600000)
#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define TIB(n) ((uint64_t)(n) << 40)

#define HELP_ENV "`${NAME}` takes it from the environment."

/* Members of the site that have a file of their own. */
extern const struct option site_upstream_table[];
extern const struct option site_tls_table[];
extern const struct option site_disk_table[];
extern const struct option site_shared_table[];
extern const struct option site_state_table[];
extern const struct option site_tracing_table[];

extern const struct option site_upstream_breaker_table[], site_upstream_keepalive_table[];
extern const struct option site_ai_table[], site_ai_route_table[];

/* Of one upstream, after loading: statuses, paths. */
void site_upstream_check(const struct site_upstream *upstream, struct conf_report *report);
extern const struct option site_ai_rules_table[], site_ai_tenant_table[], site_ai_limits_table[],
    site_ai_private_table[];
/* Rules, tenants and what routes say of them. */
void site_ai_rules_check(struct site *site, struct conf_report *report);
extern const struct option site_ai_semantic_table[];
void site_ai_semantic_check(struct site_ai *ai, struct conf_report *report);
/* Fields for the collector. */
void site_tracing_check(const struct site_tracing *tracing, struct conf_report *report);
/* Of all that is said about AI. */
void site_ai_check(struct site *site, struct conf_report *report);
