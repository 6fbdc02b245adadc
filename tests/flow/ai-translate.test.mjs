/** A client of one dialect, a provider of the other: both official clients on both providers, whole and streamed. */
import assert from 'node:assert/strict';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { aiFlow, TWO } from './harness/ai.mjs';
import { Anthropic, anthropic, openai, OpenAI, thrown } from './harness/ai-clients.mjs';

const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const SCHEMA = { type: 'object', properties: { place: { type: 'string' } }, required: ['place'] };
const CHAT_TOOL = { type: 'function', function: { name: 'weather', description: 'of a place', parameters: SCHEMA } };
const MESSAGE_TOOL = { name: 'weather', description: 'of a place', input_schema: SCHEMA };

/** `to-claude` and `to-cloud` are names for models of the other dialect's provider. */
const ACROSS = { needs: 'node', providers: TWO, models: {
    'to-claude': { candidates: [{ provider: 'claude', model: 'claude-test-1' }] }, 'to-cloud': { candidates: [{ provider: 'cloud', model: 'gpt-4o-mini' }] },
} };
const ask = { model: 'to-claude', messages: [{ role: 'system', content: 'Be short.' }, { role: 'user', content: 'Hello?' }] };
const say = { model: 'to-cloud', max_tokens: 50, system: 'Be short.', messages: [{ role: 'user', content: 'Hello?' }] };

aiFlow('openai\'s client on Anthropic\'s provider: text, plain', ACROSS, async (s) => {
    const { data, response } = await openai(s).chat.completions.create({ ...ask, temperature: 0.5, stop: ['END'], max_tokens: 77, top_p: 0.9 }).withResponse();
    assert.equal(data.choices[0].message.content, 'answer 1 of claude to: Hello?');
    assert.equal(data.choices[0].message.role, 'assistant');
    assert.equal(data.choices[0].finish_reason, 'stop');
    assert.equal(data.object, 'chat.completion');
    assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + data.usage.completion_tokens);
    assert.equal(s.wall(response).provider, 'claude');
    const { json, headers } = s.claude.last;
    assert.equal(json.model, 'claude-test-1');
    assert.ok(json.system === 'Be short.' || json.system[0].text === 'Be short.');
    assert.deepEqual(json.messages.map((one) => one.role), ['user']);
    assert.deepEqual([json.temperature, json.max_tokens, json.top_p, json.stop_sequences], [0.5, 77, 0.9, ['END']]);
    assert.equal(headers['x-api-key'], 'sk-ant-test');
    assert.ok(headers['anthropic-version']);
    assert.equal(headers.authorization, undefined);
});

aiFlow('without max_tokens Anthropic\'s provider still gets one', ACROSS, async (s) => {
    await openai(s).chat.completions.create(ask);
    assert.ok(s.claude.last.json.max_tokens > 0);
});

aiFlow('openai\'s client on Anthropic\'s provider: streamed, with usage when asked', ACROSS, async (s) => {
    s.claude.always({ reasoning: ['hm'], pieces: ['one ', 'zwö', 'lf'] });
    for (const include_usage of [false, true]) {
        const chunks = [];
        for await (const chunk of await openai(s).chat.completions.create({ ...ask, messages: [{ role: 'user', content: `${include_usage}` }], stream: true, stream_options: { include_usage } })) {
            chunks.push(chunk);
        }
        assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''), 'one zwölf');
        assert.ok(chunks.every((chunk) => chunk.object === 'chat.completion.chunk'));
        assert.equal(chunks.findLast((chunk) => chunk.choices.length).choices[0].finish_reason, 'stop');
        assert.equal(chunks.some((chunk) => chunk.usage), include_usage);
        assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
    }
});

