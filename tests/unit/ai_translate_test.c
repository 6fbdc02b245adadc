#include "translate_fixture.h"

#include "base/heap.h"

#include <stdio.h>

/* Translates `text` (' for ") for model "m", 1000 tokens by default. */
static int request(enum ai_endpoint from, const char *text, struct buf *out, struct text *reason)
{
    struct json doc = { 0 };
    char *copy = unquote(text);
    int r;

    parse_view(&doc, view_str(copy));
    r = translate_request(from, from == AI_CHAT ? AI_MESSAGES : AI_CHAT, &doc, VIEW("m"), 1000, out, reason);
    json_free(&doc);
    free(copy);
    return r;
}

struct pair {
    const char *in, *out;
};

static void check_requests(enum ai_endpoint from, const struct pair *pairs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct buf out = buf_make(TEXT_MAX);
        char memory[256];
        struct text reason = TEXT_ON(memory);
        int r = request(from, pairs[i].in, &out, &reason);

        if (r != 0)
            print_message("%s: %.*s\n", pairs[i].in, VIEW_ARG(text_view(&reason)));
        assert_int_equal(r, 0);
        assert_same(buf_view(&out), pairs[i].out);
        buf_free(&out);
    }
}

#define ASK "'messages':[{'role':'user','content':'hi'}]"
#define ASKED "'model':'m','max_tokens':1000,'messages':[{'role':'user','content':[{'type':'text','text':'hi'}]}]"

static void test_chat_messages(void **state)
{
    /* Proves that conversations of chat become turns of messages: systems gathered, roles merged, calls and results as blocks. */
    static const struct pair pairs[] = {
        { "{" ASK "}", "{" ASKED "}" },
        { "{'messages':[{'role':'system','content':'be brief'},{'role':'user','content':'a'},{'role':'developer','content':"
          "[{'type':'text','text':'x'},{'type':'text','text':'y\\n'}]},{'role':'user','content':'b'}]}",
          "{'model':'m','max_tokens':1000,'system':'be brief\\n\\nx\\n\\ny\\n','messages':[{'role':'user','content':["
          "{'type':'text','text':'a'},{'type':'text','text':'b'}]}]}" },
        { "{'messages':[{'role':'user','content':'weather?'},{'role':'assistant','content':null,'tool_calls':["
          "{'id':'call_1','type':'function','function':{'name':'w','arguments':'{\\\"city\\\": \\\"Graz\\\"}'}},"
          "{'id':'functions.t:0','type':'function','function':{'name':'t','arguments':''}}]},"
          "{'role':'tool','tool_call_id':'call_1','content':'rain'},"
          "{'role':'tool','tool_call_id':'functions.t:0','content':[{'type':'text','text':'noon'}]},"
          "{'role':'user','content':'so?'}]}",
          "{'model':'m','max_tokens':1000,'messages':[{'role':'user','content':[{'type':'text','text':'weather?'}]},"
          "{'role':'assistant','content':[{'type':'tool_use','id':'call_1','name':'w','input':{'city':'Graz'}},"
          "{'type':'tool_use','id':'functions_t_0','name':'t','input':{}}]},{'role':'user','content':["
          "{'type':'tool_result','tool_use_id':'call_1','content':'rain'},"
          "{'type':'tool_result','tool_use_id':'functions_t_0','content':[{'type':'text','text':'noon'}]},"
          "{'type':'text','text':'so?'}]}]}" },
        { "{'messages':[{'role':'user','content':[{'type':'text','text':'what'},{'type':'text','text':''},"
          "{'type':'image_url','image_url':{'url':'data:image\\/png;base64,iVBO','detail':'low'}},"
          "{'type':'image_url','image_url':{'url':'https://a.example/x.png'}},"
          "{'type':'file','file':{'filename':'a.pdf','file_data':'data:application/pdf;base64,JVBE'}}]}]}",
          "{'model':'m','max_tokens':1000,'messages':[{'role':'user','content':[{'type':'text','text':'what'},"
          "{'type':'image','source':{'type':'base64','media_type':'image/png','data':'iVBO'}},"
          "{'type':'image','source':{'type':'url','url':'https://a.example/x.png'}},"
          "{'type':'document','source':{'type':'base64','media_type':'application/pdf','data':'JVBE'}}]}]}" },
        { "{'messages':[{'role':'user','content':'\\ud83d\\ude00 \\u0000 \\\"'},{'role':'assistant','content':'k'},"
          "{'role':'assistant','refusal':null,'content':[{'type':'refusal','refusal':'no'}]}]}",
          "{'model':'m','max_tokens':1000,'messages':[{'role':'user','content':[{'type':'text','text':"
          "'\\ud83d\\ude00 \\u0000 \\\"'}]},{'role':'assistant','content':[{'type':'text','text':'k'},"
          "{'type':'text','text':'no'}]}]}" },
    };

    (void)state;
    check_requests(AI_CHAT, pairs, ARRAY_LEN(pairs));
}

