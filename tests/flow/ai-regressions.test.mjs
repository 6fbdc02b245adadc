/** What was once wrong with the AI gateway, each with the story that showed it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { gunzipSync, gzipSync } from 'node:zlib';
import { aiConfig, aiFlow, CHAT, gate } from './harness/ai.mjs';
import { bill, MONEY, money } from './harness/ai-money.mjs';
import { Client } from './harness/client.mjs';

const user = (content) => ({ messages: [{ role: 'user', content }] });
const PLAIN = JSON.stringify({ id: 'c', object: 'chat.completion', model: 'm', choices: [{ index: 0, finish_reason: 'stop',
    message: { role: 'assistant', content: 'well' } }], usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 } });
const delta = (content) => `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }] })}\n\n`;
const END = `data: ${JSON.stringify({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] })}\n\ndata: [DONE]\n\n`;

/** A node before a provider that is a handler: (req, res, body, count). `s.count`: its requests. */
function handled(name, options, handler, body) {
    aiFlow(name, { needs: 'node', node: false, providers: {} }, async (s) => {
        s.count = 0;
        const server = http.createServer(async (req, res) => {
            const parts = [];
            for await (const part of req) {
                parts.push(part);
            }
            s.count++;
            await handler(req, res, Buffer.concat(parts), s.count);
        });
        server.listen(0, '127.0.0.1');
        await once(server, 'listening');
        s.after(() => { server.close(); server.closeAllConnections(); });
        const { provider, ...rest } = options;
        s.node = await s.startNode({ config: aiConfig({ cloud: { v1: `http://127.0.0.1:${server.address().port}/v1` } },
            { providers: { cloud: { config: { rung: 'cloud', ...provider } } }, ...rest }) });
        s.open = async () => {
            const client = await Client.open(s.node.port);
            s.after(() => client.close());
            return client;
        };
        s.raw = async (target, options2) => {
            const client = await s.open();
            const response = await client.request(target, options2);
            client.close();
            return response;
        };
        await body(s);
    });
}

const say = (res, status, body, headers) => {
    res.writeHead(status, { 'content-type': 'application/json', ...headers });
    res.end(body);
};

handled('a provider without keys that answers 429 is asked once', { provider: { total_timeout: '2s', retries: 0 } },
    (req, res) => say(res, 429, '{"error":{"message":"slowly","type":"rate_limit_error"}}'), async (s) => {
        assert.equal((await s.chat()).status, 429);
        assert.equal(s.count, 1);
    });

handled('an answer that has no body has no chunks: the next one on the connection is read right', {},
    (req, res) => (req.method === 'DELETE' ? (res.writeHead(204), res.end()) : say(res, 200, '{"id":"x"}')), async (s) => {
        const client = await s.open();
        const gone = await client.request('/v1/files/x', { method: 'DELETE' });
        assert.equal(gone.status, 204);
        assert.equal(gone.header('transfer-encoding'), undefined);
        assert.equal((await client.request('/v1/files/y')).text, '{"id":"x"}');
    });

handled('a file larger than every buffer passes through', {},
    (req, res) => { res.writeHead(200, { 'content-type': 'application/octet-stream' }); res.end(Buffer.alloc(9_000_000, 'f')); },
    async (s) => {
        for (let i = 0; i < 3; i++) {
            const answer = await s.raw('/v1/files/x/content');
            assert.equal(answer.complete, true);
            assert.equal(answer.body.length, 9_000_000);
        }
    });

const LONG = 6_000;
const long = (req, res) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    for (let i = 0; i < LONG; i++) {
        res.write(delta(String(i).padStart(1000, '.')));
    }
    res.end(END);
};

for (const ttl of ['0s', '1h']) {
    handled(`a long stream is whole, whoever reads it how slowly (ttl ${ttl})`,
        { provider: { token_timeout: '300ms', retries: 0, breaker: { failures: 1 } }, route: { ttl } }, long, async (s) => {
            for (const wait of [0, 1500]) { // longer than the provider may be silent: it is the client who is slow
                const client = await s.asking('/v1/chat/completions', { ...CHAT, ...user(`long ${wait}`), stream: true });
                await pause(wait);
                const response = await client.response();
                assert.equal(response.complete, true);
                assert.ok(response.text.endsWith('data: [DONE]\n\n'), response.text.slice(-300));
                assert.ok(response.text.includes(`.${LONG - 1}"`));
                client.close();
            }
        });
}