aiFlow('openai\'s client on Anthropic\'s provider: tools, there and back', ACROSS, async (s) => {
    s.claude.always({ text: 'I look.', tools: [{ id: 'toolu_1', name: 'weather', arguments: { place: 'Zürich "x"' } }, { id: 'toolu_2', name: 'weather', arguments: {} }] });
    const client = openai(s);
    const asked = { ...ask, tools: [CHAT_TOOL], tool_choice: { type: 'function', function: { name: 'weather' } } };
    const plain = (await client.chat.completions.create(asked)).choices[0];
    const streamed = (await client.chat.completions.stream({ ...asked, seed: 1 }).finalChatCompletion()).choices[0];
    for (const choice of [plain, streamed]) {
        assert.equal(choice.finish_reason, 'tool_calls');
        assert.equal(choice.message.content, 'I look.');
        assert.deepEqual(choice.message.tool_calls.map((call) => [call.id, call.function.name, JSON.parse(call.function.arguments)]),
            [['toolu_1', 'weather', { place: 'Zürich "x"' }], ['toolu_2', 'weather', {}]]);
    }
    const { tools, tool_choice } = s.claude.last.json;
    assert.deepEqual(tools[0], MESSAGE_TOOL);
    assert.deepEqual(tool_choice, { type: 'tool', name: 'weather' });
    s.claude.always({});
    await client.chat.completions.create({ ...asked, tool_choice: 'auto', messages: [...ask.messages, plain.message,
        { role: 'tool', tool_call_id: 'toolu_1', content: 'sunny' }, { role: 'tool', tool_call_id: 'toolu_2', content: 'rain' }, { role: 'user', content: 'So?' }] });
    const { messages } = s.claude.last.json;
    assert.deepEqual(messages.map((one) => one.role), ['user', 'assistant', 'user']);
    const blocks = messages[1].content.filter((block) => block.type === 'tool_use');
    assert.deepEqual(blocks.map((block) => [block.id, block.input]), [['toolu_1', { place: 'Zürich "x"' }], ['toolu_2', {}]]);
    const results = messages[2].content.filter((block) => block.type === 'tool_result');
    assert.deepEqual(results.map((block) => block.tool_use_id), ['toolu_1', 'toolu_2']);
    assert.match(JSON.stringify(messages[2]), /sunny.*rain.*So\?/);
});

aiFlow('openai\'s client on Anthropic\'s provider: images', ACROSS, async (s) => {
    await openai(s).chat.completions.create({ ...ask, messages: [{ role: 'user', content: [{ type: 'text', text: 'What?' },
        { type: 'image_url', image_url: { url: `data:image/png;base64,${PIXEL}` } }, { type: 'image_url', image_url: { url: 'https://site.test/a.png' } }] }] });
    const { content } = s.claude.last.json.messages[0];
    assert.deepEqual(content[0].text, 'What?');
    assert.deepEqual(content[1].source, { type: 'base64', media_type: 'image/png', data: PIXEL });
    assert.deepEqual(content[2].source, { type: 'url', url: 'https://site.test/a.png' });
});

aiFlow('openai\'s client on Anthropic\'s provider: structured output, or a clear refusal', ACROSS, async (s) => {
    const json = { city: 'Paris' };
    s.claude.always((request) => (request.json.tools?.length ? { tools: [{ name: request.json.tools[0].name, arguments: json }] } : { text: JSON.stringify(json) }));
    const asked = { ...ask, response_format: zodResponseFormat(z.object({ city: z.string() }), 'place') };
    try {
        const answer = await openai(s).chat.completions.parse(asked);
        assert.deepEqual(answer.choices[0].message.parsed, json);
    } catch (error) {
        assert.ok(error instanceof OpenAI.BadRequestError, error.message);
    }
});

aiFlow('openai\'s client on Anthropic\'s provider: errors are of its own kind', ACROSS, async (s) => {
    s.claude.always({ error: 'bad_request', message: 'scripted words' });
    const error = await thrown(openai(s).chat.completions.create(ask));
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.match(error.message, /scripted words/);
    assert.ok(error.type);
    s.claude.always({ pieces: ['one ', 'two'], cut: 1 });
    const late = await thrown((async () => {
        for await (const chunk of await openai(s).chat.completions.create({ ...ask, stream: true })) {
            void chunk;
        }
    })());
    assert.ok(late instanceof OpenAI.APIError, late.constructor.name);
    s.claude.always({ finish: 'length' });
    assert.equal((await openai(s).chat.completions.create({ ...ask, seed: 2 })).choices[0].finish_reason, 'length');
});

aiFlow('Anthropic\'s client on OpenAI\'s provider: text, plain', ACROSS, async (s) => {
    const { data, response } = await anthropic(s).messages.create({ ...say, temperature: 0.5, top_p: 0.9, stop_sequences: ['END'] }).withResponse();
    assert.equal(data.type, 'message');
    assert.deepEqual(data.content.map((block) => [block.type, block.text]), [['text', 'answer 1 of cloud to: Hello?']]);
    assert.equal(data.stop_reason, 'end_turn');
    assert.ok(data.usage.input_tokens > 0 && data.usage.output_tokens > 0);
    assert.equal(s.wall(response).provider, 'cloud');
    const { json, headers } = s.cloud.last;
    assert.equal(json.model, 'gpt-4o-mini');
    assert.deepEqual(json.messages.map((one) => one.role), ['system', 'user']);
    assert.deepEqual([json.temperature, json.top_p, json.stop, json.max_tokens ?? json.max_completion_tokens], [0.5, 0.9, ['END'], 50]);
    assert.match(headers.authorization, /^Bearer sk-test-[12]$/);
    assert.equal(headers['x-api-key'], undefined);
});

