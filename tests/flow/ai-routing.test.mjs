/** Which candidate of an alias is asked: what it can do, how busy and how fast it is, what the caller wants, how hard the prompt looks. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { aiConfig, aiFlow, CLIENT_KEY, DIRECT, gate } from './harness/ai.mjs';
import { BINARY } from './harness/node.mjs';
import { freePort, until } from './harness/server.mjs';

const PROVIDERS = {
    local: { dialect: 'openai', config: { rung: 'device' } },
    cloud: { dialect: 'openai', config: { rung: 'cloud', keys: ['sk-cloud'] } },
};
const skip = DIRECT && 'needs the node';

/** An alias `fast`: local with these options, then cloud. */
function two(local = {}, alias = {}) {
    return { needs: 'node', skip, providers: PROVIDERS, models: { fast: { candidates: [{ provider: 'local', model: 'small', ...local },
        { provider: 'cloud', model: 'large' }], ...alias } } };
}

const user = (content) => ({ messages: [{ role: 'user', content }] });
const ask = (s, more, headers, node) => s.chat({ model: 'fast', ...more }, headers, node);

/** Who answers this. */
async function whose(s, more, headers) {
    const answer = await ask(s, more, headers);
    assert.equal(answer.status, 200, answer.text);
    return s.wall(answer).provider;
}

async function refused(answer, code, words) {
    const response = await answer;
    assert.equal(response.status, 400, response.text);
    assert.equal(response.json.error.code, code);
    assert.match(response.json.error.message, words);
}

aiFlow('the first that can is asked', two(), async (s) => {
    assert.equal(await whose(s, user('a')), 'local');
    assert.equal(s.cloud.count, 0);
    assert.equal(s.local.last.json.model, 'small');
});

aiFlow('a prompt that is too long for it goes on, with the answer it asks for', two({ context: 100 }), async (s) => {
    assert.equal(await whose(s, user('a'.repeat(100))), 'local');
    assert.equal(await whose(s, user('a'.repeat(500))), 'cloud');
    assert.equal(await whose(s, { ...user('b'), max_tokens: 200 }), 'cloud');
    assert.equal(s.local.count, 1);
});

const TOOL = { type: 'function', function: { name: 'f', parameters: { type: 'object' } } };
const IMAGE = [{ role: 'user', content: [{ type: 'text', text: 'What is it?' },
    { type: 'image_url', image_url: { url: 'data:image/png;base64,iVBORw0KGgo=' } }] }];
for (const [what, more] of [['tools', { ...user('t'), tools: [TOOL] }], ['images', { messages: IMAGE }],
    ['json_schema', { ...user('j'), response_format: { type: 'json_schema', json_schema: { name: 'a', schema: { type: 'object' } } } }]]) {
    aiFlow(`who lacks ${what} is not asked for them`, two({ [what]: false }), async (s) => {
        assert.equal(await whose(s, more), 'cloud');
        assert.equal(await whose(s, user('plain')), 'local');
        assert.equal(s.local.count, 1);
    });
}

aiFlow('when nobody can the client is told why, in its dialect', two({ tools: false, context: 50 }), async (s) => {
    const tier = { 'Doorstep-AI-Tier': 'device' };
    await refused(ask(s, { ...user('t'), tools: [TOOL] }, tier), 'unsupported_feature', /cannot do what is asked/);
    await refused(ask(s, user('a'.repeat(400)), tier), 'context_length_exceeded', /too long/);
    const message = await s.message({ model: 'fast', ...user('a'.repeat(400)) }, tier);
    assert.equal(message.status, 400);
    assert.deepEqual([message.json.type, message.json.error.type], ['error', 'invalid_request_error']);
    assert.equal(s.local.count + s.cloud.count, 0);
});

aiFlow('who is at its limit of requests is passed over until one is over', two({ concurrency: 1 }), async (s) => {
    const door = gate();
    s.local.next({ wait: door.held });
    const first = ask(s, user('one'));
    await s.local.arrived(1);
    assert.equal(await whose(s, user('two')), 'cloud');
    door.open();
    assert.equal(s.wall(await first).provider, 'local');
    assert.equal(await whose(s, user('three')), 'local');
});

