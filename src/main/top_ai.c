/* What doorstep top says about AI: requests, money, tokens, hits by level and rung, who can be asked, what is left of budgets. */
#include "main/top_internal.h"

#include <stdio.h>
#include <string.h>

#define AI_MODELS_SHOWN 6
#define PROVIDERS_SHOWN 8
#define BUDGETS_SHOWN 4

static double ai_number(const struct samples *s, int model, const char *member)
{
    char path[64];

    snprintf(path, sizeof(path), "ai.models.%d.%s", model, member);
    return flat_number(&s->now, path);
}

static const char *ai_string(const struct samples *s, int model, const char *member)
{
    char path[64];
    const char *found;

    snprintf(path, sizeof(path), "ai.models.%d.%s", model, member);
    found = flat_string(&s->now, path);
    return found ? found : "";
}

static void draw_ai_models(struct screen *screen, const struct samples *s)
{
    top_row(screen, "%-12s %-22s %-6s %8s %6s %8s %8s %9s", "PROVIDER", "MODEL", "RUNG", "requests", "hits", "in",
            "out", "cost");
    for (int i = 0; i < AI_MODELS_SHOWN && *ai_string(s, i, "model"); i++) {
        char a[16], b[16], c[16];

        top_row(screen, "%-12.12s %-22.22s %-6s %8s %5.1f%% %8s %8s %9.4f", ai_string(s, i, "provider"),
                ai_string(s, i, "model"), ai_string(s, i, "rung"), top_short(ai_number(s, i, "requests"), a),
                100 * ai_number(s, i, "hit_ratio"), top_short(ai_number(s, i, "input"), b),
                top_short(ai_number(s, i, "output"), c), ai_number(s, i, "cost") / 1e6);
    }
}

/* Hits by the tier that had the answer, and by the rung it once came from; those with traffic. */
static void draw_ai_ratios(struct screen *screen, const struct samples *s)
{
    static const char *const ratios[][3] = {
        { "memory", "ai.tiers.memory.hits", "ai.tiers.memory.ratio" },
        { "disk", "ai.tiers.disk.hits", "ai.tiers.disk.ratio" },
        { "shared", "ai.tiers.shared.hits", "ai.tiers.shared.ratio" },
        { "canonical", "ai.semantic.canonical.hits", "ai.semantic.canonical.ratio" },
        { "embedding", "ai.semantic.embedding.hits", "ai.semantic.embedding.ratio" },
        { "of device", "ai.rungs.device.requests", "ai.rungs.device.hit_ratio" },
        { "of edge", "ai.rungs.edge.requests", "ai.rungs.edge.hit_ratio" },
        { "of cloud", "ai.rungs.cloud.requests", "ai.rungs.cloud.hit_ratio" },
    };
    char line[256];
    struct text out = TEXT_ON(line);

    for (size_t i = 0; i < ARRAY_LEN(ratios); i++)
        if (flat_number(&s->now, ratios[i][1]) > 0)
            text_printf(&out, "   %s %.1f%%", ratios[i][0], 100 * flat_number(&s->now, ratios[i][2]));
    if (flat_number(&s->now, "ai.semantic.canonical.verified") +
            flat_number(&s->now, "ai.semantic.embedding.verified") >
        0)
        text_printf(&out, "   wrong: canonical %.1f%% embedding %.1f%%",
                    100 * flat_number(&s->now, "ai.semantic.canonical.false_hit_rate"),
                    100 * flat_number(&s->now, "ai.semantic.embedding.false_hit_rate"));
    top_row(screen, "    hits%s", out.len ? text_str(&out) : "   -");
}

/* "member" of the i-th of a list; NULL: there is none. */
static const char *item_string(const struct samples *s, const char *list, int i, const char *member)
{
    char path[64];

    snprintf(path, sizeof(path), "ai.%s.%d.%s", list, i, member);
    return flat_string(&s->now, path);
}

static double item_number(const struct samples *s, const char *list, int i, const char *member)
{
    char path[64];

    snprintf(path, sizeof(path), "ai.%s.%d.%s", list, i, member);
    return flat_number(&s->now, path);
}

