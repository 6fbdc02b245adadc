/* The score of a prompt in one pass over its lines and one over its words. */
#include "ai/classify.h"

#include "ai/semantic_dictionary.h"

#define WORD_MAX 27u

/* Words that ask for more than recalling; the same row is counted once. */
static const char *const step_words[][4] = {
    { "explain", "why" },
    { "compare", "contrast", "versus" },
    { "analyse", "analyze", "analysis" },
    { "step", "steps" },
    { "plan", "strategy" },
    { "design", "architecture" },
    { "debug", "bug" },
    { "refactor", "rewrite" },
    { "implement", "implementation" },
    { "evaluate", "assess" },
    { "optimise", "optimize" },
    { "derive", "deduce" },
    { "then", "finally" },
    { "critique", "review" },
    { "reason", "reasoning" },
    { "summarise", "summarize" },
};

static const char *const maths_words[] = {
    "integral",  "integrate",   "derivative", "equation",  "equations", "probability", "prove",  "proof",
    "theorem",   "polynomial",  "matrix",     "logarithm", "calculate", "compute",     "solve",  "percentage",
    "factorial", "permutation", "modulo",     "geometry",  "algebra",   "calculus",    "vector", "sqrt",
};

static const struct view line_begins[] = {
    { "def ", 4 },    { "class ", 6 },  { "import ", 7 }, { "#include", 8 }, { "function ", 9 }, { "return ", 7 },
    { "SELECT ", 7 }, { "public ", 7 }, { "const ", 6 },  { "fn ", 3 },      { "for (", 5 },     { "if (", 4 },
};

struct scan {
    unsigned steps; /* bits: rows of step_words */
    bool maths;
    unsigned words, by_language[7];
    unsigned scripts[CLASSIFY_LANGUAGES]; /* letters */
    unsigned letters;
};

/* ---- lines ---- */

static bool looks_like_code(struct view line)
{
    char last;

    line = view_trim(line);
    while (line.len && (line.ptr[line.len - 1] == '\r'))
        line.len--;
    if (line.len == 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(line_begins); i++)
        if (view_starts_with(line, line_begins[i]))
            return true;
    last = line.ptr[line.len - 1];
    return last == ';' || last == '{' || last == '}';
}

static bool has_code(struct view text)
{
    unsigned lines = 0;

    while (text.len) {
        struct view line = view_cut(&text, '\n');

        if (view_starts_with(view_trim(line), VIEW("```")))
            return true;
        lines += looks_like_code(line);
    }
    return lines >= 3;
}

/* ---- words ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80;
}

/* "12 * 7", "3^2", "x = 4": a sign of sums with a number on one side and something on the other. A hyphen may be a range or a date, and
 * a slash anything. */
static bool is_sum(struct view text, size_t at)
{
    size_t left = at, right = at + 1;

    if (!memchr("+*^=", text.ptr[at], 4))
        return false;
    while (left > 0 && text.ptr[left - 1] == ' ')
        left--;
    while (right < text.len && text.ptr[right] == ' ')
        right++;
    return left > 0 && right < text.len && (is_digit(text.ptr[left - 1]) || is_digit(text.ptr[right])) &&
           (is_digit(text.ptr[left - 1]) || is_letter(text.ptr[left - 1]) || text.ptr[left - 1] == ')') &&
           (is_digit(text.ptr[right]) || is_letter(text.ptr[right]) || text.ptr[right] == '(');
}

static void take_word(struct scan *scan, struct view word)
{
    uint32_t classes = word_meaning(word)->classes;

    scan->words++;
    scan->by_language[0] += (classes & W_ENGLISH) != 0;
    for (unsigned i = 0; i < 6; i++) /* the classes have the order of our languages */
        scan->by_language[i + 1] += (classes & ((uint32_t)W_GERMAN << i)) != 0;
    for (size_t i = 0; i < ARRAY_LEN(maths_words) && !scan->maths; i++)
        scan->maths = view_eq(word, view_str(maths_words[i]));
    for (size_t row = 0; row < ARRAY_LEN(step_words); row++)
        for (size_t i = 0; i < ARRAY_LEN(step_words[row]) && step_words[row][i]; i++)
            if (view_eq(word, view_str(step_words[row][i])))
                scan->steps |= 1u << row;
}

