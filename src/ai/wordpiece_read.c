/* Reading vocabularies: tokenizer.json (the "fast" tokenizers' format) and vocab.txt. What a tokenizer.json asks for that we do not do is
 * refused: a text cut otherwise than the model was taught would give vectors that look right and are not. */
#include "ai/wordpiece_internal.h"

#include "base/heap.h"
#include "proto/json.h"

#include <errno.h>

#define FILE_MAX (64u << 20)

static int refuse(struct text *reason, int error, const char *why)
{
    text_put(reason, view_str(why));
    return error;
}

static struct wordpiece *make(void)
{
    struct wordpiece *words = heap_zalloc(sizeof(*words));

    if (!words)
        return NULL;
    words->pool = buf_make(FILE_MAX);
    words->unknown = WORDPIECE_NONE;
    words->chars_max = WORDPIECE_CHARS_MAX;
    words->clean = words->ideographs = words->strip = words->lower = true;
    return words;
}

/* ---- tokenizer.json ---- */

static bool read_flag(const struct json *doc, uint32_t object, struct view name, bool otherwise)
{
    uint32_t flag = json_get(doc, object, name);

    if (!flag || (json_type(doc, flag) != JSON_TRUE && json_type(doc, flag) != JSON_FALSE))
        return otherwise;
    return json_type(doc, flag) == JSON_TRUE;
}

static int read_normalizer(const struct json *doc, struct wordpiece *words, struct text *reason)
{
    uint32_t normalizer = json_get(doc, 0, VIEW("normalizer"));
    uint32_t type = json_get(doc, normalizer, VIEW("type"));

    if (!normalizer || json_type(doc, normalizer) == JSON_NULL) {
        words->clean = words->ideographs = words->strip = words->lower = false;
        return 0;
    }
    if (type && json_is(doc, type, VIEW("Lowercase"))) {
        words->clean = words->ideographs = words->strip = false;
        return 0;
    }
    if (!type || !json_is(doc, type, VIEW("BertNormalizer")))
        return refuse(reason, -ENOTSUP, "its normalizer is not BertNormalizer");
    words->clean = read_flag(doc, normalizer, VIEW("clean_text"), true);
    words->ideographs = read_flag(doc, normalizer, VIEW("handle_chinese_chars"), true);
    words->lower = read_flag(doc, normalizer, VIEW("lowercase"), true);
    words->strip = read_flag(doc, normalizer, VIEW("strip_accents"), words->lower);
    return 0;
}

static int read_vocabulary(const struct json *doc, uint32_t vocabulary, struct wordpiece *words)
{
    /* Numbers without gaps worth mention: a small file cannot ask for a large table. */
    uint64_t most = MIN(doc->tokens[vocabulary].count * UINT64_C(8) + 1024, WORDPIECE_COUNT_MAX);
    struct buf name = buf_make(UINT16_MAX);
    int r = 0;

    for (uint32_t at = json_first(doc, vocabulary); r == 0 && at < json_end(doc, vocabulary);
         at = json_after(doc, at + 1)) {
        uint64_t id;

        name.len = 0;
        if (!json_decode(doc, at, &name) || doc->tokens[at].len > UINT16_MAX || !json_u64(doc, at + 1, &id) ||
            id >= most)
            r = -EINVAL;
        else if (name.failed)
            r = -ENOMEM;
        else
            r = wordpiece_add(words, buf_view(&name), (uint32_t)id);
    }
    buf_free(&name);
    return r;
}

static int read_model(const struct json *doc, struct wordpiece *words, struct text *reason)
{
    uint32_t model = json_get_typed(doc, 0, VIEW("model"), JSON_OBJECT);
    uint32_t type = model ? json_get(doc, model, VIEW("type")) : 0;
    uint32_t prefix = model ? json_get(doc, model, VIEW("continuing_subword_prefix")) : 0;
    uint32_t most = model ? json_get(doc, model, VIEW("max_input_chars_per_word")) : 0;
    uint32_t vocabulary = model ? json_get_typed(doc, model, VIEW("vocab"), JSON_OBJECT) : 0;
    uint64_t chars;
    int r;

    if ((type && !json_is(doc, type, VIEW("WordPiece"))) || (!type && !prefix))
        return refuse(reason, -ENOTSUP, "its model is not WordPiece");
    if (prefix && !json_is(doc, prefix, VIEW("##")))
        return refuse(reason, -ENOTSUP, "its continuing_subword_prefix is not \"##\"");
    if (!vocabulary || doc->tokens[vocabulary].count == 0)
        return refuse(reason, -EINVAL, "it has no vocabulary");
    if (most && json_u64(doc, most, &chars))
        words->chars_max = (uint32_t)MIN(chars, WORDPIECE_CHARS_MAX);
    r = read_vocabulary(doc, vocabulary, words);
    return r == -EINVAL ? refuse(reason, r, "a token's name or number is out of bounds") : r;
}

