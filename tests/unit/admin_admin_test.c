#include "admin/admin.h"

#include "base/clock.h"
#include "base/heap.h"
#include "http/purge.h"

#include <errno.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <urcu-qsbr.h>
#include <cmocka.h>

/* A node without listeners: one loop, one route to no upstream, a memory tier. */
static struct node_parts {
    struct metrics *metrics;
    struct loop *loop;
    struct server server;
    struct http_config config;
    struct route routes[2];
    struct admin *admin;
    struct admin_answer answer;
} node;

static void config_gone(struct http_config *config)
{
    (void)config;
}

static int make_node(struct view token)
{
    struct memory_options memory = { .limit = 8 << 20, .admit_all = true };
    struct admin_options options = { .server = &node.server, .token = token };
    struct purger_options purger = { 0 };

    memset(&node, 0, sizeof(node));
    urcu_qsbr_register_thread();
    if (metrics_new(&node.metrics, 1, 0) < 0 || http_stats_new(&node.server.stats, node.metrics, 1) < 0 ||
        loop_new(&node.loop, 0) < 0 || memory_new(&memory, &node.server.memory) < 0 ||
        fill_table_new(&node.server.fill.table) < 0 || marks_new(0, &node.server.marks) < 0)
        return -1;
    purger.marks = node.server.fill.marks = node.server.marks;
    if (purger_new(&purger, &node.server.purger) < 0)
        return -1;
    http_config_init(&node.config);
    node.config.destroy = config_gone;
    node.config.node_name = VIEW("test");
    node.config.routes = node.routes;
    node.config.route_count = 2;
    node.routes[0].name = node.routes[0].match_path = VIEW("/cookie/*");
    node.routes[1].name = node.routes[1].match_path = VIEW("/*");
    for (int i = 0; i < 2; i++) {
        node.routes[i].cache.scope = VIEW("public");
        freshness_policy_init(&node.routes[i].cache.freshness);
        decide_policy_init(&node.routes[i].cache.decide);
    }
    node.server.config = &node.config;
    options.metrics = node.metrics;
    return admin_new(&node.admin, &options);
}

static int setup(void **state)
{
    (void)state;
    return make_node(VIEW_NONE);
}

static int setup_with_token(void **state)
{
    (void)state;
    return make_node(VIEW("s3cret"));
}

static void drop_answer(void)
{
    heap_free((char *)(uintptr_t)node.answer.body.ptr);
    memset(&node.answer, 0, sizeof(node.answer));
}

static int teardown(void **state)
{
    (void)state;
    drop_answer();
    admin_free(node.admin);
    memory_free(node.server.memory);
    fill_table_free(node.server.fill.table);
    purger_free(node.server.purger);
    marks_free(node.server.marks);
    http_stats_free(node.server.stats);
    metrics_free(node.metrics);
    loop_free(node.loop);
    urcu_qsbr_unregister_thread();
    return 0;
}

/* Does what the listener would do with a purge. */
static int carry_out(void)
{
    int r = purge_run(&node.server, node.loop, &node.answer.event, false, NULL, NULL);

    return r == 0 ? 200 : r == -EINVAL ? 400 : 503;
}

/* Sends "METHOD target" with one more field, or none. Returns the status; the answer stays in node.answer. */
static int ask_with(const char *method, const char *target, const char *name, const char *value, bool local)
{
    const struct http1_limits limits = { .head_max = 32768, .target_max = 8192 };
    char bytes[16384];
    struct text text = TEXT_ON(bytes);
    struct field list[16];
    struct http_request request = { 0 };
    enum http1_error error;
    size_t scanned = 0;

    drop_answer();
    text_printf(&text, "%s %s HTTP/1.1\r\nHost: admin\r\n", method, target);
    if (value)
        text_printf(&text, "%s: %s\r\n", name, value);
    text_lit(&text, "\r\n");
    fields_init(&request.fields, list, ARRAY_LEN(list));
    assert_true(http1_parse_request(text_view(&text), &limits, &scanned, &request, &error) > 0);
    node.answer.status = 404;
    admin_handle(node.admin, node.loop, &request, VIEW_NONE, local, &node.answer);
    return node.answer.purge ? carry_out() : node.answer.status;
}

