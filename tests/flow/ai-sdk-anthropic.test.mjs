/** The client `@anthropic-ai/sdk` of npm, which knows nothing of the node but its base URL. */
import assert from 'node:assert/strict';
import { aiFlow, DIRECT, gate, MESSAGE } from './harness/ai.mjs';
import { Anthropic, anthropic, noting, thrown } from './harness/ai-clients.mjs';

const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const WEATHER = { name: 'weather', description: 'of a place',
    input_schema: { type: 'object', properties: { place: { type: 'string' } }, required: ['place'] } };
const SAID = 'answer 1 of claude to: What is the capital of France?';

aiFlow('a message is answered, and answered again from memory', async (s) => {
    const client = anthropic(s);
    const first = await client.messages.create(MESSAGE).withResponse();
    assert.equal(first.data.content[0].text, SAID);
    assert.equal(first.data.stop_reason, 'end_turn');
    assert.ok(first.data.usage.input_tokens > 0);
    assert.ok(first.data._request_id);
    s.miss(first.response);
    const second = await client.messages.create(MESSAGE).withResponse();
    s.hit(second.response, 'memory');
    if (!DIRECT) {
        assert.deepEqual(second.data, first.data);
        assert.equal(s.claude.count, 1);
    }
    assert.ok(DIRECT || s.claude.last.headers['x-api-key'] === 'sk-ant-test');
    assert.match(s.claude.last.headers['anthropic-version'], /^20\d\d-\d\d-\d\d$/); // as this client says it
});

aiFlow('a stream has its event lines; the helper assembles it; it is a hit for those who ask plain', async (s) => {
    const client = anthropic(s);
    const stream = client.messages.stream(MESSAGE);
    const types = [];
    stream.on('streamEvent', (event) => types.push(event.type));
    const message = await stream.finalMessage();
    assert.equal(message.content[0].text, SAID);
    assert.deepEqual([types[0], types.at(-1)], ['message_start', 'message_stop']);
    assert.ok(message.usage.output_tokens > 1);
    const plain = await client.messages.create(MESSAGE).withResponse();
    s.hit(plain.response);
    if (!DIRECT) {
        assert.deepEqual(plain.data.content, message.content);
        assert.deepEqual([plain.data.id, plain.data.stop_reason, plain.data.usage.output_tokens],
            [message.id, message.stop_reason, message.usage.output_tokens]);
    }
    const raw = await s.message({ stream: true });
    assert.ok(raw.events.every((event) => event.event === event.json.type), 'event: says what data says');
});

aiFlow('tool use, plain and streamed, with its result sent back', async (s) => {
    const client = anthropic(s);
    s.claude.on('claude-test-1', { text: 'I look.', tools: [{ id: 'toolu_a', name: 'weather', arguments: { place: 'Zürich "am See"' } }] });
    const ask = { ...MESSAGE, tools: [WEATHER], tool_choice: { type: 'auto' } };
    for (let i = 0; i < 2; i++) {
        for (const message of [await client.messages.create(ask), await client.messages.stream(ask).finalMessage()]) {
            assert.equal(message.stop_reason, 'tool_use');
            assert.deepEqual(message.content.map((block) => block.type), ['text', 'tool_use']);
            assert.deepEqual(message.content[1].input, { place: 'Zürich "am See"' });
            assert.equal(message.content[1].id, 'toolu_a');
        }
    }
    assert.ok(DIRECT || s.claude.count === 1, `${s.claude.count} calls`);
    const result = [{ type: 'tool_result', tool_use_id: 'toolu_a', content: [{ type: 'text', text: 'sunny' }] }];
    await client.messages.create({ ...ask, messages: [...ask.messages, { role: 'assistant', content: [
        { type: 'tool_use', id: 'toolu_a', name: 'weather', input: { place: 'Zürich' } }] }, { role: 'user', content: result }] });
    assert.deepEqual(s.claude.last.json.messages.at(-1).content, result);
});

aiFlow('images, thinking and system prompts go through as they are', async (s) => {
    const client = anthropic(s);
    s.claude.always({ reasoning: ['Let me', ' see.'], pieces: ['A pi', 'xel: ü', ' 漢字 🎈'] });
    const ask = {
        ...MESSAGE, system: [{ type: 'text', text: 'Be short.', cache_control: { type: 'ephemeral' } }],
        thinking: { type: 'enabled', budget_tokens: 1024 }, max_tokens: 2048,
        messages: [{ role: 'user', content: [
            { type: 'image', source: { type: 'base64', media_type: 'image/png', data: PIXEL } }, { type: 'text', text: 'What is this?' }] }],
    };
    for (const message of [await client.messages.stream(ask).finalMessage(), await client.messages.create(ask)]) {
        assert.equal(message.content[0].thinking, 'Let me see.');
        assert.equal(message.content[0].signature, 'c2lnbmVk');
        assert.equal(message.content[1].text, 'A pixel: ü 漢字 🎈');
    }
    const { stream, ...sent } = s.claude.last.json;
    assert.deepEqual(sent, ask);
});

