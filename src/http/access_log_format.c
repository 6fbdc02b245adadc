/* A line of the access log, as JSON or in the combined format. Pure: no clock, no file. */
#include "http/access_log.h"

#include "base/check.h"

#include <arpa/inet.h>

/* Longest printed value in raw bytes; the rest is cut. Escaping may make six bytes of one, so a line that does not fit is
 * made again with an eighth, or an eighth of that, which always does. */
enum {
    MAX_METHOD = 32,
    MAX_HOST = 255,
    MAX_PATH = 1024,
    MAX_QUERY = 1024,
    MAX_AGENT = 256,
    MAX_REFERER = 512,
    MAX_NAME = 128
};

static bool is_plain(struct view v)
{
    for (size_t i = 0; i < v.len; i++) {
        unsigned char c = (unsigned char)v.ptr[i];

        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\')
            return false;
    }
    return true;
}

static void put_json(struct text *out, struct view v)
{
    if (!is_plain(v)) {
        text_json(out, v);
        return;
    }
    text_char(out, '"');
    text_put(out, v);
    text_char(out, '"');
}

/* For the combined format: what could end a field or a line is written as \xHH, as nginx and Apache do. */
static void put_escaped(struct text *out, struct view v)
{
    if (is_plain(v)) {
        text_put(out, v);
        return;
    }
    for (size_t i = 0; i < v.len; i++) {
        unsigned char c = (unsigned char)v.ptr[i];

        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\') {
            text_lit(out, "\\x");
            text_hex(out, c, 2);
        } else {
            text_char(out, (char)c);
        }
    }
}

static void put_2(struct text *out, unsigned value)
{
    text_char(out, (char)('0' + value / 10 % 10));
    text_char(out, (char)('0' + value % 10));
}

/* Year, month 1..12 and day of a day number since 1970 (years counted from March, so that leap days come last). */
static void date_of_day(int64_t day, unsigned *ret_year, unsigned *ret_month, unsigned *ret_day)
{
    int64_t shifted = day + 719468, era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    unsigned of_era = (unsigned)(shifted - era * 146097);
    unsigned year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned month = (5 * of_year + 2) / 153;

    *ret_day = of_year - (153 * month + 2) / 5 + 1;
    *ret_month = month < 10 ? month + 3 : month - 9;
    *ret_year = (unsigned)(year_of_era + era * 400 + (*ret_month <= 2));
}

static void put_time(struct text *out, int64_t time_ms, enum access_format format)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int64_t ms = MAX(time_ms, 0);
    unsigned of_day = (unsigned)(ms / 1000 % 86400), year, month, day;

    date_of_day(ms / 86400000, &year, &month, &day);
    if (format == ACCESS_COMBINED) {
        text_char(out, '[');
        put_2(out, day);
        text_char(out, '/');
        text_put(out, view_make(months + (month - 1) * 3, 3));
        text_char(out, '/');
        text_u64(out, year);
        text_char(out, ':');
    } else {
        text_u64(out, year);
        text_char(out, '-');
        put_2(out, month);
        text_char(out, '-');
        put_2(out, day);
        text_char(out, 'T');
    }
    put_2(out, of_day / 3600);
    text_char(out, ':');
    put_2(out, of_day / 60 % 60);
    text_char(out, ':');
    put_2(out, of_day % 60);
    if (format == ACCESS_COMBINED) {
        text_lit(out, " +0000]");
        return;
    }
    text_char(out, '.');
    text_char(out, (char)('0' + ms / 100 % 10));
    put_2(out, (unsigned)(ms % 100));
    text_char(out, 'Z');
}

static void mask_v6(struct text *out, struct view address)
{
    char copy[INET6_ADDRSTRLEN + 1], masked[INET6_ADDRSTRLEN];
    struct in6_addr bits;

    if (address.len >= sizeof(copy)) {
        text_char(out, '-');
        return;
    }
    memcpy(copy, address.ptr, address.len);
    copy[address.len] = '\0';
    if (inet_pton(AF_INET6, copy, &bits) != 1) {
        text_char(out, '-');
        return;
    }
    if (IN6_IS_ADDR_V4MAPPED(&bits)) {
        text_printf(out, "%u.%u.%u.0", bits.s6_addr[12], bits.s6_addr[13], bits.s6_addr[14]);
        return;
    }
    memset(bits.s6_addr + 6, 0, 10); /* /48 */
    text_put(out, view_str(inet_ntop(AF_INET6, &bits, masked, sizeof(masked))));
}

