/* Reserve and settle. One lock for all budgets, held for some hundred nanoseconds: a reservation looks at every budget that fits
 * first, and takes from all of them or from none.
 *
 * A rule is what the configuration says; an instance is what is counted: one for a rule, or with each_... one for each tenant, key or
 * model that came by. Both stay where they are while a reservation holds on them. An instance counts the window of now and the one
 * before it, to which requests belong that began before midnight. */
#include "ai/budget_internal.h"

#include "base/glob.h"
#include "base/heap.h"

#include <errno.h>

/* ---- instances ---- */

bool budget_fits(const struct rule *rule, const struct budget_identity *identity)
{
    const struct budget_rule *is = &rule->is;

    return !rule->gone && (is->tenant.len == 0 || glob_match(is->tenant, identity->tenant)) &&
           (is->key.len == 0 || glob_match(is->key, identity->key)) &&
           (is->model.len == 0 || glob_match(is->model, identity->model));
}

static uint64_t hash_text(uint64_t hash, struct view v)
{
    for (size_t i = 0; i < v.len; i++)
        hash = (hash ^ (unsigned char)v.ptr[i]) * 0x100000001b3u;
    return (hash ^ v.len ^ 0x5bd1u) * 0x100000001b3u;
}

/* What tells the instances of a rule apart. */
static struct budget_identity kept_part(const struct rule *rule, const struct budget_identity *identity)
{
    return (struct budget_identity){ .tenant = rule->is.each_tenant ? identity->tenant : VIEW_NONE,
                                     .key = rule->is.each_key ? identity->key : VIEW_NONE,
                                     .model = rule->is.each_model ? identity->model : VIEW_NONE };
}

static struct budget_instance *new_instance(struct rule *rule, const struct budget_identity *part, uint64_t hash)
{
    size_t len = part->tenant.len + part->key.len + part->model.len;
    struct budget_instance *instance = heap_zalloc(sizeof(*instance) + len + 1);
    struct text texts;

    if (!instance)
        return NULL;
    texts = text_make(instance->texts, len + 1);
    instance->rule = rule;
    instance->hash = hash;
    instance->slots[0].window = instance->slots[1].window = -1;
    instance->tenant = view_make(texts.ptr, part->tenant.len);
    text_put(&texts, part->tenant);
    instance->key = view_make(texts.ptr + texts.len, part->key.len);
    text_put(&texts, part->key);
    instance->model = view_make(texts.ptr + texts.len, part->model.len);
    text_put(&texts, part->model);
    return instance;
}

/* Twice as many places. Without memory the chains grow instead. */
static void grow(struct budgets *budgets)
{
    unsigned size = budgets->table_size * 2;
    struct budget_instance **table = heap_zalloc(size * sizeof(struct budget_instance *));

    if (!table)
        return;
    for (unsigned i = 0; i < budgets->table_size; i++)
        while (budgets->table[i]) {
            struct budget_instance *instance = budgets->table[i];

            budgets->table[i] = instance->next;
            instance->next = table[instance->hash & (size - 1)];
            table[instance->hash & (size - 1)] = instance;
        }
    heap_free(budgets->table);
    budgets->table = table;
    budgets->table_size = size;
}

/* Nobody holds on it, and its windows are over. */
static bool is_idle(const struct budget_instance *instance, int64_t now_ms)
{
    return instance->holds == 0 && !instance->leasing &&
           (instance->rule->gone || (instance->rule->is.window != BUDGET_TOTAL &&
                                     instance->slots[0].window < budget_window_of(instance->rule->is.window, now_ms)));
}

static void drop_idle(struct budgets *budgets, int64_t now_ms)
{
    for (unsigned i = 0; i < budgets->table_size; i++)
        for (struct budget_instance **at = &budgets->table[i]; *at;) {
            struct budget_instance *instance = *at;

            if (!is_idle(instance, now_ms)) {
                at = &instance->next;
                continue;
            }
            *at = instance->next;
            heap_free(instance);
            budgets->instances--;
        }
}

struct budget_instance *budget_instance_get(struct budgets *budgets, struct rule *rule,
                                            const struct budget_identity *identity, int64_t now_ms)
{
    struct budget_identity part = kept_part(rule, identity);
    uint64_t hash = hash_text(hash_text(hash_text((uintptr_t)rule, part.tenant), part.key), part.model);
    struct budget_instance *instance;

    hash ^= hash >> 29;
    for (instance = budgets->table[hash & (budgets->table_size - 1)]; instance; instance = instance->next)
        if (instance->hash == hash && instance->rule == rule && view_eq(instance->tenant, part.tenant) &&
            view_eq(instance->key, part.key) && view_eq(instance->model, part.model))
            return instance;
    if (budgets->instances >= budgets->instances_max)
        drop_idle(budgets, now_ms);
    if (budgets->instances >= budgets->instances_max)
        return NULL;
    instance = new_instance(rule, &part, hash);
    if (!instance)
        return NULL;
    if (++budgets->instances > budgets->table_size)
        grow(budgets);
    instance->next = budgets->table[hash & (budgets->table_size - 1)];
    budgets->table[hash & (budgets->table_size - 1)] = instance;
    return instance;
}

