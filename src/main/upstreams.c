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
    "Shows the servers of a running node's upstreams and AI providers and their circuit breakers, after switching them\n"
    "if asked to. Of a provider's credentials it shows how many are ready, rest, or are dead.\n"
    "\n"
    "  --open NAME         ask this upstream or provider no more; NAME/HOST:PORT: only not that server\n"
    "  --close NAME        ask it whatever happens\n"
    "  --auto NAME         let the breakers decide again\n"
    "  --kind KIND         upstream or provider, where both have that name\n";

struct wish {
    const char *state, *target, *kind;
};

/* 0, 1 after --help, -1 when wrong (said). */
static int read_options(struct client *client, struct wish *wish, int argc, char **argv)
{
    static const char *const states[] = { "open", "closed", "auto" };
    const char *targets[ARRAY_LEN(states)] = { NULL };
    const struct client_word own[] = { { "--open", &targets[0], NULL },
                                       { "--close", &targets[1], NULL },
                                       { "--auto", &targets[2], NULL },
                                       { "--kind", &wish->kind, NULL } };
    int r = client_read(client, argc, argv, help, own, ARRAY_LEN(own), NULL, 0);

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(states); i++) {
        if (targets[i] && wish->target) {
            fprintf(stderr, "doorstep upstreams: one switch at a time\n");
            return -1;
        }
        if (targets[i]) {
            wish->state = states[i];
            wish->target = targets[i];
        }
    }
    return r;
}

/* Of item i of `list`: "upstreams" or "providers". */
static const char *member(const struct flat *flat, const char *list, int i, const char *name)
{
    char path[96];
    const char *text;

    snprintf(path, sizeof(path), "%s.%d.%s", list, i, name);
    text = flat_string(flat, path);
    return text ? text : "";
}

static const char *breaker(const struct flat *flat, const char *list, int i, int server, const char *name)
{
    char path[64];

    snprintf(path, sizeof(path), "breakers.%d.%s", server, name);
    return member(flat, list, i, path);
}

static void print_server(const struct flat *flat, const char *list, int i, int server)
{
    bool by_hand = strcmp(breaker(flat, list, i, server, "forced"), "auto") != 0;
    bool healthy = strcmp(breaker(flat, list, i, server, "healthy"), "true") == 0;
    double wait = strtod(breaker(flat, list, i, server, "open_for_s"), NULL);

    printf("  %-32s %s%s", breaker(flat, list, i, server, "server"), breaker(flat, list, i, server, "state"),
           by_hand ? " (by hand)" : "");
    if (wait > 0)
        printf(", tried again in %.0f s", wait);
    printf("%s; in flight %s, failures in a row %s, opened %s times\n", healthy ? "" : ", checks fail",
           breaker(flat, list, i, server, "in_flight"), breaker(flat, list, i, server, "consecutive_failures"),
           breaker(flat, list, i, server, "opens"));
}

static void print_provider(const struct flat *flat, int i)
{
    const char *list = "providers", *region = member(flat, list, i, "region");

    printf("  provider on %s%s%s; calls under way %s", member(flat, list, i, "rung"), *region ? ", region " : "",
           region, member(flat, list, i, "in_flight"));
    if (strtod(member(flat, list, i, "credentials"), NULL) > 0)
        printf("; credentials: %s ready, %s resting, %s dead", member(flat, list, i, "ready"),
               member(flat, list, i, "resting"), member(flat, list, i, "dead"));
    printf("\n");
}

static void print_list(const struct flat *flat, const char *list)
{
    for (int i = 0; *member(flat, list, i, "name"); i++) {
        bool down = strcmp(member(flat, list, i, "down"), "true") == 0;
        const char *whole = member(flat, list, i, "breaker.state");

        printf("%s%s%s%s\n", member(flat, list, i, "name"), down ? "  DOWN" : "", *whole ? "  as a whole: " : "",
               whole);
        if (strcmp(list, "providers") == 0)
            print_provider(flat, i);
        for (int k = 0; *breaker(flat, list, i, k, "server"); k++)
            print_server(flat, list, i, k);
    }
}

/* The request target for the wish; NULL when memory is out. */
static char *make_target(const struct wish *wish, struct text *ret)
{
    struct view name = view_str(wish->target), server = VIEW_NONE;
    size_t cap = (name.len + (wish->kind ? strlen(wish->kind) : 0)) * 3 + 128, slash = view_find(name, '/');
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
    if (wish->kind) {
        text_lit(&target, "&kind=");
        client_encode(&target, view_str(wish->kind));
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
    if (client->json) {
        fwrite(reply.body.ptr, 1, reply.body.len, stdout);
    } else {
        print_list(&flat, "upstreams");
        print_list(&flat, "providers");
    }
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
