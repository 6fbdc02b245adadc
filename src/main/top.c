/* The live view: asks /top, shows the difference to the last answer as rates. Plain ANSI; fits 80x24 and uses more when there
 * is more. Without a terminal on standard output one frame is printed, as with --once. */
#include "main/top.h"

#include "base/heap.h"
#include "main/client.h"
#include "main/top_internal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static const char help[] =
    "usage: doorstep top [options]\n"
    "\n"
    "Live view of a running node: requests per second, hit ratio by reason, memory, top URLs by misses and by bytes,\n"
    "upstream health, and what AI requests cost and save. q or Ctrl-C leaves.\n"
    "\n"
    "  --once              print one view of the next second and leave\n";

#define SCREEN_MAX ((size_t)65536)
#define REASONS_MAX 64u

static volatile sig_atomic_t interrupted;
static struct termios saved_terminal;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

/* ---- drawing ---- */

void top_row(struct screen *screen, const char *format, ...)
{
    char line[TOP_WIDTH_MAX * 4 + 1];
    va_list args;
    int len;

    if (screen->used == screen->rows)
        return;
    va_start(args, format);
    len = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    len = MIN(MIN(MAX(len, 0), (int)sizeof(line) - 1), screen->columns);
    while (len > 0 && line[len - 1] == ' ')
        len--;
    text_put(&screen->out, view_make(line, (size_t)len));
    text_put(&screen->out, screen->ansi ? VIEW("\x1b[K") : VIEW_NONE);
    screen->used++;
    /* A line end after the last row would scroll. */
    if (!screen->ansi || screen->used < screen->rows)
        text_lit(&screen->out, "\n");
}

/* 1234567 -> "1.23M" */
const char *top_short(double value, char memory[16])
{
    const char *units = " kMGTP";

    while (value >= 1000 && units[1]) {
        value /= 1000;
        units++;
    }
    if (*units == ' ')
        snprintf(memory, 16, value < 10 && value != (double)(int)value ? "%.1f" : "%.0f", value);
    else
        snprintf(memory, 16, value < 10 ? "%.2f%c" : value < 100 ? "%.1f%c" : "%.0f%c", value, *units);
    return memory;
}

/* 536870912 -> "512M": sizes are configured in powers of two. */
static const char *short_size(double value, char memory[16])
{
    const char *units = " KMGTP";

    while (value >= 1024 && units[1]) {
        value /= 1024;
        units++;
    }
    snprintf(memory, 16, value < 10 && *units != ' ' ? "%.1f%c" : "%.0f%c", value, *units);
    return memory;
}

static const char *short_time(double us, char memory[16])
{
    if (us <= 0)
        snprintf(memory, 16, "-");
    else if (us > 6e7)
        snprintf(memory, 16, ">50 s");
    else if (us < 1000)
        snprintf(memory, 16, "%.0f us", us);
    else if (us < 1e6)
        snprintf(memory, 16, "%.0f ms", us / 1000);
    else
        snprintf(memory, 16, "%.0f s", us / 1e6);
    return memory;
}

/* ---- two samples ---- */

double top_rate(const struct samples *s, const char *path)
{
    return MAX(flat_number(&s->now, path) - flat_number(&s->before, path), 0.0) / s->seconds;
}

static const char *const outcomes[] = { "hit", "stale", "revalidated", "collapsed", "miss", "bypass", "error" };
/* Seven of them and their numbers fit in 80 columns. */
static const char *const short_outcomes[] = { "hit", "stale", "reval", "coll", "miss", "bypass", "error" };
/* Answered from what was stored, or from a fetch that another request had started. */
#define STORED_OUTCOMES 4

static double sum_outcomes(const struct samples *s, const char *prefix, size_t count)
{
    double sum = 0;
    char path[64];

    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof(path), "%s.%s", prefix, outcomes[i]);
        sum += top_rate(s, path);
    }
    return sum;
}

static bool says(const struct samples *s, const char *path, const char *value)
{
    const char *found = flat_string(&s->now, path);

    return found && strcmp(found, value) == 0;
}

/* A line for each rung below memory that this node has. */
static void draw_tiers(struct screen *screen, const struct samples *s)
{
    char a[16], b[16], c[16], d[16];

    if (says(s, "disk.on", "false"))
        top_row(screen, "disk   OFF: %s", flat_string(&s->now, "disk.trouble"));
    else if (flat_string(&s->now, "disk.on"))
        top_row(screen, "disk   %s of %s   objects %s   hits %s/s", short_size(flat_number(&s->now, "disk.bytes"), a),
                short_size(flat_number(&s->now, "disk.limit"), b), top_short(flat_number(&s->now, "disk.objects"), c),
                top_short(top_rate(s, "disk.hits"), d));
    if (flat_string(&s->now, "shared.on"))
        top_row(screen, "shared %s   hits %s/s   writes %s/s   dropped %s/s",
                says(s, "shared.on", "true") ? "connected" : "AWAY", top_short(top_rate(s, "shared.hits"), a),
                top_short(top_rate(s, "shared.writes"), b), top_short(top_rate(s, "shared.dropped"), c));
    if (flat_string(&s->now, "purges.bus_connected"))
        top_row(screen, "bus    %s   nodes %.0f   purges waiting %.0f",
                says(s, "purges.bus_caught_up", "true")   ? "caught up"
                : says(s, "purges.bus_connected", "true") ? "CATCHING UP"
                                                          : "AWAY",
                flat_number(&s->now, "purges.bus_nodes"), flat_number(&s->now, "purges.bus_queued"));
}

