#include "translate_fixture.h"

/* ---- running ---- */

/* One event whose data is `text` with " for '. */
static int feed(struct translate_stream *s, const char *text, struct buf *out)
{
    char *copy = unquote(text);
    struct sse_event event = { .data = view_str(copy), .comment = *text == '\0' };
    int r = translate_stream_event(s, &event, out);

    free(copy);
    return r;
}

static enum ai_endpoint other(enum ai_endpoint endpoint)
{
    return endpoint == AI_CHAT ? AI_MESSAGES : AI_CHAT;
}

/* Feeds all; returns what the end says. */
static int run(enum ai_endpoint from, const char *const *events, bool include_usage, struct buf *out)
{
    struct translate_stream *s = translate_stream_new(from, other(from), VIEW_NONE, 99, include_usage);
    int r;

    assert_non_null(s);
    for (; *events; events++)
        assert_int_equal(feed(s, *events, out), 0);
    r = translate_stream_end(s, out);
    translate_stream_free(s);
    return r;
}

/* The events of `out` must be these: "name|data", or ":" for a comment. */
static void assert_events(const struct buf *out, const char *const *expected)
{
    struct view input = buf_view(out);
    struct sse_event event;
    struct sse sse;

    sse_init(&sse, TEXT_MAX);
    while (sse_next(&sse, &input, &event) == 1) {
        struct view rest, name;

        assert_non_null(*expected);
        rest = view_str(*expected);
        name = view_cut(&rest, '|');
        if (event.comment || !rest.ptr || view_eq(event.data, VIEW("[DONE]"))) {
            assert_true(rest.ptr ? view_eq(rest, event.data) : event.comment);
        } else {
            if (!view_eq(name, event.name))
                print_message("got %.*s, expected %s\n", VIEW_ARG(event.name), *expected);
            assert_true(view_eq(name, event.name));
            assert_same(event.data, rest.ptr);
        }
        expected++;
    }
    assert_null(*expected);
    assert_false(sse_is_cut(&sse));
    sse_free(&sse);
}

#define CHUNK "|{'id':'chatcmpl-msg_1','object':'chat.completion.chunk','created':99,'model':'c','choices':"
#define DELTA(delta) CHUNK "[{'index':0,'delta':" delta ",'logprobs':null,'finish_reason':null}]}"

static const char *const messages_events[] = {
    "{'type':'message_start','message':{'id':'msg_1','type':'message','role':'assistant','model':'c','content':[],"
    "'stop_reason':null,'usage':{'input_tokens':5,'cache_read_input_tokens':3,'output_tokens':1}}}",
    "{'type':'ping'}",
    "{'type':'content_block_start','index':0,'content_block':{'type':'thinking','thinking':'','signature':''}}",
    "{'type':'content_block_delta','index':0,'delta':{'type':'thinking_delta','thinking':'hm'}}",
    "{'type':'content_block_delta','index':0,'delta':{'type':'signature_delta','signature':'sig'}}",
    "{'type':'content_block_stop','index':0}",
    "{'type':'content_block_start','index':1,'content_block':{'type':'text','text':''}}",
    "{'type':'content_block_delta','index':1,'delta':{'type':'text_delta','text':'a\\n\\ud83d\\ude00'}}",
    "",
    "{'type':'content_block_delta','index':1,'delta':{'type':'text_delta','text':'b'}}",
    "{'type':'content_block_stop','index':1}",
    "{'type':'content_block_start','index':2,'content_block':{'type':'tool_use','id':'toolu_1','name':'w','input':{}}}",
    "{'type':'content_block_delta','index':2,'delta':{'type':'input_json_delta','partial_json':''}}",
    "{'type':'content_block_delta','index':2,'delta':{'type':'input_json_delta','partial_json':'{\\\"a\\\":'}}",
    "{'type':'content_block_delta','index':2,'delta':{'type':'input_json_delta','partial_json':'1}'}}",
    "{'type':'content_block_stop','index':2}",
    "{'type':'content_block_start','index':3,'content_block':{'type':'tool_use','id':'toolu_2','name':'t','input':{}}}",
    "{'type':'content_block_stop','index':3}",
    "{'type':'unheard_of'}",
    "{'type':'message_delta','delta':{'stop_reason':'tool_use','stop_sequence':null},'usage':{'output_tokens':7}}",
    "{'type':'message_stop'}",
    NULL,
};
static const char messages_plain[] =
    "{'id':'msg_1','type':'message','role':'assistant','model':'c','content':[{'type':'thinking','thinking':'hm','signature':"
    "'sig'},{'type':'text','text':'a\\n\\ud83d\\ude00b'},{'type':'tool_use','id':'toolu_1','name':'w','input':{'a':1}},"
    "{'type':'tool_use','id':'toolu_2','name':'t','input':{}}],'stop_reason':'tool_use','stop_sequence':null,'usage':"
    "{'input_tokens':5,'cache_read_input_tokens':3,'output_tokens':7}}";