aiFlow('Anthropic\'s client on OpenAI\'s provider: streamed, its event lines and its usage', ACROSS, async (s) => {
    s.cloud.always({ pieces: ['one ', 'zwö', 'lf'] });
    const types = [];
    const stream = anthropic(s).messages.stream(say).on('streamEvent', (event) => types.push(event.type));
    const message = await stream.finalMessage();
    assert.equal(message.content[0].text, 'one zwölf');
    assert.equal(message.stop_reason, 'end_turn');
    assert.ok(message.usage.output_tokens > 0);
    assert.deepEqual(types.filter((type) => type !== 'ping'), ['message_start', 'content_block_start', 'content_block_delta', 'content_block_delta',
        'content_block_delta', 'content_block_stop', 'message_delta', 'message_stop']);
    assert.equal(s.cloud.last.json.stream_options.include_usage, true);
});

aiFlow('Anthropic\'s client on OpenAI\'s provider: tools and images, there and back', ACROSS, async (s) => {
    s.cloud.always({ text: 'I look.', tools: [{ id: 'call_1', name: 'weather', arguments: { place: 'Zürich "x"' } }, { id: 'call_2', name: 'weather', arguments: {} }] });
    const client = anthropic(s);
    const asked = { ...say, tools: [MESSAGE_TOOL], tool_choice: { type: 'any' } };
    for (const message of [await client.messages.create(asked), await client.messages.stream({ ...asked, top_k: 5 }).finalMessage()]) {
        assert.equal(message.stop_reason, 'tool_use');
        assert.deepEqual(message.content.map((block) => [block.type, block.id, block.input ?? block.text]),
            [['text', undefined, 'I look.'], ['tool_use', 'call_1', { place: 'Zürich "x"' }], ['tool_use', 'call_2', {}]]);
    }
    assert.deepEqual(s.cloud.last.json.tools[0].function.parameters, SCHEMA);
    assert.equal(s.cloud.last.json.tool_choice, 'required');
    s.cloud.always({});
    await client.messages.create({ ...asked, tool_choice: { type: 'auto' }, messages: [
        { role: 'user', content: [{ type: 'text', text: 'What?' }, { type: 'image', source: { type: 'base64', media_type: 'image/png', data: PIXEL } }] },
        { role: 'assistant', content: [{ type: 'text', text: 'I look.' }, { type: 'tool_use', id: 'call_1', name: 'weather', input: { place: 'Rome' } }] },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'call_1', content: 'sunny' }, { type: 'text', text: 'So?' }] },
    ] });
    const { messages } = s.cloud.last.json;
    assert.deepEqual(messages.map((one) => one.role), ['system', 'user', 'assistant', 'tool', 'user']);
    assert.equal(messages[1].content[1].image_url.url, `data:image/png;base64,${PIXEL}`);
    assert.deepEqual(JSON.parse(messages[2].tool_calls[0].function.arguments), { place: 'Rome' });
    assert.equal(messages[3].tool_call_id, 'call_1');
    assert.match(JSON.stringify(messages[3].content), /sunny/);
    assert.match(JSON.stringify(messages[4].content), /So\?/);
});

aiFlow('Anthropic\'s client on OpenAI\'s provider: errors are of its own kind', ACROSS, async (s) => {
    s.cloud.always({ error: 'bad_request', message: 'scripted words' });
    const error = await thrown(anthropic(s).messages.create(say));
    assert.ok(error instanceof Anthropic.BadRequestError);
    assert.equal(error.error.type, 'error');
    assert.match(error.error.error.message, /scripted words/);
    s.cloud.always({ pieces: ['one ', 'two'], cut: 1 });
    const late = await thrown(anthropic(s).messages.stream(say).finalMessage());
    assert.ok(late instanceof Anthropic.AnthropicError, late.constructor.name);
    s.cloud.always({ finish: 'length' });
    assert.equal((await anthropic(s).messages.create({ ...say, top_k: 1 })).stop_reason, 'max_tokens');
});

aiFlow('translated answers are stored: both modes, without another call', ACROSS, async (s) => {
    const client = openai(s);
    const first = await client.chat.completions.create(ask);
    const streamed = await client.chat.completions.stream(ask).finalChatCompletion();
    assert.equal(streamed.choices[0].message.content, first.choices[0].message.content);
    const message = await anthropic(s).messages.stream(say).finalMessage();
    const plain = await anthropic(s).messages.create(say).withResponse();
    s.hit(plain.response);
    assert.deepEqual(plain.data.content, message.content);
    assert.deepEqual([s.cloud.count, s.claude.count], [1, 1]);
});

