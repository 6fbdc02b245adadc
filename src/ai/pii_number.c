/* Matchers of what is made of digits. Groups are read once, with the gaps people write between them; then each kind asks its own question
 * of them. What a number is not (a date, an order number, a price) is decided by its shape and by the words before it. */
#include "ai/pii_parts.h"

#define GROUPS_MAX 10u
#define DIGITS_MAX 24u

static bool found(struct pii_find *ret, enum pii_kind kind, size_t at, size_t end)
{
    *ret = (struct pii_find){ .kind = kind, .at = at, .len = end - at };
    return true;
}

struct groups {
    char digits[DIGITS_MAX];
    uint8_t len[GROUPS_MAX];
    char gap[GROUPS_MAX];   /* before the group: ' ' '-' '.' '/' ')' */
    size_t end[GROUPS_MAX]; /* of the group, in the text */
    unsigned count, total;
};

/* The gap at `at`; `phone`: also those of telephone numbers: "." "/" ") " ")-" " (" "(0)". */
static size_t gap_at(const struct pii_text *t, size_t at, bool phone, char *ret)
{
    size_t len = pii_gap(t, at, ret), more;
    char c = pii_at(t, at + len);

    if (!phone)
        return len;
    if (len == 0 && (c == '.' || c == '/')) {
        *ret = c;
        return 1;
    }
    if (c == '/' && pii_at(t, at + len + 1) == ' ') { /* "030 / 901820" */
        *ret = '/';
        return len + 2;
    }
    if (c == '(' && len <= 1)
        return len + 1;
    if (len == 0 && c == ')') {
        more = pii_gap(t, at + 1, ret);
        *ret = ')';
        return 1 + more;
    }
    if (c == '-' && pii_at(t, at + len + 1) == ' ') { /* "0171 - 2345678" */
        *ret = '-';
        return len + 2;
    }
    return len;
}

static void read_groups(const struct pii_text *t, size_t at, bool phone, struct groups *g)
{
    char gap = 0;

    g->count = g->total = 0;
    while (g->count < GROUPS_MAX) {
        size_t len = pii_run(t, at, PII_DIGIT, DIGITS_MAX + 1), skip;

        if (len == 0 || g->total + len > DIGITS_MAX)
            return;
        memcpy(g->digits + g->total, t->ptr + at, len);
        g->total += (unsigned)len;
        g->len[g->count] = (uint8_t)len;
        g->gap[g->count] = gap;
        at += len;
        g->end[g->count++] = at;
        if (phone && len == 1 && g->count > 2) /* an extension, "901820-0"; rows of single digits are no number */
            return;
        skip = gap_at(t, at, phone, &gap);
        if (skip == 0)
            return;
        at += skip;
    }
}

/* Does nothing that belongs to the same number or word follow? */
static bool ends_at(const struct pii_text *t, size_t end)
{
    char c = pii_at(t, end);

    if (c == '@' || c == '%')
        return false;
    if (pii_is(t, end, PII_WORD))
        return (unsigned char)c >= 0x80; /* a no-break space, a dash, or a word of a script without spaces */
    if ((c == '.' || c == ',' || c == '/' || c == ':') && pii_is(t, end + 1, PII_DIGIT))
        return false;
    return !(c == '-' && pii_is(t, end + 1, PII_WORD));
}

/* ---- payment cards ---- */

static bool luhn(const char *digits, unsigned len)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < len; i++) {
        unsigned d = (unsigned)(digits[len - 1 - i] - '0');

        if (i & 1)
            d = d > 4 ? 2 * d - 9 : 2 * d;
        sum += d;
    }
    return sum % 10 == 0;
}

