/* Merging and writing of growing values, with stacks of a fixed depth instead of recursion: what is nested deeper is taken whole. */
#include "ai/answer_tree.h"

#include <errno.h>

#define DEPTH 16
#define CHILDREN_MAX 256
#define NODES_MAX 16384

void tree_init(struct tree *tree)
{
    *tree = (struct tree){ 0 };
    arena_init(&tree->arena, NULL, 0, (size_t)16 << 20);
    tree->root.text = buf_make((size_t)64 << 20);
}

void tree_free(struct tree *tree)
{
    for (struct node *node = tree->newest; node; node = node->older)
        buf_free(&node->text);
    buf_free(&tree->root.text);
    arena_release(&tree->arena);
}

static void fail(struct tree *tree, int error)
{
    if (!tree->error)
        tree->error = error;
}

static void empty(struct node *node, enum node_type type)
{
    node->type = type;
    node->first = node->last = NULL;
    node->count = 0;
    node->raw = VIEW_NONE;
    node->text.len = 0;
}

/* A new child, behind `before` (NULL: as the first). */
static struct node *add(struct tree *tree, struct node *parent, struct node *before)
{
    struct node *node;

    if (parent->count >= CHILDREN_MAX || tree->count >= NODES_MAX) {
        fail(tree, -EINVAL);
        return &tree->root;
    }
    node = arena_alloc(&tree->arena, sizeof(*node));
    if (!node) {
        fail(tree, -ENOMEM);
        return &tree->root;
    }
    *node = (struct node){ .text = buf_make(tree->root.text.max), .older = tree->newest };
    tree->newest = node;
    tree->count++;
    parent->count++;
    node->next = before ? before->next : parent->first;
    if (before)
        before->next = node;
    else
        parent->first = node;
    if (parent->last == before)
        parent->last = node;
    return node;
}

struct node *tree_find(const struct node *object, struct view name)
{
    if (object->type == NODE_OBJECT)
        for (struct node *node = object->first; node; node = node->next)
            if (view_eq(node->name, name))
                return node;
    return NULL;
}

struct node *tree_member(struct tree *tree, struct node *object, struct view name)
{
    struct node *node = tree_find(object, name);

    if (node)
        return node;
    if (object->type != NODE_OBJECT)
        empty(object, NODE_OBJECT);
    node = add(tree, object, object->last);
    if (node != &tree->root)
        node->name = name;
    return node;
}

struct node *tree_element(struct tree *tree, struct node *array, uint64_t index)
{
    struct node *before = NULL, *node;

    if (array->type != NODE_ARRAY)
        empty(array, NODE_ARRAY);
    if (array->last && array->last->index < index)
        before = array->last;
    else
        for (node = array->first; node && node->index <= index; before = node, node = node->next)
            if (node->index == index)
                return node;
    node = add(tree, array, before);
    if (node != &tree->root)
        node->index = index;
    return node;
}

void tree_set(struct node *node, struct view raw)
{
    empty(node, NODE_RAW);
    node->raw = raw;
}

void tree_append(struct tree *tree, struct node *array, struct view raw)
{
    if (array->type != NODE_ARRAY)
        empty(array, NODE_ARRAY);
    if (array->text.len)
        buf_char(&array->text, ',');
    buf_put(&array->text, raw);
    if (array->text.failed)
        fail(tree, -ENOMEM);
}

/* Strings that say what something is come whole, and some servers say them with every piece. */
static bool names_something(struct view name)
{
    static const struct view names[] = { { "id", 2 }, { "type", 4 }, { "role", 4 }, { "name", 4 }, { "format", 6 } };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (view_eq(name, names[i]))
            return true;
    return false;
}

static void take_string(struct tree *tree, struct node *node, struct view inside, bool grow)
{
    if (node->type != NODE_STRING || (inside.len && (!grow || names_something(node->name)))) {
        if (node->type != NODE_NONE && inside.len == 0 && !grow)
            return;
        empty(node, NODE_STRING);
        node->raw = inside;
        return;
    }
    if (inside.len == 0)
        return;
    if (node->text.len == 0 && node->raw.len == 0) {
        node->raw = inside;
        return;
    }
    if (node->text.len == 0)
        buf_put(&node->text, node->raw);
    buf_put(&node->text, inside);
    if (node->text.failed)
        fail(tree, -ENOMEM);
}

/* True: the value is a container whose parts must be merged one by one. */
static bool take(struct tree *tree, struct node *node, const struct json *doc, uint32_t i, bool grow, bool may_enter)
{
    struct view raw = json_raw(doc, i);

    switch (json_type(doc, i)) {
    case JSON_NULL:
        if (node->type == NODE_NONE)
            tree_set(node, raw);
        return false;
    case JSON_STRING: take_string(tree, node, view_make(raw.ptr + 1, raw.len - 2), grow); return false;
    case JSON_OBJECT:
        if (!may_enter)
            break;
        if (node->type != NODE_OBJECT)
            empty(node, NODE_OBJECT);
        return true;
    case JSON_ARRAY:
        if (!may_enter || !grow)
            break;
        if (node->type != NODE_ARRAY)
            empty(node, NODE_ARRAY);
        return true;
    default: break;
    }
    tree_set(node, raw);
    return false;
}

struct merge {
    struct node *node;
    uint32_t at, end;
};