aiFlow('all at their limits: 503, and nobody is asked', two({ concurrency: 1 }), async (s) => {
    const door = gate();
    s.local.next({ wait: door.held });
    const first = ask(s, user('one'));
    await s.local.arrived(1);
    const answer = await ask(s, user('two'), { 'Doorstep-AI-Tier': 'device' });
    assert.equal(answer.status, 503);
    assert.ok(Number(answer.header('retry-after')) <= 60, answer.head);
    door.open();
    await first;
    assert.equal(s.local.count, 1);
});

aiFlow('who is slower than allowed comes last, but is still there', two({ max_first_token: '20ms' }), async (s) => {
    s.local.next({ firstToken: 200 });
    assert.equal(await whose(s, { ...user('slow'), stream: true }), 'local');
    assert.equal(await whose(s, user('then')), 'cloud');
    s.cloud.always({ error: 'server' });
    assert.equal(await whose(s, user('and then')), 'local');
});

aiFlow('the caller names the rung', two(), async (s) => {
    assert.equal(await whose(s, user('a'), { 'Doorstep-AI-Tier': 'cloud' }), 'cloud');
    assert.equal(await whose(s, user('b'), { 'Doorstep-AI-Tier': 'Device' }), 'local');
    s.local.always({ error: 'server' });
    assert.equal((await ask(s, user('c'), { 'Doorstep-AI-Tier': 'device' })).status, 502, 'no other rung, then');
    assert.equal(s.cloud.count, 1);
    await refused(ask(s, user('d'), { 'Doorstep-AI-Tier': 'edge' }), 'tier_not_available', /rung/);
    await refused(ask(s, user('e'), { 'Doorstep-AI-Tier': 'moon' }), 'invalid_tier', /device, edge, cloud/);
    const message = await s.message({ model: 'fast' }, { 'Doorstep-AI-Tier': 'moon' });
    assert.deepEqual([message.status, message.json.error.type], [400, 'invalid_request_error']);
    for (const request of [...s.local.requests, ...s.cloud.requests]) {
        assert.equal(request.headers['doorstep-ai-tier'], undefined, 'our fields are ours');
    }
});

aiFlow('a model named directly has its rung too', two(), async (s) => {
    assert.equal(s.wall(await s.chat({ model: 'any', ...user('a') }, { 'Doorstep-AI-Tier': 'cloud' })).provider, 'cloud');
    assert.equal(s.wall(await s.chat({ model: 'local/any', ...user('b') })).provider, 'local');
    await refused(s.chat({ model: 'local/any', ...user('c') }, { 'Doorstep-AI-Tier': 'cloud' }), 'tier_not_available', /rung/);
});

aiFlow('weights: shares of the requests, and the others when the drawn one fails', {
    needs: 'node', skip, providers: PROVIDERS, models: { fast: { order: 'weighted', candidates: [
        { provider: 'local', model: 'small', weight: 1 }, { provider: 'cloud', model: 'large', weight: 3 }] },
    one: { order: 'weighted', candidates: [{ provider: 'local', model: 'small', weight: 0 }, { provider: 'cloud', model: 'large' }] } },
}, async (s) => {
    for (let i = 0; i < 200; i++) {
        await whose(s, user(`question ${i}`));
    }
    assert.ok(s.local.count > 20 && s.local.count < 85, `50 of 200 expected: ${s.local.count}`);
    s.local.reset();
    for (let i = 0; i < 20; i++) {
        await s.chat({ model: 'one', ...user(`question ${i}`) });
    }
    assert.equal(s.local.count, 0, 'weight 0: only when the others fail');
    s.cloud.always({ error: 'server' });
    for (let i = 0; i < 5; i++) {
        assert.equal(await whose(s, user(`other ${i}`)), 'local');
    }
});

aiFlow('a device that is down (connection refused): the cloud, and the device again when it is back',
    { ...two(), node: false }, async (s) => {
        const config = s.config();
        config.ai.providers.local.url = `http://127.0.0.1:${await freePort()}/v1`;
        s.node = await s.startNode({ config });
        for (const stream of [false, true]) {
            const answer = await ask(s, { ...user(`stream ${stream}`), stream });
            assert.equal(answer.status, 200);
            assert.equal(s.wall(answer).provider, 'cloud');
        }
    });

