/* /why: what happens to a GET of this URL now, and why. Nothing is fetched and nothing is changed.
 *
 * The numbers are those the node decides with (object_times); where the lifetime came from is read again from the stored
 * head, which still has the fields that gave it. The same facts are written as JSON or as text for people.
 *
 * Query values are not shown, not even the asker's: the page gets pasted into tickets. Values of other people's request headers
 * are not shown: of a variant's Vary values only the two that name a format
 * (Accept-Encoding, Accept-Language) are printed, others as a short hash that tells variants apart. */
#include "admin/answer.h"
#include "base/heap.h"
#include "cache/vary.h"
#include "proto/uri.h"
#include "upstream/upstream.h"

#define URL_MAX 16384u
#define FIELDS_MAX 512u
#define KEY_SHOWN_MAX 8192u

struct why_page {
    struct admin *admin;
    struct view url;
    const struct route *route; /* NULL: no route matches */
    struct view key_text;
    struct key key;
    const struct memory_entry *entry;
    struct memory_variants variants;
    struct whynot_note note;
    bool noted, passing, in_flight, text;
    int64_t now_ms;
    struct decision decision;       /* for a plain GET */
    const struct object *answering; /* the variant it is about, or NULL */
};

/* ---- facts ---- */

static struct view guarantee_name(enum guarantee guarantee)
{
    static const struct view names[] = {
        [GUARANTEE_HTTP] = { "http", 4 },       [GUARANTEE_AVAILABLE] = { "available", 9 },
        [GUARANTEE_BOUNDED] = { "bounded", 7 }, [GUARANTEE_SESSION] = { "session", 7 },
        [GUARANTEE_ORIGIN] = { "origin", 6 },
    };

    return (unsigned)guarantee < GUARANTEE_COUNT ? names[guarantee] : VIEW("unknown");
}

/* A sentence for the reasons people ask about. */
static const char *explain(enum why why)
{
    switch (why) {
    case WHY_FRESH: return "a stored response is fresh";
    case WHY_STALE_REVALIDATE: return "the stored response is stale but inside its stale-while-revalidate window";
    case WHY_MISS_URI: return "nothing is stored for this URL";
    case WHY_MISS_VARY: return "responses are stored, but none for these request headers (Vary)";
    case WHY_EXPIRED: return "the stored response has expired";
    case WHY_NO_CACHE: return "the stored response says no-cache: it is confirmed with the origin every time";
    case WHY_SOFT_PURGED: return "the stored response was soft-purged";
    case WHY_PARTIAL: return "only a part of the response is stored";
    case WHY_BYPASS_ROUTE: return "the route does not cache (cache: false)";
    case WHY_PASS_MARKER: return "an earlier response could not be stored, so requests do not wait for each other now";
    case WHY_GUARANTEE_ORIGIN: return "the route's guarantee asks the origin every time";
    case WHY_NO_STORE: return "the response says Cache-Control: no-store";
    case WHY_REQUEST_NO_STORE: return "the request says Cache-Control: no-store";
    case WHY_PRIVATE: return "the response says Cache-Control: private, and this is a shared cache";
    case WHY_AUTHORIZATION:
        return "the request has Authorization, and the response does not say public, must-revalidate or s-maxage";
    case WHY_SET_COOKIE: return "the response sets a cookie (the route's set_cookie says bypass)";
    case WHY_COOKIE_HEURISTIC: return "the request has a Cookie, and the response does not say how long it is fresh";
    case WHY_NO_FRESHNESS: return "the response does not say how long it is fresh, and nothing lets us estimate it";
    case WHY_NO_VALIDATOR:
        return "the response is stale on arrival and has no ETag or Last-Modified to confirm it with";
    case WHY_STATUS: return "its status is only stored with explicit freshness";
    case WHY_STATUS_UNKNOWN: return "the response says must-understand, and its status is not one we know";
    case WHY_VARY_STAR: return "the response says Vary: *";
    case WHY_VARY_LIMIT: return "too many variants, or too many names in Vary";
    case WHY_TOO_LARGE: return "the response is larger than memory.max_object or the route's max_object";
    case WHY_NOT_ADMITTED: return "memory is full of responses that are worth more";
    case WHY_TRUNCATED: return "the origin closed before the response was complete";
    case WHY_PURGED: return "it was purged while it was being fetched";
    default: return NULL;
    }
}

