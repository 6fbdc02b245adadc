/* Politeness at both ends of a prompt.
 *
 * What is taken off must be politeness for certain: "please" before a verb, not in "as you please"; "can you explain", not "can you
 * swim"; "thanks" as a sentence of its own, not in "thanks to". Each step takes one thing off; they are repeated until none applies. */
#include "ai/semantic_head.h"

#define WH_WORDS "what how why when where who which"
/* After "can you please": what follows is asked for. */
#define REQUESTS \
    "explain tell give show help write list describe provide suggest recommend compare calculate compute convert find create " \
    "generate make check fix draft define solve outline elaborate clarify analyze analyse review debug implement add update change " \
    "remove delete turn set send open close book order cancel walk teach remind design build refactor optimize plan estimate"
/* After a bare "can you": only what cannot be a question about an ability. */
#define PLAIN_REQUESTS "explain describe elaborate clarify provide suggest recommend outline"
/* Of a text behind a colon. */
#define REWORDINGS "translate summarize summarise rewrite correct proofread rephrase paraphrase shorten improve"
#define GIVING "tell give show help walk teach send remind"
#define WRITINGS \
    "function script program code query poem essay story email test tests class method macro module paragraph article report regex " \
    "loop component page app haiku"

bool head_is_one_of(struct view word, const char *list)
{
    struct view rest = view_str(list);

    if (word.len == 0)
        return false;
    while (rest.ptr)
        if (view_eq(view_cut(&rest, ' '), word))
            return true;
    return false;
}

static bool is(const struct head *h, size_t i, const char *list)
{
    return head_is_one_of(head_lower(h, i), list);
}

/* Nothing stands between this word and the next. */
static bool open_end(const struct head *h, size_t i)
{
    return h->words[i].tail.len == 0;
}

static bool breaks(const struct head *h, size_t i)
{
    struct view tail = h->words[i].tail;

    return tail.len > 0 && memchr(",.!", tail.ptr[0], 3);
}

static bool take(struct head *h, size_t count)
{
    h->from += count;
    return true;
}

static bool greeting(struct head *h)
{
    size_t f = h->from, len = 1;

    if (is(h, f, "good") && open_end(h, f) && is(h, f + 1, "morning afternoon evening day"))
        return breaks(h, f + 1) && !is(h, f + 2, "in") ? take(h, 2) : false;
    if (!is(h, f, "hi hello hey greetings"))
        return false;
    if (open_end(h, f) && is(h, f + 1, "there all everyone"))
        len = 2;
    if (is(h, f + len, "world kitty") || f + len > h->to)
        return false;
    if (f + len == h->to)
        return !h->payload.ptr ? take(h, len) : false;
    if (breaks(h, f + len - 1))
        return take(h, len);
    if (!open_end(h, f + len - 1))
        return false;
    return is(h, f + len, WH_WORDS " can could would please i i'm kindly") ? take(h, len) : false;
}

static bool please(struct head *h)
{
    size_t f = h->from;
    const struct word *next = &h->words[f + 1];

    if (!is(h, f, "please kindly pls plz"))
        return false;
    if (f + 1 == h->to)
        return h->payload.ptr ? false : take(h, 1);
    if (!open_end(h, f) && !(h->words[f].tail.len == 1 && h->words[f].tail.ptr[0] == ','))
        return false;
    if (next->kind != WORD_PLAIN || (next->capital && !h->shouting) || is(h, f + 1, "me mr mister to"))
        return false;
    return take(h, 1);
}

static bool asks_for_writing(const struct head *h, size_t verb)
{
    if (!is(h, verb, "write") || !is(h, verb + 1, "a an me some"))
        return false;
    for (size_t i = verb + 2; i < verb + 6 && i < h->to; i++)
        if (is(h, i, WRITINGS))
            return true;
    return false;
}

static bool asks(const struct head *h, size_t verb, bool please)
{
    if (please && is(h, verb, REQUESTS))
        return true;
    if (h->payload.ptr && is(h, verb, REQUESTS " " REWORDINGS))
        return true;
    if (is(h, verb, PLAIN_REQUESTS) || asks_for_writing(h, verb))
        return true;
    return is(h, verb, GIVING) && is(h, verb + 1, "me us");
}

static bool request(struct head *h)
{
    size_t f = h->from, verb = f + 2;
    bool please;

    if (!is(h, f, "can could would will") || !is(h, f + 1, "you") || !open_end(h, f) || !open_end(h, f + 1))
        return false;
    please = is(h, verb, "please kindly pls plz") && open_end(h, verb);
    verb += please;
    if (!asks(h, verb, please))
        return false;
    h->request = true;
    return take(h, verb - f);
}

/* "I would like to know how", "tell me what": the question behind it is meant. */
static bool introduction(struct head *h)
{
    static const char *const phrases[] = {
        "tell me",         "i would like to know", "i'd like to know", "i want to know", "i need to know",
        "i was wondering", "i would like you to",  "i'd like you to",  "i need you to",  "i want you to"
    };

    for (size_t p = 0; p < ARRAY_LEN(phrases); p++) {
        struct view rest = view_str(phrases[p]);
        size_t at = h->from;

        while (rest.ptr && at < h->to && view_eq(head_lower(h, at), view_cut(&rest, ' ')) && open_end(h, at)) {
            at++;
            if (!rest.ptr && is(h, at, p < 6 ? WH_WORDS : REQUESTS)) {
                h->request = true;
                return take(h, at - h->from);
            }
        }
    }
    return false;
}

static bool thanks(struct head *h)
{
    static const char *const phrases[] = { "thanks",
                                           "thx",
                                           "cheers",
                                           "please",
                                           "thank you",
                                           "many thanks",
                                           "thanks a lot",
                                           "thanks so much",
                                           "thanks in advance",
                                           "thank you in advance",
                                           "thank you very much",
                                           "thank you so much" };
    size_t start = h->to;

    while (start > h->from && !h->words[start - 1].begins)
        start--;
    if (start == h->from || h->payload.ptr || h->to - --start > 5)
        return false;
    for (size_t p = 0; p < ARRAY_LEN(phrases); p++) {
        struct view rest = view_str(phrases[p]);
        size_t at = start;

        while (rest.ptr && at < h->to && view_eq(head_lower(h, at), view_cut(&rest, ' ')))
            if (++at == h->to && !rest.ptr) {
                h->to = start;
                return true;
            }
    }
    return false;
}

/* "..., please?" or a question of some length that ends in "please". */
static bool last_please(struct head *h)
{
    size_t last = h->to - 1;
    const struct word *before;

    if (h->to - h->from < 3 || h->payload.ptr || h->form || !is(h, last, "please pls plz"))
        return false;
    before = &h->words[last - 1];
    if (before->tail.len > 0 ? !(before->tail.len == 1 && before->tail.ptr[0] == ',')
                             : h->to - h->from < 5 || !(head_classes(h, h->from) & W_QUESTION) ||
                                   before->kind != WORD_PLAIN || (before->meaning->classes & (W_FUNCTION | W_ENGLISH)))
        return false;
    h->to = last;
    return true;
}

void head_strip_politeness(struct head *h)
{
    bool again;

    do {
        again = h->from < h->to && (greeting(h) || please(h) || request(h) || introduction(h) ||
                                    (!h->more && (thanks(h) || last_please(h))));
    } while (again);
}
