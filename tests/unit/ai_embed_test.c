/* Embedding models: a folder with a tiny model gives the vectors it should, in every form such a model comes in; broken folders are refused with a
 * reason; jobs come back to their loop. The part about ONNX needs the runtime: DOORSTEP_TEST_ONNXRUNTIME names its library. */
#include "ai/embed.h"

#include "ai/embed_internal.h"
#include "base/buf.h"
#include "base/heap.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define DIMS 8
#define TOKENIZER \
    "{\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true},\"pre_tokenizer\":{\"type\":\
\"BertPreTokenizer\"},\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"vocab\":{\
\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"red\":3,\"blue\":4,\"##ish\":5}}}"

static char dir[] = "/tmp/doorstep-embed-XXXXXX";
static char why[1024];
static struct text reason;

static const char *path_of(const char *name)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, struct view bytes)
{
    FILE *file = fopen(path_of(name), "w");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes.ptr, 1, bytes.len, file), bytes.len);
    assert_int_equal(fclose(file), 0);
}

static void remove_files(void)
{
    static const char *const names[] = { "model.safetensors",     "tokenizer.json", "vocab.txt",       "model.onnx",
                                         "1_Pooling/config.json", "1_Pooling",      "onnx/model.onnx", "onnx" };

    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        remove(path_of(names[i]));
}

static int setup(void **unused)
{
    (void)unused;
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **unused)
{
    (void)unused;
    remove_files();
    return rmdir(dir);
}

/* A safetensors file: this header, these data. */
static void write_tensors(struct view header, const void *data, size_t len)
{
    struct buf file = buf_make(1 << 20);

    for (unsigned i = 0; i < 8; i++)
        buf_char(&file, (char)((uint64_t)header.len >> (8 * i) & 255));
    buf_put(&file, header);
    buf_put(&file, view_make(data, len));
    write_file("model.safetensors", buf_view(&file));
    buf_free(&file);
}

/* Row i has 1 at i and 0.5 at i + 1. */
static void write_plain_model(void)
{
    float rows[6][DIMS] = { { 0 } };

    for (unsigned i = 0; i < 6; i++) {
        rows[i][i] = 1;
        rows[i][i + 1] = 0.5f;
    }
    remove_files();
    write_file("tokenizer.json", VIEW(TOKENIZER));
    write_tensors(VIEW("{\"embeddings\":{\"dtype\":\"F32\",\"shape\":[6,8],\"data_offsets\":[0,192]}}"), rows,
                  sizeof(rows));
}

static struct embed *open_static(void)
{
    struct embed *e = NULL;

    reason = TEXT_ON(why);
    if (embed_static_open(dir, &e, &reason) < 0)
        fail_msg("%s", text_str(&reason));
    assert_int_equal(embed_dims(e), DIMS);
    return e;
}

static void expect_parts(const struct embed *e, struct view text, const float wanted[DIMS])
{
    float out[DIMS], square = 0;

    for (unsigned i = 0; i < DIMS; i++)
        square += wanted[i] * wanted[i];
    assert_int_equal(embed_text(e, text, out), 0);
    for (unsigned i = 0; i < DIMS; i++)
        assert_float_equal(out[i], wanted[i] / sqrtf(square), 1e-5f);
}

/* The mean of the tokens' rows, brought to length 1; unknown words do not count. */
static void test_static(void **unused)
{
    struct embed *e;
    float out[DIMS];

    (void)unused;
    write_plain_model();
    e = open_static();
    expect_parts(e, VIEW("Red"), (float[DIMS]){ [3] = 1, [4] = 0.5f });
    expect_parts(e, VIEW("red, blueish!"), (float[DIMS]){ [3] = 1, [4] = 1.5f, [5] = 1.5f, [6] = 0.5f });
    assert_int_equal(embed_text(e, VIEW("green"), out), -ENODATA);
    assert_int_equal(embed_text(e, VIEW(""), out), -ENODATA);
    assert_int_equal(strlen(embed_id(e)), EMBED_ID_LEN);
    assert_false(embed_blocks(e));
    assert_true(embed_bytes(e) > 0);
    embed_free(e);
    embed_free(NULL);
}

