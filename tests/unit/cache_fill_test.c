/* Fills against a scripted origin: who gets what, what is stored, and how each end is told. Order comes from gates in the
 * origin's script and from what the readers see, never from time. */
#include "upstream_fixture.h"

#include "base/rcu.h"
#include "cache/fill.h"
#include "cache/vary.h"

#define HEAD(fields) "HTTP/1.1 200 OK\r\n" fields "\r\n"
#define READERS 6
#define WINDOW 65536u

/* One reader of the fill under test. */
struct reader {
    struct task task;
    struct fill_reader *place;
    struct fill_view last; /* object: only valid while reading */
    uint64_t got;
    uint32_t sum;
    char first[16];
    enum exchange_error error;
    enum fill_joined joined;
    bool holds;          /* takes no body bytes until told */
    bool leaves_at_head; /* leaves as soon as it is decided */
    bool ended;
    void (*at_decision)(struct reader *r);
    void (*at_look)(struct reader *r);
    void (*at_end)(struct reader *r);
};

static struct loop *loop;
static struct memory *memory;
static struct marks *marks;
static struct fill_table *table;
static struct fill_context context;
static unsigned waiters_max; /* what join() passes */
static struct upstream *upstream;
static struct cache_policy policy;
static struct origin origin;
static struct reader readers[READERS];
static unsigned open_readers;
static char url[64];
static struct key key;
static atomic_int kept;

static void keep_retain(struct fill_keep *keep)
{
    (void)keep;
    atomic_fetch_add(&kept, 1);
}

static void keep_release(struct fill_keep *keep)
{
    (void)keep;
    atomic_fetch_sub(&kept, 1);
}

static struct fill_keep keeper = { .retain = keep_retain, .release = keep_release };

/* ---- requests ---- */

struct parsed {
    struct http_request request;
    struct field list[16];
    struct view bytes;
};

static const struct parsed *parse(const char *fields)
{
    static struct parsed p;
    static char bytes[512];
    static const struct http1_limits limits = { 4096, 1024 };
    enum http1_error error;
    size_t scanned = 0;

    snprintf(bytes, sizeof(bytes), "GET /a HTTP/1.1\r\nHost: o\r\n%s\r\n", fields);
    p.bytes = view_str(bytes);
    fields_init(&p.request.fields, p.list, ARRAY_LEN(p.list));
    assert_true(http1_parse_request(p.bytes, &limits, &scanned, &p.request, &error) > 0);
    return &p;
}

/* ---- readers ---- */

static void leave(struct reader *r)
{
    if (r->ended)
        return;
    r->ended = true;
    r->error = fill_error(r->place);
    if (r->at_end)
        r->at_end(r);
    fill_leave(r->place);
    r->place = NULL;
    open_readers--;
}

static void take_body(struct reader *r)
{
    struct object *object = r->last.object;
    struct view run;

    while (!r->holds && (run = object_peek(object, &r->place->cursor)).len) {
        for (size_t i = 0; i < run.len; i++) {
            if (r->got + i < sizeof(r->first) - 1)
                r->first[r->got + i] = run.ptr[i];
            r->sum += (unsigned char)run.ptr[i];
        }
        r->got += run.len;
        object_advance(object, &r->place->cursor, run.len);
        fill_passed(r->place, run.len);
    }
}

static void reader_run(struct task *task)
{
    struct reader *r = CONTAINER_OF(task, struct reader, task);
    enum fill_outcome before = r->last.outcome;

    if (!r->place) /* a wake is a hint: it left, or never began */
        return;
    fill_look(r->place, &r->last);
    if (before == FILL_UNDECIDED && r->last.outcome != FILL_UNDECIDED && r->at_decision)
        r->at_decision(r);
    if (r->at_look)
        r->at_look(r);
    if (r->ended)
        return;
    if (r->last.outcome != FILL_UNDECIDED && r->leaves_at_head) {
        leave(r);
        return;
    }
    if (r->last.object)
        take_body(r);
    if (r->last.phase >= FILL_DONE && !r->holds)
        leave(r);
}

static void reader_open(struct reader *r)
{
    task_init(&r->task, loop, reader_run);
    open_readers++;
}

