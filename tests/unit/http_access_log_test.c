#include "http/access_log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

static char line[ACCESS_LINE_MAX + 1];

static const struct access_record sample = {
    .time_ms = 1709210096789, /* 2024-02-29T12:34:56.789Z */
    .method = { "GET", 3 },
    .host = { "example.com", 11 },
    .path = { "/search", 7 },
    .query = { "token=secret", 12 },
    .protocol = { "HTTP/1.1", 8 },
    .client = { "203.0.113.77", 12 },
    .user_agent = { "curl/8", 6 },
    .referer = { "https://bob:pw@a.example/page?session=1#x", 41 },
    .cookie = { "id=42; theme=dark; bare", 23 },
    .request_id = { "r-1", 3 },
    .route = { "/*", 2 },
    .outcome = { "hit", 3 },
    .why = { "fresh", 5 },
    .tier = { "memory", 6 },
    .status = 200,
    .bytes_in = 80,
    .bytes_out = 1234,
    .duration_us = 55,
};

static const char *format(const struct access_log_options *options, const struct access_record *record)
{
    struct text out = text_make(line, ACCESS_LINE_MAX);

    assert_true(access_log_format(&out, options, record));
    assert_true(out.len <= ACCESS_LINE_MAX);
    assert_int_equal(line[out.len - 1], '\n');
    line[out.len] = '\0';
    return line;
}

/* By default a line has no query value, cookie, whole address, referer query or user name. */
static void json_by_default_keeps_private_things_out(void **state)
{
    const struct access_log_options options = { .format = ACCESS_JSON };

    (void)state;
    assert_string_equal(format(&options, &sample),
                        "{\"time\":\"2024-02-29T12:34:56.789Z\",\"client\":\"203.0.113.0\",\"method\":\"GET\","
                        "\"host\":\"example.com\",\"path\":\"/search?*\",\"protocol\":\"HTTP/1.1\",\"status\":200,"
                        "\"bytes_in\":80,\"bytes_out\":1234,\"duration_us\":55,\"outcome\":\"hit\",\"why\":\"fresh\","
                        "\"tier\":\"memory\",\"route\":\"/*\",\"request_id\":\"r-1\",\"user_agent\":\"curl/8\","
                        "\"referer\":\"https://a.example/page\"}\n");
}

/* What the operator switches on appears: queries, whole addresses, cookie names, but never a cookie's value. */
static void json_with_everything(void **state)
{
    const struct access_log_options options = {
        .format = ACCESS_JSON, .query_values = true, .cookie_names = true, .addresses = ACCESS_ADDRESSES_FULL
    };
    const char *text;

    (void)state;
    text = format(&options, &sample);
    assert_non_null(strstr(text, "\"client\":\"203.0.113.77\""));
    assert_non_null(strstr(text, "\"path\":\"/search?token=secret\""));
    assert_non_null(strstr(text, "\"cookie_names\":\"id theme\""));
    assert_null(strstr(text, "42"));
    assert_null(strstr(text, "dark"));
    assert_null(strstr(text, "bare"));
}

/* The combined format is what log tools read, with the same care. */
static void combined_line(void **state)
{
    const struct access_log_options options = { .format = ACCESS_COMBINED };
    const struct access_log_options nobody = { .format = ACCESS_COMBINED, .addresses = ACCESS_ADDRESSES_NONE };
    struct access_record empty = { 0 };

    (void)state;
    assert_string_equal(format(&options, &sample),
                        "203.0.113.0 - - [29/Feb/2024:12:34:56 +0000] \"GET /search?* HTTP/1.1\" 200 1234 "
                        "\"https://a.example/page\" \"curl/8\"\n");
    assert_string_equal(format(&nobody, &empty), "- - - [01/Jan/1970:00:00:00 +0000] \"- - -\" 0 0 \"-\" \"-\"\n");
}