void access_log_mask(struct text *out, struct view address)
{
    size_t dots = 0, keep = 0;

    if (view_contains(address, ':')) {
        mask_v6(out, address);
        return;
    }
    for (size_t i = 0; i < address.len; i++) {
        if (address.ptr[i] == '.' && ++dots == 3)
            keep = i + 1;
        else if (address.ptr[i] != '.' && (address.ptr[i] < '0' || address.ptr[i] > '9'))
            dots = 4;
    }
    if (dots != 3 || address.len > sizeof("255.255.255.255") - 1) {
        text_char(out, '-');
        return;
    }
    text_put(out, view_first(address, keep));
    text_char(out, '0');
}

/* Without query, fragment and user information. */
static struct view referer_bare(struct view referer, struct view *ret_rest)
{
    size_t end = MIN(view_find(referer, '?'), view_find(referer, '#')), slashes = 0, scheme = 0;

    referer = view_first(referer, end);
    *ret_rest = VIEW_NONE;
    while (scheme < referer.len && slashes < 2)
        if (referer.ptr[scheme++] == '/')
            slashes++;
    if (slashes == 2) {
        struct view rest = view_skip(referer, scheme), authority = view_first(rest, view_find(rest, '/'));
        size_t at = authority.len;

        while (at > 0 && authority.ptr[at - 1] != '@')
            at--;
        if (at > 0) {
            *ret_rest = view_skip(rest, at);
            return view_first(referer, scheme);
        }
    }
    return referer;
}

/* Scratch for values that are put together before they are escaped. */
struct scratch {
    char bytes[2 * MAX_PATH + MAX_QUERY];
};

static struct view make_path(struct scratch *scratch, const struct access_log_options *options,
                             const struct access_record *record, unsigned shrink)
{
    struct text path = TEXT_ON(scratch->bytes);

    text_put(&path, view_first(record->path, MAX_PATH / shrink));
    if (record->query.ptr) {
        text_char(&path, '?');
        text_put(&path, options->query_values ? view_first(record->query, MAX_QUERY / shrink) : VIEW("*"));
    }
    return text_view(&path);
}

static struct view make_referer(struct scratch *scratch, struct view referer, unsigned shrink)
{
    struct text out = TEXT_ON(scratch->bytes);
    struct view rest, start = referer_bare(referer, &rest);

    text_put(&out, view_first(start, MAX_REFERER / shrink));
    text_put(&out, view_first(rest, MAX_REFERER / shrink));
    return view_first(text_view(&out), MAX_REFERER / shrink);
}

static struct view make_address(struct scratch *scratch, const struct access_log_options *options, struct view client)
{
    struct text out = TEXT_ON(scratch->bytes);

    if (options->addresses == ACCESS_ADDRESSES_NONE)
        return VIEW_NONE;
    if (options->addresses == ACCESS_ADDRESSES_FULL || client.len == 0)
        return view_first(client, INET6_ADDRSTRLEN);
    access_log_mask(&out, client);
    return text_view(&out);
}

static struct view make_cookies(struct scratch *scratch, struct view cookie, unsigned shrink)
{
    struct text out = TEXT_ON(scratch->bytes);
    struct view rest = cookie;

    while (rest.ptr) {
        struct view pair = view_trim(view_cut(&rest, ';')), name = view_first(pair, view_find(pair, '='));

        if (name.len == pair.len) /* no '=': by the browsers' rules all of it is the value */
            continue;
        if (out.len)
            text_char(&out, ' ');
        text_put(&out, view_first(name, MAX_NAME));
    }
    return view_first(text_view(&out), MAX_REFERER / shrink);
}

static void member(struct text *out, struct view name, struct view value)
{
    if (value.len == 0)
        return;
    text_char(out, ',');
    text_put(out, name);
    put_json(out, value);
}