/* Fewer rows than tokens with a mapping, a weight for each token, half precision: the newer form. */
static void test_mapping_and_weights(void **unused)
{
    struct __attribute__((packed)) {
        uint16_t rows[2][DIMS];
        int64_t mapping[6];
        double weights[6];
    } data = { { { 0x3c00 }, { 0, 0x3c00 } }, { 0, 0, 0, 0, 1, 1 }, { 0, 0, 0, 3, 4, 0 } };
    struct embed *e;
    float out[DIMS];

    (void)unused;
    write_plain_model();
    write_tensors(VIEW("{\"embeddings\":{\"dtype\":\"F16\",\"shape\":[2,8],\"data_offsets\":[0,32]},"
                       "\"mapping\":{\"dtype\":\"I64\",\"shape\":[6],\"data_offsets\":[32,80]},"
                       "\"weights\":{\"dtype\":\"F64\",\"shape\":[6],\"data_offsets\":[80,128]}}"),
                  &data, sizeof(data));
    e = open_static();
    expect_parts(e, VIEW("red blue"), (float[DIMS]){ 3, 4 });
    assert_int_equal(embed_text(e, VIEW("[UNK]"), out), -ENODATA);
    embed_free(e);
}

/* The identity follows the content of every file, and nothing else. */
static void test_identity(void **unused)
{
    static char first[EMBED_ID_LEN + 1];
    float rows[6][DIMS] = { { 1 }, [3] = { [2] = 1 } };
    struct embed *e;

    (void)unused;
    write_plain_model();
    e = open_static();
    memcpy(first, embed_id(e), sizeof(first));
    embed_free(e);
    write_plain_model();
    e = open_static();
    assert_string_equal(embed_id(e), first);
    embed_free(e);
    write_file("tokenizer.json", VIEW(TOKENIZER " "));
    e = open_static();
    assert_string_not_equal(embed_id(e), first);
    embed_free(e);
    write_plain_model();
    write_tensors(VIEW("{\"embeddings\":{\"dtype\":\"F32\",\"shape\":[6,8],\"data_offsets\":[0,192]}}"), rows,
                  sizeof(rows));
    e = open_static();
    assert_string_not_equal(embed_id(e), first);
    embed_free(e);
    remove(path_of("tokenizer.json"));
    write_file("vocab.txt", VIEW("[UNK]\n[CLS]\n[SEP]\nred\nblue\n##ish\n"));
    e = open_static();
    expect_parts(e, VIEW("red"), (float[DIMS]){ [2] = 1 });
    embed_free(e);
}

static void expect_refusal(int error, const char *in_reason)
{
    struct embed *e = NULL;

    reason = TEXT_ON(why);
    assert_int_equal(embed_static_open(dir, &e, &reason), error);
    assert_null(e);
    if (!strstr(text_str(&reason), in_reason))
        fail_msg("\"%s\" is not in \"%s\"", in_reason, text_str(&reason));
}

