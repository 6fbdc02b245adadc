/* How good is the semantic cache? Runs a file of labelled pairs (text, text, same or different, class; tab-separated) through level 0
 * (canonical prompts), the guards alone, and, given a model, level 1 (similarity and guards), and prints precision and recall of each, by
 * class, and every false hit by name.
 *
 *     semantic [--pairs bench/data/semantic_pairs.tsv] [--model FOLDER] [--threshold 0.95] [--misses]
 *
 * The exit status is 1 when level 0 has a false hit. */
#include "ai/canonical.h"
#include "ai/embed.h"
#include "ai/guards.h"
#include "base/heap.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CLASSES_MAX 64
#define PAIRS_MAX 4096

enum level { LEVEL_CANONICAL, LEVEL_GUARDS, LEVEL_SIMILAR, LEVEL_EMBEDDING, LEVEL_COUNT };

static const char *const level_names[LEVEL_COUNT] = { "level 0", "guards alone", "similarity alone", "level 1" };

struct pair {
    struct view a, b, class;
    bool same;
};

struct class {
    struct view name;
    bool same;
    unsigned pairs, hits[LEVEL_COUNT];
};

static struct pair pairs[PAIRS_MAX];
static struct class classes[CLASSES_MAX];
static unsigned pair_count, class_count;

static bool canonical_hit(const struct pair *p)
{
    struct buf a = buf_make((size_t)2 * CANONICAL_TEXT_MAX), b = buf_make((size_t)2 * CANONICAL_TEXT_MAX);
    bool hit = ai_canonical(p->a, &a) == 0 && ai_canonical(p->b, &b) == 0 && view_eq(buf_view(&a), buf_view(&b));

    buf_free(&a);
    buf_free(&b);
    return hit;
}

static float similarity(const struct embed *model, const struct pair *p)
{
    static float a[EMBED_DIMS_MAX], b[EMBED_DIMS_MAX];
    float sum = 0;

    if (embed_text(model, p->a, a) < 0 || embed_text(model, p->b, b) < 0)
        return 0;
    for (unsigned i = 0; i < embed_dims(model); i++)
        sum += a[i] * b[i];
    return sum;
}

static struct class *class_of(const struct pair *p)
{
    for (unsigned i = 0; i < class_count; i++)
        if (view_eq(classes[i].name, p->class) && classes[i].same == p->same)
            return &classes[i];
    if (class_count == CLASSES_MAX)
        exit(2);
    classes[class_count] = (struct class){ .name = p->class, .same = p->same };
    return &classes[class_count++];
}

static struct view read_pairs(const char *path)
{
    FILE *file = fopen(path, "re");
    static char memory[4 << 20];
    struct view all, line;
    size_t len = file ? fread(memory, 1, sizeof(memory), file) : 0;

    if (file)
        (void)fclose(file);
    all = view_make(memory, len);
    while (all.ptr && pair_count < PAIRS_MAX) {
        struct pair *p = &pairs[pair_count];
        struct view label;

        line = view_cut(&all, '\n');
        if (line.len == 0 || line.ptr[0] == '#')
            continue;
        p->a = view_cut(&line, '\t');
        p->b = view_cut(&line, '\t');
        label = view_cut(&line, '\t');
        p->class = view_cut(&line, '\t');
        p->same = view_eq(label, VIEW("same"));
        pair_count += p->class.len > 0;
    }
    return all;
}

static void print_level(enum level level, const char *name, struct view without, const char *note)
{
    unsigned same = 0, right = 0, wrong = 0;

    for (unsigned i = 0; i < class_count; i++) {
        if (view_eq(classes[i].name, without))
            continue;
        same += classes[i].same ? classes[i].pairs : 0;
        right += classes[i].same ? classes[i].hits[level] : 0;
        wrong += classes[i].same ? 0 : classes[i].hits[level];
    }
    printf("%-17s precision %5.1f %%  recall %5.1f %%  (%u right, %u false hits, %u missed)%s\n", name,
           right + wrong ? 100.0 * right / (right + wrong) : 100.0, same ? 100.0 * right / same : 0.0, right, wrong,
           same - right, note);
}

