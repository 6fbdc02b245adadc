/* For unit tests: the fields of a message from readable text. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/text.h"
#include "proto/field.h"

struct message {
    struct field list[64];
    struct fields fields;
};

/* Lines "Name: value\n" (the last "\n" may be missing). Borrows `lines`. */
static inline const struct fields *message_of(struct message *m, const char *lines)
{
    struct view rest = view_str(lines);

    fields_init(&m->fields, m->list, ARRAY_LEN(m->list));
    while (rest.len) {
        struct view line = view_cut(&rest, '\n');
        size_t at = view_find(line, ':');
        struct view name = view_first(line, at);

        assert_int_equal(fields_add(&m->fields, field_lookup(name), name, view_trim(view_skip(line, at + 1))), 0);
    }
    return &m->fields;
}

#define assert_view(v, text) \
    do { \
        struct view got_ = (v); \
        if (!view_eq(got_, view_str(text))) \
            fail_msg("got <%.*s>, wanted <%s>", VIEW_ARG(got_), (text)); \
    } while (0)
