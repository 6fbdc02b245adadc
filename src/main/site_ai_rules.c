/* What a configuration says about who may ask what: rules, tenants, limits, personal data; and what the tables cannot check of it. */
#include "main/site_table.h"

#include "ai/pii.h"
#include "ai/policy.h"
#include "base/text.h"
#include "conf/conf.h"

#define NAMES_MAX 64u
#define TENANT_LEN_MAX 64u

static const char *const act_names[] = { "allow", "pin", "redact", "refuse", NULL };
static const char *const media_names[] = { "pass", "found", NULL };

const struct option site_ai_private_table[] = {
    { .name = "do",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_ai_private, act),
      .preset = "allow",
      .names = act_names,
      .help = "`allow`: nothing. `pin`: only `device` providers may answer, or those of `region`; nobody there: 403. "
              "`redact`: placeholders go out in its place. `refuse`: 403." },
    { .name = "find",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_ai_private, find),
      .help =
          "What is looked for: `email`, `phone`, `card`, `iban`, `ip`, `jwt`, `pem`, `key`, or `all`; default: all." },
    { .name = "region",
      .type = OPTION_STRING,
      .offset = MEMBER(site_ai_private, region),
      .flags = OPTION_TOKEN,
      .help = "With `pin`: providers of this region may answer, too." },
    { .name = "media",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_ai_private, media),
      .preset = "pass",
      .names = media_names,
      .help =
          "Images, audio and files, which nobody looks into: `pass`, or treated as if personal data was `found` in them." },
    { .name = NULL },
};

static const struct option models_table[] = {
    { .name = "allow",
      .type = OPTION_STRINGS,
      .offset = offsetof(struct site_ai_rules, models.allow) - offsetof(struct site_ai_rules, models),
      .help = "Names (`*` allowed) that a client may ask for, aliases among them; default: any." },
    { .name = "deny",
      .type = OPTION_STRINGS,
      .offset = offsetof(struct site_ai_rules, models.deny) - offsetof(struct site_ai_rules, models),
      .help =
          "Names (`*` allowed, any case) that are never asked for, not through an alias either. Wins over `allow`." },
    { .name = "aliases",
      .type = OPTION_STRINGS,
      .offset = offsetof(struct site_ai_rules, models.aliases) - offsetof(struct site_ai_rules, models),
      .help =
          "Names of models that mean others, each as `NAME=MODEL`: `gpt-4=fast`. `allow` and `deny` are about MODEL then." },
    { .name = NULL },
};

const struct option site_ai_rules_table[] = {
    { .name = "models",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_ai_rules, models),
      .table = models_table,
      .help = "Which models." },
    { .name = "max_tokens",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_rules, max_tokens),
      .preset = "0",
      .max = INT32_MAX,
      .help = "Of an answer: more is refused, and requests that say nothing get this. 0: no limit." },
    { .name = "context",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_rules, context),
      .preset = "0",
      .max = INT32_MAX,
      .help = "Tokens of a prompt, estimated at 4 bytes each; 0: no limit." },
    { .name = "context_bytes",
      .type = OPTION_SIZE,
      .offset = MEMBER(site_ai_rules, context_bytes),
      .preset = "0",
      .help = "Bytes of a prompt, as written; 0: no limit." },
    { .name = "tools",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_ai_rules, tools),
      .preset = "true",
      .help = "Whether requests may bring tools." },
    { .name = "server_tools",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_ai_rules, server_tools),
      .preset = "true",
      .help = "Whether they may use tools that the provider runs (web search and the like)." },
    { .name = "images",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_ai_rules, images),
      .preset = "true",
      .help = "Whether prompts may hold images." },
    { .name = "audio",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_ai_rules, audio),
      .preset = "true",
      .help = "Whether prompts may hold audio." },
    { .name = "files",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_ai_rules, files),
      .preset = "true",
      .help = "Whether prompts may hold files." },
    { .name = "force",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_ai_rules, force),
      .help = "Parameters that are set whatever the request says, each as `NAME=JSON`: `temperature=0`." },
    { .name = "forbid",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_ai_rules, forbid),
      .help = "Parameters that must not be there: `logit_bias`." },
    { .name = "regions",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_ai_rules, regions),
      .help =
          "Regions of providers that may answer, fallbacks included. A node of another region keeps the answers in memory "
          "only. Default: any." },
    { .name = "hours",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_ai_rules, hours),
      .help =
          "When requests are taken: `Mon-Fri 08:00-18:00`, `Sat,Sun 22:00-06:00`, `09:00-17:00`; default: always." },
    { .name = "utc_offset",
      .type = OPTION_STRING,
      .offset = MEMBER(site_ai_rules, utc_offset),
      .preset = "+00:00",
      .help = "Of the clock that `hours` means: `+02:00`." },
    { .name = "requests_per_minute",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_rules, requests),
      .max = 1000000000,
      .help = "Of each key that names these rules; default: as in `ai.limits`. 0: no limit." },
    { .name = "tokens_per_minute",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_rules, tokens),
      .max = 1000000000,
      .help = "Of each key that names these rules; default: as in `ai.limits`. 0: no limit." },
    { .name = "private",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_ai_rules, private),
      .table = site_ai_private_table,
      .help = "What happens to prompts with personal data." },
    { .name = NULL },
};