/* Who can be asked now: a provider is down when nobody may be reached, or all of its keys are refused. */
static void draw_providers(struct screen *screen, const struct samples *s)
{
    char up_memory[256], down_memory[256];
    struct text up = TEXT_ON(up_memory), down = TEXT_ON(down_memory);
    const char *name;

    for (int i = 0; i < PROVIDERS_SHOWN && (name = item_string(s, "providers", i, "name")); i++) {
        const char *says = item_string(s, "providers", i, "down");
        double dead = item_number(s, "providers", i, "dead"), keys = item_number(s, "providers", i, "credentials");
        bool is_down = (says && strcmp(says, "true") == 0) || (keys > 0 && dead >= keys);
        struct text *out = is_down ? &down : &up;

        text_printf(out, "   %.20s", name);
        if (dead > 0)
            text_printf(out, " (%.0f of %.0f keys refused)", dead, keys);
        else if (item_number(s, "providers", i, "resting") > 0)
            text_printf(out, " (%.0f of %.0f keys rest)", item_number(s, "providers", i, "resting"), keys);
    }
    top_row(screen, "    up%s%s%s", up.len ? text_str(&up) : "   -", down.len ? "   DOWN" : "",
            down.len ? text_str(&down) : "");
}

static void draw_budgets(struct screen *screen, const struct samples *s)
{
    const char *name;

    for (int i = 0; i < BUDGETS_SHOWN && (name = item_string(s, "budgets", i, "name")); i++) {
        const char *unit = item_string(s, "budgets", i, "unit"), *window = item_string(s, "budgets", i, "window");
        double limit = item_number(s, "budgets", i, "limit"),
               used = item_number(s, "budgets", i, "spent") + item_number(s, "budgets", i, "reserved");
        bool money = unit && strcmp(unit, "money") == 0;
        double scale = money ? 1e6 : 1;

        top_row(screen, "    budget %.16s (%s): left %.*f of %.*f%s, %.1f%%", name, window ? window : "", money ? 4 : 0,
                (limit - used) / scale, money ? 2 : 0, limit / scale, money ? "" : " tokens",
                limit > 0 ? 100 * (limit - used) / limit : 0);
    }
}

/* Money is shown in the currency of the prices. */
void top_draw_ai(struct screen *screen, const struct samples *s)
{
    char a[16], b[16], c[16], d[16];

    if (flat_number(&s->now, "ai.requests") <= 0)
        return;
    top_row(screen, "%s", "");
    top_row(screen, "AI  requests %s/s   hits %.1f%%   tokens in %s out %s saved %s%s",
            top_short(top_rate(s, "ai.requests"), a), 100 * flat_number(&s->now, "ai.hit_ratio"),
            top_short(flat_number(&s->now, "ai.tokens.input"), b),
            top_short(flat_number(&s->now, "ai.tokens.output"), c),
            top_short(flat_number(&s->now, "ai.tokens.saved"), d),
            flat_number(&s->now, "ai.ledger.lost") > 0 ? "   LEDGER ROWS LOST" : "");
    top_row(screen, "    money today %.4f saved %.4f   month %.4f saved %.4f   failovers %.0f",
            flat_number(&s->now, "ai.money.today") / 1e6, flat_number(&s->now, "ai.money.today_saved") / 1e6,
            flat_number(&s->now, "ai.money.month") / 1e6, flat_number(&s->now, "ai.money.month_saved") / 1e6,
            flat_number(&s->now, "ai.failovers"));
    draw_ai_ratios(screen, s);
    draw_providers(screen, s);
    draw_budgets(screen, s);
    draw_ai_models(screen, s);
}

int top_ai_rows(const struct samples *s)
{
    int rows = 6;

    if (flat_number(&s->now, "ai.requests") <= 0)
        return 0;
    for (int i = 0; i < AI_MODELS_SHOWN && *ai_string(s, i, "model"); i++)
        rows++;
    for (int i = 0; i < BUDGETS_SHOWN && item_string(s, "budgets", i, "name"); i++)
        rows++;
    return rows;
}
