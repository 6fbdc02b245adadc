/* Mistakes and where things stand in the file. Mistakes are kept sorted by position, because they are found in the order
 * in which tables are walked, and read in the order of the file. Texts and positions live in the report's arena; when
 * memory is out a mistake is still counted, so a bad file is never taken for a good one. */
#include "conf/report.h"

#include "base/text.h"

#include <stdarg.h>

#define REPORT_MEMORY_MAX ((size_t)32 << 20)
#define MESSAGE_MAX 512u
#define WORD_MAX 64u

struct conf_position {
    struct conf_position *next;
    struct view path;
    struct conf_mark mark;
};

void conf_report_init(struct conf_report *report)
{
    *report = (struct conf_report){ .file = "configuration" };
    arena_init(&report->_memory, NULL, 0, REPORT_MEMORY_MAX);
}

void conf_report_free(struct conf_report *report)
{
    arena_release(&report->_memory);
    report->first = NULL;
    report->_positions = NULL;
}

void conf_report_print(const struct conf_report *report, FILE *out)
{
    for (const struct conf_mistake *m = report->first; m; m = m->next) {
        if (m->line)
            fprintf(out, "%s:%u:%u: %s\n", report->file, m->line, m->column, m->text);
        else
            fprintf(out, "%s: %s\n", report->file, m->text);
    }
    if (report->count > report->_kept)
        fprintf(out, "%s: %u more mistakes\n", report->file, report->count - report->_kept);
}

static void insert(struct conf_report *report, struct conf_mistake *mistake)
{
    struct conf_mistake **at = &report->first;

    while (*at && ((*at)->line < mistake->line || ((*at)->line == mistake->line && (*at)->column <= mistake->column)))
        at = &(*at)->next;
    mistake->next = *at;
    *at = mistake;
    report->_kept++;
}

static void printf_like(4, 0)
    add(struct conf_report *report, struct conf_mark mark, struct view path, const char *format, va_list args)
{
    char line[MESSAGE_MAX];
    struct text text = TEXT_ON(line);
    struct conf_mistake *mistake;
    struct view copy;
    char message[MESSAGE_MAX];

    report->count++;
    if (report->_kept >= CONF_MISTAKES_MAX)
        return;
    vsnprintf(message, sizeof(message), format, args);
    if (path.len) {
        text_put(&text, view_first(path, 200));
        text_lit(&text, ": ");
    }
    text_put(&text, view_first(view_str(message), text.cap - text.len - 1));
    text_char(&text, '\0');
    mistake = arena_alloc(&report->_memory, sizeof(*mistake));
    copy = arena_copy(&report->_memory, text_view(&text));
    if (!mistake || !copy.ptr)
        return;
    *mistake = (struct conf_mistake){ .line = mark.line, .column = mark.column, .text = copy.ptr };
    insert(report, mistake);
}

void report_add(struct conf_report *report, struct conf_mark mark, struct view path, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    add(report, mark, path, format, args);
    va_end(args);
}

void report_position(struct conf_report *report, struct view path, struct conf_mark mark)
{
    struct conf_position *position = arena_alloc(&report->_memory, sizeof(*position));

    if (!position)
        return; /* only the message's position gets worse */
    *position = (struct conf_position){ .next = report->_positions, .path = path, .mark = mark };
    report->_positions = position;
}

static struct conf_mark find_position(const struct conf_report *report, struct view path)
{
    for (const struct conf_position *p = report->_positions; p; p = p->next)
        if (view_eq(p->path, path))
            return p->mark;
    return (struct conf_mark){ 0 };
}

unsigned conf_line(const struct conf_report *report, const char *path)
{
    return find_position(report, view_str(path)).line;
}

void conf_complain(struct conf_report *report, const char *path, const char *format, ...)
{
    struct view at = view_str(path);
    bool shown = report->_kept < CONF_MISTAKES_MAX; /* else the search would be for nothing, and it is linear */
    struct conf_mark mark = shown ? find_position(report, at) : (struct conf_mark){ 0 };
    va_list args;

    while (shown && mark.line == 0 && at.len > 0) {
        at.len--;
        if (at.ptr[at.len] == '.' || at.ptr[at.len] == '[')
            mark = find_position(report, at);
    }
    va_start(args, format);
    add(report, mark, view_str(path), format, args);
    va_end(args);
}

void report_quote(struct text *out, struct view foreign)
{
    size_t shown = MIN(foreign.len, 40u);

    while (shown < foreign.len && shown > 0 && ((unsigned char)foreign.ptr[shown] & 0xc0) == 0x80)
        shown--; /* cut between characters */
    text_char(out, '"');
    for (size_t i = 0; i < shown; i++)
        text_char(out, (unsigned char)foreign.ptr[i] < 0x20 || foreign.ptr[i] == 0x7f ? '?' : foreign.ptr[i]);
    text_put(out, shown < foreign.len ? VIEW("...\"") : VIEW("\""));
}

/* Optimal string alignment distance with a swap of neighbours as one step; both words at most WORD_MAX. */
static unsigned distance(struct view a, struct view b)
{
    unsigned rows[3][WORD_MAX + 1];
    unsigned *before = rows[0], *above = rows[1], *row = rows[2];

    for (size_t j = 0; j <= b.len; j++) {
        above[j] = (unsigned)j;
        before[j] = 0;
    }
    for (size_t i = 1; i <= a.len; i++) {
        unsigned *spare = before;

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b.len; j++) {
            char x = ascii_lower(a.ptr[i - 1]), y = ascii_lower(b.ptr[j - 1]);
            unsigned best = MIN(above[j], row[j - 1]) + 1;

            best = MIN(best, above[j - 1] + (x != y));
            if (i > 1 && j > 1 && x == ascii_lower(b.ptr[j - 2]) && ascii_lower(a.ptr[i - 2]) == y)
                best = MIN(best, before[j - 2] + 1);
            row[j] = best;
        }
        before = above;
        above = row;
        row = spare;
    }
    return above[b.len];
}

struct view conf_nearest(struct view word, const struct view *candidates, size_t count)
{
    unsigned best = (unsigned)MIN(MAX(word.len / 3, (size_t)1), (size_t)6) + 1;
    struct view nearest = VIEW_NONE;

    if (word.len == 0 || word.len > WORD_MAX)
        return VIEW_NONE;
    for (size_t i = 0; i < count; i++) {
        unsigned d;

        if (candidates[i].len == 0 || candidates[i].len > WORD_MAX)
            continue;
        d = distance(word, candidates[i]);
        if (d < best) {
            best = d;
            nearest = candidates[i];
        }
    }
    return nearest;
}
