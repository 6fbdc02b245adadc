/* YAML text to a tree, with libyaml's event parser.
 *
 * The events are put together here instead of with libyaml's own documents, because those stop at the first mistake and
 * know no limits. Open containers stand on an explicit stack of CONF_DEPTH_MAX entries; an alias is a node of its own
 * that points at the anchored value, so sharing costs nothing here and whoever follows aliases counts.
 *
 * libyaml reports bad bytes without a line, so the text is checked as UTF-8 before it sees it. */
#include "conf/tree.h"

#include <errno.h>
#include <yaml.h>

#define ANCHORS_MAX 256u

struct builder {
    struct arena *memory;
    struct conf_report *report;
    struct tree *root;
    struct tree *stack[CONF_DEPTH_MAX];
    unsigned depth;
    unsigned values;
    unsigned documents;
    struct {
        struct view name;
        struct tree *node;
    } anchors[ANCHORS_MAX];
    unsigned anchor_count;
};

/* What an event asks the loop to do next, besides 0 and -ENOMEM. */
#define STOP 1

static struct conf_mark mark_of(yaml_mark_t m)
{
    return (struct conf_mark){ .line = (unsigned)m.line + 1, .column = (unsigned)m.column + 1 };
}

static int refuse(struct builder *b, struct conf_mark mark, const char *what)
{
    report_add(b->report, mark, VIEW_NONE, "%s", what);
    b->report->incomplete = true;
    return STOP;
}

