/* Walks a YAML tree along option tables.
 *
 * The walk is a queue of tasks, one per mapping that a table describes, so neither nested tables nor nested input use the
 * C stack. Each task sets the defaults of its struct first and then what the file says; a struct the file does not
 * mention still gets its task, with no tree. Mistakes never stop the walk: a wrong value keeps its default.
 *
 * Strings of the result point into the tree, which lives in the caller's arena. Paths live in the report's. */
#include "conf/conf.h"

#include "base/check.h"
#include "base/heap.h"
#include "conf/tree.h"
#include "conf/value.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define TABLE_MAX 64u
#define PATH_MAX_LEN 256u
#define WHY_MAX 400u

struct task {
    struct task *next;
    const struct tree *map; /* NULL: defaults only */
    const struct option *table;
    char *base; /* of the struct */
    struct view path;
    struct conf_mark mark; /* where the mapping stands, for what it lacks */
    bool lost;             /* something else stands there, which was reported */
};

struct walk {
    struct arena *memory;
    struct conf_report *report;
    struct task *first, *last;
    unsigned visited;
    bool quiet; /* defaults only: required options are not missed */
};

/* How OPTION_LIST, OPTION_MAP and all lists of values look in memory (base/option.h). */
struct list {
    void *items;
    size_t count;
};

static size_t table_len(const struct option *table)
{
    size_t n = 0;

    while (table[n].name)
        n++;
    CHECK(n <= TABLE_MAX);
    return n;
}

static const struct option *find_option(const struct option *table, struct view name)
{
    for (const struct option *o = table; o->name; o++)
        if (view_eq(view_str(o->name), name))
            return o;
    return NULL;
}

/* `parent`.name, or `parent`[index] when name is empty. Long paths are cut: they only serve messages. */
static struct view make_path(struct walk *w, struct view parent, struct view name, size_t index, struct conf_mark mark)
{
    char buffer[PATH_MAX_LEN];
    struct text text = TEXT_ON(buffer);
    struct view path;

    text_put(&text, view_first(parent, sizeof(buffer) - 80));
    if (name.len) {
        if (parent.len)
            text_char(&text, '.');
        text_put(&text, view_first(name, 64));
    } else {
        text_printf(&text, "[%zu]", index);
    }
    path = arena_copy(&w->report->_memory, text_view(&text));
    if (path.ptr && mark.line)
        report_position(w->report, path, mark);
    return path;
}

static int push(struct walk *w, struct task task)
{
    struct task *t = arena_alloc(w->memory, sizeof(*t));

    if (!t)
        return -ENOMEM;
    *t = task;
    t->next = NULL;
    if (w->last)
        w->last->next = t;
    else
        w->first = t;
    w->last = t;
    return 0;
}

/* Room for `count` elements, zeroed, as a list at `member`. */
static int new_list(struct walk *w, void *member, size_t count, size_t size, char **ret_items)
{
    struct list list = { .count = count };

    CHECK(size > 0);
    if (count) {
        list.items = arena_alloc(w->memory, count * size); /* count <= CONF_ITEMS_MAX */
        if (!list.items)
            return -ENOMEM;
        memset(list.items, 0, count * size);
    }
    memcpy(member, &list, sizeof(list));
    *ret_items = list.items;
    return 0;
}

static int split_values(struct walk *w, const struct option *o, const char *text, void *member, struct text *why)
{
    struct view rest = view_str(text);
    size_t count = rest.len ? 1 : 0;
    size_t size = value_size(o->type);
    char *items;
    int r;

    for (size_t i = 0; i < rest.len; i++)
        count += rest.ptr[i] == ',';
    if (count > CONF_ITEMS_MAX) {
        text_printf(why, "more than %u elements", CONF_ITEMS_MAX);
        return -EINVAL;
    }
    r = new_list(w, member, count, size, &items);
    for (size_t i = 0; r == 0 && i < count; i++) {
        struct view piece = view_trim(view_cut(&rest, ','));
        char *copy = arena_alloc(w->memory, piece.len + 1);

        if (!copy)
            return -ENOMEM;
        if (piece.len)
            memcpy(copy, piece.ptr, piece.len);
        copy[piece.len] = '\0';
        r = value_parse(o, view_make(copy, piece.len), items + i * size, w->memory, why);
    }
    return r;
}

