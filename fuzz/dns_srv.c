/* SRV records out of a DNS message: what is taken is bounded and every host ends. */
#include "base/check.h"
#include "net/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct dns_srv srv;

    if (dns_srv_parse(view_make((const char *)data, size), &srv) < 0)
        return 0;
    CHECK(srv.count <= DNS_SRV_MAX && srv.ttl_ms >= 1000 && srv.ttl_ms <= 300000);
    for (unsigned i = 0; i < srv.count; i++)
        CHECK(srv.targets[i].port && memchr(srv.targets[i].host, 0, sizeof(srv.targets[i].host)));
    return 0;
}