/* Length of the UTF-8 sequence at p (RFC 3629), 0 when it is not one or is a character YAML does not allow. */
static size_t character_len(const unsigned char *p, size_t left)
{
    size_t len = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
    uint32_t c;

    if (len == 0 || len > left)
        return 0;
    if (len == 1)
        return p[0] == '\t' || p[0] == '\n' || p[0] == '\r' || (p[0] >= 0x20 && p[0] != 0x7f) ? 1 : 0;
    c = p[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    if (c < (len == 2 ? 0x80u : len == 3 ? 0x800u : 0x10000u) || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    return (c >= 0x80 && c < 0xa0 && c != 0x85) || c == 0xfffe || c == 0xffff ? 0 : len;
}

static bool check_bytes(struct view text, struct conf_report *report)
{
    struct conf_mark mark = { .line = 1, .column = 1 };

    for (size_t i = 0; i < text.len; mark.column++) {
        const unsigned char *p = (const unsigned char *)text.ptr + i;
        size_t len = character_len(p, text.len - i);

        if (len == 0) {
            if (p[0] < 0x80)
                report_add(report, mark, VIEW_NONE, "control character 0x%02x: not a text file", p[0]);
            else
                report_add(report, mark, VIEW_NONE, "byte 0x%02x is not UTF-8; save the file as UTF-8", p[0]);
            report->incomplete = true;
            return false;
        }
        if (p[0] == '\n')
            mark = (struct conf_mark){ .line = mark.line + 1, .column = 0 };
        i += len;
    }
    return true;
}

static struct tree *new_node(struct builder *b, const yaml_event_t *event, enum tree_kind kind)
{
    struct tree *node = arena_alloc(b->memory, sizeof(*node));

    if (node)
        *node = (struct tree){ .kind = kind, .mark = mark_of(event->start_mark) };
    return node;
}

static void attach(struct builder *b, struct tree *node)
{
    struct tree *parent = b->depth ? b->stack[b->depth - 1] : NULL;

    if (!parent) {
        b->root = node;
        return;
    }
    if (parent->last)
        parent->last->next = node;
    else
        parent->first = node;
    parent->last = node;
    parent->count++;
}

static int copy_text(struct builder *b, const void *ptr, size_t len, struct view *ret)
{
    char *copy = arena_alloc(b->memory, len + 1);

    if (!copy)
        return -ENOMEM;
    if (len)
        memcpy(copy, ptr, len);
    copy[len] = '\0';
    *ret = view_make(copy, len);
    return 0;
}

static int remember_anchor(struct builder *b, const yaml_char_t *anchor, struct tree *node)
{
    struct view name;
    int r;

    if (!anchor)
        return 0;
    if (b->anchor_count == ANCHORS_MAX)
        return refuse(b, node->mark, "more than 256 anchors");
    r = copy_text(b, anchor, strlen((const char *)anchor), &name);
    if (r < 0)
        return r;
    b->anchors[b->anchor_count].name = name;
    b->anchors[b->anchor_count++].node = node;
    return 0;
}

static int on_scalar(struct builder *b, const yaml_event_t *event)
{
    struct tree *node = new_node(b, event, TREE_SCALAR);
    int r;

    if (!node)
        return -ENOMEM;
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    r = copy_text(b, event->data.scalar.value, event->data.scalar.length, &node->text);
    if (r < 0)
        return r;
    attach(b, node);
    return remember_anchor(b, event->data.scalar.anchor, node);
}

static int on_open(struct builder *b, const yaml_event_t *event, enum tree_kind kind, const yaml_char_t *anchor)
{
    struct tree *node = new_node(b, event, kind);

    if (!node)
        return -ENOMEM;
    attach(b, node);
    if (b->depth == CONF_DEPTH_MAX)
        return refuse(b, node->mark, "nested deeper than 16 levels");
    node->open = true;
    b->stack[b->depth++] = node;
    return remember_anchor(b, anchor, node);
}

static int on_alias(struct builder *b, const yaml_event_t *event)
{
    struct view name = view_str((const char *)event->data.alias.anchor);
    struct tree *node = new_node(b, event, TREE_ALIAS);

    if (!node)
        return -ENOMEM;
    for (unsigned i = b->anchor_count; i-- > 0 && !node->target;)
        if (view_eq(b->anchors[i].name, name))
            node->target = b->anchors[i].node;
    if (!node->target)
        return refuse(b, node->mark, "alias to an anchor that is not defined before it");
    if (node->target->open)
        return refuse(b, node->mark, "alias to a value that contains it");
    attach(b, node);
    return 0;
}

static int on_event(struct builder *b, const yaml_event_t *event)
{
    if (event->type >= YAML_ALIAS_EVENT && ++b->values > CONF_VALUES_MAX)
        return refuse(b, mark_of(event->start_mark), "more than 100000 values");
    switch (event->type) {
    case YAML_STREAM_END_EVENT: return STOP;
    case YAML_DOCUMENT_START_EVENT:
        if (++b->documents > 1)
            return refuse(b, mark_of(event->start_mark), "a second document; a configuration is one document");
        return 0;
    case YAML_SCALAR_EVENT: return on_scalar(b, event);
    case YAML_ALIAS_EVENT: return on_alias(b, event);
    case YAML_SEQUENCE_START_EVENT: return on_open(b, event, TREE_LIST, event->data.sequence_start.anchor);
    case YAML_MAPPING_START_EVENT: return on_open(b, event, TREE_MAP, event->data.mapping_start.anchor);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: b->stack[--b->depth]->open = false; return 0;
    default: return 0;
    }
}

/* Is the position inside white space that holds a tab and opens a line? The commonest syntax mistake of all, and the one
 * whose original message ("cannot start any token") helps nobody. */
static bool tab_indents(struct view text, struct conf_mark mark)
{
    struct view line = VIEW_NONE;

    for (unsigned i = 0; i < mark.line && text.ptr; i++)
        line = view_cut(&text, '\n');
    for (size_t i = 0; i < line.len && (line.ptr[i] == ' ' || line.ptr[i] == '\t'); i++)
        if (line.ptr[i] == '\t')
            return true;
    return false;
}

static void report_syntax(struct builder *b, const yaml_parser_t *parser, struct view text)
{
    struct conf_mark mark = mark_of(parser->problem_mark);

    b->report->incomplete = true;
    if (tab_indents(text, mark))
        report_add(b->report, mark, VIEW_NONE, "a tab indents this line; YAML allows spaces only");
    else if (parser->context)
        report_add(b->report, mark, VIEW_NONE, "not valid YAML: %s (%s that began in line %zu)",
                   parser->problem ? parser->problem : "unknown", parser->context, parser->context_mark.line + 1);
    else
        report_add(b->report, mark, VIEW_NONE, "not valid YAML: %s", parser->problem ? parser->problem : "unknown");
}

static int run(struct builder *b, yaml_parser_t *parser, struct view text)
{
    yaml_event_t event;
    int r;

    for (;;) {
        if (!yaml_parser_parse(parser, &event)) {
            if (parser->error == YAML_MEMORY_ERROR)
                return -ENOMEM;
            report_syntax(b, parser, text);
            return 0;
        }
        r = on_event(b, &event);
        yaml_event_delete(&event);
        if (r == STOP)
            return 0;
        if (r < 0)
            return r;
    }
}

int tree_parse(struct view text, struct arena *memory, struct conf_report *report, struct tree **ret_root)
{
    struct builder b = { .memory = memory, .report = report };
    yaml_parser_t parser;
    int r;

    if (!check_bytes(text, report)) {
        *ret_root = NULL;
        return 0;
    }
    if (!yaml_parser_initialize(&parser))
        return -ENOMEM;
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.ptr, text.len);
    r = run(&b, &parser, text);
    yaml_parser_delete(&parser);
    if (r < 0)
        return r;
    *ret_root = b.root;
    return 0;
}