static const char *const chat_events[] = {
    "{'id':'chatcmpl-1','object':'chat.completion.chunk','created':1,'model':'g','choices':[{'index':0,'delta':{'role':"
    "'assistant','content':''},'finish_reason':null}],'usage':null}",
    "{'id':'chatcmpl-1','model':'g','choices':[{'index':0,'delta':{'reasoning_content':'hm'},'finish_reason':null}]}",
    "{'id':'chatcmpl-1','model':'g','choices':[{'index':0,'delta':{'content':'a\\n'},'finish_reason':null}]}",
    "",
    "{'id':'chatcmpl-1','model':'g','choices':[{'index':0,'delta':{'content':'b'},'finish_reason':null}]}",
    "{'id':'chatcmpl-1','model':'g','choices':[{'index':0,'delta':{'tool_calls':[{'index':0,'id':'call_1','type':'function',"
    "'function':{'name':'w','arguments':''}}]},'finish_reason':null}]}",
    "{'id':'chatcmpl-1','model':'g','choices':[{'index':0,'delta':{'tool_calls':[{'index':0,'function':{'arguments':"
    "'{\\\"a\\\":'}}]},'finish_reason':null}]}",
    "{'id':'chatcmpl-1','model':'g','choices':[{'index':0,'delta':{'tool_calls':[{'index':0,'function':{'arguments':"
    "'1}'}},{'index':1,'id':'call_2','type':'function','function':{'name':'t','arguments':'{}'}}]},'finish_reason':null}]}",
    "{'id':'chatcmpl-1','model':'g','choices':[{'index':0,'delta':{},'finish_reason':'tool_calls'}]}",
    "{'id':'chatcmpl-1','model':'g','choices':[],'usage':{'prompt_tokens':10,'completion_tokens':7,'total_tokens':17,"
    "'prompt_tokens_details':{'cached_tokens':4}}}",
    "[DONE]",
    NULL,
};
static const char chat_plain[] =
    "{'id':'chatcmpl-1','model':'g','choices':[{'index':0,'message':{'role':'assistant','content':'a\\nb','reasoning_content':"
    "'hm','tool_calls':[{'id':'call_1','type':'function','function':{'name':'w','arguments':'{\\\"a\\\":1}'}},{'id':'call_2',"
    "'type':'function','function':{'name':'t','arguments':'{}'}}]},'finish_reason':'tool_calls'}],'usage':{'prompt_tokens':10,"
    "'completion_tokens':7,'total_tokens':17,'prompt_tokens_details':{'cached_tokens':4}}}";

/* ---- event by event ---- */

static void test_to_chat(void **state)
{
    /* Proves that each event of messages becomes its chunk, with usage at the end for those who asked, and [DONE]. */
    static const char *const expected[] = {
        DELTA("{'role':'assistant','content':''}"),
        ":",
        DELTA("{'reasoning_content':'hm'}"),
        DELTA("{'content':'a\\n\\ud83d\\ude00'}"),
        ":",
        DELTA("{'content':'b'}"),
        DELTA("{'tool_calls':[{'index':0,'id':'toolu_1','type':'function','function':{'name':'w','arguments':''}}]}"),
        DELTA("{'tool_calls':[{'index':0,'function':{'arguments':'{\\\"a\\\":'}}]}"),
        DELTA("{'tool_calls':[{'index':0,'function':{'arguments':'1}'}}]}"),
        DELTA("{'tool_calls':[{'index':1,'id':'toolu_2','type':'function','function':{'name':'t','arguments':''}}]}"),
        DELTA("{'tool_calls':[{'index':1,'function':{'arguments':'{}'}}]}"),
        CHUNK "[{'index':0,'delta':{},'logprobs':null,'finish_reason':'tool_calls'}]}",
        CHUNK
        "[],'usage':{'prompt_tokens':8,'completion_tokens':7,'total_tokens':15,'prompt_tokens_details':{'cached_tokens':3}}}",
        "|[DONE]",
        NULL,
    };
    struct buf out = buf_make(TEXT_MAX);

    (void)state;
    assert_int_equal(run(AI_MESSAGES, messages_events, true, &out), 0);
    assert_events(&out, expected);
    out.len = 0;
    assert_int_equal(run(AI_MESSAGES, messages_events, false, &out), 0);
    assert_null(memmem(out.ptr, out.len, "\"usage\"", 7));
    buf_free(&out);
}