struct slot *budget_slot(struct budget_instance *instance, int64_t window)
{
    struct slot *slots = instance->slots;

    if (window > slots[0].window) {
        slots[1] = slots[0];
        slots[0] = (struct slot){ .window = window };
        instance->dry = false;
        instance->waiting_ms = 0;
        instance->retry_ms = 0;
    }
    if (window < slots[0].window && window != slots[1].window)
        slots[1] = (struct slot){ .window = window };
    return window == slots[0].window ? &slots[0] : &slots[1];
}

/* ---- reserving ---- */

static int64_t amount_of(const struct rule *rule, int64_t money, uint64_t tokens)
{
    uint64_t amount = rule->is.unit == BUDGET_MONEY ? (uint64_t)MAX(money, 0) : tokens;

    return (int64_t)MIN(amount, (uint64_t)BUDGET_AMOUNT_MAX);
}

static bool is_leased(const struct budgets *budgets, const struct rule *rule)
{
    return rule->is.shared && budgets->redis && !rule->is.soft;
}

/* What a reservation found out about one budget. */
struct look {
    struct budget_instance *instance;
    struct slot *slot;
    int64_t window, amount;
    bool lease; /* begin one, without the lock */
};

static int look_at(struct budgets *budgets, struct look *look, uint64_t mono_ms)
{
    const struct budget_rule *is = &look->instance->rule->is;
    struct slot *slot = look->slot;
    int64_t used = slot->spent + slot->reserved;

    if (look->amount == 0)
        return 0;
    if (is_leased(budgets, look->instance->rule))
        switch (budget_share_ask(budgets, look->instance, slot, look->amount, mono_ms, &look->lease)) {
        case SHARE_ENOUGH: return 0;
        case SHARE_COME_BACK: return -EAGAIN;
        case SHARE_EXHAUSTED: return -EDQUOT;
        }
    if (used <= is->limit && look->amount <= is->limit - used)
        return 0;
    look->instance->soft_exceeded += is->soft;
    return is->soft ? 0 : -EDQUOT;
}

static void tell(const struct budgets *budgets, const struct look *look, int64_t now_ms, struct budget_refusal *ret)
{
    const struct budget_rule *is = &look->instance->rule->is;
    struct budget_refusal refusal = { .unit = is->unit,
                                      .window = is->window,
                                      .limit = is->limit,
                                      .used = look->slot->spent + look->slot->reserved,
                                      .resets_ms = budget_resets_ms(is->window, now_ms) };

    if (is_leased(budgets, look->instance->rule)) {
        refusal.unavailable = look->instance->unavailable;
        refusal.used = MAX(refusal.used, look->slot->everywhere);
    }
    memcpy(refusal.name, is->name.ptr, is->name.len);
    *ret = refusal;
}

/* Every budget that fits, into `looks`; how many, or -errno. */
static int collect(struct budgets *budgets, int64_t now_ms, const struct budget_identity *identity, int64_t money,
                   uint64_t tokens, struct look looks[BUDGET_HOLDS_MAX])
{
    int count = 0;

    for (unsigned i = 0; i < budgets->rule_count; i++) {
        struct rule *rule = budgets->rules[i];
        struct look *look = &looks[count];

        if (!budget_fits(rule, identity))
            continue;
        if (count == BUDGET_HOLDS_MAX)
            return -E2BIG;
        *look = (struct look){ .instance = budget_instance_get(budgets, rule, identity, now_ms),
                               .window = budget_window_of(rule->is.window, now_ms),
                               .amount = amount_of(rule, money, tokens) };
        if (!look->instance)
            return -ENOMEM;
        look->slot = budget_slot(look->instance, look->window);
        count++;
    }
    return count;
}

/* With the lock held. */
static int reserve(struct budgets *budgets, uint64_t mono_ms, int64_t now_ms, struct look *looks, int count,
                   struct budget_refusal *ret_refusal)
{
    int result = 0;

    for (int i = 0; i < count; i++) {
        int r = look_at(budgets, &looks[i], mono_ms);

        if (r == -EDQUOT && result != -EDQUOT) {
            looks[i].instance->refused++;
            tell(budgets, &looks[i], now_ms, ret_refusal);
        }
        if (r < 0 && result != -EDQUOT)
            result = r;
    }
    for (int i = 0; i < count; i++)
        /* Held while the lease is under way, too: nobody drops it meanwhile. */
        looks[i].instance->leasing = looks[i].instance->leasing || looks[i].lease;
    for (int i = 0; result == 0 && i < count; i++) {
        looks[i].instance->holds++;
        looks[i].slot->reserved += looks[i].amount;
    }
    return result;
}