const HARD = 'Explain step by step why the sum 12 * 7 = 84, then prove it:\n```\nint main;\n```';
aiFlow('a prompt that looks hard goes to the others first', two({}, { escalate: { threshold: 0.6, languages: ['en'] } }), async (s) => {
    assert.equal(await whose(s, user('Who wrote this?')), 'local');
    assert.equal(await whose(s, user(HARD)), 'cloud');
    assert.equal(await whose(s, user(HARD), { 'Doorstep-AI-Tier': 'device' }), 'local', 'the caller knows better');
    s.cloud.always({ error: 'server' });
    assert.equal(await whose(s, user(`${HARD} again`)), 'local', 'better than nothing');
});

aiFlow('without a threshold no prompt is too hard', two(), async (s) => {
    assert.equal(await whose(s, user(HARD)), 'local');
});

aiFlow('a language that nobody can tell is a mistake of the file', { ...two(), node: false }, async (s) => {
    const config = s.config({ models: { fast: { candidates: [{ provider: 'local', model: 'small' }], escalate: { languages: ['klingon'] } } } });
    await assert.rejects(s.startNode({ config }), /klingon/);
});

/** A node with its own provider, and one that has it for its edge. */
async function nodes(s, keys) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'doorstep-edge-'));
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    const parentConfig = aiConfig(s.providers, { providers: { cloud: s.options.providers.cloud }, ai: { auth: keys ? 'keys' : 'none' },
        models: { fast: { candidates: [{ provider: 'cloud', model: 'large' }] } },
        config: { node: { name: 'parent', region: 'eu' }, state: { path: path.join(folder, 'parent.db') } } });
    s.parent = await s.startNode({ config: parentConfig });
    let key = 'unused';
    if (keys) {
        key = await new Promise((resolve, reject) => {
            execFile(BINARY, ['keys', 'create', '--name', 'child', '--tenant', 'edge', '--admin', `127.0.0.1:${s.parent.adminPort}`, '--json'],
                (error, stdout) => (error ? reject(error) : resolve(JSON.parse(stdout).key)));
        });
    }
    const config = s.config({ config: { node: { name: 'child', region: 'pt' } } });
    config.ai.providers = { ...config.ai.providers, edge: { url: `http://127.0.0.1:${s.parent.port}/v1`, rung: 'edge', region: 'eu', keys: [key] } };
    config.ai.models = { fast: { candidates: [{ provider: 'local', model: 'small' }, { provider: 'edge', model: 'fast' }] } };
    s.node = await s.startNode({ config });
}

for (const keys of [false, true]) {
    aiFlow(`another node is the edge rung${keys ? ', with a key of its own' : ''}`, { ...two(), node: false }, async (s) => {
        s.options = two();
        await nodes(s, keys);
        s.local.always({ error: 'server' });
        for (const stream of [false, true]) {
            const answer = await ask(s, { ...user(`stream ${stream}`), stream });
            assert.equal(answer.status, 200, answer.text);
            const wall = s.wall(answer);
            assert.deepEqual([wall.provider, wall.model, wall.region], ['edge', 'fast', 'eu']);
            assert.match(answer.said, /of cloud to/);
        }
        assert.equal(s.cloud.last.json.model, 'large');
        s.hit(await ask(s, { ...user('stream true'), stream: true }), 'memory');
        assert.equal(s.wall(await ask(s, user('named'), { 'Doorstep-AI-Tier': 'edge' })).provider, 'edge');
        assert.equal(s.wall(await s.message({ model: 'fast', ...user('other dialect') })).provider, 'edge');
        s.cloud.always({ error: 'bad_request', message: 'the provider did not like it' });
        assert.equal((await ask(s, user('bad'))).status, 400);
    });
}