/* Folders in which something is missing or wrong. */
static void test_refusals(void **unused)
{
    float rows[6][DIMS] = { { 1 } };

    (void)unused;
    remove_files();
    expect_refusal(-ENOENT, "model.safetensors: no such file");
    write_plain_model();
    remove(path_of("tokenizer.json"));
    expect_refusal(-ENOENT, "no tokenizer.json");
    write_file("tokenizer.json", VIEW("{}"));
    expect_refusal(-ENOTSUP, "tokenizer.json: ");
    write_file("tokenizer.json", VIEW(""));
    expect_refusal(-EINVAL, "tokenizer.json: ");
    write_plain_model();
    write_file("model.safetensors", VIEW(""));
    expect_refusal(-EINVAL, "header");
    write_tensors(VIEW("{\"x\":{}}"), NULL, 0);
    expect_refusal(-ENOTSUP, "static");
    write_tensors(VIEW("{\"embeddings\":{\"dtype\":\"F32\",\"shape\":[5,8],\"data_offsets\":[0,160]}}"), rows, 160);
    expect_refusal(-EINVAL, "fewer vectors");
    write_tensors(VIEW("{\"embeddings\":{\"dtype\":\"F32\",\"shape\":[12,4],\"data_offsets\":[0,192]}}"), rows, 192);
    expect_refusal(-ENOTSUP, "dimensions");
    write_tensors(VIEW("{\"embeddings\":{\"dtype\":\"F32\",\"shape\":[1,8],\"data_offsets\":[0,32]},"
                       "\"mapping\":{\"dtype\":\"I32\",\"shape\":[6],\"data_offsets\":[32,56]}}"),
                  (int32_t[14]){ [13] = 1 }, 56);
    expect_refusal(-EINVAL, "mapping");
    write_tensors(VIEW("{\"embeddings\":{\"dtype\":\"F32\",\"shape\":[6,8],\"data_offsets\":[0,192]},"
                       "\"weights\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[0,20]}}"),
                  rows, 192);
    expect_refusal(-EINVAL, "weights");
    remove_files();
    mkdir(path_of("model.safetensors"), 0700);
    expect_refusal(-EISDIR, "model.safetensors: ");
    rmdir(path_of("model.safetensors"));
}

/* ---- jobs ---- */

static struct loop *loop;
static struct workers *workers;
static struct task starter, waiter;
static struct embed_job *job;
static const struct embed *model;
static pthread_t ran_on;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static unsigned woken;

/* A model that blocks: it waits for the gate, then fills in the length of the text. */
static int run_slowly(const struct embed *e, struct view text, float *out)
{
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    ran_on = pthread_self();
    if (text.len == 0)
        return -ENODATA;
    for (unsigned i = 0; i < e->dims; i++)
        out[i] = i == text.len ? 2 : 0;
    return 0;
}

static void on_woken(struct task *task)
{
    (void)task;
    woken++;
    loop_stop(loop);
}

static void start_one(struct task *task)
{
    char text[] = "abc";

    (void)task;
    job = embed_start(model, workers, loop, &waiter, view_str(text));
    assert_non_null(job);
    memset(text, 0, sizeof(text)); /* the job has its copy */
    assert_int_equal(woken, 0);
    if (embed_blocks(model)) {
        float out[DIMS];

        assert_int_equal(embed_done(job, out), -EAGAIN);
    }
    pthread_mutex_unlock(&gate);
}

static void start_and_drop(struct task *task)
{
    (void)task;
    embed_drop(embed_start(model, workers, loop, &waiter, VIEW("abc")));
    pthread_mutex_unlock(&gate);
    job = embed_start(model, workers, loop, &waiter, VIEW(""));
    assert_non_null(job);
}

static void run_loop(const struct embed *e, void (*start)(struct task *))
{
    model = e;
    woken = 0;
    job = NULL;
    pthread_mutex_lock(&gate);
    assert_int_equal(loop_new(&loop, 0), 0);
    assert_int_equal(workers_new(&workers, 1), 0);
    task_init(&starter, loop, start);
    task_init(&waiter, loop, on_woken);
    task_wake(&starter);
    loop_run(loop);
    workers_free(workers);
}

/* A model that blocks runs on a worker, and its job wakes the task when it is done. */
static void test_job_on_worker(void **unused)
{
    struct embed slow = { .dims = DIMS, .blocks = true, .run = run_slowly };
    float out[DIMS];

    (void)unused;
    run_loop(&slow, start_one);
    assert_int_equal(woken, 1);
    assert_false(pthread_equal(ran_on, pthread_self()));
    assert_int_equal(embed_done(job, out), 0);
    assert_int_equal(embed_done(job, out), 0);
    assert_float_equal(out[3], 1, 1e-6f);
    embed_drop(job);
    embed_drop(NULL);
    loop_free(loop);
}

