/* The guards: two prompts become two profiles of hashes, which are compared part by part.
 *
 * A profile is a few sequences (numbers, identifiers, entities, content words, ...) in order of appearance. Sequences must be equal, not only
 * sets: "from euros to dollars" has the same words as "from dollars to euros". Hashes have 64 bits and stand for words, so that a profile
 * needs no memory but its own. */
#include "ai/guards.h"

#include "ai/canonical.h"
#include "ai/semantic_head.h"
#include "ai/semantic_words.h"
#include "base/key.h"

#define WORDS_MAX 192
#define GROUPS_MAX 192

struct sequence {
    uint64_t at[WORDS_MAX];
    unsigned count;
};

struct profile {
    struct sequence numbers, identifiers, negations, entities, quantities, verbs, owners, persons, content, names,
        plain, contracted, marked;
    uint64_t marks[WORDS_MAX]; /* what stands before each of `marked`: an article, a preposition of direction */
    bool article[WORDS_MAX];
    bool form;
    bool ability, question;             /* begins with "can"; with any word that makes a question */
    bool past, future;                  /* "was", "did"; "will" */
    uint32_t sides[2][GROUPS_MAX / 32]; /* groups of opposites with a word of the first or second side */
    uint32_t weak[GROUPS_MAX / 32];
    unsigned languages[7];
    unsigned script;
};

static void push(struct sequence *s, uint64_t hash)
{
    if (s->count < WORDS_MAX)
        s->at[s->count++] = hash;
}

static bool same(const struct sequence *a, const struct sequence *b)
{
    return a->count == b->count && memcmp(a->at, b->at, a->count * sizeof(a->at[0])) == 0;
}

