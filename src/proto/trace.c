/* W3C Trace Context parsing. An invalid header is as good as none: callers start a new trace then. */
#include "proto/trace.h"

#include <errno.h>

enum {
    VERSION_00_LEN = 55,
    STATE_MEMBERS_MAX = 32,
    STATE_LEN_MAX = 512,
};

static bool parse_hex(struct view digits, uint64_t *ret)
{
    uint64_t value = 0;

    for (size_t i = 0; i < digits.len; i++) {
        char c = digits.ptr[i];

        if (c >= '0' && c <= '9')
            value = value << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f') /* upper case is invalid */
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *ret = value;
    return true;
}

int trace_parse(struct view value, struct trace_context *ret)
{
    struct trace_context trace;
    uint64_t version, flags;

    value = view_trim(value);
    if (value.len < VERSION_00_LEN || value.ptr[2] != '-' || value.ptr[35] != '-' || value.ptr[52] != '-')
        return -EBADMSG;
    if (!parse_hex(view_make(value.ptr, 2), &version) || !parse_hex(view_make(value.ptr + 3, 16), &trace.trace_id[0]) ||
        !parse_hex(view_make(value.ptr + 19, 16), &trace.trace_id[1]) ||
        !parse_hex(view_make(value.ptr + 36, 16), &trace.parent_id) || !parse_hex(view_make(value.ptr + 53, 2), &flags))
        return -EBADMSG;
    if (version == 0xff || (version == 0 && value.len != VERSION_00_LEN))
        return -EBADMSG;
    if (value.len > VERSION_00_LEN && value.ptr[VERSION_00_LEN] != '-')
        return -EBADMSG;
    if ((trace.trace_id[0] | trace.trace_id[1]) == 0 || trace.parent_id == 0)
        return -EBADMSG;
    trace.flags = (uint8_t)flags;
    *ret = trace;
    return 0;
}

void trace_put(const struct trace_context *trace, struct text *out)
{
    char memory[VERSION_00_LEN];
    struct text line = TEXT_ON(memory);

    text_lit(&line, "00-");
    text_hex(&line, trace->trace_id[0], 16);
    text_hex(&line, trace->trace_id[1], 16);
    text_char(&line, '-');
    text_hex(&line, trace->parent_id, 16);
    text_char(&line, '-');
    text_hex(&line, trace->flags & TRACE_SAMPLED, 2);
    text_put(out, text_view(&line)); /* whole or not at all */
}

static bool state_key_valid(struct view key)
{
    if (key.len == 0 || key.len > 256)
        return false;
    for (size_t i = 0; i < key.len; i++) {
        char c = key.ptr[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

        if (!word && (i == 0 || !(c == '_' || c == '-' || c == '*' || c == '/' || c == '@')))
            return false;
    }
    return true;
}

static bool state_value_valid(struct view value)
{
    if (value.len == 0 || value.len > 256)
        return false;
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] < 0x20 || value.ptr[i] > 0x7e || value.ptr[i] == '=')
            return false;
    return true;
}

bool trace_state_valid(struct view value)
{
    size_t members = 0;

    if (value.len > STATE_LEN_MAX)
        return false;
    while (value.ptr) {
        struct view member = view_trim(view_cut(&value, ','));
        struct view rest = member, key;

        if (member.len == 0)
            continue; /* empty members are allowed */
        key = view_cut(&rest, '=');
        if (++members > STATE_MEMBERS_MAX || !state_key_valid(key) || !state_value_valid(rest))
            return false;
    }
    return members > 0;
}