/* The token that stands for what cannot be spelled; needs the finished table. */
static int read_unknown(const struct json *doc, struct wordpiece *words)
{
    uint32_t unknown = json_get(doc, json_get(doc, 0, VIEW("model")), VIEW("unk_token"));
    struct buf name = buf_make(UINT16_MAX);
    int r = 0;

    if (unknown && json_decode(doc, unknown, &name)) {
        r = name.failed ? -ENOMEM : 0;
        words->unknown = r == 0 ? wordpiece_find(words, buf_view(&name)) : WORDPIECE_NONE;
    }
    buf_free(&name);
    return r;
}

static int read_json(const struct json *doc, struct wordpiece *words, struct text *reason)
{
    uint32_t pre = json_get(doc, 0, VIEW("pre_tokenizer")), type = pre ? json_get(doc, pre, VIEW("type")) : 0;
    int r = read_normalizer(doc, words, reason);

    if (r < 0)
        return r;
    if (!type || !json_is(doc, type, VIEW("BertPreTokenizer")))
        return refuse(reason, -ENOTSUP, "its pre_tokenizer is not BertPreTokenizer");
    return read_model(doc, words, reason);
}

int wordpiece_from_json(struct view file, struct wordpiece **ret, struct text *reason)
{
    struct wordpiece *words = NULL;
    struct json doc = { 0 };
    enum json_error error;
    size_t at;
    int r;

    if (file.len > FILE_MAX)
        return refuse(reason, -ENOTSUP, "it is larger than 64 MiB");
    error = json_parse(&doc, file, (struct json_limits){ .depth = 64, .tokens = 2 * WORDPIECE_COUNT_MAX }, &at);
    if (error != JSON_OK || json_type(&doc, 0) != JSON_OBJECT) {
        json_free(&doc);
        return error == JSON_NO_MEMORY ? -ENOMEM : refuse(reason, -EINVAL, "it is no JSON object");
    }
    words = make();
    r = words ? read_json(&doc, words, reason) : -ENOMEM;
    if (r == 0)
        r = wordpiece_build(words);
    if (r == 0)
        r = read_unknown(&doc, words);
    json_free(&doc);
    if (r < 0) {
        wordpiece_free(words);
        return r;
    }
    *ret = words;
    return 0;
}

/* ---- vocab.txt ---- */

int wordpiece_from_lines(struct view file, struct wordpiece **ret, struct text *reason)
{
    struct wordpiece *words;
    uint32_t id = 0;
    bool capitals = false;
    int r = 0;

    if (file.len > FILE_MAX)
        return refuse(reason, -ENOTSUP, "it is larger than 64 MiB");
    if (file.len == 0)
        return refuse(reason, -EINVAL, "it has no vocabulary");
    words = make();
    if (!words)
        return -ENOMEM;
    for (; r == 0 && file.len; id++) {
        struct view token = view_cut(&file, '\n');

        if (token.len && token.ptr[token.len - 1] == '\r')
            token.len--;
        for (size_t i = 0; i < token.len && token.ptr[0] != '['; i++)
            capitals |= token.ptr[i] >= 'A' && token.ptr[i] <= 'Z';
        r = wordpiece_add(words, token, id);
    }
    if (r == -EINVAL)
        text_lit(reason, "a token is too long, or there are too many");
    words->lower = words->strip = !capitals;
    if (r == 0)
        r = wordpiece_build(words);
    if (r < 0) {
        wordpiece_free(words);
        return r;
    }
    words->unknown = wordpiece_find(words, VIEW("[UNK]"));
    *ret = words;
    return 0;
}
