/* Tags and groups out of response fields. Pure. */
#include "cache/tags.h"

#include "cache/marks.h"
#include "proto/sf.h"

static bool ends_tag(char c)
{
    return c == ',' || c == ' ' || c == '\t';
}

static void separate(struct text *out, size_t start)
{
    if (out->len > start)
        text_char(out, ' ');
}

static void put_list(struct text *out, size_t start, struct view value)
{
    while (value.len) {
        size_t len = 0;

        while (len < value.len && !ends_tag(value.ptr[len]))
            len++;
        if (len) {
            separate(out, start);
            text_put(out, view_first(value, len));
        }
        value = view_skip(value, len + 1);
    }
}

/* Up to GROUPS_MAX strings of all lines of a field; an error anywhere makes the whole field count for nothing. */
static size_t strings(const struct fields *fields, struct view name, struct sf_item items[GROUPS_MAX])
{
    size_t count = 0;

    for (const struct field *field = fields_find(fields, name); field; field = fields_next(fields, field)) {
        struct sf_cursor cursor = sf_cursor(field->value);
        struct sf_item item;
        int r;

        while ((r = sf_list_next(&cursor, &item)) > 0) {
            if (item.type != SF_STRING)
                return 0;
            if (count < GROUPS_MAX)
                items[count++] = item;
        }
        if (r < 0)
            return 0;
    }
    return count;
}

static void put_groups(struct text *out, size_t start, const struct fields *response)
{
    struct sf_item groups[GROUPS_MAX];
    size_t count = strings(response, VIEW("Cache-Groups"), groups);

    for (size_t i = 0; i < count; i++) {
        char memory[1024];
        struct text name = TEXT_ON(memory);

        sf_string_put(&name, &groups[i]);
        separate(out, start);
        marks_group_put(out, text_view(&name));
    }
}

void tags_put(struct text *out, const struct fields *response)
{
    static const enum field_id lists[] = { FIELD_CACHE_TAG, FIELD_SURROGATE_KEY };
    size_t start = out->len;

    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        for (const struct field *f = fields_get(response, lists[i]); f; f = fields_next(response, f))
            put_list(out, start, f->value);
    put_groups(out, start, response);
}

bool tags_next(struct view *rest, struct view *ret_tag)
{
    while (rest->len) {
        struct view tag = view_cut(rest, ' ');

        if (tag.len && tag.ptr[0] != MARK_GROUP_BYTE) {
            *ret_tag = tag;
            return true;
        }
    }
    return false;
}

void tags_put_confirmed(struct text *out, const struct fields *merged, const struct fields *not_modified,
                        struct view stored)
{
    size_t start = out->len;
    struct view tag;

    if (fields_has(not_modified, FIELD_CACHE_TAG) || fields_has(not_modified, FIELD_SURROGATE_KEY)) {
        tags_put(out, merged);
        return;
    }
    while (tags_next(&stored, &tag)) {
        separate(out, start);
        text_put(out, tag);
    }
    put_groups(out, start, merged);
}

size_t tags_invalidated(const struct fields *response, struct text *memory, struct view names[GROUPS_MAX])
{
    struct sf_item groups[GROUPS_MAX];
    size_t count = strings(response, VIEW("Cache-Group-Invalidation"), groups);

    for (size_t i = 0; i < count; i++) {
        size_t from = memory->len;

        sf_string_put(memory, &groups[i]);
        names[i] = view_make(memory->ptr + from, memory->len - from);
    }
    return memory->overflow ? 0 : count;
}
