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
    r = client_read(&client, argc, argv, help, NULL, 0, &url, 1);
    if (r != 0)
        return r < 0 ? 2 : 0;
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
