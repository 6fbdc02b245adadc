/* URIs: parsing, resolving and normal forms. No allocation, no recursion; one pass over the input except where a path is
 * merged. See uri.h for what is stricter than RFC 3986 and why. */
#include "proto/uri.h"

#include "proto/scan.h"

#include <arpa/inet.h>
#include <errno.h>

static bool is_ipv6(struct view v)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;

    if (v.len >= sizeof(text) || v.len == 0 || memchr(v.ptr, '\0', v.len))
        return false;
    memcpy(text, v.ptr, v.len);
    text[v.len] = '\0';
    return inet_pton(AF_INET6, text, &address) == 1;
}

int uri_parse_authority(struct view authority, struct uri_authority *ret)
{
    struct uri_authority parsed = { 0 };
    struct view rest;
    uint64_t port;
    size_t len;

    if (authority.len == 0)
        return -EBADMSG;
    if (authority.ptr[0] == '[') {
        len = view_find(authority, ']');
        if (len == authority.len)
            return -EBADMSG;
        parsed.host = view_make(authority.ptr + 1, len - 1);
        parsed.ipv6 = true;
        if (!is_ipv6(parsed.host))
            return -EBADMSG;
        rest = view_skip(authority, len + 1);
    } else {
        len = (size_t)(scan_class_end(authority.ptr, authority.ptr + authority.len, SCAN_HOST) - authority.ptr);
        if (len == 0)
            return -EBADMSG;
        parsed.host = view_first(authority, len);
        rest = view_skip(authority, len);
    }
    if (rest.len) {
        if (rest.ptr[0] != ':' || rest.len > 6)
            return -EBADMSG;
        rest = view_skip(rest, 1);
        if (rest.len) { /* "host:" is allowed, RFC 3986 §3.2.3 */
            if (!view_parse_u64(rest, &port) || port == 0 || port > 65535)
                return -EBADMSG;
            parsed.port = (uint16_t)port;
        }
    }
    *ret = parsed;
    return 0;
}

