/** One stored form for both modes: what the official clients make of a replay is what they make of the provider's own answer. */
import assert from 'node:assert/strict';
import { aiFlow, CHAT, gate, MESSAGE } from './harness/ai.mjs';
import { anthropic, openai } from './harness/ai-clients.mjs';

const NODE = { needs: 'node' };
const user = (content) => ({ messages: [{ role: 'user', content }] });
const copy = (value) => JSON.parse(JSON.stringify(value));
const token = (text) => ({ token: text, logprob: -0.1, bytes: [...Buffer.from(text)], top_logprobs: [{ token: text, logprob: -0.1, bytes: null }] });
const call = (id, name, args) => ({ id, type: 'function', function: { name, arguments: args } });
const CITED = { type: 'url_citation', url_citation: { start_index: 0, end_index: 2, url: 'https://site.test/a', title: 't' } };

/** Everything a chat can say: choices, logprobs, citations, a refusal, parallel calls. */
const CHOICES = { id: 'chatcmpl-1', object: 'chat.completion', created: 1, model: 'gpt-4o-mini', service_tier: 'default', system_fingerprint: 'fp', choices: [
    { index: 0, message: { role: 'assistant', content: 'Hi "é" \u{1F600} there', refusal: null, annotations: [CITED] },
        logprobs: { content: [token('Hi'), token(' there')], refusal: null }, finish_reason: 'stop' },
    { index: 1, message: { role: 'assistant', content: null, refusal: 'I can not', annotations: [] }, logprobs: { content: null, refusal: [token('I')] }, finish_reason: 'stop' },
    { index: 2, message: { role: 'assistant', content: null, refusal: null, tool_calls: [call('a', 'f', '{"a":"x\\"y"}'), call('b', 'g', '{}')] }, logprobs: null, finish_reason: 'tool_calls' },
], usage: { prompt_tokens: 5, completion_tokens: 7, total_tokens: 12, prompt_tokens_details: { cached_tokens: 2 } } };

/** The same as a provider streams it. */
function chunks() {
    const chunk = (choices, more = {}) => `data: ${JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: 'gpt-4o-mini',
        service_tier: 'default', system_fingerprint: 'fp', choices, usage: null, obfuscation: 'xx', ...more })}\n\n`;
    const delta = (index, said, logprobs = null, finish_reason = null) => chunk([{ index, delta: said, logprobs, finish_reason }]);
    return [delta(0, { role: 'assistant', content: '', refusal: null }), delta(1, { role: 'assistant', content: '', refusal: null, annotations: [] }),
        delta(2, { role: 'assistant', content: null, refusal: null }), delta(0, { content: 'Hi "é" ' }, { content: [token('Hi')], refusal: null }),
        delta(1, { refusal: 'I can' }, { content: null, refusal: [token('I')] }), delta(0, { content: '\u{1F600} there' }, { content: [token(' there')], refusal: null }),
        delta(1, { refusal: ' not' }), delta(2, { tool_calls: [{ index: 0, ...call('a', 'f', '') }] }), delta(2, { tool_calls: [{ index: 1, ...call('b', 'g', '') }] }),
        delta(2, { tool_calls: [{ index: 0, function: { arguments: '{"a":' } }] }), delta(2, { tool_calls: [{ index: 1, function: { arguments: '{}' } }] }),
        delta(2, { tool_calls: [{ index: 0, function: { arguments: '"x\\"y"}' } }] }), delta(0, { annotations: [CITED] }), delta(0, {}, null, 'stop'), delta(1, {}, null, 'stop'),
        delta(2, {}, null, 'tool_calls'), chunk([], { usage: CHOICES.usage }), 'data: [DONE]\n\n'].join('');
}

const TOOLS = ['f', 'g'].map((name) => ({ type: 'function', function: { name, parameters: {} } }));
const WIDE = { ...CHAT, n: 3, tools: TOOLS, logprobs: true };
/** The helper of the client adds what it parsed, and leaves out what it does not know. */
const finalChat = async (s, more) => {
    const chat = copy(await openai(s).chat.completions.stream({ ...WIDE, ...more, stream_options: { include_usage: true } }).finalChatCompletion());
    chat.choices.forEach((choice) => { delete choice.message.parsed; });
    return chat;
};

