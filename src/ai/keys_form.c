/* How keys look: which names are allowed, and the line of a record in the state:
 *
 *     ID PREFIX HASH CREATED EXPIRES REVOKED TENANT SCOPES RULES NAME
 *
 * Fields are separated by tabs, which no field can have; the hash is hexadecimal, "\\" stands for no rules. */
#include "ai/keys_internal.h"

#include "base/heap.h"

#include <errno.h>

#define TENANT_MAX 64u
#define SCOPES_MAX 256u
#define NAME_MAX_LEN 128u

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

/* The tenant begins every key of the cache: nothing that could be a delimiter there. */
static bool is_word(struct view v, size_t max, const char *more)
{
    if (v.len == 0 || v.len > max)
        return false;
    for (size_t i = 0; i < v.len; i++)
        if (!is_alnum(v.ptr[i]) && (v.ptr[i] == '\0' || !strchr(more, v.ptr[i])))
            return false;
    return true;
}

static bool is_name(struct view v)
{
    if (v.len == 0 || v.len > NAME_MAX_LEN)
        return false;
    for (size_t i = 0; i < v.len; i++)
        if ((unsigned char)v.ptr[i] < ' ' || v.ptr[i] == 0x7f)
            return false;
    return true;
}

bool keys_wish_fits(const struct ai_key_wish *wish)
{
    return is_name(wish->name) && is_word(wish->tenant, TENANT_MAX, "._-") && is_alnum(wish->tenant.ptr[0]) &&
           is_word(wish->scopes, SCOPES_MAX, "._-:/*,") &&
           (!wish->rules.len || is_word(wish->rules, TENANT_MAX, "._-"));
}

static void copy(char **at, struct view from, struct view *ret)
{
    if (from.len)
        memcpy(*at, from.ptr, from.len);
    *ret = view_make(*at, from.len);
    *at += from.len;
}

struct ai_key *keys_record(const struct ai_key_wish *texts)
{
    size_t len = texts->name.len + texts->tenant.len + texts->scopes.len + texts->rules.len;
    struct ai_key *key = heap_zalloc(sizeof(*key) + len + 1);
    char *at;

    if (!key)
        return NULL;
    at = key->texts;
    copy(&at, texts->name, &key->name);
    copy(&at, texts->tenant, &key->tenant);
    copy(&at, texts->scopes, &key->scopes);
    copy(&at, texts->rules, &key->rules);
    key->expires_s = texts->expires_s;
    return key;
}

/* ---- lines ---- */

void keys_write(const struct ai_key *key, struct buf *out)
{
    static const char hex[] = "0123456789abcdef";

    buf_put(out, view_make(key->id, KEYS_ID_LEN));
    buf_char(out, '\t');
    buf_put(out, view_make(key->prefix, KEYS_PREFIX_LEN));
    buf_char(out, '\t');
    for (size_t i = 0; i < KEYS_HASH_LEN; i++) {
        buf_char(out, hex[key->hash[i] >> 4]);
        buf_char(out, hex[key->hash[i] & 15]);
    }
    buf_char(out, '\t');
    buf_i64(out, key->created_s);
    buf_char(out, '\t');
    buf_i64(out, key->expires_s);
    buf_char(out, '\t');
    buf_i64(out, atomic_load(&key->revoked_s));
    buf_char(out, '\t');
    buf_put(out, key->tenant);
    buf_char(out, '\t');
    buf_put(out, key->scopes);
    buf_char(out, '\t');
    buf_put(out, key->rules.len ? key->rules : VIEW("\\"));
    buf_char(out, '\t');
    buf_put(out, key->name);
    buf_char(out, '\n');
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hash(struct view text, uint8_t *ret)
{
    if (text.len != 2u * KEYS_HASH_LEN)
        return false;
    for (size_t i = 0; i < KEYS_HASH_LEN; i++) {
        int high = hex_value(text.ptr[2 * i]), low = hex_value(text.ptr[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        ret[i] = (uint8_t)(high * 16 + low);
    }
    return true;
}

static bool read_time(struct view text, int64_t *ret)
{
    uint64_t value;

    if (!view_parse_u64(text, &value) || value > INT64_MAX)
        return false;
    *ret = (int64_t)value;
    return true;
}

int keys_read(struct view line, struct ai_key **ret)
{
    enum { ID, PREFIX, HASH, CREATED, EXPIRES, REVOKED, TENANT, SCOPES, RULES, NAME, FIELDS };
    struct view fields[FIELDS], rest = line;
    int64_t created, expires, revoked;
    uint8_t hash[KEYS_HASH_LEN];
    struct ai_key_wish texts;
    struct ai_key *key;

    for (size_t i = 0; i < FIELDS; i++) {
        if (!rest.ptr)
            return -EBADMSG;
        fields[i] = view_cut(&rest, '\t');
    }
    if (rest.ptr || fields[ID].len != KEYS_ID_LEN || fields[PREFIX].len != KEYS_PREFIX_LEN ||
        !read_hash(fields[HASH], hash) || !read_time(fields[CREATED], &created) ||
        !read_time(fields[EXPIRES], &expires) || !read_time(fields[REVOKED], &revoked))
        return -EBADMSG;
    texts = (struct ai_key_wish){ .name = fields[NAME],
                                  .tenant = fields[TENANT],
                                  .scopes = fields[SCOPES],
                                  .rules = view_eq(fields[RULES], VIEW("\\")) ? VIEW_NONE : fields[RULES],
                                  .expires_s = expires };
    if (!keys_wish_fits(&texts))
        return -EBADMSG;
    key = keys_record(&texts);
    if (!key)
        return -ENOMEM;
    memcpy(key->id, fields[ID].ptr, KEYS_ID_LEN);
    memcpy(key->prefix, fields[PREFIX].ptr, KEYS_PREFIX_LEN);
    memcpy(key->hash, hash, KEYS_HASH_LEN);
    key->created_s = created;
    atomic_store(&key->revoked_s, revoked);
    *ret = key;
    return 0;
}
