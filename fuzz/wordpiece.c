/* Any bytes as a tokenizer file or as a text: the first line is the text, the rest the vocabulary, of either form. Numbers of tokens are within
 * the vocabulary, fewer are the beginning of more, and leaving out the unknown leaves out nothing else. */
#include "ai/wordpiece.h"

#include "base/check.h"

#define TOKENS 64

static void encode(const struct wordpiece *words, struct view text)
{
    uint32_t ids[TOKENS], some[TOKENS], known[TOKENS];
    unsigned count = wordpiece_encode(words, text, false, ids, TOKENS);
    unsigned fewer = wordpiece_encode(words, text, false, some, TOKENS / 2);
    unsigned left = wordpiece_encode(words, text, true, known, TOKENS), at = 0;

    CHECK(count <= TOKENS && fewer == MIN(count, TOKENS / 2u));
    for (unsigned i = 0; i < count; i++) {
        CHECK(ids[i] < wordpiece_count(words) || ids[i] == wordpiece_unknown(words));
        CHECK(i >= fewer || some[i] == ids[i]);
    }
    for (unsigned i = 0; i < count && at < left; i++)
        at += ids[i] == known[at];
    CHECK(count == TOKENS || at == left);
}

static void use(struct wordpiece *words, struct view text)
{
    encode(words, text);
    CHECK(wordpiece_find(words, text) == WORDPIECE_NONE || wordpiece_find(words, text) < wordpiece_count(words));
    wordpiece_free(words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view file = view_make((const char *)data, size), text = view_cut(&file, '\n');
    struct wordpiece *words;
    char memory[256];
    struct text reason = TEXT_ON(memory);

    if (wordpiece_from_json(file, &words, &reason) == 0)
        use(words, text);
    if (wordpiece_from_lines(file, &words, &reason) == 0)
        use(words, text);
    return 0;
}
