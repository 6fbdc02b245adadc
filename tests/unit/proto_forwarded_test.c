/* Forwarded members from the right, node identifiers and networks. */
#include "proto/forwarded.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void assert_view(struct view got, const char *want)
{
    if (!view_eq(got, view_str(want)))
        fail_msg("got '%.*s', expected '%s'", VIEW_ARG(got), want);
}

/* Members come from the last line's right end; an open quote further left takes nothing with it. */
static void members_come_from_the_right(void **state)
{
    static const char *const want[] = { "e", "for=\"[::1]:1, \\\"x\"", "c", "for=1.2.3.4", "a, for=\"open" };
    struct field memory[8];
    struct fields fields;
    struct forwarded_walk walk;
    struct view member;

    (void)state;
    fields_init(&fields, memory, 8);
    assert_int_equal(fields_add(&fields, FIELD_FORWARDED, VIEW("Forwarded"), VIEW("a, for=\"open, for=1.2.3.4")), 0);
    assert_int_equal(fields_add(&fields, FIELD_HOST, VIEW("Host"), VIEW("a")), 0);
    assert_int_equal(fields_add(&fields, FIELD_FORWARDED, VIEW("Forwarded"), VIEW(" ,c")), 0);
    assert_int_equal(fields_add(&fields, FIELD_FORWARDED, VIEW("Forwarded"), VIEW("for=\"[::1]:1, \\\"x\" ,, e,")), 0);
    walk = forwarded_walk(&fields, FIELD_FORWARDED);
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_true(forwarded_last(&walk, &member));
        assert_view(member, want[i]);
    }
    assert_false(forwarded_last(&walk, &member));
    walk = forwarded_walk(&fields, FIELD_X_FORWARDED_FOR);
    assert_false(forwarded_last(&walk, &member));
}

/* The parameters of RFC 7239 §4 are read, anything odd is refused. */
static void members_are_parsed(void **state)
{
    static const char *const bad[] = { "for", "for=",   "for=a b", "for=\"a", "for=a;for=b", "for=\"a\\\"b\"",
                                       "=a",  "for=a,", "for =a" };
    struct forwarded forwarded;

    (void)state;
    assert_int_equal(forwarded_parse(VIEW("For=\"[2001:db8::1]:4711\";proto=https; BY=_x;host=a.b;z=\"\""), &forwarded),
                     0);
    assert_view(forwarded.for_node, "[2001:db8::1]:4711");
    assert_view(forwarded.by_node, "_x");
    assert_view(forwarded.host, "a.b");
    assert_view(forwarded.proto, "https");
    assert_int_equal(forwarded_parse(VIEW("proto=http"), &forwarded), 0);
    assert_null(forwarded.for_node.ptr);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(forwarded_parse(view_str(bad[i]), &forwarded), -EBADMSG);
}

/* Node identifiers become addresses; hidden ones and nonsense are told apart. */
static void nodes_become_addresses(void **state)
{
    static const struct {
        const char *node;
        int result, family;
        uint16_t port;
    } rows[] = {
        { "192.0.2.1", 0, AF_INET, 0 },        { "192.0.2.1:80", 0, AF_INET, 80 },    { "192.0.2.1:_p", 0, AF_INET, 0 },
        { "[2001:db8::1]", 0, AF_INET6, 0 },   { "[2001:db8::1]:8", 0, AF_INET6, 8 }, { "2001:db8::1", 0, AF_INET6, 0 },
        { "unknown", -ENOENT, 0, 0 },          { "_secret", -ENOENT, 0, 0 },          { "", -EBADMSG, 0, 0 },
        { "host.example", -EBADMSG, 0, 0 },    { "192.0.2", -EBADMSG, 0, 0 },         { "192.0.2.1:x", -EBADMSG, 0, 0 },
        { "192.0.2.1:70000", -EBADMSG, 0, 0 }, { "[2001:db8::1", -EBADMSG, 0, 0 },    { "[192.0.2.1]", -EBADMSG, 0, 0 },
        { "[::1]x", -EBADMSG, 0, 0 },
    };
    struct sockaddr_storage address;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(forwarded_node(view_str(rows[i].node), &address), rows[i].result);
        if (rows[i].result == 0) {
            struct sockaddr_in6 v6; /* the port stands in the same place in both families */

            memcpy(&v6, &address, sizeof(v6));
            assert_int_equal(address.ss_family, rows[i].family);
            assert_int_equal(ntohs(v6.sin6_port), rows[i].port);
        }
    }
}

/* Prefixes are compared bit by bit, mapped IPv4 is IPv4, and "::/0" is not. */
static void networks_match(void **state)
{
    static const struct {
        const char *network, *address;
        bool match;
    } rows[] = {
        { "10.0.0.0/8", "10.255.0.1", true },
        { "10.0.0.0/8", "11.0.0.1", false },
        { "10.1.2.3/8", "10.9.9.9", true },
        { "192.168.0.0/23", "192.168.1.9", true },
        { "192.168.0.0/23", "192.168.2.1", false },
        { "127.0.0.1", "127.0.0.1", true },
        { "127.0.0.1", "127.0.0.2", false },
        { "0.0.0.0/0", "1.2.3.4", true },
        { "0.0.0.0/0", "::1", false },
        { "10.0.0.0/8", "::ffff:10.1.1.1", true },
        { "::/0", "2001:db8::1", true },
        { "::/0", "1.2.3.4", false },
        { "2001:db8::/33", "2001:db8:7fff::1", true },
        { "2001:db8::/33", "2001:db8:8000::1", false },
        { "::1", "::1", true },
        { "::ffff:0:0/96", "1.2.3.4", true },
    };
    static const char *const bad[] = { "",         "/", "10.0.0.0/",  "10.0.0.0/33", "::/129",
                                       "10.0.0/8", "a", "1.2.3.4/8x", "[::1]/8" };
    struct sockaddr_storage address;
    struct sockaddr plain;
    struct cidr cidr;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(cidr_parse(view_str(rows[i].network), &cidr), 0);
        assert_int_equal(forwarded_node(view_str(rows[i].address), &address), 0);
        if (cidr_match(&cidr, (const struct sockaddr *)&address) != rows[i].match)
            fail_msg("%s, %s", rows[i].network, rows[i].address);
    }
    memset(&plain, 0, sizeof(plain));
    plain.sa_family = AF_UNIX;
    assert_false(cidr_match(&cidr, &plain));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(cidr_parse(view_str(bad[i]), &cidr), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_come_from_the_right),
        cmocka_unit_test(members_are_parsed),
        cmocka_unit_test(nodes_become_addresses),
        cmocka_unit_test(networks_match),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