#define TOOLS \
    "'tools':[{'type':'function','function':{'name':'w','description':'d','strict':true,'parameters':{'type':'object'," \
    "'properties':{'a':{'type':'string'}}}}},{'type':'function','function':{'name':'t'}}]"
#define TOOLS_OUT \
    "{'name':'w','description':'d','input_schema':{'type':'object','properties':{'a':{'type':'string'}}}}," \
    "{'name':'t','input_schema':{'type':'object','properties':{}}}"
#define FORMAT \
    "'response_format':{'type':'json_schema','json_schema':{'name':'p x','strict':true,'schema':{'type':'object'," \
    "'properties':{'n':{'type':'integer'}}}}}"
#define FORMAT_OUT \
    "{'name':'json_answer__p_x','description':'Give the final answer with this tool.','input_schema':{'type':'object'," \
    "'properties':{'n':{'type':'integer'}}}}"

static void test_chat_parameters(void **state)
{
    /* Proves what becomes of each parameter of chat: said, put into bounds, or dropped as harmless. */
    static const struct pair pairs[] = {
        { "{" ASK ",'seed':7,'service_tier':'auto','store':false,'metadata':{'a':'b'},'n':1,'logprobs':false,"
          "'logit_bias':{},'frequency_penalty':0.5,'presence_penalty':0,'modalities':['text'],'stream':false,"
          "'stream_options':null,'unheard_of':1}",
          "{" ASKED "}" },
        { "{" ASK ",'max_tokens':7,'max_completion_tokens':9,'temperature':0.3,'top_p':0.9,'stop':'END','stream':true,"
          "'stream_options':{'include_usage':true},'user':'u1'}",
          "{'model':'m','max_tokens':9,'messages':[{'role':'user','content':[{'type':'text','text':'hi'}]}],"
          "'temperature':0.3,'top_p':0.9,'stop_sequences':['END'],'stream':true,'metadata':{'user_id':'u1'}}" },
        { "{" ASK ",'temperature':1.7,'top_p':1.0,'stop':['a','b']}",
          "{" ASKED ",'temperature':1,'stop_sequences':['a','b']}" },
        { "{" ASK ",'reasoning_effort':'high'}", "{" ASKED "}" },
        { "{" ASK ",'reasoning_effort':'medium','max_tokens':9000,'temperature':0.2,'top_p':0.5}",
          "{'model':'m','max_tokens':9000,'messages':[{'role':'user','content':[{'type':'text','text':'hi'}]}],"
          "'thinking':{'type':'enabled','budget_tokens':4096}}" },
        { "{" ASK ",'reasoning_effort':'max','max_tokens':40000}",
          "{'model':'m','max_tokens':40000,'messages':[{'role':'user','content':[{'type':'text','text':'hi'}]}],"
          "'thinking':{'type':'enabled','budget_tokens':32768}}" },
        { "{" ASK ",'reasoning_effort':'none'}", "{" ASKED "}" },
        { "{" ASK "," TOOLS "}", "{" ASKED ",'tools':[" TOOLS_OUT "]}" },
        { "{" ASK "," TOOLS ",'tool_choice':'auto','parallel_tool_calls':false}",
          "{" ASKED ",'tools':[" TOOLS_OUT "],'tool_choice':{'type':'auto','disable_parallel_tool_use':true}}" },
        { "{" ASK "," TOOLS ",'tool_choice':'required'}",
          "{" ASKED ",'tools':[" TOOLS_OUT "],'tool_choice':{'type':'any'}}" },
        { "{" ASK "," TOOLS ",'tool_choice':'none','parallel_tool_calls':false}",
          "{" ASKED ",'tools':[" TOOLS_OUT "],'tool_choice':{'type':'none'}}" },
        { "{" ASK "," TOOLS ",'tool_choice':{'type':'function','function':{'name':'t'}}," FORMAT "}",
          "{" ASKED ",'tools':[" TOOLS_OUT "],'tool_choice':{'type':'tool','name':'t'}}" },
        { "{" ASK "," TOOLS "," FORMAT "}", "{" ASKED ",'tools':[" TOOLS_OUT "," FORMAT_OUT
                                            "],'tool_choice':{'type':'any','disable_parallel_tool_use':true}}" },
        { "{" ASK "," FORMAT ",'reasoning_effort':'low','max_tokens':5000}",
          "{'model':'m','max_tokens':5000,'messages':[{'role':'user','content':[{'type':'text','text':'hi'}]}],"
          "'tools':[" FORMAT_OUT "],'tool_choice':{'type':'any','disable_parallel_tool_use':true}}" },
        { "{" ASK ",'response_format':{'type':'json_object'}}",
          "{" ASKED ",'tools':[{'name':'json_answer__object','description':'Give the final answer with this tool.',"
          "'input_schema':{'type':'object','additionalProperties':true}}],'tool_choice':{'type':'any',"
          "'disable_parallel_tool_use':true}}" },
        { "{" ASK ",'response_format':{'type':'text'},'tools':[],'tool_choice':'none'}", "{" ASKED "}" },
    };

    (void)state;
    check_requests(AI_CHAT, pairs, ARRAY_LEN(pairs));
}

