/* Entries of a shared store are anybody's bytes. Whatever parses, with a checksum that fits, makes an object whose texts lie where
 * they should, and which is written again as it was read. */
#include "base/check.h"
#include "base/crc32c.h"
#include "base/heap.h"
#include "store/entry.h"

#include <stdlib.h>

static void check_texts(const struct entry *entry, const struct object *object)
{
    static volatile unsigned char sink;
    const struct view texts[] = { object_url(object),  object_tags(object),       object_head(object),
                                  object_etag(object), object_vary_names(object), object_vary_values(object) };

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        for (size_t k = 0; k < texts[i].len; k++)
            sink = (unsigned char)(sink + texts[i].ptr[k]);
    CHECK(view_eq(texts[0], entry->url) && view_eq(texts[2], entry->head));
}

static void check_again(const struct object *object, const struct entry *first)
{
    struct entry entry, second;
    size_t len;
    char *bytes;

    entry_of(object, &entry);
    entry.kind = first->kind;
    entry.body_len = first->body_len; /* the object has no body yet */
    len = entry_head_len(&entry);
    bytes = heap_alloc(len);
    if (!bytes)
        return;
    entry_put(&entry, 77, bytes);
    CHECK(entry_parse(view_make(bytes, len), 77, &second) == 0 && view_eq(second.head, first->head));
    CHECK(second.times.response_ms == first->times.response_ms && second.position == first->position);
    heap_free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct entry entry;
    struct object *object;
    struct key key;
    size_t head_len;
    uint32_t crc;
    char *bytes;

    (void)entry_parse(view_make((const char *)data, size), 0, &entry);
    if (size < ENTRY_PREFIX + 4 || entry_peek(view_make((const char *)data, size), &head_len) < 0 || head_len > size)
        return 0;
    bytes = malloc(head_len);
    if (!bytes)
        return 0;
    memcpy(bytes, data, head_len - 4);
    crc = crc32c(0, bytes, head_len - 4);
    memcpy(bytes + head_len - 4, &crc, 4);
    if (entry_parse(view_make(bytes, head_len), 0, &entry) == 0) {
        key = key_of(entry.key);
        object = entry_object(&entry, &key, 0);
        if (object) {
            check_texts(&entry, object);
            check_again(object, &entry);
        }
        object_unref(object);
    }
    free(bytes);
    return 0;
}
