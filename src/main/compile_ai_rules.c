/* Rules, tenants and limits as src/ai wants them. Texts stay where the site has them. */
#include "main/compile_ai.h"

#include "base/buf.h"
#include "base/key.h"

#include <errno.h>
#include <stdlib.h>

static void *zeroed(struct site *site, size_t count, size_t size)
{
    void *memory = arena_alloc(&site->_arena, (count + 1) * size);

    if (memory)
        memset(memory, 0, (count + 1) * size);
    return memory;
}

/* ---- revisions ---- */

static void put_number(struct buf *b, uint64_t value)
{
    buf_u64(b, value);
    buf_char(b, ';');
}

static void put_list(struct buf *b, const struct view *items, size_t count)
{
    put_number(b, count);
    for (size_t i = 0; i < count; i++) {
        put_number(b, items[i].len);
        buf_put(b, items[i]);
    }
}

static void put_private(struct buf *b, const struct ai_private *private)
{
    put_number(b, private->kinds);
    put_number(b, private->act);
    put_list(b, &private->region, 1);
    put_number(b, private->media);
}

/* 0, which means no rules, only when memory is out: then *ret_failed. */
static uint64_t finish(struct buf *b, bool *ret_failed)
{
    uint64_t revision = hash64(buf_view(b));

    *ret_failed = b->failed;
    buf_free(b);
    return revision;
}

/* Of all that shapes what is asked and who answers: not of hours and limits, which only say when. */
static uint64_t revision_of(const struct ai_ruleset *set, bool *ret_failed)
{
    const struct ai_rules *rules = &set->rules;
    struct buf b = buf_make(SIZE_MAX);

    put_list(&b, rules->allow, rules->allow_count);
    put_list(&b, rules->deny, rules->deny_count);
    put_number(&b, rules->max_tokens);
    put_number(&b, rules->context_bytes);
    put_number(&b, rules->context_tokens);
    put_number(&b, (uint64_t)(rules->no_tools | rules->no_server_tools << 1 | rules->no_images << 2 |
                              rules->no_audio << 3 | rules->no_files << 4));
    put_list(&b, rules->forbidden, rules->forbidden_count);
    for (size_t i = 0; i < rules->forced_count; i++) {
        put_list(&b, &rules->forced[i].name, 1);
        put_list(&b, &rules->forced[i].json, 1);
    }
    put_list(&b, rules->regions, rules->region_count);
    put_private(&b, &set->private);
    return finish(&b, ret_failed);
}

/* ---- rules ---- */

static struct ai_private private_of(const struct site_ai_private *from)
{
    return (struct ai_private){
        .kinds = from->kinds, .act = (enum ai_private_act)from->act, .region = from->region, .media = from->media == 1
    };
}

static int compile_lists(struct site *site, const struct site_ai_rules *from, struct ai_ruleset *set)
{
    struct ai_rules *to = &set->rules;
    struct ai_forced *forced = zeroed(site, from->force.count, sizeof(*forced));
    struct ai_window *windows = zeroed(site, from->hours.count, sizeof(*windows));
    struct ai_alias *aliases = zeroed(site, from->models.aliases.count, sizeof(*aliases));

    if (!forced || !windows || !aliases)
        return -ENOMEM;
    for (size_t i = 0; i < from->models.aliases.count; i++) {
        aliases[i].model = from->models.aliases.items[i];
        aliases[i].name = view_cut(&aliases[i].model, '=');
    }
    set->aliases = aliases;
    set->alias_count = from->models.aliases.count;
    for (size_t i = 0; i < from->force.count; i++) {
        forced[i].json = from->force.items[i];
        forced[i].name = view_cut(&forced[i].json, '=');
    }
    for (size_t i = 0; i < from->hours.count; i++)
        if (ai_window_parse(from->hours.items[i], &windows[i]) < 0)
            return -EINVAL; /* it was checked */
    to->forced = forced;
    to->forced_count = from->force.count;
    to->windows = windows;
    to->window_count = from->hours.count;
    return 0;
}

static int compile_rules(struct site *site, const struct site_ai_rules *from, struct ai_ruleset *to)
{
    const struct site_ai *ai = &site->ai;
    bool failed;
    int r;

    to->name = from->name;
    to->rules = (struct ai_rules){
        .allow = from->models.allow.items,
        .allow_count = from->models.allow.count,
        .deny = from->models.deny.items,
        .deny_count = from->models.deny.count,
        .max_tokens = from->max_tokens,
        .context_bytes = from->context_bytes,
        .context_tokens = from->context,
        .no_tools = !from->tools,
        .no_server_tools = !from->server_tools,
        .no_images = !from->images,
        .no_audio = !from->audio,
        .no_files = !from->files,
        .forbidden = from->forbid.items,
        .forbidden_count = from->forbid.count,
        .regions = from->regions.items,
        .region_count = from->regions.count,
        .utc_offset = from->utc_minutes,
    };
    to->private = private_of(&from->private);
    to->limits.requests = from->requests == OPTION_UNSET ? ai->limits.requests : from->requests;
    to->limits.tokens = from->tokens == OPTION_UNSET ? ai->limits.tokens : from->tokens;
    r = compile_lists(site, from, to);
    to->revision = revision_of(to, &failed);
    return r == 0 && failed ? -ENOMEM : r;
}

static int by_name(const void *a, const void *b)
{
    return view_compare(((const struct ai_tenant *)a)->name, ((const struct ai_tenant *)b)->name);
}

int compile_ai_rules(struct site *site, struct ai_config *to)
{
    const struct site_ai *from = &site->ai;
    struct ai_ruleset *sets = zeroed(site, from->rules.count, sizeof(*sets));
    struct ai_tenant *tenants = zeroed(site, from->tenants.count, sizeof(*tenants));
    int r = sets && tenants ? 0 : -ENOMEM;

    for (size_t i = 0; i < from->rules.count && r == 0; i++)
        r = compile_rules(site, &from->rules.items[i], &sets[i]);
    for (size_t i = 0; i < from->tenants.count && r == 0; i++) {
        const struct site_ai_tenant *tenant = &from->tenants.items[i];

        tenants[i] = (struct ai_tenant){ .name = tenant->name,
                                         .rules = tenant->rules.len ? &sets[tenant->rules_index] : NULL,
                                         .limits = { tenant->requests, tenant->tokens } };
    }
    if (r < 0)
        return r;
    qsort(tenants, from->tenants.count, sizeof(*tenants), by_name);
    to->rules = sets;
    to->rules_count = (unsigned)from->rules.count;
    to->tenants = tenants;
    to->tenant_count = (unsigned)from->tenants.count;
    to->limits = (struct ai_limits){ from->limits.requests, from->limits.tokens };
    return 0;
}

bool compile_ai_route_rules(const struct ai_config *config, const struct site_ai_route *from, struct ai_route *to)
{
    struct buf b = buf_make(SIZE_MAX);
    bool failed;

    to->rules = from->rules.len ? &config->rules[from->rules_index] : NULL;
    to->limits = (struct ai_limits){ from->requests, from->tokens };
    to->private = private_of(&from->private);
    put_private(&b, &to->private);
    to->private_revision = finish(&b, &failed);
    return !failed;
}

void compile_ai_caches(struct ai_route *route)
{
    route->local = route->passing = route->cache;
    route->local.ladder.shared = route->passing.ladder.shared = false;
    route->passing.ladder.disk = LADDER_DISK_OFF;
}
