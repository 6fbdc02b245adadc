/* The table of keys, read without a lock, and its changes, which become durable before anybody is told.
 *
 * A record is found by its prefix in an open-addressing table that is never more than a third full and from which nothing is taken;
 * then the keyed hash decides. Hashing costs less than half a microsecond, so there is no cache of keys that were right before: such a cache
 * would have to hold keys.
 *
 * A change is written as the whole list under one name; writes are committed in their order, so the last one holds everything. */
#include "ai/keys_internal.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/heap.h"
#include "base/key.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#define SECRET_LEN 32u
#define RANDOM_LEN 32u /* of a key, behind the prefix */
#define CHECK_LEN 6u   /* 62^6 is more than 2^32 */
#define START VIEW("ds_")
#define NAME_SECRET VIEW("ai.keys.secret")
#define NAME_LIST VIEW("ai.keys")
#define LIST_HEAD VIEW("doorstep keys 1\n")
#define LIST_MAX ((size_t)16 << 20)

static_assert(3 + KEYS_PREFIX_LEN + RANDOM_LEN + CHECK_LEN == AI_KEY_LEN, "the parts make the whole");

static const char base62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* ---- keyed hashes ---- */

static EVP_MAC_CTX *mac_new(const uint8_t secret[SECRET_LEN])
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                            OSSL_PARAM_construct_end() };
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;

    EVP_MAC_free(mac);
    if (ctx && EVP_MAC_init(ctx, secret, SECRET_LEN, params))
        return ctx;
    EVP_MAC_CTX_free(ctx);
    return NULL;
}

static EVP_MAC_CTX *mac_take(struct ai_keys *keys)
{
    for (size_t i = 0; i < KEYS_MACS; i++)
        if (atomic_load_explicit(&keys->idle[i], memory_order_relaxed)) {
            EVP_MAC_CTX *ctx = atomic_exchange_explicit(&keys->idle[i], NULL, memory_order_acquire);

            if (ctx)
                return ctx;
        }
    return EVP_MAC_CTX_dup(keys->mac);
}

static void mac_give(struct ai_keys *keys, EVP_MAC_CTX *ctx)
{
    for (size_t i = 0; i < KEYS_MACS; i++) {
        EVP_MAC_CTX *none = NULL;

        if (!atomic_load_explicit(&keys->idle[i], memory_order_relaxed) &&
            atomic_compare_exchange_strong_explicit(&keys->idle[i], &none, ctx, memory_order_release,
                                                    memory_order_relaxed))
            return;
    }
    EVP_MAC_CTX_free(ctx);
}

/* False when memory is out. */
static bool hash_of(struct ai_keys *keys, struct view text, uint8_t ret[KEYS_HASH_LEN])
{
    EVP_MAC_CTX *ctx = mac_take(keys);
    size_t len = 0;
    bool done;

    if (!ctx)
        return false;
    done = EVP_MAC_init(ctx, NULL, 0, NULL) && EVP_MAC_update(ctx, (const unsigned char *)text.ptr, text.len) &&
           EVP_MAC_final(ctx, ret, &len, KEYS_HASH_LEN) && len == KEYS_HASH_LEN;
    mac_give(keys, ctx);
    return done;
}

/* ---- the text of a key ---- */

static void put_check(struct view text, char ret[CHECK_LEN])
{
    uint32_t sum = crc32c(0, text.ptr, text.len);

    for (unsigned i = 0; i < CHECK_LEN; i++) {
        ret[i] = base62[sum % 62];
        sum /= 62;
    }
}

bool ai_keys_looks_like_one(struct view text)
{
    return text.len == AI_KEY_LEN && view_starts_with(text, START);
}

static bool is_well_formed(struct view text)
{
    char check[CHECK_LEN];

    if (!ai_keys_looks_like_one(text))
        return false;
    put_check(view_first(text, AI_KEY_LEN - CHECK_LEN), check);
    return memcmp(check, text.ptr + AI_KEY_LEN - CHECK_LEN, CHECK_LEN) == 0;
}

/* Each of 62 characters as likely as any other: bytes from 248 on are thrown away. False without random bytes. */
static bool put_random(char *ret, size_t len)
{
    unsigned char bytes[64];
    size_t used = sizeof(bytes);

    for (size_t i = 0; i < len;) {
        if (used == sizeof(bytes)) {
            if (RAND_bytes(bytes, sizeof(bytes)) != 1)
                return false;
            used = 0;
        }
        if (bytes[used] < 248)
            ret[i++] = base62[bytes[used] % 62];
        used++;
    }
    OPENSSL_cleanse(bytes, sizeof(bytes));
    return true;
}

/* ---- the table ---- */

