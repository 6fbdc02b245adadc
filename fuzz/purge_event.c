/* Any bytes as a purge in words: what is understood has a clean target inside the input, and reads the same when written. */
#include "base/check.h"
#include "cache/purge_event.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view line = view_make((const char *)data, MIN(size, (size_t)10000));
    struct purge_event event, again;
    char memory[PURGE_TARGET_MAX + 32];
    struct text text = TEXT_ON(memory);

    if (size == 0 || purge_event_parse(line, &event) < 0)
        return 0;
    CHECK(event.kind > 0 && event.kind < MARK_KINDS && (event.kind == MARK_ALL) == (event.target.len == 0));
    CHECK(event.target.len <= PURGE_TARGET_MAX);
    for (size_t i = 0; i < event.target.len; i++)
        CHECK((unsigned char)event.target.ptr[i] >= 0x20 && event.target.ptr + i < line.ptr + line.len);
    purge_event_put(&text, &event);
    CHECK(!text.overflow && purge_event_parse(text_view(&text), &again) == 0);
    CHECK(again.kind == event.kind && again.soft == event.soft && view_eq(again.target, event.target));
    return 0;
}
