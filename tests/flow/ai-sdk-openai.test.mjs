/** The client `openai` of npm, which knows nothing of the node but its base URL. */
import assert from 'node:assert/strict';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { aiFlow, CHAT, DIRECT, gate } from './harness/ai.mjs';
import { noting, openai, OpenAI, thrown } from './harness/ai-clients.mjs';

const PIXEL = 'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const WEATHER = { type: 'function', function: { name: 'weather', description: 'of a place',
    parameters: { type: 'object', properties: { place: { type: 'string' } }, required: ['place'] } } };

async function collect(stream) {
    const chunks = [];
    for await (const chunk of stream) {
        chunks.push(chunk);
    }
    return { chunks, text: chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''),
        usage: chunks.findLast((chunk) => chunk.usage)?.usage };
}

aiFlow('a chat is answered, and answered again from memory', async (s) => {
    const client = openai(s);
    const first = await client.chat.completions.create(CHAT).withResponse();
    assert.equal(first.data.choices[0].message.content, 'answer 1 of cloud to: What is the capital of France?');
    assert.ok(first.data.usage.total_tokens > 0);
    assert.ok(first.data._request_id);
    s.miss(first.response);
    const second = await client.chat.completions.create(CHAT).withResponse();
    s.hit(second.response, 'memory');
    if (!DIRECT) {
        assert.deepEqual(second.data, first.data);
        assert.equal(s.cloud.count, 1);
        assert.equal(s.wall(first.response).provider, 'cloud');
    }
});

aiFlow('a stream ends with [DONE]; usage is there for those who ask, and only for them', async (s) => {
    const client = openai(s);
    const plain = await collect(await client.chat.completions.create({ ...CHAT, stream: true }));
    assert.equal(plain.text, 'answer 1 of cloud to: What is the capital of France?');
    assert.ok(plain.chunks.every((chunk) => chunk.choices.length === 1 && !chunk.usage), 'no chunk for usage');
    const asking = await client.chat.completions.create({ ...CHAT, stream: true, stream_options: { include_usage: true } }).withResponse();
    const asked = await collect(asking.data);
    assert.ok(asked.usage.total_tokens > 0);
    assert.equal(asked.chunks.at(-1).choices.length, 0);
    s.hit(asking.response);
    if (!DIRECT) {
        assert.equal(asked.text, plain.text);
        assert.equal(s.cloud.last.json.stream_options.include_usage, true);
    }
});

aiFlow('the stream helper, and tools that it runs', async (s) => {
    s.cloud.next({ tools: [{ name: 'weather', arguments: { place: 'Paris' } }] }, { text: 'It is sunny.' });
    const runner = openai(s).chat.completions.runTools({
        model: CHAT.model, stream: true, messages: [{ role: 'user', content: 'How is the weather in Paris?' }],
        tools: [{ type: 'function', function: { ...WEATHER.function, parse: JSON.parse, function: ({ place }) => `sunny in ${place}` } }],
    });
    assert.equal(await runner.finalContent(), 'It is sunny.');
    assert.equal(s.cloud.requests[1].json.messages.at(-1).content, 'sunny in Paris');
    assert.equal(s.cloud.requests[1].json.messages.at(-2).tool_calls[0].function.arguments, '{"place":"Paris"}');
});

aiFlow('tool calls come whole, plain and streamed, again from what is stored', async (s) => {
    const client = openai(s);
    const ask = { ...CHAT, tools: [WEATHER], tool_choice: 'auto' };
    s.cloud.always({ tools: [{ id: 'call_a', name: 'weather', arguments: { place: 'Zürich "am See"' } }, { id: 'call_b', name: 'weather', arguments: {} }] });
    for (let i = 0; i < 2; i++) {
        const { choices: [choice] } = await client.chat.completions.create(ask);
        assert.equal(choice.finish_reason, 'tool_calls');
        assert.deepEqual(choice.message.tool_calls.map((call) => [call.id, JSON.parse(call.function.arguments)]),
            [['call_a', { place: 'Zürich "am See"' }], ['call_b', {}]]);
        const streamed = await client.chat.completions.stream(ask).finalChatCompletion();
        assert.deepEqual(streamed.choices[0].message.tool_calls.map((call) => [call.id, JSON.parse(call.function.arguments)]),
            [['call_a', { place: 'Zürich "am See"' }], ['call_b', {}]]);
    }
    assert.ok(DIRECT || s.cloud.count === 1, `${s.cloud.count} calls`);
});

