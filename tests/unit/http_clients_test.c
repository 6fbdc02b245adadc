/* Connections per client address: counted, bounded, forgotten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"
#include "http/conn.h"

#include <errno.h>

static void bounded_and_forgotten(void **state)
{
    /* An address gets its limit and no more, others are not touched, and what left makes room. */
    static struct http_loop hl;
    uint8_t address[16] = { 1 }, other[16] = { 2 };

    (void)state;
    clients_remove(&hl, address); /* before anything was counted */
    assert_int_equal(clients_add(&hl, address, 0), 0);
    assert_null(hl.clients); /* no limit: no table */
    for (int i = 0; i < 3; i++)
        assert_int_equal(clients_add(&hl, address, 3), 0);
    assert_int_equal(clients_add(&hl, address, 3), -EUSERS);
    assert_int_equal(clients_add(&hl, other, 3), 0);
    clients_remove(&hl, address);
    assert_int_equal(clients_add(&hl, address, 3), 0);
    assert_int_equal(clients_add(&hl, address, 3), -EUSERS);
    for (int i = 0; i < 4; i++)
        clients_remove(&hl, address); /* once more than counted: as after a reload that added the limit */
    clients_remove(&hl, other);
    heap_free(hl.clients);
    hl.clients = NULL;
}

static void many_addresses(void **state)
{
    /* Many addresses share buckets without counting for each other, and all memory comes back. */
    static struct http_loop hl;
    uint8_t address[16] = { 0 };

    (void)state;
    for (int pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < 5000; i++) {
            address[14] = (uint8_t)(i >> 8);
            address[15] = (uint8_t)i;
            assert_int_equal(clients_add(&hl, address, 2), 0);
        }
    assert_int_equal(clients_add(&hl, address, 2), -EUSERS);
    for (unsigned i = 0; i < 10000; i++) {
        address[14] = (uint8_t)(i % 5000 >> 8);
        address[15] = (uint8_t)(i % 5000);
        clients_remove(&hl, address);
    }
    heap_free(hl.clients); /* ASan would see an entry left behind */
    hl.clients = NULL;
}

static void no_memory(void **state)
{
    /* Without memory the connection is refused, not the count lost. */
    static struct http_loop hl;
    uint8_t address[16] = { 9 };

    (void)state;
    for (unsigned long nth = 1; nth <= 2; nth++) {
        heap_fault(1, 0);
        assert_int_equal(clients_add(&hl, address, 1), -ENOMEM);
        heap_fault(0, 0);
        if (!hl.clients) {
            assert_int_equal(clients_add(&hl, address, 1), 0);
            clients_remove(&hl, address);
        }
    }
    assert_int_equal(clients_add(&hl, address, 1), 0);
    clients_remove(&hl, address);
    heap_free(hl.clients);
    hl.clients = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounded_and_forgotten),
        cmocka_unit_test(many_addresses),
        cmocka_unit_test(no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
