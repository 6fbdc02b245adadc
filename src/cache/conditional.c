/* Conditions of a client, the 304 we answer with, and freshening by an origin's 304. Pure; heads are texts of lines, each with
 * its CRLF. */
#include "cache/conditional.h"

#include "proto/date.h"
#include "proto/etag.h"

/* A single, valid date line. */
static bool condition_date(const struct fields *request, enum field_id id, int64_t now_s, int64_t *ret)
{
    const struct field *field = fields_get(request, id);

    return field && !fields_next(request, field) && date_parse(field->value, now_s, ret);
}

/* If-Match, or without it If-Unmodified-Since: false when the precondition fails. */
static bool precondition_holds(const struct fields *request, struct view etag, const struct object_times *times)
{
    enum etag_list match = etag_list_match(request, FIELD_IF_MATCH, etag, false);
    int64_t since;

    if (match != ETAG_LIST_NONE)
        return match == ETAG_LIST_MATCH;
    return times->last_modified_s < 0 ||
           !condition_date(request, FIELD_IF_UNMODIFIED_SINCE, times->response_ms / 1000, &since) ||
           times->last_modified_s <= since;
}

enum condition conditional_evaluate(const struct fields *request, enum http_method method, uint16_t status,
                                    struct view etag, const struct object_times *times)
{
    bool reads = method == METHOD_GET || method == METHOD_HEAD;
    enum etag_list match;
    int64_t since;

    if (status < 200 || status > 299)
        return COND_NONE;
    if (!precondition_holds(request, etag, times))
        return COND_FAILED;
    match = etag_list_match(request, FIELD_IF_NONE_MATCH, etag, true);
    if (match == ETAG_LIST_MATCH)
        return reads ? COND_NOT_MODIFIED : COND_FAILED;
    if (match == ETAG_LIST_OTHER || !reads)
        return COND_NONE;
    if (!condition_date(request, FIELD_IF_MODIFIED_SINCE, times->response_ms / 1000, &since))
        return COND_NONE;
    /* Without Last-Modified, Date stands in (RFC 9111 §4.3.2). */
    return (times->last_modified_s >= 0 ? times->last_modified_s : times->date_s) <= since ? COND_NOT_MODIFIED
                                                                                           : COND_NONE;
}

static struct view cut_line(struct view *rest)
{
    struct view line = view_cut(rest, '\n');

    if (line.len && line.ptr[line.len - 1] == '\r')
        line.len--;
    return line;
}

bool head_next(struct view *rest, struct view *ret_name, struct view *ret_value)
{
    while (rest->len) {
        struct view line = cut_line(rest);
        size_t at = view_find(line, ':');

        /* The status line has a colon only in its reason, behind a space; a field name has none. */
        if (at == line.len || at == 0 || view_find(line, ' ') < at)
            continue;
        *ret_name = view_first(line, at);
        *ret_value = view_trim(view_skip(line, at + 1));
        return true;
    }
    return false;
}

struct view head_value(struct view head, enum field_id id)
{
    struct view wanted = field_name(id), name, value;

    while (head_next(&head, &name, &value))
        if (view_eq_icase(name, wanted))
            return value;
    return VIEW_NONE;
}

static void put_line(struct text *out, struct view name, struct view value)
{
    text_put(out, name);
    text_lit(out, ": ");
    text_put(out, value);
    text_lit(out, "\r\n");
}

void conditional_304_head(struct view head, struct text *out)
{
    bool has_etag = head_value(head, FIELD_ETAG).len > 0;
    struct view rest = head, name, value;

    text_lit(out, "HTTP/1.1 304 Not Modified\r\n");
    while (head_next(&rest, &name, &value)) {
        switch (field_lookup(name)) {
        case FIELD_LAST_MODIFIED:
            if (has_etag)
                continue;
            break;
        case FIELD_ETAG:
        case FIELD_DATE:
        case FIELD_CACHE_CONTROL:
        case FIELD_CDN_CACHE_CONTROL:
        case FIELD_DOORSTEP_CACHE_CONTROL:
        case FIELD_VARY:
        case FIELD_EXPIRES:
        case FIELD_CONTENT_LOCATION: break;
        default: continue;
        }
        put_line(out, name, value);
    }
}

/* A field of a 304 that may change the stored head. What describes the kept body stays as it is (RFC 9111 §3.2), ETag too: a
 * strong one must not be given to a body that was stored with a weak one. Set-Cookie is one client's, and Age and hop-by-hop
 * fields are never stored. */
static bool updates_head(const struct fields *not_modified, const struct field *field)
{
    switch (field->id) {
    case FIELD_CONTENT_LENGTH:
    case FIELD_CONTENT_ENCODING:
    case FIELD_CONTENT_TYPE:
    case FIELD_CONTENT_RANGE:
    case FIELD_ETAG:
    case FIELD_SET_COOKIE:
    case FIELD_AGE: return false;
    default: return !field_is_hop_by_hop(not_modified, field);
    }
}

static bool is_replaced(const struct fields *not_modified, struct view name)
{
    const struct field *field = fields_find(not_modified, name);

    return field && updates_head(not_modified, field);
}

void head_merge_304(struct view head, const struct fields *not_modified, struct text *out)
{
    struct view rest = head, name, value;

    text_put(out, cut_line(&rest));
    text_lit(out, "\r\n");
    while (head_next(&rest, &name, &value))
        if (!is_replaced(not_modified, name))
            put_line(out, name, value);
    for (uint16_t i = 0; i < not_modified->count; i++)
        if (updates_head(not_modified, &not_modified->list[i]))
            put_line(out, not_modified->list[i].name, not_modified->list[i].value);
}

bool validator_selects(const struct fields *not_modified, struct view stored_etag, int64_t stored_last_modified_s,
                       int64_t now_s)
{
    const struct field *field = fields_get(not_modified, FIELD_ETAG);
    struct etag theirs, ours;
    int64_t modified_s;

    /* Weakly when either side is weak: a server that compresses on the way out (nginx) stores W/"x" with us and answers 304
     * with "x". */
    if (field && etag_parse(field->value, &theirs) && etag_parse(stored_etag, &ours))
        return theirs.weak || ours.weak ? etag_weak_eq(theirs, ours) : etag_strong_eq(theirs, ours);
    if (stored_last_modified_s < 0 || !condition_date(not_modified, FIELD_LAST_MODIFIED, now_s, &modified_s))
        return true;
    return modified_s == stored_last_modified_s;
}

bool conditional_request_put(struct text *out, struct view etag, int64_t last_modified_s)
{
    char date[DATE_LEN];
    struct etag parsed;
    bool any = false;

    if (etag_parse(etag, &parsed)) {
        put_line(out, VIEW("If-None-Match"), etag);
        any = true;
    }
    if (last_modified_s >= 0) {
        date_format(last_modified_s, date);
        put_line(out, VIEW("If-Modified-Since"), view_make(date, DATE_LEN));
        any = true;
    }
    return any;
}
