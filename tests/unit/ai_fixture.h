/* For unit tests: answers as providers send them, as streams and plain. */
#pragma once

#include "message_fixture.h"

#include "ai/endpoint.h"
#include "base/buf.h"

#define CHAT_HEAD \
    "\"id\":\"chatcmpl-BQ1\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"gpt-4o-mini-2024-07-18\"," \
    "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_560af6e559\","
#define CHAT_CHUNK(index, delta, finish) \
    "data: {" CHAT_HEAD "\"choices\":[{\"index\":" index ",\"delta\":" delta \
    ",\"logprobs\":null,\"finish_reason\":" finish "}]," \
    "\"usage\":null,\"obfuscation\":\"hJ2kd\"}\n\n"
#define CHAT_USAGE \
    "\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29," \
    "\"prompt_tokens_details\":{\"cached_tokens\":8,\"audio_tokens\":0}," \
    "\"completion_tokens_details\":{\"reasoning_tokens\":4,\"audio_tokens\":0,\"accepted_prediction_tokens\":0}}"
#define CHAT_USAGE_CHUNK "data: {" CHAT_HEAD "\"choices\":[]," CHAT_USAGE ",\"obfuscation\":\"\"}\n\n"
#define CHAT_DONE "data: [DONE]\n\n"
#define CHAT_PLAIN_HEAD \
    "\"id\":\"chatcmpl-BQ1\",\"object\":\"chat.completion\",\"created\":1760000000,\"model\":\"gpt-4o-mini-2024-07-18\"," \
    "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_560af6e559\","

static const char chat_text[] = CHAT_CHUNK("0", "{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}", "null")
    CHAT_CHUNK("0", "{\"content\":\"Hello\"}", "null") CHAT_CHUNK("0", "{\"content\":\" w\\u00f6rld\"}", "null")
        CHAT_CHUNK("0", "{\"content\":\" \\ud83d\"}", "null") CHAT_CHUNK("0", "{\"content\":\"\\ude00\"}", "null")
            CHAT_CHUNK("0", "{}", "\"stop\"") CHAT_USAGE_CHUNK CHAT_DONE;
static const char chat_text_plain[] =
    "{" CHAT_PLAIN_HEAD
    "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hello w\xc3\xb6rld \xf0\x9f\x98\x80\",\"refusal\":null},"
    "\"logprobs\":null,\"finish_reason\":\"stop\"}]," CHAT_USAGE "}";

static const char chat_tools[] = CHAT_CHUNK(
    "0",
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"index\":0,\"id\":\"call_a\",\"type\":\"function\",\"function\":"
    "{\"name\":\"get_weather\",\"arguments\":\"\"}}],\"refusal\":null}",
    "null") CHAT_CHUNK("0", "{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"\"}}]}", "null")
    CHAT_CHUNK("0", "{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"city\\\":\\\"Paris\\\"\"}}]}", "null")
        CHAT_CHUNK(
            "0",
            "{\"tool_calls\":[{\"index\":1,\"id\":\"call_b\",\"type\":\"function\",\"function\":{\"name\":\"now\",\"arguments\":\"\"}}]}",
            "null") CHAT_CHUNK("0", "{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"}\"}}]}", "null")
            CHAT_CHUNK("0", "{}", "\"tool_calls\"") CHAT_USAGE_CHUNK CHAT_DONE;
static const char chat_tools_plain[] =
    "{" CHAT_PLAIN_HEAD
    "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
    "{\"id\":\"call_a\",\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"arguments\":\"{\\\"city\\\":\\\"Paris\\\"}\"}},"
    "{\"id\":\"call_b\",\"type\":\"function\",\"function\":{\"name\":\"now\",\"arguments\":\"\"}}],\"refusal\":null},"
    "\"logprobs\":null,\"finish_reason\":\"tool_calls\"}]," CHAT_USAGE "}";

#define MESSAGE_EVENT(name, members) "event: " name "\ndata: {\"type\":\"" name "\"" members "}\n\n"