const struct option site_ai_tenant_table[] = {
    { .name = "rules",
      .type = OPTION_STRING,
      .offset = MEMBER(site_ai_tenant, rules),
      .help = "Name of rules (`ai.rules`) that every request of the tenant must pass." },
    { .name = "requests_per_minute",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_tenant, requests),
      .preset = "0",
      .max = 1000000000,
      .help = "Of all its keys together; 0: no limit." },
    { .name = "tokens_per_minute",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_tenant, tokens),
      .preset = "0",
      .max = 1000000000,
      .help = "Of all its keys together; 0: no limit." },
    { .name = NULL },
};

const struct option site_ai_limits_table[] = {
    { .name = "requests_per_minute",
      .type = OPTION_INT,
      .offset = 0,
      .preset = "0",
      .max = 1000000000,
      .help = "0: no limit." },
    { .name = "tokens_per_minute",
      .type = OPTION_INT,
      .offset = sizeof(uint64_t),
      .preset = "0",
      .max = 1000000000,
      .help = "Of prompts and answers, estimated before, corrected after; 0: no limit." },
    { .name = NULL },
};

/* ---- checks ---- */

struct place {
    struct conf_report *report;
    char memory[192];
    struct text base; /* "ai.rules.strict" */
    size_t base_len;
};

static const char *at(struct place *place, const char *member)
{
    place->base.len = place->base_len;
    text_printf(&place->base, ".%s", member);
    return text_str(&place->base);
}

static void place_begin(struct place *place, struct conf_report *report, const char *what, struct view name)
{
    place->report = report;
    place->base = TEXT_ON(place->memory);
    text_printf(&place->base, "%s.%.*s", what, VIEW_ARG(view_first(name, 96)));
    place->base_len = place->base.len;
}

static void check_private(struct site_ai_private *private, struct place *place)
{
    private->kinds = 0;
    for (size_t i = 0; i < private->find.count; i++) {
        struct view names[8], name = private->find.items[i], nearest;
        unsigned kind = view_eq(name, VIEW("all")) ? PII_ALL : pii_kind_of(name);

        private->kinds |= kind;
        if (kind)
            continue;
        for (unsigned k = 0; k < ARRAY_LEN(names); k++)
            names[k] = view_str(pii_name((enum pii_kind)(1 << k)));
        nearest = conf_nearest(name, names, ARRAY_LEN(names));
        conf_complain(place->report, at(place, "private.find"),
                      nearest.len ? "nothing \"%.*s\" is known; did you mean \"%.*s\"?"
                                  : "\"%.*s\" is none of email, phone, card, iban, ip, jwt, pem, key, all%.*s",
                      VIEW_ARG(view_first(name, 64)), VIEW_ARG(nearest));
    }
    if (private->find.count == 0)
    private->kinds = PII_ALL;
    if (private->find.count && conf_line(place->report, at(place, "private.do")) == 0)
        conf_complain(place->report, at(place, "private.find"), "say what to do with it: do: pin, redact or refuse");
    if (private->region.len && private->act != 1)
        conf_complain(place->report, at(place, "private.region"), "works with do: pin only");
    if (private->act == 0)
    private->kinds = 0;
}

/* "NAME=JSON", and nothing that the gateway itself goes by. */
static void check_forced(struct view forced, struct place *place)
{
    static const struct view ours[] = { { "model", 5 },    { "stream", 6 }, { "stream_options", 14 },
                                        { "messages", 8 }, { "input", 5 },  { "prompt", 6 } };
    struct view json = forced, name = view_cut(&json, '=');
    struct json doc = { 0 };
    size_t unused;

    if (name.len == 0 || json_parse(&doc, json, JSON_LIMITS, &unused) != JSON_OK)
        conf_complain(place->report, at(place, "force"),
                      "\"%.*s\" is not NAME=JSON, as in temperature=0 or reasoning_effort=\"low\"",
                      VIEW_ARG(view_first(forced, 64)));
    json_free(&doc);
    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        if (view_eq(name, ours[i]))
            conf_complain(place->report, at(place, "force"), "%.*s cannot be forced", VIEW_ARG(name));
}

