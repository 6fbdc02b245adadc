/* Making budgets, changing their rules while they are in use, and starting from what the ledger says. */
#include "ai/budget_internal.h"

#include "base/check.h"
#include "base/heap.h"
#include "store/state_ledger.h"

#include <errno.h>

#define NAME_MAX_LEN 64u
#define TABLE_FIRST 256u
#define DAY_MS ((int64_t)86400000)
#define INSTANCES_DEFAULT 65536u

/* ---- rules ---- */

static void copy_one(struct text *to, struct view *v)
{
    const char *at = to->ptr + to->len;

    text_put(to, *v);
    v->ptr = at;
}

/* Copies what a rule says; the old texts go. -ENOMEM: it is unchanged. */
static int say(struct rule *rule, const struct budget_rule *is)
{
    size_t len = is->name.len + is->tenant.len + is->key.len + is->model.len + 1;
    struct text texts = text_make(heap_alloc(len), len);

    if (!texts.ptr)
        return -ENOMEM;
    heap_free(rule->texts);
    rule->texts = texts.ptr;
    rule->is = *is;
    rule->is.limit = MIN(is->limit, BUDGET_LIMIT_MAX);
    copy_one(&texts, &rule->is.name);
    copy_one(&texts, &rule->is.tenant);
    copy_one(&texts, &rule->is.key);
    copy_one(&texts, &rule->is.model);
    return 0;
}

static int check_rules(const struct budget_rule *rules, unsigned count, struct text *reason)
{
    for (unsigned i = 0; i < count; i++) {
        const struct budget_rule *is = &rules[i];
        const char *what = is->name.len == 0                             ? "it needs a name"
                           : is->name.len > NAME_MAX_LEN                 ? "its name is longer than 64 bytes"
                           : is->limit < 0                               ? "its limit is below 0"
                           : is->shared && is->limit > BUDGET_SHARED_MAX ? "its limit is too large to be shared"
                                                                         : NULL;

        for (unsigned k = 0; k < i && !what; k++)
            if (view_eq(rules[k].name, is->name))
                what = "another one has this name";
        if (!what)
            continue;
        text_printf(reason, "budget \"%.*s\": %s", VIEW_ARG(view_first(is->name, NAME_MAX_LEN)), what);
        return -EINVAL;
    }
    return 0;
}

/* Counts the same things: what was spent stays true. */
static bool is_same(const struct budget_rule *a, const struct budget_rule *b)
{
    return view_eq(a->name, b->name) && a->unit == b->unit && a->window == b->window &&
           a->each_tenant == b->each_tenant && a->each_key == b->each_key && a->each_model == b->each_model &&
           a->shared == b->shared && view_eq(a->tenant, b->tenant) && view_eq(a->key, b->key) &&
           view_eq(a->model, b->model);
}

static struct rule *find_same(struct budgets *budgets, const struct budget_rule *is)
{
    for (unsigned i = 0; i < budgets->rule_count; i++)
        if (!budgets->rules[i]->gone && is_same(&budgets->rules[i]->is, is))
            return budgets->rules[i];
    return NULL;
}

static int make_room(struct budgets *budgets, unsigned more)
{
    unsigned cap = budgets->rule_count + more;
    struct rule **rules;

    if (cap <= budgets->rule_cap)
        return 0;
    rules = heap_resize(budgets->rules, cap * sizeof(struct rule *));
    if (!rules)
        return -ENOMEM;
    budgets->rules = rules;
    budgets->rule_cap = cap;
    return 0;
}

static int apply_rule(struct budgets *budgets, const struct budget_rule *is)
{
    struct rule *rule = find_same(budgets, is);
    int r;

    if (rule) {
        r = say(rule, is);
        rule->kept = r == 0;
        return r;
    }
    rule = heap_zalloc(sizeof(*rule));
    r = rule ? say(rule, is) : -ENOMEM;
    if (r < 0) {
        heap_free(rule);
        return r;
    }
    rule->kept = true;
    budgets->rules[budgets->rule_count++] = rule;
    return 0;
}

int budget_set_rules(struct budgets *budgets, const struct budget_rule *rules, unsigned count, struct text *reason)
{
    int r = check_rules(rules, count, reason);

    if (r < 0)
        return r;
    pthread_mutex_lock(&budgets->lock);
    r = make_room(budgets, count);
    for (unsigned i = 0; i < budgets->rule_count; i++)
        budgets->rules[i]->kept = false;
    for (unsigned i = 0; r == 0 && i < count; i++)
        r = apply_rule(budgets, &rules[i]);
    /* Out of memory: the old rules stay in force beside those new ones that were made: never fewer limits than asked for. */
    for (unsigned i = 0; r == 0 && i < budgets->rule_count; i++)
        budgets->rules[i]->gone = !budgets->rules[i]->kept;
    pthread_mutex_unlock(&budgets->lock);
    if (r < 0)
        text_lit(reason, "out of memory");
    return r;
}

