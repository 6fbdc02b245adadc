/* HTTP-date: parser and formatter. Pure arithmetic on the proleptic Gregorian calendar; no locale, no time zone database.
 *
 * Invariant: date_parse() of what date_format() wrote gives the same second back, for years 0000 to 9999. */
#include "proto/date.h"

static const char DAYS[7][10] = { "Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday" };
static const char MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

struct civil {
    int64_t year;
    int month, day, hour, minute, second; /* month 1..12 */
};

/* Days since 1970-01-01. Years start in March here, so that the leap day comes last. */
static int64_t days_from_civil(int64_t year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void civil_from_days(int64_t days, struct civil *ret)
{
    int64_t shifted = days + 719468;
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t of_era = shifted - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153;

    ret->day = (int)(of_year - (153 * month + 2) / 5 + 1);
    ret->month = (int)(month < 10 ? month + 3 : month - 9);
    ret->year = year + era * 400 + (ret->month <= 2);
}

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int month_days(int64_t year, int month)
{
    static const int days[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

    return month == 2 && is_leap(year) ? 29 : days[month - 1];
}

/* Takes `count` digits from the front of *rest. */
static bool take_digits(struct view *rest, size_t count, int *ret)
{
    int value = 0;

    if (rest->len < count)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (rest->ptr[i] < '0' || rest->ptr[i] > '9')
            return false;
        value = value * 10 + (rest->ptr[i] - '0');
    }
    *rest = view_skip(*rest, count);
    *ret = value;
    return true;
}

static bool take(struct view *rest, struct view literal)
{
    if (!view_starts_with(*rest, literal))
        return false;
    *rest = view_skip(*rest, literal.len);
    return true;
}

static bool take_month(struct view *rest, int *ret)
{
    if (rest->len < 3)
        return false;
    for (int i = 0; i < 12; i++)
        if (memcmp(rest->ptr, MONTHS + (size_t)i * 3, 3) == 0) {
            *rest = view_skip(*rest, 3);
            *ret = i + 1;
            return true;
        }
    return false;
}

static bool take_time(struct view *rest, struct civil *when)
{
    return take_digits(rest, 2, &when->hour) && take(rest, VIEW(":")) && take_digits(rest, 2, &when->minute) &&
           take(rest, VIEW(":")) && take_digits(rest, 2, &when->second);
}

/* Seconds since 1970; false where a number is out of its range. Second 60 (a leap second) is the next minute's first. */
static bool civil_seconds(const struct civil *when, int64_t *ret)
{
    if (when->day < 1 || when->day > month_days(when->year, when->month) || when->hour > 23 || when->minute > 59 ||
        when->second > 60)
        return false;
    *ret = days_from_civil(when->year, when->month, when->day) * 86400 + when->hour * 3600 + when->minute * 60 +
           when->second;
    return true;
}

/* IMF-fixdate behind "Sun, ": 06 Nov 1994 08:49:37 GMT */
static bool parse_imf(struct view rest, int64_t *ret)
{
    struct civil when = { 0 };
    int year = 0;

    if (!take_digits(&rest, 2, &when.day) || !take(&rest, VIEW(" ")) || !take_month(&rest, &when.month) ||
        !take(&rest, VIEW(" ")) || !take_digits(&rest, 4, &year) || !take(&rest, VIEW(" ")) ||
        !take_time(&rest, &when) || !take(&rest, VIEW(" GMT")) || rest.len)
        return false;
    when.year = year;
    return civil_seconds(&when, ret);
}

/* RFC 850 behind "Sunday, ": 06-Nov-94 08:49:37 GMT */
static bool parse_rfc850(struct view rest, int64_t now_s, int64_t *ret)
{
    struct civil when = { 0 }, now = { 0 };
    int year = 0;

    if (!take_digits(&rest, 2, &when.day) || !take(&rest, VIEW("-")) || !take_month(&rest, &when.month) ||
        !take(&rest, VIEW("-")) || !take_digits(&rest, 2, &year) || !take(&rest, VIEW(" ")) ||
        !take_time(&rest, &when) || !take(&rest, VIEW(" GMT")) || rest.len)
        return false;
    civil_from_days(now_s / 86400, &now);
    when.year = now.year - now.year % 100 + year;
    if (when.year > now.year + 50)
        when.year -= 100;
    return civil_seconds(&when, ret);
}

/* asctime behind "Sun ": Nov  6 08:49:37 1994 */
static bool parse_asctime(struct view rest, int64_t *ret)
{
    struct civil when = { 0 };
    int year = 0;

    if (!take_month(&rest, &when.month) || !take(&rest, VIEW(" ")))
        return false;
    if (take(&rest, VIEW(" ")) ? !take_digits(&rest, 1, &when.day) : !take_digits(&rest, 2, &when.day))
        return false;
    if (!take(&rest, VIEW(" ")) || !take_time(&rest, &when) || !take(&rest, VIEW(" ")) ||
        !take_digits(&rest, 4, &year) || rest.len)
        return false;
    when.year = year;
    return civil_seconds(&when, ret);
}

bool date_parse(struct view text, int64_t now_s, int64_t *ret_seconds)
{
    if (text.len < 4)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(DAYS); i++) {
        struct view rest = view_skip(text, 3);

        if (memcmp(text.ptr, DAYS[i], 3) != 0)
            continue;
        if (take(&rest, VIEW(", ")))
            return parse_imf(rest, ret_seconds);
        if (take(&rest, VIEW(" ")))
            return parse_asctime(rest, ret_seconds);
        if (take(&rest, view_str(DAYS[i] + 3)) && take(&rest, VIEW(", ")))
            return parse_rfc850(rest, now_s, ret_seconds);
        return false;
    }
    return false;
}

static void put_digits(char *out, int count, int64_t value)
{
    for (int i = count - 1; i >= 0; i--, value /= 10)
        out[i] = (char)('0' + value % 10);
}

void date_format(int64_t seconds, char out[DATE_LEN])
{
    const int64_t first = -62167219200, last = 253402300799; /* 0000-01-01, 9999-12-31 */
    struct civil when = { 0 };
    int64_t days, of_day;

    seconds = MAX(first, MIN(last, seconds));
    days = (seconds >= 0 ? seconds : seconds - 86399) / 86400;
    of_day = seconds - days * 86400;
    civil_from_days(days, &when);
    memcpy(out, "Day, 00 Mon 0000 00:00:00 GMT", DATE_LEN);
    memcpy(out, DAYS[((days % 7) + 7) % 7], 3);
    put_digits(out + 5, 2, when.day);
    memcpy(out + 8, MONTHS + (size_t)(when.month - 1) * 3, 3);
    put_digits(out + 12, 4, when.year);
    put_digits(out + 17, 2, of_day / 3600);
    put_digits(out + 20, 2, of_day / 60 % 60);
    put_digits(out + 23, 2, of_day % 60);
}

void date_put(struct text *t, int64_t seconds)
{
    char out[DATE_LEN];

    date_format(seconds, out);
    text_put(t, view_make(out, DATE_LEN));
}
