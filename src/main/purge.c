/* Turns the options into one POST /purge of the admin listener. */
#include "main/purge.h"

#include "base/heap.h"
#include "main/client.h"
#include "main/flat.h"

#include <stdio.h>

static const char help[] =
    "usage: doorstep purge [options] --url U | --prefix P | --all [--soft]\n"
    "\n"
    "Drops stored responses of a running node. Fetches under way for them are not stored either.\n"
    "\n"
    "  --url U             this URL, all its variants; a path like /app.js counts for every host\n"
    "  --prefix P          every URL that begins with P; a path like /assets/ counts for every host\n"
    "  --all               everything\n"
    "  --soft              mark stale instead: stale answers stay possible while the origin is asked\n";

struct wish {
    const char *url, *prefix;
    bool all, soft;
};

/* 0, 1 after --help, -1 when wrong (said). */
static int read_options(struct client *client, struct wish *wish, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value;
        int taken;

        if (strcmp(argv[i], "--help") == 0) {
            printf("%s%s", help, client_help);
            return 1;
        }
        taken = client_option(client, argc, argv, &i);
        if (taken < 0)
            return -1;
        if (taken > 0)
            continue;
        if (strcmp(argv[i], "--all") == 0)
            wish->all = true;
        else if (strcmp(argv[i], "--soft") == 0)
            wish->soft = true;
        else if ((value = client_value(client, "--url", argc, argv, &i)) != NULL)
            wish->url = value;
        else if ((value = client_value(client, "--prefix", argc, argv, &i)) != NULL)
            wish->prefix = value;
        else {
            fprintf(stderr, "doorstep purge: unknown option '%s'; see doorstep purge --help\n", argv[i]);
            return -1;
        }
        if (i >= argc)
            return -1;
    }
    return 0;
}

static int ask(const struct client *client, const struct wish *wish)
{
    struct view what = view_str(wish->url ? wish->url : wish->prefix);
    size_t cap = what.len * 3 + 64;
    struct text target = text_make(heap_alloc(cap), cap);
    struct client_reply reply;
    struct flat flat;
    int r;

    if (!target.ptr)
        return 1;
    text_put(&target, wish->all ? VIEW("/purge?all=1") : wish->url ? VIEW("/purge?url=") : VIEW("/purge?prefix="));
    client_encode(&target, what);
    if (wish->soft)
        text_lit(&target, "&soft=1");
    r = client_ask_ok(client, "POST", text_view(&target), &reply);
    heap_free(target.ptr);
    if (r < 0)
        return 1;
    r = flat_parse(reply.body, &flat);
    if (r == 0 && flat_string(&flat, "purged")) {
        double purged = flat_number(&flat, "purged");

        if (client->json)
            fwrite(reply.body.ptr, 1, reply.body.len, stdout);
        else
            printf("%s %.0f stored response%s\n", wish->soft ? "marked stale:" : "purged:", purged,
                   purged == 1 ? "" : "s");
    } else {
        r = client_stranger(client);
    }
    flat_free(&flat);
    client_reply_free(&reply);
    return r < 0 ? 1 : 0;
}

int command_purge(int argc, char **argv)
{
    struct wish wish = { 0 };
    struct client client;
    int r;

    client_init(&client, "purge");
    r = read_options(&client, &wish, argc, argv);
    if (r != 0)
        return r < 0 ? 2 : 0;
    if (!!wish.url + !!wish.prefix + wish.all != 1) {
        fprintf(stderr, "doorstep purge: say what, once: --url U, --prefix P or --all\n");
        return 2;
    }
    return ask(&client, &wish);
}
