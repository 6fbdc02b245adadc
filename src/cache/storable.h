/* May this response be stored in a shared cache (RFC 9111 §3), and if not, why not. */
#pragma once

#include "cache/freshness.h"
#include "cache/why.h"
#include "proto/http1.h"

enum set_cookie_mode {
    SET_COOKIE_BYPASS, /* not stored, unless the response says public, s-maxage or a targeted field */
    SET_COOKIE_STRIP,  /* stored without its Set-Cookie fields */
    SET_COOKIE_STORE,  /* stored with them where freshness is explicit: the plain RFC rule */
};

struct storable_policy {
    enum set_cookie_mode set_cookie;
    bool no_store;                    /* the route stores nothing */
    bool ignore_client_cache_control; /* request no-store is not heard */
    bool keep_stale;                  /* store what is stale on arrival too (guarantee: available) */
};

struct storable_input {
    const struct http_request *request;
    struct view scheme; /* of the request as the client made it, for Content-Location: "http" or "https" */
    uint16_t status;
    const struct fields *response;
    const struct freshness *freshness; /* of that response */
    const struct storable_policy *policy;
    int64_t now_ms;
};

/* WHY_NONE: store it (without Set-Cookie when the mode is STRIP). Otherwise the first reason against it, in the order of
 * docs/freshness.md. A 304 is not asked about; a 206 is storable when its Content-Range parses. */
enum why storable(const struct storable_input *input);

/* Final statuses in the IANA registry, for must-understand (RFC 9111 §5.2.2.3). */
bool status_is_understood(uint16_t status);
/* GET and HEAD use the stored response of GET. */
bool method_is_cacheable(enum http_method method);
/* GET, HEAD, OPTIONS, TRACE (RFC 9110 §9.2.1); what is not safe invalidates. */
bool method_is_safe(enum http_method method);

/* True when a Content-Location or Location value (absolute URI, or path-absolute reference) names host `authority`: RFC 9111
 * §4.4 wants the same origin. *ret_path gets path and query. Relative references other than path-absolute: false. */
bool location_same_origin(struct view location, struct view scheme, struct view authority, struct view *ret_path);