static void print_classes(bool model)
{
    printf("\n%-10s %-14s %6s %9s %9s", "label", "class", "pairs", "level 0", "guards");
    printf(model ? " %9s %9s\n" : "\n", "similar", "level 1");
    for (unsigned i = 0; i < class_count; i++) {
        const struct class *c = &classes[i];

        printf("%-10s %-14.*s %6u %9u %9u", c->same ? "same" : "different", VIEW_ARG(c->name), c->pairs, c->hits[0],
               c->hits[1]);
        if (model)
            printf(" %9u %9u", c->hits[2], c->hits[3]);
        printf("\n");
    }
}

static double now_us(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void print_speed(void)
{
    double start = now_us();
    unsigned hits = 0;

    for (unsigned i = 0; i < pair_count; i++)
        hits += canonical_hit(&pairs[i]);
    printf("canonical form: %.1f us a prompt", (now_us() - start) / pair_count / 2);
    start = now_us();
    for (unsigned i = 0; i < pair_count; i++)
        hits += ai_guards_agree(pairs[i].a, pairs[i].b, NULL);
    printf(", guards: %.1f us a pair (%u hits)\n", (now_us() - start) / pair_count, hits);
}

int main(int argc, char **argv)
{
    const char *path = "bench/data/semantic_pairs.tsv", *folder = getenv("DOORSTEP_MODEL");
    struct embed *model = NULL;
    float threshold = 0.95f;
    unsigned false_hits = 0;
    bool misses = false;
    char memory[256];
    struct text reason = TEXT_ON(memory);

    for (int i = 1; i < argc; i++) {
        struct view option = view_str(argv[i]);

        if (view_eq(option, VIEW("--misses")))
            misses = true;
        else if (view_eq(option, VIEW("--pairs")) && i + 1 < argc)
            path = argv[++i];
        else if (view_eq(option, VIEW("--model")) && i + 1 < argc)
            folder = argv[++i];
        else if (view_eq(option, VIEW("--threshold")) && i + 1 < argc)
            threshold = strtof(argv[++i], NULL);
    }
    (void)read_pairs(path);
    if (pair_count == 0)
        return fprintf(stderr, "%s: no pairs\n", path), 2;
    if (folder && embed_static_open(folder, &model, &reason) < 0 &&
        embed_onnx_open(folder, NULL, 1, &model, &reason) < 0)
        return fprintf(stderr, "%s: %s\n", folder, text_str(&reason)), 2;
    for (unsigned i = 0; i < pair_count; i++) {
        const struct pair *p = &pairs[i];
        struct class *c = class_of(p);
        enum guard failed = GUARD_NONE;
        float s = model ? similarity(model, p) : 0;
        bool hits[LEVEL_COUNT] = { canonical_hit(p), ai_guards_agree(p->a, p->b, &failed), s >= threshold };

        hits[LEVEL_EMBEDDING] = hits[LEVEL_GUARDS] && hits[LEVEL_SIMILAR];
        c->pairs++;
        false_hits += hits[LEVEL_CANONICAL] && !p->same;
        for (unsigned k = 0; k < LEVEL_COUNT; k++) {
            c->hits[k] += hits[k];
            if (hits[k] && !p->same && k != LEVEL_SIMILAR && (k != LEVEL_GUARDS || misses))
                printf("FALSE HIT (%s, %.*s, %.3f): %.*s | %.*s\n", level_names[k], VIEW_ARG(p->class), (double)s,
                       VIEW_ARG(p->a), VIEW_ARG(p->b));
        }
        if (misses && p->same)
            printf("%s %s %.3f  %.*s | %.*s\n", hits[0] ? "level 0" : "       ",
                   hits[1] ? "agree" : ai_guard_name(failed), (double)s, VIEW_ARG(p->a), VIEW_ARG(p->b));
    }
    printf("%u pairs, threshold %.3f\n", pair_count, (double)threshold);
    print_level(LEVEL_CANONICAL, "level 0", VIEW_NONE, "");
    print_level(LEVEL_CANONICAL, "  less paraphrase", VIEW("paraphrase"), "");
    print_level(LEVEL_GUARDS, "guards alone", VIEW_NONE, " (no cache by themselves: what level 1 may still hit)");
    if (model) {
        print_level(LEVEL_SIMILAR, "similarity alone", VIEW_NONE, "");
        print_level(LEVEL_EMBEDDING, "level 1", VIEW_NONE, "");
    }
    print_classes(model != NULL);
    print_speed();
    embed_free(model);
    return false_hits > 0;
}
