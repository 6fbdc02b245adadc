/* Matchers of what is recognised by its spelling: addresses, tokens, keys. Prefixes are looked for from their rarest byte, so each matcher
 * first looks back. */
#include "ai/pii_parts.h"

#define LOCAL_MAX 64u /* RFC 5321 §4.5.3.1.1 */
#define DOMAIN_MAX 253u
#define HEADER_MAX 2048u  /* of a JWT, as base64 */
#define PEM_MAX 65536u    /* from BEGIN to END */
#define PEM_LABEL_MAX 48u /* "ENCRYPTED PRIVATE KEY" and its like */
#define KEY_MAX 256u      /* what is looked at; a longer one is taken whole */

static bool found(struct pii_find *ret, enum pii_kind kind, size_t at, size_t end)
{
    *ret = (struct pii_find){ .kind = kind, .at = at, .len = end - at };
    return true;
}

/* ---- e-mail ---- */

static size_t at_sign_len(const struct pii_text *t, size_t at)
{
    struct view rest = view_make(t->ptr + at, t->len - at);

    if (rest.ptr[0] == '@')
        return 1;
    if (view_starts_with(rest, VIEW("%40")))
        return 3;
    if (view_starts_with(rest, VIEW("\\u0040")))
        return 6;
    return view_starts_with(rest, VIEW("\\x40")) ? 4 : 0;
}

/* Where the local part before `at` starts; `at` when there is none. Quotes, brackets and the like around it are not part of it. */
static size_t local_start(const struct pii_text *t, size_t at)
{
    size_t stop = at > t->floor + LOCAL_MAX ? at - LOCAL_MAX : t->floor, start = at;

    if (at > stop && t->ptr[at - 1] == '"') { /* "john doe"@example.com */
        for (start = at - 1; start > stop && t->ptr[start - 1] != '"' && t->ptr[start - 1] != '\n';)
            start--;
        return start > stop && start < at - 1 && t->ptr[start - 1] == '"' ? start - 1 : at;
    }
    while (start > stop && pii_is(t, start - 1, PII_LOCAL) && t->ptr[start - 1] != '/' && t->ptr[start - 1] != '=' &&
           t->ptr[start - 1] != '?' && t->ptr[start - 1] != '&')
        start--;
    /* Neither quotes nor the rest of a character that the limit has cut. */
    while (start < at && (!pii_is(t, start, PII_WORD) || ((unsigned char)t->ptr[start] & 0xc0) == 0x80))
        start++;
    if (start < at && (t->ptr[at - 1] == '.' || !pii_is(t, at - 1, PII_WORD | PII_LOCAL)))
        return at;
    return start;
}

/* "1.2" or "v1.2": a package's version, not a domain. "2x.": an image's density. */
static bool is_version(const struct pii_text *t, size_t at)
{
    size_t start = at + (pii_at(t, at) == 'v' || pii_at(t, at) == '^' || pii_at(t, at) == '~');
    size_t digits = pii_run(t, start, PII_DIGIT, 20);

    if (digits == 0)
        return false;
    return (pii_at(t, start + digits) == '.' && pii_is(t, start + digits + 1, PII_DIGIT)) ||
           (digits == 1 && pii_at(t, start + 1) == 'x' && pii_at(t, start + 2) == '.');
}

/* The end of the domain that starts at `at`; `at` when there is none. The last label has at least two letters. */
static size_t domain_end(const struct pii_text *t, size_t at)
{
    size_t end = at, label = at, dots = 0, good = at;

    if (is_version(t, at))
        return at;
    while (end < t->len && end - at < DOMAIN_MAX) {
        size_t letters = 0, digits = 0;

        while (end < t->len && end - at < DOMAIN_MAX && t->ptr[end] != '_' &&
               (pii_is(t, end, PII_WORD) || t->ptr[end] == '-')) {
            letters += !pii_is(t, end, PII_DIGIT) && t->ptr[end] != '-';
            digits += pii_is(t, end, PII_DIGIT);
            end++;
        }
        if (end == label || t->ptr[label] == '-' || end - at >= DOMAIN_MAX)
            break;
        if (dots && letters >= 2 && (digits == 0 || (t->ptr[label] | 0x20) == 'x')) {
            good = end;
            while (t->ptr[good - 1] == '-')
                good--;
        }
        if (pii_at(t, end) != '.' || !pii_is(t, end + 1, PII_WORD))
            break;
        dots++;
        label = ++end;
    }
    return good;
}