static void find_decision(struct why_page *page)
{
    struct cache_control none;
    struct decide_input input = {
        .passing = page->passing,
        .method = METHOD_GET,
        .request = &none,
        .policy = &page->route->cache.decide,
        .now_ms = page->now_ms,
    };
    const struct object *best = NULL;

    cache_control_init(&none);
    /* A GET without any header finds the variant without Vary, or the newest where there is only a guess. */
    for (unsigned i = page->variants.count; i-- > 0;) {
        const struct object *object = memory_variant(page->variants, i);

        if (!best || best->vary_names_len || object_vary_names(object).len == 0)
            best = object;
    }
    input.stored = best;
    page->answering = best;
    page->decision = decide(&input);
}

/* The key of a GET without cookies and other headers. */
static int build_key(const struct why_page *page, const struct uri *uri, struct view authority, struct text *out)
{
    struct field none;
    struct http_request request = {
        .method = METHOD_GET,
        .method_name = VIEW("GET"),
        .authority = authority,
        .path = uri->path,
        .query = uri->query,
    };

    fields_init(&request.fields, &none, 0);
    return key_build(&page->route->cache.key, page->route->cache.scope, uri->https ? VIEW("https") : VIEW("http"),
                     &request, out);
}

/* What was purged is taken out here as a request would do it: the page shows what a request finds. */
static void find_variants(struct why_page *page)
{
    const struct server *server = page->admin->server;

    page->entry = memory_find(server->memory, &page->key);
    page->variants = page->entry ? memory_variants(page->entry) : (struct memory_variants){ 0 };
    for (unsigned i = 0; i < page->variants.count; i++) {
        struct object *object = memory_variant(page->variants, i);

        if (marks_check(server->marks, object) == MARKS_HARD)
            memory_drop_object(server->memory, object);
    }
    page->entry = memory_find(server->memory, &page->key);
    page->variants = page->entry ? memory_variants(page->entry) : (struct memory_variants){ 0 };
}

static int look_up(struct why_page *page, struct text *key_memory)
{
    const struct server *server = page->admin->server;
    const struct http_config *config = server_config(server);
    char memory[300];
    struct text authority = TEXT_ON(memory);
    struct uri uri;
    uint64_t until;
    int r = uri_parse(page->url, &uri);

    if (r < 0)
        return r;
    uri_put_authority(&uri, &authority);
    page->route = authority.overflow ? NULL : route_find(config, text_view(&authority), uri.path);
    if (!page->route || page->route->service)
        return 0;
    r = build_key(page, &uri, text_view(&authority), key_memory);
    if (r < 0)
        return r;
    page->key_text = text_view(key_memory);
    page->key = key_of(page->key_text);
    find_variants(page);
    if (page->entry) {
        until = memory_pass_until(page->entry);
        page->passing = until > (uint64_t)page->now_ms;
    }
    page->in_flight = fill_in_flight(server->fill.table, &page->key);
    page->noted = http_stats_why_not(server->stats, page->key.hash[0], &page->note);
    /* What was stored since makes the note history. */
    if (page->noted && page->variants.count > 0)
        page->noted = memory_variant(page->variants, 0)->times.response_ms / 1000 < page->note.at_s;
    find_decision(page);
    return 0;
}

/* Where the lifetime came from, out of the stored head. False when it does not parse (it did once) or memory is out. */
static bool find_source(const struct why_page *page, const struct object *object, struct freshness *ret)
{
    const struct http1_limits limits = { .head_max = 1 << 20, .target_max = 1 << 20 };
    size_t cap = object_head(object).len + 2, scanned = 0;
    struct text head = text_make(heap_alloc(cap), cap);
    struct field *list = heap_array(FIELDS_MAX, sizeof(*list));
    struct http_response response = { 0 };
    enum http1_error error;
    bool found = false;

    if (head.ptr && list) {
        text_put(&head, object_head(object));
        text_lit(&head, "\r\n");
        fields_init(&response.fields, list, FIELDS_MAX);
        found = http1_parse_response(text_view(&head), &limits, &scanned, METHOD_GET, &response, &error) > 0;
    }
    if (found)
        freshness_compute(&response.fields, object->status, &page->route->cache.freshness,
                          object->times.response_ms - (int64_t)object->cost_ms, object->times.response_ms, ret);
    heap_free(head.ptr);
    heap_free(list);
    return found;
}