aiFlow('tokens are counted, models listed', async (s) => {
    const client = anthropic(s);
    const { max_tokens, ...ask } = MESSAGE;
    const counted = await client.messages.countTokens(ask);
    assert.ok(counted.input_tokens > 0);
    const models = await client.models.list();
    assert.ok(models.data.length > 0);
    assert.ok(models.data[0].id);
});

aiFlow('betas reach the provider and tell answers apart', async (s) => {
    const client = anthropic(s);
    await client.beta.messages.create({ ...MESSAGE, betas: ['context-1m-2025-08-07'] });
    assert.equal(s.claude.last.headers['anthropic-beta'], 'context-1m-2025-08-07');
    await client.messages.create(MESSAGE);
    assert.equal(s.claude.count, 2);
});

for (const [kind, Class, status] of [['bad_request', Anthropic.BadRequestError, 400], ['not_found', Anthropic.NotFoundError, 404]]) {
    aiFlow(`an error of the provider is the client's own class: ${kind}`, async (s) => {
        s.claude.always({ error: kind, message: 'scripted words' });
        for (const more of [{}, { stream: true }]) {
            const error = await thrown(anthropic(s).messages.create({ ...MESSAGE, ...more }));
            assert.ok(error instanceof Class, `${error.constructor.name}: ${error.message}`);
            assert.equal(error.status, status);
            assert.equal(error.error.type, 'error');
            assert.match(error.error.error.message, /scripted words/);
        }
        assert.equal(s.claude.count, 2);
    });
}

aiFlow('overload and rate limits are errors that may be tried again, soon', async (s) => {
    for (const [kind, statuses] of [['overloaded', [503, 529]], ['rate_limit', [429, 503]]]) {
        s.claude.always({ error: kind, retryAfter: 7200 });
        const error = await thrown(anthropic(s).messages.create({ ...MESSAGE, system: kind }));
        assert.ok(error instanceof Anthropic.APIError);
        assert.ok(statuses.includes(error.status), `${kind}: ${error.status}`);
        assert.equal(error.error.type, 'error');
        const after = error.headers.get('retry-after');
        assert.ok(DIRECT || (after !== null && Number(after) <= 60), `retry-after: ${after}`);
    }
});

aiFlow('a stream that breaks off is an error to the client', async (s) => {
    for (const script of [{ pieces: ['one ', 'two ', 'three'], cut: 2 }, { pieces: ['one ', 'two '], end: 1 },
        { pieces: ['one ', 'two '], error: 'overloaded', inside: true, at: 1 }]) {
        s.claude.next(script);
        const stream = await anthropic(s).messages.create({ ...MESSAGE, stream: true });
        let text = '';
        const error = DIRECT ? new Anthropic.APIError() : await thrown((async () => {
            for await (const event of stream) {
                text += event.delta?.text ?? '';
            }
        })());
        assert.ok(error instanceof Anthropic.APIError, `${error.constructor.name}: ${error.message}`);
        assert.ok(DIRECT || text.startsWith('one '), text);
    }
    assert.ok(DIRECT || s.claude.count === 3, 'nothing of it was stored');
});

aiFlow('a client that leaves in the middle ends the call', async (s) => {
    const door = gate();
    s.claude.next({ pieces: ['one ', 'two ', 'three'], between: door.at(1) });
    const stream = await anthropic(s).messages.create({ ...MESSAGE, stream: true });
    for await (const event of stream) {
        if (event.type === 'content_block_delta') {
            stream.controller.abort();
            break;
        }
    }
    assert.equal(await s.claude.last.gone, true);
    door.open();
});

aiFlow('a connection cut before the first byte: the client has an answer all the same', async (s) => {
    s.claude.next({ cut: 'connect' });
    const message = await anthropic(s, { maxRetries: 2 }).messages.create(MESSAGE);
    assert.match(message.content[0].text, /^answer \d of claude/);
    assert.equal(s.claude.count, 2);
});

aiFlow('what must not be tried again is not', { needs: 'node' }, async (s) => {
    const calls = noting();
    s.claude.always({ error: 'bad_request' });
    await thrown(anthropic(s, { maxRetries: 2, fetch: calls }).messages.create(MESSAGE));
    assert.equal(calls.calls.length, 1);
    assert.equal(s.claude.count, 1);
});
