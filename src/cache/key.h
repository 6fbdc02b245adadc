/* Cache keys: what of a request names a stored thing (architecture §6). A key text is a run of parts, each `decimal length ":"
 * bytes`, so that no part can imitate another. The first part is the tenant scope. */
#pragma once

#include "base/text.h"
#include "proto/http1.h"

#define KEY_PARAMS_MAX 128 /* query parameters looked at one by one; a longer query enters the key as it is */

/* All borrowed from the configuration. Zeroed: path and query as received, nothing else. */
struct key_rules {
    const struct view *ignore_query; /* names dropped; a trailing `*` matches any rest */
    size_t ignore_query_count;
    const struct view *keep_query; /* when not empty, only these stay; same patterns */
    size_t keep_query_count;
    const struct view *cookies; /* cookie names whose values enter the key (hashed) */
    size_t cookie_count;
    const struct view *headers; /* field names whose values enter the key (hashed) */
    size_t header_count;
    struct view host; /* replaces the request's host: aliases share one entry; empty: as received */
    bool ignore_query_all;
    bool sort_query;  /* by name; equal names keep their order */
    bool with_scheme; /* http and https are different things */
};

/* Appends the key text: scope, method class, scheme (or empty), host lower-case without default port, path, query, extras. A HEAD
 * has the key of its GET. Cookie and header values are hashed, never in clear. 0, or -ENOBUFS when `out` is too small. */
int key_build(const struct key_rules *rules, struct view scope, struct view scheme, const struct http_request *request,
              struct text *out);
/* As above for any path and query (invalidation of Location, purge by URL): method class GET, no extras. */
int key_build_url(const struct key_rules *rules, struct view scope, struct view scheme, struct view authority,
                  struct view path, struct view query, struct text *out);

/* Appends "scheme://host/path?query" as the rules see it (for object.url): 0 or -ENOBUFS. */
int key_url(const struct key_rules *rules, struct view scheme, struct view authority, struct view path,
            struct view query, struct text *out);

/* An authority without the scheme's default port (":80" for http or no scheme, ":443" for https) and without an empty one. */
struct view key_authority(struct view scheme, struct view authority);

/* The value of a named cookie over all Cookie lines; VIEW_NONE (ptr NULL) when absent. Names are case-sensitive. */
struct view key_cookie_value(const struct fields *fields, struct view name);
