/* Forwarded and X-Forwarded-For members, node identifiers and networks. No allocation; every function is linear in its
 * input, and walking all members of a line is linear in the line. */
#include "proto/forwarded.h"

#include "proto/scan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

static const struct field *last_line(const struct fields *fields, enum field_id id, const struct field *before)
{
    while (before > fields->list)
        if ((--before)->id == id)
            return before;
    return NULL;
}

struct forwarded_walk forwarded_walk(const struct fields *fields, enum field_id id)
{
    struct forwarded_walk walk = { .fields = fields };

    if (fields_has(fields, id))
        walk.line = last_line(fields, id, fields->list + fields->count);
    if (walk.line)
        walk.rest = walk.line->value;
    return walk;
}

/* A quote preceded by an odd number of backslashes is part of a string, not its end. */
static bool is_escaped(struct view v, size_t at)
{
    size_t slashes = 0;

    while (slashes < at && v.ptr[at - 1 - slashes] == '\\')
        slashes++;
    return slashes % 2 == 1;
}

/* Where the last member begins: behind the last comma outside quotes, or 0. */
static size_t last_member(struct view v)
{
    bool quoted = false;

    for (size_t at = v.len; at > 0; at--) {
        char c = v.ptr[at - 1];

        if (c == ',' && !quoted)
            return at;
        if (c == '"' && !(quoted && is_escaped(v, at - 1)))
            quoted = !quoted;
    }
    return 0;
}

bool forwarded_last(struct forwarded_walk *walk, struct view *ret_member)
{
    while (walk->line) {
        size_t at = last_member(walk->rest);
        struct view member = view_trim(view_skip(walk->rest, at));

        if (at > 0) {
            walk->rest.len = at - 1;
        } else {
            walk->line = last_line(walk->fields, (enum field_id)walk->line->id, walk->line);
            walk->rest = walk->line ? walk->line->value : VIEW_NONE;
        }
        if (member.len) {
            *ret_member = member;
            return true;
        }
    }
    return false;
}

static size_t token_length(struct view v)
{
    return v.len ? (size_t)(scan_token(v.ptr, v.ptr + v.len) - v.ptr) : 0;
}

/* token or quoted-string at the start of *rest, which moves behind it. */
static int take_value(struct view *rest, struct view *ret)
{
    size_t len;

    if (rest->len && rest->ptr[0] == '"') {
        struct view inside = view_skip(*rest, 1);

        len = view_find(inside, '"');
        if (len == inside.len || view_contains(view_first(inside, len), '\\'))
            return -EBADMSG;
        *ret = view_first(inside, len);
        *rest = view_skip(inside, len + 1);
        return 0;
    }
    len = token_length(*rest);
    if (len == 0)
        return -EBADMSG;
    *ret = view_first(*rest, len);
    *rest = view_skip(*rest, len);
    return 0;
}

int forwarded_parse(struct view member, struct forwarded *ret)
{
    struct forwarded parsed = { 0 };
    struct view rest = view_trim(member), name, value;

    while (rest.len) {
        struct view *slot;

        name = view_first(rest, token_length(rest));
        rest = view_skip(rest, name.len);
        if (name.len == 0 || rest.len == 0 || rest.ptr[0] != '=')
            return -EBADMSG;
        rest = view_skip(rest, 1);
        if (take_value(&rest, &value) < 0)
            return -EBADMSG;
        slot = view_eq_icase(name, VIEW("for"))     ? &parsed.for_node
               : view_eq_icase(name, VIEW("by"))    ? &parsed.by_node
               : view_eq_icase(name, VIEW("host"))  ? &parsed.host
               : view_eq_icase(name, VIEW("proto")) ? &parsed.proto
                                                    : NULL;
        if (slot && slot->ptr)
            return -EBADMSG;
        if (slot)
            *slot = value;
        rest = view_trim(rest);
        if (rest.len && rest.ptr[0] != ';')
            return -EBADMSG;
        rest = view_trim(view_skip(rest, 1)); /* RFC 7239 has no white space here, but proxies do */
    }
    *ret = parsed;
    return 0;
}

