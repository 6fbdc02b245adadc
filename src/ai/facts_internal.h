/* What reading a request's parameters (facts.c) and its prompt (facts_prompt.c) share. */
#pragma once

#include "ai/facts.h"

struct facts_reader {
    struct ai_facts facts;
    enum ai_endpoint endpoint;
    const struct json *doc;
    struct text *reason;
    /* Text parts of the last user message: */
    uint32_t parts, text_at;
};

/* Sets the reason; returns -EINVAL. The arguments are member names of ours and numbers, never bytes of the request. */
int facts_refuse(struct facts_reader *r, const char *format, ...) printf_like(2, 3);

int facts_messages(struct facts_reader *r, uint32_t value);
int facts_input(struct facts_reader *r, uint32_t value);
int facts_prompt(struct facts_reader *r, uint32_t value);
int facts_system(struct facts_reader *r, uint32_t value);