static bool has(const struct sequence *s, uint64_t hash)
{
    for (unsigned i = 0; i < s->count; i++)
        if (s->at[i] == hash)
            return true;
    return false;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    return (a ^ b * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* What a unit means; 0 when the word is none. Where case is meaning (MB, Mb), the spelling itself. */
static uint64_t unit_of(struct view raw, const struct word_meaning *m)
{
    if ((m->classes & W_UNIT_CASE) && raw.len > 1)
        return hash64(raw);
    return m->classes & W_UNIT ? (uint64_t)m->value : 0;
}

/* "1,000" as 1000: commas between groups of three. */
static uint64_t number_hash(struct view core)
{
    char digits[64];
    size_t len = 0;

    for (size_t i = 0; i < core.len && len < sizeof(digits); i++) {
        bool group = core.ptr[i] == ',' && i > 0 && is_digit(core.ptr[i - 1]) && i + 3 < core.len &&
                     is_digit(core.ptr[i + 1]) && is_digit(core.ptr[i + 2]) && is_digit(core.ptr[i + 3]) &&
                     (i + 4 == core.len || !is_digit(core.ptr[i + 4]));

        if (!group)
            digits[len++] = core.ptr[i];
    }
    return hash64(len < sizeof(digits) ? view_make(digits, len) : core);
}

/* A number with a unit glued to it ("5kg", "20%"), or before it. False: no number. */
static bool push_number(struct profile *p, const struct word *w, const struct word *next)
{
    struct view core = w->core, unit;
    size_t digits = 0;
    uint64_t of = 0;
    char lower[16];

    if (w->kind == WORD_PLAIN) {
        if (!(w->meaning->classes & W_NUMBER) ||
            (w->meaning->value == 1 && !(next && (next->meaning->classes & W_UNIT))))
            return false;
        lower[0] = (char)('0' + w->meaning->value / 10);
        lower[1] = (char)('0' + w->meaning->value % 10);
        core = lower[0] == '0' ? view_make(lower + 1, 1) : view_make(lower, 2);
        digits = core.len;
    } else if (w->kind != WORD_NUMBER && w->kind != WORD_NAMED) {
        return false;
    }
    while (digits < core.len &&
           (is_digit(core.ptr[digits]) || (memchr("+-.,$", core.ptr[digits], 5) && digits + 1 < core.len)))
        digits++;
    unit = view_skip(core, digits);
    if (unit.len > 0 && unit.len < sizeof(lower) && digits > 0 && w->kind != WORD_PLAIN) {
        of = unit_of(unit, word_meaning(view_make(lower, words_fold(unit, lower))));
        if (of == 0 && w->kind == WORD_NAMED)
            return false;
        if (of == 0)
            digits = core.len;
    } else if (unit.len > 0 && w->kind == WORD_NAMED) {
        return false;
    } else if (digits == 0 || unit.len > 0) {
        digits = core.len;
    }
    if (of == 0 && next && (next->kind == WORD_PLAIN || next->kind == WORD_SIGN))
        of = unit_of(next->core, next->meaning);
    if (w->tail.len > 0 && w->tail.ptr[0] == '!')
        of = mix(of, 1);
    push(&p->numbers, mix(number_hash(view_first(core, digits)), of));
    return true;
}

static void count_language(struct profile *p, uint32_t classes)
{
    p->languages[0] += (classes & (W_GERMAN - 1) & ~(uint32_t)W_ENTITY) != 0;
    for (unsigned i = 0; i < 6; i++)
        p->languages[i + 1] += (classes & ((uint32_t)W_GERMAN << i)) != 0;
}

static void push_side(struct profile *p, const struct word_meaning *m)
{
    unsigned group = (unsigned)(m->group < 0 ? -m->group : m->group);

    if (m->group == 0 || group >= GROUPS_MAX)
        return;
    p->sides[m->group < 0][group / 32] |= 1u << group % 32;
    if (m->weak)
        p->weak[group / 32] |= 1u << group % 32;
}

static bool is_person(struct view lower, uint64_t *ret)
{
    const struct word_meaning *m = word_meaning(lower);

    if (!(m->classes & W_PERSON))
        return false;
    *ret = view_eq(lower, VIEW("i")) || view_eq(lower, VIEW("me")) || view_eq(lower, VIEW("we")) ||
                   view_eq(lower, VIEW("us"))
               ? 1
           : view_eq(lower, VIEW("you")) ? 2
                                         : hash64(lower);
    return true;
}

static uint64_t quantity_hash(struct view lower)
{
    static const struct view all[] = { { "all", 3 }, { "every", 5 }, { "each", 4 }, { "entire", 6 }, { "whole", 5 } };

    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (view_eq(lower, all[i]))
            return 1;
    return hash64(lower);
}

/* The next word that carries content says what is negated. */
static uint64_t scope_of(const struct word *w, const struct word *end)
{
    if (w->tail.len > 0)
        return 0;
    for (w++; w < end; w++)
        if (w->kind != WORD_PLAIN || !(w->meaning->classes & (W_FUNCTION | W_ENGLISH | W_NEGATION)))
            return hash64(w->kind == WORD_PLAIN && w->lower_len ? word_stem(word_lower(w)) : w->core);
    return 0;
}

/* "who's" is "who"; "don't" is a negation; "cat's" is a cat. */
static struct view without_apostrophe(struct view lower)
{
    size_t at = view_find(lower, '\'');

    return at > 0 ? view_first(lower, at) : lower;
}

/* What must be done, may be done and is done are three things; so are "is it" and "can it", and who was is not who is. But "how can I" is
 * "how do I", and "could you" asks. */
static void push_verb(struct profile *p, const struct word *w, const struct word *next, struct view lower)
{
    static const struct {
        const char *words;
        uint64_t meaning;
        enum { FIRST, DENIED, ANYWHERE } where;
    } kinds[] = {
        { "must mustn't", 1, ANYWHERE },
        { "should shouldn't shall shan't ought", 2, ANYWHERE },
        { "may might mightn't", 3, ANYWHERE },
        { "needn't", 4, ANYWHERE },
        { "can't cannot cant", 5, ANYWHERE },
        { "couldn't couldnt", 10, ANYWHERE },
        { "won't wont wouldn't wouldnt", 6, ANYWHERE },
        { "can", 5, DENIED },
        { "could", 10, DENIED },
        { "will would", 6, DENIED },
        { "do does did don't doesn't didn't", 7, FIRST },
        { "is are was were isn't aren't wasn't weren't am", 8, FIRST },
        { "has have had haven't hasn't hadn't", 9, FIRST },
    };
    bool asks = next && view_eq(word_lower(next), VIEW("you")), first = w->begins && !asks;
    bool denies = next && view_eq(word_lower(next), VIEW("not"));

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (head_is_one_of(lower, kinds[i].words) &&
            (kinds[i].where == ANYWHERE || first || (kinds[i].where == DENIED && denies)))
            push(&p->verbs, kinds[i].meaning);
    p->past |= head_is_one_of(lower, "was were did had wasn't weren't didn't hadn't");
    p->future |= head_is_one_of(lower, "will won't") && !asks;
}

/* "won't" is not "wont", nor "we're" "were": whoever leaves the mark out means the other word. But "dont" is none. */
static void push_contracted(struct profile *p, struct view lower)
{
    size_t at = view_find(lower, '\'');
    char bare[32];

    if (at == lower.len || lower.len > sizeof(bare))
        return;
    memcpy(bare, lower.ptr, at);
    memcpy(bare + at, lower.ptr + at + 1, lower.len - at - 1);
    lower = view_make(bare, lower.len - 1);
    if (!(word_meaning(lower)->classes & W_BARE_NT))
        push(&p->contracted, hash64(word_stem(lower)));
}

/* This "please" asks; it is not what somebody does to somebody. */
static bool is_polite(const struct word *w, const struct word *before, bool last)
{
    bool you = before && view_eq(word_lower(before), VIEW("you"));

    return w->begins || !before || (last ? !(before->meaning->classes & W_PERSON) : you);
}

/* "the matrix" is not "a matrix", nor "from Anna" "for Anna". */
static void push_marked(struct profile *p, const struct word *before, uint64_t hash)
{
    struct view mark = before ? word_lower(before) : VIEW_NONE;

    if (!before || p->marked.count == WORDS_MAX)
        return;
    if (view_eq(mark, VIEW("an")))
        mark = VIEW("a");
    if (!(before->meaning->classes & W_DIRECTION) && !view_eq(mark, VIEW("the")) && !view_eq(mark, VIEW("a")))
        return;
    p->marks[p->marked.count] = hash64(mark);
    p->article[p->marked.count] = !(before->meaning->classes & W_DIRECTION);
    push(&p->marked, mix(hash, (before->meaning->classes & W_DIRECTION) != 0));
}

/* "could you", "tell me" at the start: nobody of whom anything is said. */
static bool is_addressed(const struct word *w, const struct word *before, struct view lower)
{
    if (before && view_eq(lower, VIEW("you")) && head_is_one_of(word_lower(before), "thank"))
        return true;
    if (!before || !(before->begins || view_eq(word_lower(before - 1), VIEW("you"))))
        return false;
    return view_eq(lower, VIEW("you")) ? head_is_one_of(word_lower(before), "can could would will")
                                       : view_eq(lower, VIEW("me")) && w->tail.len == 0 &&
                                             head_is_one_of(word_lower(before), "tell give show help");
}

static void push_plain(struct profile *p, const struct word *w, const struct word *end, const struct word *before,
                       bool unit)
{
    struct view lower = w->lower_len ? word_lower(w) : w->core, stem = word_stem(lower);
    const struct word_meaning *m = w->meaning, *base = word_meaning_stem(lower);
    uint32_t classes = m->classes;
    bool negation = (classes & W_NEGATION) || view_ends_with(lower, VIEW("n't"));
    uint64_t person;

    if (m->word.len == 0)
        classes = word_meaning(without_apostrophe(lower))->classes & (W_FUNCTION | W_ENGLISH | W_PERSON);
    count_language(p, classes);
    push(&p->plain, hash64(stem));
    push_side(p, base);
    if (negation)
        push(&p->negations, scope_of(w, end));
    if (classes & W_POSSESSIVE)
        push(&p->owners, hash64(lower));
    push_verb(p, w, w + 1 < end ? w + 1 : NULL, lower);
    push_contracted(p, lower);
    if (is_person(without_apostrophe(lower), &person) && !is_addressed(w, before, lower)) {
        push(&p->persons, person);
        push_marked(p, before, mix(person, 3));
    }
    if ((classes & W_QUANTIFIER) && !view_eq(lower, VIEW("some")))
        push(&p->quantities,
             mix(quantity_hash(lower), before && (classes & W_VAGUE_A) && view_eq(word_lower(before), VIEW("a"))));
    if (!unit && (base->classes & W_UNIT) && !(base->classes & W_FUNCTION))
        push(&p->entities, (uint64_t)base->value);
    else if ((classes & W_UNIT_CASE) && w->core.len > 1 && (w->capital || w->upper))
        push(&p->entities, hash64(w->core));
    else if (base->classes & W_ENTITY)
        push(&p->entities, hash64(base->word));
    else if (w->capital && !w->begins && !(classes & (W_FUNCTION | W_QUESTION | W_ENGLISH)))
        push(&p->names, hash64(stem));
    else if (w->core.len == 1 && !(classes & W_FUNCTION))
        push(&p->identifiers, hash64(w->core));
    if (before && w->capital && !w->begins && (classes & W_NAME) && view_eq(word_lower(before), VIEW("the")))
        push(&p->identifiers, 1);
    if (w->core.len > 1 && !w->begins && ((w->capital && (classes & W_NAME)) || (w->upper && (classes & W_ACRONYM))))
        push(&p->identifiers, hash64(w->core));
    if (w->core.len == 1 && w->capital && !w->begins && !view_eq(w->core, VIEW("I")))
        push(&p->identifiers, hash64(w->core));
    if (negation || (classes & (W_FUNCTION | W_QUESTION)) || (unit && (base->classes & W_UNIT)))
        return;
    push_marked(p, before, hash64(stem));
    if (before && !before->begins && (before->meaning->classes & W_POSSESSIVE)) /* "for my wife" */
        push_marked(p, before - 1, hash64(stem));
    if (!((classes | base->classes) & W_LIGHT) ||
        (view_eq(lower, VIEW("please")) && !is_polite(w, before, w + 1 == end)))
        push(&p->content, base->synonym ? (uint64_t)base->synonym : hash64(stem));
}

static struct view inner_of(struct view quoted)
{
    static const struct view marks[] = { { "\"", 1 },           { "'", 1 },       { "`", 1 }, { "\xe2\x80\x9c", 3 },
                                         { "\xe2\x80\x98", 3 }, { "\xc2\xab", 2 } };

    for (size_t i = 0; i < ARRAY_LEN(marks); i++)
        if (view_starts_with(quoted, marks[i]) && quoted.len >= 2 * marks[i].len)
            return view_make(quoted.ptr + marks[i].len, quoted.len - 2 * marks[i].len);
    return quoted;
}

static unsigned script_of(struct view text)
{
    unsigned counts[8] = { 0 }, best = 0;

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= 0xc3 && c <= 0xc9))
            counts[0]++;
        else if (c >= 0xcd && c <= 0xcf)
            counts[1]++; /* Greek */
        else if (c >= 0xd0 && c <= 0xd4)
            counts[2]++; /* Cyrillic */
        else if (c >= 0xd5 && c <= 0xd7)
            counts[3]++; /* Armenian, Hebrew */
        else if (c >= 0xd8 && c <= 0xdf)
            counts[4]++; /* Arabic and neighbours */
        else if (c == 0xe0 || c == 0xe1)
            counts[5]++; /* India, Thai, Georgian, ... */
        else if (c >= 0xe3 && c <= 0xe9)
            counts[6]++; /* kana and Han */
        else if (c >= 0xea && c <= 0xed)
            counts[7]++; /* Hangul */
    }
    for (unsigned i = 1; i < 8; i++)
        if (counts[i] > counts[best])
            best = i;
    return best;
}