/* "scheme:" at the start; its length without the colon, 0 when there is none (RFC 3986 §3.1). */
static size_t scheme_length(struct view v)
{
    for (size_t i = 0; i < v.len; i++) {
        char c = ascii_lower(v.ptr[i]);

        if (c == ':')
            return i;
        if (!(c >= 'a' && c <= 'z') && (i == 0 || !((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.')))
            return 0;
    }
    return 0;
}

static bool is_clean(struct view v)
{
    return v.len == 0 || scan_target(v.ptr, v.ptr + v.len) == v.ptr + v.len;
}

static void split_query(struct view v, struct view *ret_path, struct view *ret_query)
{
    size_t at = view_find(v, '?');

    *ret_path = view_first(v, at);
    *ret_query = at < v.len ? view_make(v.ptr + at + 1, v.len - at - 1) : VIEW_NONE;
}

/* What follows "//": authority, path and query into *uri, whose scheme is set. */
static int parse_hierarchy(struct view v, struct uri *uri)
{
    struct uri_authority authority;
    struct view path;
    size_t end = 0;

    while (end < v.len && v.ptr[end] != '/' && v.ptr[end] != '?')
        end++;
    if (uri_parse_authority(view_first(v, end), &authority) < 0)
        return -EBADMSG;
    uri->host = authority.host;
    uri->ipv6 = authority.ipv6;
    uri->port = authority.port ? authority.port : uri->https ? 443 : 80;
    path = view_skip(v, end);
    split_query(path, &uri->path, &uri->query);
    if (uri->path.len == 0)
        uri->path = VIEW("/");
    return 0;
}

static int parse_scheme(struct view scheme, struct uri *uri)
{
    uri->scheme = scheme;
    uri->https = view_eq_icase(scheme, VIEW("https"));
    return uri->https || view_eq_icase(scheme, VIEW("http")) ? 0 : -EPROTONOSUPPORT;
}

int uri_parse(struct view text, struct uri *ret)
{
    struct uri uri = { 0 };
    size_t scheme = scheme_length(text);
    int r = parse_scheme(view_first(text, scheme), &uri);

    if (r < 0)
        return r;
    text = view_first(text, view_find(text, '#'));
    if (!is_clean(text))
        return -EBADMSG;
    text = view_skip(text, scheme + 1);
    if (!view_starts_with(text, VIEW("//")))
        return -EBADMSG;
    r = parse_hierarchy(view_skip(text, 2), &uri);
    if (r == 0)
        *ret = uri;
    return r;
}

/* Removes dot segments in place (RFC 3986 §5.2.4) from a path that begins with '/'; returns the new length. */
static size_t remove_dots(char *path, size_t len)
{
    size_t out = 0, at = 0;

    while (at < len) {
        struct view segment = view_make(path + at + 1, 0);
        bool last;

        while (at + 1 + segment.len < len && path[at + 1 + segment.len] != '/')
            segment.len++;
        last = at + 1 + segment.len == len;
        if (view_eq(segment, VIEW("."))) {
            if (last)
                path[out++] = '/';
        } else if (view_eq(segment, VIEW(".."))) {
            while (out && path[--out] != '/')
                ;
            if (last)
                path[out++] = '/';
        } else {
            memmove(path + out, path + at, segment.len + 1);
            out += segment.len + 1;
        }
        at += segment.len + 1;
    }
    return out;
}

/* The reference has neither scheme nor authority: path, query or nothing. */
static int resolve_path(const struct uri *base, struct view reference, struct text *memory, struct uri *uri)
{
    size_t start = memory->len, keep = base->path.len;
    struct view path, query;

    split_query(reference, &path, &query);
    *uri = *base;
    uri->query = query;
    if (path.len == 0) {
        uri->query = query.ptr ? query : base->query;
        return 0;
    }
    if (path.ptr[0] != '/') {
        while (keep && base->path.ptr[keep - 1] != '/')
            keep--;
        text_put(memory, view_first(base->path, keep));
    }
    text_put(memory, path);
    if (memory->overflow)
        return -ENOBUFS;
    memory->len = start + remove_dots(memory->ptr + start, memory->len - start);
    uri->path = view_make(memory->ptr + start, memory->len - start);
    return 0;
}

int uri_resolve(const struct uri *base, struct view reference, struct text *memory, struct uri *ret)
{
    struct uri uri = { 0 };
    int r;

    if (scheme_length(reference) > 0)
        return uri_parse(reference, ret);
    reference = view_first(reference, view_find(reference, '#'));
    if (!is_clean(reference))
        return -EBADMSG;
    if (view_starts_with(reference, VIEW("//"))) {
        uri.scheme = base->scheme;
        uri.https = base->https;
        r = parse_hierarchy(view_skip(reference, 2), &uri);
    } else {
        r = resolve_path(base, reference, memory, &uri);
    }
    if (r == 0)
        *ret = uri;
    return r;
}

bool uri_same_origin(const struct uri *a, const struct uri *b)
{
    return a->https == b->https && a->port == b->port && a->ipv6 == b->ipv6 && view_eq_icase(a->host, b->host);
}

static void put_authority(struct view host, bool ipv6, uint16_t port, bool https, struct text *out)
{
    if (ipv6)
        text_char(out, '[');
    for (size_t i = 0; i < host.len; i++)
        text_char(out, ascii_lower(host.ptr[i]));
    if (ipv6)
        text_char(out, ']');
    if (port && port != (https ? 443 : 80)) {
        text_char(out, ':');
        text_u64(out, port);
    }
}

int uri_normalize_authority(struct view authority, bool https, struct text *out)
{
    struct uri_authority parsed;
    int r = uri_parse_authority(authority, &parsed);

    if (r == 0)
        put_authority(parsed.host, parsed.ipv6, parsed.port, https, out);
    return r;
}

void uri_put_authority(const struct uri *uri, struct text *out)
{
    put_authority(uri->host, uri->ipv6, uri->port, uri->https, out);
}

int uri_escaped(struct view v, size_t at)
{
    int high, low;

    if (v.len - at < 3)
        return -1;
    high = ascii_hex(v.ptr[at + 1]);
    low = ascii_hex(v.ptr[at + 2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

void uri_normalize_path(struct view path, struct text *out)
{
    size_t at = view_find(path, '%');

    for (size_t i = at; i < path.len; i++) {
        if (path.ptr[i] == '%' && uri_escaped(path, i) < 0)
            at = path.len; /* malformed somewhere: copy all of it */
    }
    text_put(out, view_first(path, at));
    while (at < path.len) {
        int value = path.ptr[at] == '%' ? uri_escaped(path, at) : -1;

        if (value < 0) {
            text_char(out, path.ptr[at++]);
            continue;
        }
        if (scan_is((char)value, SCAN_HOST)) {
            text_char(out, (char)value);
        } else {
            text_char(out, '%');
            text_char(out, "0123456789ABCDEF"[value >> 4]);
            text_char(out, "0123456789ABCDEF"[value & 15]);
        }
        at += 3;
    }
}

bool uri_query_next(struct view *rest, struct uri_param *ret)
{
    while (rest->ptr) {
        struct view raw = view_cut(rest, '&');
        struct view value = raw, name;

        if (raw.len == 0)
            continue;
        name = view_cut(&value, '=');
        *ret = (struct uri_param){ .raw = raw, .name = name, .value = value };
        return true;
    }
    return false;
}