aiFlow('structured output is parsed', async (s) => {
    s.cloud.always({ text: '{"city":"Paris","people":2102650}' });
    const client = openai(s);
    const ask = { ...CHAT, response_format: zodResponseFormat(z.object({ city: z.string(), people: z.number() }), 'place') };
    for (let i = 0; i < 2; i++) {
        const answer = await client.chat.completions.parse(ask);
        assert.deepEqual(answer.choices[0].message.parsed, { city: 'Paris', people: 2102650 });
    }
    assert.equal(s.cloud.last.json.response_format.json_schema.name, 'place');
});

aiFlow('images and reasoning go through as they are', async (s) => {
    const content = [{ type: 'text', text: 'What is this?' }, { type: 'image_url', image_url: { url: PIXEL, detail: 'low' } }];
    s.cloud.always({ reasoning: ['Let me', ' see.'], pieces: ['A pi', 'xel: ü', ' 漢字 🎈'] });
    const client = openai(s);
    const streamed = await collect(await client.chat.completions.create({ ...CHAT, messages: [{ role: 'user', content }], stream: true }));
    assert.equal(streamed.text, 'A pixel: ü 漢字 🎈');
    assert.equal(streamed.chunks.map((chunk) => chunk.choices[0]?.delta.reasoning_content ?? '').join(''), 'Let me see.');
    assert.deepEqual(s.cloud.last.json.messages[0].content, content);
    const plain = await client.chat.completions.create({ ...CHAT, messages: [{ role: 'user', content }] });
    assert.equal(plain.choices[0].message.content, 'A pixel: ü 漢字 🎈');
    assert.equal(plain.choices[0].message.reasoning_content, 'Let me see.');
});

aiFlow('the responses interface, plain and streamed', async (s) => {
    const client = openai(s);
    const ask = { model: 'gpt-4o-mini', input: 'What is the capital of France?' };
    const first = await client.responses.create(ask).withResponse();
    assert.equal(first.data.output_text, 'answer 1 of cloud to: What is the capital of France?');
    const second = await client.responses.create(ask).withResponse();
    s.hit(second.response, 'memory');
    s.cloud.always({ reasoning: ['hm'], pieces: ['one ', 'two'], tools: [{ name: 'weather', arguments: { place: 'Paris' } }] });
    const stream = client.responses.stream({ ...ask, input: [{ role: 'user', content: 'Count.' }] });
    const types = [];
    for await (const event of stream) {
        types.push(event.type);
    }
    assert.equal(types.at(-1), 'response.completed');
    const final = await stream.finalResponse();
    assert.equal(final.output_text, 'one two');
    assert.equal(final.output.at(-1).arguments, '{"place":"Paris"}');
});

aiFlow('completions, plain and streamed', async (s) => {
    const client = openai(s);
    const ask = { model: 'gpt-3.5-turbo-instruct', prompt: 'Once upon' };
    assert.equal((await client.completions.create(ask)).choices[0].text, 'answer 1 of cloud to: Once upon');
    let text = '';
    for await (const chunk of await client.completions.create({ ...ask, stream: true })) {
        text += chunk.choices[0].text;
    }
    assert.match(text, /^answer \d of cloud to: Once upon$/);
    assert.ok(DIRECT || s.cloud.count === 1, `${s.cloud.count} calls`);
});

aiFlow('embeddings are the same as base64 and as numbers', async (s) => {
    const client = openai(s);
    const ask = { model: 'text-embedding-3-small', input: ['one', 'two'], dimensions: 16 };
    const base64 = await client.embeddings.create(ask).withResponse(); // the client asks for base64 by itself
    assert.equal(s.cloud.last.json.encoding_format, 'base64');
    const floats = await client.embeddings.create({ ...ask, encoding_format: 'float' });
    assert.equal(floats.data.length, 2);
    for (const [i, { embedding }] of base64.data.data.entries()) {
        assert.equal(embedding.length, 16);
        floats.data[i].embedding.forEach((value, j) => assert.ok(Math.abs(value - embedding[j]) < 1e-6));
    }
    const again = await client.embeddings.create(ask).withResponse();
    s.hit(again.response, 'memory');
    assert.deepEqual(again.data.data, base64.data.data);
});

aiFlow('models are listed, and other paths are passed through', async (s) => {
    const client = openai(s);
    const models = await client.models.list();
    assert.ok(models.data.length > 0);
    const echo = await client.post('/audio/transcriptions', { body: { any: 'thing' } });
    assert.equal(echo.object, 'echo');
    assert.equal(echo.url, '/v1/audio/transcriptions');
    const twice = await client.get('/batches?limit=2');
    assert.equal(twice.url, '/v1/batches?limit=2');
    assert.equal(twice.method, 'GET');
});