static int start_with(struct reader *r, const char *fields, struct object *stored, bool shared)
{
    const struct parsed *p = parse(fields);
    struct fill_request request = {
        .context = &context,
        .keep = &keeper,
        .policy = &policy,
        .upstream = upstream,
        .request = &p->request,
        .request_bytes = p->bytes,
        .scheme = VIEW("http"),
        .key = key,
        .url = VIEW("http://o/a"),
        .head = p->bytes,
        .newest_seen = stored,
        .stored = stored,
        .shared = shared,
        .background = !r,
    };
    struct task background, *task = r ? &r->task : &background;
    struct fill_reader *none;
    int result;

    if (r)
        reader_open(r);
    else
        task_init(&background, loop, NULL);
    result = fill_start(&request, task, r ? &r->place : &none);
    if (r && result < 0)
        open_readers--;
    return result;
}

static int start(struct reader *r)
{
    return start_with(r, "", NULL, true);
}

static enum fill_joined join(struct reader *r, const char *fields)
{
    r->joined = fill_join(table, &key, &parse(fields)->request, waiters_max, &r->task, &r->place);
    if (r->joined == FILL_JOINED) {
        task_init(&r->task, loop, reader_run);
        open_readers++;
        task_wake(&r->task);
    }
    return r->joined;
}

/* ---- the loop: a test is a function that begins, and ends when no reader and no fill is left ---- */

static struct task begin;
static void (*begin_test)(void);

static void begin_run(struct task *task)
{
    (void)task;
    begin_test();
}

static void turn_ended(struct loop *here, void *arg)
{
    (void)arg;
    if (open_readers == 0 && atomic_load(&kept) == 0 && !list_linked(&begin.link))
        loop_stop(here);
}

static void run(const struct op *script, void (*test)(void))
{
    const char *servers[1] = { url };
    struct upstream_options options;
    char reason_memory[128];
    struct text reason = TEXT_ON(reason_memory);

    origin_start(&origin, script, NULL);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", origin.port);
    upstream_options_init(&options);
    options.servers = servers;
    options.server_count = 1;
    assert_int_equal(loop_new(&loop, 0), 0);
    assert_int_equal(upstream_new(&upstream, &options, &reason), 0);
    memset(readers, 0, sizeof(readers));
    open_readers = 0;
    begin_test = test;
    task_init(&begin, loop, begin_run);
    task_wake(&begin);
    loop_at_turn_end(loop, (struct loop_hook){ turn_ended, NULL });
    loop_run(loop);
    assert_int_equal(fill_table_count(table), 0);
    upstream_loop_close(upstream, loop);
    upstream_free(upstream);
    dns_loop_close(loop);
    loop_free(loop);
    shutdown(origin.listener, SHUT_RDWR); /* an origin that was never asked waits for nobody */
    origin_join(&origin);
}

static int set_up(void **state)
{
    static const struct memory_options options = { .limit = 64 << 20, .admit_all = true };

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    memset(&policy, 0, sizeof(policy));
    freshness_policy_init(&policy.freshness);
    policy.max_object = policy.memory_max = 8 << 20;
    policy.pass_marker_ms = 60000;
    key = key_of(VIEW("1:s3:GET0:1:o2:/a0:"));
    if (memory_new(&options, &memory) < 0 || fill_table_new(&table) < 0 || marks_new(0, &marks) < 0)
        return -1;
    context = (struct fill_context){ .memory = memory, .table = table, .marks = marks, .window = WINDOW };
    waiters_max = 64;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fill_table_free(table);
    memory_free(memory);
    marks_free(marks);
    return 0;
}

/* What memory has for the key, with a reference, or NULL. Inside the loop. */
static struct object *stored_now(void)
{
    const struct memory_entry *entry = memory_find(memory, &key);
    struct memory_variants variants;

    if (!entry)
        return NULL;
    variants = memory_variants(entry);
    return variants.count && object_try_ref(memory_variant(variants, 0)) ? memory_variant(variants, 0) : NULL;
}

static struct object *found;

static void find_stored(struct reader *r)
{
    (void)r;
    found = stored_now();
}

static void open_gate(struct reader *r)
{
    (void)r;
    sem_post(&origin.gate);
}

