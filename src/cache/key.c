/* Cache keys from requests. Pure: writes into the caller's text, borrows the rest.
 *
 * Invariant: two requests get one key text only if every part is equal; a part carries its length, so bytes of one can never
 * be read as another's. What may be secret (cookies, header values) enters as a hash. */
#include "cache/key.h"

#include "base/key.h"

#include <errno.h>

static void put_part(struct text *out, struct view part)
{
    text_u64(out, part.len);
    text_char(out, ':');
    text_put(out, part);
}

static void put_lower(struct text *out, struct view v)
{
    for (size_t i = 0; i < v.len; i++)
        text_char(out, ascii_lower(v.ptr[i]));
}

/* '#' and 32 hexadecimal digits: a part of its own. */
static void put_hash_part(struct text *out, struct view secret)
{
    struct key hashed = key_of(secret);

    text_lit(out, "33:#");
    text_hex(out, hashed.hash[0], 16);
    text_hex(out, hashed.hash[1], 16);
}

struct view key_authority(struct view scheme, struct view authority)
{
    struct view port = view_eq_icase(scheme, VIEW("https")) ? VIEW(":443") : VIEW(":80");

    if (view_ends_with(authority, VIEW(":")))
        return view_first(authority, authority.len - 1);
    return view_ends_with(authority, port) ? view_first(authority, authority.len - port.len) : authority;
}

/* Exact, or by prefix where the pattern ends in '*'. Query names are case-sensitive. */
static bool pattern_matches(struct view pattern, struct view name)
{
    if (view_ends_with(pattern, VIEW("*")))
        return view_starts_with(name, view_first(pattern, pattern.len - 1));
    return view_eq(pattern, name);
}

static bool list_matches(const struct view *patterns, size_t count, struct view name)
{
    for (size_t i = 0; i < count; i++)
        if (pattern_matches(patterns[i], name))
            return true;
    return false;
}

static struct view param_name(struct view param)
{
    return view_first(param, view_find(param, '='));
}

static bool param_stays(const struct key_rules *rules, struct view param)
{
    struct view name = param_name(param);

    if (rules->keep_query_count && !list_matches(rules->keep_query, rules->keep_query_count, name))
        return false;
    return !list_matches(rules->ignore_query, rules->ignore_query_count, name);
}

static void sort_params(struct view params[], size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct view moving = params[i];
        size_t j = i;

        for (; j > 0 && view_compare(param_name(params[j - 1]), param_name(moving)) > 0; j--)
            params[j] = params[j - 1];
        params[j] = moving;
    }
}

/* The query as the rules leave it: `count` parameters to be joined by '&'. A query over KEY_PARAMS_MAX parameters, and one no
 * rule speaks of, is one piece. */
static size_t select_params(const struct key_rules *rules, struct view query, struct view params[])
{
    struct view rest = query;
    size_t count = 0;

    if (!query.ptr || rules->ignore_query_all)
        return 0;
    if (!rules->ignore_query_count && !rules->keep_query_count && !rules->sort_query) {
        params[0] = query;
        return 1;
    }
    while (rest.ptr) {
        struct view param = view_cut(&rest, '&');

        if (!param.len || !param_stays(rules, param))
            continue;
        if (count == KEY_PARAMS_MAX) {
            params[0] = query;
            return 1;
        }
        params[count++] = param;
    }
    if (rules->sort_query)
        sort_params(params, count);
    return count;
}

/* '?' and the parameters; nothing when none is left. */
static void put_query(struct text *out, const struct view params[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        text_char(out, i ? '&' : '?');
        text_put(out, params[i]);
    }
}

static void put_query_part(struct text *out, const struct key_rules *rules, struct view query)
{
    not_zeroed struct view params[KEY_PARAMS_MAX];
    size_t count, len = 0;

    if (!query.ptr) {
        text_lit(out, "0:");
        return;
    }
    count = select_params(rules, query, params);
    for (size_t i = 0; i < count; i++)
        len += 1 + params[i].len;
    text_u64(out, len);
    text_char(out, ':');
    put_query(out, params, count);
}

static void put_base(struct text *out, const struct key_rules *rules, struct view scope, struct view method,
                     struct view scheme, struct view authority, struct view path, struct view query)
{
    struct view host = rules->host.len ? rules->host : key_authority(scheme, authority);

    put_part(out, scope);
    put_part(out, method);
    text_u64(out, rules->with_scheme ? scheme.len : 0);
    text_char(out, ':');
    if (rules->with_scheme)
        put_lower(out, scheme);
    text_u64(out, host.len);
    text_char(out, ':');
    put_lower(out, host);
    put_part(out, path);
    put_query_part(out, rules, query);
}

/* Named cookies and headers: the name, then a hash per value; "-" for an absent one. */
static void put_extras(struct text *out, const struct key_rules *rules, const struct fields *fields)
{
    for (size_t i = 0; i < rules->cookie_count; i++) {
        struct view value = key_cookie_value(fields, rules->cookies[i]);

        put_part(out, VIEW("cookie"));
        put_part(out, rules->cookies[i]);
        if (value.ptr)
            put_hash_part(out, value);
        else
            put_part(out, VIEW("-"));
    }
    for (size_t i = 0; i < rules->header_count; i++) {
        const struct field *field = fields_find(fields, rules->headers[i]);

        put_part(out, VIEW("header"));
        text_u64(out, rules->headers[i].len);
        text_char(out, ':');
        put_lower(out, rules->headers[i]);
        if (!field)
            put_part(out, VIEW("-"));
        for (; field; field = fields_next(fields, field))
            put_hash_part(out, field->value);
    }
}

static int finish(struct text *out, size_t start)
{
    if (!out->overflow)
        return 0;
    out->len = start;
    return -ENOBUFS;
}

int key_build(const struct key_rules *rules, struct view scope, struct view scheme, const struct http_request *request,
              struct text *out)
{
    bool is_get = request->method == METHOD_GET || request->method == METHOD_HEAD;
    size_t start = out->len;

    put_base(out, rules, scope, is_get ? VIEW("GET") : request->method_name, scheme, request->authority, request->path,
             request->query);
    put_extras(out, rules, &request->fields);
    return finish(out, start);
}

int key_build_url(const struct key_rules *rules, struct view scope, struct view scheme, struct view authority,
                  struct view path, struct view query, struct text *out)
{
    size_t start = out->len;

    put_base(out, rules, scope, VIEW("GET"), scheme, authority, path, query);
    return finish(out, start);
}

int key_url(const struct key_rules *rules, struct view scheme, struct view authority, struct view path,
            struct view query, struct text *out)
{
    not_zeroed struct view params[KEY_PARAMS_MAX];
    size_t start = out->len, count = select_params(rules, query, params);

    put_lower(out, scheme.len ? scheme : VIEW("http"));
    text_lit(out, "://");
    put_lower(out, rules->host.len ? rules->host : key_authority(scheme, authority));
    text_put(out, path);
    put_query(out, params, count);
    return finish(out, start);
}

struct view key_cookie_value(const struct fields *fields, struct view name)
{
    for (const struct field *line = fields_get(fields, FIELD_COOKIE); line; line = fields_next(fields, line)) {
        struct view rest = line->value;

        while (rest.ptr) {
            struct view pair = view_trim(view_cut(&rest, ';'));
            size_t at = view_find(pair, '=');

            if (at < pair.len && view_eq(view_trim(view_first(pair, at)), name))
                return view_trim(view_make(pair.ptr + at + 1, pair.len - at - 1));
        }
    }
    return VIEW_NONE;
}