static void test_messages_requests(void **state)
{
    /* Proves that turns of messages become messages of chat, and each parameter what it is called there. */
    static const struct pair pairs[] = {
        { "{" ASK ",'max_tokens':5}", "{'model':'m','max_tokens':5," ASK "}" },
        { "{'messages':[{'role':'user','content':'q'},{'role':'system','content':[{'type':'text','text':'s'}]},"
          "{'role':'assistant','content':'a'},{'role':'system','content':'t'}],'max_tokens':5}",
          "{'model':'m','messages':[{'role':'user','content':'q'},{'role':'system','content':'s'},"
          "{'role':'assistant','content':'a'},{'role':'system','content':'t'}],'max_tokens':5}" },
        { "{'system':[{'type':'text','text':'a','cache_control':{'type':'ephemeral'}},{'type':'text','text':'b'}],'messages':["
          "{'role':'user','content':[{'type':'text','text':'hi','cache_control':{'type':'ephemeral'}}]}],'max_tokens':5}",
          "{'model':'m','max_tokens':5,'messages':[{'role':'system','content':'a\\n\\nb'},{'role':'user','content':'hi'}]}" },
        { "{'system':'s','messages':[{'role':'user','content':[{'type':'text','text':'see'},{'type':'image','source':"
          "{'type':'base64','media_type':'image/png','data':'iVBO'}},{'type':'image','source':{'type':'url','url':"
          "'https://a.example/b'}},{'type':'document','source':{'type':'text','media_type':'text/plain','data':'doc'}},"
          "{'type':'document','title':'t.pdf','source':{'type':'base64','media_type':'application/pdf','data':'JV'}}]}],"
          "'max_tokens':5}",
          "{'model':'m','max_tokens':5,'messages':[{'role':'system','content':'s'},{'role':'user','content':["
          "{'type':'text','text':'see'},{'type':'image_url','image_url':{'url':'data:image/png;base64,iVBO'}},"
          "{'type':'image_url','image_url':{'url':'https://a.example/b'}},{'type':'text','text':'doc'},"
          "{'type':'file','file':{'filename':'t.pdf','file_data':'data:application/pdf;base64,JV'}}]}]}" },
        { "{'messages':[{'role':'user','content':'w?'},{'role':'assistant','content':[{'type':'thinking','thinking':'hm',"
          "'signature':'s'},{'type':'redacted_thinking','data':'z'},{'type':'text','text':'one '},{'type':'text','text':'two'},"
          "{'type':'tool_use','id':'toolu_1','name':'w','input':{'c':'v'}},{'type':'tool_use','id':'toolu_2','name':'t',"
          "'input':{}}]},{'role':'user','content':[{'type':'text','text':'and'},{'type':'tool_result','tool_use_id':'toolu_1',"
          "'content':'rain'},{'type':'tool_result','tool_use_id':'toolu_2','is_error':true,'content':[{'type':'text','text':"
          "'x'},{'type':'image','source':{'type':'url','url':'https://a.example/c'}},{'type':'text','text':'y'}]}]},"
          "{'role':'assistant','content':'ok'}],'max_tokens':5}",
          "{'model':'m','max_tokens':5,'messages':[{'role':'user','content':'w?'},{'role':'assistant','content':'one two',"
          "'tool_calls':[{'id':'toolu_1','type':'function','function':{'name':'w','arguments':'{\\\"c\\\":\\\"v\\\"}'}},"
          "{'id':'toolu_2','type':'function','function':{'name':'t','arguments':'{}'}}]},"
          "{'role':'tool','tool_call_id':'toolu_1','content':'rain'},{'role':'tool','tool_call_id':'toolu_2','content':"
          "'Error: x\\n\\ny'},{'role':'user','content':[{'type':'text','text':'and'},{'type':'image_url','image_url':{'url':"
          "'https://a.example/c'}}]},{'role':'assistant','content':'ok'}]}" },
        { "{" ASK
          ",'max_tokens':20000,'temperature':0.5,'top_p':0.9,'top_k':40,'stop_sequences':['a'],'metadata':{'user_id':'u'},"
          "'thinking':{'type':'enabled','budget_tokens':4096},'stream':true,'service_tier':'auto'}",
          "{'model':'m','max_completion_tokens':20000," ASK ",'temperature':0.5,'top_p':0.9,'stop':['a'],'user':'u',"
          "'reasoning_effort':'medium','stream':true,'stream_options':{'include_usage':true}}" },
        { "{" ASK ",'max_tokens':5,'tools':[{'name':'w','description':'d','input_schema':{'type':'object'}},"
          "{'type':'custom','name':'t','input_schema':{}}],'tool_choice':{'type':'any','disable_parallel_tool_use':true}}",
          "{'model':'m','max_tokens':5," ASK ",'tools':[{'type':'function','function':{'name':'w','description':'d',"
          "'parameters':{'type':'object'}}},{'type':'function','function':{'name':'t','parameters':{}}}],"
          "'tool_choice':'required','parallel_tool_calls':false}" },
        { "{" ASK ",'max_tokens':5,'tools':[{'name':'w','input_schema':{}}],'tool_choice':{'type':'tool','name':'w'},"
          "'output_config':{'effort':'low','format':{'type':'json_schema','schema':{'type':'object'}}}}",
          "{'model':'m','max_completion_tokens':5," ASK
          ",'tools':[{'type':'function','function':{'name':'w','parameters':{}}}],"
          "'tool_choice':{'type':'function','function':{'name':'w'}},'reasoning_effort':'low','response_format':{'type':"
          "'json_schema','json_schema':{'name':'answer','strict':true,'schema':{'type':'object'}}}}" },
        { "{'messages':[{'role':'user','content':[{'type':'tool_result','tool_use_id':'a','content':[{'type':'text','text':'r'}]},"
          "{'type':'text','text':'so'}]},{'role':'user','content':[{'type':'tool_result','tool_use_id':'b'}]}],'max_tokens':5}",
          "{'model':'m','max_tokens':5,'messages':[{'role':'tool','tool_call_id':'a','content':'r'},{'role':'user','content':'so'},"
          "{'role':'tool','tool_call_id':'b','content':''}]}" },
    };

    (void)state;
    check_requests(AI_MESSAGES, pairs, ARRAY_LEN(pairs));
}

