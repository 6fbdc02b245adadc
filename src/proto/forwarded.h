/* Who a request came from when proxies stand in front: Forwarded (RFC 7239) and X-Forwarded-For members read from the
 * right, node identifiers as addresses, and networks to compare them with. Pure.
 *
 * Each proxy appends on the right, so only the members written by proxies we trust can be believed:
 *
 *     struct forwarded_walk walk = forwarded_walk(&fields, FIELD_X_FORWARDED_FOR);
 *     struct view member;
 *     while (is_trusted(&peer) && forwarded_last(&walk, &member) && forwarded_node(member, &peer) == 0)
 *         ;
 */
#pragma once

#include "proto/field.h"

#include <sys/socket.h>

struct forwarded_walk {
    const struct fields *fields;
    const struct field *line;
    struct view rest; /* of this line, its last member being the next result */
};

/* Starts at the last member of the last line of `id` (Forwarded, X-Forwarded-For, Via ...). */
struct forwarded_walk forwarded_walk(const struct fields *fields, enum field_id id);
/* Takes the next member from the right, trimmed; empty ones are skipped. False at the end. Quoted strings are respected
 * as seen from the right: a quote somebody left open further left cannot swallow what trusted proxies appended. */
bool forwarded_last(struct forwarded_walk *walk, struct view *ret_member);

struct forwarded {
    struct view for_node, by_node, host, proto; /* without quotes; ptr == NULL when absent */
};
/* One member of Forwarded. -EBADMSG on bad syntax, a parameter given twice or an escape in a value (no node, host or
 * scheme needs one). Unknown parameters are skipped. */
int forwarded_parse(struct view member, struct forwarded *ret);

/* "192.0.2.1", "192.0.2.1:80", "[2001:db8::1]:80", "[2001:db8::1]", and as X-Forwarded-For has it "2001:db8::1". The port
 * is 0 when absent or obfuscated. -ENOENT for "unknown" and "_names" (RFC 7239 §6.3), -EBADMSG for anything else. */
int forwarded_node(struct view node, struct sockaddr_storage *ret);

/* A network; IPv4 in its mapped form. */
struct cidr {
    uint8_t address[16];
    uint8_t bits; /* 0..128; IPv4 has 96 more than written */
};
/* "10.0.0.0/8", "2001:db8::/32", "::1" (that address alone). Bits beyond the prefix are cleared. -EBADMSG. */
int cidr_parse(struct view text, struct cidr *ret);
/* IPv4 and its v4-mapped IPv6 form are the same address. IPv6 networks shorter than 96 bits ("::/0") hold no IPv4
 * address; false for other families. */
bool cidr_match(const struct cidr *cidr, const struct sockaddr *address);
