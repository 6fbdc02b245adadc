/** The fingerprint cache: what is the same question, what is stored, which rung answers, and what callers may say about it. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { aiFlow, CHAT, gate, MESSAGE } from './harness/ai.mjs';
import { scratch } from './harness/flow.mjs';
import { restartNode, startNodes } from './harness/nodes.mjs';
import { startRedis } from './harness/redis.mjs';
import { until } from './harness/server.mjs';

const NODE = { needs: 'node' };
const user = (content) => ({ messages: [{ role: 'user', content }] });
const TOOL = { type: 'function', function: { name: 'f', parameters: { type: 'object', properties: {} } } };

aiFlow('the same bytes reach the provider, with its key and without ours', NODE, async (s) => {
    const body = '{ "messages" : [ {"content":"h\\u00e9 \\/ é","role":"user"}],\n "model":"gpt-4o-mini", "seed": 12345678901234567890, "x": 1.10 }';
    await s.ask('/v1/chat/completions', body, { 'X-Mine': 'yes', Cookie: 'a=b' });
    assert.equal(s.cloud.last.body.toString(), body);
    assert.equal(s.cloud.last.headers.cookie, undefined);
    assert.match(s.cloud.last.key, /^sk-test-[12]$/);
});

aiFlow('only the model name is changed for a candidate of another name', { ...NODE,
    models: { fast: { candidates: [{ provider: 'cloud', model: 'gpt-4o-mini' }] } } }, async (s) => {
    const body = '{"a": [1, 2.50, "fast"], "model": "fast" , "messages":[{"role":"user","content":"\\u0041"}], "z": {"model": "fast"}}';
    const answer = await s.ask('/v1/chat/completions', body);
    assert.equal(answer.status, 200, answer.text);
    assert.equal(s.cloud.last.body.toString(), body.replace('"model": "fast" ,', '"model": "gpt-4o-mini" ,'));
    assert.equal(s.wall(answer).model, 'gpt-4o-mini');
});

aiFlow('usage is asked for in a stream without changing anything else', NODE, async (s) => {
    const body = '{"model":"gpt-4o-mini","stream":true, "messages":[{"role":"user","content":"x"}]}';
    const answer = await s.ask('/v1/chat/completions', body);
    assert.ok(answer.streamed);
    assert.ok(answer.events.every((event) => !event.json || event.json.choices.length === 1), 'the chunk is hidden');
    assert.doesNotMatch(answer.text, /usage/, 'and there is no usage elsewhere, not even null');
    assert.match((await s.ask('/v1/chat/completions', { ...JSON.parse(body), stream_options: { include_usage: true } })).text, /"usage":null\}\n/);
    const { stream_options, ...rest } = s.cloud.last.json;
    assert.deepEqual(stream_options, { include_usage: true });
    assert.deepEqual(rest, JSON.parse(body));
});

for (const [dialect, ask, provider] of [['chat', 'chat', 'cloud'], ['messages', 'message', 'claude']]) {
    aiFlow(`${dialect}: a stored stream answers those who ask plain, and the reverse`, NODE, async (s) => {
        const streamed = await s[ask]({ stream: true });
        const plain = s.hit(await s[ask](), 'memory');
        assert.ok(!plain.streamed);
        assert.equal(plain.said, streamed.said);
        const first = await s[ask](user('another'));
        const replayed = s.hit(await s[ask]({ ...user('another'), stream: true }), 'memory');
        assert.ok(replayed.streamed);
        assert.equal(replayed.said, first.said);
        const again = s.hit(await s[ask]({ stream: true }), 'memory');
        assert.equal(again.said, streamed.said);
        assert.equal(s[provider].count, 2);
    });

    aiFlow(`${dialect}: tool calls and reasoning survive both ways`, NODE, async (s) => {
        s[provider].always({ reasoning: ['think ', 'twice'], pieces: ['done ', 'that'], tools: [{ id: 'call_1', name: 'f', arguments: { a: [1, 'x"y'] } }] });
        const tools = ask === 'chat' ? [TOOL] : [{ name: 'f', input_schema: { type: 'object' } }];
        const streamed = await s[ask]({ tools, stream: true });
        const plain = s.hit(await s[ask]({ tools }));
        const message = ask === 'chat' ? plain.json.choices[0].message : plain.json;
        if (ask === 'chat') {
            assert.deepEqual([message.content, message.reasoning_content, message.tool_calls[0].function.arguments, plain.json.choices[0].finish_reason],
                ['done that', 'think twice', '{"a":[1,"x\\"y"]}', 'tool_calls']);
        } else {
            assert.deepEqual(message.content.map((block) => block.type), ['thinking', 'text', 'tool_use']);
            assert.deepEqual(message.content[2].input, { a: [1, 'x"y'] });
            assert.equal(message.content[0].signature, 'c2lnbmVk');
            assert.equal(message.stop_reason, 'tool_use');
        }
        assert.ok(streamed.streamed);
        assert.equal(s[provider].count, 1);
    });
}

aiFlow('20 identical prompts in flight are one call, and all 20 stream', NODE, async (s) => {
    const door = gate();
    s.cloud.next({ pieces: ['one ', 'two ', 'three'], between: door.at(1) });
    const clients = await Promise.all(Array.from({ length: 20 }, () => s.asking('/v1/chat/completions', { ...CHAT, stream: true })));
    const heads = await Promise.all(clients.map((client) => client.head())); // before the answer is whole
    assert.ok(heads.every((head) => head.status === 200));
    door.open();
    for (const [i, client] of clients.entries()) {
        await client.body(heads[i]);
        assert.match(heads[i].text, /one[^]*two[^]*three[^]*\[DONE\]/);
    }
    assert.equal(s.cloud.count, 1);
});

aiFlow('those who wait for a call that fails all get an answer', NODE, async (s) => {
    const door = gate();
    s.cloud.next({ wait: door.held, error: 'bad_request' });
    const clients = await Promise.all(Array.from({ length: 5 }, () => s.asking('/v1/chat/completions', CHAT)));
    await s.cloud.arrived(1);
    door.open();
    const answers = await Promise.all(clients.map((client) => client.response()));
    assert.ok(answers.every((answer) => answer.status === 400 || answer.status === 200), answers.map((answer) => answer.status).join());
});

aiFlow('one of many leaves: the others still get the answer, and it is stored', NODE, async (s) => {
    const door = gate();
    s.cloud.next({ wait: door.held });
    const [leaver, stayer] = [await s.asking('/v1/chat/completions', CHAT), await s.asking('/v1/chat/completions', CHAT)];
    await s.cloud.arrived(1);
    leaver.close();
    await s.node.settled();
    door.open();
    assert.equal((await stayer.response()).status, 200);
    s.hit(await s.chat());
    assert.equal(s.cloud.count, 1);
});

const SAME = [
    ['order of members and blanks', '{"messages":[{"content":"q","role":"user"}],"model":"gpt-4o-mini"}',
        '{ "model" : "gpt-4o-mini", "messages" : [ { "role" : "user", "content" : "q" } ] }'],
    ['escapes', '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"\\u0041\\/é"}]}',
        '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"A/\\u00e9"}]}'],
    ['numbers', '{"model":"gpt-4o-mini","temperature":0.50,"seed":1e2,"messages":[{"role":"user","content":"q"}]}',
        '{"model":"gpt-4o-mini","temperature":5e-1,"seed":100,"messages":[{"role":"user","content":"q"}]}'],
    ['metadata', '{"model":"gpt-4o-mini","metadata":{"a":"1"},"messages":[{"role":"user","content":"q"}]}',
        '{"model":"gpt-4o-mini","metadata":{"a":"2"},"messages":[{"role":"user","content":"q"}]}'],
    ['user', '{"model":"gpt-4o-mini","user":"ann","messages":[{"role":"user","content":"q"}]}',
        '{"model":"gpt-4o-mini","user":"bob","messages":[{"role":"user","content":"q"}]}'],
];
aiFlow('the same question, said otherwise, is the same question', NODE, async (s) => {
    for (const [what, one, other] of SAME) {
        const before = s.cloud.count;
        const mark = `${what} `;
        const answer = await s.ask('/v1/chat/completions', one.replace('"content":"', `"content":"${mark}`));
        assert.equal(answer.status, 200, what);
        const second = await s.ask('/v1/chat/completions', other.replace(/"content" ?: ?"/, (found) => found + mark));
        assert.equal(s.cloud.count, before + 1, what);
        s.hit(second);
    }
});

const OTHER = [
    { model: 'gpt-4o' }, user('What is the capital of france?'), user('What is the capital of France? '), { temperature: 0 }, { temperature: 0.1 },
    { top_p: 0.5 }, { max_tokens: 5 }, { max_completion_tokens: 5 }, { n: 2 }, { stop: ['x'] }, { seed: 1 }, { seed: 9007199254740993 },
    { presence_penalty: 1 }, { frequency_penalty: 1 }, { logit_bias: { 50256: -100 } }, { logprobs: true }, { reasoning_effort: 'low' },
    { response_format: { type: 'json_object' } }, { tools: [TOOL] }, { tools: [TOOL], tool_choice: 'none' }, { parallel_tool_calls: false },
    { service_tier: 'flex' }, { modalities: ['text'] }, { messages: [{ role: 'system', content: 'Be short.' }, ...CHAT.messages] },
    { messages: [{ role: 'user', name: 'ann', content: CHAT.messages[0].content }] }, { an_unknown_field: 1 }, { an_unknown_field: 2 },
    { another: null }, { nested: { unknown: [true] } }, { messages: [{ ...CHAT.messages[0], unknown: 1 }] }, user([{ type: 'text', text: 'What is the capital of France?' }]),
    user([{ type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }]), user([{ type: 'image_url', image_url: { url: 'data:image/png;base64,AAAB' } }]),
];
aiFlow('every field that may change the answer changes the key', NODE, async (s) => {
    await s.chat();
    for (const [i, more] of OTHER.entries()) {
        const answer = await s.chat(more);
        assert.equal(answer.status, 200, `${JSON.stringify(more)}: ${answer.text}`);
        assert.equal(s.cloud.count, i + 2, `${JSON.stringify(more)} was answered from another question`);
    }
    s.hit(await s.chat());
    for (const more of OTHER.slice(0, 4)) {
        s.hit(await s.chat(more));
    }
});

aiFlow('fields of the request that change the answer are in the key, others are not', NODE, async (s) => {
    await s.message();
    for (const headers of [{ 'anthropic-beta': 'a-2025' }, { 'anthropic-beta': 'b-2025' }, { 'anthropic-version': '2024-01-01' }]) {
        const before = s.claude.count;
        await s.message({}, headers);
        assert.equal(s.claude.count, before + 1, JSON.stringify(headers));
        s.hit(await s.message({}, headers));
    }
    for (const query of ['beta=true', 'beta=false']) { // the provider sees it
        const before = s.claude.count;
        s.miss(await s.ask(`/v1/messages?${query}`, MESSAGE));
        assert.equal(s.claude.last.url, `/v1/messages?${query}`);
        assert.equal(s.claude.count, before + 1);
        s.hit(await s.ask(`/v1/messages?${query}`, MESSAGE));
    }
    await s.chat();
    await s.chat({}, { 'OpenAI-Beta': 'x=v2' });
    assert.equal(s.cloud.count, 2);
    s.hit(await s.chat({}, { 'X-Request-Id': 'abc', 'User-Agent': 'other', 'X-Stainless-Retry-Count': '1', 'X-Stainless-Timeout': '5' }));
    s.hit(await s.chat({ stream: true, stream_options: { include_usage: true } }));
});

aiFlow('betas in several lines are one list: all of it goes on, all of it is in the key', NODE, async (s) => {
    const client = await s.node.client();
    const body = JSON.stringify(MESSAGE);
    client.method = 'POST';
    for (const [i, betas] of [['a', 'b'], ['a', 'c'], ['a']].entries()) {
        for (let again = 0; again < 2; again++) {
            await client.send(`POST /v1/messages HTTP/1.1\r\nHost: x\r\nanthropic-version: 2023-06-01\r\n${
                betas.map((beta) => `anthropic-beta: ${beta}\r\n`).join('')}Content-Length: ${body.length}\r\n\r\n${body}`);
            assert.equal((await client.response()).status, 200);
            assert.equal(s.claude.count, i + 1);
            assert.equal(s.claude.last.headers['anthropic-beta'], betas.join(', '));
        }
    }
    client.close();
});

const NEVER = [
    ['chat', { n: 1 }, { pieces: ['a'], tools: [{ name: 'f', arguments: '{"a":' }] }, 'tool calls that are no JSON'],
    ['responses', { background: true }, {}, 'background'], ['responses', { previous_response_id: 'resp_1' }, {}, 'previous_response_id'],
    ['responses', { conversation: 'conv_1' }, {}, 'conversation'], ['responses', { tools: [{ type: 'web_search' }] }, {}, 'tools of the server'],
    ['responses', { store: true, background: true }, {}, 'background with store'],
];
for (const [endpoint, more, script, what] of NEVER) {
    aiFlow(`never stored: ${what}`, NODE, async (s) => {
        s.cloud.always(script);
        for (let i = 1; i <= 2; i++) {
            const answer = endpoint === 'chat' ? await s.chat({ ...more, tools: [TOOL] })
                : await s.ask('/v1/responses', { model: 'gpt-4o-mini', input: 'Say something.', ...more });
            assert.equal(answer.status, 200, answer.text);
            s.miss(answer);
            assert.equal(s.cloud.count, i);
        }
    });
}

const BROKEN = [
    ['a cut after content', { pieces: ['a ', 'b ', 'c'], cut: 2 }], ['an end too soon', { pieces: ['a ', 'b ', 'c'], end: 2 }],
    ['an error inside of the stream', { pieces: ['a ', 'b'], error: 'server', inside: true, at: 1 }], ['an event that is no JSON', { pieces: ['a ', 'b ', 'c'], malformed: 1 }],
];
for (const [what, script] of BROKEN) {
    aiFlow(`never stored: a stream with ${what}`, NODE, async (s) => {
        s.cloud.next(script);
        s.claude.next(script);
        const chat = await s.chat({ stream: true });
        assert.match(chat.text, /data: \{"error":/, chat.text.slice(-300));
        assert.doesNotMatch(chat.text, /\[DONE\]/);
        const message = await s.message({ stream: true });
        assert.match(message.text, /event: error\r?\ndata: \{"type": ?"error"/, message.text.slice(-300));
        assert.doesNotMatch(message.text, /message_stop/);
        s.miss(await s.chat());
        s.miss(await s.message());
        assert.deepEqual([s.cloud.count, s.claude.count], [2, 2]);
        s.hit(await s.chat({ stream: true }));
        s.hit(await s.message({ stream: true }));
    });
}

aiFlow('never stored: a stream without its terminal event, though all was said', NODE, async (s) => {
    s.cloud.next({ done: false });
    const cut = await s.chat({ stream: true });
    assert.match(cut.said, /^answer 1 of cloud to: What is the capital of France\?/);
    assert.match(cut.text, /data: \{"error":[^\n]*\n\n$/, 'said as cut: no SDK would notice');
    s.miss(await s.chat());
    assert.equal(s.cloud.count, 2);
});

aiFlow('never stored: an error inside of a plain 200', NODE, async (s) => {
    s.cloud.always({ error: 'server', inside: true });
    const answer = await s.chat();
    assert.ok(answer.status >= 500, `${answer.status}: ${answer.text}`);
    s.cloud.always({});
    assert.equal((await s.chat()).status, 200);
});

aiFlow('never stored: what is larger than 1 MiB, though it is answered', NODE, async (s) => {
    s.cloud.always({ giant: 1_200_000 });
    for (let i = 1; i <= 2; i++) {
        const answer = await s.chat({ stream: i === 2 });
        assert.ok(answer.text.length > 1_200_000 && answer.complete);
        assert.equal(s.cloud.count, i);
    }
});

aiFlow('what the stored answer cost is said as saved, not as cost', NODE, async (s) => {
    const prices = `${s.folder ?? (s.folder = scratch())}/prices.json`;
    s.after(() => fs.rmSync(s.folder, { recursive: true, force: true }));
    fs.writeFileSync(prices, JSON.stringify({ currency: 'USD', prices: [{ provider: 'cloud', model: 'gpt-*', input: 1000, output: 2000 }] }));
    const node = await s.startNode({ config: s.config({ ai: { prices } }) });
    const first = s.wall(await s.chat({}, {}, node));
    assert.ok(first.cost > 0 && !first.saved, JSON.stringify(first));
    const answer = await s.chat({}, {}, node);
    const second = s.wall(s.hit(answer));
    assert.ok(!second.cost && second.saved > 0, JSON.stringify(second));
    assert.equal(second.saved, first.cost);
    assert.ok(answer.json.usage.total_tokens > 0, 'usage as it was stored');
});

aiFlow('a caller says: not from the cache, not into it, not this old', NODE, async (s) => {
    const count = async (expected, more, headers) => {
        const answer = await s.chat(more, headers);
        assert.equal(answer.status, 200, answer.text);
        assert.equal(s.cloud.count, expected, JSON.stringify(headers));
        return answer;
    };
    const fresh = (() => { let n = 0; return () => user(`question ${n++}`); })();
    // no-store: neither looked up nor kept
    let ask = fresh();
    await count(1, ask, { 'Cache-Control': 'no-store' });
    await count(2, ask);
    await count(3, ask, { 'Cache-Control': 'no-store' });
    // no-cache: asked again, and kept
    ask = fresh();
    const old = await count(4, ask);
    const renewed = await count(5, ask, { 'Cache-Control': 'no-cache' });
    assert.notEqual(renewed.said, old.said);
    assert.equal((await count(5, ask)).said, renewed.said);
    // max-age=0: what is older than that is asked for again
    await count(6, ask, { 'Cache-Control': 'max-age=0' });
    s.hit(await count(6, ask, { 'Cache-Control': 'max-age=3600' }));
    // aliases
    for (const headers of [{ 'cf-aig-skip-cache': 'true' }, { 'x-portkey-cache-force-refresh': 'true' }, { 'Helicone-Cache-Enabled': 'false' }]) {
        const before = s.cloud.count;
        s.miss(await count(before + 1, ask, headers));
    }
    s.hit(await count(s.cloud.count, ask, { 'Helicone-Cache-Enabled': 'true' }));
    s.hit(await count(s.cloud.count, ask, { 'cf-aig-cache-ttl': '3600' }));
});

aiFlow('no route ttl: nothing is stored, unless the caller asks and the route lets it', { ...NODE, route: { ttl: '0s', ttl_max: '30s' } }, async (s) => {
    await s.chat();
    s.miss(await s.chat());
    assert.equal(s.cloud.count, 2);
    const hour = { 'cf-aig-cache-ttl': '3600' };
    s.miss(await s.chat({}, hour));
    const found = s.status(s.hit(await s.chat({}, hour)));
    assert.ok(found.ttl > 0 && found.ttl <= 30, `no longer than the route allows: ${found.ttl}`);
    s.miss(await s.chat()); // who does not ask gets nothing stored
    for (const wrong of ['-1', 'x', '1e9', '']) {
        assert.equal((await s.chat({ seed: 1 }, { 'cf-aig-cache-ttl': wrong })).status, 200, wrong);
        s.miss(await s.chat({ seed: 1 }, { 'cf-aig-cache-ttl': wrong }));
    }
});

aiFlow('a caller may ask for a shorter life than the route gives', { ...NODE, route: { ttl: '1h', ttl_max: '1h' } }, async (s) => {
    await s.chat({}, { 'cf-aig-cache-ttl': '60' });
    assert.ok(s.status(s.hit(await s.chat())).ttl <= 60);
    await s.chat({ seed: 1 });
    assert.ok(s.status(s.hit(await s.chat({ seed: 1 }, { 'cf-aig-cache-ttl': '60' }))).ttl <= 60);
    s.miss(await s.chat({ seed: 1 }, { 'cf-aig-cache-ttl': '0' }));
});

aiFlow('never stored: a stream of messages with a tool call that is no JSON', NODE, async (s) => {
    s.claude.always({ pieces: ['a'], tools: [{ name: 'f', arguments: '{"a":' }] });
    for (let i = 1; i <= 2; i++) {
        s.miss(await s.message({ stream: true, tools: [{ name: 'f', input_schema: { type: 'object' } }] }));
        assert.equal(s.claude.count, i);
    }
});

aiFlow('only_deterministic: answers of chance are not stored', { ...NODE, route: { only_deterministic: true } }, async (s) => {
    await s.chat({ temperature: 1 });
    s.miss(await s.chat({ temperature: 1 }));
    await s.chat({ temperature: 0 });
    s.hit(await s.chat({ temperature: 0 }));
});

aiFlow('scope user: each user has answers of its own', { ...NODE, route: { scope: 'user' } }, async (s) => {
    await s.chat({ user: 'ann' });
    s.hit(await s.chat({ user: 'ann' }));
    s.miss(await s.chat({ user: 'bob' }));
    assert.equal(s.cloud.count, 2);
});

aiFlow('numbers no double can hold are forwarded as they are, and never mixed up', NODE, async (s) => {
    for (const number of ['18446744073709551615', '18446744073709551616', '9007199254740993', '9007199254740992', '1e400', '-0', '0.1000000000000000055511151231257827']) {
        const before = s.cloud.count;
        const body = `{"model":"gpt-4o-mini","x":${number},"messages":[{"role":"user","content":"q"}]}`;
        assert.equal((await s.ask('/v1/chat/completions', body)).status, 200);
        assert.equal(s.cloud.count, before + 1, number);
        assert.equal(s.cloud.last.body.toString(), body);
    }
});

aiFlow('what is on disk answers after a restart, and after a crash', { ...NODE, node: false }, async (s) => {
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    let [node] = await startNodes(s, ['one'], () => s.config({ config: { disk: { path: folder, size: '64M' } } }));
    const written = () => until(async () => ((await node.metrics()).get('doorstep_disk_queued_bytes') ?? 0) === 0, 'written');
    const first = await s.chat({}, {}, node);
    const streamed = await s.chat({ ...user('streamed'), stream: true }, {}, node);
    await written();
    for (const kill of [false, true]) {
        node = await restartNode(s, node, { kill });
        assert.equal(s.hit(await s.chat({ stream: true }, {}, node), 'disk').said, first.said);
        assert.equal(s.hit(await s.chat(user('streamed'), {}, node), 'disk').said, streamed.said);
        s.hit(await s.chat({}, {}, node), 'memory');
    }
    assert.equal(s.cloud.count, 2);
});

aiFlow('another node of the region finds it in the store, in both modes', { ...NODE, node: false }, async (s) => {
    const redis = await s.use(startRedis());
    const nodes = await startNodes(s, ['one', 'two'], (name) => s.config({ config: { node: { name, region: 'eu' },
        shared: { url: redis.url, timeout: '1s' } } }));
    for (const node of nodes) {
        await until(async () => {
            const all = await node.metrics();
            await node.get('/.clock', { 'Cache-Control': 'only-if-cached' });
            return all.get('doorstep_bus_caught_up') === 1;
        }, `${node.name} has caught up`);
    }
    const [one, two] = nodes;
    const written = (node) => until(async () => ((await node.metrics()).get('doorstep_shared_queued_bytes') ?? 0) === 0, 'written');
    const first = await s.message({ stream: true }, {}, one);
    await written(one);
    assert.equal(s.hit(await s.message({}, {}, two), 'shared').said, first.said);
    s.hit(await s.message({ stream: true }, {}, two), 'memory');
    const plain = await s.chat({}, {}, two);
    await written(two);
    assert.equal(s.hit(await s.chat({ stream: true }, {}, one), 'shared').said, plain.said);
    assert.deepEqual([s.cloud.count, s.claude.count], [1, 1]);
    // both at once: one lease, one call
    const both = await Promise.all(nodes.map((node) => s.chat(user('both at once'), {}, node)));
    assert.equal(both[0].status, 200);
    assert.equal(both[1].status, 200);
});

aiFlow('answers say what happened, and never more than the client may know', NODE, async (s) => {
    const first = await s.chat();
    assert.deepEqual(Object.keys(s.wall(first)).filter((name) => ['provider', 'model', 'region', 'attempts', 'cost'].includes(name)).length >= 4, true, first.header('doorstep-ai'));
    assert.equal(s.status(first).name, 'test-1');
    assert.match(first.header('server-timing'), /provider;dur=/);
    assert.ok(first.header('x-request-id'));
    const second = s.hit(await s.chat());
    assert.match(second.header('server-timing'), /lookup;dur=/);
    const message = await s.message();
    assert.ok(message.header('request-id'), 'the dialect\'s own name');
    for (const answer of [first, second, message]) {
        assert.doesNotMatch(answer.lines.join('\n') + answer.text, /sk-test|sk-ant/);
    }
});

aiFlow('what a fallback said is kept under its own key, not under that of who failed', { ...NODE, providers: {
    first: { dialect: 'openai', config: { keys: ['sk-one'], retries: 0, breaker: { failures: 1000 } } }, second: { dialect: 'openai', config: { keys: ['sk-two'] } },
}, models: { fast: { candidates: [{ provider: 'first', model: 'model-a' }, { provider: 'second', model: 'model-b' }] } } }, async (s) => {
    for (const stream of [false, true]) {
        const ask = { model: 'fast', ...user(`${stream}`), stream };
        s.first.next({ error: 'server' });
        assert.match((await s.chat(ask)).said, /of second/);
        assert.match(s.miss(await s.chat(ask)).said, /of first/);
        assert.match(s.hit(await s.chat(ask)).said, /of first/);
        assert.match(s.hit(await s.chat({ ...ask, model: 'second/model-b' })).said, /of second/);
    }
    assert.deepEqual([s.first.count, s.second.count], [4, 2]);
});

aiFlow('counting the epoch up forgets all, counting it down finds it again', { ...NODE, node: false }, async (s) => {
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    let [node] = await startNodes(s, ['one'], () => s.config({ config: { disk: { path: folder, size: '64M' } } }));
    const first = await s.chat({}, {}, node);
    for (const [epoch, hit] of [[1, false], [0, true], [1, true]]) {
        await until(async () => ((await node.metrics()).get('doorstep_disk_queued_bytes') ?? 0) === 0, 'written');
        node = await restartNode(s, node, { change: (config) => { config.routes[0].ai.epoch = epoch; } });
        const answer = await s.chat({}, {}, node);
        assert.equal(s.status(answer).hit === true, hit, `epoch ${epoch}`);
        assert.equal(answer.said === first.said, epoch === 0);
    }
    assert.equal(s.cloud.count, 2);
});