handled('what a pass-through path refuses says nothing about the keys', { provider: { keys: ['sk-a', 'sk-b'] } },
    (req, res) => (req.url.startsWith('/v1/organization') ? say(res, 403, '{"error":{"message":"not with this key: sk-a"}}')
        : say(res, 200, PLAIN)), async (s) => {
        for (const path of ['users', 'keys']) {
            const answer = await s.raw(`/v1/organization/${path}`);
            assert.ok(answer.status >= 400 && !answer.text.includes('sk-a'), answer.text);
        }
        assert.equal((await s.chat()).status, 200);
    });

for (const how of ['cut', 'error']) {
    handled(`what is not known to be harmless is not sent twice (${how})`, { provider: { retries: 3 } },
        (req, res) => (how === 'cut' ? res.socket.destroy() : say(res, 500, '{"error":{"message":"no"}}')), async (s) => {
            assert.equal((await s.raw('/v1/batches', { method: 'POST', body: '{}' })).status, 502);
            assert.equal(s.count, 1);
            await s.raw('/v1/batches/b');
            assert.ok(s.count > 2, 'GET is');
        });
}

handled('other paths: the provider\'s own 4xx, encoding and file name reach the client', {},
    (req, res, body) => (req.url.endsWith('packed') ? say(res, 200, JSON.stringify([req.headers['content-encoding'], gunzipSync(body).toString()]))
        : req.url.endsWith('content') ? say(res, 200, gzipSync('packed'), { 'content-type': 'text/plain', 'content-encoding': 'gzip', 'content-disposition': 'attachment; filename=a' })
        : say(res, 409, '{"error":{"message":"it exists","code":"conflict"}}')), async (s) => {
        const conflict = await s.raw('/v1/files/x', { method: 'POST', body: '{}' });
        assert.equal(conflict.status, 409);
        assert.equal(JSON.parse(conflict.text).error.code, 'conflict');
        const packed = await s.raw('/v1/files/packed', { method: 'POST', headers: { 'Content-Encoding': 'gzip' }, body: gzipSync('words') });
        assert.deepEqual(JSON.parse(packed.text), ['gzip', 'words']);
        assert.equal((await s.raw('/v1/chat/completions', { method: 'POST', headers: { 'Content-Encoding': 'gzip' }, body: gzipSync('{}') })).status, 415);
        const file = await s.raw('/v1/files/x/content');
        assert.equal(file.header('content-encoding'), 'gzip');
        assert.equal(file.header('content-disposition'), 'attachment; filename=a');
        assert.deepEqual(file.body, gzipSync('packed'));
    });

for (const [what, status, type, sent, message] of [['HTML', 404, 'text/html', '<html>no</html>', /does not know/],
    ['FastAPI\'s list', 422, 'application/json', '{"detail":[{"loc":["body"],"msg":"field required"}]}', /^field required$/],
    ['a text', 400, 'application/json', '{"error":"no such thing"}', /^no such thing$/], ['a redirect', 302, 'text/plain', '', /provider failed/]]) {
    handled(`an error in no known shape gets the client's (${what})`, {},
        (req, res) => say(res, status, sent, { 'content-type': type, location: 'http://elsewhere.test/' }), async (s) => {
            const answer = await s.chat();
            assert.equal(answer.status, status < 400 ? 502 : status);
            assert.match(answer.json.error.message, message);
            assert.equal(typeof answer.json.error.type, 'string');
        });
}

aiFlow('other paths of Anthropic\'s dialect have its errors', { needs: 'node' }, async (s) => {
    s.claude.keys = ['another'];
    const answer = await s.node.get('/v1/files/x', { 'anthropic-version': '2023-06-01' });
    assert.equal(answer.status, 502);
    assert.equal(JSON.parse(answer.text).type, 'error');
});

handled('Retry-After may be a date', { provider: { keys: ['sk-a'] } },
    (req, res) => say(res, 429, '{"error":{"message":"slowly","type":"rate_limit_error"}}',
        { 'retry-after': new Date(Date.now() + 40_000).toUTCString() }), async (s) => {
        const first = await s.chat();
        assert.equal(first.status, 429);
        assert.ok(Number(first.header('retry-after')) > 30, first.header('retry-after'));
    });