/* Issuers' ranges of the first six digits (ISO/IEC 7812), with the lengths they use. */
static bool is_issued(const char *digits, unsigned len)
{
    static const struct {
        uint32_t from, to;
        uint8_t min, max;
    } ranges[] = {
        { 220000, 220499, 16, 19 },                             /* Mir */
        { 222100, 272099, 16, 16 },                             /* Mastercard */
        { 300000, 305999, 14, 14 },                             /* Diners */
        { 309500, 309599, 14, 14 }, { 340000, 349999, 15, 15 }, /* American Express */
        { 352800, 358999, 16, 19 },                             /* JCB */
        { 360000, 369999, 14, 14 }, { 370000, 379999, 15, 15 }, { 380000, 399999, 14, 14 }, { 400000, 499999, 16, 16 },
        { 400000, 499999, 13, 13 }, { 400000, 499999, 19, 19 },                             /* Visa */
        { 501800, 501899, 13, 19 }, { 502000, 502099, 13, 19 }, { 503800, 503899, 13, 19 }, /* Maestro */
        { 510000, 559999, 16, 16 }, { 589300, 589399, 13, 19 }, { 601100, 601199, 16, 19 }, /* Discover */
        { 606000, 606999, 16, 16 }, { 620000, 629999, 16, 19 },                             /* UnionPay */
        { 630400, 630499, 13, 19 }, { 644000, 659999, 16, 19 }, { 675900, 675999, 13, 19 }, { 676100, 676399, 13, 19 },
    };
    uint32_t head = 0;

    for (unsigned i = 0; i < 6; i++)
        head = head * 10 + (uint32_t)(digits[i] - '0');
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
        if (head >= ranges[i].from && head <= ranges[i].to && len >= ranges[i].min && len <= ranges[i].max)
            return true;
    return false;
}

/* As cards are printed: fours and a rest, 4-6-5, 4-6-4; or without gaps. One kind of gap. */
static bool is_printed_so(const struct groups *g, unsigned count)
{
    if (count == 1)
        return true;
    for (unsigned i = 2; i < count; i++)
        if (g->gap[i] != g->gap[1])
            return false;
    if (count == 3 && g->len[0] == 4 && g->len[1] == 6 && (g->len[2] == 5 || g->len[2] == 4))
        return true;
    for (unsigned i = 0; i + 1 < count; i++)
        if (g->len[i] != 4)
            return false;
    return g->len[count - 1] <= 4;
}

bool pii_match_card(const struct pii_text *t, size_t at, struct pii_find *ret)
{
    struct groups g;
    unsigned total;

    if (!pii_starts_word(t, at) ||
        (at >= t->floor + 2 && strchr(".-,", t->ptr[at - 1]) && pii_is(t, at - 2, PII_DIGIT)))
        return false;
    total = (unsigned)pii_run(t, at, PII_DIGIT, 20);
    if (total != 4 && total < 13)
        return false;
    read_groups(t, at, false, &g);
    total = g.total;
    for (unsigned count = g.count; count > 0 && total >= 13; total -= g.len[--count])
        if (total <= 19 && is_printed_so(&g, count) && is_issued(g.digits, total) && luhn(g.digits, total) &&
            (ends_at(t, g.end[count - 1]) || (pii_at(t, g.end[count - 1]) == '/')))
            return found(ret, PII_CARD, at, g.end[count - 1]);
    return false;
}

/* ---- IBAN ---- */

/* The length by country (ISO 13616 registry); 0: no such country. */
static unsigned iban_len(char a, char b)
{
    static const char countries[] =
        "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18FO18FR27"
        "GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22"
        "MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28"
        "TL23TN24TR26UA29VA22VG24XK20YE30";

    for (size_t i = 0; i + 3 < sizeof(countries); i += 4)
        if (countries[i] == a && countries[i + 1] == b)
            return (unsigned)(countries[i + 2] - '0') * 10 + (unsigned)(countries[i + 3] - '0');
    return 0;
}

static unsigned mod97_add(unsigned sum, char c)
{
    if (c >= '0' && c <= '9')
        return (sum * 10 + (unsigned)(c - '0')) % 97;
    return (sum * 100 + (unsigned)(c - 'A') + 10) % 97;
}

