/* Turns the options into requests to the admin listener. A new key goes to standard output, alone, so that it can be piped to where it is
 * kept; everything else about it goes to standard error. A key is never taken from the command line, where others could see it. */
#include "main/keys.h"

#include "base/heap.h"
#include "main/client.h"
#include "main/flat.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char help[] =
    "usage: doorstep keys create --name NAME [--tenant T] [--expires 30d] [--scopes A,B] [--rules R] [options]\n"
    "       doorstep keys list [options]\n"
    "       doorstep keys revoke PREFIX|ID [options]\n"
    "\n"
    "API keys by which clients of the AI gateway are known to a running node. `create` prints the new key once, to standard\n"
    "output and alone there; the node keeps only a keyed hash. Every answer comes when the change survives a restart.\n"
    "\n"
    "  --name NAME         whose key it is, for people\n"
    "  --tenant T          whose answers it shares in caches, budgets and limits (default: default)\n"
    "  --expires TIME      for how long it counts: 90s, 12h, 30d, 8w, 1y (default: forever)\n"
    "  --scopes A,B        what it may do: inference, embeddings, models, other (default: the first three)\n"
    "  --rules R           configured rules that hold for it\n";

enum verb { VERB_NONE, VERB_CREATE, VERB_LIST, VERB_REVOKE };

struct wish {
    enum verb verb;
    const char *name, *tenant, *expires, *scopes, *rules, *which;
    uint64_t expires_s;
};

static int complain(const char *what)
{
    fprintf(stderr, "doorstep keys: %s; see doorstep keys --help\n", what);
    return -1;
}

static enum verb verb_of(const char *word)
{
    if (strcmp(word, "create") == 0)
        return VERB_CREATE;
    if (strcmp(word, "list") == 0)
        return VERB_LIST;
    return strcmp(word, "revoke") == 0 ? VERB_REVOKE : VERB_NONE;
}

/* "30d" in seconds. False when it is none, or nothing. */
static bool read_time(const char *text, uint64_t *ret)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 604800 }, { 'y', 31536000 } };
    size_t len = strlen(text);
    uint64_t value;

    if (len < 2 || !view_parse_u64(view_make(text, len - 1), &value) || value == 0 || value > 1000000000)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (units[i].unit == text[len - 1]) {
            *ret = value * units[i].seconds;
            return true;
        }
    return false;
}

/* 0, 1 after --help, -1 when wrong (said). */
static int read_words(struct client *client, struct wish *wish, int argc, char **argv)
{
    const struct client_word own[] = {
        { "--name", &wish->name, NULL },     { "--tenant", &wish->tenant, NULL }, { "--expires", &wish->expires, NULL },
        { "--scopes", &wish->scopes, NULL }, { "--rules", &wish->rules, NULL },
    };
    const char *rest[2] = { NULL };
    int r = client_read(client, argc, argv, help, own, ARRAY_LEN(own), rest, ARRAY_LEN(rest));

    if (r != 0)
        return r;
    wish->verb = rest[0] ? verb_of(rest[0]) : VERB_NONE;
    wish->which = rest[1];
    return wish->which && wish->verb != VERB_REVOKE ? complain("a word too many: only revoke takes a second one") : 0;
}

static int check(struct wish *wish)
{
    bool creating = wish->verb == VERB_CREATE;

    if (!wish->verb)
        return complain("say what: create, list or revoke");
    if (!creating && (wish->name || wish->tenant || wish->expires || wish->scopes || wish->rules))
        return complain("--name, --tenant, --expires, --scopes and --rules belong to create");
    if (creating && (!wish->name || !*wish->name))
        return complain("create wants --name NAME");
    if (wish->expires && !read_time(wish->expires, &wish->expires_s))
        return complain("--expires wants a time like 12h or 30d");
    if (wish->verb == VERB_REVOKE && !wish->which)
        return complain("revoke wants the PREFIX or ID that doorstep keys list shows");
    if (wish->verb == VERB_REVOKE && strlen(wish->which) > 20)
        return complain("that is too long for a prefix or an id: never put a key on a command line; its first 11 "
                        "characters are enough");
    return 0;
}

static void put_param(struct text *out, const char *name, const char *value)
{
    if (!value)
        return;
    text_char(out, out->len && memchr(out->ptr, '?', out->len) ? '&' : '?');
    text_printf(out, "%s=", name);
    client_encode(out, view_str(value));
}

/* Asks and parses. 0 or -1, said; then nothing is to be freed. */
static int ask(const struct client *client, const char *method, const struct text *target, struct client_reply *reply,
               struct flat *flat)
{
    if (target->overflow)
        return complain("that is too long");
    if (client_ask_ok(client, method, text_view(target), reply) < 0)
        return -1;
    if (flat_parse(reply->body, flat) == 0)
        return 0;
    flat_free(flat);
    client_reply_free(reply);
    return client_stranger(client);
}

static const char *or_dash(const char *text)
{
    return text && *text ? text : "-";
}

static const char *day(double seconds, char out[16])
{
    time_t when = (time_t)seconds;
    struct tm tm;

    if (seconds <= 0 || !gmtime_r(&when, &tm) || !strftime(out, 16, "%Y-%m-%d", &tm))
        return "-";
    return out;
}

