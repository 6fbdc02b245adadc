/* Answers and parameters. Bodies are heap memory that the HTTP server frees. */
#include "admin/answer.h"

#include "base/heap.h"
#include "proto/uri.h"

#define FIRST_SIZE ((size_t)16384)
#define SIZE_LIMIT ((size_t)64 << 20)

void answer_write(struct admin_answer *ret, int status, const char *content_type,
                  void (*write)(struct text *out, void *arg), void *arg)
{
    for (size_t cap = FIRST_SIZE; cap <= SIZE_LIMIT; cap *= 4) {
        struct text out = text_make(heap_alloc(cap), cap);

        if (!out.ptr)
            break;
        write(&out, arg);
        if (!out.overflow) {
            ret->status = status;
            ret->content_type = content_type;
            ret->body = text_view(&out);
            return;
        }
        heap_free(out.ptr);
    }
    ret->status = 500;
    ret->content_type = "text/plain; charset=utf-8";
    ret->body = VIEW_NONE;
}

struct error {
    int status;
    const char *text;
};

static void write_error(struct text *out, void *arg)
{
    const struct error *error = arg;

    text_char(out, '{');
    member_u64(out, "status", (uint64_t)error->status);
    member_text(out, "error", view_str(error->text));
    text_lit(out, "}\n");
}

void answer_error(struct admin_answer *ret, int status, const char *error)
{
    struct error what = { status, error };

    answer_write(ret, status, "application/json", write_error, &what);
}

/* %00 stays as it is: nothing that is asked for here has a NUL in it. */
void answer_decode(struct view value, struct text *out)
{
    for (size_t i = 0; i < value.len; i++) {
        int escaped = value.ptr[i] == '%' ? uri_escaped(value, i) : -1;

        if (escaped > 0) {
            text_char(out, (char)escaped);
            i += 2;
        } else {
            text_char(out, value.ptr[i]);
        }
    }
}

static bool find_param(const struct http_request *request, struct view name, struct uri_param *ret)
{
    struct view rest = request->query;

    while (rest.ptr && uri_query_next(&rest, ret))
        if (view_eq(ret->name, name))
            return true;
    return false;
}

bool answer_param(const struct http_request *request, struct view name, struct text *memory)
{
    struct uri_param param;

    if (!find_param(request, name, &param))
        return false;
    answer_decode(param.value, memory);
    return true;
}

unsigned answer_param_count(const struct http_request *request, struct view name)
{
    struct view rest = request->query;
    struct uri_param param;
    unsigned count = 0;

    while (rest.ptr && uri_query_next(&rest, &param))
        count += view_eq(param.name, name);
    return count;
}

bool answer_flag(const struct http_request *request, struct view name)
{
    struct uri_param param;

    return find_param(request, name, &param) && !view_eq(param.value, VIEW("0")) &&
           !view_eq(param.value, VIEW("false"));
}

void member_comma(struct text *out)
{
    if (out->len && !strchr("{[\n", out->ptr[out->len - 1]))
        text_char(out, ',');
}

void member_name(struct text *out, const char *name)
{
    member_comma(out);
    text_json(out, view_str(name));
    text_char(out, ':');
}

void member_u64(struct text *out, const char *name, uint64_t value)
{
    member_name(out, name);
    text_u64(out, value);
}

void member_i64(struct text *out, const char *name, int64_t value)
{
    member_name(out, name);
    text_i64(out, value);
}

void member_text(struct text *out, const char *name, struct view value)
{
    member_name(out, name);
    text_json(out, value);
}

void member_bool(struct text *out, const char *name, bool value)
{
    member_name(out, name);
    text_put(out, value ? VIEW("true") : VIEW("false"));
}

void member_ms(struct text *out, const char *name, int64_t ms)
{
    uint64_t size = ms < 0 ? (uint64_t)0 - (uint64_t)ms : (uint64_t)ms;

    member_name(out, name);
    if (ms < 0)
        text_char(out, '-');
    text_u64(out, size / 1000);
    text_printf(out, ".%03u", (unsigned)(size % 1000));
}
