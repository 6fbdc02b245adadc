/* The guards of the semantic cache: may an answer to one prompt be given to another that an embedding calls similar? Vectors blur
 * exactly what matters most: numbers, names, negation, direction. So the words themselves must agree, and what is unsure disagrees. */
#pragma once

#include "base/view.h"

enum guard {
    GUARD_NONE,
    GUARD_TEXT,        /* too long, or not to be taken apart (an open quote): no judgement, so no hit */
    GUARD_LANGUAGE,    /* script, or language by its function words */
    GUARD_NUMBERS,     /* values with their units, in order */
    GUARD_IDENTIFIERS, /* code, paths, addresses, quoted text, signs, words with digits or mixed case, in order */
    GUARD_NEGATION,    /* how many, and of what */
    GUARD_OPPOSITES,   /* enable and disable, before and after, on and off, (un)paid */
    GUARD_ENTITIES, /* capitalised words; months, weekdays, languages, currencies, countries, units, programs in any case */
    GUARD_QUANTITY, /* all, only, first, last, each ... */
    GUARD_OWNER,    /* my and your; who does it to whom */
    GUARD_VERBS,    /* must, may, can; was, is, will */
    GUARD_ORDER,    /* of the words both have */
    GUARD_CONTENT,  /* a word that matters is in one of them only */
    GUARD_FORM,     /* the same words in another writing, or a prompt about wording, whose canonical forms differ */
    GUARD_COUNT
};

/* Longer texts are not judged. */
#define GUARD_TEXT_MAX 4096

/* True when all guards agree. Else false, and *ret_failed (NULL: not asked) names the first that did not. Symmetric, pure, any thread; about
 * 10 us for prompts of 200 bytes. */
bool ai_guards_agree(struct view a, struct view b, enum guard *ret_failed);
/* "numbers", ...: for reports. */
const char *ai_guard_name(enum guard guard);
