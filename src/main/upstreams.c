/* Shows GET /upstreams as a table, or turns --open, --close, --auto into a POST first. */
#include "main/upstreams.h"

#include "base/heap.h"
#include "main/client.h"
#include "main/flat.h"

#include <stdio.h>
#include <stdlib.h>

static const char help[] =
    "usage: doorstep upstreams [options] [--open | --close | --auto NAME[/SERVER]]\n"
    "\n"
    "Shows the servers of a running node's upstreams and their circuit breakers, after switching them if asked to.\n"
    "\n"
    "  --open NAME         ask no server of this upstream any more; NAME/HOST:PORT: only not that one\n"
    "  --close NAME        ask them whatever happens\n"
    "  --auto NAME         let the breakers decide again\n";

struct wish {
    const char *state, *target;
};

/* 0, 1 after --help, -1 when wrong (said). */
static int read_options(struct client *client, struct wish *wish, int argc, char **argv)
{
    static const char *const states[] = { "open", "closed", "auto" };
    const char *targets[ARRAY_LEN(states)] = { NULL };
    const struct client_word own[] = { { "--open", &targets[0], NULL },
                                       { "--close", &targets[1], NULL },
                                       { "--auto", &targets[2], NULL } };
    int r = client_read(client, argc, argv, help, own, ARRAY_LEN(own), NULL, 0);

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(states); i++) {
        if (targets[i] && wish->target) {
            fprintf(stderr, "doorstep upstreams: one switch at a time\n");
            return -1;
        }
        if (targets[i])
            *wish = (struct wish){ .state = states[i], .target = targets[i] };
    }
    return r;
}

static const char *member(const struct flat *flat, int upstream, int server, const char *name)
{
    char path[96];
    const char *text;

    snprintf(path, sizeof(path), "upstreams.%d.breakers.%d.%s", upstream, server, name);
    text = flat_string(flat, path);
    return text ? text : "";
}

static void print_server(const struct flat *flat, int upstream, int server)
{
    bool by_hand = strcmp(member(flat, upstream, server, "forced"), "auto") != 0;
    bool healthy = strcmp(member(flat, upstream, server, "healthy"), "true") == 0;
    double wait = strtod(member(flat, upstream, server, "open_for_s"), NULL);

    printf("  %-32s %s%s", member(flat, upstream, server, "server"), member(flat, upstream, server, "state"),
           by_hand ? " (by hand)" : "");
    if (wait > 0)
        printf(", tried again in %.0f s", wait);
    printf("%s; in flight %s, failures in a row %s, opened %s times\n", healthy ? "" : ", checks fail",
           member(flat, upstream, server, "in_flight"), member(flat, upstream, server, "consecutive_failures"),
           member(flat, upstream, server, "opens"));
}

static void print_table(const struct flat *flat)
{
    for (int i = 0;; i++) {
        char path[64];
        const char *name, *down, *whole;

        snprintf(path, sizeof(path), "upstreams.%d.name", i);
        name = flat_string(flat, path);
        if (!name)
            break;
        snprintf(path, sizeof(path), "upstreams.%d.down", i);
        down = flat_string(flat, path);
        snprintf(path, sizeof(path), "upstreams.%d.breaker.state", i);
        whole = flat_string(flat, path);
        printf("%s%s%s%s\n", name, down && strcmp(down, "true") == 0 ? "  DOWN" : "", whole ? "  as a whole: " : "",
               whole ? whole : "");
        for (int k = 0; *member(flat, i, k, "server"); k++)
            print_server(flat, i, k);
    }
}

/* The request target for the wish; NULL when memory is out. */
static char *make_target(const struct wish *wish, struct text *ret)
{
    struct view name = view_str(wish->target), server = VIEW_NONE;
    size_t cap = name.len * 3 + 128, slash = view_find(name, '/');
    struct text target = text_make(heap_alloc(cap), cap);

    if (!target.ptr)
        return NULL;
    server = view_skip(name, slash + 1);
    text_lit(&target, "/upstreams/");
    client_encode(&target, view_first(name, slash));
    text_printf(&target, "/breaker?state=%s", wish->state);
    if (slash < name.len) {
        text_lit(&target, "&server=");
        client_encode(&target, server);
    }
    *ret = target;
    return target.ptr;
}

static int ask(const struct client *client, const struct wish *wish)
{
    struct text target = { .ptr = NULL };
    struct client_reply reply;
    struct flat flat;
    int r;

    if (wish->target && !make_target(wish, &target))
        return 1;
    r = client_ask_ok(client, wish->target ? "POST" : "GET", wish->target ? text_view(&target) : VIEW("/upstreams"),
                      &reply);
    heap_free(target.ptr);
    if (r < 0)
        return 1;
    if (!view_starts_with(reply.body, VIEW("{\"upstreams\":[")) || flat_parse(reply.body, &flat) < 0) {
        client_reply_free(&reply);
        client_stranger(client);
        return 1;
    }
    if (client->json)
        fwrite(reply.body.ptr, 1, reply.body.len, stdout);
    else
        print_table(&flat);
    flat_free(&flat);
    client_reply_free(&reply);
    return 0;
}

int command_upstreams(int argc, char **argv)
{
    struct wish wish = { 0 };
    struct client client;
    int r;

    client_init(&client, "upstreams");
    r = read_options(&client, &wish, argc, argv);
    if (r != 0)
        return r < 0 ? 2 : 0;
    return ask(&client, &wish);
}