/* "accept-encoding: gzip; cookie: #1f2e3d4c" */
static void put_vary(struct text *out, const struct object *object)
{
    struct view names = object_vary_names(object), values = object_vary_values(object);
    bool first = true;

    while (names.ptr) {
        struct view name = view_cut(&names, ','), value = view_cut(&values, '\n');

        if (!first)
            text_lit(out, "; ");
        first = false;
        text_put(out, name);
        text_lit(out, ": ");
        if (view_eq(value, VIEW("-")))
            text_lit(out, "(absent)");
        else if (view_eq(name, VIEW("accept-encoding")) || view_eq(name, VIEW("accept-language")))
            text_put(out, view_first(view_skip(value, 1), 200));
        else {
            text_char(out, '#');
            text_hex(out, hash64(value) & 0xffffffff, 8);
        }
    }
}

static struct view vary_text(const struct object *object, char *memory, size_t cap)
{
    struct text out = text_make(memory, cap);

    if (object_vary_names(object).len)
        put_vary(&out, object);
    return text_view(&out);
}

/* "a=1&b" -> "a=*&b=*" */
static void put_query_names(struct text *out, struct view query)
{
    struct view rest = query;
    bool first = true;

    while (rest.ptr) {
        struct view param = view_cut(&rest, '&');

        text_put(out, first ? VIEW_NONE : VIEW("&"));
        first = false;
        if (view_contains(param, '='))
            text_put(out, view_first(param, view_find(param, '=')));
        text_lit(out, "=*");
    }
}

/* The parts of a key (cache/key.h) with spaces between them; the sixth is the query. */
static void put_key(struct text *out, struct view key)
{
    for (unsigned i = 0; key.len; i++) {
        struct view digits = view_cut(&key, ':'), part;
        uint64_t len;

        if (!view_parse_u64(digits, &len) || len > key.len)
            return;
        part = view_first(key, (size_t)len);
        key = view_skip(key, (size_t)len);
        if (part.len && i)
            text_char(out, ' ');
        if (i == 5 && part.len && part.ptr[0] == '?') {
            text_char(out, '?');
            put_query_names(out, view_skip(part, 1));
        } else {
            text_put(out, part);
        }
    }
}

static struct view key_as_text(const struct why_page *page, char *memory, size_t cap)
{
    struct text out = text_make(memory, cap);

    put_key(&out, page->key_text);
    return text_view(&out);
}

static const struct {
    unsigned flag;
    const char *name;
} flag_names[] = {
    { OBJECT_PARTIAL, "partial" },     { OBJECT_NO_CACHE, "no-cache" },   { OBJECT_MUST_REVALIDATE, "must-revalidate" },
    { OBJECT_IMMUTABLE, "immutable" }, { OBJECT_HEURISTIC, "heuristic" }, { OBJECT_AUTHORIZED, "authorized" },
};

/* ---- JSON ---- */

static void json_freshness(struct text *out, const struct why_page *page, const struct object *object)
{
    const struct object_times *times = &object->times;
    int64_t age = object_age_ms(times, page->now_ms), ttl = object_ttl_ms(times, page->now_ms);
    struct freshness source;

    member_name(out, "freshness");
    text_char(out, '{');
    if (find_source(page, object, &source)) {
        member_text(out, "source", freshness_source_name(source.source));
        if (source.source != FRESHNESS_NONE && source.source < FRESHNESS_ROUTE_TTL)
            member_text(out, "field",
                        source.source == FRESHNESS_EXPIRES ? VIEW("Expires") : freshness_field_name(source.field));
        member_bool(out, "clamped", source.clamped);
    }
    member_ms(out, "lifetime_s", times->lifetime_ms);
    member_ms(out, "initial_age_s", times->initial_age_ms);
    member_ms(out, "resident_s", age - times->initial_age_ms);
    member_ms(out, "age_s", age);
    member_ms(out, "ttl_s", ttl);
    member_bool(out, "fresh", ttl > 0 && !atomic_load(&object->soft_purged));
    member_ms(out, "stale_while_revalidate_s", MAX(times->swr_ms, 0));
    member_ms(out, "stale_if_error_s", MAX(times->sie_ms, 0));
    text_char(out, '}');
}

