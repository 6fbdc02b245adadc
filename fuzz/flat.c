/* Any bytes as a node's JSON: refused or read, and every path and value printable. */
#include "base/check.h"
#include "main/flat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct flat flat;

    if (flat_parse(view_make((const char *)data, size), &flat) == 0)
        for (unsigned i = 0; i < flat.count; i++) {
            CHECK(flat_string(&flat, flat.items[i].path) != NULL);
            for (const char *c = flat.items[i].path; *c; c++)
                CHECK(*c >= ' ' && *c <= '~');
        }
    flat_free(&flat);
    return 0;
}
