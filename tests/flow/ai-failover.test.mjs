/** Around what fails: other keys, other candidates, the dialect's error when nothing is left, and never two providers in one answer. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { aiFlow, CHAT, gate } from './harness/ai.mjs';
import { scratch } from './harness/flow.mjs';
import { freePort, until } from './harness/server.mjs';

const user = (content) => ({ messages: [{ role: 'user', content }] });

/** Two of a dialect, one after the other. */
const PAIR = {
    first: { dialect: 'openai', config: { keys: ['sk-one', 'sk-two'], first_token_timeout: '300ms', token_timeout: '300ms' } },
    second: { dialect: 'openai', config: { keys: ['sk-three'] } },
};
const FAST = { models: { fast: { candidates: [{ provider: 'first', model: 'model-a' }, { provider: 'second', model: 'model-b' }] } } };
const both = { needs: 'node', providers: PAIR, ...FAST };
const ask = (s, more, headers) => s.chat({ model: 'fast', ...more }, headers);

/** Both modes: an answer of `name`, whole. */
async function answersFrom(s, name, more, headers) {
    for (const stream of [false, true]) {
        const answer = await ask(s, { ...user(`${name} ${JSON.stringify(more ?? '')} ${stream}`), ...more, stream }, headers);
        assert.equal(answer.status, 200, answer.text);
        assert.match(answer.said, new RegExp(`^answer \\d+ of ${name} to`), answer.text);
        assert.equal(s.wall(answer).provider, name);
        assert.ok(!stream || answer.text.includes('[DONE]'));
    }
}

aiFlow('the first candidate is asked while it answers', both, async (s) => {
    await answersFrom(s, 'first');
    assert.equal(s.first.last.json.model, 'model-a');
    assert.equal(s.second.count, 0);
});

aiFlow('429 of one key: the other key, and no call with the first while it rests', both, async (s) => {
    s.first.key('sk-one', { error: 'rate_limit', retryAfter: 60 });
    for (let i = 0; i < 6; i++) {
        assert.match((await ask(s, user(`question ${i}`))).said, /of first/);
    }
    assert.equal(s.first.requests.filter((request) => request.key === 'sk-one').length, 1);
    assert.equal(s.second.count, 0);
});

aiFlow('429 of both keys: the next candidate', both, async (s) => {
    s.first.always({ error: 'rate_limit', retryAfter: 60 });
    await answersFrom(s, 'second');
    assert.equal(s.first.count, 2, 'each key once');
    assert.equal(s.second.last.json.model, 'model-b');
});

for (const kind of ['auth', 'billing', 'forbidden', 'quota']) {
    aiFlow(`a dead key (${kind}) is not used again`, both, async (s) => {
        s.first.key('sk-one', { error: kind });
        for (let i = 0; i < 6; i++) {
            assert.match((await ask(s, user(`question ${i}`))).said, /of first/);
        }
        assert.equal(s.first.requests.filter((request) => request.key === 'sk-one').length, 1);
        s.first.key('sk-two', { error: kind });
        assert.match((await ask(s, user('more'))).said, /of second/);
    });
}

for (const kind of ['server', 'unavailable', 'overloaded']) {
    aiFlow(`${kind}: the next candidate, unseen by the client`, both, async (s) => {
        s.first.always({ error: kind });
        await answersFrom(s, 'second');
    });
}

aiFlow('an error inside of a 200: the next candidate', both, async (s) => {
    s.first.always({ error: 'overloaded', inside: true });
    await answersFrom(s, 'second');
});

aiFlow('refused connections: the next candidate', { needs: 'node', node: false, providers: PAIR, ...FAST }, async (s) => {
    const port = await freePort();
    const config = s.config();
    config.ai.providers.first.url = `http://127.0.0.1:${port}/v1`;
    s.node = await s.startNode({ config });
    await answersFrom(s, 'second');
});

for (const [what, script] of [['before the first byte', { cut: 'connect' }], ['before the first byte, with a reset', { cut: 'connect', reset: true }],
    ['after the head', { cut: 'head' }], ['before any content', { cut: 0 }]]) {
    aiFlow(`a connection cut ${what}: the next candidate, unseen by the client`, both, async (s) => {
        s.first.always(script);
        await answersFrom(s, 'second');
    });
}

