/* Any bytes as a request to any interface (the first byte says which): facts are read or refused with a reason,
 * tokens are of this tape, a key has its form, a key does not depend on spelling, and what rules force into a request
 * is a request. */
#include "ai/fingerprint.h"
#include "ai/policy.h"
#include "base/check.h"

static const struct fingerprint_context plain = { .scope = { "t:1", 3 }, .epoch = 1 };

static void check_tokens(const struct json *doc, const struct ai_facts *f)
{
    const uint32_t tokens[] = { f->model_at, f->stream_at,   f->stream_options_at, f->include_usage_at,
                                f->max_at,   f->max_also_at, f->prompt_at,         f->system_at,
                                f->tools_at, f->user_at,     f->last_user_at };

    for (size_t i = 0; i < ARRAY_LEN(tokens); i++)
        CHECK(tokens[i] == 0 || tokens[i] < doc->count);
    CHECK(!f->last_user_at || json_type(doc, f->last_user_at) == JSON_STRING);
    CHECK(!f->user_at || json_type(doc, f->user_at) == JSON_STRING);
    CHECK(f->model.len <= doc->text.len && f->n >= 1 && f->best_of >= 1 && f->turns <= f->messages);
    CHECK(f->prompt_bytes <= doc->text.len);
}

static size_t make_key(const struct fingerprint_context *context, enum ai_endpoint endpoint, struct view body,
                       char *memory, size_t room)
{
    struct fingerprint_context c = *context;
    struct json doc = { 0 };
    struct ai_facts facts;
    struct text key = text_make(memory, room);

    c.endpoint = endpoint;
    CHECK(json_parse(&doc, body, JSON_LIMITS, NULL) == JSON_OK && ai_facts_read(&facts, endpoint, &doc, NULL) == 0);
    CHECK(ai_fingerprint(&c, &doc, &facts, &key) == 0 && key.len == 72);
    ai_facts_free(&facts);
    json_free(&doc);
    return key.len;
}

static void check_key(enum ai_endpoint endpoint, const struct json *doc)
{
    struct buf canonical = buf_make(1 << 24);
    char one[200], other[200];
    size_t len;

    json_canonical(doc, 0, NULL, NULL, &canonical);
    len = make_key(&plain, endpoint, doc->text, one, sizeof(one));
    CHECK(make_key(&plain, endpoint, buf_view(&canonical), other, sizeof(other)) == len &&
          memcmp(one, other, len) == 0);
    buf_free(&canonical);
}

static void check_rules(enum ai_endpoint endpoint, const struct json *doc, const struct ai_facts *facts)
{
    static const struct ai_forced forced[] = { { { "temperature", 11 }, { "0", 1 } }, { { "a\"b", 3 }, { "[]", 2 } } };
    static const struct ai_rules rules = { .forced = forced, .forced_count = 2, .max_tokens = 100 };
    const struct ai_rules *levels[] = { &rules };
    struct buf out = buf_make(1 << 24);
    struct json again = { 0 };
    struct ai_facts changed;

    if (ai_rules_apply(levels, 1, endpoint, doc, facts, &out) == 1) {
        CHECK(json_parse(&again, buf_view(&out), JSON_LIMITS, NULL) == JSON_OK);
        CHECK(ai_facts_read(&changed, endpoint, &again, NULL) == 0);
        CHECK(changed.temperature_zero && changed.max_tokens > 0);
        CHECK(json_get(&again, 0, VIEW("a\"b")) && !changed.last_user_at == !facts->last_user_at);
        ai_facts_free(&changed);
    }
    json_free(&again);
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json doc = { 0 };
    struct ai_facts facts;
    enum ai_endpoint endpoint;
    char memory[300];
    struct text reason = TEXT_ON(memory);

    if (size == 0)
        return 0;
    endpoint = (enum ai_endpoint)((data[0] & 0x1f) % AI_ENDPOINT_COUNT);
    if (json_parse(&doc, view_make((const char *)data + 1, size - 1), JSON_LIMITS, NULL) == JSON_OK) {
        if (ai_facts_read(&facts, endpoint, &doc, &reason) == 0) {
            check_tokens(&doc, &facts);
            check_key(endpoint, &doc);
            check_rules(endpoint, &doc, &facts);
            ai_facts_free(&facts);
        } else {
            CHECK(reason.len > 0 && !reason.overflow);
        }
    }
    json_free(&doc);
    return 0;
}
