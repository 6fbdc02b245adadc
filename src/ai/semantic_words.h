/* A prompt taken apart into words, for the canonical form and the guards. Words borrow the text. */
#pragma once

#include "ai/semantic_dictionary.h"

enum word_kind {
    WORD_PLAIN,  /* letters of any script, with inner apostrophes and hyphens */
    WORD_NUMBER, /* digits with their separators, sign, currency and percent sign */
    WORD_NAMED,  /* identifiers, paths, addresses, mixed case, letters with digits: anything that is not prose */
    WORD_QUOTED, /* a quoted span or a code span, marks included */
    WORD_SIGN,   /* nothing but punctuation */
};

struct word {
    struct view lead; /* opening punctuation before it */
    struct view core;
    struct view tail; /* closing punctuation after it */
    enum word_kind kind;
    bool begins;  /* a sentence */
    bool capital; /* first letter of a plain word */
    bool upper;   /* two letters or more, all capitals */
    uint8_t lower_len;
    char lower[27]; /* of a plain word, folded, apostrophes made straight; empty when it is longer */
    const struct word_meaning *meaning;
};

/* Takes `text` apart. Returns the count; -E2BIG when there are more than `max`, -EINVAL when a quote or code span is not closed or
 * the text is not UTF-8. */
int words_split(struct view text, struct word *words, size_t max);

static inline struct view word_lower(const struct word *w)
{
    return view_make(w->lower, w->lower_len);
}

/* Writes the folded form of `core` (ASCII, Latin, Greek and Cyrillic capitals; nothing else; never longer) to `out`, which has room
 * for core.len bytes; returns its length. */
size_t words_fold(struct view core, char *out);

/* Is the prompt about wording, spelling or letters? Then every letter of it may count. */
bool words_about_form(const struct word *words, size_t count);