static bool profile_of(struct view text, struct profile *p)
{
    struct word words[WORDS_MAX] not_zeroed;
    int count = text.len > GUARD_TEXT_MAX ? -1 : words_split(text, words, WORDS_MAX);
    bool number = false;

    memset(p, 0, offsetof(struct profile, sides));
    memset(p->sides, 0, sizeof(*p) - offsetof(struct profile, sides));
    p->script = script_of(text);
    for (int i = 0; i < count; i++) {
        const struct word *w = &words[i];
        bool unit = number;

        number = push_number(p, w, i + 1 < count ? w + 1 : NULL);
        if (number && i > 0 &&
            head_is_one_of(word_lower(w - 1), "over under above below to than up within by until since before after"))
            push(&p->quantities, mix(hash64(word_lower(w - 1)), 2));
        p->form |= w->tail.len > 0 && w->tail.ptr[w->tail.len - 1] == ':' && i + 1 < count; /* material behind it */
        if (w->lead.len > 0)
            push(&p->identifiers, hash64(w->lead));
        if (w->kind == WORD_PLAIN)
            push_plain(p, w, words + count, i > 0 ? w - 1 : NULL, unit);
        else if (w->kind == WORD_NAMED && (w->meaning->classes & W_ENTITY))
            push(&p->entities, hash64(word_lower(w)));
        else if (w->kind == WORD_QUOTED)
            push(&p->identifiers, hash64(inner_of(w->core)));
        else if (!number && !(w->kind == WORD_SIGN &&
                              (view_starts_with(w->core, VIEW("\xe2\x80")) || memchr(".,!?", w->core.ptr[0], 4))))
            push(&p->identifiers, hash64(w->core));
        if (!number && (w->kind == WORD_NUMBER || w->kind == WORD_NAMED || w->kind == WORD_QUOTED))
            push(&p->content, hash64(w->core));
    }
    p->form |= count > 0 && words_about_form(words, (size_t)count);
    p->question = count > 0 && (words[0].meaning->classes & W_QUESTION);
    p->ability =
        count > 0 && (view_eq(word_lower(&words[0]), VIEW("can")) || view_eq(word_lower(&words[0]), VIEW("could")));
    return count > 0;
}