static struct ai_key *find_prefix(struct ai_keys *keys, struct view prefix)
{
    for (uint64_t i = hash64(prefix);; i++) {
        struct ai_key *key = atomic_load_explicit(&keys->slots[i % KEYS_SLOTS], memory_order_acquire);

        if (!key || memcmp(key->prefix, prefix.ptr, KEYS_PREFIX_LEN) == 0)
            return key;
    }
}

/* Under the lock, or before anybody else knows the table. */
static void publish(struct ai_keys *keys, struct ai_key *key)
{
    uint64_t i = hash64(view_make(key->prefix, KEYS_PREFIX_LEN));

    while (atomic_load_explicit(&keys->slots[i % KEYS_SLOTS], memory_order_relaxed))
        i++;
    atomic_store_explicit(&keys->slots[i % KEYS_SLOTS], key, memory_order_release);
}

static struct ai_identity identity_of(const struct ai_key *key)
{
    return (struct ai_identity){
        .id = view_make(key->id, KEYS_ID_LEN),
        .prefix = view_make(key->prefix, KEYS_PREFIX_LEN),
        .name = key->name,
        .tenant = key->tenant,
        .scopes = key->scopes,
        .rules = key->rules,
        .expires_s = key->expires_s,
    };
}

int ai_keys_find(struct ai_keys *keys, struct view presented, int64_t now_s, struct ai_identity *ret)
{
    uint8_t hash[KEYS_HASH_LEN];
    struct ai_key *key;

    if (!is_well_formed(presented))
        return -ENOENT;
    key = find_prefix(keys, view_make(presented.ptr + 3, KEYS_PREFIX_LEN));
    if (!key || !hash_of(keys, presented, hash) || CRYPTO_memcmp(hash, key->hash, KEYS_HASH_LEN) != 0)
        return -ENOENT;
    if (atomic_load_explicit(&key->revoked_s, memory_order_relaxed))
        return -EKEYREVOKED;
    if (key->expires_s && now_s >= key->expires_s)
        return -EKEYEXPIRED;
    if (atomic_load_explicit(&key->used_s, memory_order_relaxed) < now_s)
        atomic_store_explicit(&key->used_s, now_s, memory_order_relaxed);
    *ret = identity_of(key);
    return 0;
}

bool ai_identity_may(const struct ai_identity *identity, struct view scope)
{
    struct view rest = identity->scopes;

    while (rest.ptr)
        if (view_eq(view_cut(&rest, ','), scope))
            return scope.len > 0;
    return false;
}

/* Under the lock. */
static bool remember(struct ai_keys *keys, struct ai_key *key)
{
    if (keys->count == keys->cap) {
        size_t cap = keys->cap ? keys->cap * 2 : 16;
        struct ai_key **all = heap_resize(keys->all, cap * sizeof(struct ai_key *));

        if (!all)
            return false;
        keys->all = all;
        keys->cap = cap;
    }
    keys->all[keys->count++] = key;
    return true;
}

void ai_keys_list(struct ai_keys *keys, void (*each)(const struct ai_key_info *info, void *arg), void *arg)
{
    pthread_mutex_lock(&keys->lock);
    for (size_t i = 0; i < keys->count; i++) {
        const struct ai_key *key = keys->all[i];
        struct ai_key_info info = { .identity = identity_of(key),
                                    .created_s = key->created_s,
                                    .revoked_s = atomic_load(&key->revoked_s),
                                    .used_s = atomic_load(&key->used_s) };

        /* One that is still on its way to the disk does not count yet. */
        if (find_prefix(keys, info.identity.prefix) == key)
            each(&info, arg);
    }
    pthread_mutex_unlock(&keys->lock);
}

/* ---- start and end ---- */

static int load_secret(struct state *state, uint8_t ret[SECRET_LEN])
{
    struct state_write write = { .name = NAME_SECRET };
    char *value;
    size_t len;
    int r = state ? state_get(state, NAME_SECRET, &value, &len) : -ENOENT;

    if (r == 0) {
        if (len == SECRET_LEN)
            memcpy(ret, value, SECRET_LEN);
        else
            r = -EBADMSG;
        OPENSSL_cleanse(value, len);
        heap_free(value);
        return r;
    }
    if (r != -ENOENT)
        return r;
    if (RAND_bytes(ret, (int)SECRET_LEN) != 1)
        return -EIO;
    write.value = view_make((const char *)ret, SECRET_LEN);
    return state ? state_write_wait(state, &write) : 0;
}

