/* A JSON value that grows by pieces, as the deltas of a stream make it. Private to the assembling of answers.
 *
 * Values are views into the texts merged, which must outlive the tree; only what comes in several pieces is copied. */
#pragma once

#include "base/arena.h"
#include "proto/json.h"

enum node_type {
    NODE_NONE,
    NODE_RAW,    /* bytes of JSON */
    NODE_STRING, /* the inside of a string, as it is spelled: pieces may be joined without being understood */
    NODE_OBJECT,
    NODE_ARRAY, /* elements with an index, and behind them those that were only appended (bytes of JSON in `text`) */
};

struct node {
    struct node *next, *first, *last; /* siblings; children */
    struct node *older;               /* of all nodes */
    struct view name;                 /* as a member, as spelled */
    uint64_t index;                   /* as an element */
    enum node_type type;
    uint32_t count;
    struct view raw; /* when there is but one piece */
    struct buf text; /* else */
};

struct tree {
    struct arena arena;
    struct node *newest;
    uint32_t count;
    int error; /* sticky: -ENOMEM, -EINVAL (too many parts) */
    struct node root;
};

void tree_init(struct tree *tree);
void tree_free(struct tree *tree);

/* The member of an object (what was no object becomes one); made when it is not there. Never NULL: after an error it is a node whose
 * content does not matter. */
struct node *tree_member(struct tree *tree, struct node *object, struct view name);
struct node *tree_find(const struct node *object, struct view name);
/* The element of an array with this index; the same. */
struct node *tree_element(struct tree *tree, struct node *array, uint64_t index);
void tree_set(struct node *node, struct view raw);
/* Appends an element to an array. */
void tree_append(struct tree *tree, struct node *array, struct view raw);
/* Takes value `i` over what is there: null changes nothing, members are merged by name. When `grow`, strings are joined (but those that
 * name things), elements with an "index" are merged by it and others appended; else strings and arrays are replaced. */
void tree_merge(struct tree *tree, struct node *node, const struct json *doc, uint32_t i, bool grow);
void tree_write(struct tree *tree, struct node *node, struct buf *out);