static unsigned language_of(const struct profile *p)
{
    unsigned best = 0;
    bool tie = false;

    for (unsigned i = 1; i < ARRAY_LEN(p->languages); i++) {
        tie = p->languages[i] == p->languages[best] || (tie && p->languages[i] < p->languages[best]);
        if (p->languages[i] > p->languages[best])
            best = i;
    }
    return (tie && best > 0) || p->languages[best] == 0 ? 99 : best;
}

static bool opposites_agree(const struct profile *a, const struct profile *b)
{
    for (unsigned i = 0; i < GROUPS_MAX / 32; i++) {
        uint32_t a0 = a->sides[0][i], a1 = a->sides[1][i], b0 = b->sides[0][i], b1 = b->sides[1][i];
        uint32_t differ = (a0 ^ b0) | (a1 ^ b1), weak = a->weak[i] | b->weak[i];
        uint32_t against = (a0 & ~a1 & b1 & ~b0) | (a1 & ~a0 & b0 & ~b1);

        if ((differ & ~weak) || against)
            return false;
    }
    return true;
}

/* "unpaid" there and "paid" here. */
static bool prefixes_agree(struct view a, const struct profile *b, const struct profile *own)
{
    static const struct view prefixes[] = { { "un", 2 },    { "dis", 3 }, { "in", 2 },   { "im", 2 },  { "ir", 2 },
                                            { "il", 2 },    { "non", 3 }, { "non-", 4 }, { "mis", 3 }, { "anti", 4 },
                                            { "anti-", 5 }, { "de", 2 },  { "de-", 3 } };
    struct word words[WORDS_MAX] not_zeroed;
    int count = words_split(a, words, WORDS_MAX);

    for (int i = 0; i < count; i++)
        for (size_t k = 0; words[i].kind == WORD_PLAIN && k < ARRAY_LEN(prefixes); k++) {
            struct view stem = word_stem(word_lower(&words[i]));
            uint64_t bare;

            if (!view_starts_with(stem, prefixes[k]) || stem.len < prefixes[k].len + 3)
                continue;
            bare = hash64(view_skip(stem, prefixes[k].len));
            if (has(&b->plain, bare) && !has(&own->plain, bare))
                return false;
        }
    return true;
}