static void draw_summary(struct screen *screen, const struct samples *s)
{
    double requests = sum_outcomes(s, "requests", ARRAY_LEN(outcomes)),
           bytes = sum_outcomes(s, "bytes_out", ARRAY_LEN(outcomes));
    double hits = sum_outcomes(s, "requests", STORED_OUTCOMES),
           hit_bytes = sum_outcomes(s, "bytes_out", STORED_OUTCOMES);
    double limit = flat_number(&s->now, "memory.limit"), used = flat_number(&s->now, "memory.bytes");
    double up = flat_number(&s->now, "uptime_s");
    const char *node = flat_string(&s->now, "node");
    char a[16], b[16], c[16], d[16], bar[21];
    size_t filled = limit > 0 ? (size_t)(used / limit * 20) : 0;

    memset(bar, '.', 20);
    memset(bar, '#', MIN(filled, (size_t)20));
    bar[20] = '\0';
    top_row(
        screen, "node %s   up %.0fd %02.0f:%02.0f:%02.0f   connections %.0f   fetches in flight %.0f%s",
        node ? node : "", (double)(long)(up / 86400), (double)((long)(up / 3600) % 24), (double)((long)(up / 60) % 60),
        (double)((long)up % 60), flat_number(&s->now, "connections"), flat_number(&s->now, "fills"),
        strcmp(flat_string(&s->now, "draining") ? flat_string(&s->now, "draining") : "", "true") ? "" : "   DRAINING");
    top_row(screen, "requests %s/s   hits %.1f%%   out %sB/s   byte hits %.1f%%", top_short(requests, a),
            requests > 0 ? 100 * hits / requests : 0, top_short(bytes, b), bytes > 0 ? 100 * hit_bytes / bytes : 0);
    top_row(screen, "latency since start   hit: half %s, 99%% %s   miss: half %s, 99%% %s",
            short_time(flat_number(&s->now, "latency_us.hit_p50"), a),
            short_time(flat_number(&s->now, "latency_us.hit_p99"), b),
            short_time(flat_number(&s->now, "latency_us.miss_p50"), c),
            short_time(flat_number(&s->now, "latency_us.miss_p99"), d));
    top_row(screen, "memory [%s] %s of %s   objects %s   evictions %s/s", bar, short_size(used, a),
            short_size(limit, b), top_short(flat_number(&s->now, "memory.objects"), c),
            top_short(top_rate(s, "memory.evictions"), d));
    draw_tiers(screen, s);
    top_row(screen, "%s", "");
}

static void draw_outcomes(struct screen *screen, const struct samples *s)
{
    char line[256], path[64], number[16];
    struct text out = TEXT_ON(line);

    for (size_t i = 0; i < ARRAY_LEN(outcomes); i++) {
        snprintf(path, sizeof(path), "requests.%s", outcomes[i]);
        text_printf(&out, "%s%s %s", i ? " " : "", short_outcomes[i], top_short(top_rate(s, path), number));
    }
    top_row(screen, "per second  %s", text_str(&out));
}

struct reason {
    const char *name;
    double rate, total;
};

static int by_rate(const void *a, const void *b)
{
    const struct reason *x = a, *y = b;

    if (x->rate != y->rate)
        return x->rate < y->rate ? 1 : -1;
    return x->total < y->total ? 1 : -(x->total > y->total);
}

/* The reasons with the highest rates; where nothing moves, the totals. */
static void draw_reasons(struct screen *screen, const struct samples *s, const char *title, const char *prefix)
{
    struct reason reasons[REASONS_MAX];
    size_t count = 0, prefix_len = strlen(prefix);
    char line[TOP_WIDTH_MAX], number[16];
    struct text out = TEXT_ON(line);

    for (unsigned i = 0; i < s->now.count && count < REASONS_MAX; i++) {
        const struct flat_item *item = &s->now.items[i];

        if (strncmp(item->path, prefix, prefix_len) == 0 && item->path[prefix_len] == '.')
            reasons[count++] =
                (struct reason){ item->path + prefix_len + 1, top_rate(s, item->path), strtod(item->value, NULL) };
    }
    qsort(reasons, count, sizeof(reasons[0]), by_rate);
    for (size_t i = 0; i < count; i++) {
        char one[96], total[16];
        int len = snprintf(one, sizeof(one), "%s%s %s/s (%s)", i ? "  " : "", reasons[i].name,
                           top_short(reasons[i].rate, number), top_short(reasons[i].total, total));

        if (len < 0 || 12 + out.len + (size_t)len > (size_t)screen->columns)
            break;
        text_put(&out, view_first(view_str(one), (size_t)len));
    }
    top_row(screen, "%-10s  %s", title, count ? text_str(&out) : "-");
}