/* ---- making and freeing ---- */

static int make(struct budgets *budgets, const struct budget_options *options)
{
    struct view prefix = options->prefix.len ? options->prefix : VIEW("doorstep:");
    size_t len = options->node.len + prefix.len + 1;
    struct text texts = text_make(heap_alloc(len), len);

    if (!texts.ptr)
        return -ENOMEM;
    budgets->texts = texts.ptr;
    budgets->node = options->node;
    budgets->prefix = prefix;
    copy_one(&texts, &budgets->node);
    copy_one(&texts, &budgets->prefix);
    budgets->redis = options->node.len ? options->redis : NULL;
    budgets->share = MIN(MAX(options->share, 0.0), 1.0);
    budgets->instances_max = options->instances ? options->instances : INSTANCES_DEFAULT;
    budgets->table_size = TABLE_FIRST;
    budgets->table = heap_zalloc(TABLE_FIRST * sizeof(struct budget_instance *));
    return budgets->table ? 0 : -ENOMEM;
}

int budget_new(const struct budget_options *options, struct budgets **ret, struct text *reason)
{
    unsigned loops = MAX(options->loops, 1u);
    struct budgets *budgets = heap_zalloc(sizeof(*budgets) + loops * sizeof(budgets->leases[0]));
    int r;

    if (!budgets) {
        text_lit(reason, "out of memory");
        return -ENOMEM;
    }
    pthread_mutex_init(&budgets->lock, NULL);
    budgets->loops = loops;
    for (unsigned i = 0; i < loops; i++)
        list_init(&budgets->leases[i]);
    r = make(budgets, options);
    if (r < 0)
        text_lit(reason, "out of memory");
    else
        r = budget_set_rules(budgets, options->rules, options->count, reason);
    if (r < 0) {
        budget_free(budgets);
        return r;
    }
    *ret = budgets;
    return 0;
}

void budget_free(struct budgets *budgets)
{
    if (!budgets)
        return;
    for (unsigned i = 0; i < budgets->loops; i++)
        CHECK(list_empty(&budgets->leases[i]));
    for (unsigned i = 0; budgets->table && i < budgets->table_size; i++)
        while (budgets->table[i]) {
            struct budget_instance *instance = budgets->table[i];

            budgets->table[i] = instance->next;
            heap_free(instance);
        }
    for (unsigned i = 0; i < budgets->rule_count; i++) {
        heap_free(budgets->rules[i]->texts);
        heap_free(budgets->rules[i]);
    }
    heap_free(budgets->rules);
    heap_free(budgets->table);
    heap_free(budgets->texts);
    pthread_mutex_destroy(&budgets->lock);
    heap_free(budgets);
}

/* ---- from the ledger ---- */

struct restore {
    struct budgets *budgets;
    int64_t now_ms;
    bool failed;
};

static void restore_sum(const struct ledger_sum *sum, void *arg)
{
    struct restore *restore = arg;
    struct budgets *budgets = restore->budgets;
    struct budget_identity identity = { .tenant = sum->tenant, .key = sum->key, .model = sum->model };

    pthread_mutex_lock(&budgets->lock);
    for (unsigned i = 0; i < budgets->rule_count; i++) {
        struct rule *rule = budgets->rules[i];
        int64_t window = budget_window_of(rule->is.window, restore->now_ms);
        struct budget_instance *instance;

        if (rule->restored || !budget_fits(rule, &identity) ||
            budget_window_of(rule->is.window, sum->day * DAY_MS) != window)
            continue;
        instance = budget_instance_get(budgets, rule, &identity, restore->now_ms);
        if (instance)
            budget_slot(instance, window)->spent += rule->is.unit == BUDGET_MONEY ? sum->cost : (int64_t)sum->tokens;
        else
            restore->failed = true;
    }
    pthread_mutex_unlock(&budgets->lock);
}

int budget_restore(struct budgets *budgets, struct state *state, int64_t now_ms)
{
    struct restore restore = { .budgets = budgets, .now_ms = now_ms };
    int32_t first = INT32_MAX;
    int r;

    pthread_mutex_lock(&budgets->lock);
    for (unsigned i = 0; i < budgets->rule_count; i++)
        if (!budgets->rules[i]->restored && !budgets->rules[i]->gone)
            first = MIN(first, budget_first_day(budgets->rules[i]->is.window, now_ms));
    pthread_mutex_unlock(&budgets->lock);
    if (first == INT32_MAX)
        return 0;
    r = state_ledger_sums(state, first, INT32_MAX, restore_sum, &restore);
    if (r == 0 && restore.failed)
        r = -ENOMEM;
    pthread_mutex_lock(&budgets->lock);
    for (unsigned i = 0; i < budgets->rule_count; i++)
        budgets->rules[i]->restored = true;
    pthread_mutex_unlock(&budgets->lock);
    return r;
}
