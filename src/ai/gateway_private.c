/* Personal data in a prompt: who may still see it, or what goes out in its place. What cannot be looked at counts as found, and what
 * cannot be redacted is refused. */
#include "ai/gateway_internal.h"

#include "ai/pii.h"
#include "proto/uri.h"

#include <errno.h>

/* The part of the URL that a provider would see, decoded: what is escaped there is read there. */
static unsigned find_in_url(struct service_call *q, unsigned kinds)
{
    const struct view parts[] = { q->path, q->request.query };
    unsigned found = 0;

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        struct buf decoded = buf_make(parts[i].len + 1);
        struct view rest = parts[i];

        while (rest.len) {
            int escaped = rest.ptr[0] == '%' ? uri_escaped(rest, 0) : -1;
            char byte = escaped < 0 ? rest.ptr[0] : (char)escaped;

            buf_char(&decoded, byte == '+' && i == 1 ? ' ' : byte);
            rest = view_skip(rest, escaped < 0 ? 1 : 3);
        }
        found |= decoded.failed ? kinds : pii_kinds(buf_view(&decoded), kinds) | pii_kinds(parts[i], kinds);
        buf_free(&decoded);
    }
    return found;
}

/* What nobody here can read counts as found. */
static unsigned find(struct service_call *q, unsigned kinds)
{
    if (kinds == 0)
        return 0;
    if (q->parsed ? q->facts.has_numbers : q->in.body.len > 0)
        return kinds;
    return q->parsed ? pii_scan_json(&q->doc, kinds) : 0;
}

/* Nobody looks into these. */
static bool has_media(const struct service_call *q)
{
    return q->parsed && (q->facts.has_images || q->facts.has_audio || q->facts.has_files);
}

static int refuse_unreadable(struct service_call *q)
{
    return ask_bar(q, 403, "private", VIEW("personal data cannot be taken out of a request of this kind"), "private");
}

static int redact(struct service_call *q, unsigned kinds, bool media)
{
    struct pii_map map;
    int r;

    if (!q->parsed || q->facts.has_numbers || (media && has_media(q)))
        return refuse_unreadable(q);
    pii_map_init(&map);
    q->redacted = buf_make(AI_BODY_MAX);
    r = pii_redact_json(&q->doc, kinds, &map, &q->redacted);
    pii_map_free(&map);
    if (r < 0)
        return ask_bar(q, 503, "unavailable", VIEW("out of memory"), NULL);
    return ask_read_body(q, buf_view(&q->redacted));
}

int ask_private(struct service_call *q)
{
    unsigned wanted = 0, found, in_url, redacted = 0;
    bool media = false; /* to be redacted, too */

    for (unsigned i = 0; i < q->private_count; i++)
        wanted |= q->privates[i]->kinds;
    in_url = wanted ? find_in_url(q, wanted) : 0;
    found = find(q, wanted) | in_url;
    for (unsigned i = 0; i < q->private_count; i++) {
        const struct ai_private *private = q->privates[i];

        if (!(found & private->kinds) && !(private->media && has_media(q)))
            continue;
        switch (private->act) {
        case AI_PRIVATE_ALLOW: break;
        case AI_PRIVATE_PIN: q->pins[q->pin_count++] = private; break;
        case AI_PRIVATE_REDACT:
            redacted |= private->kinds;
            media = media || private->media;
            break;
        case AI_PRIVATE_REFUSE:
            return ask_bar(q, 403, "private", VIEW("prompts with personal data are not allowed here"), "private");
        }
    }
    if (redacted & in_url)
        return refuse_unreadable(q);
    return redacted ? redact(q, redacted, media) : 0;
}