aiFlow('chat: a plain answer, replayed, and a stream, put together, are the same to the client', NODE, async (s) => {
    s.cloud.next({ raw: JSON.stringify(CHOICES) }, { raw: chunks(), type: 'text/event-stream' });
    assert.deepEqual(copy(await openai(s).chat.completions.create(WIDE)), CHOICES);
    const replayed = await finalChat(s);
    const streamed = await finalChat(s, { seed: 1 });
    streamed.choices[1].message.content ||= null; // as the provider began it
    for (const choice of streamed.choices) { // the helper lets the last of several lists win
        assert.deepEqual({ ...choice, message: { ...choice.message, annotations: undefined } },
            { ...replayed.choices[choice.index], message: { ...replayed.choices[choice.index].message, annotations: undefined } });
    }
    assert.deepEqual(copy(await openai(s).chat.completions.create({ ...WIDE, seed: 1 })), CHOICES);
    assert.equal(s.cloud.count, 2);
});

const ANSWER = { id: 'msg_1', type: 'message', role: 'assistant', model: 'claude-test-1', content: [
    { type: 'thinking', thinking: 'deep "thought"', signature: 'c2ln' }, { type: 'redacted_thinking', data: 'abc' },
    { type: 'text', text: 'The sky', citations: [{ type: 'char_location', cited_text: 'sky', document_index: 0, document_title: 'd', start_char_index: 0, end_char_index: 3 }] },
    { type: 'tool_use', id: 'toolu_1', name: 'f', input: { a: [1, { b: 'ü"' }], n: 1.5 } }, { type: 'tool_use', id: 'toolu_2', name: 'g', input: {} },
], stop_reason: 'refusal', stop_sequence: null, stop_details: { type: 'refusal', category: 'cyber' }, container: null, usage: { input_tokens: 3,
    cache_creation_input_tokens: 1, cache_read_input_tokens: 2, cache_creation: { ephemeral_5m_input_tokens: 1, ephemeral_1h_input_tokens: 0 }, output_tokens: 9, service_tier: 'standard' } };

aiFlow('messages: thoughts, citations, calls and why it stopped, both ways', NODE, async (s) => {
    s.claude.next({ raw: JSON.stringify(ANSWER) });
    assert.deepEqual(copy(await anthropic(s).messages.create(MESSAGE)), ANSWER);
    const { data: stream } = await anthropic(s).messages.stream(MESSAGE).withResponse();
    const { parsed_output, ...final } = copy(await stream.finalMessage());
    assert.deepEqual(final, ANSWER);
    assert.equal(parsed_output, null);
    assert.equal(s.claude.count, 1);
    await s.message({}, { 'Cache-Control': 'no-cache' });
    s.claude.next({ raw: JSON.stringify(ANSWER) });
    await s.message(user('another'));
    const replayed = s.hit(await s.message({ ...user('another'), stream: true }));
    s.claude.next({ raw: replayed.text, type: 'text/event-stream' });
    await s.message({ ...user('a third'), stream: true });
    assert.deepEqual(s.hit(await s.message(user('a third'))).json, ANSWER);
});

const RESPONSE = { id: 'resp_1', object: 'response', created_at: 1, status: 'completed', background: false, error: null, incomplete_details: null, instructions: null, model: 'gpt-4o-mini', output: [
    { id: 'rs_1', type: 'reasoning', summary: [{ type: 'summary_text', text: 'thinking about it' }], encrypted_content: 'zzz' },
    { id: 'msg_1', type: 'message', status: 'completed', role: 'assistant', content: [{ type: 'output_text', text: 'Hello there, "you"', logprobs: [],
        annotations: [{ type: 'url_citation', start_index: 0, end_index: 3, url: 'https://site.test/a', title: 'x' }] }, { type: 'refusal', refusal: 'no more' }] },
    { id: 'fc_1', type: 'function_call', status: 'completed', call_id: 'call_1', name: 'f', arguments: '{"a":1}' },
    { id: 'ct_1', type: 'custom_tool_call', status: 'completed', call_id: 'call_2', name: 'g', input: 'raw words' },
], parallel_tool_calls: true, temperature: 1, tool_choice: 'auto', tools: [], top_p: 1, metadata: {}, text: { format: { type: 'text' } },
usage: { input_tokens: 1, input_tokens_details: { cached_tokens: 0 }, output_tokens: 2, output_tokens_details: { reasoning_tokens: 1 }, total_tokens: 3 } };