/* The default of anything but a nested struct. The tables are ours, so a default that does not parse is our bug. */
static int set_default(struct walk *w, const struct option *o, char *base)
{
    static const uint64_t unset = OPTION_UNSET;
    char buffer[WHY_MAX];
    struct text why = TEXT_ON(buffer);
    size_t size = value_size(o->type);
    struct list none = { 0 };
    int r = 0;

    if (o->flags & OPTION_UNAVAILABLE)
        return 0;
    if (o->type == OPTION_LIST || o->type == OPTION_MAP || (value_is_list(o->type) && !o->preset))
        memcpy(base + o->offset, &none, sizeof(none));
    else if (value_is_list(o->type))
        r = split_values(w, o, o->preset, base + o->offset, &why);
    else if (o->preset)
        r = value_parse(o, view_str(o->preset), base + o->offset, w->memory, &why);
    else if (o->type == OPTION_INT || o->type == OPTION_SIZE || o->type == OPTION_DURATION)
        memcpy(base + o->offset, &unset, sizeof(unset));
    else
        memset(base + o->offset, 0, size);
    CHECK(r != -EINVAL);
    return r;
}

static const char *kind_name(const struct tree *t)
{
    return t->kind == TREE_LIST ? "a list" : t->kind == TREE_MAP ? "a mapping (name: value)" : "a single value";
}

static void expected(struct walk *w, const struct tree *t, struct view path, const char *what)
{
    report_add(w->report, t->mark, path, "expected %s, found %s", what, kind_name(tree_resolve(t)));
}

/* Counts what aliases can multiply. False when it is too much; the walk then ends. */
static bool visit(struct walk *w, const struct tree *t)
{
    if (++w->visited <= CONF_VALUES_MAX)
        return true;
    if (w->visited == CONF_VALUES_MAX + 1)
        report_add(w->report, t->mark, VIEW_NONE, "more than %u values after following aliases", CONF_VALUES_MAX);
    return false;
}

static int set_value(struct walk *w, const struct option *o, const struct tree *t, void *member, struct view path)
{
    const struct tree *value = tree_resolve(t);
    char buffer[WHY_MAX];
    struct text why = TEXT_ON(buffer);
    int r;

    if (value->kind != TREE_SCALAR) {
        expected(w, t, path, "a single value");
        return 0;
    }
    r = value_parse(o, value->text, member, w->memory, &why);
    if (r == -EINVAL) {
        report_add(w->report, t->mark, path, "%s", text_str(&why));
        return 0;
    }
    return r;
}

static int set_values(struct walk *w, const struct option *o, const struct tree *t, char *base, struct view path)
{
    const struct tree *value = tree_resolve(t);
    size_t size = value_size(o->type), i = 0;
    char *items;
    int r;

    if (value->kind == TREE_MAP) {
        expected(w, t, path, "a list");
        return 0;
    }
    if (value->count > CONF_ITEMS_MAX) {
        report_add(w->report, t->mark, path, "more than %u elements", CONF_ITEMS_MAX);
        return 0;
    }
    r = new_list(w, base + o->offset, value->kind == TREE_LIST ? value->count : 1, size, &items);
    if (r < 0)
        return r;
    if (value->kind == TREE_SCALAR)
        return set_value(w, o, t, items, path);
    for (const struct tree *e = value->first; e && r == 0; e = e->next, i++) {
        if (!visit(w, e))
            return 0;
        r = set_value(w, o, e, items + i * size, make_path(w, path, VIEW_NONE, i, e->mark));
    }
    return r;
}

