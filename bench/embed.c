/* How long a model takes to load, and a text to become a vector.
 *
 *   embed                      a synthetic static model of 30,000 tokens and 256 dimensions, in single and in half precision
 *   embed DIR                  a static model
 *   embed DIR LIBRARY          DIR/model.onnx with this ONNX Runtime */
#include "ai/embed.h"
#include "base/buf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define TOKENS 30000u
#define DIMS 256u

static const char *const texts[] = {
    "What is the capital of France?",
    "Please summarise the following paragraph in three short sentences for a reader who has not seen the report, and list the open "
    "questions at the end. The quarterly figures were published on Tuesday; revenue rose by 4.2 % to 1,203 million, while costs "
    "for energy and transport fell.",
};
static uint64_t state = 88172645463325252u;

static uint32_t uniform(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % below;
}

static double now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static bool write_file(const char *dir, const char *name, struct view bytes)
{
    char path[256];
    FILE *file;
    bool ok;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    file = fopen(path, "w");
    ok = file && fwrite(bytes.ptr, 1, bytes.len, file) == bytes.len;
    return file && fclose(file) == 0 && ok;
}

/* Common words and letters, then made-up pieces, as many as a real vocabulary has. */
static bool write_tokenizer(const char *dir)
{
    static const char *const words[] = { "[UNK]",   "[CLS]",  "[SEP]",     "what",      "is",     "the",
                                         "capital", "of",     "france",    "please",    "in",     "three",
                                         "short",   "for",    "who",       "has",       "not",    "and",
                                         "list",    "open",   "end",       "on",        "by",     "to",
                                         "while",   "report", "questions", "sentences", "figures" };
    struct buf out = buf_make(4 << 20);
    bool ok;

    buf_lit(&out, "{\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true},\"pre_tokenizer\":{\"type\":"
                  "\"BertPreTokenizer\"},\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
                  "\"continuing_subword_prefix\":\"##\",\"vocab\":{");
    for (uint32_t id = 0; id < TOKENS; id++) {
        if (id < ARRAY_LEN(words))
            buf_printf(&out, "%s\"%s\":%" PRIu32, id ? "," : "", words[id], id);
        else if (id < ARRAY_LEN(words) + 26)
            buf_printf(&out, ",\"##%c\":%" PRIu32, (char)('a' + id - ARRAY_LEN(words)), id);
        else if (id < ARRAY_LEN(words) + 52)
            buf_printf(&out, ",\"%c\":%" PRIu32, (char)('a' + id - ARRAY_LEN(words) - 26), id);
        else
            buf_printf(&out, ",\"%s%c%c%c%" PRIx32 "\":%" PRIu32, uniform(3) ? "" : "##", (char)('a' + uniform(26)),
                       (char)('a' + uniform(26)), (char)('a' + uniform(26)), id, id);
    }
    buf_lit(&out, "}}}");
    ok = !out.failed && write_file(dir, "tokenizer.json", buf_view(&out));
    buf_free(&out);
    return ok;
}

static bool write_model(const char *dir, bool half)
{
    uint32_t size = half ? 2 : 4;
    struct buf out = buf_make(64 << 20), header = buf_make(256);
    bool ok;

    buf_printf(&header, "{\"embeddings\":{\"dtype\":\"%s\",\"shape\":[%u,%u],\"data_offsets\":[0,%u]}}",
               half ? "F16" : "F32", TOKENS, DIMS, TOKENS * DIMS * size);
    while (header.len % 8)
        buf_char(&header, ' ');
    for (unsigned i = 0; i < 8; i++)
        buf_char(&out, (char)((uint64_t)header.len >> (8 * i) & 255));
    buf_put(&out, buf_view(&header));
    for (uint32_t i = 0; i < TOKENS * DIMS; i++) {
        float value = (float)uniform(2000) / 1000.0f - 1;
        uint16_t bits = (uint16_t)(uniform(2) << 15 | (0x3000 + uniform(0x0c00)));

        buf_put(&out, half ? view_make((const char *)&bits, 2) : view_make((const char *)&value, 4));
    }
    ok = !out.failed && write_file(dir, "model.safetensors", buf_view(&out));
    buf_free(&out);
    buf_free(&header);
    return ok;
}

static int measure(const char *dir, const char *library, const char *name)
{
    char memory[512];
    struct text reason = TEXT_ON(memory);
    float out[EMBED_DIMS_MAX];
    struct embed *e;
    double start = now_us();
    int r = library ? embed_onnx_open(dir, library, 1, &e, &reason) : embed_static_open(dir, &e, &reason);

    if (r < 0) {
        fprintf(stderr, "%s\n", text_str(&reason));
        return 1;
    }
    printf("%s: %u dimensions, loaded in %.1f ms, %zu KiB of heap, id %s\n", name, embed_dims(e),
           (now_us() - start) / 1e3, embed_bytes(e) / 1024, embed_id(e));
    for (unsigned i = 0; i < ARRAY_LEN(texts); i++) {
        unsigned rounds = library ? 50 : 20000;

        r = embed_text(e, view_str(texts[i]), out);
        start = now_us();
        for (unsigned k = 0; k < rounds; k++)
            r |= embed_text(e, view_str(texts[i]), out);
        printf("  %3zu bytes: %8.2f us a text%s\n", strlen(texts[i]), (now_us() - start) / rounds,
               r ? " (failed)" : "");
    }
    embed_free(e);
    return 0;
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/doorstep-bench-embed-XXXXXX", path[256];
    int failed = 0;

    if (argc > 1)
        return measure(argv[1], argc > 2 ? argv[2] : NULL, argv[1]);
    if (!mkdtemp(dir))
        return 1;
    failed |= !write_tokenizer(dir) || !write_model(dir, false) || measure(dir, NULL, "synthetic, single");
    failed |= !write_model(dir, true) || measure(dir, NULL, "synthetic, half");
    snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    unlink(path);
    snprintf(path, sizeof(path), "%s/tokenizer.json", dir);
    unlink(path);
    rmdir(dir);
    return failed;
}