aiFlow('responses: items of every kind, both ways', NODE, async (s) => {
    s.cloud.next({ raw: JSON.stringify(RESPONSE) });
    const asked = { model: 'gpt-4o-mini', input: 'x' };
    await openai(s).responses.create(asked);
    const { output_parsed, output_text, ...final } = copy(await openai(s).responses.stream(asked).finalResponse());
    final.output.forEach((item) => { delete item.parsed_arguments; item.content?.forEach((part) => { delete part.parsed; }); });
    assert.deepEqual(final, RESPONSE);
    assert.deepEqual([output_parsed, output_text ?? 'Hello there, "you"'], [null, 'Hello there, "you"']);
    const replayed = s.hit(await s.ask('/v1/responses', { ...asked, stream: true }));
    assert.deepEqual(replayed.events.map((event) => event.json.sequence_number), replayed.events.map((_, i) => i));
    s.cloud.next({ raw: replayed.text, type: 'text/event-stream' });
    await s.ask('/v1/responses', { ...asked, input: 'y', stream: true });
    assert.deepEqual(s.hit(await s.ask('/v1/responses', { ...asked, input: 'y' })).json, RESPONSE);
});

aiFlow('whole and streamed, with usage and without, at once: one call, each gets what it asked for', NODE, async (s) => {
    for (const [round, stream] of [false, true].entries()) { // of the first one, whose call it is
        const door = gate();
        s.cloud.next({ wait: door.held, pieces: ['one ', 'two'] });
        const kinds = [{ stream }, { stream: !stream }, { stream: true, stream_options: { include_usage: true } }, { stream: true }, {}];
        const first = await s.asking('/v1/chat/completions', { ...CHAT, seed: round, ...kinds[0] });
        await s.cloud.arrived(round + 1);
        const clients = [first, ...await Promise.all(kinds.slice(1).map((kind) => s.asking('/v1/chat/completions', { ...CHAT, seed: round, ...kind })))];
        await s.node.settled(kinds.length);
        door.open();
        for (const [i, client] of clients.entries()) {
            const { text, status } = await client.response();
            assert.equal(status, 200, text);
            assert.match(text, kinds[i].stream ? /one[^]*two[^]*\[DONE\]/ : /one two/);
            assert.equal(/"usage":\{/.test(text), !kinds[i].stream || Boolean(kinds[i].stream_options), JSON.stringify(kinds[i]));
        }
        assert.equal(s.cloud.count, round + 1);
    }
});

for (const pace of [1, 4000]) {
    aiFlow(`a pace spreads a replay over time without changing a byte (${pace})`, { ...NODE, route: { pace } }, async (s) => {
        s.cloud.next({ text: 'word '.repeat(80) });
        const first = await s.chat({ stream: true });
        const client = await s.asking('/v1/chat/completions', { ...CHAT, stream: true });
        const head = s.hit(await client.head());
        if (pace > 1) {
            await client.body(head);
            assert.equal(head.text, first.text);
        } else { // it would take more than a minute
            await s.node.settled();
            const got = await client.line();
            assert.ok(Number.parseInt(got, 16) < first.text.length / 4, `the size of the first piece: ${got}`);
            client.close();
        }
    });
}

aiFlow('other paths: bytes of any kind go through both ways, unread and unkept', NODE, async (s) => {
    const file = Buffer.from(Array.from({ length: 70_000 }, (_, i) => (i * 7) % 256));
    const speech = await openai(s).audio.transcriptions.create({ model: 'whisper-1', file: new File([file], 'speech.mp3', { type: 'audio/mpeg' }) });
    assert.equal(speech.object, 'echo');
    const { headers, body, key } = s.cloud.requests.at(-1);
    assert.match(headers['content-type'], /^multipart\/form-data; boundary=/);
    assert.ok(body.includes(file), 'byte by byte');
    assert.match(key, /^sk-test-/);
    const before = s.cloud.requests.length;
    for (let i = 0; i < 2; i++) {
        await openai(s).files.list({ limit: 3, after: 'f' });
        assert.equal(s.cloud.requests.length, before + i + 1);
        assert.equal(s.cloud.requests.at(-1).url, '/v1/files?limit=3&after=f');
    }
    await openai(s).files.delete('file-1');
    assert.equal(s.cloud.requests.at(-1).method, 'DELETE');
    const head = await s.node.get('/v1/files/file-1', { Accept: 'application/x-any' }, { method: 'HEAD' });
    assert.deepEqual([head.status, head.text, s.cloud.requests.at(-1).headers.accept], [200, '', 'application/x-any']);
    assert.equal((await s.node.get('/v1/models', {}, { method: 'HEAD' })).status, 200);
});