bool pii_match_iban(const struct pii_text *t, size_t at, struct pii_find *ret)
{
    char text[36], gap;
    size_t start, end;
    unsigned len, sum = 0;

    if (at < t->floor + 2 || !pii_is(t, at - 1, PII_ALPHA) || !pii_is(t, at - 2, PII_ALPHA))
        return false;
    start = end = at - 2;
    len = iban_len((char)(t->ptr[start] & ~0x20), (char)(t->ptr[start + 1] & ~0x20));
    if (len == 0 || !pii_starts_word(t, start) || !pii_is(t, at + 1, PII_DIGIT))
        return false;
    for (unsigned i = 0; i < len; i++) {
        if (i && !pii_is(t, end, PII_DIGIT | PII_ALPHA))
            end += pii_gap(t, end, &gap);
        if (!pii_is(t, end, PII_DIGIT | PII_ALPHA))
            return false;
        text[i] = t->ptr[end++];
        if (text[i] >= 'a')
            text[i] = (char)(text[i] & ~0x20);
    }
    if (pii_is(t, end, PII_DIGIT | PII_ALPHA))
        return false;
    for (unsigned i = 4; i < len; i++)
        sum = mod97_add(sum, text[i]);
    for (unsigned i = 0; i < 4; i++)
        sum = mod97_add(sum, text[i]);
    return sum == 1 && found(ret, PII_IBAN, start, end);
}

/* ---- IP addresses ---- */

/* Four numbers up to 255 without leading zeros; 0 or the end. */
static size_t dotted_end(const struct pii_text *t, size_t at, uint8_t octets[4])
{
    for (unsigned i = 0; i < 4; i++) {
        size_t len = pii_run(t, at, PII_DIGIT, 4);
        unsigned value = 0;

        if (len == 0 || len > 3 || (len > 1 && t->ptr[at] == '0'))
            return 0;
        for (size_t k = 0; k < len; k++)
            value = value * 10 + (unsigned)(t->ptr[at + k] - '0');
        if (value > 255)
            return 0;
        octets[i] = (uint8_t)value;
        at += len;
        if (i < 3 && pii_at(t, at++) != '.')
            return 0;
    }
    return at;
}

bool pii_match_ipv4(const struct pii_text *t, size_t at, struct pii_find *ret)
{
    size_t start = at, end;
    uint8_t o[4];

    if (!pii_starts_word(t, at) || (at > t->floor && t->ptr[at - 1] == '.') ||
        (at >= t->floor + 2 && t->ptr[at - 1] == '-' && pii_is(t, at - 2, PII_ALPHA)))
        return false;
    end = dotted_end(t, start, o);
    if (end == 0 || (pii_is(t, end, PII_WORD) && (unsigned char)t->ptr[end] < 0x80) ||
        (pii_at(t, end) == '.' && pii_is(t, end + 1, PII_WORD)) ||
        (pii_at(t, end) == '-' && pii_is(t, end + 1, PII_ALPHA)))
        return false;
    /* "This network", loopback, multicast, masks: they name nobody. */
    if (o[0] == 0 || o[0] == 127 || o[0] >= 224)
        return false;
    return pii_label_before(t, at) != PII_LABEL_VERSION && found(ret, PII_IP, start, end);
}

/* RFC 4291 §2.2: eight groups of 1 to 4 hexadecimal digits, "::" once for at least one group of zeros, the last two perhaps dotted. */
struct ipv6 {
    unsigned groups, twos, digits; /* twos: groups of just two digits */
    bool gap, dotted;
    size_t end;
};

static bool read_ipv6(const struct pii_text *t, size_t at, struct ipv6 *ret)
{
    uint8_t octets[4];

    *ret = (struct ipv6){ .end = at };
    if (pii_at(t, at) == ':') {
        if (pii_at(t, at + 1) != ':')
            return false;
        ret->gap = true;
        ret->end = at = at + 2;
    }
    while (ret->groups < 8) {
        size_t len = pii_run(t, at, PII_HEX, 5);

        if (len == 0 || len > 4)
            break;
        if (ret->groups <= 6 && pii_at(t, at + len) == '.' && dotted_end(t, at, octets)) {
            ret->end = dotted_end(t, at, octets);
            ret->groups += 2;
            ret->dotted = true;
            break;
        }
        ret->groups++;
        ret->twos += len == 2;
        for (size_t i = 0; i < len; i++)
            ret->digits += pii_is(t, at + i, PII_DIGIT);
        ret->end = at = at + len;
        if (pii_at(t, at) != ':')
            break;
        if (pii_at(t, at + 1) == ':') {
            if (ret->gap)
                return false;
            ret->gap = true;
            ret->end = at = at + 2;
        } else {
            at++;
        }
    }
    return ret->gap ? ret->groups <= 7 : ret->groups == 8;
}