static int load_line(struct ai_keys *keys, struct view line)
{
    struct ai_key *key;
    int r = keys->count < AI_KEYS_MAX ? keys_read(line, &key) : -EBADMSG;

    if (r < 0)
        return r;
    if (find_prefix(keys, view_make(key->prefix, KEYS_PREFIX_LEN)))
        r = -EBADMSG;
    else if (!remember(keys, key))
        r = -ENOMEM;
    if (r < 0)
        heap_free(key);
    else
        publish(keys, key);
    return r;
}

static int load_list(struct ai_keys *keys)
{
    struct view rest;
    char *value;
    size_t len;
    int r = keys->state ? state_get(keys->state, NAME_LIST, &value, &len) : -ENOENT;

    if (r < 0)
        return r == -ENOENT ? 0 : r;
    rest = view_make(value, len);
    if (!view_starts_with(rest, LIST_HEAD))
        r = -EBADMSG;
    rest = view_skip(rest, LIST_HEAD.len);
    while (r == 0 && rest.len)
        r = load_line(keys, view_cut(&rest, '\n'));
    heap_free(value);
    return r;
}

int ai_keys_open(struct state *state, struct ai_keys **ret)
{
    struct ai_keys *keys = heap_zalloc(sizeof(*keys));
    uint8_t secret[SECRET_LEN];
    int r;

    if (!keys)
        return -ENOMEM;
    pthread_mutex_init(&keys->lock, NULL);
    keys->state = state;
    r = load_secret(state, secret);
    if (r == 0) {
        keys->mac = mac_new(secret);
        r = keys->mac ? load_list(keys) : -ENOMEM;
    }
    OPENSSL_cleanse(secret, sizeof(secret));
    if (r < 0) {
        ai_keys_free(keys);
        return r;
    }
    *ret = keys;
    return 0;
}

void ai_keys_free(struct ai_keys *keys)
{
    if (!keys)
        return;
    for (size_t i = 0; i < keys->count; i++)
        heap_free(keys->all[i]);
    heap_free(keys->all);
    for (size_t i = 0; i < KEYS_MACS; i++)
        EVP_MAC_CTX_free(atomic_load(&keys->idle[i]));
    EVP_MAC_CTX_free(keys->mac);
    pthread_mutex_destroy(&keys->lock);
    heap_free(keys);
}

/* ---- changes ---- */

/* Held by its asker and by its write. Everything about it happens on one loop. */
struct ai_keys_job {
    struct state_write write;
    struct ai_keys *keys;
    struct ai_key *key;
    struct task *task; /* NULL: the asker has left */
    bool creating, done;
    int result;
    unsigned refs;
    char text[AI_KEY_LEN];
};

static void job_unref(struct ai_keys_job *job)
{
    if (--job->refs)
        return;
    OPENSSL_cleanse(job->text, sizeof(job->text));
    heap_free(job);
}

static void job_finish(struct ai_keys_job *job, int result)
{
    struct ai_keys *keys = job->keys;

    job->done = true;
    job->result = result;
    if (job->creating) {
        pthread_mutex_lock(&keys->lock);
        if (result == 0)
            publish(keys, job->key);
        else
            job->key->lost = true;
        pthread_mutex_unlock(&keys->lock);
    }
    if (job->task)
        task_wake(job->task);
}

static void write_done(struct loop *loop, struct message *message)
{
    struct ai_keys_job *job = CONTAINER_OF(message, struct ai_keys_job, write.done);

    (void)loop;
    if (job->write.result < 0)
        log_error("a change of the API keys could not be made durable: %s", strerror(-job->write.result));
    job_finish(job, job->write.result);
    job_unref(job);
}

/* Under the lock: queues the whole list. */
static int save(struct ai_keys *keys, struct loop *loop, struct ai_keys_job *job)
{
    struct buf list = buf_make(LIST_MAX);
    int r;

    buf_put(&list, LIST_HEAD);
    for (size_t i = 0; i < keys->count; i++)
        if (!keys->all[i]->lost)
            keys_write(keys->all[i], &list);
    job->write.name = NAME_LIST;
    job->write.value = buf_view(&list);
    job->write.loop = loop;
    job->write.done.handle = write_done;
    r = list.failed ? -ENOMEM : state_write(keys->state, &job->write);
    buf_free(&list);
    return r;
}

static struct ai_keys_job *job_new(struct ai_keys *keys, struct task *task)
{
    struct ai_keys_job *job = heap_zalloc(sizeof(*job));

    if (job) {
        job->keys = keys;
        job->task = task;
        job->refs = 1;
    }
    return job;
}