aiFlow('what the edge has stored costs nothing and keeps its age; what must not be stored is not stored there', { ...two(), node: false }, async (s) => {
    s.options = two();
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'doorstep-edge-'));
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    const prices = path.join(folder, 'prices.json');
    fs.writeFileSync(prices, JSON.stringify({ currency: 'USD', prices: [{ model: '*', input: 1000, output: 2000 }] }));
    const base = { models: { fast: { candidates: [{ provider: 'cloud', model: 'large' }] } } };
    s.parent = await s.startNode({ config: aiConfig(s.providers, { providers: { cloud: PROVIDERS.cloud }, ...base, config: { node: { name: 'parent' } } }) });
    const config = s.config({ ai: { prices }, route: { private: { do: 'pin', region: 'eu' } }, config: { node: { name: 'child' }, state: { path: path.join(folder, 'child.db') } } });
    config.ai.providers = { edge: { url: `http://127.0.0.1:${s.parent.port}/v1`, rung: 'edge', region: 'eu', keys: ['unused'] } };
    config.ai.models = { fast: { candidates: [{ provider: 'edge', model: 'fast' }] } };
    s.node = await s.startNode({ config });
    const rows = async (count) => until(async () => {
        const lines = (await s.node.admin('/ai/ledger')).body.toString().trim().split('\n').filter(Boolean).map((line) => JSON.parse(line));
        return lines.length >= count && lines;
    }, 'rows');
    for (const stream of [false, true]) {
        s.cloud.reset();
        const asked = { ...user(`known there ${stream}`), stream };
        await ask(s, asked, {}, s.parent);
        await ask(s, asked); // a hit there
        assert.equal(s.cloud.count, 1);
        s.hit(await ask(s, asked));
    }
    await ask(s, user('new to both'));
    const [plain, , stream, , paid] = await rows(5);
    for (const row of [plain, stream]) {
        assert.deepEqual([row.cost_micro, row.charged_tokens, row.saved_micro > 0, row.provider], [0, 0, true, 'edge'], JSON.stringify(row));
    }
    assert.ok(paid.cost_micro > 0);
    // The wishes of a client are the child's wishes.
    for (const [headers, body] of [[{ 'Cache-Control': 'no-store' }, user('never')], [{}, user('for jane@example.com')]]) {
        s.cloud.reset();
        assert.equal((await ask(s, body, headers)).status, 200);
        assert.equal((await ask(s, body, {}, s.parent)).status, 200);
        assert.equal(s.cloud.count, 2, `${JSON.stringify(headers)}: it is not stored there`);
    }
    s.cloud.reset();
    await ask(s, user('fresh'));
    await ask(s, user('fresh'), { 'Cache-Control': 'no-cache' });
    assert.equal(s.cloud.count, 2);
});

aiFlow('what the edge refuses by its rules takes nothing from who asked it', { ...two(), node: false }, async (s) => {
    const prices = path.join(os.tmpdir(), `doorstep-edge-${process.pid}.json`);
    s.after(() => fs.rmSync(prices, { force: true }));
    fs.writeFileSync(prices, JSON.stringify({ currency: 'USD', prices: [{ model: 'dear', input: 1000, output: 2000 }] }));
    s.parent = await s.startNode({ config: aiConfig(s.providers, { providers: { cloud: PROVIDERS.cloud },
        ai: { prices, budgets: [{ name: 'small', limit: '0.000001', per: 'day' }] }, route: { private: { do: 'refuse' } },
        models: { fast: { candidates: [{ provider: 'cloud', model: 'large' }] }, dear: { candidates: [{ provider: 'cloud', model: 'dear' }] } },
        config: { node: { name: 'parent' } } }) });
    const config = s.config({ config: { node: { name: 'child' } } });
    config.ai.providers = { local: config.ai.providers.local,
        edge: { url: `http://127.0.0.1:${s.parent.port}/v1`, rung: 'edge', keys: ['one', 'two'] } };
    config.ai.models = { fast: { candidates: [{ provider: 'edge', model: 'fast' }] },
        dear: { candidates: [{ provider: 'edge', model: 'dear' }, { provider: 'local', model: 'small' }] } };
    s.node = await s.startNode({ config });
    for (let i = 0; i < 3; i++) {
        const refusal = await ask(s, user(`jane${i}@example.com`));
        assert.deepEqual([refusal.status, refusal.json.error.code], [403, 'private'], refusal.text);
    }
    assert.equal(await whose(s, user('hello')), 'edge');
    assert.equal(s.wall(await s.chat({ model: 'dear' })).provider, 'local', 'its budget is used up');
    const { providers } = JSON.parse((await s.node.admin('/top')).body.toString()).ai;
    assert.equal(JSON.stringify(providers).match(/"dead":[1-9]/), null, JSON.stringify(providers));
});

