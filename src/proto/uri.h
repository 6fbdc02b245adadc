/* URIs as the node needs them (RFC 3986): absolute http and https URLs, references against them, and the normal forms
 * that go into cache keys. Pure; results borrow from the input unless they are written to a text.
 *
 * The normal forms are for keys and comparisons only: what reaches the origin is the client's target, unchanged. */
#pragma once

#include "base/text.h"

struct uri_authority {
    struct view host; /* as given, without brackets; never empty */
    uint16_t port;    /* 0: none given ("host" and "host:") */
    bool ipv6;        /* it stood in brackets */
};

struct uri {
    struct view scheme; /* "http" or "https", in whatever case it was given */
    struct view host;   /* as given, without brackets; never empty */
    struct view path;   /* begins with '/' ("/" when the URL has none) */
    struct view query;  /* without '?'; ptr == NULL when there is no '?' */
    uint16_t port;      /* given, else 80 or 443 */
    bool https;
    bool ipv6; /* host is an IPv6 literal, to be written in brackets */
};

/* host [":" port] of Host, CONNECT or a URL. Stricter than RFC 3986 on purpose: host names of unreserved characters only
 * (no percent escapes or sub-delims: no DNS name has them), valid IPv6 literals without zone, port 1..65535, no userinfo
 * (RFC 9110 §4.2.4). 0 or -EBADMSG. */
int uri_parse_authority(struct view authority, struct uri_authority *ret);

/* An absolute http or https URL; a fragment is dropped. -EPROTONOSUPPORT for another scheme (or none), -EBADMSG for bad
 * syntax, userinfo, controls, spaces or bytes beyond ASCII. */
int uri_parse(struct view text, struct uri *ret);

/* Resolves a reference as RFC 3986 §5.2 does. A merged path is written to `memory`; *ret borrows from base, reference and
 * memory. Errors as uri_parse(), and -ENOBUFS when memory is too small (base path + reference is always enough). */
int uri_resolve(const struct uri *base, struct view reference, struct text *memory, struct uri *ret);

/* Same scheme, host (case-insensitively) and port (RFC 6454 §4). */
bool uri_same_origin(const struct uri *a, const struct uri *b);

/* Host in lower case, the scheme's default port dropped, IPv6 in brackets. 0 or -EBADMSG (nothing written). */
int uri_normalize_authority(struct view authority, bool https, struct text *out);
/* The same for a parsed URL. */
void uri_put_authority(const struct uri *uri, struct text *out);

/* The byte that the escape at v.ptr[at] (a '%') stands for (RFC 3986 §2.1), -1 when it is malformed. */
int uri_escaped(struct view v, size_t at);

/* A path or query in its normal form for keys (RFC 3986 §6.2.2): escapes in upper case, escaped unreserved characters
 * decoded. One with a malformed escape is copied as it is: repairing it could make it another resource's key. Dot
 * segments stay: what "/a/../b" means is the origin's decision, and it receives the path untouched. Never longer than
 * the input. */
void uri_normalize_path(struct view path, struct text *out);

struct uri_param {
    struct view raw;   /* "name=value" */
    struct view name;  /* still escaped */
    struct view value; /* still escaped; ptr == NULL without '=' */
};
/* Takes the next parameter off the front of *rest; empty ones ("a&&b") are skipped. False at the end. */
bool uri_query_next(struct view *rest, struct uri_param *ret);