static int script_of(uint32_t c)
{
    static const struct {
        uint32_t from, to;
        enum classify_language language;
    } ranges[] = {
        { 0x370, 0x3ff, CLASSIFY_EL },   { 0x400, 0x52f, CLASSIFY_RU },   { 0x590, 0x5ff, CLASSIFY_HE },
        { 0x600, 0x6ff, CLASSIFY_AR },   { 0x900, 0x97f, CLASSIFY_HI },   { 0xe00, 0xe7f, CLASSIFY_TH },
        { 0x3040, 0x30ff, CLASSIFY_JA }, { 0x4e00, 0x9fff, CLASSIFY_ZH }, { 0xac00, 0xd7a3, CLASSIFY_KO },
    };

    for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
        if (c >= ranges[i].from && c <= ranges[i].to)
            return (int)ranges[i].language;
    return -1;
}

/* Counts a letter beyond ASCII; returns its bytes. What is no UTF-8 is a letter of nothing. */
static size_t take_letter(struct scan *scan, struct view rest)
{
    unsigned char lead = (unsigned char)rest.ptr[0];
    size_t len = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    uint32_t c = len == 4 ? lead & 7u : len == 3 ? lead & 15u : lead & 31u;
    int script;

    if (lead < 0xc0 || rest.len < len)
        return 1;
    for (size_t i = 1; i < len; i++)
        c = c << 6 | ((unsigned char)rest.ptr[i] & 63u);
    script = script_of(c);
    if (script >= 0)
        scan->scripts[script]++;
    scan->letters++;
    return len;
}

static void scan_text(struct scan *scan, struct view text)
{
    char word[WORD_MAX];
    size_t len = 0;

    for (size_t i = 0; i < text.len;) {
        char c = text.ptr[i];
        size_t step = 1;

        if (is_letter(c)) {
            if ((unsigned char)c >= 0x80)
                step = take_letter(scan, view_skip(text, i));
            else
                scan->letters++;
            for (size_t k = 0; k < step && len < WORD_MAX; k++)
                word[len++] = ascii_lower(text.ptr[i + k]);
        } else {
            if (len && len < WORD_MAX)
                take_word(scan, view_make(word, len));
            len = 0;
            scan->maths = scan->maths || is_sum(text, i);
        }
        i += step;
    }
    if (len && len < WORD_MAX)
        take_word(scan, view_make(word, len));
}

/* ---- the language ---- */

/* The one that the text is in, as far as that shows; -1: it does not. */
static int language_of(const struct scan *scan)
{
    unsigned best = 0, foreign = 0;
    bool tie = false;

    for (unsigned i = CLASSIFY_RU; i < CLASSIFY_LANGUAGES; i++) {
        foreign += scan->scripts[i];
        if (scan->scripts[i] > scan->scripts[best] || best < CLASSIFY_RU)
            best = i;
    }
    if (foreign * 3 > scan->letters) /* Japanese is kana and Han: the kana tell */
        return scan->scripts[CLASSIFY_JA] * 5 > foreign ? CLASSIFY_JA : (int)best;
    best = 0;
    for (unsigned i = 1; i < ARRAY_LEN(scan->by_language); i++) {
        tie =
            scan->by_language[i] == scan->by_language[best] || (tie && scan->by_language[i] < scan->by_language[best]);
        if (scan->by_language[i] > scan->by_language[best])
            best = i;
    }
    return tie || scan->by_language[best] == 0 ? -1 : (int)best;
}

/* ---- all of it ---- */

static unsigned bits_of(unsigned value)
{
    return (unsigned)__builtin_popcount(value);
}

void ai_classify(const struct classify_prompt *prompt, struct classify_score *ret)
{
    struct view text = view_first(prompt->text, CLASSIFY_TEXT_MAX);
    struct scan scan = { 0 };
    int language;

    scan_text(&scan, text);
    language = prompt->languages ? language_of(&scan) : -1;
    *ret = (struct classify_score){
        .length = 0.4f * MIN((float)prompt->bytes / 4 / 2000, 1.0f),
        .code = has_code(text) ? 0.3f : 0,
        .maths = scan.maths ? 0.25f : 0,
        .steps = 0.15f * (float)MIN(bits_of(scan.steps), 3u),
        .language = language >= 0 && !(prompt->languages & 1u << language) ? 0.3f : 0,
        .turns = prompt->turns > 3 ? 0.05f * (float)MIN(prompt->turns - 3, 4u) : 0,
    };
    ret->total = MIN(ret->length + ret->code + ret->maths + ret->steps + ret->language + ret->turns, 1.0f);
}

int ai_classify_language(struct view code)
{
    static const char names[CLASSIFY_LANGUAGES][3] = { "en", "de", "fr", "es", "it", "pt", "nl", "ru",
                                                       "el", "zh", "ja", "ko", "ar", "he", "hi", "th" };

    for (int i = 0; i < CLASSIFY_LANGUAGES; i++)
        if (view_eq_icase(code, view_str(names[i])))
            return i;
    return -1;
}