/* A dropped job ends by itself and wakes nobody; errors come back as they are. */
static void test_job_dropped(void **unused)
{
    struct embed slow = { .dims = DIMS, .blocks = true, .run = run_slowly };
    float out[DIMS];

    (void)unused;
    run_loop(&slow, start_and_drop);
    assert_int_equal(woken, 1);
    assert_int_equal(embed_done(job, out), -ENODATA);
    embed_drop(job);
    loop_free(loop);
}

/* A static model is done in place, but its task is woken all the same. */
static void test_job_in_place(void **unused)
{
    struct embed *e;
    float out[DIMS];

    (void)unused;
    write_plain_model();
    e = open_static();
    run_loop(e, start_one);
    assert_int_equal(woken, 1);
    assert_int_equal(embed_done(job, out), -ENODATA);
    embed_drop(job);
    embed_free(e);
    loop_free(loop);
}

/* ---- ONNX ---- */

static void put_varint(struct buf *to, uint64_t value)
{
    for (; value > 127; value >>= 7)
        buf_char(to, (char)(value | 128));
    buf_char(to, (char)value);
}

static void put_number(struct buf *to, unsigned field, uint64_t value)
{
    put_varint(to, field << 3);
    put_varint(to, value);
}

static void put_bytes(struct buf *to, unsigned field, struct view bytes)
{
    put_varint(to, field << 3 | 2);
    put_varint(to, bytes.len);
    buf_put(to, bytes);
}

/* Moves what is in `inner` into `to`. */
static void put_message(struct buf *to, unsigned field, struct buf *inner)
{
    put_bytes(to, field, buf_view(inner));
    buf_free(inner);
}

/* ValueInfoProto of a tensor [1][n] or [1][n][DIMS]. */
static void put_value(struct buf *to, unsigned field, struct view name, unsigned type, bool wide)
{
    struct buf dim = buf_make(999), shape = buf_make(999), tensor = buf_make(999), value = buf_make(999),
               info = buf_make(999);

    put_number(&dim, 1, 1);
    put_message(&shape, 1, &dim);
    put_bytes(&dim, 2, VIEW("n"));
    put_message(&shape, 1, &dim);
    if (wide) {
        put_number(&dim, 1, DIMS);
        put_message(&shape, 1, &dim);
    }
    put_number(&tensor, 1, type);
    put_message(&tensor, 2, &shape);
    put_message(&value, 1, &tensor);
    put_bytes(&info, 1, name);
    put_message(&info, 2, &value);
    put_message(to, field, &info);
}

/* A model of one node: last_hidden_state = Gather(rows, input_ids). */
static void write_onnx_model(const char *name, struct view input)
{
    struct buf node = buf_make(999), rows = buf_make(9999), graph = buf_make(9999), opset = buf_make(99),
               file = buf_make(9999);
    float values[6][DIMS] = { { 0 } };

    for (unsigned i = 0; i < 6; i++)
        values[i][i] = 1;
    put_bytes(&node, 1, VIEW("rows"));
    put_bytes(&node, 1, input);
    put_bytes(&node, 2, VIEW("last_hidden_state"));
    put_bytes(&node, 4, VIEW("Gather"));
    put_message(&graph, 1, &node);
    put_bytes(&graph, 2, VIEW("g"));
    put_number(&rows, 1, 6);
    put_number(&rows, 1, DIMS);
    put_number(&rows, 2, 1);
    put_bytes(&rows, 8, VIEW("rows"));
    put_bytes(&rows, 9, view_make((const char *)values, sizeof(values)));
    put_message(&graph, 5, &rows);
    put_value(&graph, 11, input, 7, false);
    put_value(&graph, 12, VIEW("last_hidden_state"), 1, true);
    put_number(&file, 1, 8);
    put_message(&file, 7, &graph);
    put_number(&opset, 2, 13);
    put_message(&file, 8, &opset);
    assert_false(file.failed);
    write_file(name, buf_view(&file));
    buf_free(&file);
}

