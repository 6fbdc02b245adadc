/* How much a prompt seems to ask of a model: a number from 0 (any model will do) to 1, from what can be seen without understanding it. Rules
 * of thumb, not knowledge: a short question may be hard and a long text easy. Pure; any thread; about a microsecond for each KiB.
 *
 *   length     0.40 * tokens / 2000, at most 0.40; a token is 4 bytes of the whole prompt, earlier turns and system prompt included
 *   code       0.30: a fence (```), or three lines that look like a program
 *   maths      0.25: signs between numbers, or a word of the trade (integral, equation, probability, prove, ...)
 *   steps      0.15 for each different word that asks for reasoning or several steps (explain, compare, design, debug, then, ...), at most 0.45
 *   language   0.30: not one of the languages that are said, if any are
 *   turns      0.05 for each turn of the user after the third, at most 0.20
 *
 * The sum is cut at 1. */
#pragma once

#include "base/view.h"

enum classify_language {
    CLASSIFY_EN,
    CLASSIFY_DE,
    CLASSIFY_FR,
    CLASSIFY_ES,
    CLASSIFY_IT,
    CLASSIFY_PT,
    CLASSIFY_NL,
    CLASSIFY_RU, /* Cyrillic */
    CLASSIFY_EL,
    CLASSIFY_ZH, /* Han without kana */
    CLASSIFY_JA,
    CLASSIFY_KO,
    CLASSIFY_AR,
    CLASSIFY_HE,
    CLASSIFY_HI,
    CLASSIFY_TH,
    CLASSIFY_LANGUAGES
};

struct classify_prompt {
    struct view text;   /* the last user message, its first CLASSIFY_TEXT_MAX bytes count; may be empty */
    uint64_t bytes;     /* of the whole prompt */
    unsigned turns;     /* of the user */
    unsigned languages; /* bits 1 << enum classify_language of those the small model knows; 0: any */
};

#define CLASSIFY_TEXT_MAX ((size_t)16384)

struct classify_score {
    float length, code, maths, steps, language, turns;
    float total; /* 0 to 1 */
};

void ai_classify(const struct classify_prompt *prompt, struct classify_score *ret);
/* "en" -> CLASSIFY_EN; -1: not one we can tell. */
int ai_classify_language(struct view code);