bool pii_match_email(const struct pii_text *t, size_t at, struct pii_find *ret)
{
    size_t sign = at_sign_len(t, at), start, end;

    if (sign == 0)
        return false;
    start = local_start(t, at);
    if (start == at)
        return false;
    end = domain_end(t, at + sign);
    if (end == at + sign)
        return false;
    /* git@host:repository names nobody. */
    if (at - start == 3 && memcmp(t->ptr + start, "git", 3) == 0 && (pii_at(t, end) == ':' || pii_at(t, end) == '/'))
        return false;
    return found(ret, PII_EMAIL, start, end);
}

/* ---- JWT ---- */

static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : 63; /* '_': the run has no others */
}

static size_t decode(struct view in, char *out)
{
    uint32_t bits = 0;
    unsigned held = 0;
    size_t len = 0;

    for (size_t i = 0; i < in.len; i++) {
        bits = bits << 6 | (uint32_t)sextet(in.ptr[i]);
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[len++] = (char)(bits >> held & 0xff);
        }
    }
    return len;
}

static bool is_jose_header(struct view encoded)
{
    char not_zeroed decoded[HEADER_MAX];
    struct json doc = { 0 };
    size_t at;
    enum json_error error = json_parse(&doc, view_make(decoded, decode(encoded, decoded)), JSON_LIMITS, &at);
    bool is = error == JSON_NO_MEMORY || (error == JSON_OK && json_get_typed(&doc, 0, VIEW("alg"), JSON_STRING));

    json_free(&doc);
    return is;
}

bool pii_match_jwt(const struct pii_text *t, size_t at, struct pii_find *ret)
{
    size_t start, end, part;

    if (!pii_before(t, at, VIEW("ey")) || !pii_starts_word(t, at - 2))
        return false;
    start = at - 2;
    if (start > t->floor && t->ptr[start - 1] == '-') /* within other base64; also keeps "-eyJ-eyJ-..." linear */
        return false;
    end = start + pii_run(t, start, PII_BASE64, HEADER_MAX);
    if (pii_at(t, end) != '.' || !is_jose_header(view_make(t->ptr + start, end - start)))
        return false;
    part = pii_run(t, end + 1, PII_BASE64, SIZE_MAX);
    /* The key of a JWE may be empty; the payload of a JWT is not. */
    if (pii_at(t, end + 1 + part) != '.')
        return false;
    for (unsigned dots = 0; dots < 4 && pii_at(t, end) == '.'; dots++)
        end += 1 + pii_run(t, end + 1, PII_BASE64, SIZE_MAX);
    return found(ret, PII_JWT, start, end);
}

/* ---- PEM ---- */

/* The end of the marker "-----BEGIN ... KEY-----" at `at`; 0: it is none of those that matter. */
static size_t marker_end(const struct pii_text *t, size_t at, struct view begin)
{
    struct view rest = view_make(t->ptr + at, t->len - at), label;
    size_t len;

    if (!view_starts_with(rest, begin))
        return 0;
    label = view_first(view_skip(rest, begin.len), PEM_LABEL_MAX);
    len = view_find(label, '-');
    if (!view_starts_with(view_skip(rest, begin.len + len), VIEW("-----")))
        return 0;
    if (!memmem(label.ptr, len, "KEY", 3) && !memmem(label.ptr, len, "CERTIFICATE", 11))
        return 0;
    return at + begin.len + len + 5;
}

static bool is_base64(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/' ||
           c == '=';
}

/* Where the base64 that begins at or soon after `at` ends: `at` when there is none worth the name, as where a manual only shows the
 * marker. Line ends may be spelled "\n". */
