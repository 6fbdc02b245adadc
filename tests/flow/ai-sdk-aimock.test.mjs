/** A provider that others wrote (aimock of npm) behind the node: its shapes are not ours. */
import assert from 'node:assert/strict';
import { LLMock } from '@copilotkit/aimock';
import { generateText, streamText } from 'ai';
import { aiFlow, DIRECT, MESSAGE } from './harness/ai.mjs';
import { anthropic, openai, sdk, thrown } from './harness/ai-clients.mjs';

const ASK = { model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'hello there' }] };
const TOOL = { type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: { place: { type: 'string' } } } } };

/** One aimock as both providers: it speaks both dialects on one port. */
function mocked(name, body) {
    aiFlow(name, { node: false }, async (s) => {
        s.mock = await LLMock.create({ port: 0 });
        s.after(() => s.mock.stop());
        const { port } = new URL(s.mock.url);
        const both = { cloud: { url: `${s.mock.url}/v1`, dialect: 'openai', config: { keys: ['sk-a'], models: ['gpt-*', 'text-*'] } },
            claude: { url: s.mock.url, dialect: 'anthropic', config: { keys: ['sk-b'], models: ['claude-*'] } } };
        if (DIRECT) {
            s.base = () => s.mock.url;
        } else {
            s.node = await s.startNode({ config: s.config({ providers: both }) });
        }
        s.mock.onMessage('hello', { content: 'Hi from aimock, ü 漢字!' });
        await body(s, port);
    });
}

async function collect(stream) {
    let text = '';
    for await (const chunk of stream) {
        text += chunk.choices[0]?.delta.content ?? '';
    }
    return text;
}

mocked('aimock: chat, plain and streamed, one call for both', async (s) => {
    const client = openai(s);
    const plain = await client.chat.completions.create(ASK);
    assert.equal(plain.choices[0].message.content, 'Hi from aimock, ü 漢字!');
    assert.equal(await collect(await client.chat.completions.create({ ...ASK, stream: true })), 'Hi from aimock, ü 漢字!');
    assert.ok(DIRECT || s.mock.getRequests().length === 1);
});

mocked('aimock: messages, plain and streamed, one call for both', async (s) => {
    const client = anthropic(s);
    const ask = { ...MESSAGE, messages: ASK.messages };
    const streamed = await client.messages.stream(ask).finalMessage();
    assert.equal(streamed.content[0].text, 'Hi from aimock, ü 漢字!');
    assert.equal((await client.messages.create(ask)).content[0].text, 'Hi from aimock, ü 漢字!');
    assert.ok(DIRECT || s.mock.getRequests().length === 1);
});

mocked('aimock: responses, plain and streamed', async (s) => {
    const client = openai(s);
    const ask = { model: 'gpt-4o-mini', input: 'hello there' };
    assert.equal((await client.responses.create(ask)).output_text, 'Hi from aimock, ü 漢字!');
    assert.equal((await client.responses.stream(ask).finalResponse()).output_text, 'Hi from aimock, ü 漢字!');
});

mocked('aimock: tool calls of both dialects', async (s) => {
    s.mock.onMessage('weather', { toolCalls: [{ name: 'weather', arguments: { place: 'Paris' } }] });
    const ask = { ...ASK, messages: [{ role: 'user', content: 'weather?' }], tools: [TOOL] };
    const plain = await openai(s).chat.completions.create(ask);
    assert.equal(plain.choices[0].message.tool_calls[0].function.arguments, '{"place":"Paris"}');
    const streamed = await openai(s).chat.completions.stream(ask).finalChatCompletion();
    assert.deepEqual(JSON.parse(streamed.choices[0].message.tool_calls[0].function.arguments), { place: 'Paris' });
    const message = await anthropic(s).messages.stream({ ...MESSAGE, messages: ask.messages,
        tools: [{ name: 'weather', input_schema: TOOL.function.parameters }] }).finalMessage();
    assert.deepEqual(message.content.at(-1).input, { place: 'Paris' });
});

mocked('aimock: embeddings', async (s) => {
    s.mock.onEmbedding('hello', { embedding: [0.5, -0.25, 1] });
    const { data } = await openai(s).embeddings.create({ model: 'text-embedding-3-small', input: 'hello' });
    assert.deepEqual([...data[0].embedding], [0.5, -0.25, 1]);
});

mocked('aimock: errors are errors, and not stored', async (s) => {
    s.mock.nextRequestError(400, { message: 'scripted words', type: 'invalid_request_error' });
    const error = await thrown(openai(s).chat.completions.create(ASK));
    assert.equal(error.status, 400);
    assert.match(error.message, /scripted words/);
    assert.equal((await openai(s).chat.completions.create(ASK)).choices[0].message.content, 'Hi from aimock, ü 漢字!');
});

mocked('aimock: a stream cut short is an error', async (s) => {
    s.mock.prependFixture({ match: { userMessage: 'cut' }, response: { content: 'a long answer that will never be whole' }, chunkSize: 5, truncateAfterChunks: 3 });
    const asked = async () => collect(await openai(s).chat.completions.create({ ...ASK, stream: true, messages: [{ role: 'user', content: 'cut' }] }));
    assert.ok(await thrown(asked())); // aimock drops what it has not sent yet: the cut may come before any content
    assert.ok(await thrown(asked()), 'nor is it stored');
});

mocked('aimock: the package `ai`', async (s) => {
    for (const model of [sdk.openai(s)('gpt-4o-mini'), sdk.compatible(s)('gpt-4o-mini'), sdk.anthropic(s)('claude-test-1')]) {
        assert.equal((await generateText({ model, prompt: 'hello', maxRetries: 0 })).text, 'Hi from aimock, ü 漢字!');
        let text = '';
        for await (const part of streamText({ model, prompt: 'hello', maxRetries: 0 }).textStream) {
            text += part;
        }
        assert.equal(text, 'Hi from aimock, ü 漢字!');
    }
});
