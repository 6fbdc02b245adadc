/* Asks the admin listener; the node writes the page, as text or as JSON. */
#include "main/why.h"

#include "base/heap.h"
#include "main/client.h"

#include <stdio.h>

static const char help[] =
    "usage: doorstep why [options] URL\n"
    "\n"
    "How a running node treats a GET of URL now, and why: the route and key, each stored variant with its lifetime,\n"
    "age and where they come from, and why the last response was not stored. Nothing is fetched.\n"
    "URL is what a client asks the node for, for example http://127.0.0.1:8080/app.js\n"
    "\n";

int command_why(int argc, char **argv)
{
    struct client_reply reply;
    struct client client;
    const char *url = NULL;
    struct text target;
    size_t cap;
    int r;

    client_init(&client, "why");
    for (int i = 1; i < argc; i++) {
        int taken;

        if (strcmp(argv[i], "--help") == 0) {
            printf("%s%s", help, client_help);
            return 0;
        }
        taken = client_option(&client, argc, argv, &i);
        if (taken < 0)
            return 2;
        if (taken > 0)
            continue;
        if (argv[i][0] == '-' || url) {
            fprintf(stderr, "doorstep why: %s '%s'; see doorstep why --help\n",
                    argv[i][0] == '-' ? "unknown option" : "one URL, please; this is a second one:", argv[i]);
            return 2;
        }
        url = argv[i];
    }
    if (!url) {
        fprintf(stderr, "doorstep why: which URL? For example: doorstep why http://127.0.0.1:8080/app.js\n");
        return 2;
    }
    cap = strlen(url) * 3 + 64;
    target = text_make(heap_alloc(cap), cap);
    if (!target.ptr)
        return 1;
    text_lit(&target, "/why?url=");
    client_encode(&target, view_str(url));
    if (!client.json)
        text_lit(&target, "&format=text");
    r = client_ask_ok(&client, "GET", text_view(&target), &reply);
    heap_free(target.ptr);
    if (r < 0)
        return 1;
    if (view_starts_with(reply.body, client.json ? VIEW("{\"url\":") : VIEW("url ")))
        fwrite(reply.body.ptr, 1, reply.body.len, stdout);
    else
        r = client_stranger(&client);
    client_reply_free(&reply);
    return r < 0 ? 1 : 0;
}
