/* Reading files: every type, every kind of mistake, and all of them at once. Uses a small table of its own. */
#include "base/heap.h"
#include "base/text.h"
#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>

enum colour { RED, GREEN, BLUE };

struct inner {
    uint64_t number;
    struct option_strings names;
};

struct item {
    struct view name;
    uint64_t ttl;
    struct inner inner;
};

struct all {
    bool flag;
    uint64_t number, size, duration, unset;
    double ratio;
    struct view text, secret, token;
    enum colour colour;
    struct option_address address;
    struct option_url url;
    struct option_strings names;
    struct option_cidrs ranges;
    struct option_addresses addresses;
    struct option_urls urls;
    struct inner inner;
    struct {
        struct item *items;
        size_t count;
    } list, map;
};

static const char *const colours[] = { "red", "green", "blue", NULL };

#define AT(field) .offset = offsetof(struct all, field)

static const struct option inner_table[] = {
    { .name = "number", .type = OPTION_INT, .offset = offsetof(struct inner, number), .preset = "7" },
    { .name = "names", .type = OPTION_STRINGS, .offset = offsetof(struct inner, names), .preset = "a, b" },
    { .name = NULL },
};

static const struct option item_table[] = {
    { .name = "ttl", .type = OPTION_DURATION, .offset = offsetof(struct item, ttl), .flags = OPTION_REQUIRED },
    { .name = "inner", .type = OPTION_STRUCT, .offset = offsetof(struct item, inner), .table = inner_table },
    { .name = NULL },
};

static const struct option table[] = {
    { .name = "flag", .type = OPTION_BOOL, AT(flag), .preset = "true" },
    { .name = "number", .type = OPTION_INT, AT(number), .preset = "3", .min = 1, .max = 10 },
    { .name = "size", .type = OPTION_SIZE, AT(size), .preset = "1K", .min = 16, .max = 1 << 30 },
    { .name = "duration", .type = OPTION_DURATION, AT(duration), .preset = "1s" },
    { .name = "unset", .type = OPTION_DURATION, AT(unset) },
    { .name = "ratio", .type = OPTION_RATIO, AT(ratio), .preset = "0.5" },
    { .name = "text", .type = OPTION_STRING, AT(text), .preset = "hello" },
    { .name = "secret", .type = OPTION_STRING, AT(secret), .flags = OPTION_ENV },
    { .name = "token", .type = OPTION_STRING, AT(token), .flags = OPTION_TOKEN },
    { .name = "colour", .type = OPTION_ENUM, AT(colour), .preset = "green", .names = colours },
    { .name = "address", .type = OPTION_ADDRESS, AT(address) },
    { .name = "url", .type = OPTION_URL, AT(url) },
    { .name = "names", .type = OPTION_STRINGS, AT(names) },
    { .name = "ranges", .type = OPTION_CIDRS, AT(ranges) },
    { .name = "addresses", .type = OPTION_ADDRESSES, AT(addresses) },
    { .name = "urls", .type = OPTION_URLS, AT(urls) },
    { .name = "inner", .type = OPTION_STRUCT, AT(inner), .table = inner_table },
    { .name = "list", .type = OPTION_LIST, AT(list), .table = item_table, .item_size = sizeof(struct item) },
    { .name = "map", .type = OPTION_MAP, AT(map), .table = item_table, .item_size = sizeof(struct item) },
    { .name = "later", .flags = OPTION_UNAVAILABLE },
    { .name = NULL },
};

struct fixture {
    struct arena memory;
    struct conf_report report;
    struct all all;
};

static int load(struct fixture *f, struct view text)
{
    *f = (struct fixture){ 0 };
    conf_report_init(&f->report);
    arena_init(&f->memory, NULL, 0, CONF_MEMORY_MAX);
    return conf_load_text(text, table, &f->all, &f->memory, &f->report);
}

static void done(struct fixture *f)
{
    conf_report_free(&f->report);
    arena_release(&f->memory);
}

static void expect(struct view text, unsigned line, unsigned column, const char *message)
{
    struct fixture f;
    int r = load(&f, text);

    if (r != -EINVAL || f.report.count != 1 || f.report.first->line != line || f.report.first->column != column ||
        strcmp(f.report.first->text, message) != 0) {
        conf_report_print(&f.report, stderr);
        fail_msg("for: %.*s", VIEW_ARG(text));
    }
    done(&f);
}

#define EXPECT(text, line, column, message) expect(VIEW(text), line, column, message)