static bool names_agree(const struct profile *a, const struct profile *b)
{
    for (unsigned i = 0; i < a->names.count; i++)
        if (!has(&b->plain, a->names.at[i]))
            return false;
    return true;
}

/* Who acts on whom counts where both are named; one of them alone must not become the other. */
static bool persons_agree(const struct profile *a, const struct profile *b)
{
    bool i_a = has(&a->persons, 1), i_b = has(&b->persons, 1), you_a = has(&a->persons, 2), you_b = has(&b->persons, 2);

    for (unsigned i = 0; i < a->persons.count; i++)
        if (a->persons.at[i] > 2 && !has(&b->persons, a->persons.at[i]))
            return false;
    for (unsigned i = 0; i < b->persons.count; i++)
        if (b->persons.at[i] > 2 && !has(&a->persons, b->persons.at[i]))
            return false;
    if ((i_a && !you_a && you_b && !i_b) || (i_b && !you_b && you_a && !i_a) || (i_a && you_a) != (i_b && you_b))
        return false;
    return !(i_a && you_a && i_b && you_b) || same(&a->persons, &b->persons);
}

static bool marks_agree(const struct profile *a, const struct profile *b)
{
    for (unsigned i = 0; i < a->marked.count; i++)
        for (unsigned k = 0; k < b->marked.count; k++)
            if (a->marked.at[i] == b->marked.at[k] && a->marks[i] != b->marks[k])
                return false;
    /* With little else to go by, an article is half of the question: "the matter", "matter". */
    for (unsigned i = 0; a->content.count <= 2 && i < a->marked.count; i++)
        if (a->article[i] && !has(&b->marked, a->marked.at[i]))
            return false;
    return true;
}

