/* Parsing and printing of socket addresses: pure functions over values. */
#include "net/address.h"

#include <arpa/inet.h>
#include <errno.h>

#define IP_TEXT_MAX 64u

int address_parse_ip(struct view text, uint16_t port, struct address *ret)
{
    char copy[IP_TEXT_MAX];
    struct address a = { .len = 0 };

    if (text.len >= 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']')
        text = view_make(text.ptr + 1, text.len - 2);
    if (text.len == 0 || text.len >= sizeof(copy) || view_contains(text, '\0'))
        return -EINVAL;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    if (inet_pton(AF_INET, copy, &a.is.v4.sin_addr) == 1) {
        a.is.v4.sin_family = AF_INET;
        a.len = sizeof(a.is.v4);
    } else if (inet_pton(AF_INET6, copy, &a.is.v6.sin6_addr) == 1) {
        a.is.v6.sin6_family = AF_INET6;
        a.len = sizeof(a.is.v6);
    } else {
        return -EINVAL;
    }
    address_set_port(&a, port);
    *ret = a;
    return 0;
}

static int parse_port(struct view text, uint16_t *ret)
{
    uint64_t port;

    if (text.len > 5 || !view_parse_u64(text, &port) || port == 0 || port > 65535)
        return -EINVAL;
    *ret = (uint16_t)port;
    return 0;
}

int address_split(struct view text, uint16_t default_port, struct view *ret_host, uint16_t *ret_port)
{
    size_t end, colon;
    struct view host, rest;
    uint16_t port = default_port;

    if (text.len && text.ptr[0] == '[') {
        end = view_find(text, ']');
        if (end == text.len)
            return -EINVAL;
        host = view_make(text.ptr + 1, end - 1);
        rest = view_skip(text, end + 1);
    } else {
        colon = view_find(text, ':');
        host = view_first(text, colon);
        rest = view_skip(text, colon);
    }
    if (rest.len && (rest.ptr[0] != ':' || parse_port(view_skip(rest, 1), &port) < 0))
        return -EINVAL;
    if (port == 0)
        return -EINVAL;
    *ret_host = host;
    *ret_port = port;
    return 0;
}

static int parse_local(struct view path, struct address *ret)
{
    struct address a = { .is.local.sun_family = AF_UNIX };

    if (path.len == 0 || path.len >= sizeof(a.is.local.sun_path) || view_contains(path, '\0'))
        return -EINVAL;
    memcpy(a.is.local.sun_path, path.ptr, path.len);
    a.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
    *ret = a;
    return 0;
}

int address_parse(struct view text, uint16_t default_port, struct address *ret)
{
    struct view host;
    uint16_t port;
    bool bare_v6 = text.len && text.ptr[0] != '[' && view_contains(view_skip(text, view_find(text, ':') + 1), ':');

    if (view_starts_with(text, VIEW("unix:")))
        return parse_local(view_skip(text, 5), ret);
    if (bare_v6)
        return default_port ? address_parse_ip(text, default_port, ret) : -EINVAL;
    if (parse_port(text, &port) == 0)
        return address_parse_ip(VIEW("::"), port, ret);
    if (address_split(text, default_port, &host, &port) < 0)
        return -EINVAL;
    if (text.len == 0 || (host.len == 0 && text.ptr[0] == '['))
        return -EINVAL;
    if (host.len == 0 || view_eq(host, VIEW("*")))
        return address_parse_ip(VIEW("::"), port, ret);
    return address_parse_ip(host, port, ret);
}

uint16_t address_port(const struct address *address)
{
    switch (address->is.any.sa_family) {
    case AF_INET: return ntohs(address->is.v4.sin_port);
    case AF_INET6: return ntohs(address->is.v6.sin6_port);
    default: return 0;
    }
}

void address_set_port(struct address *address, uint16_t port)
{
    if (address->is.any.sa_family == AF_INET)
        address->is.v4.sin_port = htons(port);
    else if (address->is.any.sa_family == AF_INET6)
        address->is.v6.sin6_port = htons(port);
}

bool address_eq(const struct address *a, const struct address *b)
{
    if (a->is.any.sa_family != b->is.any.sa_family || address_port(a) != address_port(b))
        return false;
    switch (a->is.any.sa_family) {
    case AF_INET: return a->is.v4.sin_addr.s_addr == b->is.v4.sin_addr.s_addr;
    case AF_INET6:
        return memcmp(&a->is.v6.sin6_addr, &b->is.v6.sin6_addr, sizeof(a->is.v6.sin6_addr)) == 0 &&
               a->is.v6.sin6_scope_id == b->is.v6.sin6_scope_id;
    case AF_UNIX: return a->len == b->len && memcmp(&a->is, &b->is, a->len) == 0;
    default: return false;
    }
}

bool address_is_loopback(const struct address *address)
{
    const struct in6_addr *v6 = &address->is.v6.sin6_addr;

    switch (address->is.any.sa_family) {
    case AF_INET: return ntohl(address->is.v4.sin_addr.s_addr) >> 24 == 127;
    case AF_INET6: return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
    default: return address->is.any.sa_family == AF_UNIX;
    }
}

/* Runs for every forwarded request: no printf behind it. */
static void put_v4(struct text *text, const uint8_t bytes[4])
{
    for (int i = 0; i < 4; i++) {
        if (i)
            text_char(text, '.');
        text_u64(text, bytes[i]);
    }
}

void address_print_ip(struct text *text, const struct address *address)
{
    char ip[INET6_ADDRSTRLEN];
    const struct in6_addr *v6 = &address->is.v6.sin6_addr;

    switch (address->is.any.sa_family) {
    case AF_INET: put_v4(text, (const uint8_t *)&address->is.v4.sin_addr); break;
    case AF_INET6:
        if (IN6_IS_ADDR_V4MAPPED(v6))
            put_v4(text, &v6->s6_addr[12]);
        else
            text_put(text, view_str(inet_ntop(AF_INET6, v6, ip, sizeof(ip))));
        break;
    case AF_UNIX: text_lit(text, "unix"); break;
    default: text_char(text, '-');
    }
}

void address_print(struct text *text, const struct address *address)
{
    bool brackets = address->is.any.sa_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&address->is.v6.sin6_addr);
    size_t path_at = offsetof(struct sockaddr_un, sun_path);

    if (brackets)
        text_char(text, '[');
    address_print_ip(text, address);
    if (brackets)
        text_char(text, ']');
    text_char(text, ':');
    if (address->is.any.sa_family != AF_UNIX)
        text_u64(text, address_port(address));
    else if (address->len > path_at)
        text_put(text,
                 view_make(address->is.local.sun_path, strnlen(address->is.local.sun_path, address->len - path_at)));
}
