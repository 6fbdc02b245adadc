/* Reading store URLs; nothing is resolved or connected here. */
#include "main/store_url.h"

#include <errno.h>

#define PORT_PRESET 6379

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static int decode(struct view v, struct arena *memory, struct view *ret)
{
    char *out = arena_alloc(memory, v.len + 1);
    size_t len = 0;

    if (!out)
        return -ENOMEM;
    for (size_t i = 0; i < v.len; i++) {
        bool escape = v.ptr[i] == '%' && i + 2 < v.len && hex(v.ptr[i + 1]) >= 0 && hex(v.ptr[i + 2]) >= 0;

        out[len++] = escape ? (char)(hex(v.ptr[i + 1]) * 16 + hex(v.ptr[i + 2])) : v.ptr[i];
        i += escape ? 2 : 0;
    }
    out[len] = '\0';
    *ret = view_make(out, len);
    return 0;
}

static size_t find_last(struct view v, char c)
{
    for (size_t i = v.len; i > 0; i--)
        if (v.ptr[i - 1] == c)
            return i - 1;
    return v.len;
}

/* "host", "host:port", "[v6]", "[v6]:port". */
static int read_authority(struct view v, struct arena *memory, struct site_store *store, const char **ret_why)
{
    struct view host = v, port = VIEW_NONE;
    size_t colon;
    uint64_t number = PORT_PRESET;

    if (view_starts_with(v, VIEW("["))) {
        size_t end = view_find(v, ']');

        host = view_skip(view_first(v, end), 1);
        port = view_skip(v, end + 1);
        if (port.len && port.ptr[0] != ':')
            host.len = 0;
        port = view_skip(port, 1);
    } else if ((colon = find_last(v, ':')) < v.len) {
        host = view_first(v, colon);
        port = view_skip(v, colon + 1);
    }
    if (host.len == 0) {
        *ret_why = "no host in it";
        return -EINVAL;
    }
    if (port.len && (!view_parse_u64(port, &number) || number == 0 || number > 65535)) {
        *ret_why = "the port is no number from 1 to 65535";
        return -EINVAL;
    }
    store->port = (uint16_t)number;
    return decode(host, memory, &store->host);
}

int store_url_parse(struct view url, struct arena *memory, struct site_store *ret, const char **ret_why)
{
    struct site_store store = { .database = OPTION_UNSET };
    struct view rest, path, user = VIEW_NONE, password = VIEW_NONE;
    size_t at;
    int r;

    *ret_why = "write redis://host:port, rediss://host:port or unix:/path";
    if (view_starts_with(url, VIEW("unix:/"))) {
        r = decode(view_skip(url, 5), memory, &store.path);
        if (r == 0)
            *ret = store;
        return r;
    }
    store.tls = view_starts_with(url, VIEW("rediss://"));
    if (!store.tls && !view_starts_with(url, VIEW("redis://")))
        return -EINVAL;
    rest = view_skip(url, store.tls ? 9 : 8);
    path = view_skip(rest, view_find(rest, '/') + 1);
    rest = view_first(rest, view_find(rest, '/'));
    if (path.len && !view_parse_u64(path, &store.database)) {
        *ret_why = "what follows the host is no database number, as in redis://host/2";
        return -EINVAL;
    }
    at = find_last(rest, '@');
    if (at < rest.len) {
        password = view_first(rest, at);
        user = view_cut(&password, ':');
        rest = view_skip(rest, at + 1);
    }
    r = read_authority(rest, memory, &store, ret_why);
    if (r == 0)
        r = decode(user, memory, &store.user);
    if (r == 0)
        r = decode(password, memory, &store.password);
    if (r == 0)
        *ret = store;
    return r;
}
