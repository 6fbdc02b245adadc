/* The storing decision (RFC 9111 §3), as a run of questions; the first "no" is the reason. Pure. */
#include "cache/storable.h"

#include "cache/key.h"
#include "proto/range.h"

bool status_is_understood(uint16_t status)
{
    if (status >= 200 && status <= 208)
        return true;
    if (status >= 300 && status <= 308)
        return status != 306;
    if (status >= 400 && status <= 417)
        return true;
    if (status >= 500 && status <= 508)
        return true;
    return status == 226 || (status >= 421 && status <= 426) || status == 428 || status == 429 || status == 431 ||
           status == 451 || status == 511;
}

bool method_is_cacheable(enum http_method method)
{
    return method == METHOD_GET || method == METHOD_HEAD;
}

bool method_is_safe(enum http_method method)
{
    return method == METHOD_GET || method == METHOD_HEAD || method == METHOD_OPTIONS || method == METHOD_TRACE;
}

bool location_same_origin(struct view location, struct view scheme, struct view authority, struct view *ret_path)
{
    struct view rest = view_trim(location);
    struct view theirs;
    size_t end = 0;

    rest = view_first(rest, view_find(rest, '#'));
    if (view_starts_with(rest, VIEW("/")) && !view_starts_with(rest, VIEW("//"))) {
        *ret_path = rest;
        return true;
    }
    if (!view_starts_with(rest, VIEW("//"))) {
        size_t colon = view_find(rest, ':');

        if (!scheme.len || !view_eq_icase(view_first(rest, colon), scheme))
            return false;
        rest = view_skip(rest, colon + 1);
    }
    if (!view_starts_with(rest, VIEW("//")))
        return false;
    rest = view_skip(rest, 2);
    while (end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?')
        end++;
    theirs = view_first(rest, end);
    rest = view_skip(rest, end);
    if (!theirs.len || !view_eq_icase(key_authority(scheme, theirs), key_authority(scheme, authority)))
        return false;
    if (rest.len && rest.ptr[0] == '?')
        return false; /* "http://host?x": the path would have to be made up */
    *ret_path = rest.len ? rest : VIEW("/");
    return true;
}

/* Content-Location names the target itself (RFC 9110 §9.3.3). */
static bool content_location_is_target(const struct storable_input *input)
{
    const struct http_request *request = input->request;
    const struct field *field = fields_get(input->response, FIELD_CONTENT_LOCATION);
    struct view path, rest;

    if (!field || fields_next(input->response, field) ||
        !location_same_origin(field->value, input->scheme, request->authority, &path))
        return false;
    if (!view_starts_with(path, request->path))
        return false;
    rest = view_skip(path, request->path.len);
    if (!request->query.ptr)
        return rest.len == 0;
    return rest.len && rest.ptr[0] == '?' && view_eq(view_skip(rest, 1), request->query);
}

static enum why check_method(const struct storable_input *input)
{
    enum http_method method = input->request->method;

    if (method == METHOD_GET)
        return WHY_NONE;
    if (method == METHOD_POST && input->status >= 200 && input->status < 300 && input->status != 206 &&
        input->freshness->is_explicit && content_location_is_target(input))
        return WHY_NONE;
    return WHY_METHOD;
}

/* A 304, 412 or 416 answers a condition or a range of one request; it says nothing to the next. */
static enum why check_status(const struct storable_input *input)
{
    if (input->status < 200 || input->status == 304 || input->status == 412 || input->status == 416)
        return WHY_STATUS;
    if ((input->freshness->cc.flags & CC_MUST_UNDERSTAND) && !status_is_understood(input->status))
        return WHY_STATUS_UNKNOWN;
    return WHY_NONE;
}

static enum why check_directives(const struct storable_input *input)
{
    const struct cache_control *cc = &input->freshness->cc;
    struct cache_control wishes;

    /* check_status() has refused the statuses that must-understand would let no-store stand for */
    if ((cc->flags & CC_NO_STORE) && !(cc->flags & CC_MUST_UNDERSTAND))
        return WHY_NO_STORE;
    cache_control_parse_request(&input->request->fields, &wishes);
    if ((wishes.flags & CC_NO_STORE) && !input->policy->ignore_client_cache_control)
        return WHY_REQUEST_NO_STORE;
    if (cc->flags & CC_PRIVATE)
        return WHY_PRIVATE;
    if (fields_has(&input->request->fields, FIELD_AUTHORIZATION) && !(cc->flags & (CC_PUBLIC | CC_MUST_REVALIDATE)) &&
        cc->s_maxage < 0)
        return WHY_AUTHORIZATION;
    return fields_list_has(input->response, FIELD_VARY, VIEW("*")) ? WHY_VARY_STAR : WHY_NONE;
}

static enum why check_set_cookie(const struct storable_input *input)
{
    const struct freshness *fresh = input->freshness;

    if (!fields_has(input->response, FIELD_SET_COOKIE) || input->policy->set_cookie == SET_COOKIE_STRIP)
        return WHY_NONE;
    if (input->policy->set_cookie == SET_COOKIE_STORE)
        return fresh->is_explicit ? WHY_NONE : WHY_SET_COOKIE;
    return (fresh->cc.flags & CC_PUBLIC) || fresh->cc.s_maxage >= 0 || fresh->field != FRESHNESS_CC ? WHY_NONE
                                                                                                    : WHY_SET_COOKIE;
}

static enum why check_partial(const struct storable_input *input)
{
    const struct field *field = fields_get(input->response, FIELD_CONTENT_RANGE);
    struct content_range range;

    if (input->status != 206)
        return WHY_NONE;
    if (!field || fields_next(input->response, field) || !content_range_parse(field->value, &range) ||
        range.unsatisfied)
        return WHY_BAD_PARTIAL;
    return WHY_NONE;
}

static enum why check_freshness(const struct storable_input *input)
{
    const struct freshness *fresh = input->freshness;
    bool has_validator = fields_has(input->response, FIELD_ETAG) || fresh->times.last_modified_s >= 0;
    bool has_cookie = fields_has(&input->request->fields, FIELD_COOKIE);
    bool is_guess = fresh->source == FRESHNESS_HEURISTIC || fresh->source == FRESHNESS_NONE;

    if (is_guess && !status_is_heuristic(input->status) && !(fresh->cc.flags & CC_PUBLIC))
        return WHY_NO_FRESHNESS;
    if (fresh->cc.flags & CC_NO_CACHE)
        return has_validator || input->policy->keep_stale ? WHY_NONE : WHY_NO_VALIDATOR;
    if (is_guess && has_cookie)
        return WHY_COOKIE_HEURISTIC;
    if (object_ttl_ms(&fresh->times, input->now_ms) > 0)
        return WHY_NONE;
    /* Stale on arrival: worth keeping only when it can be revalidated or served stale. */
    if (has_validator || fresh->times.swr_ms > 0 || fresh->times.sie_ms > 0 || input->policy->keep_stale)
        return WHY_NONE;
    return fresh->source == FRESHNESS_NONE ? WHY_NO_FRESHNESS : WHY_EXPIRED;
}

enum why storable(const struct storable_input *input)
{
    static enum why (*const checks[])(const struct storable_input *) = {
        check_method, check_status, check_directives, check_set_cookie, check_partial, check_freshness,
    };

    if (input->policy->no_store)
        return WHY_BYPASS_ROUTE;
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        enum why why = checks[i](input);

        if (why != WHY_NONE)
            return why;
    }
    return WHY_NONE;
}
