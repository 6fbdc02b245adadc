/* Socket addresses as values. */
#pragma once

#include "base/text.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un local;
    } is;
    socklen_t len;
};

/* "192.0.2.1" or "::1" or "[::1]", no port, no name. 0 or -EINVAL. */
int address_parse_ip(struct view text, uint16_t port, struct address *ret);
/* "127.0.0.1:8080", "[::1]:8080", ":8080" and "*:8080" (every IPv4 and IPv6 address), "8080" (same), "unix:/path". A bare
 * IP takes default_port; 0 means a port is required. 0 or -EINVAL. */
int address_parse(struct view text, uint16_t default_port, struct address *ret);
/* Splits "host", "host:port", "[v6]:port"; the host comes without brackets, a missing port is default_port. 0, -EINVAL. */
int address_split(struct view text, uint16_t default_port, struct view *ret_host, uint16_t *ret_port);

uint16_t address_port(const struct address *address); /* 0 for unix */
void address_set_port(struct address *address, uint16_t port);
bool address_eq(const struct address *a, const struct address *b);
bool address_is_loopback(const struct address *address); /* also IPv4 in IPv6, also unix */
/* "192.0.2.1:80", "[2001:db8::1]:80", "unix:/path". */
void address_print(struct text *text, const struct address *address);
/* Without the port: "192.0.2.1", "2001:db8::1" (no brackets), "unix". IPv4-mapped IPv6 prints as IPv4. */
void address_print_ip(struct text *text, const struct address *address);
