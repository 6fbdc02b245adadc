/* Budgets that several nodes spend: a hash in Redis for each budget and window, with a field for what all nodes leased ("*") and one
 * for each node. A node spends what it leased without asking, and leases more before it is used up.
 *
 * All numbers are absolute: a node says what it has used, and hears what it has leased. So a call whose answer was lost, a node that
 * was killed and a Redis that forgot everything are put right by the next call (what was spent is a fact, and counts even when the
 * budget is exceeded by it).
 *
 * A lease is one call of the loop whose request found the slice small; at most one for each budget is under way. */
#include "ai/budget_internal.h"

#include "base/heap.h"

#include <errno.h>

#define TIMEOUT_MS 200u
/* After a refusal or a failure Redis is not asked again before this. */
#define RETRY_MS 1000u
/* A slice is this part of what is left for all. */
#define SLICE_PART 50
#define KEY_MAX 4096u
#define NUMBER_MAX 24u
#define COMMAND_ARGS 12u
#define COMMAND_KEY 3
/* A hash is kept after its window's end, for requests that began in it. */
#define KEPT_S 86400

struct budget_lease {
    struct redis_call call;
    struct task task;
    struct budgets *budgets;
    struct budget_instance *instance;
    int64_t window, used, want;
    struct node link;
};

/* KEYS: the hash. ARGV: limit, used by the node, what it wants beyond that, 1: it gives back the rest, node, end of life (0: none), what
 * the node and all had leased as it last heard.
 * Answers: leased by this node, leased by all.
 *
 * A node that had more than is here for it knows that Redis forgot, and what all had leased: so much stays leased, as "?" until the others
 * come and claim their parts of it. */
static const char script[] =
    "local function get(f) return tonumber(redis.call('HGET',KEYS[1],f) or '0') end "
    "local all,mine,lost=get('*'),get('n:'..ARGV[5]),get('?') "
    "local limit,used,want,had,heard=tonumber(ARGV[1]),tonumber(ARGV[2]),tonumber(ARGV[3]),tonumber(ARGV[7]),tonumber(ARGV[8]) "
    "if mine<had and all<heard then lost=lost+heard-all all=heard end "
    "local claim=math.min(lost,math.max(had,used)-mine) "
    "if claim>0 then lost=lost-claim mine=mine+claim end "
    "if mine<used then all=all+used-mine mine=used end "
    "if ARGV[4]=='1' then all=all-(mine-used) mine=used "
    "elseif mine-used<want then local give=math.min(want-(mine-used),math.max(limit-all,0)) "
    "all=all+give mine=mine+give end "
    "redis.call('HSET',KEYS[1],'*',string.format('%.0f',all),'n:'..ARGV[5],string.format('%.0f',mine)) "
    "if lost>0 then redis.call('HSET',KEYS[1],'?',string.format('%.0f',lost)) else redis.call('HDEL',KEYS[1],'?') end "
    "if ARGV[6]~='0' then redis.call('EXPIREAT',KEYS[1],ARGV[6]) end "
    "return {mine,all}";

/* ---- in hand ---- */

static int64_t in_hand(const struct budgets *budgets, const struct budget_instance *instance, const struct slot *slot)
{
    int64_t more = instance->unavailable ? (int64_t)((double)instance->rule->is.limit * budgets->share) : 0;

    return slot->granted + more - slot->spent - slot->reserved;
}

/* A part of what nobody has leased yet, and never less than two of these requests. */
static int64_t slice_of(const struct budget_instance *instance, const struct slot *slot, int64_t amount)
{
    int64_t left = MAX(instance->rule->is.limit - slot->everywhere, 0);

    return MAX(left / SLICE_PART, 2 * amount);
}

enum share_answer budget_share_ask(struct budgets *budgets, struct budget_instance *instance, struct slot *slot,
                                   int64_t amount, uint64_t mono_ms, bool *ret_lease)
{
    int64_t hand = in_hand(budgets, instance, slot);
    bool resting = (instance->dry || instance->unavailable) && mono_ms < instance->retry_ms;

    *ret_lease = !instance->leasing && !resting && !budgets->closing &&
                 (!slot->known || hand - amount < slice_of(instance, slot, amount) / 2);
    if (hand >= amount) {
        instance->waiting_ms = 0;
        return SHARE_ENOUGH;
    }
    if (instance->dry || instance->unavailable || budgets->closing)
        return SHARE_EXHAUSTED;
    if (!instance->waiting_ms)
        instance->waiting_ms = MAX(mono_ms, 1);
    return mono_ms - instance->waiting_ms > BUDGET_WAIT_MS ? SHARE_EXHAUSTED : SHARE_COME_BACK;
}

