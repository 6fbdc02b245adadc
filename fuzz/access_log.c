/* Any bytes as the parts of a request: a log line is one line, within its limit, printable, and JSON where it says so. */
#include "base/check.h"
#include "http/access_log.h"
#include "main/flat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char memory[ACCESS_LINE_MAX];
    struct view rest = view_make((const char *)data, size), part[6];
    unsigned options_bits = size ? data[0] : 0;
    struct access_log_options options = {
        .format = options_bits & 1 ? ACCESS_COMBINED : ACCESS_JSON,
        .query_values = options_bits & 2,
        .cookie_names = options_bits & 4,
        .addresses = (enum access_addresses)((options_bits >> 3) % 3),
    };
    struct text line = TEXT_ON(memory);
    struct access_record record;
    struct flat flat;

    for (size_t i = 0; i < ARRAY_LEN(part); i++)
        part[i] = view_cut(&rest, '|');
    record = (struct access_record){ .path = part[0],
                                     .query = part[1],
                                     .client = part[2],
                                     .user_agent = part[3],
                                     .referer = part[4],
                                     .cookie = part[5],
                                     .host = part[3],
                                     .status = 200 };
    CHECK(access_log_format(&line, &options, &record));
    CHECK(line.len > 0 && line.len <= ACCESS_LINE_MAX && view_find(text_view(&line), '\n') == line.len - 1);
    for (size_t i = 0; i + 1 < line.len; i++)
        CHECK((unsigned char)line.ptr[i] >= 0x20 && line.ptr[i] != 0x7f);
    if (options.format == ACCESS_JSON) {
        CHECK(flat_parse(text_view(&line), &flat) == 0);
        CHECK(flat_number(&flat, "status") == 200);
        flat_free(&flat);
    }
    return 0;
}