#define BLOCK(name, n, rest) "content_block_" name "|{'type':'content_block_" name "','index':" n rest "}"
#define NO_USAGE "{'input_tokens':0,'cache_creation_input_tokens':0,'cache_read_input_tokens':0,'output_tokens':0}"

static void test_to_messages(void **state)
{
    /* Proves that chunks become a message of blocks that open and close in order, with reason and usage in its last delta. */
    static const char *const expected[] = {
        "message_start|{'type':'message_start','message':{'id':'msg_chatcmpl-1','type':'message','role':'assistant','model':'g',"
        "'content':[],'stop_reason':null,'stop_sequence':null,'usage':" NO_USAGE "}}",
        BLOCK("start", "0", ",'content_block':{'type':'thinking','thinking':'','signature':''}"),
        BLOCK("delta", "0", ",'delta':{'type':'thinking_delta','thinking':'hm'}"),
        BLOCK("stop", "0", ""),
        BLOCK("start", "1", ",'content_block':{'type':'text','text':''}"),
        BLOCK("delta", "1", ",'delta':{'type':'text_delta','text':'a\\n'}"),
        "ping|{'type':'ping'}",
        BLOCK("delta", "1", ",'delta':{'type':'text_delta','text':'b'}"),
        BLOCK("stop", "1", ""),
        BLOCK("start", "2", ",'content_block':{'type':'tool_use','id':'call_1','name':'w','input':{}}"),
        BLOCK("delta", "2", ",'delta':{'type':'input_json_delta','partial_json':'{\\\"a\\\":'}"),
        BLOCK("delta", "2", ",'delta':{'type':'input_json_delta','partial_json':'1}'}"),
        BLOCK("stop", "2", ""),
        BLOCK("start", "3", ",'content_block':{'type':'tool_use','id':'call_2','name':'t','input':{}}"),
        BLOCK("delta", "3", ",'delta':{'type':'input_json_delta','partial_json':'{}'}"),
        BLOCK("stop", "3", ""),
        "message_delta|{'type':'message_delta','delta':{'stop_reason':'tool_use','stop_sequence':null},'usage':{'input_tokens':6,"
        "'cache_creation_input_tokens':0,'cache_read_input_tokens':4,'output_tokens':7}}",
        "message_stop|{'type':'message_stop'}",
        NULL,
    };
    struct buf out = buf_make(TEXT_MAX);

    (void)state;
    assert_int_equal(run(AI_CHAT, chat_events, true, &out), 0);
    assert_events(&out, expected);
    buf_free(&out);
}

static void test_format_to_chat(void **state)
{
    /* Proves that an answer in a format, which messages give as a call of our tool, is text to the client and no call. */
    static const char *const events[] = {
        "{'type':'message_start','message':{'id':'msg_1','model':'c'}}",
        "{'type':'content_block_start','index':0,'content_block':{'type':'tool_use','id':'t','name':'json_answer__p','input':{}}}",
        "{'type':'content_block_delta','index':0,'delta':{'type':'input_json_delta','partial_json':'{\\\"n\\\":'}}",
        "{'type':'content_block_delta','index':0,'delta':{'type':'input_json_delta','partial_json':'4}'}}",
        "{'type':'content_block_stop','index':0}",
        "{'type':'message_delta','delta':{'stop_reason':'tool_use'}}",
        "{'type':'message_stop'}",
        NULL,
    };
    static const char *const expected[] = {
        DELTA("{'role':'assistant','content':''}"),
        DELTA("{'content':'{\\\"n\\\":'}"),
        DELTA("{'content':'4}'}"),
        CHUNK "[{'index':0,'delta':{},'logprobs':null,'finish_reason':'stop'}]}",
        "|[DONE]",
        NULL,
    };
    struct buf out = buf_make(TEXT_MAX);

    (void)state;
    assert_int_equal(run(AI_MESSAGES, events, false, &out), 0);
    assert_events(&out, expected);
    buf_free(&out);
}

