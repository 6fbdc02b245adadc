/* One list of reasons for everything the cache does or leaves: decide and storable return them; the log, the metrics,
 * Cache-Status and `doorstep why` print them. */
#pragma once

#include "base/view.h"

/* X(identifier, name, fwd token of RFC 9211 §2.2 or "") */
#define WHY_LIST(X) \
    X(NONE, "none", "") \
    /* answered from what is stored */ \
    X(FRESH, "fresh", "") \
    X(STALE_REVALIDATE, "stale-while-revalidate", "") \
    X(STALE_IF_ERROR, "stale-if-error", "") \
    X(STALE_DISCONNECTED, "stale-disconnected", "") \
    X(STALE_CLIENT, "stale-max-stale", "") \
    X(STALE_AVAILABLE, "stale-available", "") \
    X(REVALIDATED, "revalidated", "stale") \
    /* why the request goes forward */ \
    X(MISS_URI, "uri-miss", "uri-miss") \
    X(MISS_VARY, "vary-miss", "vary-miss") \
    X(EXPIRED, "expired", "stale") \
    X(NO_CACHE, "no-cache", "stale") \
    X(SOFT_PURGED, "soft-purged", "stale") \
    X(PARTIAL, "partial", "partial") \
    X(REQUEST_NO_CACHE, "request-no-cache", "request") \
    X(REQUEST_MAX_AGE, "request-max-age", "request") \
    X(REQUEST_MIN_FRESH, "request-min-fresh", "request") \
    X(METHOD, "method", "method") \
    X(BYPASS_ROUTE, "route", "bypass") \
    X(PASS_MARKER, "pass-marker", "bypass") \
    X(GUARANTEE_ORIGIN, "guarantee-origin", "request") \
    X(GUARANTEE_SESSION, "guarantee-session", "request") \
    X(STALE_BOUND, "stale-bound", "stale") \
    X(DOUBT, "in-doubt", "stale") \
    /* why a response is not stored */ \
    X(NO_STORE, "no-store", "miss") \
    X(REQUEST_NO_STORE, "request-no-store", "request") \
    X(PRIVATE, "private", "miss") \
    X(AUTHORIZATION, "authorization", "miss") \
    X(SET_COOKIE, "set-cookie", "miss") \
    X(COOKIE_HEURISTIC, "cookie", "miss") \
    X(NO_FRESHNESS, "no-freshness", "miss") \
    X(NO_VALIDATOR, "no-validator", "miss") \
    X(STATUS, "status", "miss") \
    X(STATUS_UNKNOWN, "must-understand", "miss") \
    X(BAD_PARTIAL, "bad-partial", "miss") \
    X(VARY_STAR, "vary-star", "vary-miss") \
    X(VARY_LIMIT, "vary-limit", "vary-miss") \
    X(TOO_LARGE, "too-large", "miss") \
    X(NOT_ADMITTED, "not-admitted", "miss") \
    X(TRUNCATED, "truncated", "miss") \
    X(UNSOUND, "unsound", "miss") \
    X(PURGED, "purged", "miss") \
    X(UPGRADE, "upgrade", "bypass") \
    X(NO_MEMORY, "no-memory", "miss") \
    /* why there is no answer */ \
    X(ONLY_IF_CACHED, "only-if-cached", "") \
    X(ORIGIN_ERROR, "origin-error", "") \
    X(ORIGIN_STATUS, "origin-status", "") \
    X(STALE_FORBIDDEN, "stale-forbidden", "stale") \
    X(STALE_TOO_OLD, "stale-too-old", "stale") \
    X(OVERLOAD, "overload", "")

enum why {
#define X(id, name, fwd) WHY_##id,
    WHY_LIST(X)
#undef X
        WHY_COUNT
};

/* Stable, lower-case, for logs and metric labels: "no-store". */
struct view why_name(enum why why);
/* "uri-miss", "stale", "request", ...; empty where nothing was forwarded. */
struct view why_fwd(enum why why);