static const struct {
    enum ai_endpoint from;
    const char *in, *member;
} refused[] = {
    { AI_CHAT, "[]", "the body" },
    { AI_CHAT, "{}", "messages" },
    { AI_CHAT, "{'messages':'SECRET'}", "messages" },
    { AI_CHAT, "{'messages':[]}", "messages" },
    { AI_CHAT, "{'messages':[{'role':'system','content':'SECRET'}]}", "messages" },
    { AI_CHAT, "{'messages':[7]}", "messages[0].role" },
    { AI_CHAT, "{'messages':[{'role':'SECRET','content':'x'}]}", "messages[0].role" },
    { AI_CHAT, "{'messages':[{'role':'user','content':7}]}", "messages[0].content" },
    { AI_CHAT, "{'messages':[{'role':'user','content':[{'type':'input_audio'}]}]}", "messages[0].content" },
    { AI_CHAT, "{'messages':[{'role':'user','content':[{'type':'image_url','image_url':{'url':'ftp://SECRET'}}]}]}",
      "messages[0].content" },
    { AI_CHAT, "{'messages':[{'role':'user','content':[{'type':'image_url','image_url':'x'}]}]}",
      "messages[0].content" },
    { AI_CHAT,
      "{'messages':[{'role':'assistant','tool_calls':[{'id':'a','type':'function','function':{'name':'f','arguments':"
      "'{SECRET'}}]}]}",
      "messages[0].tool_calls" },
    { AI_CHAT,
      "{'messages':[{'role':'assistant','tool_calls':[{'id':'a','type':'function','function':{'name':'f','arguments':"
      "'[1]'}}]}]}",
      "messages[0].tool_calls" },
    { AI_CHAT, "{'messages':[{'role':'tool','content':'x'}]}", "messages[0].tool_call_id" },
    { AI_CHAT, "{" ASK ",'n':2}", "n:" },
    { AI_CHAT, "{" ASK ",'logprobs':true}", "logprobs" },
    { AI_CHAT, "{" ASK ",'top_logprobs':3}", "logprobs" },
    { AI_CHAT, "{" ASK ",'logit_bias':{'1':2}}", "logit_bias" },
    { AI_CHAT, "{" ASK ",'audio':{}}", "audio" },
    { AI_CHAT, "{" ASK ",'modalities':['text','audio']}", "modalities" },
    { AI_CHAT, "{" ASK ",'functions':[]}", "functions" },
    { AI_CHAT, "{" ASK ",'max_tokens':0}", "max_tokens" },
    { AI_CHAT, "{" ASK ",'max_tokens':'SECRET'}", "max_tokens" },
    { AI_CHAT, "{" ASK ",'temperature':'SECRET'}", "temperature" },
    { AI_CHAT, "{" ASK ",'stop':7}", "stop" },
    { AI_CHAT, "{" ASK ",'tools':[{'type':'custom'}]}", "tools[0]" },
    { AI_CHAT, "{" ASK ",'tool_choice':'required'}", "tool_choice" },
    { AI_CHAT, "{" ASK ",'tool_choice':'SECRET'}", "tool_choice" },
    { AI_CHAT, "{" ASK ",'response_format':{'type':'grammar'}}", "response_format" },
    { AI_CHAT,
      "{" ASK ",'response_format':{'type':'json_schema','json_schema':{'name':'a','schema':{'type':'array'}}}}",
      "response_format" },
    { AI_MESSAGES, "{'max_tokens':5}", "messages" },
    { AI_MESSAGES, "{" ASK "}", "max_tokens" },
    { AI_MESSAGES, "{" ASK ",'max_tokens':5,'system':7}", "system" },
    { AI_MESSAGES, "{'messages':[{'role':'developer','content':'x'}],'max_tokens':5}", "messages[0].role" },
    { AI_MESSAGES, "{'messages':[{'role':'user','content':[]}],'max_tokens':5}", "messages" },
    { AI_MESSAGES, "{" ASK ",'max_tokens':5,'thread':{'type':'create'}}", "thread" },
    { AI_MESSAGES, "{'messages':[{'role':'user'}],'max_tokens':5}", "messages[0].content" },
    { AI_MESSAGES, "{'messages':[{'role':'user','content':[{'type':'search_result'}]}],'max_tokens':5}",
      "messages[0].content" },
    { AI_MESSAGES,
      "{'messages':[{'role':'user','content':[{'type':'image','source':{'type':'file'}}]}],'max_tokens':5}",
      "messages[0].content" },
    { AI_MESSAGES, "{'messages':[{'role':'user','content':[{'type':'tool_result'}]}],'max_tokens':5}", "messages[0]" },
    { AI_MESSAGES, "{'messages':[{'role':'assistant','content':[{'type':'server_tool_use'}]}],'max_tokens':5}",
      "messages[0].content" },
    { AI_MESSAGES, "{" ASK ",'max_tokens':5,'tools':[{'type':'web_search_20250305','name':'web_search'}]}",
      "tools[0]" },
    { AI_MESSAGES, "{" ASK ",'max_tokens':5,'mcp_servers':[]}", "mcp_servers" },
    { AI_MESSAGES, "{" ASK ",'max_tokens':5,'output_format':{'type':'x'}}", "output_config" },
};