bool pii_match_ipv6(const struct pii_text *t, size_t at, struct pii_find *ret)
{
    size_t start = at;
    struct ipv6 ip;

    if (!pii_is(t, at + 1, PII_HEX) && pii_at(t, at + 1) != ':')
        return false;
    while (start > t->floor && at - start < 5 && pii_is(t, start - 1, PII_HEX))
        start--;
    if (at - start > 4 || !pii_starts_word(t, start) || (start > t->floor && t->ptr[start - 1] == ':') ||
        !read_ipv6(t, start, &ip))
        return false;
    if ((pii_is(t, ip.end, PII_WORD) && (unsigned char)t->ptr[ip.end] < 0x80) ||
        (pii_at(t, ip.end) == ':' && (pii_is(t, ip.end + 1, PII_WORD) || pii_at(t, ip.end + 1) == ':')))
        return false;
    /* Eight pairs are a hardware address (EUI-64); "a::b" is C++; "::" and "::1" name nobody. */
    if ((ip.twos == 8 && !ip.gap) || (ip.digits < 2 && !ip.dotted) || ip.groups < 2)
        return false;
    return found(ret, PII_IP, start, ip.end);
}

/* ---- telephone numbers ---- */

/* How many digits a country calling code at `digits` has (ITU-T E.164); 0: unassigned. */
static unsigned country_code(const char *digits)
{
    static const char two[] =
        "20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 "
        "65 66 81 82 84 86 90 91 92 93 94 95 98 ";
    /* The others have three, from these beginnings. */
    static const char three[] = "21 22 23 24 25 26 29 35 37 38 42 50 59 67 68 69 80 85 87 88 96 97 99 ";
    const char head[] = { digits[0], digits[1], ' ', '\0' };

    if (digits[0] == '1' || digits[0] == '7')
        return 1;
    if (strstr(two, head))
        return 2;
    return strstr(three, head) ? 3 : 0;
}

/* NANP: area code and exchange start with 2 to 9; the area codes N9X, 37X and 96X are reserved; round sums are sums. */
static bool is_nanp(const char *digits)
{
    if (digits[0] < '2' || digits[3] < '2' || digits[1] == '9' || (digits[0] == '3' && digits[1] == '7') ||
        (digits[0] == '9' && digits[1] == '6'))
        return false;
    return memcmp(digits + 1, "00", 2) != 0 || memcmp(digits + 4, "00", 2) != 0;
}

static bool is_year(const char *digits)
{
    return memcmp(digits, "19", 2) == 0 || memcmp(digits, "20", 2) == 0;
}

static bool begins_with_date(const struct groups *g)
{
    const char *d = g->digits;

    if (g->count < 3)
        return false;
    if (g->len[0] == 4 && g->len[1] == 2 && g->len[2] == 2)
        return is_year(d) && (d[4] == '0' || d[4] == '1') && d[6] <= '3';
    return g->len[0] <= 2 && g->len[1] <= 2 && g->len[2] == 4 && is_year(d + g->len[0] + g->len[1]);
}

/* The part of an international number behind "+" or "00". */
static bool is_international(const char *digits, unsigned len)
{
    unsigned code = len >= 8 && len <= 15 ? country_code(digits) : 0;

    if (code == 0)
        return false;
    if (digits[0] == '1')
        return len == 11 && is_nanp(digits + 1);
    return digits[0] != '7' || len == 11;
}

/* "020 7183 8750", "06 12 34 56 78", "030/901820": the trunk prefix 0, an area code, the rest. */
static bool is_trunk(const struct groups *g, unsigned count, unsigned total)
{
    bool twos = true;

    if (g->digits[0] != '0' || count < 2 || count > 6 || total < 9 || total > 12 || g->len[0] < 2 || g->len[0] > 6 ||
        g->digits[1] == '0')
        return false;
    for (unsigned i = 0; i < count; i++) {
        twos = twos && g->len[i] == 2;
        if (g->len[i] < 2 || g->len[i] > 8 || (i && g->gap[i] == '/' && i > 1))
            return false;
    }
    if (twos)
        return count == 5 && g->count == 5;
    for (unsigned i = 1; i < count; i++)
        if (g->gap[i] == '.') /* 1.5 and 01.02: only the French way is told from other numbers */
            return false;
    return true;
}