static int set_list(struct walk *w, const struct option *o, const struct tree *t, char *base, struct view path)
{
    const struct tree *value = tree_resolve(t);
    const struct tree *e = value->kind == TREE_LIST ? value->first : t; /* one element may stand for a list */
    size_t count = value->kind == TREE_LIST ? value->count : 1;
    char *items;
    int r;

    if (value->kind == TREE_SCALAR) {
        expected(w, t, path, "a list of mappings");
        return 0;
    }
    if (count > CONF_ITEMS_MAX) {
        report_add(w->report, t->mark, path, "more than %u elements", CONF_ITEMS_MAX);
        return 0;
    }
    r = new_list(w, base + o->offset, count, o->item_size, &items);
    for (size_t i = 0; i < count && r == 0; i++, e = e->next) {
        struct view at = make_path(w, path, VIEW_NONE, i, e->mark);
        bool usable = visit(w, e) && tree_resolve(e)->kind == TREE_MAP;

        if (!usable && w->visited <= CONF_VALUES_MAX)
            expected(w, e, at, "a mapping (name: value)");
        r = push(w, (struct task){ .map = usable ? tree_resolve(e) : NULL,
                                   .table = o->table,
                                   .base = items + i * o->item_size,
                                   .path = at,
                                   .mark = e->mark,
                                   .lost = !usable });
    }
    return r;
}

static bool key_before(const struct tree *map, const struct tree *key)
{
    for (const struct tree *k = map->first; k && k != key && k->next; k = k->next->next)
        if (k->kind == TREE_SCALAR && view_eq(k->text, key->text))
            return true;
    return false;
}

static int set_map(struct walk *w, const struct option *o, const struct tree *t, char *base, struct view path)
{
    const struct tree *map = tree_resolve(t);
    size_t used = 0;
    struct list list;
    char *items;
    int r;

    if (map->kind != TREE_MAP || map->count / 2 > CONF_ITEMS_MAX) {
        if (map->kind != TREE_MAP)
            expected(w, t, path, "a mapping of names");
        else
            report_add(w->report, t->mark, path, "more than %u elements", CONF_ITEMS_MAX);
        return 0;
    }
    r = new_list(w, base + o->offset, map->count / 2, o->item_size, &items);
    for (const struct tree *k = map->first; k && k->next && r == 0; k = k->next->next) {
        const struct tree *v = tree_resolve(k->next);
        char *item = items + used * o->item_size;
        struct view at;

        if (k->kind != TREE_SCALAR || k->text.len == 0 || k->text.len > 64) {
            report_add(w->report, k->mark, path, "a name must be a single value of 1 to 64 bytes");
            continue;
        }
        at = make_path(w, path, k->text, 0, k->mark);
        if (!visit(w, k))
            break;
        if (key_before(map, k)) {
            report_add(w->report, k->mark, at, "given twice");
            continue;
        }
        if (v->kind != TREE_MAP && !tree_is_null(v))
            expected(w, k->next, at, "a mapping (name: value)");
        memcpy(item, &k->text, sizeof(k->text));
        used++;
        r = push(w, (struct task){ .map = v->kind == TREE_MAP ? v : NULL,
                                   .table = o->table,
                                   .base = item,
                                   .path = at,
                                   .mark = k->mark,
                                   .lost = v->kind != TREE_MAP && !tree_is_null(v) });
    }
    list = (struct list){ .items = items, .count = used };
    memcpy(base + o->offset, &list, sizeof(list));
    return r;
}

/* An option that is unknown here may be well known one level up or down: people forget which section it is in. */
static struct view find_elsewhere(const struct option *table, struct view name)
{
    for (const struct option *o = table; o->name; o++)
        if (o->table && find_option(o->table, name))
            return view_str(o->name);
    return VIEW_NONE;
}

static void report_unknown(struct walk *w, const struct task *task, const struct tree *key)
{
    struct view candidates[TABLE_MAX];
    size_t count = table_len(task->table);
    struct view path, nearest = VIEW_NONE, section;

    if (w->report->count > CONF_MISTAKES_MAX) { /* it will not be shown */
        w->report->count++;
        return;
    }
    path = make_path(w, task->path, key->text.len ? key->text : VIEW("\"\""), 0, key->mark);
    if (view_eq(key->text, VIEW("<<"))) {
        report_add(w->report, key->mark, path, "merge keys are not supported; write the options out");
        return;
    }
    for (size_t i = 0; i < count; i++)
        candidates[i] = view_str(task->table[i].name);
    section = find_elsewhere(task->table, key->text);
    nearest = conf_nearest(key->text, candidates, count);
    if (section.len)
        report_add(w->report, key->mark, path, "unknown option here; it belongs into \"%.*s\"", VIEW_ARG(section));
    else if (nearest.len)
        report_add(w->report, key->mark, path, "unknown option; did you mean \"%.*s\"?", VIEW_ARG(nearest));
    else
        report_add(w->report, key->mark, path, "unknown option");
}