aiFlow('two nodes that are each other\'s edge do not ask in circles', { ...two(), node: false }, async (s) => {
    const ports = [await freePort(), await freePort()];
    const make = (name, other) => {
        const config = aiConfig(s.providers, { providers: { cloud: PROVIDERS.cloud },
            models: { fast: { candidates: [{ provider: 'edge', model: 'fast' }, { provider: 'cloud', model: 'large' }] } }, config: { node: { name } } });
        config.ai.providers.edge = { url: `http://127.0.0.1:${other}/v1`, rung: 'edge', keys: ['unused'] };
        return config;
    };
    s.node = await s.startNode({ config: { ...make('one', ports[1]), listen: [`127.0.0.1:${ports[0]}`] } });
    await s.startNode({ config: { ...make('two', ports[0]), listen: [`127.0.0.1:${ports[1]}`] } });
    const answer = await ask(s, user('round and round'), {}, { port: ports[0] });
    assert.equal(answer.status, 200, answer.text);
    assert.equal(s.cloud.count, 1);
});

aiFlow('cloud was asked for and is gone: an old answer of it, and without one this machine', { ...two(), route: { stale_if_error: '1h' } }, async (s) => {
    const cloud = { 'Doorstep-AI-Tier': 'cloud' };
    const first = await ask(s, user('asked before'), cloud);
    s.cloud.always({ error: 'unavailable' });
    await new Promise((resolve) => { setTimeout(resolve, 5); });
    const old = await ask(s, user('asked before'), { ...cloud, 'Cache-Control': 'max-age=0' });
    assert.equal(old.said, first.said);
    assert.match(old.header('doorstep-ai'), /; stale/);
    assert.equal(s.local.count, 0);
    assert.equal(await whose(s, user('never asked'), cloud), 'local');
    s.local.always({ error: 'server' });
    assert.ok((await ask(s, user('nobody')), cloud).status !== 200);
});

aiFlow('a model that finds the prompt too long passes it on, and says so when there is no other', two(), async (s) => {
    for (const message of ['the request exceeds the available context size', 'This model\'s maximum context length is 4096 tokens.',
        'prompt is too long: 210000 tokens > 200000 maximum']) {
        s.local.always({ raw: JSON.stringify({ error: { code: 400, message, type: 'x' } }), status: 400 });
        for (const stream of [false, true]) {
            assert.equal(await whose(s, { ...user(`${message} ${stream}`), stream }), 'cloud');
        }
    }
    const alone = await ask(s, user('alone'), { 'Doorstep-AI-Tier': 'device' });
    assert.deepEqual([alone.status, alone.json.error.message.slice(0, 18)], [400, 'prompt is too long']);
    assert.equal(alone.header('doorstep-ai-too-long'), undefined);
    s.cloud.always({ error: 'bad_request' });
    assert.equal((await ask(s, user('both'))).status, 400);
    s.local.always({});
    assert.equal(await whose(s, user('it is no failure')), 'local');
});

aiFlow('a conversation with tool calls in it needs who knows tools', two({ tools: false }), async (s) => {
    const call = { id: 'a', type: 'function', function: { name: 'f', arguments: '{}' } };
    assert.equal(await whose(s, { messages: [{ role: 'user', content: 'x' }, { role: 'assistant', content: null, tool_calls: [call] },
        { role: 'tool', tool_call_id: 'a', content: '1' }] }), 'cloud');
});

aiFlow('each model has its limits in time', two({ first_token_timeout: '50ms', token_timeout: '50ms' }), async (s) => {
    const [one, two_] = [gate(), gate()];
    s.local.next({ wait: one.held });
    assert.equal(await whose(s, { ...user('late'), stream: true }), 'cloud');
    s.local.next({ pieces: ['a ', 'b'], between: two_.at(1) });
    const answer = await ask(s, { ...user('stops'), stream: true });
    assert.match(answer.text, /^data: .*"a "/m);
    assert.match(answer.text, /data: \{"error":/);
    one.open();
    two_.open();
});