static const char messages_tools[] = MESSAGE_EVENT(
    "message_start",
    ",\"message\":{\"id\":\"msg_01\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],"
    "\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":100,"
    "\"cache_read_input_tokens\":1000,\"cache_creation\":{\"ephemeral_5m_input_tokens\":100},\"output_tokens\":3,\"service_tier\":\"standard\"}}")
    MESSAGE_EVENT("content_block_start",
                  ",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}")
        MESSAGE_EVENT("ping", "") MESSAGE_EVENT(
            "content_block_delta", ",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"Let me\"}")
            MESSAGE_EVENT("content_block_delta",
                          ",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\" think\"}")
                MESSAGE_EVENT("content_block_delta",
                              ",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"EqQB==\"}")
                    MESSAGE_EVENT("content_block_stop", ",\"index\":0") MESSAGE_EVENT(
                        "content_block_start", ",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}")
                        MESSAGE_EVENT("content_block_delta",
                                      ",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"I'll check.\"}")
                            MESSAGE_EVENT("content_block_stop", ",\"index\":1") MESSAGE_EVENT(
                                "content_block_start",
                                ",\"index\":2,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"get_weather\",\"input\":{}}")
                                MESSAGE_EVENT(
                                    "content_block_delta",
                                    ",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\"}")
                                    MESSAGE_EVENT(
                                        "content_block_delta",
                                        ",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"city\\\": \\\"Pa\"}")
                                        MESSAGE_EVENT(
                                            "content_block_delta",
                                            ",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"ris\\\", \\\"n\\\": 1.50}\"}")
                                            MESSAGE_EVENT("content_block_stop", ",\"index\":2") MESSAGE_EVENT(
                                                "message_delta",
                                                ",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":89}")
                                                MESSAGE_EVENT("message_stop", "");
static const char messages_tools_plain[] =
    "{\"id\":\"msg_01\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":["
    "{\"type\":\"thinking\",\"thinking\":\"Let me think\",\"signature\":\"EqQB==\"},{\"type\":\"text\",\"text\":\"I'll check.\"},"
    "{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"get_weather\",\"input\":{\"city\":\"Paris\",\"n\":1.5}}],"
    "\"stop_reason\":\"tool_use\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":100,"
    "\"cache_read_input_tokens\":1000,\"cache_creation\":{\"ephemeral_5m_input_tokens\":100},\"output_tokens\":89,\"service_tier\":\"standard\"}}";

#define RESPONSE_EVENT(name, members) "event: " name "\ndata: {\"type\":\"" name "\"" members "}\n\n"
#define RESPONSE_PLAIN \
    "{\"id\":\"resp_1\",\"object\":\"response\",\"created_at\":1760000000,\"status\":\"completed\",\"error\":null," \
    "\"incomplete_details\":null,\"model\":\"gpt-5\",\"output\":[{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[" \
    "{\"type\":\"summary_text\",\"text\":\"Thinking about it\"}]},{\"id\":\"msg_1\",\"type\":\"message\",\"status\":\"completed\"," \
    "\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"Hi there\",\"annotations\":[],\"logprobs\":[]}]}," \
    "{\"id\":\"fc_1\",\"type\":\"function_call\",\"status\":\"completed\",\"call_id\":\"call_1\",\"name\":\"f\"," \
    "\"arguments\":\"{\\\"a\\\":1}\"}],\"parallel_tool_calls\":true,\"usage\":{\"input_tokens\":36," \
    "\"input_tokens_details\":{\"cached_tokens\":6},\"output_tokens\":87,\"output_tokens_details\":{\"reasoning_tokens\":7}," \
    "\"total_tokens\":123}}"

static const char responses_tools[] = RESPONSE_EVENT(
    "response.created",
    ",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",\"status\":\"in_progress\",\"error\":null,\"output\":[]}")
    RESPONSE_EVENT(
        "response.output_item.added",
        ",\"sequence_number\":1,\"output_index\":0,\"item\":{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[]}")
        RESPONSE_EVENT(
            "response.reasoning_summary_text.delta",
            ",\"sequence_number\":2,\"item_id\":\"rs_1\",\"output_index\":0,\"summary_index\":0,\"delta\":\"Thinking about it\"")
            RESPONSE_EVENT(
                "response.output_text.delta",
                ",\"sequence_number\":3,\"item_id\":\"msg_1\",\"output_index\":1,\"content_index\":0,\"delta\":\"Hi there\",\"logprobs\":[]")
                RESPONSE_EVENT(
                    "response.function_call_arguments.delta",
                    ",\"sequence_number\":4,\"item_id\":\"fc_1\",\"output_index\":2,\"delta\":\"{\\\"a\\\":1}\"")
                    RESPONSE_EVENT("response.completed", ",\"sequence_number\":5,\"response\":" RESPONSE_PLAIN);
static const char responses_tools_plain[] = RESPONSE_PLAIN;

#define TEXT_CHUNK(text, finish) \
    "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1760000000,\"choices\":[{\"text\":\"" text \
    "\",\"index\":0," \
    "\"logprobs\":null,\"finish_reason\":" finish "}],\"model\":\"gpt-3.5-turbo-instruct\"}\n\n"
static const char completions_text[] = TEXT_CHUNK("This ", "null") TEXT_CHUNK("is", "null") TEXT_CHUNK(
    "",
    "\"stop\"") "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1760000000,\"choices\":[],\"model\":\"gpt-3.5-turbo-instruct\","
                "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7,\"total_tokens\":12}}\n\n" CHAT_DONE;
static const char completions_text_plain[] =
    "{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1760000000,\"model\":\"gpt-3.5-turbo-instruct\",\"choices\":["
    "{\"text\":\"This is\",\"index\":0,\"logprobs\":null,\"finish_reason\":\"stop\"}],"
    "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7,\"total_tokens\":12}}";

static const struct {
    enum ai_endpoint endpoint;
    const char *stream, *plain;
} answers[] = {
    { AI_CHAT, chat_text, chat_text_plain },
    { AI_CHAT, chat_tools, chat_tools_plain },
    { AI_MESSAGES, messages_tools, messages_tools_plain },
    { AI_RESPONSES, responses_tools, responses_tools_plain },
    { AI_COMPLETIONS, completions_text, completions_text_plain },
};