static void test_odd_servers(void **state)
{
    /* Proves that calls are told apart when a server gives no index, or always 0, and that a call without an id gets one. */
    static const char *const events[] = {
        "{'choices':[{'delta':{'tool_calls':[{'id':'a','function':{'name':'f','arguments':'{}'}}]}}]}",
        "{'choices':[{'index':0,'delta':{'tool_calls':[{'index':0,'id':'b','function':{'name':'g','arguments':'{}'}}]}}]}",
        "{'choices':[{'index':1,'delta':{'content':'of another choice'}}]}",
        "{'choices':[{'index':0,'delta':{'tool_calls':[{'index':5,'function':{'name':'h'}}]},'finish_reason':'stop'}]}",
        "[DONE]",
        NULL,
    };
    static const char *const expected[] = {
        "message_start|{'type':'message_start','message':{'id':'msg_','type':'message','role':'assistant','model':'','content':[],"
        "'stop_reason':null,'stop_sequence':null,'usage':" NO_USAGE "}}",
        BLOCK("start", "0", ",'content_block':{'type':'tool_use','id':'a','name':'f','input':{}}"),
        BLOCK("delta", "0", ",'delta':{'type':'input_json_delta','partial_json':'{}'}"),
        BLOCK("stop", "0", ""),
        BLOCK("start", "1", ",'content_block':{'type':'tool_use','id':'b','name':'g','input':{}}"),
        BLOCK("delta", "1", ",'delta':{'type':'input_json_delta','partial_json':'{}'}"),
        BLOCK("stop", "1", ""),
        BLOCK("start", "2", ",'content_block':{'type':'tool_use','id':'toolu_2','name':'h','input':{}}"),
        BLOCK("stop", "2", ""),
        "message_delta|{'type':'message_delta','delta':{'stop_reason':'tool_use','stop_sequence':null},'usage':" NO_USAGE
        "}",
        "message_stop|{'type':'message_stop'}",
        NULL,
    };
    struct buf out = buf_make(TEXT_MAX);

    (void)state;
    assert_int_equal(run(AI_CHAT, events, false, &out), 0);
    assert_events(&out, expected);
    buf_free(&out);
}