/* The first appearances in `of` of what `other` has too. */
static void shared(const struct sequence *of, const struct sequence *other, struct sequence *ret)
{
    ret->count = 0;
    for (unsigned i = 0; i < of->count; i++)
        if (has(other, of->at[i]) && !has(ret, of->at[i]))
            push(ret, of->at[i]);
}

/* A word put for another is a synonym or another question, a word added narrows it, and vectors cannot tell. */
static bool content_agrees(const struct profile *a, const struct profile *b)
{
    for (unsigned i = 0; i < a->content.count; i++)
        if (!has(&b->content, a->content.at[i]))
            return false;
    for (unsigned i = 0; i < b->content.count; i++)
        if (!has(&a->content, b->content.at[i]))
            return false;
    return true;
}

static bool contractions_agree(const struct profile *a, const struct profile *b)
{
    for (unsigned i = 0; i < a->contracted.count; i++)
        if (has(&b->plain, a->contracted.at[i]) && !has(&a->plain, a->contracted.at[i]))
            return false;
    return true;
}

/* The same words in another order. */
static bool is_turned(const struct profile *a, const struct profile *b)
{
    for (unsigned i = 0; i < a->plain.count; i++)
        if (!has(&b->plain, a->plain.at[i]) || !has(&a->plain, b->plain.at[i % MAX(b->plain.count, 1u)]))
            return false;
    return a->plain.count == b->plain.count && !same(&a->plain, &b->plain);
}