static int open_onnx(const char *library, struct embed **ret)
{
    reason = TEXT_ON(why);
    return embed_onnx_open(dir, library, 1, ret, &reason);
}

/* Without the runtime, or with another library in its place, the model is refused in words. */
static void test_no_runtime(void **unused)
{
    struct embed *e = NULL;

    (void)unused;
    write_plain_model();
    assert_int_equal(open_onnx("/nonexistent/libonnxruntime.so", &e), -ENOENT);
    assert_non_null(strstr(text_str(&reason), "model.onnx"));
    write_onnx_model("model.onnx", VIEW("input_ids"));
    assert_int_equal(open_onnx("/nonexistent/libonnxruntime.so", &e), -ENOTSUP);
    assert_non_null(strstr(text_str(&reason), "cannot be opened"));
    assert_int_equal(open_onnx("libm.so.6", &e), -ENOTSUP);
    assert_non_null(strstr(text_str(&reason), "no ONNX Runtime"));
    assert_null(e);
}

/* With it: [CLS], the tokens and [SEP] go in, the mean of their states (or the first) comes out; what does not fit is refused. */
static void test_onnx(void **unused)
{
    const char *library = getenv("DOORSTEP_TEST_ONNXRUNTIME");
    struct embed *e = NULL;
    float out[DIMS];

    (void)unused;
    if (!library)
        skip();
    write_plain_model();
    mkdir(path_of("onnx"), 0700);
    write_onnx_model("onnx/model.onnx", VIEW("input_ids"));
    if (open_onnx(library, &e) < 0)
        fail_msg("%s", text_str(&reason));
    assert_int_equal(embed_dims(e), DIMS);
    assert_true(embed_blocks(e));
    expect_parts(e, VIEW("red blueish"), (float[DIMS]){ [1] = 1, [2] = 1, [3] = 1, [4] = 1, [5] = 1 });
    assert_int_equal(embed_text(e, VIEW("   "), out), -ENODATA);
    run_loop(e, start_one);
    assert_int_equal(embed_done(job, out), 0);
    embed_drop(job);
    loop_free(loop);
    embed_free(e);
    mkdir(path_of("1_Pooling"), 0700);
    write_file("1_Pooling/config.json", VIEW("{\"pooling_mode_cls_token\":true}"));
    assert_int_equal(open_onnx(library, &e), 0);
    expect_parts(e, VIEW("red blueish"), (float[DIMS]){ [1] = 1 });
    embed_free(e);
    e = NULL;
    write_onnx_model("model.onnx", VIEW("pixels"));
    assert_int_equal(open_onnx(library, &e), -ENOTSUP);
    assert_non_null(strstr(text_str(&reason), "pixels"));
    write_file("model.onnx", VIEW("no protobuf"));
    assert_int_equal(open_onnx(library, &e), -EINVAL);
    assert_non_null(strstr(text_str(&reason), "onnxruntime: "));
    assert_null(e);
}

/* Whichever allocation fails, opening says so, and no file stays mapped or memory lost. */
static void test_out_of_memory(void **unused)
{
    struct embed *e = NULL;
    bool done = false;
    unsigned long nth;

    (void)unused;
    write_plain_model();
    for (nth = 1; !done; nth++) {
        int r;

        reason = TEXT_ON(why);
        heap_fault(nth, 0);
        r = embed_static_open(dir, &e, &reason);
        done = heap_fault_left() > 0;
        heap_fault(0, 0);
        assert_int_equal(r, done ? 0 : -ENOMEM);
    }
    assert_true(nth > 5);
    embed_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_static),        cmocka_unit_test(test_mapping_and_weights),
        cmocka_unit_test(test_identity),      cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_job_on_worker), cmocka_unit_test(test_job_dropped),
        cmocka_unit_test(test_job_in_place),  cmocka_unit_test(test_no_runtime),
        cmocka_unit_test(test_onnx),          cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