static void json_variant(struct text *out, const struct why_page *page, const struct object *object)
{
    unsigned flags = atomic_load(&object->flags);
    char memory[1024];

    member_comma(out);
    text_char(out, '{');
    member_u64(out, "status", object->status);
    member_text(out, "tier", VIEW("memory"));
    member_u64(out, "bytes", atomic_load(&object->body_len));
    member_u64(out, "hits", atomic_load(&object->item.uses));
    member_u64(out, "fetch_ms", object->cost_ms);
    member_i64(out, "stored_ms", object->times.response_ms);
    member_text(out, "vary", vary_text(object, memory, sizeof(memory)));
    member_text(out, "etag", object_etag(object));
    member_bool(out, "soft_purged", atomic_load(&object->soft_purged) != 0);
    member_name(out, "flags");
    text_char(out, '[');
    for (size_t i = 0; i < ARRAY_LEN(flag_names); i++)
        if (flags & flag_names[i].flag) {
            member_comma(out);
            text_json(out, view_str(flag_names[i].name));
        }
    text_char(out, ']');
    json_freshness(out, page, object);
    text_char(out, '}');
}

static void json_note(struct text *out, const struct why_page *page)
{
    member_name(out, "not_stored");
    if (!page->noted) {
        text_lit(out, "null");
        return;
    }
    text_char(out, '{');
    member_text(out, "why", why_name(page->note.why));
    if (explain(page->note.why))
        member_text(out, "explanation", view_str(explain(page->note.why)));
    member_u64(out, "status", page->note.status);
    member_i64(out, "at", page->note.at_s);
    text_char(out, '}');
}

static void write_json(struct text *out, void *arg)
{
    const struct why_page *page = arg;
    char key[KEY_SHOWN_MAX];

    text_char(out, '{');
    member_text(out, "url", page->url);
    if (!page->route) {
        member_name(out, "route");
        text_lit(out, "null}\n");
        return;
    }
    member_text(out, "route", page->route->name);
    if (page->route->service) {
        member_text(out, "service", VIEW("ai"));
        text_lit(out, "}\n");
        return;
    }
    member_text(out, "upstream", view_str(page->route->to.upstream ? upstream_name(page->route->to.upstream) : NULL));
    member_bool(out, "upstream_down", page->route->to.upstream && upstream_is_down(page->route->to.upstream));
    member_text(out, "guarantee", guarantee_name(page->route->cache.decide.guarantee));
    member_text(out, "key", key_as_text(page, key, sizeof(key)));
    member_u64(out, "key_cookies", page->route->cache.key.cookie_count);
    member_u64(out, "key_headers", page->route->cache.key.header_count);
    member_text(out, "decision", verdict_name(page->decision.verdict));
    member_text(out, "why", why_name(page->decision.why));
    if (explain(page->decision.why))
        member_text(out, "explanation", view_str(explain(page->decision.why)));
    member_bool(out, "in_flight", page->in_flight);
    member_bool(out, "pass_marker", page->passing);
    json_note(out, page);
    member_name(out, "variants");
    text_char(out, '[');
    for (unsigned i = 0; i < page->variants.count; i++)
        json_variant(out, page, memory_variant(page->variants, i));
    text_lit(out, "]}\n");
}

/* ---- text ---- */

static void put_seconds(struct text *out, int64_t ms)
{
    uint64_t size = ms < 0 ? (uint64_t)0 - (uint64_t)ms : (uint64_t)ms;

    text_printf(out, "%s%llu", ms < 0 ? "-" : "", (unsigned long long)(size / 1000));
    if (size % 1000)
        text_printf(out, ".%03u", (unsigned)(size % 1000));
    text_lit(out, " s");
}

static void line(struct text *out, const char *name, struct view value)
{
    text_printf(out, "%-10s", name);
    text_put(out, value);
    text_char(out, '\n');
}