static int set_option(struct walk *w, const struct task *task, const struct option *o, const struct tree *key)
{
    struct view path = make_path(w, task->path, key->text, 0, key->next->mark);
    const struct tree *value = key->next;

    if (o->flags & OPTION_UNAVAILABLE) {
        report_add(w->report, key->mark, path, "known, but not available in this version");
        return 0;
    }
    switch (o->type) {
    case OPTION_STRUCT: return 0; /* apply_task() has queued it */
    case OPTION_LIST: return set_list(w, o, value, task->base, path);
    case OPTION_MAP: return set_map(w, o, value, task->base, path);
    default:
        if (value_is_list(o->type))
            return set_values(w, o, value, task->base, path);
        return set_value(w, o, value, task->base + o->offset, path);
    }
}

/* The value a mapping gives to an option; nothing when it is null. */
static const struct tree *find_value(const struct tree *map, const struct option *o)
{
    const struct tree *k = map ? map->first : NULL;

    for (; k && k->next; k = k->next->next)
        if (k->kind == TREE_SCALAR && view_eq(k->text, view_str(o->name)))
            return tree_is_null(tree_resolve(k->next)) ? NULL : k->next;
    return NULL;
}

static int push_struct(struct walk *w, const struct task *task, const struct option *o, const struct tree *value)
{
    const struct tree *map = value ? tree_resolve(value) : NULL;
    struct view path = { 0 };

    if (map) {
        path = make_path(w, task->path, view_str(o->name), 0, value->mark);
        if (map->kind != TREE_MAP)
            expected(w, value, path, "a mapping (name: value)");
    }
    return push(w, (struct task){ .map = map && map->kind == TREE_MAP ? map : NULL,
                                  .table = o->table,
                                  .base = task->base + o->offset,
                                  .path = path,
                                  .mark = value ? value->mark : task->mark });
}

static int apply_defaults(struct walk *w, const struct task *task)
{
    int r = 0;

    for (const struct option *o = task->table; o->name && r == 0; o++) {
        const struct tree *value = find_value(task->map, o);

        if (o->type == OPTION_STRUCT && !(o->flags & OPTION_UNAVAILABLE))
            r = push_struct(w, task, o, value);
        else
            r = set_default(w, o, task->base);
        if (!value && o->flags & OPTION_REQUIRED && !w->quiet && !task->lost && !w->report->incomplete)
            report_add(w->report, task->mark, task->path, "\"%s\" is missing", o->name);
    }
    return r;
}

static int apply_task(struct walk *w, const struct task *task)
{
    uint64_t seen = 0;
    int r = apply_defaults(w, task);

    for (const struct tree *k = task->map ? task->map->first : NULL; k && k->next && r == 0; k = k->next->next) {
        const struct option *o;

        if (!visit(w, k))
            return 0;
        if (k->kind != TREE_SCALAR) {
            report_add(w->report, k->mark, task->path, "an option's name must be a single word");
            continue;
        }
        o = find_option(task->table, k->text);
        if (!o) {
            report_unknown(w, task, k);
        } else if (seen & 1ull << (o - task->table)) {
            report_add(w->report, k->mark, make_path(w, task->path, k->text, 0, k->mark), "given twice");
        } else {
            seen |= 1ull << (o - task->table);
            if (!tree_is_null(tree_resolve(k->next)) || o->flags & OPTION_UNAVAILABLE)
                r = set_option(w, task, o, k);
        }
    }
    return r;
}

static int run(struct walk *w, const struct option *table, void *base, const struct tree *map)
{
    struct conf_mark mark = map ? map->mark : (struct conf_mark){ 0 };
    int r = push(w, (struct task){ .map = map, .table = table, .base = base, .mark = mark });

    for (struct task *t = w->first; t && r == 0; t = t->next)
        r = apply_task(w, t);
    return r;
}