/* Under the lock: a text whose prefix nobody has, not even one that is still being written. */
static bool make_text(struct ai_keys *keys, struct ai_keys_job *job)
{
    struct ai_key *key = job->key;
    bool taken;

    memcpy(job->text, START.ptr, START.len);
    do {
        if (!put_random(job->text + START.len, KEYS_PREFIX_LEN + RANDOM_LEN))
            return false;
        taken = false;
        for (size_t i = 0; i < keys->count && !taken; i++)
            taken = memcmp(keys->all[i]->prefix, job->text + START.len, KEYS_PREFIX_LEN) == 0;
    } while (taken);
    put_check(view_make(job->text, AI_KEY_LEN - CHECK_LEN), job->text + AI_KEY_LEN - CHECK_LEN);
    memcpy(key->prefix, job->text + START.len, KEYS_PREFIX_LEN);
    return put_random(key->id, KEYS_ID_LEN) && hash_of(keys, view_make(job->text, AI_KEY_LEN), key->hash);
}

/* Under the lock. */
static int add(struct ai_keys *keys, struct loop *loop, struct ai_keys_job *job)
{
    int r;

    if (keys->count >= AI_KEYS_MAX)
        return -ENOSPC;
    if (!make_text(keys, job) || !remember(keys, job->key))
        return -ENOMEM;
    if (!keys->state)
        return 0;
    job->refs++;
    r = save(keys, loop, job);
    if (r < 0) {
        keys->count--;
        job->refs--;
    }
    return r;
}

int ai_keys_create(struct ai_keys *keys, struct loop *loop, const struct ai_key_wish *wish, int64_t now_s,
                   struct task *task, struct ai_keys_job **ret)
{
    struct ai_key_wish texts = *wish;
    struct ai_keys_job *job;
    int r;

    if (!texts.tenant.len)
        texts.tenant = VIEW("default");
    if (!texts.scopes.len)
        texts.scopes = VIEW(AI_KEYS_SCOPES);
    if (!keys_wish_fits(&texts) || texts.expires_s < 0)
        return -EINVAL;
    job = job_new(keys, task);
    if (!job)
        return -ENOMEM;
    job->creating = true;
    job->key = keys_record(&texts);
    if (!job->key) {
        job_unref(job);
        return -ENOMEM;
    }
    job->key->created_s = now_s;
    pthread_mutex_lock(&keys->lock);
    r = add(keys, loop, job);
    pthread_mutex_unlock(&keys->lock);
    if (r < 0) {
        heap_free(job->key);
        job_unref(job);
        return r;
    }
    if (!keys->state)
        job_finish(job, 0);
    *ret = job;
    return 0;
}

/* Under the lock. */
static struct ai_key *find_named(struct ai_keys *keys, struct view which)
{
    if (view_starts_with(which, START) && which.len == START.len + KEYS_PREFIX_LEN)
        which = view_skip(which, START.len);
    for (size_t i = 0; i < keys->count; i++) {
        struct ai_key *key = keys->all[i];

        if (!key->lost && (view_eq(which, view_make(key->prefix, KEYS_PREFIX_LEN)) ||
                           view_eq(which, view_make(key->id, KEYS_ID_LEN))))
            return key;
    }
    return NULL;
}

int ai_keys_revoke(struct ai_keys *keys, struct loop *loop, struct view which, int64_t now_s, struct task *task,
                   struct ai_keys_job **ret)
{
    struct ai_keys_job *job = job_new(keys, task);
    int64_t not_yet = 0;
    int r = 0;

    if (!job)
        return -ENOMEM;
    pthread_mutex_lock(&keys->lock);
    job->key = find_named(keys, which);
    if (!job->key) {
        r = -ENOENT;
    } else {
        atomic_compare_exchange_strong(&job->key->revoked_s, &not_yet, MAX(now_s, (int64_t)1));
        if (keys->state) {
            job->refs++;
            r = save(keys, loop, job);
            job->refs -= r < 0;
        }
    }
    pthread_mutex_unlock(&keys->lock);
    if (r < 0 && r != -ENOMEM) {
        job_unref(job);
        return r;
    }
    /* It is refused in any case; whether that lasts is the answer. */
    if (r < 0 || !keys->state)
        job_finish(job, r);
    *ret = job;
    return 0;
}

bool ai_keys_job_done(struct ai_keys_job *job, struct ai_keys_result *ret)
{
    if (!job->done)
        return false;
    *ret = (struct ai_keys_result){
        .result = job->result,
        .durable = job->result == 0 && job->keys->state && state_is_durable(job->keys->state),
        .identity = identity_of(job->key),
    };
    if (job->creating && job->result == 0)
        ret->key = view_make(job->text, AI_KEY_LEN);
    return true;
}

void ai_keys_job_leave(struct ai_keys_job *job)
{
    if (!job)
        return;
    job->task = NULL;
    job_unref(job);
}