aiFlow('a first token that does not come in time: the next candidate, keep-alives or not', both, async (s) => {
    for (const keepAlives of [0, 3]) {
        const door = gate();
        s.first.next({ first: door.held, keepAlives });
        const answer = await ask(s, { ...user(`slow ${keepAlives}`), stream: true });
        assert.match(answer.said, /of second/);
        assert.equal(await s.first.last.gone, true, 'the slow one was left');
        door.open();
    }
});

aiFlow('reasoning counts as content: who thinks aloud is not left', both, async (s) => {
    s.first.always({ reasoning: ['a', 'b', 'c', 'd'], pieces: ['done'], pace: 150 });
    const answer = await ask(s, { stream: true });
    assert.equal(answer.said, 'done');
    assert.equal(s.second.count, 0);
});

aiFlow('a pause after content is an error event, never another provider\'s words', both, async (s) => {
    const door = gate();
    s.first.next({ pieces: ['one ', 'two'], between: door.at(1) });
    const answer = await ask(s, { stream: true });
    door.open();
    assert.equal(answer.status, 200);
    assert.equal(answer.said, 'one ');
    assert.match(answer.text, /data: \{"error":/);
    assert.doesNotMatch(answer.text, /\[DONE\]/);
    assert.equal(s.second.count, 0);
});

for (const [what, script] of [['cut', { cut: 1 }], ['reset', { cut: 1, reset: true }], ['error inside', { error: 'server', inside: true, at: 1 }],
    ['an end too soon', { end: 1 }], ['no JSON', { malformed: 1 }]]) {
    aiFlow(`after content (${what}): the dialect's error event, and nothing of another provider`, both, async (s) => {
        s.first.always({ pieces: ['one ', 'two ', 'three'], ...script });
        const answer = await ask(s, { stream: true });
        assert.equal(answer.status, 200);
        assert.ok(answer.complete, 'the stream ends as it should');
        assert.match(answer.text, /data: \{"error":/, answer.text.slice(-200));
        assert.doesNotMatch(answer.text, /\[DONE\]|of second/);
        assert.ok(answer.text.includes('one '));
    });
}

for (const kind of ['bad_request', 'not_found', 'unprocessable']) {
    aiFlow(`${kind} is the caller's: not tried again, not elsewhere, counted for nobody`, both, async (s) => {
        s.first.always({ error: kind, message: 'scripted words' });
        for (let i = 0; i < 12; i++) {
            const answer = await ask(s, user(`question ${i}`));
            assert.ok([400, 404, 422].includes(answer.status), `${answer.status}`);
            assert.equal(answer.json.error.message, 'scripted words');
        }
        assert.deepEqual([s.first.count, s.second.count], [12, 0]);
        s.first.always({});
        assert.match((await ask(s, user('and now'))).said, /of first/);
    });
}

aiFlow('nothing is left: 503 with a short Retry-After, in the dialect', both, async (s) => {
    for (const script of [{ error: 'rate_limit', retryAfter: 3600 }, { error: 'server', retryAfter: 3600 }]) {
        s.first.always(script);
        s.second.always(script);
        for (const stream of [false, true]) {
            const answer = await ask(s, { ...user(`${script.error} ${stream}`), stream });
            assert.ok([429, 502, 503].includes(answer.status), `${answer.status}`);
            assert.ok(answer.json.error.message, answer.text);
            const after = Number(answer.header('retry-after'));
            assert.ok(after >= 1 && after <= 60, `retry-after: ${answer.header('retry-after')}`);
        }
    }
});

aiFlow('nothing is left: Anthropic\'s clients get Anthropic\'s error', { needs: 'node' }, async (s) => {
    s.claude.always({ error: 'server' });
    const answer = await s.message({ stream: true });
    assert.ok([502, 503, 529].includes(answer.status));
    assert.equal(answer.json.type, 'error');
    assert.ok(answer.json.error.type && answer.json.error.message);
});

aiFlow('nothing is left, and the route allows it: the stale answer, marked', { ...both, route: { ttl: '1s', stale_if_error: '1h' } }, async (s) => {
    const first = await ask(s);
    assert.equal(first.status, 200);
    s.first.always({ error: 'server' });
    s.second.always({ error: 'server' });
    const stale = await until(async () => {
        const answer = await ask(s);
        assert.equal(answer.said, first.said);
        return s.first.count > 1 && answer;
    }, 'it is stale: 1 s');
    s.hit(stale);
    assert.ok(s.status(stale).ttl < 0, stale.header('cache-status'));
});

aiFlow('an answer of the second is not given as an answer of the first', both, async (s) => {
    s.first.next({ error: 'server' }, { error: 'server' }, { error: 'server' });
    const first = await ask(s);
    if (/of second/.test(first.said)) {
        s.first.reset();
        const later = await ask(s); // the first is back: what it says is what counts
        assert.match(later.said, /of first|of second/);
        assert.equal(s.wall(later).provider, /of first/.test(later.said) ? 'first' : 'second');
    }
});

aiFlow('the two dialects stand in for each other', { needs: 'node', models: { best: { candidates: [
    { provider: 'cloud', model: 'gpt-4o' }, { provider: 'claude', model: 'claude-test-1' }] } } }, async (s) => {
    s.cloud.always({ error: 'server' });
    for (const stream of [false, true]) {
        const chat = await s.chat({ model: 'best', stream, ...user(`chat ${stream}`) });
        assert.equal(chat.status, 200, chat.text);
        assert.match(chat.said, /of claude/);
        assert.ok(stream ? chat.text.includes('[DONE]') : chat.json.choices);
    }
    s.cloud.always({});
    s.claude.always({ error: 'overloaded' });
    const message = await s.message({ model: 'best', ...user('message') });
    assert.equal(message.status, 200, message.text);
    assert.match(message.said, /of cloud/);
    assert.equal(message.json.type, 'message');
});

aiFlow('a provider named with its model is asked, and no other', both, async (s) => {
    const answer = await s.chat({ model: 'second/model-x' });
    assert.match(answer.said, /of second/);
    assert.equal(s.second.last.json.model, 'model-x');
    s.second.always({ error: 'server' });
    assert.ok((await s.chat({ model: 'second/model-x', ...user('again') })).status >= 500);
    assert.equal(s.first.count, 0);
});

aiFlow('a client that leaves ends the call, and its answer is nobody else\'s', both, async (s) => {
    const door = gate();
    s.first.next({ wait: door.held });
    const client = await s.asking('/v1/chat/completions', { ...CHAT, model: 'fast' });
    await s.first.arrived(1);
    client.close();
    assert.equal(await s.first.last.gone, true);
    door.open();
    await answersFrom(s, 'first');
});

for (const error of ['server', 'overloaded', 'unavailable']) {
    aiFlow(`${error} again and again: it is left alone for a while`, both, async (s) => {
        s.first.always({ error });
        for (let i = 0; i < 20; i++) {
            assert.match((await ask(s, user(`question ${i}`))).said, /of second/);
        }
        assert.ok(s.first.count < 15, `asked ${s.first.count} times`);
    });
}

aiFlow('what is the caller\'s or the key\'s fault opens no breaker', { ...both, models: { fast: FAST.models.fast } }, async (s) => {
    for (let i = 0; i < 20; i++) {
        s.first.next({ error: 'bad_request' });
        assert.equal((await ask(s, user(`bad ${i}`))).status, 400);
    }
    s.first.key('sk-one', { error: 'rate_limit', retryAfter: 60 });
    await answersFrom(s, 'first');
});

aiFlow('many keep-alives before the first content hide nothing: a cut is still unseen', both, async (s) => {
    for (const endpoint of ['chat', 'message']) {
        s.first.next({ keepAlives: 100, cut: 0 });
        const answer = await (endpoint === 'chat' ? ask(s, { stream: true }) : s.message({ model: 'fast', stream: true }));
        assert.match(answer.said, /of second/);
    }
});

aiFlow('no credit, said with a 400: the key is dead, and the caller not to blame', both, async (s) => {
    const none = { raw: JSON.stringify({ type: 'error', error: { type: 'invalid_request_error', message: 'Your credit balance is too low.' } }), status: 400 };
    s.first.key('sk-one', none);
    s.first.key('sk-two', none);
    await answersFrom(s, 'second');
    assert.equal(s.first.count, 2);
    const answer = await s.chat({ model: 'first/model-a' });
    assert.deepEqual([answer.status, answer.header('x-should-retry')], [502, 'false'], 'nobody is left');
});

aiFlow('a 403 for what was asked kills no key: no client can take them away', both, async (s) => {
    for (const error of [{ message: 'Project `p` does not have access to model `x`', type: 'invalid_request_error', code: 'model_not_found' },
        { code: 403, message: 'x requires moderation', metadata: { reasons: ['violence'], flagged_input: '...' } }]) {
        s.first.always({ raw: JSON.stringify({ error }), status: 403 });
        for (let i = 0; i < 3; i++) {
            assert.equal((await ask(s, user(`${error.message} ${i}`))).status, 403);
        }
        s.first.always({});
        assert.match((await ask(s, user(`after ${error.message}`))).said, /of first/);
    }
    assert.equal(s.second.count, 0);
    await ask(s, user('mine'), { 'OpenAI-Organization': 'org-theirs', 'OpenAI-Project': 'theirs', 'OpenAI-Beta': 'assistants=v2' });
    const { headers } = s.first.last;
    assert.deepEqual([headers['openai-organization'], headers['openai-project'], headers['openai-beta']], [undefined, undefined, 'assistants=v2']);
});

aiFlow('a provider that shows our key in an error shows it to us alone', both, async (s) => {
    const message = 'you are sk-one or sk-two';
    for (const script of [{ error: 'bad_request', message }, { error: 'unprocessable', status: 422, message }, { error: 'server', message },
        { error: 'server', inside: true, message, at: 1 }, { error: 'bad_request', inside: true, message }]) {
        s.first.always(script);
        s.second.always({ ...script, message: 'you are sk-three' });
        for (const stream of [false, true]) {
            for (const answer of [await ask(s, { ...user(`${JSON.stringify(script)} ${stream}`), stream }),
                await s.message({ model: 'fast', ...user(`${JSON.stringify(script)} ${stream}`), stream })]) {
                assert.doesNotMatch(answer.lines.join('\n') + answer.text, /sk-(one|two|three)/);
            }
        }
    }
});

const ALONE = { needs: 'node', providers: { first: { ...PAIR.first, config: { ...PAIR.first.config, breaker: { enabled: false } } } },
    models: { fast: { candidates: FAST.models.fast.candidates.slice(0, 1) } } };

aiFlow('retries have a budget: who is down is not asked twice by everybody', ALONE, async (s) => {
    s.first.always({ error: 'server' });
    for (let i = 0; i < 200; i++) {
        assert.equal((await ask(s, user(`question ${i}`))).status, 502);
    }
    assert.ok(s.first.count > 205, `some are tried again: ${s.first.count}`);
    assert.ok(s.first.count < 380, `not all are: ${s.first.count}`);
});

aiFlow('all candidates open: nobody is asked, 503 and when to come again', both, async (s) => {
    for (const provider of [s.first, s.second]) {
        provider.always({ error: 'unavailable' });
    }
    let answer;
    for (let i = 0, before = -1; s.first.count + s.second.count !== before; i++) {
        before = s.first.count + s.second.count;
        answer = await ask(s, user(`question ${i}`));
    }
    assert.equal(answer.status, 503);
    assert.ok(Number(answer.header('retry-after')) >= 1 && Number(answer.header('retry-after')) <= 60, answer.header('retry-after'));
    assert.equal(answer.json.error.type, 'overloaded_error');
});

aiFlow('a whole answer has a limit in time, streamed or not', { ...both, providers: { first: { ...PAIR.first, config: { ...PAIR.first.config,
    first_token_timeout: '5s', token_timeout: '5s', total_timeout: '200ms' } }, second: PAIR.second } }, async (s) => {
    const doors = [gate(), gate()];
    s.first.next({ wait: doors[0].held });
    assert.match((await ask(s, user('plain'))).said, /of second/);
    s.first.next({ pieces: ['one ', 'two'], between: doors[1].at(1) });
    const answer = await ask(s, { ...user('streamed'), stream: true });
    assert.match(answer.text, /"one "/);
    assert.match(answer.text, /data: \{"error":.*timeout/);
    doors.forEach((door) => door.open());
});

const chunk = (choice, more = {}) => `data: ${JSON.stringify({ object: 'chat.completion.chunk', created: 1, model: 'm',
    choices: [{ index: 0, ...choice }], ...more })}\n\n`;

aiFlow('keep-alives between two pieces are no content either', { ...both, node: false }, async (s) => {
    const server = http.createServer((request, response) => {
        response.writeHead(200, { 'Content-Type': 'text/event-stream' });
        response.write(chunk({ delta: { content: 'one ' } }));
        const beat = setInterval(() => response.write(': still here\n\n'), 50);
        response.on('close', () => clearInterval(beat));
    });
    await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    s.after(() => { server.closeAllConnections(); server.close(); });
    const config = s.config();
    config.ai.providers.first.url = `http://127.0.0.1:${server.address().port}/v1`;
    s.node = await s.startNode({ config });
    const answer = await ask(s, { stream: true });
    assert.equal(answer.text.match(/"one "/g).length, 1);
    assert.match(answer.text, /data: \{"error":/);
});

/* ---- servers on this machine, as they are ---- */

const DEVICE = { needs: 'node', providers: { local: { dialect: 'openai', config: { rung: 'device' } } } };

/** Streams of such servers: no ids, no usage, "" for null, a usage in the last chunk. */
const QUIRKS = {
    'without ids and usage': chunk({ delta: { role: 'assistant', content: 'Hello' }, finish_reason: null }) + chunk({ delta: { content: ' you' } })
        + chunk({ delta: {}, finish_reason: 'stop' }) + 'data: [DONE]\n\n',
    'with "" until it has finished': chunk({ delta: { content: 'Hello' }, finish_reason: '' }, { id: 'a' })
        + chunk({ delta: { content: ' you' }, finish_reason: '' }, { id: 'a' })
        + chunk({ delta: { content: '' }, finish_reason: 'stop' }, { id: 'a', timings: { predicted_ms: 1 },
            usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 } }) + 'data: [DONE]\n\n',
    'with index null and a finish without delta': chunk({ index: null, delta: { content: 'Hello you' }, finish_reason: null })
        + chunk({ finish_reason: 'stop' }) + 'data: [DONE]\n\n',
};

for (const [what, raw] of Object.entries(QUIRKS)) {
    aiFlow(`a local server's stream ${what}`, DEVICE, async (s) => {
        s.local.always({ raw, type: 'text/event-stream' });
        const streamed = await s.chat({ model: 'llama', stream: true });
        assert.equal(streamed.said, 'Hello you');
        assert.match(streamed.text, /\[DONE\]/);
        const plain = s.hit(await s.chat({ model: 'llama' }), 'memory') ?? await s.chat({ model: 'llama' });
        assert.equal(plain.json.choices[0].message.content, 'Hello you');
        assert.equal(plain.json.choices[0].finish_reason, 'stop');
        const message = await s.message({ model: 'llama', stream: true });
        assert.equal(message.said, 'Hello you');
        assert.match(message.text, /event: message_stop/);
        assert.equal((await s.message({ model: 'llama' })).json.stop_reason, 'end_turn');
        assert.equal(s.local.count, 2, 'both were stored');
    });
}

aiFlow('a local server\'s tool calls that all say index 0 are as many calls', DEVICE, async (s) => {
    const call = (id, name, text) => chunk({ delta: { tool_calls: [{ index: 0, id, type: 'function', function: { name, arguments: text } }] } });
    s.local.always({ raw: `${call('a', 'f', '{"x":1}')}${call('b', 'g', '{"y":2}')}${call('c', 'f', '')}${chunk({ delta: {}, finish_reason: 'tool_calls' })}data: [DONE]\n\n`,
        type: 'text/event-stream' });
    const calls = (await s.chat({ model: 'llama' })).json.choices[0].message.tool_calls;
    assert.deepEqual(calls.map((one) => [one.id, one.function.name, one.function.arguments]), [['a', 'f', '{"x":1}'], ['b', 'g', '{"y":2}'], ['c', 'f', '']]);
    const blocks = (await s.message({ model: 'llama' })).json.content;
    assert.deepEqual(blocks.map((one) => [one.id, one.name, one.input]), [['a', 'f', { x: 1 }], ['b', 'g', { y: 2 }], ['c', 'f', {}]]);
});

aiFlow('a local server\'s stream with "" to its end has not finished, and is not stored', DEVICE, async (s) => {
    s.local.always({ raw: `${chunk({ delta: { content: 'Hello' }, finish_reason: '' })}data: [DONE]\n\n`, type: 'text/event-stream' });
    await s.chat({ model: 'llama', stream: true });
    await s.chat({ model: 'llama', stream: true });
    assert.equal(s.local.count, 2);
});

aiFlow('a local server\'s answer without id, usage and index; its list of models; an embedding without usage', DEVICE, async (s) => {
    s.local.always({ raw: JSON.stringify({ choices: [{ message: { role: 'assistant', content: 'Hello you' }, finish_reason: 'stop' }] }) });
    assert.equal((await s.chat({ model: 'llama' })).said, 'Hello you');
    assert.equal((await s.chat({ model: 'llama', stream: true })).said, 'Hello you');
    assert.equal((await s.message({ model: 'llama' })).said, 'Hello you');
    s.local.always({ raw: JSON.stringify({ object: 'list', data: [{ object: 'embedding', index: 0, embedding: [1, 2] }] }) });
    assert.deepEqual((await s.ask('/v1/embeddings', { model: 'llama', input: 'x' })).json.data[0].embedding, [1, 2]);
    assert.equal((await s.node.get('/v1/models')).status, 200);
    s.local.always({ raw: JSON.stringify({ error: { code: 503, message: 'Loading model', type: 'unavailable_error' } }), status: 503 });
    assert.equal((await s.chat({ model: 'llama', ...user('loading') })).status, 503);
});

/* ---- two at once ---- */

const hedged = (hedge, more = {}) => ({ ...both, models: { fast: { ...FAST.models.fast, hedge: { enabled: true, ...hedge } } }, ...more });

aiFlow('hedging: who is late has a rival, and the first to have content answers', hedged({ after: '20ms', percent: 100 }), async (s) => {
    for (const stream of [false, true]) {
        const door = gate();
        s.first.next({ wait: door.held });
        const answer = await ask(s, { ...user(`late ${stream}`), stream });
        assert.equal(answer.status, 200, answer.text);
        assert.match(answer.said, /of second/);
        assert.equal(s.wall(answer).provider, 'second');
        assert.equal(s.wall(answer).model, 'model-b');
        assert.match(answer.header('doorstep-ai'), /; hedged/);
        assert.equal(await s.first.last.gone, true, 'the late one was left');
        door.open();
        // It is stored as what the second said, and as nothing else.
        assert.match((await ask(s, { ...user(`late ${stream}`), stream })).said, /of first/);
    }
});

aiFlow('hedging: who answers in time has none', hedged({ after: '5s', percent: 100 }), async (s) => {
    await answersFrom(s, 'first');
    assert.equal(s.second.count, 0);
});

aiFlow('hedging: a rival that fails is forgotten, and one that is slower is left', hedged({ after: '20ms', percent: 100 }), async (s) => {
    for (const script of [{ error: 'server' }, { error: 'bad_request' }, { cut: 'connect' }]) {
        const door = gate();
        s.second.reset();
        s.first.next({ wait: door.held });
        s.second.next(script);
        const asking = ask(s, user(JSON.stringify(script)));
        if (script.error === 'bad_request') {
            assert.equal((await asking).status, 400); // the request is wrong: the first to say so is believed
        } else {
            await s.second.arrived(1);
            door.open();
            assert.match((await asking).said, /of first/);
        }
        door.open();
    }
    const [one, two] = [gate(), gate()];
    s.second.reset();
    s.first.next({ wait: one.held });
    s.second.next({ wait: two.held });
    const asking = ask(s, user('slower'));
    await s.second.arrived(1);
    one.open();
    assert.match((await asking).said, /of first/);
    assert.equal(await s.second.last.gone, true);
    two.open();
});

aiFlow('hedging: the first fails while its rival is under way, then both', hedged({ after: '20ms', percent: 100 }), async (s) => {
    for (const error of [undefined, 'server']) {
        const [one, two] = [gate(), gate()];
        s.first.reset();
        s.second.reset();
        s.first.next({ wait: one.held, error: 'server' });
        s.second.next({ wait: two.held, error });
        const asking = ask(s, user(`both ${error}`));
        await s.second.arrived(1);
        one.open();
        two.open();
        const answer = await asking;
        if (error) {
            s.second.always({});
            assert.ok(answer.status === 200 || answer.status >= 500, 'its retry, or the failure');
        } else {
            assert.match(answer.said, /of second/);
        }
        assert.equal(s.first.count, 1);
    }
});

aiFlow('hedging is for a few: percent of the requests', hedged({ after: '20ms', percent: 50 }), async (s) => {
    const doors = [];
    s.first.always(() => {
        doors.push(gate());
        return { wait: doors.at(-1).held };
    });
    const asking = ask(s, user('half of a second call'));
    await s.first.arrived(1);
    setTimeout(() => doors[0].open(), 150);
    assert.match((await asking).said, /of first/);
    assert.equal(s.second.count, 0);
    assert.match((await ask(s, user('the other half'))).said, /of second/);
    doors.forEach((door) => door.open());
});

aiFlow('hedging: what the rival said before need not be asked again', hedged({ after: '20ms', percent: 100 }), async (s) => {
    s.first.next({ error: 'server' });
    const before = await ask(s, user('known'));
    assert.match(before.said, /of second/);
    const door = gate();
    s.first.next({ wait: door.held });
    const answer = await ask(s, user('known'));
    assert.equal(answer.said, before.said);
    s.hit(answer, 'memory');
    assert.deepEqual([s.second.count, s.wall(answer).provider], [1, 'second']);
    assert.equal(await s.first.last.gone, true);
    door.open();
});

aiFlow('hedging: many at once, some the same, in both modes, with clients that leave', hedged({ after: '5ms', percent: 100 }, { config: { threads: 2 } }), async (s) => {
    s.first.always(() => ({ delay: Math.floor(Math.random() * 20) }));
    s.second.always(() => ({ delay: Math.floor(Math.random() * 20) }));
    await Promise.all(Array.from({ length: 120 }, async (_, i) => {
        const body = { ...CHAT, model: 'fast', ...user(`question ${i % 40}`), stream: i % 3 === 0 };
        if (i % 10 === 9) {
            (await s.asking('/v1/chat/completions', body)).close();
            return;
        }
        const answer = await s.ask('/v1/chat/completions', body);
        assert.equal(answer.status, 200, answer.text);
        assert.match(answer.said, new RegExp(`of (first|second) to: question ${i % 40}$`));
    }));
    await s.node.settled();
});

aiFlow('hedging: one row in the ledger, with both calls', hedged({ after: '20ms', percent: 100 }, { node: false }), async (s) => {
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    s.node = await s.startNode({ config: s.config({ config: { state: { path: path.join(folder, 'state.db') } } }) });
    const door = gate();
    s.first.next({ wait: door.held });
    assert.match((await ask(s)).said, /of second/);
    door.open();
    const rows = await until(async () => {
        const page = (await s.node.admin('/ai/ledger')).body.toString().trim().split('\n').filter(Boolean).map((line) => JSON.parse(line));
        return page.length && page;
    }, 'a row');
    assert.deepEqual(rows.map((row) => [row.provider, row.model, row.status, row.attempts]), [['second', 'model-b', 200, 2]]);
});