static void good(struct fixture *f, struct view text)
{
    int r = load(f, text);

    if (r != 0) {
        conf_report_print(&f->report, stderr);
        fail_msg("for: %.*s", VIEW_ARG(text));
    }
}

#define GOOD(f, text) good(f, VIEW(text))
#define SAME(v, literal) assert_true(view_eq(v, VIEW(literal)))

/* Proves that an almost empty file gives every default, nested ones too. */
static void test_defaults(void **state)
{
    struct fixture f;

    (void)state;
    GOOD(&f, "flag:\n");
    assert_true(f.all.flag);
    assert_int_equal(f.all.number, 3);
    assert_int_equal(f.all.size, 1024);
    assert_int_equal(f.all.duration, 1000);
    assert_true(f.all.unset == OPTION_UNSET);
    assert_true(f.all.ratio > 0.49 && f.all.ratio < 0.51);
    SAME(f.all.text, "hello");
    assert_int_equal(f.all.secret.len, 0);
    assert_int_equal(f.all.colour, GREEN);
    assert_int_equal(f.all.inner.number, 7);
    assert_int_equal(f.all.inner.names.count, 2);
    SAME(f.all.inner.names.items[1], "b");
    assert_int_equal(f.all.list.count, 0);
    done(&f);
}

/* Proves that each type is read in its usual spellings. */
static void test_values(void **state)
{
    struct fixture f;

    (void)state;
    GOOD(&f, "flag: off\nnumber: 10\nsize: 1.5 KiB\nduration: 1h30m\nunset: 250ms\nratio: 10%\ntext: \"x y\"\n"
             "colour: blue\ntoken: X-A\n");
    assert_false(f.all.flag);
    assert_int_equal(f.all.number, 10);
    assert_int_equal(f.all.size, 1536);
    assert_int_equal(f.all.duration, 5400000);
    assert_int_equal(f.all.unset, 250);
    assert_true(f.all.ratio > 0.099 && f.all.ratio < 0.101);
    SAME(f.all.text, "x y");
    assert_int_equal(f.all.text.ptr[f.all.text.len], 0);
    assert_int_equal(f.all.colour, BLUE);
    done(&f);
}

/* Proves that addresses and URLs come apart correctly. */
static void test_addresses(void **state)
{
    struct fixture f;

    (void)state;
    GOOD(&f, "address: \"unix:/run/x.sock\"\nurl: https://[::1]:8443/base/\n"
             "addresses: [8080, ':81', '127.0.0.1:0', '[::1]:82', 'localhost:83']\nurls: HTTP://app_1.local/\n");
    SAME(f.all.address.path, "/run/x.sock");
    assert_true(f.all.url.tls);
    SAME(f.all.url.host, "::1");
    SAME(f.all.url.path, "/base/");
    assert_int_equal(f.all.url.port, 8443);
    assert_int_equal(f.all.addresses.count, 5);
    assert_int_equal(f.all.addresses.items[0].port, 8080);
    assert_int_equal(f.all.addresses.items[1].port, 81);
    SAME(f.all.addresses.items[3].host, "::1");
    SAME(f.all.addresses.items[4].host, "localhost");
    assert_int_equal(f.all.urls.count, 1);
    assert_int_equal(f.all.urls.items[0].port, 80);
    assert_int_equal(f.all.urls.items[0].path.len, 0);
    done(&f);
}

/* Proves that ranges match what lies inside them, for both families. */
static void test_ranges(void **state)
{
    static const uint8_t ten[16] = { [10] = 0xff, 0xff, 10, 255, 1, 2 };
    static const uint8_t twelve[16] = { [10] = 0xff, 0xff, 12, 0, 0, 1 };
    static const uint8_t six[16] = { 0xfd, 1, [15] = 1 };
    struct fixture f;

    (void)state;
    GOOD(&f, "ranges: [10.0.0.0/8, 'fd00::/9']\n");
    assert_true(option_cidrs_match(&f.all.ranges, ten));
    assert_false(option_cidrs_match(&f.all.ranges, twelve));
    assert_true(option_cidrs_match(&f.all.ranges, six));
    done(&f);
}

