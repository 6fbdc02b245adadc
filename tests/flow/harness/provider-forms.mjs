/**
 * What providers say in their dialects: one answer (text, reasoning, tool calls, usage) as events of a stream and as a plain
 * body, for each endpoint. Used by provider.mjs; shapes as the official clients parse them.
 *
 *   FORMS[endpoint].events(answer, ask)    events in order: { event?, data, piece? }; piece: carries generated content
 *   FORMS[endpoint].plain(answer, ask)     the body as an object
 *   errorBody(dialect, kind, message)      { status, body }
 *
 * answer: { id, model, pieces, reasoning, tools: [{id, name, arguments}], finish, usage, fingerprint }
 */
const CREATED = 1_760_000_000;

function chatUsage({ input, output, cached = 0, reasoning = 0 }) {
    return {
        prompt_tokens: input, completion_tokens: output, total_tokens: input + output,
        prompt_tokens_details: { cached_tokens: cached }, completion_tokens_details: { reasoning_tokens: reasoning },
    };
}

const finishOf = (answer) => answer.finish ?? (answer.tools.length ? 'tool_calls' : 'stop');

/** Arguments arrive in parts, as they do in life. */
function halves(text) {
    const middle = Math.ceil(text.length / 2);
    return [text.slice(0, middle), text.slice(middle)].filter(Boolean);
}

const chat = {
    * events(answer, ask) {
        const usage = ask.stream_options?.include_usage ? { usage: null } : {};
        const chunk = (delta, finish = null, piece = false) => ({
            piece,
            data: {
                id: answer.id, object: 'chat.completion.chunk', created: CREATED, model: answer.model,
                system_fingerprint: answer.fingerprint,
                choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }], ...usage,
            },
        });
        yield chunk({ role: 'assistant', content: '' });
        for (const text of answer.reasoning) {
            yield chunk({ reasoning_content: text }, null, true);
        }
        for (const text of answer.pieces) {
            yield chunk({ content: text }, null, true);
        }
        for (const [index, tool] of answer.tools.entries()) {
            yield chunk({ tool_calls: [{ index, id: tool.id, type: 'function', function: { name: tool.name, arguments: '' } }] },
                null, true);
            for (const part of halves(tool.arguments)) {
                yield chunk({ tool_calls: [{ index, function: { arguments: part } }] }, null, true);
            }
        }
        yield chunk({}, finishOf(answer));
        if (ask.stream_options?.include_usage && answer.usage) {
            yield { data: { ...chunk({}).data, choices: [], usage: chatUsage(answer.usage) } };
        }
        yield { data: '[DONE]', last: true };
    },
    plain(answer) {
        return {
            id: answer.id, object: 'chat.completion', created: CREATED, model: answer.model, system_fingerprint: answer.fingerprint,
            choices: [{
                index: 0, logprobs: null, finish_reason: finishOf(answer),
                message: {
                    role: 'assistant', content: answer.pieces.length ? answer.pieces.join('') : null, refusal: null,
                    ...(answer.reasoning.length ? { reasoning_content: answer.reasoning.join('') } : {}),
                    ...(answer.tools.length ? { tool_calls: answer.tools.map((tool) => ({
                        id: tool.id, type: 'function', function: { name: tool.name, arguments: tool.arguments },
                    })) } : {}),
                },
            }],
            ...(answer.usage ? { usage: chatUsage(answer.usage) } : {}),
        };
    },
};

const completions = {
    * events(answer, ask) {
        const chunk = (text, finish = null, piece = false) => ({
            piece,
            data: { id: answer.id, object: 'text_completion', created: CREATED, model: answer.model,
                choices: [{ index: 0, text, logprobs: null, finish_reason: finish }] },
        });
        for (const text of answer.pieces) {
            yield chunk(text, null, true);
        }
        yield chunk('', finishOf(answer));
        if (ask.stream_options?.include_usage && answer.usage) {
            yield { data: { ...chunk('').data, choices: [], usage: chatUsage(answer.usage) } };
        }
        yield { data: '[DONE]', last: true };
    },
    plain(answer) {
        return {
            id: answer.id, object: 'text_completion', created: CREATED, model: answer.model,
            choices: [{ index: 0, text: answer.pieces.join(''), logprobs: null, finish_reason: finishOf(answer) }],
            ...(answer.usage ? { usage: chatUsage(answer.usage) } : {}),
        };
    },
};

