/* BERT's tokenizer: text is normalised (controls out, accents and case folded, Han characters apart), cut at white space and punctuation, and
 * each word is spelled with the longest pieces of a vocabulary. Built once, read-only afterwards: any thread.
 *
 * Differs from the reference in two things: text that looks like a special token ("[SEP]") is only text; case and accents are folded in the
 * basic plane only, and unassigned code points are kept. */
#pragma once

#include "base/text.h"

struct wordpiece;

#define WORDPIECE_NONE UINT32_MAX

/* From a tokenizer.json. 0; -EINVAL: broken; -ENOTSUP: its model is no WordPiece, or its normaliser or pre-tokenizer is none of BERT's;
 * -ENOMEM. The reason is appended to *reason. Nothing of `file` is kept. */
int wordpiece_from_json(struct view file, struct wordpiece **ret, struct text *reason);
/* From a vocab.txt: a token a line, its number the line's. Text is folded when no token but special ones has a capital letter. */
int wordpiece_from_lines(struct view file, struct wordpiece **ret, struct text *reason);
void wordpiece_free(struct wordpiece *words);

/* The largest token number plus one. */
uint32_t wordpiece_count(const struct wordpiece *words);
/* The number of a token as it stands in the vocabulary ("[CLS]", "##ing"), or WORDPIECE_NONE. */
uint32_t wordpiece_find(const struct wordpiece *words, struct view token);
/* What words stand for that the vocabulary cannot spell; WORDPIECE_NONE when it has no such token. */
uint32_t wordpiece_unknown(const struct wordpiece *words);
size_t wordpiece_bytes(const struct wordpiece *words);

/* Token numbers of `text` (any bytes), at most `max`, without special tokens; `skip_unknown` leaves out words that cannot be spelled.
 * Returns how many. */
unsigned wordpiece_encode(const struct wordpiece *words, struct view text, bool skip_unknown, uint32_t *ids,
                          unsigned max);
