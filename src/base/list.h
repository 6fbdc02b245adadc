/* Intrusive doubly linked ring. A node that is on no list points to itself, so removing twice is harmless. */
#pragma once

#include "base/compiler.h"

#include <stdbool.h>

struct node {
    struct node *prev, *next;
};

static inline void list_init(struct node *list)
{
    list->prev = list->next = list;
}

static inline bool list_empty(const struct node *list)
{
    return list->next == list;
}

static inline bool list_linked(const struct node *node)
{
    return node->next != node;
}

/* Inserts at the tail of `list`, or before `list` when it is itself an element. */
static inline void list_push(struct node *list, struct node *node)
{
    node->prev = list->prev;
    node->next = list;
    list->prev->next = node;
    list->prev = node;
}

static inline void list_push_front(struct node *list, struct node *node)
{
    list_push(list->next, node);
}

static inline void list_remove(struct node *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* Takes the first element, or NULL. */
static inline struct node *list_pop(struct node *list)
{
    struct node *first = list->next;

    if (first == list)
        return NULL;
    list_remove(first);
    return first;
}

/* Moves all elements of `from` to the (empty) list `to`. */
static inline void list_take(struct node *to, struct node *from)
{
    list_init(to);
    if (list_empty(from))
        return;
    *to = *from;
    to->next->prev = to;
    to->prev->next = to;
    list_init(from);
}

#define LIST_EACH(it, list) for (struct node *it = (list)->next; it != (list); it = it->next)
/* Tolerates removal of the current element. */
#define LIST_EACH_SAFE(it, list) \
    for (struct node *it = (list)->next, *it##_next = it->next; it != (list); it = it##_next, it##_next = it->next)
