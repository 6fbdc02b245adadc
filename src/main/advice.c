/* Advice for `doorstep check`: looks at files, changes nothing. */
#include "main/advice.h"

#include "ai/config.h"
#include "ai/price.h"
#include "base/text.h"

#include <errno.h>
#include <unistd.h>

static unsigned check_file(struct view path, const char *what, FILE *out)
{
    if (path.len == 0 || access(path.ptr, R_OK) == 0)
        return 0;
    fprintf(out, "  mistake: %s %s: %s\n", what, path.ptr, strerror(errno));
    return 1;
}

static unsigned check_tls(const struct site_tls *tls, FILE *out)
{
    return check_file(tls->ca, "tls.ca", out) + check_file(tls->certificate, "tls.certificate", out) +
           check_file(tls->key, "tls.key", out);
}

static bool is_this_machine(struct view host)
{
    return host.len == 0 || view_eq(host, VIEW("localhost")) || view_eq(host, VIEW("::1")) ||
           view_starts_with(host, VIEW("127."));
}

static void say_disk(const struct site *site, FILE *out)
{
    if (site->disk.path.len == 0)
        return;
    if (site->disk.key.len || site->disk.key_file.len)
        fprintf(out, "  disk %s: responses are encrypted (AES-256-GCM)\n", site->disk.path.ptr);
    else
        fprintf(out,
                "  disk %s: responses, URLs and tags are stored in clear; disk.key or disk.key_file encrypts them\n",
                site->disk.path.ptr);
}

static void say_state(const struct site *site, FILE *out)
{
    if (site->state.path.len)
        fprintf(out, "  state %s: URLs and tags of purges are stored in clear\n", site->state.path.ptr);
    else if (site->disk.path.len)
        fprintf(out, "  state %s/state.db: URLs and tags of purges are stored in clear\n", site->disk.path.ptr);
    else if (site->shared.url.len || site->purge.postgres.len)
        fprintf(out, "  state: none is kept; after a restart the node reads all purges again. Set state.path\n");
}

static void say_shared(const struct site *site, FILE *out)
{
    if (site->shared.url.len == 0)
        return;
    fprintf(out, "  shared store: responses, URLs and tags are stored in clear%s\n",
            site->shared.at.tls || is_this_machine(site->shared.at.host)
                ? ""
                : ", and sent in clear: rediss:// encrypts the way there");
}

static void say_token(const struct site_upstream *u, FILE *out)
{
    for (size_t i = 0; i < u->servers.count; i++) {
        const struct option_url *server = &u->servers.items[i];

        if (server->tls || is_this_machine(server->host))
            continue;
        fprintf(out, "  upstream %s: its token is sent in clear: https encrypts the way there\n", u->name.ptr);
        return;
    }
}

static bool is_public(const struct site *site)
{
    for (size_t i = 0; i < site->listen.count; i++)
        if (site->listen.items[i].path.len == 0 &&
            (site->listen.items[i].host.len == 0 || !is_this_machine(site->listen.items[i].host)))
            return true;
    return false;
}

static void say_ai(const struct site *site, FILE *out)
{
    bool present = false, embeds = false;

    for (size_t i = 0; i < site->routes.count; i++) {
        const struct site_ai_route *ai = &site->routes.items[i].ai;

        present = present || ai->present;
        embeds = embeds || (ai->present && ai->semantic == AI_SEMANTIC_EMBEDDING);
    }
    if (embeds && site->disk.path.len)
        fprintf(out, "  disk %s/semantic.index: prompts are stored in clear, with disk.key too\n", site->disk.path.ptr);
    if (present && site->ai.auth == 0 && is_public(site))
        fprintf(out, "  ai.auth is none: whoever reaches the node may ask, on your account\n");
    if (present && site->state.path.len == 0 && site->disk.path.len == 0)
        fprintf(out,
                "  state: none is kept; keys and the ledger of the AI gateway end with the node. Set state.path\n");
}

static unsigned check_prices(struct view path, FILE *out)
{
    struct prices *prices;
    char memory[512];
    struct text reason = TEXT_ON(memory);

    if (path.len == 0)
        return 0;
    if (prices_load(path.ptr, &prices, &reason) == 0) {
        prices_free(prices);
        return 0;
    }
    fprintf(out, "  mistake: ai.prices: %s\n", text_str(&reason));
    return 1;
}

static unsigned check_ai(const struct site_ai *ai, FILE *out)
{
    unsigned mistakes = check_prices(ai->prices, out);

    for (size_t i = 0; i < ai->providers.count; i++) {
        const struct site_ai_provider *provider = &ai->providers.items[i];

        for (size_t k = 0; k < provider->key_files.count; k++)
            mistakes += check_file(provider->key_files.items[k], "ai.providers.key_files", out);
        mistakes += check_tls(&provider->upstream.tls, out);
    }
    if (ai->semantic.kind != EMBEDDING_ENDPOINT)
        mistakes += check_file(ai->semantic.model, "ai.semantic.model", out);
    return mistakes;
}

unsigned advice_print(const struct site *site, FILE *out)
{
    unsigned mistakes = check_file(site->disk.key_file, "disk.key_file", out);

    if (site->shared.url.len)
        mistakes += check_tls(&site->shared.tls, out);
    for (size_t i = 0; i < site->upstreams.count; i++)
        mistakes += check_tls(&site->upstreams.items[i].tls, out);
    for (size_t i = 0; i < site->upstreams.count; i++)
        if (site->upstreams.items[i].token.len)
            say_token(&site->upstreams.items[i], out);
    mistakes += check_ai(&site->ai, out);
    say_disk(site, out);
    say_state(site, out);
    say_shared(site, out);
    say_ai(site, out);
    return mistakes;
}