aiFlow('clients of both dialects on one provider do not get each other\'s bytes', ACROSS, async (s) => {
    const prompt = [{ role: 'user', content: 'the same' }];
    const chat = await s.chat({ model: 'claude-test-1', max_tokens: 5, messages: prompt });
    const message = await s.message({ model: 'claude-test-1', max_tokens: 5, messages: prompt });
    assert.equal(chat.json.object, 'chat.completion');
    assert.equal(message.json.type, 'message');
});

aiFlow('interfaces that are not translated are refused in clear words; tokens are counted here when the provider cannot', ACROSS, async (s) => {
    for (const [path, body] of [['/v1/responses', { input: 'x' }], ['/v1/completions', { prompt: 'x' }], ['/v1/embeddings', { input: 'x' }]]) {
        for (const model of ['to-claude', 'claude-test-1']) {
            const answer = await s.ask(path, { model, ...body });
            assert.equal(answer.status, 400, answer.text);
            assert.match(answer.json.error.message, new RegExp(`do not speak this interface: ${path}`));
            assert.equal(answer.json.error.code, 'unsupported_interface');
        }
    }
    const counted = await anthropic(s).messages.countTokens({ model: 'to-cloud', system: 'Be short.', messages: [{ role: 'user', content: 'word '.repeat(400) }] });
    assert.ok(counted.input_tokens > 400 && counted.input_tokens < 600, `${counted.input_tokens}`);
    assert.deepEqual([s.cloud.count, s.claude.count], [0, 0]);
    await anthropic(s).messages.countTokens({ model: 'claude-test-1', messages: say.messages });
    assert.equal(s.claude.last.path, '/v1/messages/count_tokens');
});

aiFlow('a name that stands for a model is not in the answer, which others may get by another name', ACROSS, async (s) => {
    for (const stream of [false, true]) {
        const prompt = { messages: [{ role: 'user', content: `${stream}` }], max_tokens: 9 };
        const first = await s.chat({ model: 'to-claude', ...prompt, stream });
        const second = s.hit(await s.chat({ model: 'claude-test-1', ...prompt }));
        assert.doesNotMatch(first.text, /to-claude/);
        assert.equal(second.json.model, 'claude-test-1');
    }
});

aiFlow('what the last candidate cannot say does not hide why the first one failed', { ...ACROSS, models: {
    both: { candidates: [{ provider: 'cloud', model: 'gpt-4o-mini' }, { provider: 'claude', model: 'claude-test-1' }] } } }, async (s) => {
    const two = await s.chat({ model: 'both', n: 2 });
    assert.equal(two.status, 200);
    s.cloud.always({ error: 'server' });
    assert.equal((await s.chat({ model: 'both', n: 2, seed: 1 })).status, 502);
    assert.equal((await s.chat({ model: 'claude-test-1', n: 2 })).status, 400);
    assert.equal(s.claude.count, 0);
    s.cloud.always({ error: 'rate_limit', retryAfter: 500, headers: { 'x-should-retry': 'false', 'retry-after-ms': '500000' } });
    const limited = await s.chat({ model: 'both', n: 2, seed: 2 });
    assert.equal(limited.status, 429);
    assert.ok(Number(limited.header('retry-after')) <= 60, limited.header('retry-after'));
    assert.equal(limited.header('retry-after-ms'), undefined);
    assert.equal(limited.header('x-should-retry'), 'false');
});

aiFlow('usage: cached, written and thought tokens mean the same in the other dialect, whole and streamed', ACROSS, async (s) => {
    const usage = { input: 100, output: 20, cached: 60, cacheWrite: 10, reasoning: 7 };
    s.cloud.always({ usage });
    s.claude.always({ usage });
    for (const message of [await anthropic(s).messages.create(say), await anthropic(s).messages.stream({ ...say, top_k: 3 }).finalMessage()]) {
        assert.deepEqual(message.usage, { input_tokens: 40, cache_creation_input_tokens: 0, cache_read_input_tokens: 60, output_tokens: 20,
            output_tokens_details: { thinking_tokens: 7 } });
    }
    for (const answer of [await openai(s).chat.completions.create(ask),
        await openai(s).chat.completions.stream({ ...ask, seed: 3, stream_options: { include_usage: true } }).finalChatCompletion()]) {
        assert.deepEqual(answer.usage, { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120, prompt_tokens_details: { cached_tokens: 60 } });
    }
});

