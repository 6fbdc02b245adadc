/* Turns the options into one POST /purge of the admin listener. */
#include "main/purge.h"

#include "base/heap.h"
#include "main/client.h"
#include "main/flat.h"

#include <stdio.h>

static const char help[] =
    "usage: doorstep purge [options] --url U | --prefix P | --tag T | --host H | --group G | --all [--soft]\n"
    "\n"
    "Drops stored responses of a running node and, where nodes share a store, of all nodes of its region: from memory, disk\n"
    "and store. Fetches under way for them are not kept either. The answer comes when the purge survives a restart and the\n"
    "other nodes have applied it.\n"
    "\n"
    "  --url U             this URL, all its variants; a path like /app.js counts for every host\n"
    "  --prefix P          this path and everything below it; /assets counts for every host\n"
    "  --tag T             responses with this tag in Cache-Tag or Surrogate-Key\n"
    "  --host H            everything of this host\n"
    "  --group G           responses of a cache group (RFC 9875): \"http://shop.example name\"\n"
    "  --all               everything\n"
    "  --soft              mark stale instead: stale answers stay possible while the origin is asked\n";

/* What may be purged, by option; the same names are the parameters of the request. */
static const char *const kinds[] = { "url", "prefix", "tag", "host", "group" };

struct wish {
    const char *kind, *target; /* of `kinds` */
    bool all, soft;
};

/* 0, 1 after --help, -1 when wrong (said). */
static int read_options(struct client *client, struct wish *wish, int argc, char **argv)
{
    const char *targets[ARRAY_LEN(kinds)] = { NULL };
    const struct client_word own[] = {
        { "--url", &targets[0], NULL },  { "--prefix", &targets[1], NULL }, { "--tag", &targets[2], NULL },
        { "--host", &targets[3], NULL }, { "--group", &targets[4], NULL },  { "--all", NULL, &wish->all },
        { "--soft", NULL, &wish->soft },
    };
    int r = client_read(client, argc, argv, help, own, ARRAY_LEN(own), NULL, 0);
    unsigned said = wish->all;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (targets[i]) {
            wish->kind = kinds[i];
            wish->target = targets[i];
            said++;
        }
    if (r == 0 && said != 1) {
        fprintf(stderr, "doorstep purge: say what, once: --url U, --prefix P, --tag T, --host H, --group G or --all\n");
        return -1;
    }
    return r;
}

static void print_answer(const struct wish *wish, struct flat *flat)
{
    const char *bus = flat_string(flat, "bus");

    printf("%s: ", wish->soft ? "marked stale" : "purged");
    if (wish->all)
        printf("everything");
    else
        printf("%s %s", wish->kind, wish->target);
    if (bus && strcmp(bus, "sent") == 0)
        printf(" (applied by %.0f of %.0f nodes)", flat_number(flat, "applied"), flat_number(flat, "nodes"));
    else if (bus && strcmp(bus, "queued") == 0)
        printf(" (here; the other nodes hear of it when the shared store is back)");
    else if (bus)
        printf(" (here only: the other nodes could not be told)");
    printf("\n");
}

static int ask(const struct client *client, const struct wish *wish)
{
    struct view what = view_str(wish->target);
    size_t cap = what.len * 3 + 64;
    struct text target = text_make(heap_alloc(cap), cap);
    struct client_reply reply;
    struct flat flat;
    int r;

    if (!target.ptr)
        return 1;
    if (wish->all)
        text_lit(&target, "/purge?all=1");
    else
        text_printf(&target, "/purge?%s=", wish->kind);
    client_encode(&target, what);
    if (wish->soft)
        text_lit(&target, "&soft=1");
    r = client_ask_ok(client, "POST", text_view(&target), &reply);
    heap_free(target.ptr);
    if (r < 0)
        return 1;
    r = flat_parse(reply.body, &flat);
    if (r == 0 && flat_string(&flat, "purged")) {
        if (client->json)
            fwrite(reply.body.ptr, 1, reply.body.len, stdout);
        else
            print_answer(wish, &flat);
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
    return ask(&client, &wish);
}