/* A client cannot forge a second line or leave its string: quotes, controls and broken UTF-8 are escaped. */
static void foreign_bytes_are_escaped(void **state)
{
    const struct access_log_options json = { .format = ACCESS_JSON }, combined = { .format = ACCESS_COMBINED };
    struct access_record record = sample;
    const char *text;

    (void)state;
    record.user_agent = VIEW("a\"b\\\n{\"x\":1}\x1b[2J\xff");
    text = format(&json, &record);
    assert_non_null(strstr(text, "\"user_agent\":\"a\\\"b\\\\\\u000a{\\\"x\\\":1}\\u001b[2J\\ufffd\""));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    text = format(&combined, &record);
    assert_non_null(strstr(text, "\"a\\x22b\\x5c\\x0a{\\x22x\\x22:1}\\x1b[2J\\xff\"\n"));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

/* However long and however hostile the values are, a line fits and stays a line. */
static void lines_are_bounded(void **state)
{
    static char junk[20000];
    const struct access_log_options options[] = {
        { .format = ACCESS_JSON, .query_values = true, .cookie_names = true, .addresses = ACCESS_ADDRESSES_FULL },
        { .format = ACCESS_COMBINED, .query_values = true, .addresses = ACCESS_ADDRESSES_FULL },
        { .format = ACCESS_JSON, .cookie_names = true },
    };
    const char fillers[] = { 'a', '\x01', '=', '\xff', '"', ';' };

    (void)state;
    for (size_t i = 0; i < sizeof(fillers); i++) {
        struct view v = view_make(junk, sizeof(junk));
        struct access_record record = {
            .time_ms = INT64_MAX / 2,
            .method = v,
            .host = v,
            .path = v,
            .query = v,
            .protocol = v,
            .client = v,
            .user_agent = v,
            .referer = v,
            .cookie = v,
            .request_id = v,
            .route = v,
            .outcome = v,
            .why = v,
            .tier = v,
            .upstream = v,
            .status = 65535,
            .bytes_in = UINT64_MAX,
            .bytes_out = UINT64_MAX,
            .duration_us = UINT64_MAX,
            .upstream_us = UINT64_MAX,
        };

        memset(junk, fillers[i], sizeof(junk));
        for (size_t k = 0; k < ARRAY_LEN(options); k++)
            format(&options[k], &record);
    }
}

static const char *mask(const char *address)
{
    static char memory[64];
    struct text out = TEXT_ON(memory);

    access_log_mask(&out, view_str(address));
    return text_str(&out);
}

/* Addresses are cut to the network; what is no address is not repeated. */
static void addresses_are_cut(void **state)
{
    (void)state;
    assert_string_equal(mask("203.0.113.9"), "203.0.113.0");
    assert_string_equal(mask("2001:db8:1:2::3"), "2001:db8:1::");
    assert_string_equal(mask("::1"), "::");
    assert_string_equal(mask("::ffff:198.51.100.7"), "198.51.100.0");
    assert_string_equal(mask("unix"), "-");
    assert_string_equal(mask(""), "-");
    assert_string_equal(mask("1.2.3"), "-");
    assert_string_equal(mask("secret:\n"), "-");
    assert_string_equal(mask("11111111111111111111.2.3.4"), "-");
}

/* ---- targets ---- */

struct place {
    char dir[64], path[96], moved[96];
    struct loop *loop;
};

static int setup(void **state)
{
    struct place *place = calloc(1, sizeof(*place));

    snprintf(place->dir, sizeof(place->dir), "/tmp/access-log-XXXXXX");
    if (!mkdtemp(place->dir))
        return -1;
    snprintf(place->path, sizeof(place->path), "%s/log", place->dir);
    snprintf(place->moved, sizeof(place->moved), "%s/log.1", place->dir);
    *state = place;
    return loop_new(&place->loop, 0);
}

static int teardown(void **state)
{
    struct place *place = *state;

    loop_free(place->loop);
    unlink(place->path);
    unlink(place->moved);
    rmdir(place->dir);
    free(place);
    return 0;
}

static size_t lines_in(const char *path)
{
    FILE *file = fopen(path, "r");
    size_t lines = 0;
    int c;

    assert_non_null(file);
    while ((c = fgetc(file)) != EOF)
        lines += c == '\n';
    fclose(file);
    return lines;
}

/* After the file was moved away, reopening continues in a new one and nothing is lost between. */
static void file_reopens(void **state)
{
    struct place *place = *state;
    const struct access_log_options options = { .target = ACCESS_FILE, .path = place->path };
    struct access_log *log;

    assert_int_equal(access_log_open(&log, &options, 1), 0);
    access_log_write(log, place->loop, &sample);
    access_log_flush(log, place->loop);
    assert_int_equal(rename(place->path, place->moved), 0);
    access_log_write(log, place->loop, &sample);
    access_log_flush(log, place->loop);
    assert_int_equal(lines_in(place->moved), 2);
    assert_int_equal(access_log_reopen(log), 0);
    for (int i = 0; i < 1000; i++) /* more than one buffer */
        access_log_write(log, place->loop, &sample);
    access_log_close(log); /* flushes */
    assert_int_equal(lines_in(place->moved), 2);
    assert_int_equal(lines_in(place->path), 1000);
}

static void *reopen_often(void *log)
{
    for (int i = 0; i < 200; i++)
        assert_int_equal(access_log_reopen(log), 0);
    return NULL;
}

/* Reopening while a loop writes loses no line (run under TSan as well). */
static void reopening_while_writing_loses_nothing(void **state)
{
    struct place *place = *state;
    const struct access_log_options options = { .target = ACCESS_FILE, .path = place->path };
    struct access_log *log;
    pthread_t thread;

    assert_int_equal(access_log_open(&log, &options, 1), 0);
    assert_int_equal(pthread_create(&thread, NULL, reopen_often, log), 0);
    for (int i = 0; i < 2000; i++) {
        access_log_write(log, place->loop, &sample);
        access_log_flush(log, place->loop);
    }
    pthread_join(thread, NULL);
    access_log_close(log);
    assert_int_equal(lines_in(place->path), 2000);
}

/* A directory that is gone: opening says so; reopening says so and keeps the old file. */
static void unwritable_path_is_an_error(void **state)
{
    struct place *place = *state;
    const struct access_log_options bad = { .target = ACCESS_FILE, .path = "/nonexistent/dir/log" };
    const struct access_log_options good = { .target = ACCESS_FILE, .path = place->path };
    struct access_log *log = NULL;

    assert_int_equal(access_log_open(&log, &bad, 1), -ENOENT);
    assert_null(log);
    assert_int_equal(access_log_open(&log, &good, 1), 0);
    assert_int_equal(rename(place->path, place->moved), 0);
    assert_int_equal(mkdir(place->path, 0700), 0);
    assert_int_equal(access_log_reopen(log), -EISDIR);
    access_log_write(log, place->loop, &sample);
    access_log_close(log);
    assert_int_equal(lines_in(place->moved), 1);
    rmdir(place->path);
}

/* A full disk costs lines, which are counted, and nothing else. */
static void full_disk_drops_and_counts(void **state)
{
    struct place *place = *state;
    const struct access_log_options options = { .target = ACCESS_FILE, .path = "/dev/full" };
    struct access_log *log;

    assert_int_equal(access_log_open(&log, &options, 1), 0);
    for (int i = 0; i < 3; i++)
        access_log_write(log, place->loop, &sample);
    access_log_flush(log, place->loop);
    assert_int_equal(access_log_dropped(log), 3);
    access_log_write(log, place->loop, &sample);
    access_log_flush(log, place->loop);
    assert_int_equal(access_log_dropped(log), 4);
    access_log_close(log);
}

/* A pipe nobody reads never makes the loop wait: what fits is kept, the rest counted; what is read is whole lines. */
static void slow_pipe_never_blocks(void **state)
{
    struct place *place = *state;
    const struct access_log_options options = { .target = ACCESS_FILE, .path = place->path };
    static char bytes[1 << 21];
    struct access_log *log;
    size_t got = 0, lines = 0, start = 0;
    ssize_t n;
    int reader;

    assert_int_equal(mkfifo(place->path, 0600), 0);
    reader = open(place->path, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    assert_int_equal(access_log_open(&log, &options, 1), 0);
    for (int i = 0; i < 3000; i++)
        access_log_write(log, place->loop, &sample);
    access_log_flush(log, place->loop);
    assert_true(access_log_dropped(log) > 0);
    while ((n = read(reader, bytes + got, sizeof(bytes) - got)) > 0 || got == 0 ||
           (access_log_flush(log, place->loop), (n = read(reader, bytes + got, sizeof(bytes) - got)) > 0))
        got += (size_t)n;
    for (size_t i = 0; i < got; i++)
        if (bytes[i] == '\n') {
            assert_int_equal(bytes[start], '{');
            assert_int_equal(bytes[i - 1], '}');
            start = i + 1;
            lines++;
        }
    assert_int_equal(start, got);
    assert_int_equal(lines + access_log_dropped(log), 3000);
    access_log_close(log);
    close(reader);
}

/* Syslog gets one datagram a line, with priority and tag, without the line end; a daemon that is away costs lines. */
static void syslog_datagrams(void **state)
{
    struct place *place = *state;
    const struct access_log_options options = { .target = ACCESS_SYSLOG, .path = place->path };
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct access_log *log;
    ssize_t n;
    int daemon;

    assert_int_equal(access_log_open(&log, &options, 1), 0);
    access_log_write(log, place->loop, &sample);
    access_log_flush(log, place->loop);
    assert_int_equal(access_log_dropped(log), 1);

    daemon = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    memcpy(address.sun_path, place->path, strlen(place->path) + 1);
    assert_int_equal(bind(daemon, (struct sockaddr *)&address, sizeof(address)), 0);
    access_log_write(log, place->loop, &sample);
    access_log_write(log, place->loop, &sample);
    access_log_flush(log, place->loop);
    for (int i = 0; i < 2; i++) {
        n = recv(daemon, line, sizeof(line) - 1, 0);
        assert_true(n > 0);
        line[n] = '\0';
        assert_memory_equal(line, "<134>", 5);
        assert_non_null(strstr(line, " doorstep["));
        assert_non_null(strstr(line, "]: {\"time\":"));
        assert_int_equal(line[n - 1], '}');
    }
    assert_int_equal(recv(daemon, line, sizeof(line), 0), -1);
    access_log_close(log);
    close(daemon);
}

/* Switched off, or absent, the log costs nothing and every call is harmless. */
static void off_is_harmless(void **state)
{
    struct place *place = *state;
    const struct access_log_options options = { .target = ACCESS_OFF };
    struct access_log *log;

    assert_int_equal(access_log_open(&log, &options, 1), 0);
    access_log_attach(log, place->loop);
    access_log_write(log, place->loop, &sample);
    access_log_flush(log, place->loop);
    assert_int_equal(access_log_reopen(log), 0);
    access_log_close(log);
    access_log_write(NULL, place->loop, &sample);
    access_log_flush(NULL, place->loop);
    assert_int_equal(access_log_reopen(NULL), 0);
    assert_int_equal(access_log_dropped(NULL), 0);
    access_log_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_by_default_keeps_private_things_out),
        cmocka_unit_test(json_with_everything),
        cmocka_unit_test(combined_line),
        cmocka_unit_test(foreign_bytes_are_escaped),
        cmocka_unit_test(lines_are_bounded),
        cmocka_unit_test(addresses_are_cut),
        cmocka_unit_test_setup_teardown(file_reopens, setup, teardown),
        cmocka_unit_test_setup_teardown(reopening_while_writing_loses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(unwritable_path_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(full_disk_drops_and_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(slow_pipe_never_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(syslog_datagrams, setup, teardown),
        cmocka_unit_test_setup_teardown(off_is_harmless, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
