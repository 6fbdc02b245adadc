/* The stored form of a response: what comes back is what went in, and nothing that is torn or foreign comes back at all. */
#include "store/entry.h"

#include "base/crc32c.h"
#include "base/heap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define HEAD "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Type: text/plain\r\n"

static struct object *sample(void)
{
    struct key key = key_of(VIEW("6:public1:G"));
    struct object_parts parts = {
        .key = key.text,
        .url = VIEW("http://shop.example/a"),
        .tags = VIEW("product-42 list"),
        .head = VIEW(HEAD),
        .vary_names = VIEW("accept-language"),
        .vary_values = VIEW("en"),
        .etag_at = 23,
        .etag_len = 4,
    };
    struct object *object = object_new(&key, &parts);

    assert_non_null(object);
    object->status = 200;
    object->cost_ms = 17;
    object->times = (struct object_times){ .response_ms = 1700000000123,
                                           .lifetime_ms = 60000,
                                           .swr_ms = -1,
                                           .sie_ms = 5,
                                           .date_s = 1700000000,
                                           .last_modified_s = -1 };
    atomic_store(&object->purge_pos, 99);
    atomic_store(&object->flags, OBJECT_COMPLETE | OBJECT_LENGTH_KNOWN | OBJECT_IMMUTABLE);
    object->complete_len = 0;
    return object;
}

static char *encode(struct object *object, int64_t shift_ms, size_t *ret_len)
{
    struct entry entry;
    char *bytes;

    entry_of(object, &entry);
    *ret_len = entry_head_len(&entry);
    bytes = heap_alloc(*ret_len);
    assert_non_null(bytes);
    entry_put(&entry, shift_ms, bytes);
    return bytes;
}

static void test_round_trip(void **state)
{
    /* Every text, time and flag that may outlive the process survives; a clock shift applied twice cancels out. */
    struct object *object = sample(), *back;
    struct entry entry;
    size_t len, head_len = 0;
    char *bytes = encode(object, 5000, &len);

    (void)state;
    assert_int_equal(entry_peek(view_make(bytes, ENTRY_PREFIX), &head_len), 0);
    assert_int_equal(head_len, len);
    assert_int_equal(entry_parse(view_make(bytes, len), 5000, &entry), 0);
    back = entry_object(&entry, &object->key, 0);
    assert_non_null(back);
    assert_true(view_eq(object_url(back), object_url(object)));
    assert_true(view_eq(object_tags(back), object_tags(object)));
    assert_true(view_eq(object_head(back), object_head(object)));
    assert_true(view_eq(object_vary_names(back), object_vary_names(object)));
    assert_true(view_eq(object_vary_values(back), object_vary_values(object)));
    assert_true(view_eq(object_etag(back), VIEW("\"v1\"")));
    assert_memory_equal(&back->times, &object->times, sizeof(back->times));
    assert_int_equal(atomic_load(&back->purge_pos), 99);
    assert_int_equal(atomic_load(&back->flags), OBJECT_LENGTH_KNOWN | OBJECT_IMMUTABLE);
    object_unref(back);
    object_unref(object);
    heap_free(bytes);
}

static void test_torn(void **state)
{
    /* Any one changed byte and any cut is refused. */
    struct object *object = sample();
    struct entry entry;
    size_t len;
    char *bytes = encode(object, 0, &len);

    (void)state;
    for (size_t i = 0; i < len; i++) {
        int r;

        bytes[i] = (char)(bytes[i] ^ 0x10);
        r = entry_parse(view_make(bytes, len), 0, &entry);
        assert_true(r == -EBADMSG || (r == -EPROTONOSUPPORT && (i == 4 || i == 5)));
        bytes[i] = (char)(bytes[i] ^ 0x10);
        assert_int_equal(entry_parse(view_make(bytes, i), 0, &entry), -EBADMSG);
    }
    assert_int_equal(entry_parse(view_make(bytes, len), 0, &entry), 0);
    object_unref(object);
    heap_free(bytes);
}

static void test_vary_keys(void **state)
{
    /* Variants of one key differ by values, and a new generation reaches none of the old ones. */
    struct key key = key_of(VIEW("k"));
    struct entry_key en = entry_key_variant(&key, 1, VIEW("en")), de = entry_key_variant(&key, 1, VIEW("de")),
                     later = entry_key_variant(&key, 2, VIEW("en"));

    (void)state;
    assert_memory_not_equal(&en, &de, sizeof(en));
    assert_memory_not_equal(&en, &later, sizeof(en));
}

static void test_crc(void **state)
{
    /* The check value of RFC 3720 §B.4: 32 bytes of zeros; and a sum in two steps equals the sum in one. */
    char zeros[32] = { 0 };

    (void)state;
    assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aau);
    assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_torn),
        cmocka_unit_test(test_vary_keys),
        cmocka_unit_test(test_crc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