static void test_refused(void **state)
{
    /* Proves that what cannot be said is refused by the name of its member, without a word of its value. */
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        struct buf out = buf_make(TEXT_MAX);
        char memory[256];
        struct text reason = TEXT_ON(memory);
        int r = request(refused[i].from, refused[i].in, &out, &reason);

        if (r != -EINVAL || !view_starts_with(text_view(&reason), view_str(refused[i].member)))
            print_message("%s: %d %.*s\n", refused[i].in, r, VIEW_ARG(text_view(&reason)));
        assert_int_equal(r, -EINVAL);
        assert_true(view_starts_with(text_view(&reason), view_str(refused[i].member)));
        assert_null(memmem(reason.ptr, reason.len, "SECRET", 6));
        buf_free(&out);
    }
}

static void test_there_and_back(void **state)
{
    /* Proves that a request of the common subset, said in chat and said again in messages, means what it meant. */
    static const struct {
        const char *request;
    } cases[] = {
        { "{" ASKED "}" },
        { "{'model':'m','max_tokens':9,'system':'s','messages':[{'role':'user','content':[{'type':'text','text':'a'},"
          "{'type':'image','source':{'type':'base64','media_type':'image/png','data':'iVBO'}},{'type':'image','source':"
          "{'type':'url','url':'https://a.example/b'}}]},{'role':'assistant','content':[{'type':'text','text':'b'},"
          "{'type':'tool_use','id':'toolu_1','name':'w','input':{'x':[1,2.50,{'y':null}]}}]},{'role':'user','content':["
          "{'type':'tool_result','tool_use_id':'toolu_1','content':'c'},{'type':'text','text':'d'}]}],'temperature':0.25,"
          "'top_p':0.5,'stop_sequences':['x','y'],'stream':true,'metadata':{'user_id':'u'},'tools':[{'name':'w','description':'d',"
          "'input_schema':{'type':'object','properties':{}}}],'tool_choice':{'type':'tool','name':'w',"
          "'disable_parallel_tool_use':true}}" },
        { "{'model':'m','max_tokens':30000,'messages':[{'role':'user','content':[{'type':'text','text':'a'}]}],'thinking':"
          "{'type':'enabled','budget_tokens':16384}}" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf chat = buf_make(TEXT_MAX), back = buf_make(TEXT_MAX);
        char memory[256];
        struct text reason = TEXT_ON(memory);
        struct json doc = { 0 };

        assert_int_equal(request(AI_MESSAGES, cases[i].request, &chat, &reason), 0);
        parse_view(&doc, buf_view(&chat));
        assert_int_equal(translate_request(AI_CHAT, AI_MESSAGES, &doc, VIEW("m"), 1, &back, &reason), 0);
        assert_same(buf_view(&back), cases[i].request);
        json_free(&doc);
        buf_free(&chat);
        buf_free(&back);
    }
}

static int answer(enum ai_endpoint from, const char *text, struct buf *out)
{
    struct json doc = { 0 };
    char *copy = unquote(text);
    int r;

    parse_view(&doc, view_str(copy));
    r = translate_answer(from, from == AI_CHAT ? AI_MESSAGES : AI_CHAT, &doc, VIEW_NONE, 99, out);
    json_free(&doc);
    free(copy);
    return r;
}

static void test_answers_to_chat(void **state)
{
    /* Proves that answers of messages become completions: texts joined, calls, reasons, usage with its cached part. */
    static const struct pair pairs[] = {
        { "{'id':'msg_1','type':'message','role':'assistant','model':'c','content':[{'type':'thinking','thinking':'hm','signature':"
          "'x'},{'type':'text','text':'a'},{'type':'text','text':'b'},{'type':'tool_use','id':'toolu_1','name':'w','input':{}}],"
          "'stop_reason':'tool_use','stop_sequence':null,'usage':{'input_tokens':5,'cache_creation_input_tokens':2,"
          "'cache_read_input_tokens':3,'output_tokens':7}}",
          "{'id':'chatcmpl-msg_1','object':'chat.completion','created':99,'model':'c','choices':[{'index':0,'message':{'role':"
          "'assistant','content':'ab','reasoning_content':'hm','refusal':null,'tool_calls':[{'id':'toolu_1','type':'function',"
          "'function':{'name':'w','arguments':'{}'}}]},'logprobs':null,'finish_reason':'tool_calls'}],'usage':{'prompt_tokens':10,"
          "'completion_tokens':7,'total_tokens':17,'prompt_tokens_details':{'cached_tokens':3}}}" },
        { "{'id':'m','model':'c','content':[],'stop_reason':'max_tokens'}",
          "{'id':'chatcmpl-m','object':'chat.completion','created':99,'model':'c','choices':[{'index':0,'message':{'role':"
          "'assistant','content':null,'refusal':null},'logprobs':null,'finish_reason':'length'}],'usage':{'prompt_tokens':0,"
          "'completion_tokens':0,'total_tokens':0,'prompt_tokens_details':{'cached_tokens':0}}}" },
        { "{'id':'m','model':'c','content':[{'type':'tool_use','id':'t','name':'json_answer__p','input':{'n':4}}],'stop_reason':"
          "'tool_use'}",
          "{'id':'chatcmpl-m','object':'chat.completion','created':99,'model':'c','choices':[{'index':0,'message':{'role':"
          "'assistant','content':'{\\\"n\\\":4}','refusal':null},'logprobs':null,'finish_reason':'stop'}],'usage':"
          "{'prompt_tokens':0,'completion_tokens':0,'total_tokens':0,'prompt_tokens_details':{'cached_tokens':0}}}" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct buf out = buf_make(TEXT_MAX);

        assert_int_equal(answer(AI_MESSAGES, pairs[i].in, &out), 0);
        assert_same(buf_view(&out), pairs[i].out);
        buf_free(&out);
    }
}

static void test_answers_to_messages(void **state)
{
    /* Proves that completions become messages, and that what is no sound answer is said to be none. */
    static const struct pair pairs[] = {
        { "{'id':'chatcmpl-1','object':'chat.completion','model':'g','choices':[{'index':0,'message':{'role':'assistant',"
          "'content':'a','reasoning_content':'hm','tool_calls':[{'id':'c1','type':'function','function':{'name':'w','arguments':"
          "'{\\\"a\\\":1}'}},{'type':'function','function':{'name':'t','arguments':''}}]},'finish_reason':'stop'}],'usage':"
          "{'prompt_tokens':10,'completion_tokens':7,'total_tokens':17,'prompt_tokens_details':{'cached_tokens':4}}}",
          "{'id':'msg_chatcmpl-1','type':'message','role':'assistant','model':'g','content':[{'type':'thinking','thinking':'hm',"
          "'signature':''},{'type':'text','text':'a'},{'type':'tool_use','id':'c1','name':'w','input':{'a':1}},{'type':"
          "'tool_use','id':'toolu_1','name':'t','input':{}}],'stop_reason':'tool_use','stop_sequence':null,'usage':{"
          "'input_tokens':6,'cache_creation_input_tokens':0,'cache_read_input_tokens':4,'output_tokens':7}}" },
        { "{'id':'x','model':'g','choices':[{'message':{'content':null,'refusal':'no'},'finish_reason':'stop'}]}",
          "{'id':'msg_x','type':'message','role':'assistant','model':'g','content':[{'type':'text','text':'no'}],'stop_reason':"
          "'refusal','stop_sequence':null,'usage':{'input_tokens':0,'cache_creation_input_tokens':0,"
          "'cache_read_input_tokens':0,'output_tokens':0}}" },
    };
    static const char *const unsound[] = {
        "{}",
        "{'error':{'message':'x'}}",
        "{'choices':[]}",
        "{'choices':[7]}",
        "{'choices':[{'message':{'content':7}}]}",
        "{'choices':[{'message':{'tool_calls':[{'id':'a','function':{'name':'f','arguments':'{'}}]}}]}",
        "{'choices':[{'message':{'tool_calls':[{'id':'a','function':{}}]}}]}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct buf out = buf_make(TEXT_MAX);

        assert_int_equal(answer(AI_CHAT, pairs[i].in, &out), 0);
        assert_same(buf_view(&out), pairs[i].out);
        buf_free(&out);
    }
    for (size_t i = 0; i < ARRAY_LEN(unsound); i++) {
        struct buf out = buf_make(TEXT_MAX);

        assert_int_equal(answer(AI_CHAT, unsound[i], &out), -EBADMSG);
        buf_free(&out);
    }
}

static void test_reasons(void **state)
{
    /* Proves that each reason to stop is called what it is called in the other dialect. */
    static const struct {
        const char *stop, *finish;
    } to_chat[] = {
        { "end_turn", "stop" },      { "stop_sequence", "stop" },  { "pause_turn", "stop" },
        { "max_tokens", "length" },  { "refusal", "content_filter" }, { "model_context_window_exceeded", "length" },
    }, to_messages[] = {
        { "end_turn", "stop" }, { "max_tokens", "length" }, { "refusal", "content_filter" }, { "end_turn", "eos" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(to_chat); i++) {
        struct buf out = buf_make(TEXT_MAX);
        char text[200], expected[100];

        snprintf(text, sizeof(text), "{'content':[{'type':'text','text':'a'}],'stop_reason':'%s'}", to_chat[i].stop);
        snprintf(expected, sizeof(expected), "\"finish_reason\":\"%s\"", to_chat[i].finish);
        assert_int_equal(answer(AI_MESSAGES, text, &out), 0);
        assert_non_null(memmem(out.ptr, out.len, expected, strlen(expected)));
        buf_free(&out);
    }
    for (size_t i = 0; i < ARRAY_LEN(to_messages); i++) {
        struct buf out = buf_make(TEXT_MAX);
        char text[200], expected[100];

        snprintf(text, sizeof(text), "{'choices':[{'message':{'content':'a'},'finish_reason':'%s'}]}",
                 to_messages[i].finish);
        snprintf(expected, sizeof(expected), "\"stop_reason\":\"%s\"", to_messages[i].stop);
        assert_int_equal(answer(AI_CHAT, text, &out), 0);
        assert_non_null(memmem(out.ptr, out.len, expected, strlen(expected)));
        buf_free(&out);
    }
}

static void test_errors(void **state)
{
    /* Proves that any error body becomes one the client's SDK can read, and that no credential of ours can be in it. */
    static const struct {
        enum ai_dialect to;
        int status;
        const char *body, *type, *message;
    } cases[] = {
        { AI_ANTHROPIC, 400, "{'error':{'message':'bad','type':'invalid_request_error','param':null,'code':null}}",
          "invalid_request_error", "bad" },
        { AI_ANTHROPIC, 429, "{'error':{'message':'slow'}}", "rate_limit_error", "slow" },
        { AI_ANTHROPIC, 503, "<html>", "overloaded_error", "The provider is overloaded." },
        { AI_ANTHROPIC, 500, "", "api_error", "The provider failed." },
        { AI_ANTHROPIC, 404, "{'error':'no such model'}", "not_found_error", "no such model" },
        { AI_OPENAI, 529, "{'type':'error','error':{'type':'overloaded_error','message':'busy'}}", "overloaded_error",
          "busy" },
        { AI_OPENAI, 401, "{'type':'error','error':{'type':'authentication_error','message':'SECRET'}}",
          "authentication_error", "The provider refused the credentials of this gateway." },
        { AI_OPENAI, 422, "{'detail':'no'}", "invalid_request_error", "no" },
        { AI_OPENAI, 400, "[1,2", "invalid_request_error", "The provider refused the request." },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = buf_make(TEXT_MAX);
        char *body = unquote(cases[i].body), expected[300];
        bool openai = cases[i].to == AI_OPENAI;

        snprintf(expected, sizeof(expected),
                 openai ? "{'error':{'type':'%s','message':'%s','param':null,'code':null}}"
                        : "{'type':'error','error':{'type':'%s','message':\"%s\"}}",
                 cases[i].type, cases[i].message);
        assert_int_equal(
            translate_error(openai ? AI_ANTHROPIC : AI_OPENAI, cases[i].to, cases[i].status, view_str(body), &out), 0);
        assert_same(buf_view(&out), expected);
        buf_free(&out);
        free(body);
    }
}

static void test_count(void **state)
{
    /* Proves that the estimate counts texts, tools and images, and neither the frame nor the bytes of an image. */
    static const struct {
        const char *in;
        uint64_t tokens;
    } cases[] = {
        { "{'messages':[]}", 0 },
        { "[]", 0 },
        { "{'messages':[{'role':'user','content':'twelve bytes'}]}", 4 + 3 },
        { "{'system':'four','messages':[{'role':'user','content':[{'type':'text','text':'twelve bytes'}]}]}",
          1 + 4 + 3 },
        { "{'messages':[{'role':'user','content':[{'type':'image','source':{'type':'base64','media_type':'image/png','data':"
          "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}}]}]}",
          4 + 1600 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json doc = { 0 };
        char *copy = unquote(cases[i].in);

        parse_view(&doc, view_str(copy));
        assert_int_equal(translate_count_estimate(&doc), cases[i].tokens);
        json_free(&doc);
        free(copy);
    }
}

static void test_no_memory(void **state)
{
    /* Proves that wherever memory ends, translation ends with -ENOMEM or well, and leaks nothing. */
    static const char *const text =
        "{'messages':[{'role':'user','content':[{'type':'image_url','image_url':{'url':'data:image\\/png;base64,iVBO'}}]},"
        "{'role':'assistant','tool_calls':[{'id':'a','type':'function','function':{'name':'f','arguments':'{}'}}]}]," TOOLS
        "}";
    struct json doc = { 0 };
    char *copy = unquote(text);

    (void)state;
    parse_view(&doc, view_str(copy));
    for (unsigned long nth = 1; nth < 12; nth++) {
        struct buf out = buf_make(TEXT_MAX);
        char memory[256];
        struct text reason = TEXT_ON(memory);
        int r;

        heap_fault(nth, 0);
        r = translate_request(AI_CHAT, AI_MESSAGES, &doc, VIEW("m"), 1, &out, &reason);
        heap_fault(0, 0);
        assert_true(r == 0 || r == -ENOMEM);
        buf_free(&out);
    }
    for (size_t max = 0; max < 700; max += 7) {
        struct buf out = buf_make(max);
        char memory[256];
        struct text reason = TEXT_ON(memory);
        int r = translate_request(AI_CHAT, AI_MESSAGES, &doc, VIEW("m"), 1, &out, &reason);

        assert_true(r == -ENOMEM || (r == 0 && out.len <= max));
        buf_free(&out);
    }
    json_free(&doc);
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_messages),
        cmocka_unit_test(test_chat_parameters),
        cmocka_unit_test(test_messages_requests),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_answers_to_chat),
        cmocka_unit_test(test_answers_to_messages),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_count),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
