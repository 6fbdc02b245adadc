/* HTTP-date: what parses is written and read back as the same second. */
#include "proto/date.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int64_t seconds = 0, again = 0;
    char out[DATE_LEN];

    if (!date_parse(view_make((const char *)data, size), 1700000000, &seconds))
        return 0;
    /* only the leap second at the very end of 9999 has no form of its own */
    if (seconds > 253402300799)
        return 0;
    date_format(seconds, out);
    CHECK(date_parse(view_make(out, DATE_LEN), 0, &again) && again == seconds);
    return 0;
}
