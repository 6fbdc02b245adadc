/* API keys: what is made is found, survives a restart, is never kept as text; what is wrong, revoked or over is refused. */
#include "ai/keys.h"

#include "base/clock.h"
#include "base/heap.h"

#include <errno.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <pthread.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW 1790000000

static char folder[64], path[96];
static struct state *state;
static struct ai_keys *keys;
static struct ai_keys_job *job;
static struct ai_keys_result result;
static char key_text[AI_KEY_LEN];

static int make_folder(void **unused)
{
    (void)unused;
    snprintf(folder, sizeof(folder), "/tmp/doorstep-keys-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/state", folder);
    return 0;
}

static int remove_folder(void **unused)
{
    char command[128];

    (void)unused;
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

static void start(void)
{
    char memory[200];
    struct text reason = TEXT_ON(memory);

    assert_int_equal(state_open(view_str(path), &state, &reason), 0);
    assert_int_equal(ai_keys_open(state, &keys), 0);
}

static void stop(void)
{
    state_close(state);
    ai_keys_free(keys);
}

static void wait_for_job(struct task *task)
{
    if (ai_keys_job_done(job, &result))
        loop_stop(task->loop);
}

/* Makes (which empty) or revokes a key and waits until that is done. The result is in `result`, the text in key_text. */
static int change(const struct ai_key_wish *wish, struct view which)
{
    struct task waiter;
    struct loop *loop;
    int r;

    assert_int_equal(loop_new(&loop, 0), 0);
    task_init(&waiter, loop, wait_for_job);
    r = wish ? ai_keys_create(keys, loop, wish, NOW, &waiter, &job)
             : ai_keys_revoke(keys, loop, which, NOW, &waiter, &job);
    if (r == 0) {
        loop_run(loop);
        if (result.key.len == AI_KEY_LEN)
            memcpy(key_text, result.key.ptr, AI_KEY_LEN);
        ai_keys_job_leave(job);
    }
    task_cancel(&waiter);
    loop_free(loop);
    return r;
}

static struct view text_of_key(void)
{
    return view_make(key_text, AI_KEY_LEN);
}

static int make(const char *name)
{
    struct ai_key_wish wish = { .name = view_str(name), .tenant = VIEW("acme") };

    return change(&wish, VIEW_NONE);
}

static int find(struct view text, struct ai_identity *ret)
{
    return ai_keys_find(keys, text, NOW + 1, ret);
}

static void made_keys_are_found(void **unused)
{
    /* A new key is durable, has the form that is promised, is found with what it was made for, also after a restart. */
    struct ai_key_wish wish = { .name = VIEW("build server é"),
                                .tenant = VIEW("acme"),
                                .scopes = VIEW("inference,x:y"),
                                .rules = VIEW("strict"),
                                .expires_s = NOW + 100 };
    struct ai_identity identity;

    (void)unused;
    start();
    assert_int_equal(change(&wish, VIEW_NONE), 0);
    assert_int_equal(result.result, 0);
    assert_true(result.durable);
    assert_true(ai_keys_looks_like_one(text_of_key()));
    assert_true(view_starts_with(text_of_key(), VIEW("ds_")));
    for (int round = 0; round < 2; round++) {
        assert_int_equal(find(text_of_key(), &identity), 0);
        assert_true(view_eq(identity.name, wish.name) && view_eq(identity.tenant, wish.tenant));
        assert_true(view_eq(identity.rules, wish.rules) && view_eq(identity.scopes, wish.scopes));
        assert_true(view_eq(identity.prefix, view_make(key_text + 3, 8)));
        assert_true(ai_identity_may(&identity, VIEW("inference")) && ai_identity_may(&identity, VIEW("x:y")));
        assert_false(ai_identity_may(&identity, VIEW("admin")) || ai_identity_may(&identity, VIEW("")) ||
                     ai_identity_may(&identity, VIEW("infer")));
        assert_int_equal(ai_keys_find(keys, text_of_key(), NOW + 99, &identity), 0);
        assert_int_equal(ai_keys_find(keys, text_of_key(), NOW + 100, &identity), -EKEYEXPIRED);
        stop();
        start();
    }
    stop();
}

static void wrong_keys_are_refused(void **unused)
{
    /* No single wrong character passes, nor a part, nor more, nor another node's key. */
    struct ai_identity identity;
    char wrong[AI_KEY_LEN + 1];

    (void)unused;
    start();
    assert_int_equal(make("one"), 0);
    for (size_t i = 0; i < AI_KEY_LEN; i++) {
        memcpy(wrong, key_text, AI_KEY_LEN);
        wrong[i] = wrong[i] == 'x' ? 'y' : 'x';
        assert_int_equal(find(view_make(wrong, AI_KEY_LEN), &identity), -ENOENT);
        assert_int_equal(find(view_make(key_text, i), &identity), -ENOENT);
    }
    memcpy(wrong, key_text, AI_KEY_LEN);
    wrong[AI_KEY_LEN] = 'x';
    assert_int_equal(find(view_make(wrong, AI_KEY_LEN + 1), &identity), -ENOENT);
    stop();
    assert_int_equal(unlink(path), 0);
    start();
    assert_int_equal(find(text_of_key(), &identity), -ENOENT);
    stop();
}

static void revoked_keys_stay_revoked(void **unused)
{
    /* By prefix or id, at once and after a restart; other keys are not touched; unknown ones are said to be. */
    struct ai_identity identity;
    char first[AI_KEY_LEN], id[16];

    (void)unused;
    start();
    assert_int_equal(make("one"), 0);
    memcpy(first, key_text, AI_KEY_LEN);
    assert_int_equal(make("two"), 0);
    memcpy(id, result.identity.id.ptr, sizeof(id));
    assert_int_equal(change(NULL, VIEW("nonsense")), -ENOENT);
    assert_int_equal(change(NULL, VIEW("")), -ENOENT);
    assert_int_equal(change(NULL, view_make(first, 11)), 0);
    assert_true(result.durable && result.key.len == 0);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(find(view_make(first, AI_KEY_LEN), &identity), -EKEYREVOKED);
        assert_int_equal(find(text_of_key(), &identity), 0);
        stop();
        start();
    }
    assert_int_equal(change(NULL, view_make(id, sizeof(id))), 0);
    assert_int_equal(find(text_of_key(), &identity), -EKEYREVOKED);
    stop();
}