static int ask(const char *method, const char *target, const char *authorization, bool local)
{
    return ask_with(method, target, "Authorization", authorization, local);
}

static bool answer_has(const char *text)
{
    return node.answer.body.ptr && memmem(node.answer.body.ptr, node.answer.body.len, text, strlen(text)) != NULL;
}

static const char *tags = ""; /* of what is stored next */

/* Stores a response of 5 bytes under the key the node's route gives this URL. */
static void store(const struct route *route, const char *host, const char *path, const char *query, const char *head)
{
    char key_bytes[1024], url_bytes[1024];
    struct text key_text = TEXT_ON(key_bytes), url = TEXT_ON(url_bytes);
    struct view query_view = query ? view_str(query) : VIEW_NONE;
    struct object_parts parts = { .head = view_str(head), .tags = view_str(tags), .body_hint = 5 };
    struct object *object;
    struct key key;
    size_t cap;

    assert_int_equal(key_build_url(&route->cache.key, route->cache.scope, VIEW("http"), view_str(host), view_str(path),
                                   query_view, &key_text),
                     0);
    assert_int_equal(key_url(&route->cache.key, VIEW("http"), view_str(host), view_str(path), query_view, &url), 0);
    key = key_of(text_view(&key_text));
    parts.key = key.text;
    parts.url = text_view(&url);
    object = object_new(&key, &parts);
    assert_non_null(object);
    memcpy(object_reserve(object, 5, &cap), "hello", 5);
    object_commit(object, 5);
    object->status = 200;
    atomic_store(&object->purge_pos, marks_position(node.server.marks));
    object->method = METHOD_GET;
    object->cost_ms = 12;
    object->times = (struct object_times){
        .response_ms = loop_wall_ms(node.loop) - 2500,
        .initial_age_ms = 1000,
        .lifetime_ms = 60000,
        .swr_ms = 5000,
        .sie_ms = 0,
        .last_modified_s = -1,
    };
    atomic_fetch_or(&object->flags, OBJECT_COMPLETE);
    assert_int_equal(memory_put(node.server.memory, object, NULL), 0);
    object_unref(object);
}

#define HEAD "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nCache-Control: max-age=60\r\n"

static enum memory_visit drop_if_purged(struct object *object, void *arg)
{
    return marks_check(arg, object) == MARKS_HARD ? MEMORY_DROP : MEMORY_KEEP;
}

/* What a request could still find. */
static uint64_t stored(void)
{
    struct memory_stats stats;
    unsigned cursor = 0;

    while (memory_each(node.server.memory, &cursor, drop_if_purged, node.server.marks))
        ;
    memory_stats(node.server.memory, &stats);
    return stats.objects;
}

/* Every page says what it is for by status and type; unknown paths and methods are refused in JSON. */
static void pages_and_methods(void **state)
{
    (void)state;
    assert_int_equal(ask("GET", "/healthz", NULL, false), 200);
    assert_int_equal(ask("HEAD", "/readyz", NULL, false), 200);
    assert_int_equal(ask("GET", "/metrics", NULL, false), 200);
    assert_string_equal(node.answer.content_type, "text/plain; version=0.0.4; charset=utf-8");
    assert_true(answer_has("\ndoorstep_memory_objects 0\n"));
    assert_int_equal(ask("GET", "/top", NULL, false), 200);
    assert_true(answer_has("\"node\":\"test\""));
    assert_int_equal(ask("GET", "/nothing", NULL, false), 404);
    assert_true(answer_has("{\"status\":404,\"error\":\""));
    assert_int_equal(ask("POST", "/metrics", NULL, false), 405);
    assert_string_equal(node.answer.allow, "GET, HEAD");
    assert_int_equal(ask("GET", "/purge?all=1", NULL, false), 405);
    assert_string_equal(node.answer.allow, "POST");
    atomic_store(&node.server.draining, true);
    assert_int_equal(ask("GET", "/readyz", NULL, false), 503);
    assert_int_equal(ask("GET", "/healthz", NULL, false), 200);
}

