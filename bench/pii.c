/* How well and how fast personal data is found:
 *
 *     build/bench/pii [FILE]          default bench/pii.txt; -v as the first word names every miss and false find
 *
 * A mark counts as found when a find of its kind overlaps it; a find that overlaps no mark of its kind is false. */
#include "ai/pii.h"
#include "base/clock.h"
#include "base/heap.h"

#include <stdio.h>
#include <stdlib.h>

enum { LINE_LEN = 16384, FINDS = 64, KINDS = 8, PROSE = 32 << 20 };

struct line {
    char text[LINE_LEN];
    size_t len;
    struct pii_find marks[FINDS], finds[FINDS];
    size_t mark_count, find_count;
};

static struct tally {
    unsigned marks, hits, finds, right;
} tallies[KINDS];
static bool verbose;
static unsigned positives, negatives;

/* Takes the marks out of a line of the file. */
static void parse(const char *raw, struct line *line)
{
    size_t start = 0;
    unsigned kind = 0;

    line->len = line->mark_count = 0;
    while (*raw && *raw != '\n' && line->len < LINE_LEN - 1) {
        struct view rest = view_str(raw), name;

        if (!kind && view_starts_with(rest, VIEW("{{"))) {
            name = view_first(view_skip(rest, 2), view_find(view_skip(rest, 2), ':'));
            kind = pii_kind_of(name);
            if (kind) {
                raw += 2 + name.len + 1;
                start = line->len;
                continue;
            }
        }
        if (kind && view_starts_with(rest, VIEW("}}")) && line->mark_count < FINDS) {
            line->marks[line->mark_count++] =
                (struct pii_find){ .kind = (enum pii_kind)kind, .at = start, .len = line->len - start };
            kind = 0;
            raw += 2;
        } else if (view_starts_with(rest, VIEW("\xc2\xa6"))) {
            raw += 2;
        } else if (view_starts_with(rest, VIEW("\\n"))) {
            line->text[line->len++] = '\n';
            raw += 2;
        } else {
            line->text[line->len++] = *raw++;
        }
    }
}

static bool overlaps(const struct pii_find *one, const struct pii_find *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (list[i].kind == one->kind && list[i].at < one->at + one->len && one->at < list[i].at + list[i].len)
            return true;
    return false;
}

static void tell(const char *what, const struct line *line, const struct pii_find *find)
{
    if (verbose)
        printf("  %s %s: \"%.*s\" in: %.*s\n", what, pii_name(find->kind), (int)find->len, line->text + find->at,
               (int)MIN(line->len, (size_t)120), line->text);
}

static void judge(struct line *line)
{
    line->find_count = MIN(pii_scan(view_make(line->text, line->len), PII_ALL, line->finds, FINDS), (size_t)FINDS);
    for (size_t i = 0; i < line->mark_count; i++) {
        struct tally *tally = &tallies[__builtin_ctz(line->marks[i].kind)];
        bool hit = overlaps(&line->marks[i], line->finds, line->find_count);

        tally->marks++;
        tally->hits += hit;
        if (!hit)
            tell("missed", line, &line->marks[i]);
    }
    for (size_t i = 0; i < line->find_count; i++) {
        struct tally *tally = &tallies[__builtin_ctz(line->finds[i].kind)];
        bool right = overlaps(&line->finds[i], line->marks, line->mark_count);

        tally->finds++;
        tally->right += right;
        if (!right)
            tell("false ", line, &line->finds[i]);
    }
    positives += line->mark_count > 0;
    negatives += line->mark_count == 0;
}

static void print_row(const char *name, const struct tally *tally)
{
    printf("%-6s %6u %6u  %9.3f %7.3f\n", name, tally->marks, tally->finds,
           tally->finds ? (double)tally->right / tally->finds : 1.0,
           tally->marks ? (double)tally->hits / tally->marks : 1.0);
}

static void print_all(void)
{
    struct tally sum = { 0 };

    printf("%u lines with marks, %u without\n%-6s %6s %6s  %9s %7s\n", positives, negatives, "kind", "marks", "finds",
           "precision", "recall");
    for (unsigned k = 0; k < KINDS; k++) {
        print_row(pii_name((enum pii_kind)(1u << k)), &tallies[k]);
        sum.marks += tallies[k].marks;
        sum.hits += tallies[k].hits;
        sum.finds += tallies[k].finds;
        sum.right += tallies[k].right;
    }
    print_row("all", &sum);
}

static void measure(const char *what, const char *sentence)
{
    char *text = heap_alloc(PROSE);
    size_t len = strlen(sentence), finds = 0;
    uint64_t best = UINT64_MAX;

    if (!text)
        return;
    for (size_t i = 0; i < PROSE; i++)
        text[i] = sentence[i % len];
    for (int round = 0; round < 5; round++) {
        uint64_t start = clock_mono_us();

        finds = pii_scan(view_make(text, PROSE), PII_ALL, NULL, 0);
        best = MIN(best, clock_mono_us() - start);
    }
    printf("%-28s %7.0f MB/s  (%zu finds)\n", what, (double)PROSE / (double)best, finds);
    heap_free(text);
}

int main(int argc, char **argv)
{
    static struct line line;
    static char raw[2 * LINE_LEN];
    const char *path = "bench/pii.txt";
    FILE *file;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-v") == 0)
            verbose = true;
        else
            path = argv[i];
    }
    file = fopen(path, "re");
    if (!file) {
        perror(path);
        return 1;
    }
    while (fgets(raw, sizeof(raw), file))
        if (raw[0] != '#') {
            parse(raw, &line);
            judge(&line);
        }
    fclose(file);
    print_all();
    measure(
        "prose",
        "The cache keeps what it was told to keep, and no longer than that. In 2026 the team moved to a new office; "
        "\"it is quieter here\", Jane said - and she was right: nobody calls before 10:30. Their first release had "
        "12 features, 3 of which nobody used. What remains is simple, fast, and easy to explain to a newcomer. ");
    measure("source code",
            "static int find_page(struct view path)\n{\n    for (size_t i = 0; i < ARRAY_LEN(pages); i++)\n        if "
            "(view_eq(pages[i].path, path))\n            return pages[i].page_index + 0x1f;\n    return -ENOENT;\n}\n");
    measure("log lines",
            "2026-11-21T10:15:30.123Z INFO worker-7 job=48213377 took 12.5 ms, 1024 bytes, trace 4bf92f3577b34da6\n");
    return 0;
}