const KINDS = [
    ['bad_request', OpenAI.BadRequestError, 400], ['not_found', OpenAI.NotFoundError, 404],
    ['unprocessable', OpenAI.UnprocessableEntityError, 422],
];
for (const [kind, Class, status] of KINDS) {
    aiFlow(`an error of the provider is the client's own class: ${kind}`, async (s) => {
        s.cloud.always({ error: kind, message: 'scripted words' });
        for (const more of [{}, { stream: true }]) {
            const error = await thrown(openai(s).chat.completions.create({ ...CHAT, ...more }));
            assert.ok(error instanceof Class, `${error.constructor.name}: ${error.message}`);
            assert.equal(error.status, status);
            assert.match(error.message, /scripted words/);
        }
        assert.equal(s.cloud.count, 2, 'neither stored nor tried again');
    });
}

aiFlow('a storm of 429 is a RateLimitError with a short Retry-After', async (s) => {
    s.cloud.always({ error: 'rate_limit', retryAfter: 3600 });
    const error = await thrown(openai(s).chat.completions.create(CHAT));
    assert.ok(error.status === 429 || error.status === 503, `${error.status}`);
    if (!DIRECT) {
        const after = Number(error.headers.get('retry-after'));
        assert.ok(after >= 1 && after <= 60, `retry-after: ${error.headers.get('retry-after')}`);
    }
});

aiFlow('a provider that is down is an APIError, not a hang', async (s) => {
    s.cloud.always({ error: 'server' });
    const error = await thrown(openai(s).chat.completions.create(CHAT));
    assert.ok(error instanceof OpenAI.InternalServerError, error.constructor.name);
    assert.ok(error.status >= 500);
});

aiFlow('a stream that breaks off is an error to the client, which would not notice otherwise', async (s) => {
    for (const script of [{ pieces: ['one ', 'two ', 'three'], cut: 2 }, { pieces: ['one ', 'two '], end: 1 },
        { pieces: ['one ', 'two '], error: 'server', inside: true, at: 1 }]) {
        s.cloud.next(script);
        const stream = await openai(s).chat.completions.create({ ...CHAT, stream: true });
        let text = '';
        const error = DIRECT ? new OpenAI.APIError() : await thrown((async () => {
            for await (const chunk of stream) {
                text += chunk.choices[0]?.delta.content ?? '';
            }
        })());
        assert.ok(error instanceof OpenAI.APIError, `${error.constructor.name}: ${error.message}`);
        assert.ok(DIRECT || text.startsWith('one '), text);
    }
    assert.ok(DIRECT || s.cloud.count === 3, 'nothing of it was stored');
});

aiFlow('a client that leaves in the middle ends the call', async (s) => {
    const door = gate();
    s.cloud.next({ pieces: ['one ', 'two ', 'three'], between: door.at(1) });
    const stream = await openai(s).chat.completions.create({ ...CHAT, stream: true });
    for await (const chunk of stream) {
        if (chunk.choices[0].delta.content) {
            stream.controller.abort();
            break;
        }
    }
    assert.equal(await s.cloud.last.gone, true, 'the provider was left');
    door.open();
    s.miss(await s.chat());
    assert.equal(s.cloud.count, 2);
});

aiFlow('a client that gives up before the first token', async (s) => {
    const door = gate();
    s.cloud.next({ wait: door.held });
    const controller = new AbortController();
    const waiting = thrown(openai(s).chat.completions.create(CHAT, { signal: controller.signal }));
    await s.cloud.arrived(1);
    controller.abort();
    assert.ok(await waiting instanceof OpenAI.APIUserAbortError);
    assert.equal(await s.cloud.last.gone, true);
    door.open();
});

aiFlow('a connection cut before the first byte: the client has an answer all the same', async (s) => {
    s.cloud.next({ cut: 'connect' });
    const calls = noting();
    const answer = await openai(s, { maxRetries: 2, fetch: calls }).chat.completions.create(CHAT);
    assert.match(answer.choices[0].message.content, /^answer \d of cloud/);
    assert.equal(s.cloud.count, 2);
});

aiFlow('what must not be tried again says x-should-retry: false', { needs: 'node' }, async (s) => {
    const calls = noting();
    s.cloud.always({ error: 'bad_request' });
    await thrown(openai(s, { maxRetries: 2, fetch: calls }).chat.completions.create(CHAT));
    assert.equal(calls.calls.length, 1);
    assert.equal(s.cloud.count, 1);
});

aiFlow('request headers of the client that are not for the provider stay here, others go on', async (s) => {
    await openai(s, { organization: 'org-x', project: 'proj-x', defaultHeaders: { 'OpenAI-Beta': 'assistants=v2' } })
        .chat.completions.create(CHAT);
    const { headers, json } = s.cloud.last;
    assert.equal(headers['openai-beta'], 'assistants=v2');
    assert.equal(headers['content-type'], 'application/json');
    assert.deepEqual(json, CHAT);
    assert.ok(DIRECT || /^Bearer sk-test-[12]$/.test(headers.authorization), headers.authorization);
});
