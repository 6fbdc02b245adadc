/* Level 0 of the semantic cache: the canonical prompt. Two prompts with the same canonical form ask the same thing in the same words;
 * what differs is case, punctuation at the edges of words, contractions, politeness, articles and white space, and only where folding
 * them is known to keep the meaning. Word order, numbers, negation, quoted text, code and who owns what are kept. In doubt, nothing is
 * folded: a miss costs money, a false hit costs trust. docs/ai-semantic.md lists what is folded. */
#pragma once

#include "base/buf.h"

/* Longer prompts are not looked at. */
#define CANONICAL_TEXT_MAX (64u << 10)

/* Appends the canonical form of `text` to *out. Stable: a canonical form is its own canonical form. Returns 0; -ENODATA when nothing
 * is left, the text is too long or not UTF-8 (no level 0 then); -ENOMEM, with *out->failed set, when *out could not grow. Pure, any
 * thread. */
int ai_canonical(struct view text, struct buf *out);