static void test_errors(void **state)
{
    /* Proves that an error inside a stream becomes the client's error event, is the last word, and shows no credential. */
    static const struct {
        enum ai_endpoint from;
        const char *data, *expected;
    } cases[] = {
        { AI_MESSAGES, "{'type':'error','error':{'type':'overloaded_error','message':'busy'}}",
          "|{'error':{'message':'busy','type':'overloaded_error','param':null,'code':null}}" },
        { AI_MESSAGES, "{'type':'error','error':{'type':'authentication_error','message':'SECRET'}}",
          "|{'error':{'message':'The provider refused the credentials of this gateway.','type':'authentication_error',"
          "'param':null,'code':null}}" },
        { AI_CHAT, "{'error':{'message':'slow','type':'rate_limit_error','code':429}}",
          "error|{'type':'error','error':{'type':'rate_limit_error','message':'slow'}}" },
        { AI_CHAT, "{'error':'broke'}", "error|{'type':'error','error':{'type':'api_error','message':'broke'}}" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *const events[] = { cases[i].data, "[DONE]", "{'type':'message_stop'}", NULL };
        const char *const expected[] = { cases[i].expected, NULL };
        struct buf out = buf_make(TEXT_MAX);

        assert_int_equal(run(cases[i].from, events, true, &out), 0);
        assert_events(&out, expected);
        buf_free(&out);
    }
}

/* ---- a stream and a plain answer ---- */

static void put_value(struct buf *out, const char *label, const struct json *doc, uint32_t object, struct view name)
{
    uint32_t i = object ? json_get(doc, object, name) : 0;

    buf_printf(out, "%s=", label);
    if (i && !json_decode(doc, i, out))
        buf_put(out, json_raw(doc, i));
    buf_char(out, '\n');
}

static uint32_t path(const struct json *doc, uint32_t i, const char *name)
{
    return json_get(doc, i, view_str(name));
}

/* What a completion says, as lines. */
static void digest_chat_plain(const struct json *doc, struct buf *out)
{
    uint32_t choice = json_first(doc, path(doc, 0, "choices")), message = path(doc, choice, "message");
    uint32_t calls = path(doc, message, "tool_calls"), usage = path(doc, 0, "usage");

    put_value(out, "thoughts", doc, message, VIEW("reasoning_content"));
    put_value(out, "text", doc, message, VIEW("content"));
    if (calls)
        for (uint32_t i = json_first(doc, calls); i < json_end(doc, calls); i = json_after(doc, i)) {
            put_value(out, "id", doc, i, VIEW("id"));
            put_value(out, "name", doc, path(doc, i, "function"), VIEW("name"));
            put_value(out, "arguments", doc, path(doc, i, "function"), VIEW("arguments"));
        }
    put_value(out, "stop", doc, choice, VIEW("finish_reason"));
    put_value(out, "in", doc, usage, VIEW("prompt_tokens"));
    put_value(out, "out", doc, usage, VIEW("completion_tokens"));
}

/* What the chunks of a completion say together. */
struct assembled {
    struct buf thoughts, text, arguments[4];
    char id[4][32], name[4][32], stop[32];
    uint32_t calls;
    uint64_t input, output;
};

static void copy_text(const struct json *doc, uint32_t i, char *to, size_t size)
{
    struct view v = i ? json_plain(doc, i) : VIEW_NONE;

    if (v.len) {
        assert_true(v.len < size);
        memcpy(to, v.ptr, v.len);
        to[v.len] = '\0';
    }
}

static void append(const struct json *doc, uint32_t object, const char *name, struct buf *to)
{
    uint32_t i = object ? path(doc, object, name) : 0;

    if (i)
        json_decode(doc, i, to);
}

static void take_chunk(struct assembled *a, const struct json *doc)
{
    uint32_t choices = path(doc, 0, "choices"), choice = json_first(doc, choices), delta, calls,
             usage = path(doc, 0, "usage");
    uint64_t n = 0;

    if (usage) {
        json_u64(doc, path(doc, usage, "prompt_tokens"), &a->input);
        json_u64(doc, path(doc, usage, "completion_tokens"), &a->output);
    }
    if (doc->tokens[choices].count == 0)
        return;
    delta = path(doc, choice, "delta");
    calls = path(doc, delta, "tool_calls");
    append(doc, delta, "reasoning_content", &a->thoughts);
    append(doc, delta, "content", &a->text);
    copy_text(doc, path(doc, choice, "finish_reason"), a->stop, sizeof(a->stop));
    if (!calls)
        return;
    assert_true(json_u64(doc, path(doc, json_first(doc, calls), "index"), &n) && n < 4);
    a->calls = MAX(a->calls, (uint32_t)n + 1);
    copy_text(doc, path(doc, json_first(doc, calls), "id"), a->id[n], sizeof(a->id[n]));
    copy_text(doc, path(doc, path(doc, json_first(doc, calls), "function"), "name"), a->name[n], sizeof(a->name[n]));
    append(doc, path(doc, json_first(doc, calls), "function"), "arguments", &a->arguments[n]);
}

/* The same for messages; calls are numbered here by their order. */
static void take_message_event(struct assembled *a, const struct json *doc)
{
    uint32_t block = path(doc, 0, "content_block"), delta = path(doc, 0, "delta"), usage = path(doc, 0, "usage");

    if (block && json_is(doc, path(doc, block, "type"), VIEW("tool_use"))) {
        copy_text(doc, path(doc, block, "id"), a->id[a->calls], sizeof(a->id[0]));
        copy_text(doc, path(doc, block, "name"), a->name[a->calls++], sizeof(a->name[0]));
    }
    append(doc, delta, "thinking", &a->thoughts);
    append(doc, delta, "text", &a->text);
    if (a->calls)
        append(doc, delta, "partial_json", &a->arguments[a->calls - 1]);
    if (delta && path(doc, delta, "stop_reason"))
        copy_text(doc, path(doc, delta, "stop_reason"), a->stop, sizeof(a->stop));
    if (usage) {
        json_u64(doc, path(doc, usage, "input_tokens"), &a->input);
        json_u64(doc, path(doc, usage, "output_tokens"), &a->output);
    }
}

static void digest_messages_plain(const struct json *doc, struct buf *out)
{
    uint32_t content = path(doc, 0, "content"), usage = path(doc, 0, "usage");

    for (uint32_t i = json_first(doc, content); i < json_end(doc, content); i = json_after(doc, i)) {
        if (json_is(doc, path(doc, i, "type"), VIEW("thinking")))
            put_value(out, "thoughts", doc, i, VIEW("thinking"));
        else if (json_is(doc, path(doc, i, "type"), VIEW("text")))
            put_value(out, "text", doc, i, VIEW("text"));
        else {
            put_value(out, "id", doc, i, VIEW("id"));
            put_value(out, "name", doc, i, VIEW("name"));
            put_value(out, "arguments", doc, i, VIEW("input"));
        }
    }
    buf_printf(out, "stop=");
    json_decode(doc, path(doc, 0, "stop_reason"), out);
    buf_char(out, '\n');
    put_value(out, "in", doc, usage, VIEW("input_tokens"));
    put_value(out, "out", doc, usage, VIEW("output_tokens"));
}

static void digest_assembled(const struct assembled *a, struct buf *out)
{
    buf_printf(out, "thoughts=%.*s\ntext=%.*s\n", VIEW_ARG(buf_view(&a->thoughts)), VIEW_ARG(buf_view(&a->text)));
    for (uint32_t i = 0; i < a->calls; i++)
        buf_printf(out, "id=%s\nname=%s\narguments=%.*s\n", a->id[i], a->name[i], VIEW_ARG(buf_view(&a->arguments[i])));
    buf_printf(out, "stop=%s\nin=%llu\nout=%llu\n", a->stop, (unsigned long long)a->input,
               (unsigned long long)a->output);
}

static void assemble(const struct buf *stream, enum ai_endpoint dialect, struct buf *out)
{
    struct assembled a = { .thoughts = buf_make(TEXT_MAX), .text = buf_make(TEXT_MAX) };
    struct view input = buf_view(stream);
    struct sse_event event;
    struct json doc = { 0 };
    struct sse sse;

    for (size_t i = 0; i < 4; i++)
        a.arguments[i] = buf_make(TEXT_MAX);
    sse_init(&sse, TEXT_MAX);
    while (sse_next(&sse, &input, &event) == 1) {
        if (event.comment || view_eq(event.data, VIEW("[DONE]")))
            continue;
        parse_view(&doc, event.data);
        if (dialect == AI_CHAT)
            take_chunk(&a, &doc);
        else
            take_message_event(&a, &doc);
    }
    digest_assembled(&a, out);
    sse_free(&sse);
    json_free(&doc);
    buf_free(&a.thoughts);
    buf_free(&a.text);
    for (size_t i = 0; i < 4; i++)
        buf_free(&a.arguments[i]);
}

static void test_stream_is_plain(void **state)
{
    /* Proves that a translated stream, assembled, says what the translated plain answer says. */
    static const struct {
        enum ai_endpoint from;
        const char *const *events;
        const char *plain;
    } cases[] = { { AI_MESSAGES, messages_events, messages_plain }, { AI_CHAT, chat_events, chat_plain } };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf stream = buf_make(TEXT_MAX), plain = buf_make(TEXT_MAX), a = buf_make(TEXT_MAX),
                   b = buf_make(TEXT_MAX);
        char *copy = unquote(cases[i].plain);
        struct json doc = { 0 };

        parse_view(&doc, view_str(copy));
        assert_int_equal(run(cases[i].from, cases[i].events, true, &stream), 0);
        assert_int_equal(translate_answer(cases[i].from, other(cases[i].from), &doc, VIEW_NONE, 99, &plain), 0);
        assemble(&stream, other(cases[i].from), &a);
        parse_view(&doc, buf_view(&plain));
        if (cases[i].from == AI_CHAT)
            digest_messages_plain(&doc, &b);
        else
            digest_chat_plain(&doc, &b);
        if (!view_eq(buf_view(&a), buf_view(&b)))
            print_message("stream:\n%.*s\nplain:\n%.*s\n", VIEW_ARG(buf_view(&a)), VIEW_ARG(buf_view(&b)));
        assert_true(view_eq(buf_view(&a), buf_view(&b)));
        json_free(&doc);
        free(copy);
        buf_free(&stream);
        buf_free(&plain);
        buf_free(&a);
        buf_free(&b);
    }
}