/* ---- coalescing ---- */

static void five_readers(void)
{
    assert_int_equal(start(&readers[0]), 0);
    assert_true(fill_in_flight(table, &key));
    assert_int_equal(fill_table_count(table), 1);
    for (int i = 1; i < 4; i++)
        assert_int_equal(join(&readers[i], ""), FILL_JOINED);
    assert_int_equal(start(&readers[5]), -EALREADY);
}

static void join_in_body(struct reader *r)
{
    assert_int_equal(r->last.outcome, FILL_STORING);
    assert_int_equal(r->last.phase, FILL_BODY);
    assert_int_equal(join(&readers[4], ""), FILL_JOINED);
    open_gate(r);
}

static void begin_coalescing(void)
{
    five_readers();
    readers[0].at_decision = join_in_body;
    readers[0].at_end = find_stored;
}

static void test_coalescing(void **state)
{
    /* One origin request serves those who came before the head and those who came in the body; then it is stored. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, HEAD("Content-Length: 1000003\r\nCache-Control: max-age=60\r\n") "abc", 0 },
        { OP_GATE, NULL, 0 },
        { OP_FILL, NULL, 1000000 },
        { OP_END, NULL, 0 },
    };

    (void)state;
    run(script, begin_coalescing);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(readers[i].last.phase, FILL_DONE);
        assert_int_equal(readers[i].got, 1000003);
        assert_int_equal(readers[i].sum, 'a' + 'b' + 'c' + 1000000u * 'x');
        assert_memory_equal(readers[i].first, "abcxxx", 6);
        assert_int_equal(readers[i].last.why, WHY_NONE);
    }
    assert_int_equal(origin.accepted, 1);
    assert_non_null(found);
    assert_true(found->flags & OBJECT_COMPLETE);
    assert_int_equal(found->body_len, 1000003);
    object_unref(found);
}

static void begin_starter_leaves(void)
{
    five_readers();
    readers[0].leaves_at_head = true;
    readers[1].at_decision = open_gate;
}

static void test_starter_leaves(void **state)
{
    /* When the first one leaves the others lose nothing. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, HEAD("Content-Length: 900000\r\nCache-Control: max-age=60\r\n"), 0 },
        { OP_GATE, NULL, 0 },
        { OP_FILL, NULL, 900000 },
        { OP_END, NULL, 0 },
    };

    (void)state;
    run(script, begin_starter_leaves);
    for (int i = 1; i < 4; i++)
        assert_int_equal(readers[i].got, 900000);
}

static void begin_all_leave(void)
{
    five_readers();
    for (int i = 0; i < 4; i++)
        readers[i].leaves_at_head = true;
}

static void test_all_leave(void **state)
{
    /* A fill nobody wants is given up: its origin connection closes, nothing is stored. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, HEAD("Content-Length: 900000\r\nCache-Control: max-age=60\r\n") "abc", 0 },
        { OP_READ_EOF, NULL, 0 },
        { OP_END, NULL, 0 },
    };
    struct memory_stats stats;

    (void)state;
    run(script, begin_all_leave);
    memory_stats(memory, &stats);
    assert_int_equal(stats.objects, 0);
}

static void leave_and_open(struct reader *r)
{
    leave(r);
    open_gate(r);
}

static void begin_nearly_complete(void)
{
    assert_int_equal(start(&readers[0]), 0);
    readers[0].at_decision = leave_and_open;
}

static void test_nearly_complete(void **state)
{
    /* A fill that lacks little is finished for the cache although nobody reads. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, HEAD("Content-Length: 9000\r\nCache-Control: max-age=60\r\n"), 0 },
        { OP_GATE, NULL, 0 },
        { OP_FILL, NULL, 9000 },
        { OP_END, NULL, 0 },
    };
    struct memory_stats stats;

    (void)state;
    run(script, begin_nearly_complete);
    memory_stats(memory, &stats);
    assert_int_equal(stats.objects, 1);
}

static void begin_crowd(void)
{
    waiters_max = 2;
    assert_int_equal(start(&readers[0]), 0);
    assert_int_equal(join(&readers[1], ""), FILL_JOINED);
    assert_int_equal(join(&readers[2], ""), FILL_CROWDED);
    heap_fault(1, 0);
    waiters_max = 3;
    assert_int_equal(join(&readers[3], ""), FILL_NO_MEMORY);
    heap_fault(0, 0);
}

static void test_crowd(void **state)
{
    /* The number of readers is bounded, and a join without memory is told. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, HEAD("Content-Length: 2\r\nCache-Control: max-age=60\r\n") "ok", 0 },
        { OP_END, NULL, 0 },
    };

    (void)state;
    run(script, begin_crowd);
    assert_int_equal(readers[0].got, 2);
    assert_int_equal(readers[1].got, 2);
}

/* ---- what is not stored ---- */

static uint64_t pass_until;

static void find_marker(struct reader *r)
{
    const struct memory_entry *entry = memory_find(memory, &key);

    (void)r;
    pass_until = entry ? memory_pass_until(entry) : 0;
    assert_int_equal(join(&readers[3], ""), FILL_NONE);
    assert_false(fill_in_flight(table, &key));
}

static void begin_pass(void)
{
    assert_int_equal(start(&readers[0]), 0);
    assert_int_equal(join(&readers[1], ""), FILL_JOINED);
    readers[0].at_decision = find_marker;
    readers[1].leaves_at_head = true; /* as a request would that may not read it */
}

static void test_pass_marker(void **state)
{
    /* An answer that may not be shared is told at once to those who joined, leaves a marker, and nobody new joins. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, HEAD("Content-Length: 2\r\nCache-Control: no-store\r\n") "ok", 0 },
        { OP_END, NULL, 0 },
    };
    struct memory_stats stats;

    (void)state;
    pass_until = 0;
    run(script, begin_pass);
    assert_int_equal(readers[0].got, 2);
    assert_int_equal(readers[0].last.outcome, FILL_PASSING);
    assert_int_equal(readers[0].last.why, WHY_NO_STORE);
    assert_int_equal(readers[1].last.outcome, FILL_PASSING);
    assert_true(pass_until > 0);
    memory_stats(memory, &stats);
    assert_int_equal(stats.objects, 0);
}

static void try_languages(struct reader *r)
{
    assert_true(view_eq(object_vary_names(r->last.object), VIEW("accept-language")));
    assert_int_equal(join(&readers[2], "Accept-Language: fr\r\n"), FILL_NONE);
    assert_int_equal(join(&readers[3], "Accept-Language:  DE\r\n"), FILL_JOINED);
    assert_int_equal(join(&readers[4], ""), FILL_NONE);
    open_gate(r);
}

static void begin_vary(void)
{
    assert_int_equal(start_with(&readers[0], "Accept-Language: de\r\n", NULL, true), 0);
    readers[0].at_decision = try_languages;
}

static void test_vary(void **state)
{
    /* Once Vary is known only those with the same values join. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, HEAD("Content-Length: 2\r\nVary: Accept-Language\r\nCache-Control: max-age=60\r\n"), 0 },
        { OP_GATE, NULL, 0 },
        { OP_SEND, "ok", 0 },
        { OP_END, NULL, 0 },
    };

    (void)state;
    run(script, begin_vary);
    assert_int_equal(readers[0].got, 2);
    assert_int_equal(readers[3].got, 2);
}

static void doom_it(struct reader *r)
{
    (void)r;
    fill_table_doom(table, &key);
    assert_false(fill_in_flight(table, &key));
    assert_int_equal(join(&readers[1], ""), FILL_NONE);
    sem_post(&origin.gate);
}

static void purge(enum mark_kind kind, struct view text)
{
    marks_add(marks, &(struct mark){ .kind = kind, .text = text }, 0);
}

static void doom_by_url(struct reader *r)
{
    purge(MARK_URL, VIEW("http://o/b"));
    assert_true(fill_in_flight(table, &key));
    purge(MARK_URL, VIEW("http://o/a"));
    assert_false(fill_in_flight(table, &key));
    open_gate(r);
}

static void begin_doom(void)
{
    assert_int_equal(start(&readers[0]), 0);
    readers[0].at_decision = doom_it;
}

static void begin_doom_by_url(void)
{
    assert_int_equal(start(&readers[0]), 0);
    readers[0].at_decision = doom_by_url;
}

static void begin_doom_early(void)
{
    assert_int_equal(start(&readers[0]), 0);
    purge(MARK_ALL, VIEW_NONE);
    sem_post(&origin.gate);
}

static void test_doom(void **state)
{
    /* A purge while the fill is in flight: its readers get all, it is not stored, and nobody joins it any more. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, HEAD("Content-Length: 5\r\nCache-Control: max-age=60\r\n") "ab", 0 },
        { OP_GATE, NULL, 0 },
        { OP_SEND, "cde", 0 },
        { OP_END, NULL, 0 },
    };
    static void (*const ways[])(void) = { begin_doom, begin_doom_by_url, begin_doom_early };
    struct memory_stats stats;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        run(script, ways[i]);
        assert_string_equal(readers[0].first, "abcde");
        assert_int_equal(readers[0].last.phase, FILL_DONE);
        assert_int_equal(readers[0].last.why, WHY_PURGED);
        memory_stats(memory, &stats);
        assert_int_equal(stats.objects, 0);
    }
}

/* ---- back-pressure ---- */

#define PASSED_BODY 4000000u
/* A read may be under way when the window closes. */
#define AHEAD_MAX (WINDOW + 512u * 1024)

static void follow_slowly(struct reader *r)
{
    uint64_t have = r->last.object ? atomic_load(&r->last.object->body_len) : 0;

    assert_true(have - r->got <= AHEAD_MAX);
    /* Stands still until the fill has run as far ahead as it may; then takes one piece. */
    if (have - r->got < WINDOW && have < PASSED_BODY)
        r->holds = true;
    else
        r->holds = false;
}

static void begin_window(void)
{
    assert_int_equal(start(&readers[0]), 0);
    readers[0].at_look = follow_slowly;
}

static void test_window(void **state)
{
    /* A body that is not stored is never held whole: it runs at most a window ahead of its reader, and still ends. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, HEAD("Content-Length: 4000000\r\nCache-Control: no-store\r\n"), 0 },
        { OP_FILL, NULL, PASSED_BODY },
        { OP_END, NULL, 0 },
    };

    (void)state;
    run(script, begin_window);
    assert_int_equal(readers[0].got, PASSED_BODY);
    assert_int_equal(readers[0].last.phase, FILL_DONE);
    assert_int_equal(object_account(), 0);
}

static void begin_outgrown(void)
{
    policy.max_object = policy.memory_max = 300000;
    assert_int_equal(start(&readers[0]), 0);
    assert_int_equal(join(&readers[1], ""), FILL_JOINED);
}

static void test_outgrown(void **state)
{
    /* A body of unknown length that outgrows what may be stored still reaches all who read it. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },     { OP_READ_HEAD, NULL, 0 }, { OP_SEND, HEAD("Cache-Control: max-age=60\r\n"), 0 },
        { OP_FILL, NULL, 3000000 }, { OP_END, NULL, 0 },
    };
    struct memory_stats stats;

    (void)state;
    run(script, begin_outgrown);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(readers[i].got, 3000000);
        assert_int_equal(readers[i].last.why, WHY_TOO_LARGE);
    }
    memory_stats(memory, &stats);
    assert_int_equal(stats.objects, 0);
}

/* ---- failures ---- */

static void begin_two(void)
{
    assert_int_equal(start(&readers[0]), 0);
    assert_int_equal(join(&readers[1], ""), FILL_JOINED);
}

static void test_cut_body(void **state)
{
    /* A body cut short: readers keep what came and are told; nothing is stored. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, HEAD("Content-Length: 10\r\nCache-Control: max-age=60\r\n") "half.", 0 },
        { OP_CLOSE, NULL, 0 },
        { OP_END, NULL, 0 },
    };
    struct memory_stats stats;

    (void)state;
    run(script, begin_two);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(readers[i].last.phase, FILL_FAILED);
        assert_int_equal(readers[i].last.outcome, FILL_STORING);
        assert_string_equal(readers[i].first, "half.");
        assert_true(readers[i].error != EXCHANGE_OK);
    }
    memory_stats(memory, &stats);
    assert_int_equal(stats.objects, 0);
}

static void test_no_answer(void **state)
{
    /* No usable answer: an error with its kind, for all who wait. */
    static const struct op garbage[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "SSH-2.0-x\r\n\r\n", 0 },
        { OP_END, NULL, 0 },
    };

    (void)state;
    run(garbage, begin_two);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(readers[i].last.phase, FILL_FAILED);
        assert_int_equal(readers[i].last.outcome, FILL_ERROR);
        assert_null(readers[i].last.object);
        assert_int_equal(readers[i].error, EXCHANGE_PROTOCOL_ERROR);
    }
}

/* ---- revalidation ---- */

static void try_stale_start(struct reader *r)
{
    find_stored(r);
    assert_non_null(found);
    assert_int_equal(start(&readers[2]), -ESTALE); /* the caller saw nothing, but something is here now */
    assert_int_equal(start_with(&readers[1], "", found, true), 0);
    readers[1].at_end = NULL;
}

static struct object *fresh;

static void find_fresh(struct reader *r)
{
    assert_int_equal(r->last.outcome, FILL_FRESHENED);
    assert_int_equal(r->last.status, 304);
    fresh = stored_now();
}

static void begin_freshen(void)
{
    assert_int_equal(start(&readers[0]), 0);
    readers[0].at_end = try_stale_start;
    readers[1].at_decision = find_fresh;
}

static void test_freshen(void **state)
{
    /* A 304 gives the stored body a new head: readers see both, and memory has the fresh form alone. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND,
          HEAD("Content-Length: 4\r\nETag: \"1\"\r\nX-A: old\r\nX-B: kept\r\nCache-Control: max-age=1\r\n") "body", 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nX-A: new\r\nCache-Control: max-age=60\r\n\r\n", 0 },
        { OP_READ_EOF, NULL, 0 },
        { OP_END, NULL, 0 },
    };

    (void)state;
    fresh = NULL;
    run(script, begin_freshen);
    assert_string_equal(readers[0].first, "body");
    assert_string_equal(readers[1].first, "body");
    assert_non_null(fresh);
    assert_ptr_not_equal(fresh, found);
    assert_non_null(memmem(object_head(fresh).ptr, object_head(fresh).len, "X-A: new\r\n", 10));
    assert_non_null(memmem(object_head(fresh).ptr, object_head(fresh).len, "X-B: kept\r\n", 11));
    assert_null(memmem(object_head(fresh).ptr, object_head(fresh).len, "X-A: old", 8));
    assert_int_equal(fresh->times.lifetime_ms, 60000);
    object_unref(found);
    object_unref(fresh);
}

static void begin_background(struct reader *r)
{
    find_stored(r);
    assert_int_equal(start_with(NULL, "", found, true), 0);
}

static void begin_then_background(void)
{
    found = NULL;
    assert_int_equal(start(&readers[0]), 0);
    readers[0].at_end = begin_background;
}

static void test_background(void **state)
{
    /* A fill that nobody reads replaces the stored object. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, HEAD("Content-Length: 3\r\nCache-Control: max-age=1\r\n") "one", 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, HEAD("Content-Length: 3\r\nCache-Control: max-age=60\r\n") "two", 0 },
        { OP_END, NULL, 0 },
    };
    struct memory_stats stats;

    (void)state;
    run(script, begin_then_background);
    memory_stats(memory, &stats);
    assert_int_equal(stats.objects, 1);
    assert_int_equal(stats.inserts, 2);
    object_unref(found);
}

/* ---- torture ---- */

static unsigned long fault_at;
static int fault_result;

static void begin_fault(void)
{
    heap_fault(fault_at, 0);
    fault_result = start(&readers[0]);
    if (fault_result == 0)
        join(&readers[1], "");
}

static void test_faults(void **state)
{
    /* Whichever allocation fails, every reader comes to an end and nothing is lost: all of it or an error. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, HEAD("Transfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n") "30d40\r\n", 0 },
        { OP_FILL, NULL, 200000 },
        { OP_SEND, "\r\n0\r\n\r\n", 0 },
        { OP_END, NULL, 0 },
    };
    unsigned whole = 0;

    (void)state;
    for (fault_at = 1; fault_at <= 60; fault_at++) {
        tear_down(state);
        set_up(state);
        run(script, begin_fault);
        heap_fault(0, 0);
        for (int i = 0; i < 2; i++)
            if (readers[i].ended && readers[i].last.phase == FILL_DONE) {
                assert_int_equal(readers[i].got, 200000);
                whole++;
            }
    }
    assert_true(whole >= 40);
}

/* ---- two loops ---- */

static struct loop *far_loop;
static struct reader far;
static sem_t far_left;

static void far_look(struct task *task)
{
    struct reader *r = CONTAINER_OF(task, struct reader, task);

    if (!r->place)
        return;
    fill_look(r->place, &r->last);
    if (r->last.object)
        take_body(r);
    if (r->last.phase < FILL_DONE)
        return;
    r->error = fill_error(r->place);
    fill_leave(r->place);
    r->place = NULL;
    loop_stop(far_loop);
}

static void far_leaves(struct loop *here, struct message *message)
{
    (void)message;
    fill_leave(far.place);
    far.place = NULL;
    sem_post(&far_left);
    loop_stop(here);
}

static struct message far_leave_message = { .handle = far_leaves };

static void far_wakes(struct loop *here, struct message *message)
{
    (void)here;
    (void)message;
    task_wake(&far.task);
}

static struct message far_wake_message = { .handle = far_wakes };

static void *far_main(void *arg)
{
    loop_run(arg);
    return NULL;
}

/* The far reader leaves (its message is on the way to us), then the last one does: the fill ends before the message. */
static void both_leave(struct reader *r)
{
    loop_post(far_loop, &far_leave_message);
    sem_wait(&far_left);
    leave(r);
}

static void far_joins(void)
{
    assert_int_equal(start(&readers[0]), 0);
    memset(&far, 0, sizeof(far));
    task_init(&far.task, far_loop, far_look);
    assert_int_equal(fill_join(table, &key, &parse("")->request, 8, &far.task, &far.place), FILL_JOINED);
    loop_post(far_loop, &far_wake_message);
}

static void begin_far_leave(void)
{
    far_joins();
    readers[0].at_decision = both_leave;
}

static void run_far(const struct op *script, void (*test)(void))
{
    pthread_t thread;

    assert_int_equal(loop_new(&far_loop, 1), 0);
    sem_init(&far_left, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, far_main, far_loop), 0);
    run(script, test);
    pthread_join(thread, NULL);
    sem_destroy(&far_left);
    loop_free(far_loop);
}

static void test_far_leave(void **state)
{
    /* A message from another loop that arrives after its fill has ended touches nothing. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, HEAD("Content-Length: 900000\r\nCache-Control: max-age=60\r\n") "abc", 0 },
        { OP_READ_EOF, NULL, 0 },
        { OP_END, NULL, 0 },
    };

    (void)state;
    run_far(script, begin_far_leave);
    assert_int_equal(fill_table_count(table), 0);
}

static void begin_far_reads(void)
{
    far_joins();
}

static void test_far_reads(void **state)
{
    /* A reader on another loop gets every byte, of a stored body and of one that outgrows its storage. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },     { OP_READ_HEAD, NULL, 0 }, { OP_SEND, HEAD("Cache-Control: max-age=60\r\n"), 0 },
        { OP_FILL, NULL, 3000000 }, { OP_END, NULL, 0 },
    };

    (void)state;
    run_far(script, begin_far_reads);
    assert_int_equal(far.got, 3000000);
    tear_down(state);
    set_up(state);
    policy.max_object = policy.memory_max = 500000;
    run_far(script, begin_far_reads);
    assert_int_equal(far.got, 3000000);
    assert_int_equal(far.error, EXCHANGE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
        T(test_coalescing),  T(test_starter_leaves), T(test_all_leave), T(test_nearly_complete), T(test_crowd),
        T(test_pass_marker), T(test_vary),           T(test_doom),      T(test_window),          T(test_outgrown),
        T(test_cut_body),    T(test_no_answer),      T(test_freshen),   T(test_background),      T(test_faults),
        T(test_far_leave),   T(test_far_reads),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