static void number(struct text *out, struct view name, uint64_t value)
{
    text_char(out, ',');
    text_put(out, name);
    text_u64(out, value);
}

static void format_json(struct text *out, const struct access_log_options *options, const struct access_record *r,
                        unsigned shrink)
{
    not_zeroed struct scratch scratch;

    text_lit(out, "{\"time\":\"");
    put_time(out, r->time_ms, ACCESS_JSON);
    text_char(out, '"');
    member(out, VIEW("\"client\":"), make_address(&scratch, options, r->client));
    member(out, VIEW("\"method\":"), view_first(r->method, MAX_METHOD));
    member(out, VIEW("\"host\":"), view_first(r->host, MAX_HOST / shrink));
    member(out, VIEW("\"path\":"), make_path(&scratch, options, r, shrink));
    member(out, VIEW("\"protocol\":"), view_first(r->protocol, MAX_METHOD));
    number(out, VIEW("\"status\":"), r->status);
    number(out, VIEW("\"bytes_in\":"), r->bytes_in);
    number(out, VIEW("\"bytes_out\":"), r->bytes_out);
    number(out, VIEW("\"duration_us\":"), r->duration_us);
    member(out, VIEW("\"outcome\":"), view_first(r->outcome, MAX_METHOD));
    member(out, VIEW("\"why\":"), view_first(r->why, MAX_METHOD));
    member(out, VIEW("\"tier\":"), view_first(r->tier, MAX_METHOD));
    member(out, VIEW("\"route\":"), view_first(r->route, MAX_NAME / shrink));
    if (r->upstream.len) {
        member(out, VIEW("\"upstream\":"), view_first(r->upstream, MAX_NAME / shrink));
        number(out, VIEW("\"upstream_us\":"), r->upstream_us);
    }
    member(out, VIEW("\"request_id\":"), view_first(r->request_id, MAX_NAME / shrink));
    member(out, VIEW("\"user_agent\":"), view_first(r->user_agent, MAX_AGENT / shrink));
    member(out, VIEW("\"referer\":"), make_referer(&scratch, r->referer, shrink));
    if (options->cookie_names)
        member(out, VIEW("\"cookie_names\":"), make_cookies(&scratch, r->cookie, shrink));
    text_lit(out, "}\n");
}

static void dash_or(struct text *out, struct view value)
{
    if (value.len)
        put_escaped(out, value);
    else
        text_char(out, '-');
}

static void format_combined(struct text *out, const struct access_log_options *options, const struct access_record *r,
                            unsigned shrink)
{
    not_zeroed struct scratch scratch;

    dash_or(out, make_address(&scratch, options, r->client));
    text_lit(out, " - - ");
    put_time(out, r->time_ms, ACCESS_COMBINED);
    text_lit(out, " \"");
    dash_or(out, view_first(r->method, MAX_METHOD));
    text_char(out, ' ');
    dash_or(out, make_path(&scratch, options, r, shrink));
    text_char(out, ' ');
    dash_or(out, view_first(r->protocol, MAX_METHOD));
    text_lit(out, "\" ");
    text_u64(out, r->status);
    text_char(out, ' ');
    text_u64(out, r->bytes_out);
    text_lit(out, " \"");
    dash_or(out, make_referer(&scratch, r->referer, shrink));
    text_lit(out, "\" \"");
    dash_or(out, view_first(r->user_agent, MAX_AGENT / shrink));
    text_lit(out, "\"\n");
}

bool access_log_format(struct text *out, const struct access_log_options *options, const struct access_record *record)
{
    size_t room = MIN(out->cap - out->len, (size_t)ACCESS_LINE_MAX);
    struct text line = text_make(out->ptr + out->len, room);

    if (room < ACCESS_LINE_MAX)
        return false;
    for (unsigned shrink = 1; shrink <= 64; shrink *= 8) {
        line.len = 0;
        line.overflow = false;
        if (options->format == ACCESS_JSON)
            format_json(&line, options, record, shrink);
        else
            format_combined(&line, options, record, shrink);
        if (!line.overflow)
            break;
    }
    CHECK(!line.overflow);
    out->len += line.len;
    return true;
}
