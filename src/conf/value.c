/* Text to values. Every parser takes the whole text or refuses it, says what would be right, and quotes what it got
 * except where it may be a secret. Numbers are parsed by hand: the C library's functions skip white space, take signs
 * and follow the locale. */
#include "conf/value.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>

#define VALUE_EXPANDED_MAX 4096u

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit size_units[] = {
    { "", 1 },          { "b", 1 },          { "k", 1 << 10 },     { "kb", 1 << 10 },     { "kib", 1 << 10 },
    { "m", 1 << 20 },   { "mb", 1 << 20 },   { "mib", 1 << 20 },   { "g", 1 << 30 },      { "gb", 1 << 30 },
    { "gib", 1 << 30 }, { "t", 1ull << 40 }, { "tb", 1ull << 40 }, { "tib", 1ull << 40 },
};

static const struct unit duration_units[] = {
    { "ms", 1 },      { "s", 1000 },    { "sec", 1000 },   { "m", 60000 },
    { "min", 60000 }, { "h", 3600000 }, { "d", 86400000 }, { "w", 604800000 },
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z';
}

bool value_is_list(enum option_type type)
{
    return type == OPTION_STRINGS || type == OPTION_CIDRS || type == OPTION_ADDRESSES || type == OPTION_URLS;
}

size_t value_size(enum option_type type)
{
    switch (type) {
    case OPTION_BOOL: return sizeof(bool);
    case OPTION_INT:
    case OPTION_SIZE:
    case OPTION_DURATION: return sizeof(uint64_t);
    case OPTION_RATIO: return sizeof(double);
    case OPTION_ENUM: return sizeof(unsigned);
    case OPTION_CIDRS: return sizeof(struct option_cidr);
    case OPTION_ADDRESS:
    case OPTION_ADDRESSES: return sizeof(struct option_address);
    case OPTION_URL:
    case OPTION_URLS: return sizeof(struct option_url);
    default: return sizeof(struct view);
    }
}

static int wrong(struct text *why, struct view raw, const char *right)
{
    report_quote(why, raw);
    text_printf(why, " is not %s", right);
    return -EINVAL;
}

/* number = 1*DIGIT ["." 1*DIGIT], at most 9 places after the point. */
struct number {
    uint64_t whole;
    uint64_t part, scale; /* part / scale behind the point */
};

static bool take_number(struct view *rest, struct number *ret)
{
    struct number n = { .scale = 1 };
    size_t len = 0;

    while (len < rest->len && is_digit(rest->ptr[len]))
        len++;
    if (!view_parse_u64(view_first(*rest, len), &n.whole))
        return false;
    *rest = view_skip(*rest, len);
    if (rest->len && rest->ptr[0] == '.') {
        for (len = 1; len < rest->len && is_digit(rest->ptr[len]); len++) {
            if (n.scale >= 1000000000)
                return false;
            n.part = n.part * 10 + (uint64_t)(rest->ptr[len] - '0');
            n.scale *= 10;
        }
        if (len == 1)
            return false;
        *rest = view_skip(*rest, len);
    }
    *ret = n;
    return true;
}

static bool take_unit(struct view *rest, const struct unit *units, size_t count, uint64_t *ret_factor)
{
    struct view word;
    size_t len = 0;

    while (rest->len && rest->ptr[0] == ' ')
        *rest = view_skip(*rest, 1);
    while (len < rest->len && is_letter(rest->ptr[len]))
        len++;
    word = view_first(*rest, len);
    for (size_t i = 0; i < count; i++) {
        if (view_eq_icase(word, view_str(units[i].name))) {
            *ret_factor = units[i].factor;
            *rest = view_skip(*rest, len);
            return true;
        }
    }
    return false;
}

/* False when the product does not fit. The scale is at most 10^9 and factors at most 2^40, so 128 bits are enough. */
static bool scale(const struct number *n, uint64_t factor, uint64_t *ret)
{
    unsigned __int128 product = (unsigned __int128)n->whole * factor + (unsigned __int128)n->part * factor / n->scale;

    if (product >= OPTION_UNSET)
        return false;
    *ret = (uint64_t)product;
    return true;
}

