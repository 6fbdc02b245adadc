/* Any bytes as a configuration of the site: never a crash, every string of the result readable and NUL-terminated, every
 * mistake with a text, and a verdict that agrees with the report. */
#include "base/check.h"
#include "conf/conf.h"
#include "main/site.h"

#include <errno.h>

static volatile unsigned sink;

static void read_view(struct view v)
{
    for (size_t i = 0; i < v.len; i++)
        sink += (unsigned char)v.ptr[i];
    CHECK(v.len == 0 || v.ptr[v.len] == '\0');
}

static void read_site(const struct site *site)
{
    read_view(site->node.name);
    for (size_t i = 0; i < site->routes.count; i++) {
        const struct site_route *route = &site->routes.items[i];

        read_view(route->match);
        read_view(route->upstream);
        for (size_t k = 0; k < route->key.query.ignore.count; k++)
            read_view(route->key.query.ignore.items[k]);
    }
    for (size_t i = 0; i < site->upstreams.count; i++) {
        read_view(site->upstreams.items[i].name);
        for (size_t k = 0; k < site->upstreams.items[i].servers.count; k++)
            read_view(site->upstreams.items[i].servers.items[k].host);
    }
    for (size_t i = 0; i < site->trusted_proxies.count; i++)
        CHECK(site->trusted_proxies.items[i].bits <= 128);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct site site = { 0 };
    struct conf_report report;
    int r;

    conf_report_init(&report);
    arena_init(&site._arena, NULL, 0, CONF_MEMORY_MAX);
    r = conf_load_text(view_make((const char *)data, size), site_options, &site, &site._arena, &report);
    CHECK(r == 0 ? report.count == 0 : r == -ENOMEM || report.count > 0);
    for (const struct conf_mistake *m = report.first; m; m = m->next) {
        read_view(view_str(m->text));
        CHECK(!m->next || m->line <= m->next->line);
    }
    if (r != -ENOMEM)
        read_site(&site);
    conf_report_free(&report);
    site_free(&site);
    return 0;
}