static int create(const struct client *client, const struct wish *wish)
{
    char memory[8192], number[24], expiry[16];
    struct text target = TEXT_ON(memory), seconds = TEXT_ON(number);
    struct client_reply reply;
    struct flat flat;
    const char *key;
    int r = 1;

    text_u64(&seconds, wish->expires_s);
    text_lit(&target, "/ai/keys");
    put_param(&target, "name", wish->name);
    put_param(&target, "tenant", wish->tenant);
    put_param(&target, "scopes", wish->scopes);
    put_param(&target, "rules", wish->rules);
    put_param(&target, "expires", wish->expires ? text_str(&seconds) : NULL);
    if (ask(client, "POST", &target, &reply, &flat) < 0)
        return 1;
    key = flat_string(&flat, "key");
    if (!key) {
        client_stranger(client);
    } else {
        if (client->json)
            fwrite(reply.body.ptr, 1, reply.body.len, stdout);
        else
            printf("%s\n", key);
        r = fflush(stdout) == 0 ? 0 : 1;
        fprintf(stderr, "key %s of tenant %s, expires %s, may: %s\nIt is shown only now: keep it.%s\n",
                or_dash(flat_string(&flat, "prefix")), or_dash(flat_string(&flat, "tenant")),
                wish->expires ? day(flat_number(&flat, "expires"), expiry) : "never",
                or_dash(flat_string(&flat, "scopes")),
                strcmp(or_dash(flat_string(&flat, "durable")), "true") == 0
                    ? ""
                    : " The node keeps no state (state.path): the key ends with it.");
        if (r)
            fprintf(stderr, "doorstep keys: the key could not be written to standard output: revoke it\n");
    }
    flat_free(&flat);
    client_reply_free(&reply);
    return r;
}

static const char *item(const struct flat *flat, unsigned i, const char *member)
{
    char memory[48];
    struct text path = TEXT_ON(memory);

    text_printf(&path, "keys.%u.%s", i, member);
    return flat_string(flat, text_str(&path));
}

static void print_list(const struct flat *flat)
{
    char made[16], expires[16], used[16];

    printf("%-12s %-16s %-16s %-20s %-10s %-10s %-10s %-8s %s\n", "PREFIX", "ID", "TENANT", "NAME", "CREATED",
           "EXPIRES", "USED", "STATE", "SCOPES");
    for (unsigned i = 0; item(flat, i, "id"); i++) {
        double expires_s = strtod(or_dash(item(flat, i, "expires")), NULL);
        const char *state = strtod(or_dash(item(flat, i, "revoked")), NULL) > 0 ? "revoked"
                            : expires_s > 0 && expires_s <= (double)time(NULL)  ? "expired"
                                                                                : "good";

        printf("%-12s %-16s %-16s %-20s %-10s %-10s %-10s %-8s %s\n", or_dash(item(flat, i, "prefix")),
               item(flat, i, "id"), or_dash(item(flat, i, "tenant")), or_dash(item(flat, i, "name")),
               day(strtod(or_dash(item(flat, i, "created")), NULL), made), day(expires_s, expires),
               day(strtod(or_dash(item(flat, i, "used")), NULL), used), state, or_dash(item(flat, i, "scopes")));
    }
}

static int list(const struct client *client)
{
    char memory[16];
    struct text target = TEXT_ON(memory);
    struct client_reply reply;
    struct flat flat;

    int r;

    text_lit(&target, "/ai/keys");
    if (client_ask_ok(client, "GET", text_view(&target), &reply) < 0)
        return 1;
    if (client->json) {
        fwrite(reply.body.ptr, 1, reply.body.len, stdout);
    } else {
        r = flat_parse(reply.body, &flat);
        if (r == 0)
            print_list(&flat);
        flat_free(&flat);
        client_reply_free(&reply);
        if (r == -ENOMEM)
            return complain("there are too many keys for a table: use --json") < 0;
        return r < 0 && client_stranger(client) < 0;
    }
    client_reply_free(&reply);
    return 0;
}

static int revoke(const struct client *client, const struct wish *wish)
{
    char memory[256];
    struct text target = TEXT_ON(memory);
    struct client_reply reply;
    struct flat flat;

    text_lit(&target, "/ai/keys/revoke");
    put_param(&target, "key", wish->which);
    if (ask(client, "POST", &target, &reply, &flat) < 0)
        return 1;
    if (client->json)
        fwrite(reply.body.ptr, 1, reply.body.len, stdout);
    else
        printf("revoked: %s (%s)\n", or_dash(flat_string(&flat, "prefix")), or_dash(flat_string(&flat, "name")));
    flat_free(&flat);
    client_reply_free(&reply);
    return 0;
}

int command_keys(int argc, char **argv)
{
    struct wish wish = { 0 };
    struct client client;
    int r;

    client_init(&client, "keys");
    r = read_words(&client, &wish, argc, argv);
    if (r != 0)
        return r < 0 ? 2 : 0;
    if (check(&wish) < 0)
        return 2;
    switch (wish.verb) {
    case VERB_CREATE: return create(&client, &wish);
    case VERB_LIST: return list(&client);
    case VERB_REVOKE: return revoke(&client, &wish);
    case VERB_NONE: break;
    }
    return 2;
}
