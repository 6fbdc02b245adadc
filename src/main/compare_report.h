/* What a comparison found: samples in, a table or JSON out. */
#pragma once

#include "ai/price.h"
#include "main/compare_ask.h"

struct compare_sample {
    uint64_t first_us, total_us, input, output;
    int64_t cost; /* micro-units; -1: not known */
    bool failed, estimated;
};

struct compare_model {
    const char *text; /* as it was given: "fast@device" */
    struct view name, tier;
    struct compare_sample *samples;
    size_t count;
};

enum compare_fault {
    COMPARE_FINE,
    COMPARE_FAILED,    /* no answer, or an error */
    COMPARE_REFUSED,   /* the model would not */
    COMPARE_CUT,       /* by its limit, or by its connection */
    COMPARE_EMPTY,     /* neither text nor tools */
    COMPARE_BAD_JSON,  /* JSON was asked for */
    COMPARE_DISAGREES, /* with the other model */
    COMPARE_SLOW,
};

struct compare_shortfall {
    size_t prompt; /* from 1: line of the file */
    unsigned run;
    enum compare_fault fault;
    bool other; /* the other model does the same */
    char detail[192];
};

struct compare_report {
    struct compare_model models[2];
    size_t prompts;
    unsigned repeat;
    struct prices *prices; /* NULL: none */
    uint64_t slow_us;      /* to the first token; 0: nothing is slow */
    size_t compared, agreed;
    double overlap; /* sum */
    struct compare_shortfall *shortfalls;
    size_t shortfall_count, shortfall_cap;
};

/* Takes a pair of answers to one prompt. False: memory is out. */
bool compare_judge(struct compare_report *report, size_t prompt, unsigned run, bool wants_json,
                   struct compare_answer answers[static 2]);
/* Share of words that two texts have in common (Dice over sets of words, case folded), 0 to 1; two empty texts: 1. */
double compare_overlap(struct view a, struct view b);
void compare_print(const struct compare_report *report);
void compare_print_json(const struct compare_report *report);
void compare_report_free(struct compare_report *report);
