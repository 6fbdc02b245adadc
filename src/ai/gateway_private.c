/* Personal data in a prompt: who may still see it, or what goes out in its place. What cannot be looked at counts as found, and what
 * cannot be redacted is refused. */
#include "ai/gateway_internal.h"

#include "ai/pii.h"

#include <errno.h>

static unsigned find(const struct service_call *q, unsigned kinds)
{
    if (kinds == 0 || (!q->parsed && q->in.body.len == 0))
        return 0;
    return q->parsed ? pii_scan_json(&q->doc, kinds) : kinds;
}

/* Nobody looks into these. */
static bool has_media(const struct service_call *q)
{
    return q->parsed && (q->facts.has_images || q->facts.has_audio || q->facts.has_files);
}

static int redact(struct service_call *q, unsigned kinds, bool media)
{
    struct pii_map map;
    int r;

    if (!q->parsed || (media && has_media(q)))
        return ask_bar(q, 403, "private", VIEW("personal data cannot be taken out of a request of this kind"),
                       "private");
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
    unsigned wanted = 0, found, redacted = 0;
    bool media = false; /* to be redacted, too */

    for (unsigned i = 0; i < q->private_count; i++)
        wanted |= q->privates[i]->kinds;
    found = find(q, wanted);
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
    return redacted ? redact(q, redacted, media) : 0;
}