/* ---- the call ---- */

static void put_part(struct text *to, struct view v)
{
    text_char(to, ':');
    for (size_t i = 0; i < v.len; i++)
        if (strchr(":{}%", v.ptr[i]) || v.ptr[i] <= ' ')
            text_printf(to, "%%%02X", (unsigned char)v.ptr[i]);
        else
            text_char(to, v.ptr[i]);
}

/* doorstep:budget:{NAME:TENANT:KEY:MODEL}:WINDOW */
static void put_key(const struct budgets *budgets, const struct budget_instance *instance, int64_t window,
                    struct text *to)
{
    text_put(to, budgets->prefix);
    text_lit(to, "budget:{");
    text_put(to, budget_unit_name(instance->rule->is.unit));
    put_part(to, instance->rule->is.name);
    put_part(to, instance->tenant);
    put_part(to, instance->key);
    put_part(to, instance->model);
    text_lit(to, "}:");
    text_put(to, budget_window_name(instance->rule->is.window));
    text_i64(to, window);
}

struct command {
    char key[KEY_MAX], numbers[6][NUMBER_MAX];
    struct view args[COMMAND_ARGS];
};

static struct view number(char memory[NUMBER_MAX], int64_t value)
{
    struct text text = text_make(memory, NUMBER_MAX);

    text_i64(&text, value);
    return text_view(&text);
}

/* With the lock held. False: the key is too long. */
static bool make_command(const struct budgets *budgets, const struct budget_instance *instance, const struct slot *slot,
                         int64_t want, bool give_back, struct command *ret)
{
    const struct budget_rule *is = &instance->rule->is;
    int64_t end_ms = budget_window_end_ms(is->window, slot->window);
    struct text key = TEXT_ON(ret->key);

    put_key(budgets, instance, slot->window, &key);
    ret->args[0] = VIEW("EVAL");
    ret->args[1] = VIEW(script);
    ret->args[2] = VIEW("1");
    ret->args[3] = text_view(&key);
    ret->args[4] = number(ret->numbers[0], is->limit);
    ret->args[5] = number(ret->numbers[1], slot->spent + slot->reserved);
    ret->args[6] = number(ret->numbers[2], want);
    ret->args[7] = give_back ? VIEW("1") : VIEW("0");
    ret->args[8] = budgets->node;
    ret->args[9] = number(ret->numbers[3], end_ms ? end_ms / 1000 + KEPT_S : 0);
    ret->args[10] = number(ret->numbers[4], slot->granted);
    ret->args[11] = number(ret->numbers[5], slot->everywhere);
    return !key.overflow;
}

static struct slot *find_slot(struct budget_instance *instance, int64_t window)
{
    for (unsigned i = 0; i < ARRAY_LEN(instance->slots); i++)
        if (instance->slots[i].window == window)
            return &instance->slots[i];
    return NULL;
}

/* Takes in what Redis said; error: it said nothing of use. */
static void take_in(struct budget_lease *lease, bool error, int64_t mine, int64_t all)
{
    struct budget_instance *instance = lease->instance;
    uint64_t now_ms = loop_now_ms(lease->task.loop);
    struct slot *slot;

    pthread_mutex_lock(&lease->budgets->lock);
    instance->leasing = false;
    instance->waiting_ms = 0;
    slot = find_slot(instance, lease->window);
    if (error) {
        instance->unavailable = true;
        instance->retry_ms = now_ms + RETRY_MS;
    } else {
        instance->unavailable = false;
        if (slot) {
            slot->known = true;
            slot->granted = mine;
            slot->everywhere = all;
        }
        if (slot == &instance->slots[0]) {
            instance->dry = mine - lease->used < lease->want;
            instance->retry_ms = now_ms + RETRY_MS;
        }
    }
    pthread_mutex_unlock(&lease->budgets->lock);
}