/* With a token set only its bearer gets in; health stays open, and a Unix socket needs none. */
static void token_is_asked_for(void **state)
{
    (void)state;
    assert_int_equal(ask("GET", "/metrics", NULL, false), 401);
    assert_int_equal(ask("GET", "/metrics", "Bearer s3cre", false), 401);
    assert_int_equal(ask("GET", "/metrics", "Bearer s3cretx", false), 401);
    assert_int_equal(ask("GET", "/metrics", "Bearer s3crets3cret", false), 401);
    assert_int_equal(ask("GET", "/metrics", "Bearer ", false), 401);
    assert_int_equal(ask("GET", "/metrics", "Basic s3cret", false), 401);
    assert_int_equal(ask("GET", "/nothing", NULL, false), 401);
    assert_int_equal(ask("POST", "/purge?all=1", NULL, false), 401);
    assert_int_equal(ask("GET", "/metrics", "Bearer s3cret", false), 200);
    assert_int_equal(ask("GET", "/metrics", "bearer  s3cret", false), 200);
    assert_int_equal(ask("GET", "/metrics", NULL, true), 200);
    assert_int_equal(ask("GET", "/healthz", NULL, false), 200);
}

/* Without a token, a purge that a web page sent is refused; programs, and reading, are not. */
static void pages_of_other_sites_may_not_purge(void **state)
{
    static const struct {
        const char *name, *value;
        int status;
    } cases[] = {
        { "Origin", "http://evil.example", 403 },
        { "Origin", "null", 403 },
        { "origin", "http://127.0.0.1:9180", 403 },
        { "Sec-Fetch-Site", "cross-site", 403 },
        { "Sec-Fetch-Site", "same-site", 403 },
        { "sec-fetch-site", "Cross-Site", 403 },
        { "Sec-Fetch-Site", "same-origin", 200 },
        { "Sec-Fetch-Site", "none", 200 },
        { "X-Other", "1", 200 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(ask_with("POST", "/purge?all=1", cases[i].name, cases[i].value, false), cases[i].status);
        assert_int_equal(ask_with("GET", "/metrics", cases[i].name, cases[i].value, false), 200);
    }
}

/* With a token the token decides, whoever sends it. */
static void a_token_is_enough_for_a_page(void **state)
{
    (void)state;
    assert_int_equal(ask_with("POST", "/purge?all=1", "Origin", "http://evil.example", false), 401);
    assert_int_equal(ask_with("POST", "/purge?all=1", "Authorization", "Bearer s3cret\r\nOrigin: http://a", false),
                     200);
}

/* A stored response is explained: key, source of its lifetime, and arithmetic that adds up. */
static void why_explains_what_is_stored(void **state)
{
    (void)state;
    store(&node.routes[1], "shop.example", "/app.js", "v=1", HEAD);
    assert_int_equal(ask("GET", "/why?url=http%3A%2F%2FSHOP.example%3A80%2Fapp.js%3Fv%3D1", NULL, false), 200);
    assert_true(answer_has("\"route\":\"/*\""));
    assert_true(answer_has("\"decision\":\"fresh\",\"why\":\"fresh\""));
    assert_true(answer_has("\"source\":\"max-age\",\"field\":\"Cache-Control\",\"clamped\":false"));
    assert_true(answer_has(
        "\"lifetime_s\":60.000,\"initial_age_s\":1.000,\"resident_s\":2.500,\"age_s\":3.500,\"ttl_s\":56.500"));
    assert_true(answer_has("\"stale_while_revalidate_s\":5.000"));
    assert_int_equal(ask("GET", "/why?format=text&url=http://shop.example/app.js?v=1", NULL, false), 200);
    assert_true(answer_has("now       a GET is answered from memory [fresh]"));
    assert_true(answer_has("lifetime  60 s: max-age in Cache-Control\n"));
    assert_true(answer_has("age       3.500 s = 1 s on arrival + 2.500 s here\n"));
    assert_true(answer_has("left      56.500 s = lifetime - age: fresh\n"));
}

/* What is not stored is explained by the latest reason, for its own key only. */
static void why_explains_what_is_not_stored(void **state)
{
    char bytes[256];
    struct text text = TEXT_ON(bytes);
    struct key key;

    (void)state;
    assert_int_equal(key_build_url(&node.routes[1].cache.key, VIEW("public"), VIEW("http"), VIEW("h"), VIEW("/login"),
                                   VIEW_NONE, &text),
                     0);
    key = key_of(text_view(&text));
    http_stats_not_stored(node.server.stats, node.loop, key.hash[0], WHY_SET_COOKIE, 200);
    assert_int_equal(ask("GET", "/why?url=http://h/login", NULL, false), 200);
    assert_true(answer_has("\"why\":\"uri-miss\""));
    assert_true(answer_has("\"not_stored\":{\"why\":\"set-cookie\""));
    assert_true(answer_has("\"variants\":[]"));
    assert_int_equal(ask("GET", "/why?url=http://h/other", NULL, false), 200);
    assert_true(answer_has("\"not_stored\":null"));
}

/* Questions that make no sense are answered with 400. */
static void bad_questions(void **state)
{
    (void)state;
    assert_int_equal(ask("GET", "/why", NULL, false), 400);
    assert_int_equal(ask("GET", "/why?url=", NULL, false), 400);
    assert_int_equal(ask("GET", "/why?url=/path-only", NULL, false), 400);
    assert_int_equal(ask("GET", "/why?url=ftp://h/", NULL, false), 400);
    assert_int_equal(ask("GET", "/why?url=http://h/%20", NULL, false), 400);
    assert_int_equal(ask("POST", "/purge", NULL, false), 400);
    assert_int_equal(ask("POST", "/purge?all=0", NULL, false), 400);
    assert_int_equal(ask("POST", "/purge?all=1&url=http://h/", NULL, false), 400);
    assert_int_equal(ask("POST", "/purge?url=", NULL, false), 400);
    assert_int_equal(ask("POST", "/purge?url=nonsense", NULL, false), 400);
    assert_int_equal(ask("POST", "/purge?prefix=nonsense", NULL, false), 400);
    assert_int_equal(ask("POST", "/purge?url=%00", NULL, false), 400);
}

static void store_five(void)
{
    store(&node.routes[1], "a.example", "/x/1", NULL, HEAD);
    store(&node.routes[1], "a.example", "/x/1", "q=2", HEAD);
    store(&node.routes[1], "b.example", "/x/1", NULL, HEAD);
    store(&node.routes[1], "b.example", "/y", NULL, HEAD);
    tags = "red \x1fmy\x1fgroup";
    store(&node.routes[0], "a.example", "/cookie/1", NULL, HEAD);
    tags = "";
    assert_int_equal(stored(), 5);
}

/* A URL goes with exactly its host and query; a path counts for every host; a prefix for the path it names and all below. */
static void purge_drops_what_was_named(void **state)
{
    static const struct {
        const char *target;
        unsigned left;
    } cases[] = {
        { "/purge?url=http://a.example/x/1", 4 },
        { "/purge?url=HTTP://A.example:80/x/1", 4 },
        { "/purge?url=http://a.example/%2578/1", 5 },
        { "/purge?url=http://c.example/x/1", 5 },
        { "/purge?url=http://a.example/x/1%3Fq%3D2", 4 },
        { "/purge?url=/x/1", 3 },
        { "/purge?prefix=/x/", 2 },
        { "/purge?prefix=/x", 2 },
        { "/purge?prefix=http://a.example/x", 3 },
        { "/purge?prefix=http://a.example/x/1", 3 },
        { "/purge?prefix=http://a.example/x/1/", 3 },
        { "/purge?prefix=http://a.example/cook", 5 },
        { "/purge?prefix=http://a.example", 2 },
        { "/purge?host=A.example", 2 },
        { "/purge?tag=red", 4 },
        { "/purge?tag=re", 5 },
        { "/purge?group=http://a.example%20my%20group", 4 },
        { "/purge?group=http://b.example%20my%20group", 5 },
        { "/purge?all=1", 0 },
        { "/purge?all", 0 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        store_five();
        assert_int_equal(ask("POST", cases[i].target, NULL, false), 200);
        assert_int_equal(stored(), cases[i].left);
        assert_int_equal(ask("POST", "/purge?all=1", NULL, false), 200);
        assert_int_equal(stored(), 0);
        urcu_qsbr_quiescent_state();
    }
}

/* Where cookies or headers are in the key, a URL reaches all of its entries. */
static void purge_by_url_finds_keys_with_extras(void **state)
{
    static const struct view cookies[] = { { "session", 7 } };

    (void)state;
    node.routes[0].cache.key.cookies = cookies;
    node.routes[0].cache.key.cookie_count = 1;
    store(&node.routes[1], "a.example", "/cookie/1", NULL, HEAD);
    assert_int_equal(ask("POST", "/purge?url=http://a.example/cookie/1", NULL, false), 200);
    assert_int_equal(stored(), 0);
}

/* A soft purge keeps the response and makes it stale at once. */
static void soft_purge_marks_stale(void **state)
{
    (void)state;
    store_five();
    assert_int_equal(ask("POST", "/purge?soft=1&url=http://a.example/x/1", NULL, false), 200);
    assert_int_equal(stored(), 5);
    assert_int_equal(ask("GET", "/why?url=http://a.example/x/1", NULL, false), 200);
    assert_true(answer_has("\"soft_purged\":true"));
    assert_true(answer_has("\"fresh\":false"));
    assert_int_equal(ask("POST", "/purge?soft=1&prefix=/y", NULL, false), 200);
    assert_int_equal(stored(), 5);
    assert_int_equal(ask("GET", "/why?url=http://b.example/y", NULL, false), 200);
    assert_true(answer_has("\"soft_purged\":true"));
}

/* When memory is out an answer says so or is empty, and nothing is lost or leaked. */
static void out_of_memory_degrades(void **state)
{
    static const char *const targets[] = { "/metrics", "/top", "/why?url=http://a.example/x/1", "/healthz" };

    (void)state;
    store_five();
    for (size_t i = 0; i < ARRAY_LEN(targets); i++)
        for (unsigned long nth = 1; nth < 6; nth++) {
            int status;

            heap_fault(nth, 0);
            status = ask("GET", targets[i], NULL, false);
            heap_fault(0, 0);
            assert_true(status == 200 || status == 500 || status == 503);
        }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pages_and_methods),
        cmocka_unit_test_setup_teardown(token_is_asked_for, setup_with_token, teardown),
        TEST(pages_of_other_sites_may_not_purge),
        cmocka_unit_test_setup_teardown(a_token_is_enough_for_a_page, setup_with_token, teardown),
        TEST(why_explains_what_is_stored),
        TEST(why_explains_what_is_not_stored),
        TEST(bad_questions),
        TEST(purge_drops_what_was_named),
        TEST(purge_by_url_finds_keys_with_extras),
        TEST(soft_purge_marks_stale),
        TEST(out_of_memory_degrades),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
