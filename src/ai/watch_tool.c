/* Tool calls in pieces: records { id, length, bytes } in watch->tool. A record is marked as done by an id that no call has. */
#include "ai/watch_tool.h"

struct record {
    uint32_t id, len;
};

#define DONE UINT32_MAX /* as an id: choices end far below */
#define CALLS_MAX 256   /* finding the records of a call costs a walk over all */

static struct record record_at(const struct watch *watch, size_t at)
{
    struct record record;

    memcpy(&record, watch->tool.ptr + at, sizeof(record));
    return record;
}

static void set_record(struct watch *watch, size_t at, struct record record)
{
    memcpy(watch->tool.ptr + at, &record, sizeof(record));
}

void watch_tool_add(struct watch *watch, uint32_t id, uint32_t text)
{
    struct record record = { .id = id };
    size_t before;

    if (!text || json_type(&watch->doc, text) == JSON_NULL)
        return;
    if (json_type(&watch->doc, text) != JSON_STRING) {
        watch->bad_tool = true;
        return;
    }
    if (watch->tool.len == 0 || record_at(watch, watch->record).id != id) {
        before = watch->tool.len;
        buf_put(&watch->tool, view_make((const char *)&record, sizeof(record)));
        if (watch->tool.failed) {
            watch->bad_tool = true;
            return;
        }
        watch->record = before;
    }
    before = watch->tool.len;
    json_decode(&watch->doc, text, &watch->tool);
    record = record_at(watch, watch->record);
    record.len += (uint32_t)(watch->tool.len - before);
    set_record(watch, watch->record, record);
    watch->bad_tool |= watch->tool.failed;
}

static bool is_blank(struct view text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!memchr(" \t\r\n", text.ptr[i], 4))
            return false;
    return true;
}

static void check_call(struct watch *watch, struct view text)
{
    size_t at;

    if (is_blank(text)) /* a call of a tool without arguments */
        return;
    if (json_parse(&watch->doc, text, (struct json_limits){ .depth = 128, .tokens = 1u << 18 }, &at) != JSON_OK ||
        json_type(&watch->doc, 0) != JSON_OBJECT)
        watch->bad_tool = true;
}

static struct view bytes_at(const struct watch *watch, size_t at)
{
    return view_make(watch->tool.ptr + at + sizeof(struct record), record_at(watch, at).len);
}

static size_t next_of(const struct watch *watch, size_t at)
{
    return at + sizeof(struct record) + record_at(watch, at).len;
}

/* The whole text of the call whose first record is at `first`; its later records are done with. */
static struct view gather(struct watch *watch, size_t first)
{
    uint32_t id = record_at(watch, first).id;
    bool copied = false;

    for (size_t at = next_of(watch, first); at < watch->tool.len; at = next_of(watch, at)) {
        struct record record = record_at(watch, at);

        if (record.id != id)
            continue;
        if (!copied) {
            watch->call.len = 0;
            buf_put(&watch->call, bytes_at(watch, first));
            copied = true;
        }
        buf_put(&watch->call, bytes_at(watch, at));
        record.id = DONE;
        set_record(watch, at, record);
    }
    watch->bad_tool |= watch->call.failed;
    return copied ? buf_view(&watch->call) : bytes_at(watch, first);
}

void watch_tool_check(struct watch *watch)
{
    unsigned calls = 0;

    for (size_t at = 0; at < watch->tool.len && !watch->bad_tool; at = next_of(watch, at)) {
        if (record_at(watch, at).id == DONE)
            continue;
        if (++calls > CALLS_MAX)
            watch->bad_tool = true;
        else
            check_call(watch, gather(watch, at));
    }
    watch->tool.len = 0;
}