static int parse_size(struct view raw, uint64_t *ret, struct text *why)
{
    struct view rest = raw;
    struct number n;
    uint64_t factor;

    if (!take_number(&rest, &n) || !take_unit(&rest, size_units, ARRAY_LEN(size_units), &factor) || rest.len ||
        !scale(&n, factor, ret))
        return wrong(why, raw, "a size such as 64K, 512M or 2G");
    return 0;
}

static int parse_duration(struct view raw, uint64_t *ret, struct text *why)
{
    uint64_t total = 0, piece, factor;
    struct view rest = raw;
    struct number n;

    if (view_eq(raw, VIEW("0"))) {
        *ret = 0;
        return 0;
    }
    if (view_parse_u64(raw, &piece)) {
        report_quote(why, raw);
        text_printf(why, " needs a unit: ms, s, m, h, d or w, as in %.*ss", VIEW_ARG(view_first(raw, 20)));
        return -EINVAL;
    }
    do {
        if (!take_number(&rest, &n) || !take_unit(&rest, duration_units, ARRAY_LEN(duration_units), &factor) ||
            !scale(&n, factor, &piece) || piece >= OPTION_UNSET - total)
            return wrong(why, raw, "a duration such as 250ms, 30s, 5m, 1h30m or 7d");
        total += piece;
    } while (rest.len);
    *ret = total;
    return 0;
}

void value_print_size(struct text *out, uint64_t bytes)
{
    static const char units[] = "KMGT";
    int unit = -1;

    while (bytes && bytes % 1024 == 0 && unit < 3) {
        bytes /= 1024;
        unit++;
    }
    text_u64(out, bytes);
    if (unit >= 0)
        text_char(out, units[unit]);
}

void value_print_duration(struct text *out, uint64_t ms)
{
    static const struct unit units[] = {
        { "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 },
    };

    if (ms == 0)
        text_char(out, '0');
    for (size_t i = 0; i < ARRAY_LEN(units) && ms; i++) {
        if (ms / units[i].factor == 0)
            continue;
        text_u64(out, ms / units[i].factor);
        text_put(out, view_str(units[i].name));
        ms %= units[i].factor;
    }
}

void value_print_number(struct text *out, enum option_type type, uint64_t value)
{
    if (type == OPTION_SIZE)
        value_print_size(out, value);
    else if (type == OPTION_DURATION)
        value_print_duration(out, value);
    else
        text_u64(out, value);
}

static int check_bounds(const struct option *option, uint64_t value, struct text *why)
{
    if (value >= option->min && (option->max == 0 || value <= option->max))
        return 0;
    value_print_number(why, option->type, value);
    text_lit(why, " is out of range; ");
    if (option->max == 0) {
        text_lit(why, "at least ");
        value_print_number(why, option->type, option->min);
    } else {
        text_lit(why, "allowed: ");
        value_print_number(why, option->type, option->min);
        text_lit(why, " to ");
        value_print_number(why, option->type, option->max);
    }
    return -EINVAL;
}

static int parse_number(const struct option *option, struct view raw, uint64_t *ret, struct text *why)
{
    uint64_t value = 0;
    int r = 0;

    if (option->type == OPTION_SIZE)
        r = parse_size(raw, &value, why);
    else if (option->type == OPTION_DURATION)
        r = parse_duration(raw, &value, why);
    else if (!view_parse_u64(raw, &value) || value == OPTION_UNSET)
        r = wrong(why, raw, "a whole number");
    if (r == 0)
        r = check_bounds(option, value, why);
    if (r == 0)
        *ret = value;
    return r;
}

static int parse_bool(struct view raw, bool *ret, struct text *why)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = { { "true", true },   { "yes", true }, { "on", true },
                  { "false", false }, { "no", false }, { "off", false } };

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (view_eq_icase(raw, view_str(words[i].word))) {
            *ret = words[i].value;
            return 0;
        }
    }
    return wrong(why, raw, "true or false");
}