/* "+02:00", "-05:30". */
static bool read_offset(struct view text, int *ret)
{
    struct view minutes = view_skip(text, 1), hours = view_cut(&minutes, ':');
    uint64_t h, m;

    if (text.len != 6 || (text.ptr[0] != '+' && text.ptr[0] != '-') || !view_parse_u64(hours, &h) ||
        !view_parse_u64(minutes, &m) || h > 14 || m > 59)
        return false;
    *ret = (int)(h * 60 + m) * (text.ptr[0] == '-' ? -1 : 1);
    return true;
}

static void check_alias(struct view alias, struct place *place)
{
    struct view model = alias, name = view_cut(&model, '=');

    if (name.len == 0 || model.len == 0)
        conf_complain(place->report, at(place, "models.aliases"), "\"%.*s\" is not NAME=MODEL, as in gpt-4=fast",
                      VIEW_ARG(view_first(alias, 64)));
}

static void check_rules(struct site_ai_rules *rules, struct conf_report *report)
{
    struct ai_window unused;
    struct place place;

    place_begin(&place, report, "ai.rules", rules->name);
    for (size_t i = 0; i < rules->force.count; i++)
        check_forced(rules->force.items[i], &place);
    for (size_t i = 0; i < rules->models.aliases.count; i++)
        check_alias(rules->models.aliases.items[i], &place);
    for (size_t i = 0; i < rules->hours.count; i++)
        if (ai_window_parse(rules->hours.items[i], &unused) < 0)
            conf_complain(report, at(&place, "hours"), "\"%.*s\" is no time of the week: write \"Mon-Fri 08:00-18:00\"",
                          VIEW_ARG(view_first(rules->hours.items[i], 64)));
    if (!read_offset(rules->utc_offset, &rules->utc_minutes))
        conf_complain(report, at(&place, "utc_offset"), "not an offset: write \"+02:00\"");
    check_private(&rules->private, &place);
}

/* As keys have them, so that no other can ever be meant. */
static bool is_tenant_name(struct view name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];

        if (!(ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') && !(c >= '0' && c <= '9') && c != '.' && c != '_' &&
            c != '-')
            return false;
    }
    return name.len > 0 && name.len <= TENANT_LEN_MAX;
}

/* Name of rules, in the order of the file. */
static void find_rules(const struct site_ai *ai, struct view name, size_t *ret, struct place *place)
{
    struct view names[NAMES_MAX], nearest;
    size_t count = MIN(ai->rules.count, ARRAY_LEN(names));

    if (name.len == 0)
        return;
    for (size_t i = 0; i < ai->rules.count; i++) {
        if (view_eq(ai->rules.items[i].name, name)) {
            *ret = i;
            return;
        }
    }
    for (size_t i = 0; i < count; i++)
        names[i] = ai->rules.items[i].name;
    nearest = conf_nearest(name, names, count);
    conf_complain(place->report, at(place, "rules"),
                  nearest.len ? "no rules \"%.*s\"; did you mean \"%.*s\"?" : "no rules \"%.*s\" under ai.rules%.*s",
                  VIEW_ARG(view_first(name, 64)), VIEW_ARG(nearest));
}

static void check_route(struct site *site, size_t index, struct conf_report *report)
{
    struct site_ai_route *route = &site->routes.items[index].ai;
    struct place place = { .report = report };

    place.base = TEXT_ON(place.memory);
    text_printf(&place.base, "routes[%zu].ai", index);
    place.base_len = place.base.len;
    find_rules(&site->ai, route->rules, &route->rules_index, &place);
    check_private(&route->private, &place);
}

void site_ai_rules_check(struct site *site, struct conf_report *report)
{
    struct site_ai *ai = &site->ai;

    for (size_t i = 0; i < ai->rules.count; i++)
        check_rules(&ai->rules.items[i], report);
    for (size_t i = 0; i < ai->tenants.count; i++) {
        struct site_ai_tenant *tenant = &ai->tenants.items[i];
        struct place place;

        place_begin(&place, report, "ai.tenants", tenant->name);
        if (!is_tenant_name(tenant->name))
            conf_complain(report, text_str(&place.base), "a tenant's name has 1 to 64 of A-Z a-z 0-9 . _ -");
        find_rules(ai, tenant->rules, &tenant->rules_index, &place);
    }
    for (size_t i = 0; i < site->routes.count; i++)
        check_route(site, i, report);
}