static void lease_end(struct budget_lease *lease)
{
    redis_call_end(&lease->call);
    task_cancel(&lease->task);
    list_remove(&lease->link);
    heap_free(lease);
}

static void lease_run(struct task *task)
{
    struct budget_lease *lease = CONTAINER_OF(task, struct budget_lease, task);
    const struct resp_value *reply;
    bool good;

    if (lease->call.state == REDIS_WAITING)
        return;
    reply = lease->call.error ? NULL : lease->call.reply;
    good = reply && reply->type == RESP_ARRAY && reply->count == 2 && reply->items[0].type == RESP_INTEGER &&
           reply->items[1].type == RESP_INTEGER && reply->items[0].integer >= 0;
    take_in(lease, !good, good ? reply->items[0].integer : 0, good ? reply->items[1].integer : 0);
    lease_end(lease);
}

static int lease_send(struct budget_lease *lease, int64_t amount)
{
    struct budgets *budgets = lease->budgets;
    struct command not_zeroed command;
    struct slot *slot;
    bool good = false;

    pthread_mutex_lock(&budgets->lock);
    slot = find_slot(lease->instance, lease->window);
    if (slot) {
        lease->used = slot->spent + slot->reserved;
        lease->want = slice_of(lease->instance, slot, amount);
        good = make_command(budgets, lease->instance, slot, lease->want, false, &command);
    }
    pthread_mutex_unlock(&budgets->lock);
    if (!good)
        return -EINVAL;
    return redis_send(budgets->redis, &lease->task, &lease->call, command.args, COMMAND_ARGS, COMMAND_KEY, TIMEOUT_MS);
}

/* Not even a lease could be made: as when Redis does not answer. */
static void no_lease(struct budgets *budgets, struct budget_instance *instance, uint64_t now_ms)
{
    pthread_mutex_lock(&budgets->lock);
    instance->leasing = false;
    instance->waiting_ms = 0;
    instance->unavailable = true;
    instance->retry_ms = now_ms + RETRY_MS;
    pthread_mutex_unlock(&budgets->lock);
}

void budget_lease_begin(struct budgets *budgets, struct loop *loop, struct budget_instance *instance, int64_t window,
                        int64_t amount)
{
    struct budget_lease *lease = heap_zalloc(sizeof(*lease));

    if (!lease) {
        no_lease(budgets, instance, loop_now_ms(loop));
        return;
    }
    lease->budgets = budgets;
    lease->instance = instance;
    lease->window = window;
    task_init(&lease->task, loop, lease_run);
    list_push(&budgets->leases[loop_index(loop)], &lease->link);
    if (lease_send(lease, amount) < 0) {
        take_in(lease, true, 0, 0);
        lease_end(lease);
    }
}

/* ---- the end ---- */

static void give_back_one(struct budgets *budgets, struct loop *loop, struct budget_instance *instance)
{
    struct slot *slot = &instance->slots[0];
    struct command not_zeroed command;

    if (!instance->rule->is.shared || !slot->known || slot->granted <= slot->spent + slot->reserved ||
        !make_command(budgets, instance, slot, 0, true, &command))
        return;
    if (redis_forget(budgets->redis, loop, command.args, COMMAND_ARGS, COMMAND_KEY, NULL) == 0)
        slot->granted = slot->spent + slot->reserved;
}

void budget_give_back(struct budgets *budgets, struct loop *loop)
{
    if (!budgets->redis)
        return;
    pthread_mutex_lock(&budgets->lock);
    budgets->closing = true;
    for (unsigned i = 0; i < budgets->table_size; i++)
        for (struct budget_instance *instance = budgets->table[i]; instance; instance = instance->next)
            give_back_one(budgets, loop, instance);
    pthread_mutex_unlock(&budgets->lock);
}

void budget_loop_close(struct budgets *budgets, struct loop *loop)
{
    struct node *leases = &budgets->leases[loop_index(loop)];

    pthread_mutex_lock(&budgets->lock);
    budgets->closing = true;
    pthread_mutex_unlock(&budgets->lock);
    while (!list_empty(leases)) {
        struct budget_lease *lease = CONTAINER_OF(leases->next, struct budget_lease, link);

        take_in(lease, true, 0, 0);
        lease_end(lease);
    }
}
