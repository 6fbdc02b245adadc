/* A small JSON reader: one pass, an explicit stack of at most DEPTH containers, texts in one block. A container remembers
 * where its own path ends; the path of a member is that plus its name or index. */
#include "main/flat.h"

#include "base/heap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define DEPTH 8u
#define PATH_MAX_LEN 200u
#define ITEMS_MAX 8192u
#define TEXT_MAX ((size_t)1 << 20)

struct level {
    bool array;
    unsigned index;
    size_t path_len;
};

struct reader {
    struct view rest;
    struct text texts, path; /* texts: what items point to, each ended by NUL */
    char path_memory[PATH_MAX_LEN];
    struct level levels[DEPTH];
    unsigned depth;
    struct flat *flat;
};

static void skip_space(struct reader *r)
{
    while (r->rest.len && strchr(" \t\r\n", r->rest.ptr[0]))
        r->rest = view_skip(r->rest, 1);
}

static bool take(struct reader *r, char c)
{
    skip_space(r);
    if (r->rest.len == 0 || r->rest.ptr[0] != c)
        return false;
    r->rest = view_skip(r->rest, 1);
    return true;
}

/* A string after its opening quote, appended to `out` as printable ASCII. */
static int read_string(struct reader *r, struct text *out)
{
    while (r->rest.len) {
        char c = r->rest.ptr[0];

        r->rest = view_skip(r->rest, 1);
        if (c == '"')
            return out->overflow ? -ENOMEM : 0;
        if (c == '\\') {
            if (r->rest.len == 0)
                return -EBADMSG;
            c = r->rest.ptr[0];
            r->rest = view_skip(r->rest, c == 'u' ? 5 : 1);
            c = strchr("\"\\/", c) ? c : '?';
        }
        text_char(out, c >= ' ' && c <= '~' ? c : '?');
    }
    return -EBADMSG;
}

static const char *end_text(struct reader *r, size_t start)
{
    text_char(&r->texts, '\0');
    return r->texts.ptr + start;
}

static int add_item(struct reader *r, bool string)
{
    struct flat_item *item = &r->flat->items[r->flat->count];
    size_t start = r->texts.len, len = 0;
    int result = 0;

    if (r->flat->count == ITEMS_MAX)
        return -ENOMEM;
    text_put(&r->texts, text_view(&r->path));
    item->path = end_text(r, start);
    start = r->texts.len;
    if (string) {
        result = read_string(r, &r->texts);
    } else {
        while (len < r->rest.len && !strchr(",]} \t\r\n\"{[:", r->rest.ptr[len]))
            len++;
        result = len ? 0 : -EBADMSG;
        text_put(&r->texts, view_first(r->rest, len));
        r->rest = view_skip(r->rest, len);
    }
    item->value = end_text(r, start);
    if (r->texts.overflow)
        return -ENOMEM;
    r->flat->count += result == 0;
    return result;
}

/* Sets the path to that of the next member of the innermost container. */
static int name_member(struct reader *r)
{
    struct level *level = &r->levels[r->depth - 1];
    int result = 0;

    r->path.len = level->path_len;
    if (r->path.len)
        text_char(&r->path, '.');
    if (level->array) {
        text_u64(&r->path, level->index++);
    } else {
        if (!take(r, '"'))
            return -EBADMSG;
        result = read_string(r, &r->path);
        if (result == 0 && !take(r, ':'))
            result = -EBADMSG;
    }
    return r->path.overflow ? -ENOMEM : result;
}

static int open_container(struct reader *r, bool array)
{
    if (r->depth == DEPTH)
        return -EBADMSG;
    r->levels[r->depth++] = (struct level){ .array = array, .path_len = r->path.len };
    return 0;
}

/* One value; a container is only opened. */
static int read_value(struct reader *r)
{
    if (take(r, '{'))
        return open_container(r, false);
    if (take(r, '['))
        return open_container(r, true);
    if (take(r, '"'))
        return add_item(r, true);
    return add_item(r, false);
}

static int read_all(struct reader *r)
{
    int result = read_value(r);
    bool fresh = true; /* the innermost container has no member yet */

    if (result == 0 && r->depth == 0)
        return 0;
    while (result == 0 && r->depth) {
        const struct level *level = &r->levels[r->depth - 1];
        unsigned before = r->depth;

        if (take(r, level->array ? ']' : '}')) {
            r->depth--;
            fresh = false;
            continue;
        }
        if (!fresh && !take(r, ','))
            return -EBADMSG;
        result = name_member(r);
        if (result == 0)
            result = read_value(r);
        fresh = r->depth > before;
    }
    return result;
}

int flat_parse(struct view json, struct flat *ret)
{
    struct reader r = { .rest = json, .flat = ret };
    int result;

    *ret = (struct flat){ 0 };
    r.path = TEXT_ON(r.path_memory);
    r.texts = text_make(heap_alloc(TEXT_MAX), TEXT_MAX);
    ret->memory = r.texts.ptr;
    ret->items = heap_array(ITEMS_MAX, sizeof(*ret->items));
    if (!ret->memory || !ret->items)
        return -ENOMEM;
    result = read_all(&r);
    skip_space(&r);
    return result == 0 && r.rest.len ? -EBADMSG : result;
}

void flat_free(struct flat *flat)
{
    heap_free(flat->items);
    heap_free(flat->memory);
    *flat = (struct flat){ 0 };
}

const char *flat_string(const struct flat *flat, const char *path)
{
    for (unsigned i = 0; i < flat->count; i++)
        if (strcmp(flat->items[i].path, path) == 0)
            return flat->items[i].value;
    return NULL;
}

double flat_number(const struct flat *flat, const char *path)
{
    const char *value = flat_string(flat, path);

    return value ? strtod(value, NULL) : 0;
}