static bool canonical_equal(struct view a, struct view b)
{
    struct buf of_a = buf_make((size_t)2 * CANONICAL_TEXT_MAX), of_b = buf_make((size_t)2 * CANONICAL_TEXT_MAX);
    bool equal =
        ai_canonical(a, &of_a) == 0 && ai_canonical(b, &of_b) == 0 && view_eq(buf_view(&of_a), buf_view(&of_b));

    buf_free(&of_a);
    buf_free(&of_b);
    return equal;
}

static enum guard judge(struct view a, struct view b)
{
    struct profile pa not_zeroed, pb not_zeroed;
    struct sequence in_a not_zeroed, in_b not_zeroed;
    bool strict;

    if (!profile_of(a, &pa) || !profile_of(b, &pb))
        return GUARD_TEXT;
    if (pa.script != pb.script || (pa.script == 0 && language_of(&pa) != language_of(&pb)))
        return GUARD_LANGUAGE;
    if (!same(&pa.numbers, &pb.numbers))
        return GUARD_NUMBERS;
    if (!same(&pa.identifiers, &pb.identifiers))
        return GUARD_IDENTIFIERS;
    if (!same(&pa.negations, &pb.negations))
        return GUARD_NEGATION;
    if (!opposites_agree(&pa, &pb) || !prefixes_agree(a, &pb, &pa) || !prefixes_agree(b, &pa, &pb))
        return GUARD_OPPOSITES;
    if (!same(&pa.entities, &pb.entities) || !names_agree(&pa, &pb) || !names_agree(&pb, &pa) ||
        (language_of(&pa) == 1 && !same(&pa.names, &pb.names))) /* German nouns have capitals */
        return GUARD_ENTITIES;
    if (!same(&pa.quantities, &pb.quantities))
        return GUARD_QUANTITY;
    if (!same(&pa.owners, &pb.owners) || !persons_agree(&pa, &pb))
        return GUARD_OWNER;
    if (!same(&pa.verbs, &pb.verbs) || pa.past != pb.past || pa.future != pb.future)
        return GUARD_VERBS;
    shared(&pa.content, &pb.content, &in_a);
    shared(&pb.content, &pa.content, &in_b);
    if (!same(&in_a, &in_b) || is_turned(&pa, &pb) || !marks_agree(&pa, &pb) || !marks_agree(&pb, &pa))
        return GUARD_ORDER;
    if (!content_agrees(&pa, &pb))
        return GUARD_CONTENT;
    /* What level 0 refused to fold, no vector may fold. */
    strict = !contractions_agree(&pa, &pb) || !contractions_agree(&pb, &pa) || pa.form || pb.form ||
             (pa.ability && !pb.question) || (pb.ability && !pa.question) || same(&pa.plain, &pb.plain);
    return strict && !canonical_equal(a, b) ? GUARD_FORM : GUARD_NONE;
}

bool ai_guards_agree(struct view a, struct view b, enum guard *ret_failed)
{
    enum guard failed = view_eq(a, b) && a.len > 0 && a.len <= GUARD_TEXT_MAX ? GUARD_NONE : judge(a, b);

    if (ret_failed && failed != GUARD_NONE)
        *ret_failed = failed;
    return failed == GUARD_NONE;
}

const char *ai_guard_name(enum guard guard)
{
    static const char *const names[GUARD_COUNT] = { "none",     "text",      "language", "numbers",  "identifiers",
                                                    "negation", "opposites", "entities", "quantity", "owner",
                                                    "verbs",    "order",     "content",  "form" };

    return guard < GUARD_COUNT ? names[guard] : "?";
}