struct seen {
    unsigned count, revoked;
    int64_t used_s;
};

static void see(const struct ai_key_info *info, void *arg)
{
    struct seen *seen = arg;

    seen->count++;
    seen->revoked += info->revoked_s != 0;
    seen->used_s = info->used_s;
    assert_int_equal(info->created_s, NOW);
}

static void keys_are_listed(void **unused)
{
    /* The list has every key with when it was made, revoked and used; what is kept on disk never has a key's secret. */
    struct ai_identity identity;
    struct seen seen = { 0 };
    char *value;
    size_t len;

    (void)unused;
    start();
    assert_int_equal(make("one"), 0);
    assert_int_equal(change(NULL, view_make(key_text + 3, 8)), 0);
    assert_int_equal(make("two"), 0);
    assert_int_equal(find(text_of_key(), &identity), 0);
    ai_keys_list(keys, see, &seen);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.revoked, 1);
    assert_int_equal(seen.used_s, NOW + 1);
    assert_int_equal(state_get(state, VIEW("ai.keys"), &value, &len), 0);
    assert_non_null(memmem(value, len, key_text + 3, 8));
    assert_null(memmem(value, len, key_text + 11, 8));
    heap_free(value);
    stop();
}

static void wishes_are_checked(void **unused)
{
    /* Names, tenants and scopes that could be mistaken for something else in a list or in a cache's key are refused. */
    static const struct ai_key_wish wrong[] = {
        { .name = { "", 0 } },
        { .name = { "a\tb", 3 } },
        { .name = { "a\nb", 3 } },
        { .name = { "a", 1 }, .tenant = { "a:b", 3 } },
        { .name = { "a", 1 }, .tenant = { "a\0b", 3 } },
        { .name = { "a", 1 }, .tenant = { ".a", 2 } },
        { .name = { "a", 1 }, .tenant = { "a b", 3 } },
        { .name = { "a", 1 }, .scopes = { "a b", 3 } },
        { .name = { "a", 1 }, .rules = { "a/b", 3 } },
        { .name = { "a", 1 }, .expires_s = -1 },
    };

    (void)unused;
    start();
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(change(&wrong[i], VIEW_NONE), -EINVAL);
    stop();
}

