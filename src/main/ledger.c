/* Asks GET /ai/ledger until a page is empty, and prints what comes. The next page begins behind the id of the last row, which is the
 * second thing in every line. */
#include "main/ledger.h"

#include "base/clock.h"
#include "main/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PAGE_ROWS 5000

static const char help[] =
    "usage: doorstep ai ledger [options] [--since T] [--until T] [--tenant T] [--key K] [--sum by=tenant|key|model|day]\n"
    "\n"
    "Prints one row for each request to the AI gateway of a running node, the oldest first, as CSV, or JSON lines with\n"
    "--json. Money is in micro-units: 1000000 is one unit of the currency of the prices.\n"
    "\n"
    "  --since T           from then on: 90s, 30m, 24h, 7d ago, or 2026-01-31 or 2026-01-31T10:00:00Z (UTC)\n"
    "  --until T           up to then, which is not in it\n"
    "  --tenant T          only this tenant\n"
    "  --key K             only this key (its id)\n"
    "  --sum by=WHAT       sums for each tenant, key, model or day instead of rows; whole days\n"
    "  --csv               CSV (the default)\n";

struct wish {
    const char *since, *until, *tenant, *key, *sum;
    int64_t since_ms, until_ms;
};

/* "24h" ago, or a date, in milliseconds. False: neither. */
static bool read_time(const char *text, int64_t now_ms, int64_t *ret)
{
    static const struct {
        char unit;
        int64_t ms;
    } units[] = { { 's', 1000 }, { 'm', 60000 }, { 'h', 3600000 }, { 'd', 86400000 }, { 'w', 604800000 } };
    size_t len = strlen(text);
    struct tm tm = { 0 };
    const char *end;
    uint64_t count;

    for (size_t i = 0; len > 1 && i < ARRAY_LEN(units); i++)
        if (text[len - 1] == units[i].unit && view_parse_u64(view_make(text, len - 1), &count) && count < 1u << 30) {
            *ret = MAX(now_ms - (int64_t)count * units[i].ms, 0);
            return true;
        }
    end = strptime(text, "%Y-%m-%d", &tm);
    if (end && *end == 'T')
        end = strptime(end, "T%H:%M:%SZ", &tm);
    if (!end || *end || tm.tm_year < 70)
        return false;
    *ret = (int64_t)timegm(&tm) * 1000;
    return true;
}

/* 0, 1 after --help, -1 when wrong (said). */
static int read_options(struct client *client, struct wish *wish, int argc, char **argv)
{
    bool csv = false;
    const struct client_word own[] = {
        { "--since", &wish->since, NULL }, { "--until", &wish->until, NULL }, { "--tenant", &wish->tenant, NULL },
        { "--key", &wish->key, NULL },     { "--sum", &wish->sum, NULL },     { "--csv", NULL, &csv },
    };
    int r = client_read(client, argc, argv, help, own, ARRAY_LEN(own), NULL, 0);

    if (csv)
        client->json = false;
    return r;
}

static int check_wish(struct wish *wish)
{
    int64_t now_ms = clock_wall_ms();

    if (wish->since && !read_time(wish->since, now_ms, &wish->since_ms)) {
        fprintf(stderr, "doorstep ai ledger: --since '%s' is no time; like 24h, 7d or 2026-01-31\n", wish->since);
        return -1;
    }
    if (wish->until && !read_time(wish->until, now_ms, &wish->until_ms)) {
        fprintf(stderr, "doorstep ai ledger: --until '%s' is no time; like 24h, 7d or 2026-01-31\n", wish->until);
        return -1;
    }
    if (wish->sum && strncmp(wish->sum, "by=", 3) == 0)
        wish->sum += 3;
    return 0;
}

static void put_target(struct text *to, const struct client *client, const struct wish *wish, uint64_t after)
{
    text_printf(to, "/ai/ledger?format=%s&since=%lld&until=%lld", client->json ? "json" : "csv",
                (long long)wish->since_ms, (long long)wish->until_ms);
    if (wish->tenant) {
        text_lit(to, "&tenant=");
        client_encode(to, view_str(wish->tenant));
    }
    if (wish->key) {
        text_lit(to, "&key=");
        client_encode(to, view_str(wish->key));
    }
    if (wish->sum) {
        text_lit(to, "&sum=");
        client_encode(to, view_str(wish->sum));
    } else {
        text_printf(to, "&limit=%d&after=%llu", PAGE_ROWS, (unsigned long long)after);
    }
}

/* The id in the last line of a page; 0: there is no row. Texts of a row have their line breaks escaped in JSON; in CSV a line that
 * begins inside of quotes is passed over, because what it has in second place is not a time's neighbour. */
static uint64_t last_id(struct view page, bool json)
{
    uint64_t id = 0, value;

    while (page.len) {
        struct view line = view_cut(&page, '\n');
        struct view first = view_cut(&line, ','), second = view_cut(&line, ',');

        if (json && view_starts_with(second, VIEW("\"id\":\"")))
            second = view_first(view_skip(second, sizeof("\"id\":\"") - 1), second.len - sizeof("\"id\":\""));
        if (view_ends_with(first, json ? VIEW("Z\"") : VIEW("Z")) && view_parse_u64(second, &value))
            id = value;
    }
    return id;
}

int command_ledger(int argc, char **argv)
{
    struct wish wish = { 0 };
    struct client client;
    uint64_t after = 0;
    int r;

    client_init(&client, "ai ledger");
    r = read_options(&client, &wish, argc, argv);
    if (r)
        return r > 0 ? 0 : 2;
    if (check_wish(&wish) < 0)
        return 2;
    do {
        char memory[4096];
        struct text target = TEXT_ON(memory);
        struct client_reply reply;

        put_target(&target, &client, &wish, after);
        if (target.overflow) {
            fprintf(stderr, "doorstep ai ledger: these names are too long\n");
            return 2;
        }
        if (client_ask_ok(&client, "GET", text_view(&target), &reply) < 0)
            return 1;
        fwrite(reply.body.ptr, 1, reply.body.len, stdout);
        after = wish.sum ? 0 : last_id(reply.body, client.json);
        client_reply_free(&reply);
    } while (after && !ferror(stdout));
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