static void put_url(struct text *out, const struct flat *flat, const char *list, int i, int width)
{
    char path[64], number[16];
    const char *url;
    int room = width - 8;

    snprintf(path, sizeof(path), "%s.%d.url", list, i);
    url = flat_string(flat, path);
    if (!url) {
        text_printf(out, "%*s", width, "");
        return;
    }
    snprintf(path, sizeof(path), "%s.%d.weight", list, i);
    /* The end of a URL tells more than its beginning. */
    if ((int)strlen(url) > room)
        text_printf(out, "%6s  ..%-*s", top_short(flat_number(flat, path), number), room - 2,
                    url + strlen(url) - (size_t)room + 2);
    else
        text_printf(out, "%6s  %-*s", top_short(flat_number(flat, path), number), room, url);
}

static void draw_urls(struct screen *screen, const struct samples *s, int rows)
{
    int width = (screen->columns - 2) / 2;
    char path[64];

    top_row(screen, "%s", "");
    top_row(screen, "%-*s  %s", width, "MISSES BY URL (recent)", "BYTES BY URL (recent)");
    for (int i = 0; i < rows; i++) {
        char line[TOP_WIDTH_MAX * 2];
        struct text out = TEXT_ON(line);

        snprintf(path, sizeof(path), "top_misses.%d.url", i);
        if (!screen->ansi && !flat_string(&s->now, path)) {
            snprintf(path, sizeof(path), "top_bytes.%d.url", i);
            if (!flat_string(&s->now, path))
                break;
        }
        put_url(&out, &s->now, "top_misses", i, width);
        text_lit(&out, "  ");
        put_url(&out, &s->now, "top_bytes", i, width);
        top_row(screen, "%s", text_str(&out));
    }
}

static const char *upstream_string(const struct samples *s, int upstream, int server, const char *member)
{
    char path[96];
    const char *text;

    snprintf(path, sizeof(path), "upstreams.%d.breakers.%d.%s", upstream, server, member);
    text = flat_string(&s->now, path);
    return text ? text : "";
}

/* Servers that do not get their full share. */
static void draw_breakers(struct screen *screen, const struct samples *s, int upstream)
{
    for (int i = 0; i < 32; i++) {
        const char *server = upstream_string(s, upstream, i, "server"),
                   *state = upstream_string(s, upstream, i, "state"),
                   *forced = upstream_string(s, upstream, i, "forced");
        bool healthy = strcmp(upstream_string(s, upstream, i, "healthy"), "false") != 0;

        if (!*server)
            break;
        if (healthy && strcmp(state, "closed") == 0 && strcmp(forced, "auto") == 0)
            continue;
        top_row(screen, "  %-28.28s %s%s%s   failures in a row %s   tried again in %s s", server, state,
                strcmp(forced, "auto") == 0 ? "" : " by hand", healthy ? "" : ", checks fail",
                upstream_string(s, upstream, i, "consecutive_failures"), upstream_string(s, upstream, i, "open_for_s"));
    }
}

static void draw_upstreams(struct screen *screen, const struct samples *s)
{
    static const char *const numbers[] = { "exchanges", "failures", "active", "idle", "waiting", "retries" };
    char path[96], value[ARRAY_LEN(numbers)][16];

    top_row(screen, "%s", "");
    top_row(screen, "%-22s %8s %8s %7s %7s %7s %8s", "UPSTREAM", "req/s", "failed", "active", "idle", "waiting",
            "retries");
    for (int i = 0; i < 64; i++) {
        const char *name;

        snprintf(path, sizeof(path), "upstreams.%d.name", i);
        name = flat_string(&s->now, path);
        if (!name)
            break;
        for (size_t k = 0; k < ARRAY_LEN(numbers); k++) {
            snprintf(path, sizeof(path), "upstreams.%d.%s", i, numbers[k]);
            top_short(k == 0 ? top_rate(s, path) : flat_number(&s->now, path), value[k]);
        }
        top_row(screen, "%-22.22s %8s %8s %7s %7s %7s %8s", name, value[0], value[1], value[2], value[3], value[4],
                value[5]);
        draw_breakers(screen, s, i);
    }
}

/* ---- all of it ---- */