static int parse_ratio(struct view raw, double *ret, struct text *why)
{
    struct view rest = raw;
    struct number n;
    double value;

    if (!take_number(&rest, &n))
        return wrong(why, raw, "a ratio from 0 to 1 such as 0.1 or 10%");
    value = (double)n.whole + (double)n.part / (double)n.scale;
    if (view_eq(rest, VIEW("%"))) {
        value /= 100;
        rest = VIEW_NONE;
    }
    if (rest.len || value > 1)
        return wrong(why, raw, "a ratio from 0 to 1 such as 0.1 or 10%");
    *ret = value;
    return 0;
}

static int parse_enum(const struct option *option, struct view raw, unsigned *ret, struct text *why)
{
    struct view candidates[16];
    struct view nearest;
    unsigned count = 0;

    for (; option->names[count] && count < ARRAY_LEN(candidates); count++) {
        candidates[count] = view_str(option->names[count]);
        if (view_eq(raw, candidates[count])) {
            *ret = count;
            return 0;
        }
    }
    report_quote(why, raw);
    nearest = conf_nearest(raw, candidates, count);
    if (nearest.len)
        text_printf(why, " is unknown; did you mean \"%.*s\"?", VIEW_ARG(nearest));
    else
        text_lit(why, " is unknown;");
    text_lit(why, " allowed:");
    for (unsigned i = 0; i < count; i++)
        text_printf(why, "%s %.*s", i ? "," : "", VIEW_ARG(candidates[i]));
    return -EINVAL;
}

static int expand_env(struct view raw, struct arena *memory, struct view *ret, struct text *why)
{
    char buffer[VALUE_EXPANDED_MAX], name[64];
    struct text out = TEXT_ON(buffer);
    char *copy;

    while (raw.len) {
        struct view variable;
        const char *value;

        if (!view_starts_with(raw, VIEW("${"))) {
            text_char(&out, raw.ptr[0]);
            raw = view_skip(raw, 1);
            continue;
        }
        raw = view_skip(raw, 2);
        if (!view_contains(raw, '}')) {
            text_lit(why, "\"${\" without \"}\"");
            return -EINVAL;
        }
        variable = view_cut(&raw, '}');
        if (variable.len == 0 || variable.len >= sizeof(name)) {
            text_lit(why, "\"${...}\" must hold the name of an environment variable");
            return -EINVAL;
        }
        memcpy(name, variable.ptr, variable.len);
        name[variable.len] = '\0';
        value = getenv(name);
        if (!value || !*value) {
            text_lit(why, "environment variable ");
            report_quote(why, variable);
            text_put(why, value ? VIEW(" is empty") : VIEW(" is not set"));
            return -EINVAL;
        }
        text_put(&out, view_str(value));
    }
    if (out.overflow) {
        text_printf(why, "longer than %u bytes", VALUE_EXPANDED_MAX);
        return -EINVAL;
    }
    copy = arena_alloc(memory, out.len + 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, buffer, out.len);
    copy[out.len] = '\0';
    *ret = view_make(copy, out.len);
    return 0;
}