/** Content blocks of a message in order. */
function blocksOf(answer) {
    return [
        ...(answer.reasoning.length ? [{ type: 'thinking', parts: answer.reasoning }] : []),
        ...(answer.pieces.length ? [{ type: 'text', parts: answer.pieces }] : []),
        ...answer.tools.map((tool) => ({ type: 'tool_use', tool, parts: halves(tool.arguments) })),
    ];
}

const STOP_REASON = { stop: 'end_turn', length: 'max_tokens', tool_calls: 'tool_use' };

function messageUsage({ input, output, cached = 0, cacheWrite = 0 }) {
    return { input_tokens: input - cached - cacheWrite, cache_creation_input_tokens: cacheWrite, cache_read_input_tokens: cached,
        output_tokens: output };
}

const messages = {
    * events(answer) {
        const say = (type, more, rest = {}) => ({ event: type, data: { type, ...more }, ...rest });
        yield say('message_start', { message: {
            id: answer.id, type: 'message', role: 'assistant', model: answer.model, content: [], stop_reason: null, stop_sequence: null,
            ...(answer.usage ? { usage: messageUsage({ ...answer.usage, output: 1 }) } : {}),
        } });
        yield say('ping', {});
        for (const [index, block] of blocksOf(answer).entries()) {
            const start = { thinking: { type: 'thinking', thinking: '', signature: '' }, text: { type: 'text', text: '' },
                tool_use: { type: 'tool_use', id: block.tool?.id, name: block.tool?.name, input: {} } }[block.type];
            yield say('content_block_start', { index, content_block: start });
            for (const part of block.parts) {
                const delta = { thinking: { type: 'thinking_delta', thinking: part }, text: { type: 'text_delta', text: part },
                    tool_use: { type: 'input_json_delta', partial_json: part } }[block.type];
                yield say('content_block_delta', { index, delta }, { piece: true });
            }
            if (block.type === 'thinking') {
                yield say('content_block_delta', { index, delta: { type: 'signature_delta', signature: 'c2lnbmVk' } });
            }
            yield say('content_block_stop', { index });
        }
        yield say('message_delta', { delta: { stop_reason: STOP_REASON[finishOf(answer)], stop_sequence: null },
            usage: { output_tokens: answer.usage?.output ?? 0 } });
        yield say('message_stop', {}, { last: true });
    },
    plain(answer) {
        return {
            id: answer.id, type: 'message', role: 'assistant', model: answer.model,
            content: blocksOf(answer).map((block) => ({
                thinking: () => ({ type: 'thinking', thinking: block.parts.join(''), signature: 'c2lnbmVk' }),
                text: () => ({ type: 'text', text: block.parts.join('') }),
                tool_use: () => ({ type: 'tool_use', id: block.tool.id, name: block.tool.name,
                    input: JSON.parse(block.tool.arguments) }),
            }[block.type]())),
            stop_reason: STOP_REASON[finishOf(answer)], stop_sequence: null,
            ...(answer.usage ? { usage: messageUsage(answer.usage) } : {}),
        };
    },
};

function responseUsage({ input, output, cached = 0, reasoning = 0 }) {
    return { input_tokens: input, input_tokens_details: { cached_tokens: cached }, output_tokens: output,
        output_tokens_details: { reasoning_tokens: reasoning }, total_tokens: input + output };
}

function outputOf(answer) {
    return [
        ...(answer.reasoning.length ? [{ id: `rs_${answer.id}`, type: 'reasoning',
            summary: [{ type: 'summary_text', text: answer.reasoning.join('') }] }] : []),
        ...(answer.pieces.length ? [{ id: `msg_${answer.id}`, type: 'message', role: 'assistant', status: 'completed',
            content: [{ type: 'output_text', text: answer.pieces.join(''), annotations: [], logprobs: [] }] }] : []),
        ...answer.tools.map((tool) => ({ id: `fc_${tool.id}`, type: 'function_call', call_id: tool.id, name: tool.name,
            arguments: tool.arguments, status: 'completed' })),
    ];
}