/* Proves that lists, maps and single values in place of lists fill their structs, and that aliases are followed. */
static void test_containers(void **state)
{
    struct fixture f;

    (void)state;
    GOOD(&f, "names: one\nlist: {ttl: 5s}\nmap:\n  a: &a {ttl: 1s, inner: {number: 9, names: []}}\n  b: *a\n");
    assert_int_equal(f.all.names.count, 1);
    SAME(f.all.names.items[0], "one");
    assert_int_equal(f.all.list.count, 1);
    assert_int_equal(f.all.list.items[0].ttl, 5000);
    assert_int_equal(f.all.list.items[0].inner.number, 7);
    assert_int_equal(f.all.map.count, 2);
    SAME(f.all.map.items[1].name, "b");
    assert_int_equal(f.all.map.items[1].inner.number, 9);
    assert_int_equal(f.all.map.items[1].inner.names.count, 0);
    done(&f);
}

/* Proves that secrets come from the environment where, and only where, the table says so. */
static void test_environment(void **state)
{
    struct fixture f;

    (void)state;
    setenv("CONF_TEST_TOKEN", "s3cret", 1);
    unsetenv("CONF_TEST_NONE");
    GOOD(&f, "secret: \"a-${CONF_TEST_TOKEN}-b\"\n");
    SAME(f.all.secret, "a-s3cret-b");
    done(&f);
    EXPECT("secret: ${CONF_TEST_NONE}\n", 1, 9, "secret: environment variable \"CONF_TEST_NONE\" is not set");
    EXPECT("secret: ${CONF\n", 1, 9, "secret: \"${\" without \"}\"");
    EXPECT("text: ${HOME}\n", 1, 7, "text: environment variables are not replaced in this option");
}

/* Proves that a wrong value of each type is named with what would be right. */
static void test_wrong_values(void **state)
{
    (void)state;
    EXPECT("flag: maybe", 1, 7, "flag: \"maybe\" is not true or false");
    EXPECT("number: -1", 1, 9, "number: \"-1\" is not a whole number");
    EXPECT("number: 11", 1, 9, "number: 11 is out of range; allowed: 1 to 10");
    EXPECT("size: 2G", 1, 7, "size: 2G is out of range; allowed: 16 to 1G");
    EXPECT("size: 99999999999999T", 1, 7, "size: \"99999999999999T\" is not a size such as 64K, 512M or 2G");
    EXPECT("duration: 5", 1, 11, "duration: \"5\" needs a unit: ms, s, m, h, d or w, as in 5s");
    EXPECT("duration: 5x", 1, 11, "duration: \"5x\" is not a duration such as 250ms, 30s, 5m, 1h30m or 7d");
    EXPECT("ratio: 1.5", 1, 8, "ratio: \"1.5\" is not a ratio from 0 to 1 such as 0.1 or 10%");
    EXPECT("text: \"a\\0b\"", 1, 7, "text: control characters and line ends are not allowed");
    EXPECT("token: a b", 1, 8, "token: \"a b\" is not a name: letters, digits and !#$%&'*+-.^_`|~ only");
    EXPECT("colour: gren", 1, 9, "colour: \"gren\" is unknown; did you mean \"green\"? allowed: red, green, blue");
    EXPECT("colour: mauve", 1, 9, "colour: \"mauve\" is unknown; allowed: red, green, blue");
    EXPECT("ranges: 10.0.0.1/8", 1, 9,
           "ranges: \"10.0.0.1/8\" has address bits behind the prefix; did you mean \"10.0.0.0/8\"?");
    EXPECT("ranges: [x]", 1, 10, "ranges[0]: \"x\" is not an address range such as 10.0.0.0/8, 192.0.2.7 or fd00::/8");
    EXPECT(
        "address: host:80", 1, 10,
        "address: \"host:80\" is not an address such as 127.0.0.1:8080, [::1]:8080, :8080 or unix:/run/doorstep.sock");
    EXPECT("address: unix:x", 1, 10, "address: \"unix:x\" is not unix: with an absolute path of at most 107 bytes");
    EXPECT("url: ftp://x", 1, 6,
           "url: \"ftp://x\" is not a URL such as http://10.0.0.5:3000 or https://example.com/base");
    EXPECT("url: http://u@x", 1, 6,
           "url: \"http://u@x\" is not a plain URL: no user, query, fragment, spaces or non-ASCII characters");
}

/* Proves that mistakes of shape are found where they stand. */
static void test_wrong_shapes(void **state)
{
    (void)state;
    EXPECT("number: [1]", 1, 9, "number: expected a single value, found a list");
    EXPECT("names: {a: b}", 1, 8, "names: expected a list, found a mapping (name: value)");
    EXPECT("inner: 5", 1, 8, "inner: expected a mapping (name: value), found a single value");
    EXPECT("list: 5", 1, 7, "list: expected a list of mappings, found a single value");
    EXPECT("list: [5]", 1, 8, "list[0]: expected a mapping (name: value), found a single value");
    EXPECT("map: [5]", 1, 6, "map: expected a mapping of names, found a list");
    EXPECT("list:\n  - inner: {}\n", 2, 5, "list[0]: \"ttl\" is missing");
    EXPECT("- a", 1, 1, "expected options (name: value), found a list");
    EXPECT("? [a]\n: b", 1, 3, "an option's name must be a single word");
}

