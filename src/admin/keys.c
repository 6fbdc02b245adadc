/* API keys over the admin listener. A change is answered once it is durable; the text of a new key is in that one answer and nowhere
 * else. */
#include "admin/answer.h"
#include "ai/keys.h"
#include "base/heap.h"

#include <errno.h>

struct key_wait {
    struct admin_wait wait;
    struct ai_keys_job *job;
    bool revoking;
};

static void put_identity(struct text *out, const struct ai_identity *identity)
{
    char memory[16];
    struct text prefix = TEXT_ON(memory);

    text_lit(&prefix, "ds_");
    text_put(&prefix, identity->prefix);
    member_text(out, "id", identity->id);
    member_text(out, "prefix", text_view(&prefix));
    member_text(out, "name", identity->name);
    member_text(out, "tenant", identity->tenant);
    member_text(out, "scopes", identity->scopes);
    member_text(out, "rules", identity->rules);
    member_i64(out, "expires", identity->expires_s);
}

/* ---- the list ---- */

static void put_info(const struct ai_key_info *info, void *arg)
{
    struct text *out = arg;

    member_comma(out);
    text_char(out, '{');
    put_identity(out, &info->identity);
    member_i64(out, "created", info->created_s);
    member_i64(out, "revoked", info->revoked_s);
    member_i64(out, "used", info->used_s);
    text_char(out, '}');
}

static void write_list(struct text *out, void *arg)
{
    text_lit(out, "{\"keys\":[");
    ai_keys_list(arg, put_info, out);
    text_lit(out, "]}\n");
}

static bool has_keys(const struct admin *admin, struct admin_answer *ret)
{
    if (!admin->ai_keys)
        answer_error(ret, 404, "this node has no API keys: its configuration has no `ai`");
    return admin->ai_keys != NULL;
}

void admin_list_keys(struct admin *admin, struct admin_answer *ret)
{
    if (has_keys(admin, ret))
        answer_write(ret, 200, "application/json", write_list, admin->ai_keys);
}

/* ---- changes ---- */

static void write_result(struct text *out, void *arg)
{
    const struct ai_keys_result *result = arg;

    text_char(out, '{');
    if (result->key.len)
        member_text(out, "key", result->key);
    else
        member_bool(out, "revoked", true);
    put_identity(out, &result->identity);
    member_bool(out, "durable", result->durable);
    text_lit(out, "}\n");
}

static bool is_done(struct admin_wait *base, struct admin_answer *ret)
{
    struct key_wait *wait = CONTAINER_OF(base, struct key_wait, wait);
    struct ai_keys_result result;

    if (!ai_keys_job_done(wait->job, &result))
        return false;
    if (result.result == 0)
        answer_write(ret, 200, "application/json", write_result, &result);
    else if (wait->revoking)
        answer_error(ret, 503,
                     "the key is refused from now on, but that could not be kept: after a restart it counts again");
    else
        answer_error(ret, 503, "the key could not be kept, so it does not count");
    return true;
}

static void leave(struct admin_wait *base)
{
    struct key_wait *wait = CONTAINER_OF(base, struct key_wait, wait);

    ai_keys_job_leave(wait->job);
    heap_free(wait);
}

static struct key_wait *wait_new(bool revoking)
{
    struct key_wait *wait = heap_zalloc(sizeof(*wait));

    if (wait) {
        wait->wait.done = is_done;
        wait->wait.leave = leave;
        wait->revoking = revoking;
    }
    return wait;
}

/* After the change was begun with `r`. */
static void answer_begun(struct key_wait *wait, int r, struct admin_answer *ret)
{
    if (r == 0) {
        ret->wait = &wait->wait;
        return;
    }
    heap_free(wait);
    if (r == -EINVAL)
        answer_error(ret, 400,
                     "a key wants a name of 1 to 128 bytes; tenant and rules are of letters, digits, dot, dash and "
                     "underscore; scopes are separated by commas");
    else if (r == -ENOENT)
        answer_error(ret, 404, "no such key: give its id or its prefix, never the key");
    else if (r == -ENOSPC)
        answer_error(ret, 503, "there are too many keys");
    else
        answer_error(ret, 503, "out of memory");
}

/* False, and answered, when the time is none. */
static bool read_expiry(const struct http_request *request, int64_t now_s, int64_t *ret, struct admin_answer *answer)
{
    char memory[24];
    struct text text = TEXT_ON(memory);
    uint64_t seconds = 0;

    if (answer_param(request, VIEW("expires"), &text) &&
        (text.overflow || !view_parse_u64(text_view(&text), &seconds) || seconds > (uint64_t)1 << 40)) {
        answer_error(answer, 400, "expires wants seconds from now on; 0 or nothing: never");
        return false;
    }
    *ret = seconds ? now_s + (int64_t)seconds : 0;
    return true;
}

void admin_create_key(struct admin *admin, struct loop *loop, const struct http_request *request,
                      struct admin_answer *ret)
{
    char memory[4][512];
    struct text name = TEXT_ON(memory[0]), tenant = TEXT_ON(memory[1]), scopes = TEXT_ON(memory[2]),
                rules = TEXT_ON(memory[3]);
    int64_t now_s = loop_wall_ms(loop) / 1000;
    struct ai_key_wish wish = { 0 };
    struct key_wait *wait;

    if (!has_keys(admin, ret) || !read_expiry(request, now_s, &wish.expires_s, ret))
        return;
    answer_param(request, VIEW("name"), &name);
    answer_param(request, VIEW("tenant"), &tenant);
    answer_param(request, VIEW("scopes"), &scopes);
    answer_param(request, VIEW("rules"), &rules);
    wait = wait_new(false);
    wish.name = text_view(&name);
    wish.tenant = text_view(&tenant);
    wish.scopes = text_view(&scopes);
    wish.rules = text_view(&rules);
    answer_begun(wait,
                 !wait ? -ENOMEM
                 : name.overflow || tenant.overflow || scopes.overflow || rules.overflow
                     ? -EINVAL
                     : ai_keys_create(admin->ai_keys, loop, &wish, now_s, ret->task, &wait->job),
                 ret);
}

void admin_revoke_key(struct admin *admin, struct loop *loop, const struct http_request *request,
                      struct admin_answer *ret)
{
    char memory[64];
    struct text which = TEXT_ON(memory);
    struct key_wait *wait;

    if (!has_keys(admin, ret))
        return;
    answer_param(request, VIEW("key"), &which);
    wait = wait_new(true);
    answer_begun(
        wait,
        wait ? ai_keys_revoke(admin->ai_keys, loop, text_view(&which), loop_wall_ms(loop) / 1000, ret->task, &wait->job)
             : -ENOMEM,
        ret);
}
