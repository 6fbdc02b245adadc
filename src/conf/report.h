/* What the parts of conf/ share about reporting. Not for other modules: they use conf.h. */
#pragma once

#include "base/text.h"
#include "conf/conf.h"

struct conf_mark {
    unsigned line, column; /* from 1; 0: the file as a whole */
};

/* `path` may be empty. The text is copied. */
void report_add(struct conf_report *report, struct conf_mark mark, struct view path, const char *format, ...)
    printf_like(4, 5);
/* Remembers where the file holds `path`, which must live as long as the report. */
void report_position(struct conf_report *report, struct view path, struct conf_mark mark);
/* Appends foreign bytes in quotes, cut to a readable length, control characters replaced. */
void report_quote(struct text *out, struct view foreign);
