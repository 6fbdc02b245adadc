/* Who the client is when trusted proxies stand in front of the node: the nearest address in Forwarded (else X-Forwarded-For)
 * that no trusted proxy has, and the scheme that the nearest trusted proxy saw. Of strangers nothing is believed. */
#include "http/conn.h"

#include "proto/forwarded.h"

#include <netinet/in.h>

static void to_mapped(const struct sockaddr_storage *from, uint8_t address[16])
{
    const struct sockaddr_in *v4 = (const void *)from;
    const struct sockaddr_in6 *v6 = (const void *)from;

    if (from->ss_family == AF_INET6) {
        memcpy(address, &v6->sin6_addr, 16);
        return;
    }
    memcpy(address, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
    memcpy(address + 12, &v4->sin_addr, 4);
}

static bool scheme_is_https(const struct req *r)
{
    struct view member, proto = fields_value(&r->request.fields, FIELD_X_FORWARDED_PROTO);
    struct forwarded_walk walk = forwarded_walk(&r->request.fields, FIELD_FORWARDED);
    struct forwarded parsed;

    if (forwarded_last(&walk, &member) && forwarded_parse(member, &parsed) == 0 && parsed.proto.ptr)
        proto = parsed.proto;
    return view_eq_icase(proto, VIEW("https"));
}

void client_identify(struct req *r)
{
    bool standard = fields_has(&r->request.fields, FIELD_FORWARDED);
    struct forwarded_walk walk;
    struct view member;

    memcpy(r->client_address, r->conn->address, 16);
    if (r->config->trusted.count == 0 || !option_cidrs_match(&r->config->trusted, r->client_address))
        return;
    if (scheme_is_https(r))
        r->scheme = VIEW("https");
    walk = forwarded_walk(&r->request.fields, standard ? FIELD_FORWARDED : FIELD_X_FORWARDED_FOR);
    while (option_cidrs_match(&r->config->trusted, r->client_address) && forwarded_last(&walk, &member)) {
        struct sockaddr_storage node;
        struct forwarded parsed;

        if (standard && forwarded_parse(member, &parsed) < 0)
            return;
        if (forwarded_node(standard ? parsed.for_node : member, &node) < 0)
            return;
        to_mapped(&node, r->client_address);
    }
}

void client_print(const struct req *r, struct text *out)
{
    struct address peer = { .is.v6 = { .sin6_family = AF_INET6 }, .len = sizeof(peer.is.v6) };

    if (r->conn->local && r->client_address[10] == 0 && r->client_address[0] == 0)
        return;
    memcpy(&peer.is.v6.sin6_addr, r->client_address, 16);
    address_print_ip(out, &peer);
}
