/* Any two texts (cut at the first 0x01) as prompts: a canonical form is readable and its own canonical form, never longer than a small multiple of
 * the prompt; the guards are symmetric and let a readable text agree with itself; answers agree with themselves and symmetrically. */
#include "ai/canonical.h"
#include "ai/guards.h"
#include "ai/semantic.h"
#include "base/check.h"

static volatile unsigned sink;

static void canonical(struct view text)
{
    struct buf once = buf_make(1 << 20), twice = buf_make(1 << 20);

    if (ai_canonical(text, &once) == 0) {
        CHECK(once.len > 0 && once.len <= 2 * text.len + 16);
        for (size_t i = 0; i < once.len; i++)
            sink += (unsigned char)once.ptr[i];
        CHECK(ai_canonical(buf_view(&once), &twice) == 0);
        CHECK(view_eq(buf_view(&once), buf_view(&twice)));
    } else {
        CHECK(once.len == 0);
    }
    buf_free(&once);
    buf_free(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view b = view_make((const char *)data, MIN(size, (size_t)8192)), a = view_cut(&b, '\x01');
    enum guard failed = GUARD_NONE, back = GUARD_NONE;
    bool agree = ai_guards_agree(a, b, &failed);

    canonical(a);
    canonical(b);
    CHECK(agree == ai_guards_agree(b, a, &back) && agree == (failed == GUARD_NONE));
    CHECK(failed == back);
    CHECK(ai_guards_agree(a, a, NULL) == (a.len > 0 && a.len <= GUARD_TEXT_MAX));
    CHECK(semantic_agree(a, b) == semantic_agree(b, a));
    CHECK(semantic_agree(a, a));
    return 0;
}