const responses = {
    body(answer, status, output) {
        return {
            id: answer.id, object: 'response', created_at: CREATED, status, error: null, incomplete_details: null, instructions: null,
            model: answer.model, output, parallel_tool_calls: true, temperature: 1, tool_choice: 'auto', tools: [], top_p: 1,
            metadata: {}, usage: status === 'completed' && answer.usage ? responseUsage(answer.usage) : null,
        };
    },
    * events(answer) {
        let number = 0;
        const say = (type, more, rest = {}) => ({ event: type, data: { type, sequence_number: number++, ...more }, ...rest });
        yield say('response.created', { response: responses.body(answer, 'in_progress', []) });
        yield say('response.in_progress', { response: responses.body(answer, 'in_progress', []) });
        for (const [output_index, item] of outputOf(answer).entries()) {
            const at = { item_id: item.id, output_index };
            if (item.type === 'reasoning') {
                yield say('response.output_item.added', { output_index, item: { ...item, summary: [] } });
                yield say('response.reasoning_summary_part.added', { ...at, summary_index: 0, part: { type: 'summary_text', text: '' } });
                for (const delta of answer.reasoning) {
                    yield say('response.reasoning_summary_text.delta', { ...at, summary_index: 0, delta }, { piece: true });
                }
                yield say('response.reasoning_summary_part.done', { ...at, summary_index: 0, part: item.summary[0] });
            } else if (item.type === 'message') {
                yield say('response.output_item.added', { output_index, item: { ...item, status: 'in_progress', content: [] } });
                yield say('response.content_part.added', { ...at, content_index: 0,
                    part: { type: 'output_text', text: '', annotations: [], logprobs: [] } });
                for (const delta of answer.pieces) {
                    yield say('response.output_text.delta', { ...at, content_index: 0, delta, logprobs: [] }, { piece: true });
                }
                yield say('response.output_text.done', { ...at, content_index: 0, text: answer.pieces.join(''), logprobs: [] });
                yield say('response.content_part.done', { ...at, content_index: 0, part: item.content[0] });
            } else {
                yield say('response.output_item.added', { output_index, item: { ...item, status: 'in_progress', arguments: '' } });
                for (const delta of halves(item.arguments)) {
                    yield say('response.function_call_arguments.delta', { ...at, delta }, { piece: true });
                }
                yield say('response.function_call_arguments.done', { ...at, name: item.name, arguments: item.arguments });
            }
            yield say('response.output_item.done', { output_index, item });
        }
        yield say('response.completed', { response: responses.body(answer, 'completed', outputOf(answer)) }, { last: true });
    },
    plain(answer) {
        return responses.body(answer, 'completed', outputOf(answer));
    },
};

export const FORMS = { chat, completions, messages, responses };

const ERRORS = {
    bad_request: [400, 'invalid_request_error', null, 'invalid_request_error'],
    auth: [401, 'invalid_request_error', 'invalid_api_key', 'authentication_error'],
    billing: [402, 'insufficient_quota', 'insufficient_quota', 'billing_error'],
    forbidden: [403, 'invalid_request_error', 'unsupported_country_region_territory', 'permission_error'],
    not_found: [404, 'invalid_request_error', 'model_not_found', 'not_found_error'],
    unprocessable: [422, 'invalid_request_error', null, 'invalid_request_error'],
    rate_limit: [429, 'requests', 'rate_limit_exceeded', 'rate_limit_error'],
    quota: [429, 'insufficient_quota', 'insufficient_quota', 'rate_limit_error'],
    server: [500, 'server_error', null, 'api_error'],
    unavailable: [503, 'server_error', null, 'api_error'],
    overloaded: [529, 'server_error', null, 'overloaded_error'],
};

/** An error as that dialect's provider words it. */
export function errorBody(dialect, kind, message = `scripted ${kind}`) {
    const [status, type, code, anthropic] = ERRORS[kind];
    return {
        status,
        body: dialect === 'anthropic' ? { type: 'error', error: { type: anthropic, message }, request_id: 'req_scripted' }
            : { error: { message, type, param: null, code } },
    };
}