/* "415-555-2671", "(415) 555-2671", "1 415 555 2671" */
static bool is_american(const struct groups *g, unsigned count)
{
    unsigned first = count == 4 && g->len[0] == 1 && g->digits[0] == '1';

    if (count != 3 + first || g->len[first] != 3 || g->len[first + 1] != 3 || g->len[first + 2] != 4)
        return false;
    for (unsigned i = first + 1; i < count; i++)
        if (g->gap[i] == '/')
            return false;
    return is_nanp(g->digits + first);
}

static bool is_national(const struct groups *g, unsigned count, unsigned total, enum pii_label label)
{
    unsigned seen = 0;

    for (unsigned i = 0; i < total; i++)
        seen |= 1u << (g->digits[i] - '0');
    if (__builtin_popcount(seen) < 3) /* bits, fillers */
        return false;
    if (label != PII_LABEL_PHONE)
        return is_trunk(g, count, total) || is_american(g, count);
    if (count == 1)
        return total >= 9 && total <= 12 && (g->digits[0] == '0' || (total == 10 && is_nanp(g->digits)));
    return total >= 7 && total <= 13;
}

/* Where the number starts that has a first digit at `at`: at its "+" or "(". `*ret_plus`: is written internationally. */
static size_t phone_start(const struct pii_text *t, size_t at, bool *ret_plus)
{
    *ret_plus = false;
    if (at > t->floor && t->ptr[at - 1] == '(')
        at--;
    if (at > t->floor && t->ptr[at - 1] == '+') {
        *ret_plus = true;
        at--;
    }
    return at;
}

/* "+44 (0)20 7183 8750": the 0 is not dialled from abroad, but is no reason to miss it. */
static bool fits(const struct groups *g, unsigned count, unsigned total, bool plus, enum pii_label label)
{
    if (plus)
        return is_international(g->digits, total) || (total == 16 && is_international(g->digits, 15));
    if (g->digits[0] == '0' && g->digits[1] == '0' && count >= 2 && is_international(g->digits + 2, total - 2))
        return label != PII_LABEL_OTHER;
    return label != PII_LABEL_OTHER && !begins_with_date(g) && is_national(g, count, total, label);
}

/* Is `at` in the middle of a longer row of groups, a card's or an account's that was not taken for one? */
static bool continues_row(const struct pii_text *t, size_t at)
{
    size_t start = at - 1;

    if (at < t->floor + 2 || (t->ptr[at - 1] != ' ' && t->ptr[at - 1] != '-') || !pii_is(t, at - 2, PII_DIGIT))
        return false;
    while (start > t->floor && at - start < 6 && pii_is(t, start - 1, PII_DIGIT | PII_ALPHA))
        start--;
    /* Rows of pairs: "01 02 03 04 05 06". */
    return at - 1 - start >= 4 || (at - 1 - start == 2 && pii_run(t, at, PII_DIGIT, 3) == 2);
}

bool pii_match_phone(const struct pii_text *t, size_t at, struct pii_find *ret)
{
    struct groups g;
    bool plus;
    size_t start = phone_start(t, at, &plus);
    enum pii_label label;
    unsigned total;

    if (!pii_starts_word(t, start))
        return false;
    if (!plus && start == at && continues_row(t, at))
        return false;
    if (start > t->floor && strchr(plus ? "+" : ".-/,#$+=&", t->ptr[start - 1]))
        return false;
    read_groups(t, at, true, &g);
    if (g.total < 7)
        return false;
    label = plus ? PII_LABEL_NONE : pii_label_before(t, start);
    total = g.total;
    for (unsigned count = g.count; count > 0 && total >= 7; total -= g.len[--count])
        if (fits(&g, count, total, plus, label) && ends_at(t, g.end[count - 1]))
            return found(ret, PII_PHONE, start, g.end[count - 1]);
    return false;
}