aiFlow('refusals keep their meaning', ACROSS, async (s) => {
    const refused = { id: 'x', object: 'chat.completion', model: 'g', choices: [{ index: 0, finish_reason: 'stop', message: { role: 'assistant', content: null, refusal: 'no' } }] };
    s.cloud.always({ raw: JSON.stringify(refused) });
    const message = await anthropic(s).messages.create(say);
    assert.deepEqual([message.stop_reason, message.content], ['refusal', [{ type: 'text', text: 'no' }]]);
    s.claude.always({ raw: JSON.stringify({ id: 'x', type: 'message', role: 'assistant', model: 'g', content: [], stop_reason: 'refusal', usage: { input_tokens: 1, output_tokens: 1 } }) });
    assert.equal((await openai(s).chat.completions.create(ask)).choices[0].finish_reason, 'content_filter');
});

aiFlow('images in the result of a tool, both ways', ACROSS, async (s) => {
    await s.chat({ model: 'to-claude', messages: [{ role: 'user', content: 'q' },
        { role: 'assistant', content: null, tool_calls: [{ id: 'c1', type: 'function', function: { name: 'weather', arguments: '' } }] },
        { role: 'tool', tool_call_id: 'c1', content: [{ type: 'text', text: 'see' }, { type: 'image_url', image_url: { url: `data:image/png;base64,${PIXEL}` } }] }],
    tools: [CHAT_TOOL] });
    assert.deepEqual(s.claude.last.json.messages[2].content, [{ type: 'tool_result', tool_use_id: 'c1', content: [{ type: 'text', text: 'see' },
        { type: 'image', source: { type: 'base64', media_type: 'image/png', data: PIXEL } }] }]);
    await s.message({ model: 'to-cloud', tools: [MESSAGE_TOOL], messages: [{ role: 'user', content: 'q' },
        { role: 'assistant', content: [{ type: 'tool_use', id: 'a', name: 'weather', input: {} }] },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'a', is_error: true, content: [{ type: 'text', text: 'bad' },
            { type: 'image', source: { type: 'url', url: 'https://site.test/a.png' } }] }] }] });
    assert.deepEqual(s.cloud.last.json.messages.slice(2), [{ role: 'tool', tool_call_id: 'a', content: 'Error: bad' },
        { role: 'user', content: [{ type: 'image_url', image_url: { url: 'https://site.test/a.png' } }] }]);
});

const CUTS = { 'a cut': { pieces: ['a ', 'b ', 'c'], cut: 2 }, 'a reset': { pieces: ['a ', 'b ', 'c'], cut: 2, reset: true }, 'an end too soon': { pieces: ['a ', 'b ', 'c'], end: 2 },
    'no terminal event': { pieces: ['a ', 'b ', 'c'], done: false }, 'an error inside': { pieces: ['a ', 'b '], error: 'server', inside: true, at: 1 },
    'an event that is no JSON': { pieces: ['a ', 'b ', 'c'], malformed: 1 } };
const drain = async (stream) => { for await (const event of await stream) { void event; } };
for (const [what, script] of Object.entries(CUTS)) {
    aiFlow(`the official clients notice a stream with ${what}, at every interface`, { ...ACROSS, providers: Object.fromEntries(Object.entries(TWO)
        .map(([name, given]) => [name, { ...given, config: { ...given.config, breaker: { failures: 1000 } } }])) }, async (s) => {
        s.cloud.always(script);
        s.claude.always(script);
        const own = { model: 'gpt-4o-mini', stream: true };
        for (const [name, run] of Object.entries({
            chat: () => drain(openai(s).chat.completions.create({ ...ask, ...own })), chatAcross: () => drain(openai(s).chat.completions.create({ ...ask, stream: true })),
            completions: () => drain(openai(s).completions.create({ prompt: 'x', ...own })), responses: () => drain(openai(s).responses.create({ input: 'x', ...own })),
            responsesHelper: () => openai(s).responses.stream({ model: 'gpt-4o-mini', input: 'x' }).finalResponse(),
            messages: () => drain(anthropic(s).messages.create({ ...say, model: 'claude-test-1', stream: true })),
            messagesAcross: () => anthropic(s).messages.stream(say).finalMessage(),
        })) {
            const error = await thrown(run());
            assert.ok(error instanceof OpenAI.APIError || error instanceof Anthropic.AnthropicError, `${name}: ${error.stack}`);
            assert.match(error.message, /provider|scripted/, name);
        }
    });
}
