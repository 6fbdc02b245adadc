/* Building answers of unknown size, and reading what a request asks for. Internal to src/admin. */
#pragma once

#include "admin/admin.h"

struct admin {
    struct server *server;
    struct metrics *metrics;
    char *token;
    size_t token_len;
    struct ai_keys *ai_keys; /* NULL: none */
    struct ledger *ledger;   /* NULL: none */
    struct budgets *budgets;
    struct telemetry *telemetry;
    struct semantic *semantic;
    struct tracer *tracer;
    const struct ai_config *(*ai_config)(const struct http_config *config);
    uint64_t started_ms; /* monotonic */
};

/* Calls `write` with more and more room until it fits (at most 64 MiB), and hands the memory to the answer. */
void answer_write(struct admin_answer *ret, int status, const char *content_type,
                  void (*write)(struct text *out, void *arg), void *arg);
/* {"status":404,"error":"..."} */
void answer_error(struct admin_answer *ret, int status, const char *error);

/* Appends `value` without its percent-encoding. */
void answer_decode(struct view value, struct text *out);
/* A query parameter, percent-decoded into `memory` ('+' stays itself: these are URLs). False when it is absent; true with
 * memory->overflow when it does not fit. */
bool answer_param(const struct http_request *request, struct view name, struct text *memory);
/* How often it is there. */
unsigned answer_param_count(const struct http_request *request, struct view name);
/* Present, and neither empty nor "0" nor "false" (a bare "soft" counts). */
bool answer_flag(const struct http_request *request, struct view name);

/* JSON members: a comma unless one of "{[" or nothing came before, then "name": and the value. */
void member_name(struct text *out, const char *name);
void member_comma(struct text *out);
void member_u64(struct text *out, const char *name, uint64_t value);
void member_i64(struct text *out, const char *name, int64_t value);
void member_text(struct text *out, const char *name, struct view value);
void member_bool(struct text *out, const char *name, bool value);
/* Milliseconds as seconds with three decimals. */
void member_ms(struct text *out, const char *name, int64_t ms);

/* why.c, top.c, gauges.c */
void admin_why(struct admin *admin, struct loop *loop, const struct http_request *request, struct admin_answer *ret);
void admin_top(struct admin *admin, struct loop *loop, struct admin_answer *ret);
void admin_register_gauges(struct admin *admin);
/* tiers.c: what lies below memory, for /metrics, and as members of /top. */
void admin_register_tiers(struct admin *admin);
void admin_put_tiers(struct text *out, const struct server *server);

/* ai.c: the AI gateway, in the same two forms; nothing without one. */
void admin_register_ai(struct admin *admin);
void admin_put_ai(struct text *out, const struct admin *admin);
/* ai_providers.c. NULL: no AI gateway. */
const struct ai_config *admin_ai_config(const struct admin *admin);
void admin_write_providers(struct text *out, const struct ai_config *config);
/* The member "providers", with their breakers; of a NULL configuration an empty one. */
void admin_put_providers(struct text *out, const struct ai_config *config);
/* ai_semantic.c */
void admin_write_semantic(struct text *out, const struct admin *admin);
void admin_put_semantic(struct text *out, const struct admin *admin, uint64_t requests);

/* series.c: a 64-bit number of a statistics struct as a metric of its own, by its place there. */
struct series {
    const char *name, *type, *help;
    size_t offset;
};
void admin_series(struct text *out, const struct series *series, size_t count, const void *stats);
void admin_single(struct text *out, const char *name, const char *type, const char *help, uint64_t value);
/* The two lines before the samples of a metric. */
void admin_family(struct text *out, const char *name, const char *type, const char *help);

/* keys.c */
void admin_list_keys(struct admin *admin, struct admin_answer *ret);
void admin_create_key(struct admin *admin, struct loop *loop, const struct http_request *request,
                      struct admin_answer *ret);
void admin_revoke_key(struct admin *admin, struct loop *loop, const struct http_request *request,
                      struct admin_answer *ret);

/* ledger.c */
void admin_ledger(struct admin *admin, struct loop *loop, const struct http_request *request, struct admin_answer *ret);

/* upstreams.c */
void admin_upstream_metrics(struct text *out, void *admin);
void admin_upstreams_page(struct admin *admin, struct admin_answer *ret);
/* JSON members "down", "breaker" (of the whole, with several servers) and "breakers". */
void admin_put_breakers(struct text *out, struct upstream *upstream);
/* /upstreams/NAME/breaker */
bool admin_is_breaker_path(struct view path);
void admin_switch_breaker(struct admin *admin, const struct http_request *request, struct admin_answer *ret);