static void damage_is_noticed(void **unused)
{
    /* A list that is not ours stops the start: silently losing keys would lock clients out, or let revoked ones in. */
    static const char *const lists[] = { "", "nonsense", "doorstep keys 1\nx\n",
                                         "doorstep keys 1\n0123456789abcdef\tabcdefgh\t00\t1\t0\t0\tt\ts\t\\\tn\n" };
    char memory[200];
    struct text reason = TEXT_ON(memory);

    (void)unused;
    for (size_t i = 1; i < ARRAY_LEN(lists); i++) {
        struct state_write write = { .name = VIEW("ai.keys"), .value = view_str(lists[i]) };

        assert_int_equal(state_open(view_str(path), &state, &reason), 0);
        assert_int_equal(state_write_wait(state, &write), 0);
        assert_int_equal(ai_keys_open(state, &keys), -EBADMSG);
        state_close(state);
    }
}

static void without_a_state_keys_live_as_long_as_the_node(void **unused)
{
    /* Nothing is kept, and the answer says so. */
    struct ai_identity identity;

    (void)unused;
    assert_int_equal(ai_keys_open(NULL, &keys), 0);
    assert_int_equal(make("one"), 0);
    assert_int_equal(result.result, 0);
    assert_false(result.durable);
    assert_int_equal(find(text_of_key(), &identity), 0);
    assert_int_equal(change(NULL, view_make(key_text + 3, 8)), 0);
    assert_int_equal(find(text_of_key(), &identity), -EKEYREVOKED);
    ai_keys_free(keys);
}

static void memory_may_run_out(void **unused)
{
    /* Whichever allocation fails, a change says so or is whole, and everything before it stays. */
    struct ai_identity identity;
    char first[AI_KEY_LEN];

    (void)unused;
    assert_int_equal(ai_keys_open(NULL, &keys), 0);
    assert_int_equal(make("one"), 0);
    memcpy(first, key_text, AI_KEY_LEN);
    for (unsigned long nth = 1; nth < 8; nth++) {
        struct ai_key_wish wish = { .name = VIEW("more") };
        struct task waiter;
        struct loop *loop;
        int r;

        assert_int_equal(loop_new(&loop, 0), 0);
        task_init(&waiter, loop, wait_for_job);
        heap_fault(nth, 0);
        r = ai_keys_create(keys, loop, &wish, NOW, &waiter, &job);
        heap_fault(0, 0);
        assert_true(r == 0 || r == -ENOMEM);
        if (r == 0) {
            assert_true(ai_keys_job_done(job, &result));
            assert_int_equal(find(result.key, &identity), 0);
            ai_keys_job_leave(job);
        }
        task_cancel(&waiter);
        loop_free(loop);
        assert_int_equal(find(view_make(first, AI_KEY_LEN), &identity), 0);
    }
    ai_keys_free(keys);
}

static void *look_up(void *arg)
{
    struct ai_identity identity;

    for (int i = 0; i < 20000; i++)
        assert_int_equal(find(view_make(arg, AI_KEY_LEN), &identity), 0);
    return NULL;
}

static void threads_look_up_while_keys_come(void **unused)
{
    /* Readers on other threads find their key all the time while others are made. */
    char first[AI_KEY_LEN];
    pthread_t threads[3];

    (void)unused;
    assert_int_equal(ai_keys_open(NULL, &keys), 0);
    assert_int_equal(make("one"), 0);
    memcpy(first, key_text, AI_KEY_LEN);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look_up, first), 0);
    for (int i = 0; i < 200; i++)
        assert_int_equal(make("more"), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    if (getenv("DOORSTEP_TIMES")) {
        struct ai_identity identity;
        uint64_t started = clock_mono_us();

        for (int i = 0; i < 1000000; i++)
            (void)!find(view_make(first, AI_KEY_LEN), &identity);
        printf("one lookup: %llu ns\n", (unsigned long long)(clock_mono_us() - started) / 1000);
    }
    ai_keys_free(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(made_keys_are_found, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(wrong_keys_are_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(revoked_keys_stay_revoked, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(keys_are_listed, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(wishes_are_checked, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(damage_is_noticed, make_folder, remove_folder),
        cmocka_unit_test(without_a_state_keys_live_as_long_as_the_node),
        cmocka_unit_test(memory_may_run_out),
        cmocka_unit_test(threads_look_up_while_keys_come),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