/* inet_pton() for a view; family AF_INET or AF_INET6. */
static bool parse_address(int family, struct view v, void *ret)
{
    char text[INET6_ADDRSTRLEN];

    if (v.len == 0 || v.len >= sizeof(text) || memchr(v.ptr, '\0', v.len))
        return false;
    memcpy(text, v.ptr, v.len);
    text[v.len] = '\0';
    return inet_pton(family, text, ret) == 1;
}

static bool is_obfuscated(struct view v)
{
    return v.len > 1 && v.ptr[0] == '_' && scan_class_end(v.ptr, v.ptr + v.len, SCAN_HOST) == v.ptr + v.len;
}

/* "", ":80" or ":_name". */
static int parse_port(struct view v, in_port_t *ret)
{
    uint64_t port = 0;

    if (v.len) {
        if (v.ptr[0] != ':')
            return -EBADMSG;
        v = view_skip(v, 1);
        if (!is_obfuscated(v) && (v.len > 5 || !view_parse_u64(v, &port) || port > 65535))
            return -EBADMSG;
    }
    *ret = htons((uint16_t)port);
    return 0;
}

static bool is_hidden(struct view node)
{
    struct view name = view_first(node, view_find(node, ':'));

    return view_eq_icase(name, VIEW("unknown")) || is_obfuscated(name);
}

int forwarded_node(struct view node, struct sockaddr_storage *ret)
{
    struct sockaddr_in v4 = { .sin_family = AF_INET };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
    struct view address;
    size_t at;

    node = view_trim(node);
    if (is_hidden(node))
        return -ENOENT;
    if (view_starts_with(node, VIEW("["))) {
        at = view_find(node, ']');
        if (!parse_address(AF_INET6, view_skip(view_first(node, at), 1), &v6.sin6_addr) ||
            parse_port(view_skip(node, at + 1), &v6.sin6_port) < 0 || at == node.len)
            return -EBADMSG;
    } else if (!parse_address(AF_INET6, node, &v6.sin6_addr)) {
        at = view_find(node, ':');
        address = view_first(node, at);
        if (!parse_address(AF_INET, address, &v4.sin_addr) || parse_port(view_skip(node, at), &v4.sin_port) < 0)
            return -EBADMSG;
        memset(ret, 0, sizeof(*ret));
        memcpy(ret, &v4, sizeof(v4));
        return 0;
    }
    memset(ret, 0, sizeof(*ret));
    memcpy(ret, &v6, sizeof(v6));
    return 0;
}

static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

int cidr_parse(struct view text, struct cidr *ret)
{
    size_t slash = view_find(text, '/');
    struct view address = view_first(text, slash);
    struct cidr cidr = { 0 };
    uint64_t bits, most = 128;

    if (parse_address(AF_INET, address, cidr.address + 12)) {
        memcpy(cidr.address, mapped, sizeof(mapped));
        most = 32;
    } else if (!parse_address(AF_INET6, address, cidr.address)) {
        return -EBADMSG;
    }
    bits = most;
    if (slash < text.len && (!view_parse_u64(view_skip(text, slash + 1), &bits) || bits > most))
        return -EBADMSG;
    cidr.bits = (uint8_t)(bits + 128 - most);
    for (size_t bit = cidr.bits; bit < 128; bit++)
        cidr.address[bit / 8] &= (uint8_t) ~(0x80u >> bit % 8);
    *ret = cidr;
    return 0;
}

bool cidr_match(const struct cidr *cidr, const struct sockaddr *address)
{
    uint8_t bytes[16];
    size_t whole = cidr->bits / 8, left = cidr->bits % 8;

    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;

        memcpy(&v4, address, sizeof(v4));
        memcpy(bytes, mapped, sizeof(mapped));
        memcpy(bytes + 12, &v4.sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;

        memcpy(&v6, address, sizeof(v6));
        memcpy(bytes, &v6.sin6_addr, 16);
    } else {
        return false;
    }
    if (cidr->bits < 96 && memcmp(bytes, mapped, sizeof(mapped)) == 0)
        return false;
    if (memcmp(bytes, cidr->address, whole) != 0)
        return false;
    return left == 0 || ((bytes[whole] ^ cidr->address[whole]) & (0xff00u >> left) & 0xff) == 0;
}
