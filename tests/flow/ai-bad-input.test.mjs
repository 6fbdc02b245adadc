/** What should not be sent, from clients and from providers: the dialect's error with the right status, nothing stored. */
import assert from 'node:assert/strict';
import { aiFlow, CHAT, gate, MESSAGE } from './harness/ai.mjs';
import { chunk, LAST_CHUNK } from './harness/flow.mjs';

const NODE = { needs: 'node' };
const CHATS = '/v1/chat/completions';
const q = '"messages":[{"role":"user","content":"q"}]';

/** The error of each dialect: one message, a type. */
function assertError(answer, path, ...statuses) {
    assert.ok(statuses.includes(answer.status), `${answer.status}, not ${statuses}: ${answer.text.slice(0, 300)}`);
    const { json } = answer;
    if (path.startsWith('/v1/messages')) {
        assert.equal(json.type, 'error');
    }
    assert.equal(typeof json.error.message, 'string', answer.text);
    assert.equal(typeof json.error.type, 'string', answer.text);
    assert.match(answer.header('content-type'), /^application\/json/);
}

const MALFORMED = {
    'nothing': '', 'no JSON': 'hello', 'cut short': '{"model":"gpt-4o-mini","messages":[{"role":"us', 'more after the end': `{"model":"gpt-4o-mini",${q}} x`,
    'an array': '[]', 'a string': '"x"', 'null': 'null', 'no quotes': `{model:"gpt-4o-mini",${q}}`, 'a comma too much': `{"model":"gpt-4o-mini",${q},}`,
    'single quotes': "{'model':'gpt-4o-mini'}", 'a control character': `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"\u0001"}]}`,
    'a bad escape': '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"\\x"}]}', 'NaN': `{"model":"gpt-4o-mini","temperature":NaN,${q}}`,
    'a leading zero': `{"model":"gpt-4o-mini","temperature":01,${q}}`,
    'invalid UTF-8': Buffer.concat([Buffer.from('{"model":"gpt-4o-mini","messages":[{"role":"user","content":"'), Buffer.from([0xff, 0xc3]), Buffer.from('"}]}')]),
    'nesting 100000 deep': `{"model":"gpt-4o-mini","messages":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
};
for (const [what, body] of Object.entries(MALFORMED)) {
    for (const path of [CHATS, '/v1/messages', '/v1/responses', '/v1/embeddings']) {
        aiFlow(`${path}: ${what} is a 400`, NODE, async (s) => {
            const answer = await s.ask(path, Buffer.from(body));
            assertError(answer, path, 400);
            assert.equal(s.cloud.count + s.claude.count, 0);
            assert.equal((await s.chat()).status, 200, 'the node goes on');
        });
    }
}

const WRONG = {
    'no model': { model: undefined }, 'a model that is a number': { model: 5 }, 'a model that is empty': { model: '' }, 'a model that is an object': { model: { a: 1 } },
    'stream is a string': { stream: 'yes' }, 'messages is a string': { messages: 'hello' }, 'messages is missing': { messages: undefined },
};
for (const [what, more] of Object.entries(WRONG)) {
    aiFlow(`wrong types: ${what}`, NODE, async (s) => {
        assertError(await s.chat(more), CHATS, 400);
        assertError(await s.message(more), '/v1/messages', 400);
        assert.equal(s.cloud.requests.length + s.claude.requests.length, 0, 'nobody was asked');
    });
}

/** Path, what is wrong with it, the member that the error names. */
const CONTRADICTORY = [
    [CHATS, { max_tokens: 5, max_completion_tokens: 6 }, 'max_tokens'], [CHATS, { stream_options: { include_usage: true } }, 'stream_options'],
    [CHATS, { stream: true, stream_options: 5 }, 'stream_options'], [CHATS, { stream: true, stream_options: { include_usage: 'x' } }, 'stream_options.include_usage'],
    [CHATS, { max_tokens: 0 }, 'max_tokens'], [CHATS, { max_tokens: -1 }, 'max_tokens'], [CHATS, { max_tokens: 1.5 }, 'max_tokens'], [CHATS, { max_tokens: '5' }, 'max_tokens'],
    [CHATS, { max_tokens: 1e12 }, 'max_tokens'], [CHATS, { n: 0 }, 'n'], [CHATS, { n: 1000 }, 'n'], [CHATS, { n: '2' }, 'n'], [CHATS, { temperature: 'hot' }, 'temperature'],
    [CHATS, { seed: 'x' }, 'seed'], [CHATS, { tools: {} }, 'tools'], [CHATS, { tools: [5] }, 'tools[0]'], [CHATS, { functions: 5 }, 'functions'],
    [CHATS, { response_format: 'json' }, 'response_format'], [CHATS, { messages: [] }, 'messages'], [CHATS, { messages: [null] }, 'messages[0]'],
    [CHATS, { messages: [{ content: 'x' }] }, 'messages[0].role'], [CHATS, { messages: [{ role: 'user', content: 5 }] }, 'messages[0].content'],
    [CHATS, { messages: [{ role: 'user', content: ['x'] }] }, 'messages[0].content'], [CHATS, { user: 5 }, 'user'], [CHATS, { metadata: [] }, 'metadata'],
    [CHATS, { store: 'yes' }, 'store'], [CHATS, { model: 'gpt-\u0001' }, 'model'], [CHATS, { model: `gpt-${'x'.repeat(300)}` }, 'model'],
    ['/v1/messages', { system: 5 }, 'system'], ['/v1/messages', { thinking: 'yes' }, 'thinking'], ['/v1/messages', { max_tokens: '5' }, 'max_tokens'],
    ['/v1/messages/count_tokens', { messages: 'x' }, 'messages'], ['/v1/responses', { input: 5 }, 'input'], ['/v1/responses', { input: [{ type: 5 }] }, 'input[0].type'],
    ['/v1/responses', { background: 'yes' }, 'background'], ['/v1/responses', { text: 5 }, 'text'], ['/v1/completions', { prompt: {} }, 'prompt'], ['/v1/completions', { best_of: 0 }, 'best_of'],
    ['/v1/embeddings', { input: {} }, 'input'], ['/v1/embeddings', { input: undefined }, 'input'], ['/v1/embeddings', { encoding_format: 5 }, 'encoding_format'],
];
const RIGHT = { [CHATS]: CHAT, '/v1/messages': MESSAGE, '/v1/messages/count_tokens': MESSAGE, '/v1/responses': { model: 'gpt-4o-mini', input: 'x' },
    '/v1/completions': { model: 'gpt-4o-mini', prompt: 'x' }, '/v1/embeddings': { model: 'text-x', input: 'x' } };
aiFlow('what is wrong or contradictory is a 400 that names the member, and never what was in it', NODE, async (s) => {
    for (const [path, more, member] of CONTRADICTORY) {
        const answer = await s.ask(path, { ...RIGHT[path], ...more });
        assertError(answer, path, 400);
        assert.ok(answer.json.error.message.startsWith(`${member}:`), `${member}: ${answer.text}`);
    }
    assert.equal(s.cloud.requests.length + s.claude.requests.length, 0, 'nobody was asked');
    for (const [path, body] of Object.entries(RIGHT)) {
        assert.equal((await s.ask(path, body)).status, 200, path);
    }
    assert.equal((await s.ask('/v1/completions', { ...RIGHT['/v1/completions'], max_tokens: 0, echo: true })).status, 200, 'only to score the prompt');
    assert.equal(s.cloud.last.json.max_tokens, 0);
});

aiFlow('duplicate members are refused: two readers would take them for two requests', NODE, async (s) => {
    const body = `{"model":"gpt-4o-mini","temperature":0,"temperature":2,${q}}`;
    assertError(await s.ask(CHATS, body), CHATS, 400);
    assertError(await s.ask(CHATS, `{"model":"gpt-4o-mini","model":"claude-test-1",${q}}`), CHATS, 400);
    assertError(await s.ask(CHATS, '{"model":"gpt-4o-mini","messages":[{"role":"user","r\\u006fle":"system","content":"q"}]}'), CHATS, 400);
    assertError(await s.ask('/v1/messages', `{"model":"claude-test-1","max_tokens":5,"max_tokens":6,${q}}`), '/v1/messages', 400);
    assert.equal(s.cloud.requests.length + s.claude.requests.length, 0);
});

aiFlow('an unknown model: what its provider says, or 404, in the dialect', NODE, async (s) => {
    assertError(await s.chat({ model: 'no-such-model' }), CHATS, 404);
    assertError(await s.message({ model: 'no-such-model' }), '/v1/messages', 404);
    assertError(await s.chat({ model: 'nobody/gpt-4o' }), CHATS, 404);
    assert.equal(s.cloud.count + s.claude.count, 0);
});

aiFlow('10 MB of a string are an answer or a 413, never an end', NODE, async (s) => {
    const answer = await s.chat({ messages: [{ role: 'user', content: 'x'.repeat(10_000_000) }] });
    assert.ok([200, 413].includes(answer.status), `${answer.status}`);
    if (answer.status === 413) {
        assertError(answer, CHATS, 413);
        assert.equal(s.cloud.count, 0);
    }
    assert.equal((await s.chat()).status, 200);
});

aiFlow('1 MB prompts are answered and stored', NODE, async (s) => {
    s.cloud.always({ text: 'short' }); // with the prompt in it the answer would be too large
    const ask = { messages: [{ role: 'user', content: `${'lorem ipsum é '.repeat(70_000)}?` }] };
    assert.equal((await s.chat(ask)).status, 200);
    assert.deepEqual(s.cloud.last.json.messages, ask.messages);
    s.hit(await s.chat(ask));
    s.miss(await s.chat({ messages: [{ role: 'user', content: `${ask.messages[0].content}?` }] }));
});

aiFlow('lone surrogates pass, and are not mixed up', NODE, async (s) => {
    for (const escape of ['\\ud800', '\\udc00', '\\ufffd', '\\ud800\\ud800']) {
        const before = s.cloud.count;
        const body = `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"${escape}"}]}`;
        const answer = await s.ask(CHATS, body);
        assert.equal(answer.status, 200, answer.text);
        assert.equal(s.cloud.last.body.toString(), body);
        assert.equal(s.cloud.count, before + 1, escape);
    }
});

aiFlow('bodies that are cut short charge nobody', NODE, async (s) => {
    const client = await s.node.client();
    await client.send(`POST ${CHATS} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"model":"gpt-4o-mini",`);
    client.close();
    const other = await s.node.client();
    await other.send(`POST ${CHATS} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${chunk('{"model":')}`);
    other.close();
    await s.node.settled();
    assert.equal(s.cloud.count, 0);
    assert.equal((await s.chat()).status, 200);
});

aiFlow('chunked bodies are bodies', NODE, async (s) => {
    const client = await s.node.client();
    const body = JSON.stringify(CHAT);
    client.method = 'POST';
    await client.send(`POST ${CHATS} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${chunk(body.slice(0, 20))}${chunk(body.slice(20))}${LAST_CHUNK}`);
    assert.equal((await client.response()).status, 200);
    client.close();
    assert.deepEqual(s.cloud.last.json, CHAT);
    s.hit(await s.chat());
});

aiFlow('a path that only looks like another one is refused: it would be asked without rules and without a price', NODE, async (s) => {
    for (const path of ['/v1/chat/completions/', '/v1/ch%61t/completions', '/v1/chat%2Fcompletions', '/v1/files/../chat/completions', '/v1/./chat/completions',
        '/v1/chat//completions', '/v1/x/%2e%2e/chat/completions', '/v1/x/..;a/chat/completions', '/v1/CHAT/completions', '/v1/chat/completions;x=1',
        '/v1/chat\\completions', '/v1/chat/completions%20', '/v1/chat/completions%00', '/v1/ch%2561t/completions', '/v1/embeddings/', '/v1/files/%zz', '/v1/files/..']) {
        const answer = await s.ask(path, CHAT);
        assertError(answer, CHATS, 404);
        assert.equal(s.cloud.requests.length, 0, path);
    }
    assertError(await s.ask('/v1/messages/', CHAT), '/v1/messages', 404);
    for (const path of ['/v1/models/ft%3Agpt', '/v1/models/meta%2Fllama-3.1', '/v1/files/', '/v1/files/a.b..c', '/v1/chat/completions/chatcmpl-1']) {
        assert.equal((await s.node.get(path)).status, 200, path);
        assert.equal(s.cloud.requests.at(-1).path, path);
    }
});

aiFlow('the wrong method is told', NODE, async (s) => {
    for (const path of [CHATS, '/v1/messages', '/v1/embeddings']) {
        const answer = await s.node.get(path);
        assert.equal(answer.status, 405, path);
        assert.equal(answer.header('allow'), 'POST');
        assert.ok(JSON.parse(answer.text).error.message);
    }
    assert.equal(s.cloud.count + s.claude.count, 0);
});

// ---- what providers send ----

for (const bytes of [1, 3, 7]) {
    aiFlow(`split UTF-8: ${bytes} bytes at a time are the same stream`, NODE, async (s) => {
        const pieces = ['ü', '漢字', '🎈🎉', 'e\u0301'];
        for (const crlf of [false, true]) {
            s.cloud.next({ pieces, bytes, crlf });
            s.claude.next({ pieces, bytes, crlf });
            const content = `${bytes} ${crlf}`;
            assert.equal((await s.chat({ stream: true, messages: [{ role: 'user', content }] })).said, pieces.join(''));
            assert.equal((await s.message({ stream: true, messages: [{ role: 'user', content }] })).said, pieces.join(''));
            assert.equal(s.hit(await s.chat({ messages: [{ role: 'user', content }] })).said, pieces.join(''));
            assert.equal(s.hit(await s.message({ messages: [{ role: 'user', content }] })).said, pieces.join(''));
        }
    });
}

aiFlow('giant events go through', NODE, async (s) => {
    for (let i = 0; i < 8; i++) { // what follows one may come in the same read or in the next
        const giant = 1_500_000 + i * 70_001;
        s.cloud.always({ pieces: ['small '], giant });
        const answer = await s.chat({ stream: true, seed: i });
        assert.equal(answer.said.length, giant + 6);
        assert.match(answer.text, /\[DONE\]/);
    }
    assert.equal((await s.message()).status, 200);
});

aiFlow('unknown events, comments and pings go through or are dropped, and the answer is whole', NODE, async (s) => {
    s.cloud.always({ keepAlives: 3, extra: [{ event: 'surprise', data: { a: 1 } }] });
    s.claude.always({ keepAlives: 3, extra: [{ event: 'surprise', data: { type: 'surprise' } }] });
    for (const answer of [await s.chat({ stream: true }), await s.message({ stream: true })]) {
        assert.match(answer.said, /^answer 1 of (cloud|claude) to/);
    }
    s.hit(await s.chat());
    s.hit(await s.message());
});

const NONSENSE = {
    'HTML': { raw: '<html>bad gateway</html>', type: 'text/html' }, 'no JSON': { raw: '{"choices": [', type: 'application/json' },
    'nothing': { raw: '', type: 'application/json' }, 'an array': { raw: '[]', type: 'application/json' }, 'no choices': { raw: '{"id":"x"}', type: 'application/json' },
    'a body cut short': { cut: 1 },
};
for (const [what, script] of Object.entries(NONSENSE)) {
    aiFlow(`a provider answers ${what}: nothing of it is stored`, NODE, async (s) => {
        s.cloud.always(script);
        const answer = await s.chat();
        if (answer.status !== 200) { // else: passed on as it came
            assertError(answer, CHATS, 502, 503, 504);
        }
        s.cloud.always({});
        const next = await s.chat();
        if (next.status === 200) {
            s.miss(next);
            assert.match(next.said, /of cloud/);
        }
    });
}

aiFlow('a provider answers 500 with HTML: the client gets its dialect', NODE, async (s) => {
    s.cloud.always({ raw: '<html>oops</html>', type: 'text/html', status: 500 });
    assertError(await s.chat(), CHATS, 500, 502, 503);
    s.claude.always({ raw: '<html>oops</html>', type: 'text/html', status: 529 });
    assertError(await s.message(), '/v1/messages', 502, 503, 529);
});

aiFlow('a stream that never ends is bounded by the client leaving', NODE, async (s) => {
    const door = gate();
    s.cloud.always({ pieces: Array.from({ length: 2000 }, (_, i) => `piece ${i} `), between: door.at(1500) });
    const client = await s.asking(CHATS, { ...CHAT, stream: true });
    await client.head();
    client.close();
    assert.equal(await s.cloud.last.gone, true);
    door.open();
});
