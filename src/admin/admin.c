/* The admin listener: who may ask, which path, which method.
 *
 * Handlers run on the loop that has the connection, inside its turn, so they may look at the configuration and the memory
 * tier under RCU; nothing they find outlives the call. */
#include "admin/answer.h"
#include "base/clock.h"
#include "base/heap.h"

#include <errno.h>
#include <urcu-qsbr.h>

#define TARGET_MAX 16384u

int admin_new(struct admin **ret, const struct admin_options *options)
{
    struct admin *admin = heap_zalloc(sizeof(*admin));

    if (!admin)
        return -ENOMEM;
    admin->server = options->server;
    admin->metrics = options->metrics;
    admin->ai_keys = options->ai_keys;
    admin->ledger = options->ledger;
    admin->budgets = options->budgets;
    admin->telemetry = options->telemetry;
    admin->semantic = options->semantic;
    admin->tracer = options->tracer;
    admin->ai_config = options->ai_config;
    admin->token_len = options->token.len;
    admin->token = heap_strdup(options->token.ptr ? options->token.ptr : "", options->token.len);
    admin->started_ms = clock_mono_ms();
    if (!admin->token) {
        heap_free(admin);
        return -ENOMEM;
    }
    admin_register_gauges(admin);
    admin_register_tiers(admin);
    admin_register_ai(admin);
    *ret = admin;
    return 0;
}

void admin_free(struct admin *admin)
{
    if (!admin)
        return;
    heap_free(admin->token);
    heap_free(admin);
}

static bool is_allowed(const struct admin *admin, const struct http_request *request, bool local)
{
    struct view value = fields_value(&request->fields, FIELD_AUTHORIZATION);

    if (local || admin->token_len == 0)
        return true;
    if (!view_starts_with_icase(value, VIEW("Bearer ")))
        return false;
    return view_eq_secret(view_trim(view_skip(value, sizeof("Bearer ") - 1)),
                          view_make(admin->token, admin->token_len));
}

/* A browser says on whose behalf it sends a POST: a page of another site must not purge through a visitor's browser. Programs
 * send neither field. With a token set there is nothing to guard: a page does not have it. */
static bool is_of_a_page(const struct http_request *request)
{
    const struct field *site = fields_find(&request->fields, VIEW("Sec-Fetch-Site"));

    if (fields_find(&request->fields, VIEW("Origin")))
        return true;
    return site && !view_eq_icase(site->value, VIEW("none")) && !view_eq_icase(site->value, VIEW("same-origin"));
}

static void write_metrics(struct text *out, void *arg)
{
    metrics_render(arg, out);
}

static void write_string(struct text *out, void *arg)
{
    text_put(out, view_str(arg));
}

static void answer_ready(const struct admin *admin, struct admin_answer *ret)
{
    bool draining = atomic_load_explicit(&admin->server->draining, memory_order_relaxed);
    static char ready[] = "{\"status\":\"ready\"}\n", not_ready[] = "{\"status\":\"draining\"}\n";

    answer_write(ret, draining ? 503 : 200, "application/json", write_string, draining ? not_ready : ready);
}

static void answer_health(struct admin_answer *ret)
{
    static char alive[] = "{\"status\":\"ok\"}\n";

    answer_write(ret, 200, "application/json", write_string, alive);
}

/* What is to be purged; the listener carries it out and answers when the purge is durable and known elsewhere. */
static void answer_purge(const struct http_request *request, struct admin_answer *ret)
{
    static const struct {
        struct view name, kind;
    } kinds[] = {
        { { "url", 3 }, { "url", 3 } },   { { "prefix", 6 }, { "prefix", 6 } }, { { "tag", 3 }, { "tag", 3 } },
        { { "host", 4 }, { "host", 4 } }, { { "group", 5 }, { "group", 5 } },
    };
    struct text target = text_make(heap_alloc(TARGET_MAX), TARGET_MAX);
    struct view kind = answer_flag(request, VIEW("all")) ? VIEW("all") : VIEW_NONE;
    unsigned said = kind.len ? 1 : 0;

    if (!target.ptr) {
        answer_error(ret, 503, "out of memory");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (!answer_param(request, kinds[i].name, &target))
            continue;
        kind = kinds[i].kind;
        said += answer_param_count(request, kinds[i].name);
    }
    ret->purge = said == 1 && !target.overflow &&
                 purge_event_make(kind, text_view(&target), answer_flag(request, VIEW("soft")), &ret->event) == 0;
    if (ret->purge) {
        ret->body = text_view(&target);
        return;
    }
    heap_free(target.ptr);
    if (said != 1)
        answer_error(ret, 400, "say what to purge: one of url=, prefix=, tag=, host=, group= or all=1");
    else
        answer_error(
            ret, 400,
            "no such target: url and prefix want an absolute http(s) URL, or a path beginning with / for every host; a "
            "tag has no spaces or commas; a host has no path; a group is an origin, a space and the name");
}