for (const error of [{ type: 'invalid_request_error', code: 'context_length_exceeded' }, { type: 'rate_limit_error' }]) {
    handled(`an error within a 200 that is not the provider's fault does not count against it (${error.type})`,
        { provider: { retries: 0, breaker: { failures: 2 } } },
        (req, res, body, count) => say(res, 200, count <= 6 ? JSON.stringify({ error: { message: 'no', ...error } }) : PLAIN), async (s) => {
            for (let i = 0; i < 6; i++) {
                const { status } = await s.chat(user(`q ${i}`));
                assert.ok(status < 500, `${status}`);
            }
            assert.equal((await s.chat(user('last'))).status, 200);
        });
}

handled('more rate limits than we care for do not spoil an answer', {},
    (req, res) => say(res, 200, PLAIN, Object.fromEntries(Array.from({ length: 80 }, (_, i) => [`x-ratelimit-${i}`, 'x'.repeat(100 + 4 * i)]))),
    async (s) => {
        assert.equal((await s.chat()).status, 200);
        s.hit(await s.chat(), 'memory');
    });

handled('an error whose body is cut is that error: the key rests', { provider: { keys: ['sk-a', 'sk-b'], retries: 0 } },
    (req, res) => {
        if (req.headers.authorization === 'Bearer sk-a') {
            res.writeHead(429, { 'content-type': 'application/json', 'content-length': 100, 'retry-after': '60' });
            res.write('{');
            setImmediate(() => res.socket.destroy());
        } else {
            say(res, 200, PLAIN);
        }
    }, async (s) => {
        for (let i = 0; i < 6; i++) {
            assert.equal((await s.chat(user(`q ${i}`))).status, 200);
        }
        assert.equal(s.count, 7, 'the first key once');
    });

handled('a request body that does not come is refused in the dialect\'s words', { config: { limits: { body_timeout: '200ms' } } },
    (req, res) => say(res, 200, PLAIN), async (s) => {
        const client = await s.open();
        await client.ask('/v1/messages', { method: 'POST', headers: { 'Content-Length': 100 }, body: '{' });
        const answer = await client.response();
        assert.equal(answer.status, 408);
        assert.equal(JSON.parse(answer.text).type, 'error');
        assert.equal(s.count, 0);
    });

handled('only-if-cached asks nobody', {}, (req, res) => say(res, 200, PLAIN), async (s) => {
    const only = { 'Cache-Control': 'only-if-cached' };
    assert.equal((await s.chat({}, only)).status, 504);
    assert.equal(s.count, 0);
    await s.chat();
    s.hit(await s.chat({}, only), 'memory');
    assert.equal(s.count, 1);
});

for (const threads of [1, 2]) {
    handled(`an answer that just came is not asked for again (${threads} loops)`, { config: { threads } },
        (req, res) => say(res, 200, PLAIN), async (s) => {
            const clients = await Promise.all(Array.from({ length: 8 }, () => s.open()));
            for (let round = 0; round < 150; round++) {
                const body = JSON.stringify({ ...CHAT, ...user(`round ${round}`) });
                await Promise.all(clients.map(async (client) => {
                    const answer = await client.request('/v1/chat/completions', { method: 'POST', body });
                    assert.equal(answer.status, 200);
                }));
            }
            assert.equal(s.count, 150);
        });
}