/* Some local servers count every call of an answer as the first, each in one piece: one with another id and a name is another
 * call. (A new id alone is not: others make one up for each piece.) */
static uint64_t place_of(const struct node *array, const struct json *doc, uint32_t value, uint64_t index)
{
    uint32_t id = json_get_typed(doc, value, VIEW("id"), JSON_STRING);
    uint32_t function = json_get_typed(doc, value, VIEW("function"), JSON_OBJECT);
    uint32_t name = function ? json_get_typed(doc, function, VIEW("name"), JSON_STRING) : 0;
    struct view said = id ? json_raw(doc, id) : VIEW_NONE, known;
    const struct node *node = array->type == NODE_ARRAY ? array->first : NULL, *other;

    if (said.len <= 2 || !name || json_raw(doc, name).len <= 2 || !view_eq(array->name, VIEW("tool_calls")))
        return index;
    while (node && node->index != index)
        node = node->next;
    other = node ? tree_find(node, VIEW("id")) : NULL;
    known = !other ? VIEW_NONE : other->raw.ptr ? other->raw : buf_view(&other->text);
    if (known.len == 0 || view_eq(known, view_make(said.ptr + 1, said.len - 2)))
        return index;
    return array->last->index + 1;
}

/* The node and value of the next part of a container; NULL: an element that was appended. */
static struct node *next_part(struct tree *tree, struct merge *m, const struct json *doc, uint32_t *ret_value)
{
    uint32_t value = m->at, number;
    uint64_t index;

    if (m->node->type == NODE_OBJECT) {
        struct view name = json_raw(doc, m->at);

        *ret_value = m->at + 1;
        m->at = json_after(doc, m->at + 1);
        return tree_member(tree, m->node, view_make(name.ptr + 1, name.len - 2));
    }
    m->at = json_after(doc, value);
    number = json_get_typed(doc, value, VIEW("index"), JSON_NUMBER);
    if (!number || !json_u64(doc, number, &index)) {
        tree_append(tree, m->node, json_raw(doc, value));
        return NULL;
    }
    *ret_value = value;
    return tree_element(tree, m->node, place_of(m->node, doc, value, index));
}

void tree_merge(struct tree *tree, struct node *node, const struct json *doc, uint32_t i, bool grow)
{
    struct merge stack[DEPTH];
    unsigned depth = 0;
    uint32_t value = 0;

    if (take(tree, node, doc, i, grow, true))
        stack[depth++] = (struct merge){ node, json_first(doc, i), json_end(doc, i) };
    while (depth > 0 && !tree->error) {
        struct merge *top = &stack[depth - 1];

        if (top->at >= top->end) {
            depth--;
            continue;
        }
        node = next_part(tree, top, doc, &value);
        if (node && !tree->error && take(tree, node, doc, value, grow, depth < DEPTH))
            stack[depth++] = (struct merge){ node, json_first(doc, value), json_end(doc, value) };
    }
}

/* ---- writing ---- */

struct visit {
    struct node *node, *child;
    bool any, in_calls; /* something was written; this is an element of tool_calls */
};

static struct view content_of(const struct node *node)
{
    return node->text.len ? buf_view(&node->text) : node->raw;
}

/* True: its parts follow. */
static bool write_begin(struct node *node, struct buf *out)
{
    switch (node->type) {
    case NODE_NONE: buf_lit(out, "null"); return false;
    case NODE_RAW: buf_put(out, content_of(node)); return false;
    case NODE_STRING:
        buf_char(out, '"');
        buf_put(out, content_of(node));
        buf_char(out, '"');
        return false;
    case NODE_OBJECT: buf_char(out, '{'); return true;
    case NODE_ARRAY: buf_char(out, '['); return true;
    }
    return false;
}

static void write_end(struct visit *v, struct buf *out)
{
    if (v->node->type == NODE_ARRAY && v->node->text.len) {
        if (v->any)
            buf_char(out, ',');
        buf_put(out, buf_view(&v->node->text));
    }
    buf_char(out, v->node->type == NODE_OBJECT ? '}' : ']');
}

void tree_write(struct tree *tree, struct node *node, struct buf *out)
{
    struct visit stack[2 * DEPTH];
    unsigned depth = 0;

    if (write_begin(node, out))
        stack[depth++] = (struct visit){ .node = node, .child = node->first };
    while (depth > 0 && !out->failed) {
        struct visit *top = &stack[depth - 1];

        node = top->child;
        if (!node) {
            write_end(top, out);
            depth--;
            continue;
        }
        top->child = node->next;
        /* In a stream the index tells which call is meant; the plain answer has the place in the array for that. */
        if (top->in_calls && view_eq(node->name, VIEW("index")))
            continue;
        if (top->any)
            buf_char(out, ',');
        top->any = true;
        if (top->node->type == NODE_OBJECT) {
            buf_char(out, '"');
            buf_put(out, node->name);
            buf_lit(out, "\":");
        }
        if (!write_begin(node, out))
            continue;
        if (depth == ARRAY_LEN(stack)) {
            fail(tree, -EINVAL);
            return;
        }
        stack[depth++] =
            (struct visit){ .node = node,
                            .child = node->first,
                            .in_calls = top->node->type == NODE_ARRAY && view_eq(top->node->name, VIEW("tool_calls")) };
    }
    if (out->failed)
        fail(tree, -ENOMEM);
}