int conf_defaults(const struct option *table, void *ret_struct, struct arena *memory)
{
    struct conf_report report;
    struct walk w = { .memory = memory, .report = &report, .quiet = true };
    int r;

    conf_report_init(&report);
    r = run(&w, table, ret_struct, NULL);
    conf_report_free(&report);
    return r;
}

int conf_load_text(struct view text, const struct option *table, void *ret_struct, struct arena *memory,
                   struct conf_report *report)
{
    struct walk w = { .memory = memory, .report = report, .quiet = true };
    unsigned before = report->count;
    struct tree *root;
    int r;

    r = tree_parse(text, memory, report, &root);
    if (r < 0)
        return r;
    if (root && root->kind == TREE_MAP)
        w.quiet = false;
    else if (!report->incomplete && !root)
        report_add(report, (struct conf_mark){ 0 }, VIEW_NONE, "the file is empty");
    else if (!report->incomplete && root)
        report_add(report, root->mark, VIEW_NONE, "expected options (name: value), found %s", kind_name(root));
    r = run(&w, table, ret_struct, w.quiet ? NULL : root);
    if (r < 0)
        return r;
    return report->count > before ? -EINVAL : 0;
}

/* At most CONF_FILE_MAX bytes and one more, by which a longer file shows. */
static int read_file(const char *path, char *buffer, size_t *ret_len)
{
    size_t len = 0;
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    do {
        n = read(fd, buffer + len, CONF_FILE_MAX + 1 - len);
        if (n > 0)
            len += (size_t)n;
    } while ((n > 0 && len <= CONF_FILE_MAX) || (n < 0 && errno == EINTR));
    if (n < 0) {
        int r = -errno;

        close(fd);
        return r;
    }
    close(fd);
    *ret_len = len;
    return 0;
}

int conf_load_file(const char *path, const struct option *table, void *ret_struct, struct arena *memory,
                   struct conf_report *report)
{
    char *buffer = heap_alloc(CONF_FILE_MAX + 1);
    size_t len = 0;
    int r;

    report->file = path;
    if (!buffer)
        return -ENOMEM;
    r = read_file(path, buffer, &len);
    if (r == 0 && len <= CONF_FILE_MAX) {
        r = conf_load_text(view_make(buffer, len), table, ret_struct, memory, report);
        heap_free(buffer);
        return r;
    }
    heap_free(buffer);
    report->incomplete = true;
    if (r == -EISDIR)
        report_add(report, (struct conf_mark){ 0 }, VIEW_NONE, "this is a directory, not a file");
    else if (r < 0)
        report_add(report, (struct conf_mark){ 0 }, VIEW_NONE, "cannot be read: %s", strerror(-r));
    else
        report_add(report, (struct conf_mark){ 0 }, VIEW_NONE, "larger than 1 MiB; this is not a configuration");
    r = conf_defaults(table, ret_struct, memory);
    return r < 0 ? r : -EINVAL;
}

int conf_set(const struct option *table, void *options, const char *path, const char *value, struct arena *memory,
             struct conf_report *report)
{
    struct walk w = { .memory = memory, .report = report };
    char buffer[WHY_MAX];
    struct text why = TEXT_ON(buffer);
    struct view rest = view_str(path);
    const struct option *o = NULL;
    char *base = options;
    int r;

    while (rest.ptr) {
        if (o)
            base += o->offset;
        o = table ? find_option(table, view_cut(&rest, '.')) : NULL;
        if (!o || (rest.ptr && o->type != OPTION_STRUCT))
            break;
        table = o->table;
    }
    if (!o || rest.ptr || o->table || o->flags & OPTION_UNAVAILABLE) {
        conf_complain(report, path, "unknown option");
        return -EINVAL;
    }
    if (value_is_list(o->type)) {
        r = split_values(&w, o, value, base + o->offset, &why);
    } else {
        /* with its NUL, because the member will point at it */
        struct view text = arena_copy(memory, view_make(value, strlen(value) + 1));

        if (!text.ptr)
            return -ENOMEM;
        r = value_parse(o, view_make(text.ptr, text.len - 1), base + o->offset, memory, &why);
    }
    if (r == -EINVAL)
        conf_complain(report, path, "%s", text_str(&why));
    return r;
}