/* Proves that unknown, misplaced, repeated and not yet available options are told apart. */
static void test_names(void **state)
{
    (void)state;
    EXPECT("flag: on\ncolur: red", 2, 1, "colur: unknown option; did you mean \"colour\"?");
    EXPECT("ttl: 1s", 1, 1, "ttl: unknown option here; it belongs into \"list\"");
    EXPECT("zzzzzz: 1", 1, 1, "zzzzzz: unknown option");
    EXPECT("flag: on\nflag: off", 2, 1, "flag: given twice");
    EXPECT("map: {a: {ttl: 1s}, a: {ttl: 2s}}", 1, 21, "map.a: given twice");
    EXPECT("later: {x: 1}", 1, 1, "later: known, but not available in this version");
    EXPECT("inner: {<<: x}", 1, 9, "inner.<<: merge keys are not supported; write the options out");
}

/* Proves that broken text is refused with its place: tabs, bytes, syntax, cycles, depth, documents, nothing at all. */
static void test_broken_text(void **state)
{
    (void)state;
    EXPECT("", 0, 0, "the file is empty");
    EXPECT("# only a comment\n", 0, 0, "the file is empty");
    EXPECT("inner:\n\tnumber: 1\n", 2, 1, "a tab indents this line; YAML allows spaces only");
    EXPECT("flag: on\ntext: \xff\n", 2, 7, "byte 0xff is not UTF-8; save the file as UTF-8");
    EXPECT("flag: on\n\x01", 2, 1, "control character 0x01: not a text file");
    EXPECT("list: &a [*a]", 1, 11, "alias to a value that contains it");
    EXPECT("flag: *a", 1, 7, "alias to an anchor that is not defined before it");
    EXPECT("flag: on\n---\nflag: on\n", 2, 1, "a second document; a configuration is one document");
}

/* Proves that a syntax mistake does not hide the mistakes before it, nor invents missing options. */
static void test_syntax_and_more(void **state)
{
    struct fixture f;

    (void)state;
    assert_int_equal(load(&f, VIEW("number: x\nlist:\n  - {inner: {}, \nmap: ]\n")), -EINVAL);
    assert_true(f.report.incomplete);
    assert_int_equal(f.report.count, 2);
    assert_int_equal(f.report.first->line, 1);
    assert_true(f.report.first->next->line >= 3);
    done(&f);
}

/* Proves that all mistakes are reported at once, in the order of the file, with the rest of the file still read. */
static void test_all_at_once(void **state)
{
    struct fixture f;
    unsigned line = 0;

    (void)state;
    assert_int_equal(
        load(&f, VIEW("map: {a: {tl: 1s, ttl: 1}}\nnumber: x\nlist:\n  - {ttl: 3}\n  - {ttl: 3s}\nflg: 1\n")), -EINVAL);
    assert_int_equal(f.report.count, 5);
    for (const struct conf_mistake *m = f.report.first; m; m = m->next) {
        assert_true(m->line >= line);
        line = m->line;
    }
    assert_int_equal(line, 6);
    assert_int_equal(f.all.list.items[1].ttl, 3000);
    assert_int_equal(conf_line(&f.report, "list[1].ttl"), 5);
    conf_complain(&f.report, "list[1].nothing", "cross check");
    assert_int_equal(f.report.count, 6);
    done(&f);
}

