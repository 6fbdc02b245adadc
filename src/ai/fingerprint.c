/* SHA-256 over parts that each start with their length: no part can run into the next, so none can imitate another.
 * The request comes last, in canonical form. The whole is laid out in one buffer and hashed in one go. */
#include "ai/fingerprint.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>

/* Changes when the meaning of a key does: keys of other versions of this program are other keys. */
#define FORMAT VIEW("doorstep-ai-2")

static void put_number(struct buf *b, uint64_t value)
{
    unsigned char bytes[8];

    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(value >> (56 - 8 * i));
    buf_put(b, view_make((const char *)bytes, sizeof(bytes)));
}

static void put_part(struct buf *b, struct view part)
{
    put_number(b, part.len);
    buf_put(b, part);
}

static void put_context(struct buf *b, const struct fingerprint_context *c)
{
    put_part(b, FORMAT);
    put_number(b, (uint64_t)c->kind);
    put_part(b, ai_endpoint_name(c->endpoint));
    put_number(b, (uint64_t)ai_endpoint_dialect(c->endpoint));
    put_part(b, c->scope);
    put_number(b, c->epoch);
    put_number(b, c->policy_revision);
    put_part(b, c->region);
    put_part(b, c->provider);
    put_part(b, c->model);
    put_part(b, c->anthropic_version);
    put_part(b, c->anthropic_beta);
    put_part(b, c->openai_beta);
    put_part(b, c->query);
    put_number(b, c->stream_matters);
}

/* Members of the top object that do not change the answer, or are in the context. */
static bool is_left_out(struct view name, void *arg)
{
    static const struct view names[] = {
        { "model", 5 },   { "stream_options", 14 },    { "metadata", 8 },
        { "user", 4 },    { "safety_identifier", 17 }, { "prompt_cache_key", 16 },
        { "timeout", 7 }, { "request_id", 10 },
    };
    const struct fingerprint_context *context = arg;

    if (view_eq(name, VIEW("stream")))
        return !context->stream_matters;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (view_eq(name, names[i]))
            return true;
    return false;
}

/* Fetched once: OpenSSL looks an algorithm up by name, under a lock, each time it is not told which one. */
static EVP_MD *sha256;

static void fetch_sha256(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

bool ai_digest(struct view text, unsigned char ret[FINGERPRINT_DIGEST_LEN])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, fetch_sha256);
    return sha256 && EVP_Digest(text.ptr, text.len, ret, NULL, sha256, NULL) == 1;
}

static void put_key(struct text *out, const struct fingerprint_context *c, const unsigned char *digest)
{
    static const char digits[] = "0123456789abcdef";
    char hex[2 * FINGERPRINT_DIGEST_LEN];

    for (unsigned i = 0; i < FINGERPRINT_DIGEST_LEN; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    text_u64(out, c->scope.len);
    text_char(out, ':');
    text_put(out, c->scope);
    text_char(out, ':');
    text_u64(out, c->epoch);
    text_char(out, ':');
    text_put(out, view_make(hex, sizeof(hex)));
}

int ai_fingerprint(const struct fingerprint_context *context, const struct json *doc, const struct ai_facts *facts,
                   struct text *out)
{
    struct json_rules rules = { .skip = is_left_out };
    struct fingerprint_context c = *context;
    struct buf b = buf_make(SIZE_MAX);
    unsigned char digest[FINGERPRINT_DIGEST_LEN];
    struct text key = text_make(out->ptr + out->len, out->cap - out->len);
    bool hashed;

    if (c.kind != FINGERPRINT_EXACT && !facts->last_user_at)
        return -EINVAL;
    rules.arg = &c;
    if (c.kind != FINGERPRINT_EXACT)
        rules.replaced =
            facts->last_user_at; /* its place stays, its text is nothing: no string is written as nothing */
    (void)buf_room(&b, 512 + doc->text.len + c.scope.len + c.last_user.len);
    put_context(&b, &c);
    put_part(&b, c.kind == FINGERPRINT_CANONICAL ? c.last_user : VIEW_NONE);
    json_canonical_by(doc, 0, &rules, &b);
    hashed = !b.failed && ai_digest(buf_view(&b), digest);
    buf_free(&b);
    if (!hashed)
        return -ENOMEM;
    put_key(&key, &c, digest);
    if (key.overflow)
        return -ENOSPC;
    out->len += key.len;
    return 0;
}