static bool is_token_char(char c)
{
    return is_digit(c) || is_letter(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static int parse_string(const struct option *option, struct view raw, struct arena *memory, struct view *ret,
                        struct text *why)
{
    int r;

    if (option->flags & OPTION_ENV) {
        r = expand_env(raw, memory, &raw, why);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < raw.len; i++) {
        if ((unsigned char)raw.ptr[i] < 0x20 || raw.ptr[i] == 0x7f) {
            text_lit(why, "control characters and line ends are not allowed");
            return -EINVAL;
        }
        if (option->flags & OPTION_TOKEN && !is_token_char(raw.ptr[i]))
            return wrong(why, raw, "a name: letters, digits and !#$%&'*+-.^_`|~ only");
    }
    if (raw.len == 0 && option->flags & OPTION_TOKEN) {
        text_lit(why, "a name must not be empty");
        return -EINVAL;
    }
    *ret = raw;
    return 0;
}

static bool parse_ip(struct view text, uint8_t ret[16], bool *ret_v4)
{
    char copy[INET6_ADDRSTRLEN];

    if (text.len == 0 || text.len >= sizeof(copy))
        return false;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    *ret_v4 = inet_pton(AF_INET, copy, ret + 12) == 1;
    if (*ret_v4) {
        memset(ret, 0, 10);
        memset(ret + 10, 0xff, 2);
        return true;
    }
    return inet_pton(AF_INET6, copy, ret) == 1;
}

static int parse_cidr(struct view raw, struct option_cidr *ret, struct text *why)
{
    static const char right[] = "an address range such as 10.0.0.0/8, 192.0.2.7 or fd00::/8";
    struct view rest = raw;
    struct view address = view_cut(&rest, '/');
    struct option_cidr range = { .bits = 128 };
    uint64_t bits;
    bool v4, loose = false;

    if (!parse_ip(address, range.address, &v4))
        return wrong(why, raw, right);
    if (rest.ptr) {
        if (!view_parse_u64(rest, &bits) || rest.len > 3 || bits > (v4 ? 32u : 128u))
            return wrong(why, raw, right);
        range.bits = (unsigned)bits + (v4 ? 96u : 0u);
    }
    for (unsigned i = range.bits; i < 128; i++) {
        uint8_t bit = (uint8_t)(0x80u >> i % 8);

        loose = loose || range.address[i / 8] & bit;
        range.address[i / 8] = (uint8_t)(range.address[i / 8] & ~bit);
    }
    if (loose) {
        char first[INET6_ADDRSTRLEN] = "";

        inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? range.address + 12 : range.address, first, sizeof(first));
        report_quote(why, raw);
        text_printf(why, " has address bits behind the prefix; did you mean \"%s/%u\"?", first,
                    v4 ? range.bits - 96 : range.bits);
        return -EINVAL;
    }
    *ret = range;
    return 0;
}

static int copy_view(struct arena *memory, struct view v, struct view *ret)
{
    char *copy;

    if (v.len == 0) {
        *ret = VIEW("");
        return 0;
    }
    copy = arena_alloc(memory, v.len + 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, v.ptr, v.len);
    copy[v.len] = '\0';
    *ret = view_make(copy, v.len);
    return 0;
}

/* Splits "host:port", "[v6]:port", "host", "[v6]". The port's view has ptr NULL when there is no colon. */
static bool split_authority(struct view raw, struct view *ret_host, struct view *ret_port)
{
    size_t colon;

    if (raw.len && raw.ptr[0] == '[') {
        size_t end = view_find(raw, ']');
        uint8_t ignored[16];
        bool v4;

        if (end == raw.len || !parse_ip(view_make(raw.ptr + 1, end - 1), ignored, &v4) || v4)
            return false;
        *ret_host = view_make(raw.ptr + 1, end - 1);
        raw = view_skip(raw, end + 1);
        *ret_port = raw.len ? view_skip(raw, 1) : VIEW_NONE;
        return raw.len == 0 || raw.ptr[0] == ':';
    }
    colon = view_find(raw, ':');
    *ret_host = view_first(raw, colon);
    *ret_port = colon < raw.len ? view_make(raw.ptr + colon + 1, raw.len - colon - 1) : VIEW_NONE;
    return !view_contains(*ret_port, ':');
}

static bool parse_port(struct view text, uint16_t *ret)
{
    uint64_t port;

    if (!view_parse_u64(text, &port) || port > 65535 || text.len > 5)
        return false;
    *ret = (uint16_t)port;
    return true;
}

static int parse_address(struct view raw, struct arena *memory, struct option_address *ret, struct text *why)
{
    static const char right[] = "an address such as 127.0.0.1:8080, [::1]:8080, :8080 or unix:/run/doorstep.sock";
    struct option_address address = { .text = raw, .path = VIEW(""), .host = VIEW("") };
    struct view host, port;
    uint8_t ignored[16];
    bool v4;
    int r;

    if (view_starts_with(raw, VIEW("unix:"))) {
        address.path = view_skip(raw, 5);
        /* sun_path holds 108 bytes with its NUL */
        if (address.path.len < 2 || address.path.len > 107 || address.path.ptr[0] != '/' ||
            strlen(address.path.ptr) != address.path.len)
            return wrong(why, raw, "unix: with an absolute path of at most 107 bytes");
        *ret = address;
        return 0;
    }
    if (parse_port(raw, &address.port)) {
        *ret = address;
        return 0;
    }
    if (!split_authority(raw, &host, &port) || !parse_port(port, &address.port))
        return wrong(why, raw, right);
    if (host.len && !view_eq(host, VIEW("localhost")) && !parse_ip(host, ignored, &v4))
        return wrong(why, raw, right);
    r = copy_view(memory, host, &address.host);
    if (r < 0)
        return r;
    *ret = address;
    return 0;
}

static bool is_host(struct view host, bool bracketed)
{
    if (bracketed)
        return true; /* split_authority() has parsed it */
    if (host.len == 0 || host.len > 253)
        return false;
    for (size_t i = 0; i < host.len; i++)
        if (!is_digit(host.ptr[i]) && !is_letter(host.ptr[i]) && !strchr("-._", host.ptr[i]))
            return false;
    return host.ptr[0] != '.';
}

static int parse_url(struct view raw, struct arena *memory, struct option_url *ret, struct text *why)
{
    static const char right[] = "a URL such as http://10.0.0.5:3000 or https://example.com/base";
    struct option_url url = { .text = raw };
    struct view rest, authority, host, port;
    size_t slash;
    int r;

    url.tls = view_starts_with_icase(raw, VIEW("https://"));
    if (!url.tls && !view_starts_with_icase(raw, VIEW("http://")))
        return wrong(why, raw, right);
    rest = view_skip(raw, url.tls ? 8 : 7);
    for (size_t i = 0; i < rest.len; i++)
        if ((unsigned char)rest.ptr[i] <= 0x20 || (unsigned char)rest.ptr[i] >= 0x7f ||
            strchr("@?#\\\"<>", rest.ptr[i]))
            return wrong(why, raw, "a plain URL: no user, query, fragment, spaces or non-ASCII characters");
    slash = view_find(rest, '/');
    authority = view_first(rest, slash);
    if (!split_authority(authority, &host, &port) || !is_host(host, authority.len && authority.ptr[0] == '['))
        return wrong(why, raw, right);
    url.port = url.tls ? 443 : 80;
    if (port.ptr && (!parse_port(port, &url.port) || url.port == 0))
        return wrong(why, raw, right);
    rest = view_skip(rest, slash);
    if (rest.len == 1)
        rest = VIEW_NONE;
    r = copy_view(memory, host, &url.host);
    if (r == 0)
        r = copy_view(memory, rest, &url.path);
    if (r < 0)
        return r;
    *ret = url;
    return 0;
}

int value_parse(const struct option *option, struct view raw, void *ret, struct arena *memory, struct text *why)
{
    if (!(option->flags & OPTION_ENV) && raw.len >= 2 && strstr(raw.ptr, "${")) {
        text_lit(why, "environment variables are not replaced in this option");
        return -EINVAL;
    }
    switch (option->type) {
    case OPTION_BOOL: return parse_bool(raw, ret, why);
    case OPTION_INT:
    case OPTION_SIZE:
    case OPTION_DURATION: return parse_number(option, raw, ret, why);
    case OPTION_RATIO: return parse_ratio(raw, ret, why);
    case OPTION_ENUM: return parse_enum(option, raw, ret, why);
    case OPTION_CIDRS: return parse_cidr(raw, ret, why);
    case OPTION_ADDRESS:
    case OPTION_ADDRESSES: return parse_address(raw, memory, ret, why);
    case OPTION_URL:
    case OPTION_URLS: return parse_url(raw, memory, ret, why);
    default: return parse_string(option, raw, memory, ret, why);
    }
}