aiFlow('a client that leaves behind the last event has not spoiled it: it is stored', { needs: 'node' }, async (s) => {
    const door = gate();
    s.cloud.on('gpt-4o-mini', { text: 'all of it' });
    const slowEnd = http.createServer(async (req, res) => {
        for await (const part of req) {
            void part;
        }
        res.writeHead(200, { 'content-type': 'text/event-stream' });
        res.write(delta('all of it') + END);
        await door.held;
        res.end();
    });
    slowEnd.listen(0, '127.0.0.1');
    await once(slowEnd, 'listening');
    s.after(() => { slowEnd.close(); slowEnd.closeAllConnections(); });
    const node = await s.startNode({ config: aiConfig({ cloud: { v1: `http://127.0.0.1:${slowEnd.address().port}/v1` } },
        { providers: { cloud: {} } }) });
    const client = await s.asking('/v1/chat/completions', { ...CHAT, stream: true }, {}, node);
    let text = '';
    while (!text.includes('[DONE]')) {
        text += (await client.line()) ?? '';
    }
    client.close();
    await node.settled(2);
    door.open();
    let answer;
    for (let i = 0; i < 50 && !answer?.header('cache-status').includes('hit'); i++) {
        answer = await s.chat({ stream: true }, { 'Cache-Control': 'only-if-cached' }, node);
        await pause(10);
    }
    s.hit(answer, 'memory');
});

const PAIR = {
    first: { dialect: 'openai', config: { keys: ['sk-one', 'sk-two'], retries: 0 } },
    second: { dialect: 'openai', config: { keys: ['sk-three'], retries: 0 } },
};
const FAST = { models: { fast: { candidates: [{ provider: 'first', model: 'model-a' }, { provider: 'second', model: 'model-b' }] } } };
const both = { needs: 'node', providers: PAIR, ...FAST };

aiFlow('a stream\'s head counts its attempts', both, async (s) => {
    s.first.key('sk-one', { error: 'rate_limit' });
    const attempts = [];
    for (const stream of [true, false]) {
        s.second.reset();
        attempts.push(s.wall(await s.chat({ model: 'fast', ...user('one'), stream })).attempts);
    }
    assert.equal(attempts[0], 2);
});

aiFlow('an old answer is named after who gave it', { ...both, route: { stale_if_error: '1h' } }, async (s) => {
    await s.chat({ model: 'fast' });
    s.first.always({ error: 'server' });
    s.second.always({ error: 'server' });
    await pause(5);
    const answer = await s.chat({ model: 'fast' }, { 'Cache-Control': 'max-age=0' });
    assert.match(answer.said, /of first/);
    assert.equal(s.wall(answer).provider, 'first');
    assert.equal(s.wall(answer).model, 'model-a');
});

aiFlow('who waits for all of a stream that breaks goes on to the next candidate', both, async (s) => {
    const door = gate();
    s.first.next({ pieces: ['a', 'b', 'c', 'd'], between: door.at(2), cut: 3 });
    const streaming = await s.asking('/v1/chat/completions', { ...CHAT, model: 'fast', stream: true });
    assert.equal((await streaming.head()).status, 200);
    const plain = await s.asking('/v1/chat/completions', { ...CHAT, model: 'fast' });
    await s.node.settled(2);
    door.open();
    const answer = await plain.response();
    assert.equal(answer.status, 200, answer.text);
    assert.match(answer.text, /of second/);
});

const piece = (said, finish = null) => `data: ${JSON.stringify({ id: 'x', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, delta: said, finish_reason: finish }] })}\n\n`;
const DONE = 'data: [DONE]\n\n';
const streams = (res, bytes) => { res.writeHead(200, { 'content-type': 'text/event-stream' }); res.end(bytes); };

handled('what comes behind the end is in no form of the answer', {},
    (req, res) => streams(res, piece({ content: 'a' }) + piece({}, 'stop') + DONE + piece({ content: 'zzz' })), async (s) => {
        assert.doesNotMatch((await s.chat({ stream: true })).text, /zzz/);
        assert.equal(s.hit(await s.chat()).said, 'a');
    });

for (const [what, ending] of [['an event called error', 'event: error\ndata: {"message":"boom"}\n\n'], ['no JSON', 'event: error\ndata: boom\n\n'],
    ['a text', 'data: {"error":"boom"}\n\n'], ['a reason to stop', piece({}, 'error')]]) {
    handled(`an error within a stream that SDKs would overlook is said again in their words (${what})`, { provider: { breaker: { failures: 1000 } } },
        (req, res) => streams(res, piece({ content: 'a' }) + ending), async (s) => {
            const chat = await s.chat({ stream: true });
            assert.equal(chat.status, 200);
            assert.equal(typeof chat.events.at(-1).json.error.message, 'string', chat.text);
            const message = await s.message({ model: 'cloud/m', stream: true });
            assert.equal(message.events.at(-1).event, 'error', message.text);
            assert.equal(message.events.at(-1).json.type, 'error');
            assert.doesNotMatch(chat.text + message.text, /\[DONE\]|message_stop/);
        });
}

