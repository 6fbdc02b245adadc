/** The package `ai` with three of its providers, and LangChain: clients that are built upon others, or speak by themselves. */
import assert from 'node:assert/strict';
import { embedMany, generateText, Output, stepCountIs, streamText, tool } from 'ai';
import { HumanMessage } from '@langchain/core/messages';
import { tool as langchainTool } from '@langchain/core/tools';
import { z } from 'zod';
import { aiFlow, DIRECT } from './harness/ai.mjs';
import { langchain, sdk, thrown } from './harness/ai-clients.mjs';

const PROMPT = 'What is the capital of France?';
const NONE = { maxRetries: 0 };
const PLACE = z.object({ city: z.string(), people: z.number() });

/** Models as the three providers of `ai` make them, and which scripted provider is behind. */
const MODELS = {
    'openai (responses)': (s) => [sdk.openai(s)('gpt-4o-mini'), s.cloud],
    'openai (chat)': (s) => [sdk.openai(s).chat('gpt-4o-mini'), s.cloud],
    'openai-compatible': (s) => [sdk.compatible(s, { supportsStructuredOutputs: true, includeUsage: true })('gpt-4o-mini'), s.cloud],
    anthropic: (s) => [sdk.anthropic(s)('claude-test-1'), s.claude],
};

async function streamed(model, more = {}) {
    const errors = [];
    const result = streamText({ model, prompt: PROMPT, ...NONE, onError: ({ error }) => errors.push(error), ...more });
    let text = '';
    for await (const part of result.textStream) {
        text += part;
    }
    return { text, errors, result };
}

for (const [name, of] of Object.entries(MODELS)) {
    aiFlow(`ai with ${name}: text, plain and streamed, and again from what is stored`, async (s) => {
        const [model, provider] = of(s);
        const first = await generateText({ model, prompt: PROMPT, ...NONE });
        assert.equal(first.text, `answer 1 of ${provider.name} to: ${PROMPT}`);
        assert.ok(first.usage.inputTokens > 0 && first.usage.outputTokens > 0);
        assert.equal(first.finishReason, 'stop');
        const again = await generateText({ model, prompt: PROMPT, ...NONE });
        const stream = await streamed(model);
        assert.deepEqual(stream.errors, []);
        assert.ok((await stream.result.usage).outputTokens > 0);
        if (!DIRECT) {
            assert.equal(again.text, first.text);
            assert.equal(again.response.headers['cache-status']?.includes('hit'), true);
            assert.equal(stream.text, first.text);
            assert.equal(provider.count, 1);
        }
    });

    aiFlow(`ai with ${name}: a tool is called, run and answered`, async (s) => {
        const [model, provider] = of(s);
        provider.next({ tools: [{ name: 'weather', arguments: { place: 'Paris' } }] }, { text: 'It is sunny.' },
            { tools: [{ name: 'weather', arguments: { place: 'Rome' } }] }, { text: 'It rains.' });
        const tools = { weather: tool({ description: 'of a place', inputSchema: z.object({ place: z.string() }),
            execute: ({ place }) => `weather of ${place}` }) };
        const plain = await generateText({ model, prompt: PROMPT, tools, stopWhen: stepCountIs(3), ...NONE });
        assert.equal(plain.text, 'It is sunny.');
        assert.match(provider.last.body.toString(), /weather of Paris/);
        const stream = await streamed(model, { prompt: 'And there?', tools, stopWhen: stepCountIs(3) });
        assert.deepEqual(stream.errors, []);
        assert.equal(stream.text, 'It rains.');
        assert.match(provider.last.body.toString(), /weather of Rome/);
        assert.equal(provider.count, 4);
    });

    aiFlow(`ai with ${name}: structured output`, async (s) => {
        const [model, provider] = of(s);
        const json = { city: 'Paris', people: 2102650 };
        // A model without structured output is given a tool to call instead.
        provider.always((request) => (request.json.tools?.some((one) => one.name === 'json') ? { tools: [{ name: 'json', arguments: json }] }
            : { text: JSON.stringify(json) }));
        const result = await generateText({ model, prompt: PROMPT, output: Output.object({ schema: PLACE }), ...NONE });
        assert.deepEqual(result.output, json);
    });

    aiFlow(`ai with ${name}: errors, before and within a stream`, async (s) => {
        const [model, provider] = of(s);
        provider.always({ error: 'bad_request', message: 'scripted words' });
        const error = await thrown(generateText({ model, prompt: PROMPT, ...NONE }));
        assert.equal(error.statusCode, 400);
        assert.match(error.message, /scripted words/);
        assert.equal(error.isRetryable, false);
        if (!DIRECT) {
            provider.always({ pieces: ['one ', 'two '], cut: 1 });
            const stream = await streamed(model);
            assert.equal(stream.text, 'one ');
            assert.equal(stream.errors.length, 1);
        }
    });
}

aiFlow('ai: embeddings of many', async (s) => {
    for (const model of [sdk.openai(s).embedding('text-embedding-3-small'), sdk.compatible(s).embeddingModel('text-embedding-3-small')]) {
        const { embeddings, usage } = await embedMany({ model, values: ['one', 'two', 'three'], ...NONE });
        assert.deepEqual(embeddings.map((one) => one.length), [8, 8, 8]);
        assert.ok(usage.tokens > 0);
    }
    assert.ok(DIRECT || s.cloud.count === 1, `${s.cloud.count} calls for the same texts`);
});

aiFlow('LangChain: text, plain and streamed, and again from what is stored', async (s) => {
    const model = langchain.chat(s);
    const first = await model.invoke([new HumanMessage(PROMPT)]);
    assert.equal(first.text, `answer 1 of cloud to: ${PROMPT}`);
    assert.ok(first.usage_metadata.total_tokens > 0);
    let text = '';
    let usage;
    for await (const chunk of await model.stream([new HumanMessage(PROMPT)])) {
        text += chunk.text;
        usage = chunk.usage_metadata ?? usage;
    }
    assert.match(text, /^answer \d of cloud to: What/);
    assert.ok(usage.total_tokens > 0, 'LangChain asks for usage in streams');
    assert.ok(DIRECT || s.cloud.count === 1, `${s.cloud.count} calls`);
});

aiFlow('LangChain: tools, structured output, embeddings, errors', async (s) => {
    const weather = langchainTool(({ place }) => `weather of ${place}`, { name: 'weather', description: 'of a place', schema: z.object({ place: z.string() }) });
    s.cloud.next({ tools: [{ name: 'weather', arguments: { place: 'Paris' } }] });
    const called = await langchain.chat(s).bindTools([weather]).invoke(PROMPT);
    assert.deepEqual(called.tool_calls.map(({ name, args }) => [name, args]), [['weather', { place: 'Paris' }]]);
    s.cloud.next({ text: '{"city":"Paris","people":1}' });
    const parsed = await langchain.chat(s).withStructuredOutput(PLACE, { method: 'jsonSchema' }).invoke(PROMPT);
    assert.deepEqual(parsed, { city: 'Paris', people: 1 });
    const vectors = await langchain.embeddings(s).embedDocuments(['one', 'two']);
    assert.deepEqual(vectors.map((one) => one.length), [8, 8]);
    s.cloud.always({ error: 'bad_request', message: 'scripted words' });
    const error = await thrown(langchain.chat(s).invoke('again'));
    assert.match(error.message, /scripted words/);
});
