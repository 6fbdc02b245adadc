/* Listening addresses: a port in use is told, loops share one of ours, a stale socket file does not stand in the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct address any_port(const char *text)
{
    struct address address;

    assert_int_equal(address_parse(view_str(text), 1, &address), 0);
    if (address.is.any.sa_family != AF_UNIX)
        address_set_port(&address, 0);
    return address;
}

static void close_all(const int fds[], unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
}

static void port_in_use(void **state)
{
    /* Every loop gets a socket on the one port that was chosen; a second node is refused instead of sharing it. */
    struct address wanted = any_port("127.0.0.1"), bound, again;
    int fds[3], others[2] = { -1, -1 };

    (void)state;
    assert_int_equal(listen_open(&wanted, 3, fds, &bound), 0);
    assert_true(address_port(&bound) > 0);
    for (int i = 0; i < 3; i++) {
        struct address is = { .len = sizeof(is.is) };

        assert_int_equal(getsockname(fds[i], &is.is.any, &is.len), 0);
        assert_true(address_eq(&is, &bound));
    }
    assert_int_equal(listen_open(&bound, 2, others, &again), -EADDRINUSE);
    close_all(fds, 3);
    assert_int_equal(listen_open(&bound, 2, fds, &again), 0); /* free again at once */
    assert_true(address_eq(&again, &bound));
    close_all(fds, 2);
}

static void foreign_address(void **state)
{
    /* An address that is not this machine's is an error with its reason. */
    struct address wanted = any_port("192.0.2.1"), bound;
    int fds[1];

    (void)state;
    assert_int_equal(listen_open(&wanted, 1, fds, &bound), -EADDRNOTAVAIL);
}

static void stale_unix_socket(void **state)
{
    /* A socket file somebody listens on is in use; one whose owner has gone is replaced; another kind of file is not touched. */
    char folder[] = "/tmp/listen_test.XXXXXX", path[64], text[80];
    struct address wanted, bound;
    struct stat info;
    int fds[4], others[1];
    FILE *file;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/s", folder);
    snprintf(text, sizeof(text), "unix:%s", path);
    wanted = any_port(text);
    assert_int_equal(listen_open(&wanted, 4, fds, &bound), 0); /* one socket: there is no sharing here */
    assert_int_equal(listen_open(&wanted, 1, others, &bound), -EADDRINUSE);
    close(fds[0]);
    assert_int_equal(stat(path, &info), 0); /* left behind, as by a crash */
    assert_int_equal(listen_open(&wanted, 1, fds, &bound), 0);
    close(fds[0]);
    unlink(path);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs("precious", file);
    fclose(file);
    assert_int_equal(listen_open(&wanted, 1, fds, &bound), -EADDRINUSE);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, 8);
    unlink(path);
    snprintf(text, sizeof(text), "unix:%s/no/such", folder);
    wanted = any_port(text);
    assert_int_equal(listen_open(&wanted, 1, fds, &bound), -ENOENT);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(port_in_use),
        cmocka_unit_test(foreign_address),
        cmocka_unit_test(stale_unix_socket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