/* ---- bad input ---- */

static void test_cut_streams(void **state)
{
    /* Proves that a stream cut behind any event is known to be cut and gets no terminal event, until the provider has said why it stopped:
     * then one is there, whether the provider sent it or not. */
    static const struct {
        enum ai_endpoint from;
        const char *const *events;
        const char *reason, *terminal;
    } cases[] = { { AI_MESSAGES, messages_events, "'stop_reason':'tool_use'", "data: [DONE]\n\n" },
                  { AI_CHAT, chat_events, "'finish_reason':'tool_calls'", "data: {\"type\":\"message_stop\"}\n\n" } };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (size_t cut = 0; cases[i].events[cut]; cut++) {
            struct translate_stream *s = translate_stream_new(cases[i].from, other(cases[i].from), VIEW("x"), 1, true);
            struct view terminal = view_str(cases[i].terminal);
            struct buf out = buf_make(TEXT_MAX);
            bool whole = false;

            for (size_t k = 0; k < cut; k++) {
                assert_int_equal(feed(s, cases[i].events[k], &out), 0);
                whole |= strstr(cases[i].events[k], cases[i].reason) != NULL;
            }
            assert_int_equal(translate_stream_end(s, &out), whole ? 0 : -ENODATA);
            assert_true(whole == view_ends_with(buf_view(&out), terminal));
            assert_true(whole || !out.len || !memmem(out.ptr, out.len, terminal.ptr, terminal.len));
            translate_stream_free(s);
            buf_free(&out);
        }
}