static int draw(const struct samples *s, bool ansi)
{
    static char memory[SCREEN_MAX];
    struct winsize size;
    struct screen screen = { .out = TEXT_ON(memory), .rows = 24, .columns = 80, .ansi = ansi };
    struct view rest;

    if (ansi && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0) {
        screen.rows = size.ws_row;
        screen.columns = MIN(size.ws_col, TOP_WIDTH_MAX);
    }
    if (!ansi)
        screen.rows = 1000;
    text_put(&screen.out, ansi ? VIEW("\x1b[H") : VIEW_NONE);
    draw_summary(&screen, s);
    draw_outcomes(&screen, s);
    draw_reasons(&screen, s, "why", "why");
    draw_reasons(&screen, s, "not stored", "not_stored");
    top_draw_ai(&screen, s);
    draw_urls(&screen, s, ansi ? MAX(screen.rows - 16 - top_ai_rows(s), 2) : 10);
    draw_upstreams(&screen, s);
    text_put(&screen.out, ansi ? VIEW("\x1b[J") : VIEW_NONE);
    rest = text_view(&screen.out);
    while (rest.len) {
        ssize_t wrote = write(STDOUT_FILENO, rest.ptr, rest.len);

        if (wrote < 0 && errno != EINTR)
            return -1;
        rest = view_skip(rest, wrote > 0 ? (size_t)wrote : 0);
    }
    return 0;
}

/* ---- the loop ---- */

static int take_sample(const struct client *client, struct flat *ret)
{
    struct client_reply reply;
    int r = client_ask_ok(client, "GET", VIEW("/top"), &reply);

    if (r < 0)
        return -1;
    r = flat_parse(reply.body, ret);
    client_reply_free(&reply);
    if (r == 0)
        return 0;
    flat_free(ret);
    return client_stranger(client);
}

/* A second, or less when q is pressed. */
static void wait_second(bool keyboard)
{
    struct pollfd key = { .fd = STDIN_FILENO, .events = POLLIN };
    char c;

    if (poll(&key, keyboard ? 1 : 0, 1000) == 1 && read(STDIN_FILENO, &c, 1) == 1 && (c == 'q' || c == 'Q'))
        interrupted = 1;
}

static void enter_screen(bool keyboard)
{
    struct termios raw;
    struct sigaction action = { .sa_handler = on_signal };

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (keyboard && tcgetattr(STDIN_FILENO, &saved_terminal) == 0) {
        raw = saved_terminal;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    fputs("\x1b[?1049h\x1b[?25l\x1b[2J", stdout);
    fflush(stdout);
}

static void leave_screen(bool keyboard)
{
    fputs("\x1b[?25h\x1b[?1049l", stdout);
    fflush(stdout);
    if (keyboard)
        tcsetattr(STDIN_FILENO, TCSANOW, &saved_terminal);
}

static int show(const struct client *client, bool once)
{
    bool keyboard = !once && isatty(STDIN_FILENO);
    struct samples s = { 0 };
    int r = take_sample(client, &s.before);

    if (r < 0)
        return 1;
    if (!once)
        enter_screen(keyboard);
    while (r == 0 && !interrupted) {
        wait_second(keyboard);
        if (interrupted)
            break;
        r = take_sample(client, &s.now);
        if (r < 0 && !once) {
            /* What was said vanished with the second screen: ask again on the first one, where it stays. */
            leave_screen(keyboard);
            r = take_sample(client, &s.now);
            enter_screen(keyboard);
        }
        if (r < 0)
            break;
        s.seconds = MAX((flat_number(&s.now, "mono_ms") - flat_number(&s.before, "mono_ms")) / 1000, 0.001);
        r = draw(&s, !once);
        flat_free(&s.before);
        s.before = s.now;
        s.now = (struct flat){ 0 };
        if (once)
            break;
    }
    if (!once)
        leave_screen(keyboard);
    flat_free(&s.before);
    return r < 0 ? 1 : 0;
}

static int print_json(const struct client *client)
{
    struct client_reply reply;
    bool node;

    if (client_ask_ok(client, "GET", VIEW("/top"), &reply) < 0)
        return 1;
    node = view_starts_with(reply.body, VIEW("{\"node\":"));
    if (node)
        fwrite(reply.body.ptr, 1, reply.body.len, stdout);
    else
        client_stranger(client);
    client_reply_free(&reply);
    return node ? 0 : 1;
}

int command_top(int argc, char **argv)
{
    struct client client;
    bool once = !isatty(STDOUT_FILENO);
    const struct client_word once_word = { "--once", NULL, &once };
    int r;

    client_init(&client, "top");
    r = client_read(&client, argc, argv, help, &once_word, 1, NULL, 0);
    if (r != 0)
        return r < 0 ? 2 : 0;
    return client.json ? print_json(&client) : show(&client, once);
}