handled('a stream that ends without having said anything is a failure', { provider: { retries: 0 } }, (req, res) => streams(res, DONE), async (s) => {
    assert.equal((await s.chat({ stream: true })).status, 502);
});

handled('lines may end in a CR alone, the last one, too', {},
    (req, res) => streams(res, (piece({ content: 'a' }) + piece({}, 'stop') + DONE).replaceAll('\n', '\r')), async (s) => {
        for (const stream_options of [undefined, { include_usage: true }]) {
            const answer = await s.chat({ stream: true, stream_options });
            assert.ok(answer.text.endsWith('data: [DONE]\r\r'), JSON.stringify(answer.text.slice(-40)));
        }
        assert.equal(s.hit(await s.chat()).said, 'a');
        assert.equal(s.count, 1);
    });

aiFlow('a whole answer says what it cost, with the attempts that failed before it', { ...MONEY, providers: both.providers, models: both.models }, async (s) => {
    s.node = await s.startNode({ config: money(s, {}) });
    s.first.always({ error: 'server' });
    s.second.always({ usage: { input: 30, output: 10 } });
    const plain = s.wall(await s.chat({ model: 'fast' }));
    assert.deepEqual([plain.provider, plain.attempts, plain.cost], ['second', 2, bill({ input: 30, output: 10 }) / 1e6]);
    const door = gate();
    s.second.next({ pieces: ['a', 'b', 'c'], between: door.at(1) });
    const stream = await s.asking('/v1/chat/completions', { ...CHAT, model: 'fast', ...user('as a stream'), stream: true });
    const head = await stream.head();
    door.open();
    assert.match(head.header('doorstep-ai'), /; attempts=2$/, 'what a stream costs is known at its end');
    await stream.body(head);
    const hit = s.wall(await s.chat({ model: 'fast' }));
    assert.deepEqual([hit.attempts, hit.cost, hit.saved], [1, 0, plain.cost], 'the first one was asked once more');
});

aiFlow('who has no accepted credential left says so, and that asking again is of no use', { providers: { first: both.providers.first } }, async (s) => {
    s.first.always({ error: 'auth' });
    assert.equal((await s.chat()).status, 502);
    const answer = await s.chat();
    assert.equal(answer.status, 502);
    assert.match(answer.json.error.message, /credentials/);
    assert.equal(answer.header('x-should-retry'), 'false');
    assert.equal(answer.header('retry-after'), undefined);
});

const told = (type, more = {}) => `event: ${type}\ndata: ${JSON.stringify({ type, ...more })}\n\n`;

aiFlow('a stream of messages without its beginning is passed on, and never kept', { needs: 'node' }, async (s) => {
    s.claude.always({ type: 'text/event-stream', raw: told('content_block_start', { index: 0, content_block: { type: 'text', text: 'a' } })
        + told('content_block_stop', { index: 0 }) + told('message_delta', { delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 1 } }) + told('message_stop') });
    await s.message({ stream: true });
    s.claude.always({});
    assert.equal((await s.message()).said, 'answer 2 of claude to: What is the capital of France?');
});

aiFlow('what is stored and cannot be said in the other form is asked for again', { needs: 'node' }, async (s) => {
    const blocks = Array.from({ length: 300 }, (_, index) => told('content_block_start', { index, content_block: { type: 'text', text: 'a' } }) + told('content_block_stop', { index }));
    s.claude.next({ type: 'text/event-stream', raw: told('message_start', { message: { id: 'm', type: 'message', role: 'assistant', model: 'c', content: [], usage: { input_tokens: 1 } } })
        + blocks.join('') + told('message_delta', { delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 1 } }) + told('message_stop') });
    await s.message({ stream: true });
    s.hit(await s.message({ stream: true })); // more blocks than we put together
    const plain = s.miss(await s.message());
    assert.equal(plain.said, 'answer 2 of claude to: What is the capital of France?');
    assert.equal(s.hit(await s.message()).said, plain.said);
    assert.equal(s.hit(await s.message({ stream: true })).said, plain.said);
});
