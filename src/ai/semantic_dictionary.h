/* What single English words mean to the canonical prompt and to the guards. Words are asked for in lower case. */
#pragma once

#include "base/view.h"

enum word_class {
    W_ENGLISH = 1 << 0,   /* a function word that hardly any other language has */
    W_FUNCTION = 1 << 1,  /* carries grammar, not content */
    W_QUESTION = 1 << 2,  /* a sentence that begins so is a question with or without its mark */
    W_FORM = 1 << 3,      /* the prompt is about wording, spelling or letters: folding would change what is asked */
    W_NAME = 1 << 4,      /* means another thing with a capital: polish, turkey, may, go */
    W_ACRONYM = 1 << 5,   /* means another thing in capitals: us, it, who */
    W_UNIT_CASE = 1 << 6, /* a unit whose case is its meaning: Mb and MB */
    W_KEEP_THE = 1 << 7,  /* "the" before it is not decoration */
    W_NEGATION = 1 << 8,
    W_POSSESSIVE = 1 << 9,
    W_QUANTIFIER = 1 << 10,
    W_ENTITY = 1 << 11, /* a name even in lower case: months, weekdays, languages, currencies, countries, ... */
    W_UNIT = 1 << 12,   /* of measure: part of the number before it */
    W_NUMBER = 1 << 13, /* a number word: value */
    W_DIRECTION = 1 << 14,
    W_BRAND = 1 << 15, /* a name in mixed case that people type in lower case, and nothing else in lower case */
    W_PRONOUN = 1 << 16,
    W_PERSON = 1 << 17,  /* I, you, we, they, ... : who does it */
    W_BARE_NT = 1 << 18, /* "dont": the apostrophe forgotten */
    W_VAGUE_A = 1 << 19, /* "a few" is not "few" */
    W_GERMAN = 1 << 20,  /* function words of other languages, to tell which one a prompt is in */
    W_FRENCH = 1 << 21,
    W_SPANISH = 1 << 22,
    W_ITALIAN = 1 << 23,
    W_PORTUGUESE = 1 << 24,
    W_DUTCH = 1 << 25,
    W_FORM_CODE = 1 << 26, /* as W_FORM, except where a program is asked for */
    W_PROGRAM = 1 << 27,   /* says that a program is asked for */
    W_LIGHT = 1 << 28,     /* adds nothing to a question: "the way to", "the steps to" */
};

struct word_meaning {
    struct view word;
    uint32_t classes;
    int16_t group;   /* of opposites: one side > 0, the other the same number negative; 0: none */
    bool weak;       /* the group counts only when the other side is there */
    int32_t value;   /* W_NUMBER; for W_UNIT the number of the meaning */
    int32_t synonym; /* words with the same one mean the same; 0: none */
};

/* What is known of `lower`; a meaning without classes when nothing is. Any thread. */
const struct word_meaning *word_meaning(struct view lower);
/* The same with endings tried: "enabling", "disabled", "files". */
const struct word_meaning *word_meaning_stem(struct view lower);
/* `lower` without the usual English endings, for comparing content words; part of `lower`. */
struct view word_stem(struct view lower);
