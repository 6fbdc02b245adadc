/* A YAML document as a tree of values with their positions. */
#pragma once

#include "conf/report.h"

enum tree_kind { TREE_SCALAR, TREE_LIST, TREE_MAP, TREE_ALIAS };

struct tree {
    enum tree_kind kind;
    bool plain; /* scalar without quotes: "null" means nothing */
    bool open;  /* its end was not seen yet: an alias to it would be a cycle */
    struct conf_mark mark;
    struct view text;    /* scalar; followed by a NUL */
    struct tree *target; /* alias */
    struct tree *first;  /* list: elements; map: key, value, key, value, ... */
    struct tree *last;
    struct tree *next;
    size_t count; /* of children */
};

/* Parses `text`. *ret_root is NULL for an empty document. Syntax mistakes go to the report and set its `incomplete`; the
 * tree then holds what stood before. Everything lives in `memory`; 0 or -ENOMEM. */
int tree_parse(struct view text, struct arena *memory, struct conf_report *report, struct tree **ret_root) must_use;

/* Behind the alias, if it is one. */
static inline const struct tree *tree_resolve(const struct tree *t)
{
    return t->kind == TREE_ALIAS ? t->target : t;
}

/* Written as nothing at all, `~` or `null`. */
static inline bool tree_is_null(const struct tree *t)
{
    return t->kind == TREE_SCALAR && t->plain &&
           (t->text.len == 0 || view_eq(t->text, VIEW("~")) || view_eq_icase(t->text, VIEW("null")));
}
