/* The foldable beginning of a prompt: the words of its first line, up to a colon that announces a payload. Shared by the files of the
 * canonical form only. */
#pragma once

#include "ai/semantic_words.h"

struct head {
    const struct word *words;
    size_t from, to;     /* what is left of them */
    struct view payload; /* behind a colon: kept as it is */
    bool more;           /* lines follow */
    bool english, form, shouting;
    bool request; /* "could you ...?" was taken off: its question mark goes with it */
};

static inline struct view head_lower(const struct head *h, size_t i)
{
    return i >= h->from && i < h->to && h->words[i].kind == WORD_PLAIN ? word_lower(&h->words[i]) : VIEW_NONE;
}

static inline uint32_t head_classes(const struct head *h, size_t i)
{
    return i >= h->from && i < h->to && h->words[i].kind == WORD_PLAIN ? h->words[i].meaning->classes : 0;
}

/* Is `word` one of the space-separated `list`? */
bool head_is_one_of(struct view word, const char *list);
/* Takes greetings, requests ("could you please") and thanks off both ends. */
void head_strip_politeness(struct head *h);
