/* Wiring of the tracer, and the options that describe it. */
#include "main/tracing.h"

#include "base/log.h"
#include "conf/conf.h"
#include "main/site_table.h"

#include <errno.h>
#include <time.h>

#define FIELDS_MAX 8192u
#define FLUSH_MS 1000

#ifndef DOORSTEP_VERSION
#define DOORSTEP_VERSION "0"
#endif

const struct option site_tracing_table[] = {
    { .name = "otlp",
      .type = OPTION_URL,
      .offset = MEMBER(site_tracing, otlp),
      .help =
          "The collector's OTLP/HTTP address, such as `http://127.0.0.1:4318`; `/v1/traces` is added. Without it nothing is "
          "traced." },
    { .name = "sample",
      .type = OPTION_RATIO,
      .offset = MEMBER(site_tracing, sample),
      .preset = "0.1",
      .help = "Share of the traces begun here that are recorded." },
    { .name = "follow",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_tracing, follow),
      .preset = "true",
      .help =
          "Whether a caller's `traceparent` decides for its own requests. Where anybody may call, `false` keeps the "
          "share." },
    { .name = "headers",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_tracing, headers),
      .flags = OPTION_ENV,
      .help = "Fields for the collector, each `Name: value`. " HELP_ENV },
    { .name = "interval",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_tracing, interval),
      .preset = "1s",
      .min = 10,
      .max = 60000,
      .help = "How often spans are sent." },
    { .name = "queue",
      .type = OPTION_SIZE,
      .offset = MEMBER(site_tracing, queue),
      .preset = "4M",
      .min = KIB(64),
      .max = MIB(256),
      .help = "Spans that may wait for the collector. What is more is dropped and counted." },
    { .name = "tls",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_tracing, tls),
      .table = site_tls_table,
      .help = "For an `https` collector." },
    { .name = NULL },
};

void site_tracing_check(const struct site_tracing *tracing, struct conf_report *report)
{
    size_t sum = 0;

    for (size_t i = 0; i < tracing->headers.count; i++) {
        struct view value = tracing->headers.items[i], name = view_cut(&value, ':');
        char path[64];
        bool good = name.len > 0 && value.ptr;

        for (size_t k = 0; k < name.len; k++)
            good = good && name.ptr[k] > ' ' && name.ptr[k] <= '~';
        for (size_t k = 0; k < value.len; k++)
            good = good && (unsigned char)value.ptr[k] >= ' ' && value.ptr[k] != 0x7f;
        sum += tracing->headers.items[i].len + 2;
        snprintf(path, sizeof(path), "tracing.headers[%zu]", i);
        if (!good)
            conf_complain(report, path, "a header is \"Name: value\", on one line");
    }
    if (sum > FIELDS_MAX)
        conf_complain(report, "tracing.headers", "more than %u bytes", FIELDS_MAX);
}

static void put_server(struct text *out, const struct option_url *url)
{
    bool six = view_find(url->host, ':') < url->host.len;

    text_put(out, url->tls ? VIEW("https://") : VIEW("http://"));
    text_put(out, six ? VIEW("[") : VIEW_NONE);
    text_put(out, url->host);
    text_put(out, six ? VIEW("]:") : VIEW(":"));
    text_u64(out, url->port);
}

static void put_path(struct text *out, struct view path)
{
    while (view_ends_with(path, VIEW("/")))
        path.len--;
    text_put(out, path);
    if (!view_ends_with(path, VIEW("/v1/traces")))
        text_lit(out, "/v1/traces");
}

static const char *file_or_null(struct view path)
{
    return path.len ? path.ptr : NULL;
}

int tracing_open(const struct site *site, unsigned loop_count, struct tracer **ret)
{
    const struct site_tracing *from = &site->tracing;
    char server_memory[512], path_memory[2048], fields_memory[FIELDS_MAX], reason_memory[256];
    struct text server = TEXT_ON(server_memory), path = TEXT_ON(path_memory), fields = TEXT_ON(fields_memory),
                reason = TEXT_ON(reason_memory);
    struct tracer_options options = {
        .tls = { .ca_file = file_or_null(from->tls.ca),
                 .cert_file = file_or_null(from->tls.certificate),
                 .key_file = file_or_null(from->tls.key),
                 .insecure = !from->tls.verify },
        .tls_name = file_or_null(from->tls.server_name),
        .service = { VIEW("doorstep"), VIEW(DOORSTEP_VERSION), site->node.name, site->node.region },
        .sample = from->sample,
        .follow = from->follow,
        .loops = loop_count,
        .queue_bytes = (size_t)from->queue,
        .interval_ms = (uint32_t)from->interval,
    };
    int r;

    for (size_t i = 0; i < from->headers.count; i++) {
        text_put(&fields, from->headers.items[i]);
        text_lit(&fields, "\r\n");
    }
    put_server(&server, &from->otlp);
    put_path(&path, from->otlp.path);
    options.server = from->otlp.text.len ? text_str(&server) : NULL;
    options.path = text_view(&path);
    options.fields = text_view(&fields);
    if (server.overflow || path.overflow || fields.overflow)
        r = -ENAMETOOLONG;
    else
        r = tracer_new(&options, ret, &reason);
    if (r < 0)
        log_error("tracing: %s", reason.len ? text_str(&reason) : strerror(-r));
    return r;
}

void tracing_flush(struct tracer *tracer)
{
    struct timespec pause = { .tv_nsec = 2000000 };

    for (int waited = 0; waited < FLUSH_MS && !tracer_is_idle(tracer); waited += 2) {
        tracer_flush(tracer);
        nanosleep(&pause, NULL);
    }
}