enum page {
    PAGE_NONE,
    PAGE_HEALTH,
    PAGE_READY,
    PAGE_METRICS,
    PAGE_TOP,
    PAGE_WHY,
    PAGE_PURGE,
    PAGE_UPSTREAMS,
    PAGE_BREAKER,
    PAGE_KEYS,
    PAGE_REVOKE,
    PAGE_LEDGER
};

static enum page find_page(struct view path)
{
    static const struct {
        struct view path;
        enum page page;
    } pages[] = {
        { { "/healthz", 8 }, PAGE_HEALTH },
        { { "/readyz", 7 }, PAGE_READY },
        { { "/metrics", 8 }, PAGE_METRICS },
        { { "/top", 4 }, PAGE_TOP },
        { { "/why", 4 }, PAGE_WHY },
        { { "/purge", 6 }, PAGE_PURGE },
        { { "/upstreams", 10 }, PAGE_UPSTREAMS },
        { { "/ai/keys", 8 }, PAGE_KEYS },
        { { "/ai/keys/revoke", 15 }, PAGE_REVOKE },
        { { "/ai/ledger", 10 }, PAGE_LEDGER },
    };

    for (size_t i = 0; i < ARRAY_LEN(pages); i++)
        if (view_eq(pages[i].path, path))
            return pages[i].page;
    return admin_is_breaker_path(path) ? PAGE_BREAKER : PAGE_NONE;
}

/* The page is known, the method fits, the asker may ask. */
static void answer_page(struct admin *admin, struct loop *loop, enum page page, const struct http_request *request,
                        struct admin_answer *ret)
{
    switch (page) {
    case PAGE_METRICS:
        answer_write(ret, 200, "text/plain; version=0.0.4; charset=utf-8", write_metrics, admin->metrics);
        return;
    case PAGE_TOP: admin_top(admin, loop, ret); return;
    case PAGE_WHY: admin_why(admin, loop, request, ret); return;
    case PAGE_PURGE: answer_purge(request, ret); return;
    case PAGE_UPSTREAMS: admin_upstreams_page(admin, ret); return;
    case PAGE_BREAKER: admin_switch_breaker(admin, request, ret); return;
    case PAGE_KEYS:
        if (request->method == METHOD_POST)
            admin_create_key(admin, loop, request, ret);
        else
            admin_list_keys(admin, ret);
        return;
    case PAGE_REVOKE: admin_revoke_key(admin, loop, request, ret); return;
    case PAGE_LEDGER: admin_ledger(admin, loop, request, ret); return;
    case PAGE_HEALTH: answer_health(ret); return;
    case PAGE_READY: answer_ready(admin, ret); return;
    case PAGE_NONE: break;
    }
    answer_error(
        ret, 404,
        "no such page: try /metrics, /healthz, /readyz, /top, /upstreams, /why?url=, /ai/keys, /ai/ledger, or POST "
        "/purge, /upstreams/NAME/breaker, /ai/keys?name=, /ai/keys/revoke?key=");
}

void admin_handle(void *arg, struct loop *loop, const struct http_request *request, struct view body, bool local,
                  struct admin_answer *ret)
{
    struct admin *admin = arg;
    enum page page = find_page(request->path);
    bool changing = page == PAGE_PURGE || page == PAGE_BREAKER || page == PAGE_REVOKE ||
                    (page == PAGE_KEYS && request->method == METHOD_POST);
    bool reading = request->method == METHOD_GET || request->method == METHOD_HEAD;

    (void)body; /* everything that can be asked fits in the query */
    if (page != PAGE_HEALTH && page != PAGE_READY && !is_allowed(admin, request, local)) {
        answer_error(ret, 401, "this needs the admin token: Authorization: Bearer TOKEN");
        return;
    }
    if (changing && request->method != METHOD_POST) {
        ret->allow = "POST";
        answer_error(ret, 405,
                     page == PAGE_PURGE    ? "purging wants POST"
                     : page == PAGE_REVOKE ? "revoking wants POST"
                                           : "switching wants POST");
        return;
    }
    if (changing && admin->token_len == 0 && is_of_a_page(request)) {
        answer_error(ret, 403, "sent by a web page: without admin.token, pages may not purge, switch or make keys");
        return;
    }
    if (!changing && page != PAGE_NONE && !reading) {
        ret->allow = page == PAGE_KEYS ? "GET, HEAD, POST" : "GET, HEAD";
        answer_error(ret, 405, "this page is read with GET");
        return;
    }
    answer_page(admin, loop, page, request, ret);
}