static void text_lifetime(struct text *out, const struct why_page *page, const struct object *object)
{
    struct freshness source;

    text_lit(out, "  lifetime  ");
    put_seconds(out, object->times.lifetime_ms);
    if (find_source(page, object, &source)) {
        struct view name = freshness_source_name(source.source);

        if (source.source == FRESHNESS_NONE)
            text_lit(out, ": nothing gives it one");
        else if (source.source == FRESHNESS_EXPIRES)
            text_lit(out, ": Expires minus Date");
        else if (source.source < FRESHNESS_EXPIRES)
            text_printf(out, ": %.*s in %.*s", VIEW_ARG(name), VIEW_ARG(freshness_field_name(source.field)));
        else if (source.source == FRESHNESS_HEURISTIC)
            text_printf(out, ": estimated, %u%% of Date minus Last-Modified",
                        (unsigned)page->route->cache.freshness.heuristic_permille / 10);
        else
            text_printf(out, ": the route's ttl");
        if (source.clamped)
            text_lit(out, ", changed by the route's ttl_min or ttl_max");
    }
    text_char(out, '\n');
}

static void text_age(struct text *out, const struct why_page *page, const struct object *object)
{
    const struct object_times *times = &object->times;
    int64_t age = object_age_ms(times, page->now_ms), ttl = object_ttl_ms(times, page->now_ms);

    text_lit(out, "  age       ");
    put_seconds(out, age);
    text_lit(out, " = ");
    put_seconds(out, times->initial_age_ms);
    text_lit(out, " on arrival + ");
    put_seconds(out, age - times->initial_age_ms);
    text_lit(out, " here\n  left      ");
    put_seconds(out, ttl);
    text_lit(out, " = lifetime - age: ");
    text_put(out, atomic_load(&object->soft_purged) ? VIEW("stale (soft-purged)")
                  : ttl > 0                         ? VIEW("fresh")
                                                    : VIEW("stale"));
    text_lit(out, "\n  stale use ");
    if (times->swr_ms > 0) {
        put_seconds(out, times->swr_ms);
        text_lit(out, " while revalidating");
    }
    if (times->sie_ms > 0) {
        text_put(out, times->swr_ms > 0 ? VIEW(", ") : VIEW_NONE);
        put_seconds(out, times->sie_ms);
        text_lit(out, " if the origin fails");
    }
    text_put(out, times->swr_ms > 0 || times->sie_ms > 0 ? VIEW("\n") : VIEW("no window of its own\n"));
}

static void text_variant(struct text *out, const struct why_page *page, unsigned i)
{
    const struct object *object = memory_variant(page->variants, i);
    unsigned flags = atomic_load(&object->flags);
    char memory[1024];
    struct view vary = vary_text(object, memory, sizeof(memory));

    text_printf(out, "\nvariant %u of %u: status %u, %llu bytes, in memory, hits %u%s, fetched in %u ms\n", i + 1,
                page->variants.count, object->status, (unsigned long long)atomic_load(&object->body_len),
                (unsigned)atomic_load(&object->item.uses),
                atomic_load(&object->item.uses) >= POLICY_USES_MAX ? "+" : "", object->cost_ms);
    if (vary.len) {
        text_lit(out, "  for       ");
        text_put(out, vary);
        text_char(out, '\n');
    }
    text_lifetime(out, page, object);
    text_age(out, page, object);
    if (object_etag(object).len) {
        text_lit(out, "  etag      ");
        text_put(out, object_etag(object));
        text_char(out, '\n');
    }
    for (size_t k = 0, shown = 0; k < ARRAY_LEN(flag_names); k++)
        if (flags & flag_names[k].flag)
            text_printf(out, "%s%s", shown++ ? ", " : "  flags     ", flag_names[k].name);
    text_char(out, '\n');
}

static void text_decision(struct text *out, const struct why_page *page)
{
    const char *why = explain(page->decision.why);

    text_lit(out, "now       ");
    switch (page->decision.verdict) {
    case VERDICT_FRESH: text_lit(out, "a GET is answered from memory"); break;
    case VERDICT_STALE_SERVE: text_lit(out, "a GET is answered from memory, stale, and refreshed behind it"); break;
    case VERDICT_REVALIDATE: text_lit(out, "a GET asks the origin whether what is stored is still good"); break;
    case VERDICT_MISS: text_lit(out, "a GET goes to the origin"); break;
    case VERDICT_REFUSE: text_lit(out, "a GET is refused"); break;
    }
    text_lit(out, " [");
    text_put(out, why_name(page->decision.why));
    text_char(out, ']');
    if (why)
        text_printf(out, ": %s", why);
    text_char(out, '\n');
}