static size_t base64_end(const struct pii_text *t, size_t at)
{
    size_t run = 0, best = 0, end = at, last = at;

    for (size_t i = at; i < t->len && i - at < PEM_MAX; i++) {
        char c = t->ptr[i];

        if (c == '\\' && (pii_at(t, i + 1) == 'n' || pii_at(t, i + 1) == 'r')) {
            i++;
            run = 0;
        } else if (is_base64(c)) {
            last = i + 1;
            if (++run > best)
                best = run;
            if (run >= 20)
                end = last;
        } else {
            /* Fields before the data (RFC 1421): "Proc-Type: 4,ENCRYPTED". */
            if (c == '-' && pii_at(t, i + 1) == '-')
                break;
            if (best >= 20 && c != '\n' && c != '\r' && c != ' ' && c != '\t')
                break;
            if (best < 20 && i - at > 512)
                break;
            run = 0;
        }
    }
    /* The last line is short. */
    return best >= 20 ? MAX(end, MIN(last, end + 66)) : at;
}

bool pii_match_pem(struct pii_text *t, size_t at, struct pii_find *ret)
{
    size_t body = at + 5 <= t->len && memcmp(t->ptr + at, "-----", 5) == 0 ? marker_end(t, at, VIEW("-----BEGIN ")) : 0;
    size_t end;
    const char *hit;

    if (body == 0)
        return false;
    end = base64_end(t, body);
    if (end == body)
        return false;
    if (t->pem_end < body) {
        hit = memmem(t->ptr + body, t->len - body, "-----END ", 9);
        t->pem_end = hit ? (size_t)(hit - t->ptr) : t->len;
    }
    if (t->pem_end < t->len && t->pem_end - at <= PEM_MAX) {
        size_t close = marker_end(t, t->pem_end, VIEW("-----END "));

        end = MAX(end, close ? close : t->pem_end);
    }
    return found(ret, PII_PEM, at, end);
}

/* ---- API keys ---- */

enum body { BODY_ALNUM, BODY_UPPER, BODY_URL, BODY_URL_DOT, BODY_SLASH };

/* A prefix, of which `split` bytes stand before the byte the scan stops at, and what must follow. */
static const struct shape {
    struct view prefix;
    uint8_t split;
    enum body body;
    uint16_t min, max; /* of the body; max 0: as long as it goes on */
    bool random;       /* must look random: the prefix alone is no proof */
} shapes[] = {
    { { "sk-", 3 }, 2, BODY_URL, 20, 0, true },
    { { "ghp_", 4 }, 3, BODY_ALNUM, 36, 0, false },
    { { "gho_", 4 }, 3, BODY_ALNUM, 36, 0, false },
    { { "ghu_", 4 }, 3, BODY_ALNUM, 36, 0, false },
    { { "ghs_", 4 }, 3, BODY_ALNUM, 36, 0, false },
    { { "ghr_", 4 }, 3, BODY_ALNUM, 36, 0, false },
    { { "github_pat_", 11 }, 6, BODY_URL, 40, 0, true },
    { { "AKIA", 4 }, 2, BODY_UPPER, 16, 16, false },
    { { "ASIA", 4 }, 2, BODY_UPPER, 16, 16, true },
    { { "AIza", 4 }, 2, BODY_URL, 35, 35, true },
    { { "xoxb-", 5 }, 4, BODY_URL, 20, 0, true },
    { { "xoxp-", 5 }, 4, BODY_URL, 20, 0, true },
    { { "xoxa-", 5 }, 4, BODY_URL, 20, 0, true },
    { { "xoxs-", 5 }, 4, BODY_URL, 20, 0, true },
    { { "xapp-", 5 }, 4, BODY_URL, 20, 0, true },
    { { "glpat-", 6 }, 5, BODY_URL_DOT, 20, 0, true },
    { { "npm_", 4 }, 3, BODY_ALNUM, 36, 36, false },
    { { "hf_", 3 }, 2, BODY_ALNUM, 30, 40, true },
    { { "sk_live_", 8 }, 2, BODY_ALNUM, 16, 0, true },
    { { "sk_test_", 8 }, 2, BODY_ALNUM, 16, 0, true },
    { { "rk_live_", 8 }, 2, BODY_ALNUM, 16, 0, true },
    { { "rk_test_", 8 }, 2, BODY_ALNUM, 16, 0, true },
    { { "SG.", 3 }, 1, BODY_URL_DOT, 60, 80, true },
    { { "gsk_", 4 }, 3, BODY_ALNUM, 40, 0, true },
    { { "pplx-", 5 }, 4, BODY_ALNUM, 40, 0, true },
    { { "xai-", 4 }, 3, BODY_ALNUM, 60, 0, true },
    { { "dop_v1_", 7 }, 3, BODY_ALNUM, 64, 64, true },
    { { "shpat_", 6 }, 5, BODY_ALNUM, 32, 32, true },
    { { "whsec_", 6 }, 5, BODY_ALNUM, 24, 0, true },
    { { "ds_", 3 }, 2, BODY_ALNUM, 46, 46, true },
    { { "GOCSPX-", 7 }, 6, BODY_URL, 28, 28, true },
    { { "hooks.slack.com/services/", 25 }, 15, BODY_SLASH, 30, 0, true },
};

