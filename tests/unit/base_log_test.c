/* The process log and the clocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"

#include <string.h>
#include <unistd.h>

static size_t logged(char *memory, size_t cap, void (*say)(void))
{
    int ends[2], saved = dup(STDERR_FILENO);
    ssize_t got;

    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    say();
    dup2(saved, STDERR_FILENO);
    close(saved);
    got = read(ends[0], memory, cap - 1); /* the only writing end is closed: 0 when nothing was said */
    close(ends[0]);
    assert_true(got >= 0);
    memory[got] = '\0';
    return (size_t)got;
}

static void say_info(void)
{
    log_info("started %d", 7);
}

static void say_debug(void)
{
    log_debug("hidden");
}

static void say_much(void)
{
    char much[3000];

    memset(much, 'x', sizeof(much) - 1);
    much[sizeof(much) - 1] = '\0';
    log_warn("%s", much);
}

static void lines(void **state)
{
    /* One line per event with time and level; below the level nothing; a long line is cut but still one line. */
    char memory[8192];
    size_t len;

    (void)state;
    len = logged(memory, sizeof(memory), say_info);
    assert_non_null(strstr(memory, "Z info: started 7\n"));
    assert_int_equal(memory[10], 'T');
    assert_int_equal(logged(memory, sizeof(memory), say_debug), 0);
    log_set_level(LOG_LEVEL_DEBUG);
    assert_true(logged(memory, sizeof(memory), say_debug) > 0);
    log_set_level(LOG_LEVEL_ERROR);
    assert_int_equal(logged(memory, sizeof(memory), say_info), 0);
    log_set_level(LOG_LEVEL_INFO);
    len = logged(memory, sizeof(memory), say_much);
    assert_in_range(len, 1000, 1024);
    assert_ptr_equal(strchr(memory, '\n'), memory + len - 1);
    assert_int_equal(memory[len - 2], 'x');
}

static void clocks(void **state)
{
    /* Monotonic time does not run backwards and its two units agree; wall time is after this was written. */
    uint64_t ms = clock_mono_ms(), us = clock_mono_us(), later = clock_mono_ms();

    (void)state;
    assert_true(ms <= us / 1000 && us / 1000 <= later);
    assert_true(clock_wall_ms() > INT64_C(1700000000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),
        cmocka_unit_test(clocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