static void text_note(struct text *out, const struct why_page *page)
{
    const char *why = explain(page->note.why);

    text_printf(out, "not kept  the last response (status %u, ", page->note.status);
    put_seconds(out, page->now_ms / 1000 * 1000 - page->note.at_s * 1000);
    text_lit(out, " ago) was not stored [");
    text_put(out, why_name(page->note.why));
    text_char(out, ']');
    if (why)
        text_printf(out, ": %s", why);
    text_char(out, '\n');
}

/* Why a request that must go upstream would fail at once. */
static void text_upstream(struct text *out, struct upstream *upstream)
{
    if (!upstream || !upstream_is_down(upstream))
        return;
    line(out, "upstream", VIEW("down: its breaker is open or its checks fail; what needs it fails at once"));
    for (unsigned i = 0; i < upstream_server_count(upstream); i++) {
        struct upstream_server_stats stats;

        upstream_server_stats(upstream, i, &stats);
        text_printf(out, "  %.*s  %s%s", VIEW_ARG(upstream_server_name(upstream, i)),
                    breaker_state_name(stats.breaker.state), stats.breaker.forced ? " by hand" : "");
        if (stats.breaker.open_for_ms) {
            text_lit(out, ", tried again in ");
            put_seconds(out, (int64_t)stats.breaker.open_for_ms);
        }
        text_put(out, stats.healthy ? VIEW("\n") : VIEW(", checks fail\n"));
    }
}

static void write_text(struct text *out, void *arg)
{
    const struct why_page *page = arg;
    char key[KEY_SHOWN_MAX];

    line(out, "url", page->url);
    if (!page->route) {
        line(out, "route", VIEW("none: the node answers 404"));
        return;
    }
    if (page->route->service) {
        text_printf(out, "%-10s%.*s -> AI gateway\n", "route", VIEW_ARG(page->route->name));
        line(out, "key",
             VIEW("made of a prompt, not of a URL: Cache-Status and Doorstep-AI of an answer say what happened"));
        return;
    }
    text_printf(out, "%-10s%.*s -> upstream %s, guarantee %.*s\n", "route", VIEW_ARG(page->route->name),
                page->route->to.upstream ? upstream_name(page->route->to.upstream) : "-",
                VIEW_ARG(guarantee_name(page->route->cache.decide.guarantee)));
    line(out, "key", key_as_text(page, key, sizeof(key)));
    if (page->route->cache.key.cookie_count + page->route->cache.key.header_count)
        line(out, "", VIEW("(of a request without the cookies and headers that this route's keys contain)"));
    text_decision(out, page);
    text_upstream(out, page->route->to.upstream);
    if (page->noted)
        text_note(out, page);
    if (page->in_flight)
        line(out, "fetch", VIEW("one is under way"));
    if (page->passing)
        line(out, "marker", VIEW("not cacheable for now: requests do not wait for each other"));
    if (page->variants.count == 0)
        line(out, "stored", VIEW("nothing"));
    for (unsigned i = 0; i < page->variants.count; i++)
        text_variant(out, page, i);
}

void admin_why(struct admin *admin, struct loop *loop, const struct http_request *request, struct admin_answer *ret)
{
    struct why_page page = { .admin = admin, .now_ms = loop_wall_ms(loop) };
    size_t cap = URL_MAX * 2;
    char *memory = heap_alloc(URL_MAX + cap), format_memory[16];
    struct text url = text_make(memory, URL_MAX), format = TEXT_ON(format_memory);
    struct text key = text_make(memory ? memory + URL_MAX : NULL, cap);

    if (!memory) {
        answer_error(ret, 503, "out of memory");
        return;
    }
    page.text = answer_param(request, VIEW("format"), &format) && view_eq(text_view(&format), VIEW("text"));
    if (!answer_param(request, VIEW("url"), &url) || url.len == 0 || url.overflow) {
        answer_error(ret, 400, "which URL? /why?url=http%3A%2F%2Fhost%2Fpath");
    } else {
        page.url = text_view(&url);
        if (look_up(&page, &key) < 0)
            answer_error(ret, 400, "not an absolute http or https URL");
        else if (page.text)
            answer_write(ret, 200, "text/plain; charset=utf-8", write_text, &page);
        else
            answer_write(ret, 200, "application/json", write_json, &page);
    }
    heap_free(memory);
}