static void test_broken_events(void **state)
{
    /* Proves that a broken event is refused and leaves nothing of itself in the client's stream. */
    static const struct {
        enum ai_endpoint from;
        const char *data;
    } cases[] = {
        { AI_MESSAGES, "{'type':'content_block_delta','index':0,'delta':" },
        { AI_MESSAGES, "7" },
        { AI_MESSAGES, "{}" },
        { AI_MESSAGES, "{'type':'content_block_start','index':256,'content_block':{'type':'text'}}" },
        { AI_MESSAGES, "{'type':'content_block_start','index':-1}" },
        { AI_MESSAGES, "{'type':'content_block_delta'}" },
        { AI_MESSAGES, "{'type':'content_block_start','index':0,'content_block':{'type':'tool_use'}}" },
        { AI_CHAT, "[DONE]" },
        { AI_CHAT, "{'choices':[{'delta':{'content':'half" },
        { AI_CHAT, "{'choices':[{'delta':{'tool_calls':[{'index':0,'function':{'arguments':'{}'}}]}}]}" },
        { AI_CHAT, "{'choices':[{'delta':{'content':'a','tool_calls':[{'index':'x','function':{'name':'a'}}]}}]}" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct translate_stream *s = translate_stream_new(cases[i].from, other(cases[i].from), VIEW("x"), 1, true);
        struct buf out = buf_make(TEXT_MAX);

        assert_int_equal(feed(s, cases[i].data, &out), -EBADMSG);
        assert_int_equal(out.len, 0);
        translate_stream_free(s);
        buf_free(&out);
    }
    assert_null(translate_stream_new(AI_CHAT, AI_CHAT, VIEW("x"), 1, true));
}

static void test_turns_of_calls(void **state)
{
    /* Proves that a piece of a call whose block is closed breaks the stream instead of getting lost. */
    struct translate_stream *s = translate_stream_new(AI_CHAT, AI_MESSAGES, VIEW("x"), 1, true);
    struct buf out = buf_make(TEXT_MAX);

    (void)state;
    assert_int_equal(
        feed(s,
             "{'choices':[{'delta':{'tool_calls':[{'index':0,'id':'a','function':{'name':'f','arguments':''}},"
             "{'index':1,'id':'b','function':{'name':'f','arguments':''}}]}}]}",
             &out),
        0);
    assert_int_equal(
        feed(s, "{'choices':[{'delta':{'tool_calls':[{'index':0,'function':{'arguments':'{}'}}]}}]}", &out), -EBADMSG);
    translate_stream_free(s);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_to_chat),        cmocka_unit_test(test_to_messages),
        cmocka_unit_test(test_format_to_chat), cmocka_unit_test(test_odd_servers),
        cmocka_unit_test(test_errors),         cmocka_unit_test(test_stream_is_plain),
        cmocka_unit_test(test_cut_streams),    cmocka_unit_test(test_broken_events),
        cmocka_unit_test(test_turns_of_calls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