static bool is_body(char c, enum body body)
{
    bool alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');

    switch (body) {
    case BODY_ALNUM: return alnum;
    case BODY_UPPER: return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
    case BODY_URL: return alnum || c == '-' || c == '_';
    case BODY_URL_DOT: return alnum || c == '-' || c == '_' || c == '.';
    case BODY_SLASH: return alnum || c == '/';
    }
    return false;
}

/* Names put together from words have dashes every few letters, hardly a digit and few capitals; placeholders repeat. *ret_regular: what
 * is missing is missing in every part of it, too. */
static bool looks_random(struct view body, bool *ret_regular)
{
    uint64_t seen[2] = { 0 };
    unsigned upper = 0, lower = 0, digits = 0, run = 0, best = 0;

    for (size_t i = 0; i < body.len; i++) {
        unsigned char c = (unsigned char)body.ptr[i];
        bool digit = c >= '0' && c <= '9', capital = c >= 'A' && c <= 'Z', small = c >= 'a' && c <= 'z';

        digits += digit;
        upper += capital;
        lower += small;
        run = digit || capital || small ? run + 1 : 0;
        best = MAX(best, run);
        if (c < 128)
            seen[c >> 6] |= (uint64_t)1 << (c & 63);
    }
    *ret_regular = best < 14 || __builtin_popcountll(seen[0]) + __builtin_popcountll(seen[1]) < 8;
    if (*ret_regular)
        return false;
    return (digits >= 2 && upper + lower >= 2) || (upper * 4 >= upper + lower && lower * 4 >= upper + lower);
}

static bool match_shape(struct pii_text *t, size_t at, const struct shape *shape, struct pii_find *ret)
{
    size_t start = at - shape->split, body = start + shape->prefix.len, len = 0;
    bool regular;

    if (t->len - start < shape->prefix.len || memcmp(t->ptr + start, shape->prefix.ptr, shape->prefix.len) != 0 ||
        !pii_starts_word(t, start) || (start < t->regular_to && shape->random && shape->body <= BODY_URL))
        return false;
    while (len < KEY_MAX && body + len < t->len && is_body(t->ptr[body + len], shape->body))
        len++;
    while (len && (t->ptr[body + len - 1] == '-' || t->ptr[body + len - 1] == '.')) /* the sentence's */
        len--;
    if (len < shape->min || (shape->max && len > shape->max))
        return false;
    if (shape->random && !looks_random(view_make(t->ptr + body, len), &regular)) {
        /* A run of 14 may still begin within the last 14 bytes and go on behind what was looked at. */
        if (regular && shape->body == BODY_URL)
            t->regular_to = len < KEY_MAX ? body + len : body + len - 14;
        return false;
    }
    while (!shape->max && body + len < t->len && is_body(t->ptr[body + len], shape->body) && len >= KEY_MAX)
        len++;
    return found(ret, PII_KEY, start, body + len);
}

bool pii_match_key(struct pii_text *t, size_t at, struct pii_find *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        if (at >= t->floor + shapes[i].split && t->ptr[at] == shapes[i].prefix.ptr[shapes[i].split] &&
            t->ptr[at - 1] == shapes[i].prefix.ptr[shapes[i].split - 1] && match_shape(t, at, &shapes[i], ret))
            return true;
    return false;
}