/* Proves that limits hold: depth, values, elements, aliases that multiply, and the number of mistakes kept. */
static void test_limits(void **state)
{
    size_t len = 300000;
    char *text = heap_alloc(len);
    struct fixture f;
    struct text out;

    (void)state;
    assert_non_null(text);
    assert_int_equal(load(&f, VIEW("names: [[[[[[[[[[[[[[[[[[[[")), -EINVAL);
    assert_int_equal(f.report.count, 2); /* and a list where a text belongs */
    assert_string_equal(f.report.first->next->text, "nested deeper than 16 levels");
    done(&f);
    memset(text, '\n', len);
    memcpy(text, "names: [", 8);
    for (size_t i = 8; i + 2 < len; i += 2)
        memcpy(text + i, "a,", 2);
    assert_int_equal(load(&f, view_make(text, len)), -EINVAL);
    assert_string_equal(f.report.first->text, "names: more than 4096 elements");
    assert_string_equal(f.report.first->next->text, "more than 100000 values");
    done(&f);
    assert_int_equal(load(&f, view_make(text, 9000 * 2)), -EINVAL);
    done(&f);
    for (size_t i = 0; i + 8 <= 4000; i += 8)
        memcpy(text + i, "zz: [1]\n", 8);
    assert_int_equal(load(&f, view_make(text, 4000)), -EINVAL);
    assert_int_equal(f.report.count, 500);
    done(&f);
    out = text_make(text, len);
    text_lit(&out, "map:\n  a: &a {ttl: 1s");
    for (unsigned i = 0; i < 300; i++)
        text_printf(&out, ", zz%u: 1", i);
    text_lit(&out, "}\nlist:\n");
    for (unsigned i = 0; i < 400; i++)
        text_lit(&out, "  - *a\n");
    assert_int_equal(load(&f, text_view(&out)), -EINVAL);
    assert_true(f.report.count < CONF_VALUES_MAX + 1000);
    done(&f);
    heap_free(text);
}

/* Proves that what cannot be read as a file is told, not crashed on. */
static void test_files(void **state)
{
    struct fixture f;

    (void)state;
    assert_int_equal(load(&f, VIEW("flag: on\n")), 0);
    assert_int_equal(conf_load_file("/", table, &f.all, &f.memory, &f.report), -EINVAL);
    assert_string_equal(f.report.first->text, "this is a directory, not a file");
    assert_int_equal(conf_load_file("/nonexistent/x", table, &f.all, &f.memory, &f.report), -EINVAL);
    assert_string_equal(f.report.first->next->text, "cannot be read: No such file or directory");
    assert_int_equal(conf_load_file("/dev/zero", table, &f.all, &f.memory, &f.report), -EINVAL);
    assert_string_equal(f.report.first->next->next->text, "larger than 1 MiB; this is not a configuration");
    assert_int_equal(f.all.number, 3);
    done(&f);
}

/* Proves that command line switches set options through nested structs, with lists by commas. */
static void test_set(void **state)
{
    struct fixture f;

    (void)state;
    GOOD(&f, "flag: on\n");
    assert_int_equal(conf_set(table, &f.all, "inner.number", "12", &f.memory, &f.report), 0);
    assert_int_equal(f.all.inner.number, 12);
    assert_int_equal(conf_set(table, &f.all, "addresses", "127.0.0.1:1, :2", &f.memory, &f.report), 0);
    assert_int_equal(f.all.addresses.count, 2);
    assert_int_equal(f.all.addresses.items[1].port, 2);
    assert_int_equal(conf_set(table, &f.all, "size", "1X", &f.memory, &f.report), -EINVAL);
    assert_int_equal(conf_set(table, &f.all, "inner", "1", &f.memory, &f.report), -EINVAL);
    assert_int_equal(conf_set(table, &f.all, "inner.nothing", "1", &f.memory, &f.report), -EINVAL);
    assert_int_equal(conf_set(table, &f.all, "list.ttl", "1s", &f.memory, &f.report), -EINVAL);
    assert_int_equal(f.report.count, 4);
    done(&f);
}

/* Proves that running out of memory at any allocation ends in -ENOMEM or success, never in a crash or a leak. */
static void test_memory(void **state)
{
    (void)state;
    for (unsigned long nth = 1; nth < 8; nth++) {
        struct fixture f;
        int r;

        heap_fault(nth, 1);
        r = load(&f, VIEW("names: [a, b]\nlist: [{ttl: 1s}]\nnumber: x\n"));
        heap_fault(0, 0);
        assert_true(r == -ENOMEM || r == -EINVAL);
        done(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),     cmocka_unit_test(test_values),          cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_ranges),       cmocka_unit_test(test_containers),      cmocka_unit_test(test_environment),
        cmocka_unit_test(test_wrong_values), cmocka_unit_test(test_wrong_shapes),    cmocka_unit_test(test_names),
        cmocka_unit_test(test_broken_text),  cmocka_unit_test(test_syntax_and_more), cmocka_unit_test(test_all_at_once),
        cmocka_unit_test(test_limits),       cmocka_unit_test(test_files),           cmocka_unit_test(test_set),
        cmocka_unit_test(test_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