int budget_reserve(struct budgets *budgets, struct loop *loop, int64_t now_ms, const struct budget_identity *identity,
                   int64_t money, uint64_t tokens, struct reservation *ret, struct budget_refusal *ret_refusal)
{
    struct look looks[BUDGET_HOLDS_MAX + 1];
    int count, r;

    pthread_mutex_lock(&budgets->lock);
    r = count = collect(budgets, now_ms, identity, money, tokens, looks);
    if (r >= 0)
        r = reserve(budgets, loop_now_ms(loop), now_ms, looks, count, ret_refusal);
    pthread_mutex_unlock(&budgets->lock);
    for (int i = 0; i < count; i++)
        if (looks[i].lease)
            budget_lease_begin(budgets, loop, looks[i].instance, looks[i].window, looks[i].amount);
    if (r < 0)
        return r;
    *ret = (struct reservation){ .time_ms = now_ms, .money = money, .tokens = tokens, .count = (unsigned)count };
    for (int i = 0; i < count; i++) {
        ret->holds[i].instance = looks[i].instance;
        ret->holds[i].window = looks[i].window;
        ret->hard = ret->hard || (!looks[i].instance->rule->is.soft && looks[i].amount > 0);
    }
    return 0;
}

static void settle_one(struct budget_instance *instance, int64_t window, int64_t reserved, int64_t amount)
{
    struct slot *slots = instance->slots;
    struct slot *slot = slots[0].window == window ? &slots[0] : slots[1].window == window ? &slots[1] : NULL;

    instance->holds--;
    if (amount > reserved) {
        instance->overshoots++;
        instance->overshoot_sum += amount - reserved;
        instance->overshoot_max = MAX(instance->overshoot_max, amount - reserved);
    }
    if (!slot) {
        instance->late++;
        return;
    }
    slot->reserved -= reserved;
    slot->spent += amount;
}

void budget_settle(struct budgets *budgets, struct reservation *reservation, int64_t money, uint64_t tokens)
{
    if (reservation->count == 0)
        return;
    pthread_mutex_lock(&budgets->lock);
    for (unsigned i = 0; i < reservation->count; i++) {
        struct budget_instance *instance = reservation->holds[i].instance;

        settle_one(instance, reservation->holds[i].window,
                   amount_of(instance->rule, reservation->money, reservation->tokens),
                   amount_of(instance->rule, money, tokens));
    }
    pthread_mutex_unlock(&budgets->lock);
    reservation->count = 0;
}

/* ---- to look at ---- */

static void show(const struct budgets *budgets, const struct budget_instance *instance, int64_t now_ms,
                 struct budget_view *ret)
{
    const struct budget_rule *is = &instance->rule->is;
    struct slot empty = { 0 };
    int64_t window = budget_window_of(is->window, now_ms);
    const struct slot *slot = instance->slots[0].window == window   ? &instance->slots[0]
                              : instance->slots[1].window == window ? &instance->slots[1]
                                                                    : &empty;
    int64_t used = slot->spent + slot->reserved;

    *ret = (struct budget_view){
        .name = is->name,
        .tenant = instance->tenant,
        .key = instance->key,
        .model = instance->model,
        .unit = is->unit,
        .window = is->window,
        .soft = is->soft,
        .shared = is->shared,
        .limit = is->limit,
        .spent = slot->spent,
        .reserved = slot->reserved,
        .granted = slot->granted,
        .everywhere = slot->everywhere,
        .resets_ms = budget_resets_ms(is->window, now_ms),
        .unavailable = instance->unavailable,
        .without_lease = is_leased(budgets, instance->rule) && instance->unavailable ? MAX(used - slot->granted, 0) : 0,
        .refused = instance->refused,
        .overshoots = instance->overshoots,
        .overshoot_max = instance->overshoot_max,
        .overshoot_sum = instance->overshoot_sum,
        .soft_exceeded = instance->soft_exceeded,
        .late = instance->late,
    };
}

unsigned budget_each(struct budgets *budgets, int64_t now_ms, void (*each)(const struct budget_view *view, void *arg),
                     void *arg)
{
    unsigned count = 0;

    pthread_mutex_lock(&budgets->lock);
    for (unsigned i = 0; i < budgets->table_size; i++)
        for (const struct budget_instance *instance = budgets->table[i]; instance; instance = instance->next) {
            struct budget_view view;

            if (instance->rule->gone)
                continue;
            show(budgets, instance, now_ms, &view);
            each(&view, arg);
            count++;
        }
    pthread_mutex_unlock(&budgets->lock);
    return count;
}
