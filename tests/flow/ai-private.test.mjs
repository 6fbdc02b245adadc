/**
 * What must stay apart: prompts with personal data from who may not see them, tenants from each other, clients' keys from providers,
 * providers' keys from everybody.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { aiFlow, CHAT, MESSAGE } from './harness/ai.mjs';
import { ask, given, makeKey, message, refused } from './harness/ai-asking.mjs';
import { run, scratch } from './harness/flow.mjs';
import { startNodes } from './harness/nodes.mjs';
import { startRedis } from './harness/redis.mjs';
import { until } from './harness/server.mjs';

const EMAIL = 'jane.doe@example.org';
const CARD = '4111 1111 1111 1111';
const PROVIDERS = {
    cloud: { dialect: 'openai', config: { rung: 'cloud', region: 'us', keys: ['sk-cloud-secret-1', 'sk-cloud-secret-2'] } },
    claude: { dialect: 'anthropic', config: { rung: 'cloud', region: 'eu', keys: ['sk-ant-secret'] } },
    local: { dialect: 'openai', config: { rung: 'device', region: 'here' } },
};
const MODELS = { fast: { candidates: [{ provider: 'cloud', model: 'gpt-4o-mini' }, { provider: 'claude', model: 'claude-test-1' },
    { provider: 'local', model: 'tiny' }] }, far: { candidates: [{ provider: 'cloud', model: 'gpt-4o-mini' }] } };
const NODE = { needs: 'node', providers: PROVIDERS, models: MODELS };
const says = (content, more = {}) => ({ ...CHAT, model: 'fast', messages: [{ role: 'user', content }], ...more });
const seen = (provider) => provider.requests.map((request) => request.body.toString()).join('\n');

aiFlow('pin: only this machine sees personal data, and nobody when it cannot', { ...NODE, route: { private: { do: 'pin' } } }, async (s) => {
    const plain = given(s, await ask(s, null, { body: says('hello') }));
    assert.equal(s.wall(plain).provider, 'cloud');
    for (const body of [says(`write to ${EMAIL}`), says('hello', { user: EMAIL }), says([{ type: 'text', text: `card ${CARD}` }])]) {
        assert.equal(s.wall(given(s, await ask(s, null, { body }))).provider, 'local');
    }
    const escaped = JSON.stringify(says('write to jane!')).replace('jane!', 'jane\\u0040example.org');
    assert.equal(s.wall(given(s, await ask(s, null, { body: escaped }))).provider, 'local');
    for (const provider of [s.cloud, s.claude]) {
        assert.ok(!seen(provider).includes(EMAIL) && !seen(provider).includes(CARD));
    }
    refused(s, await ask(s, null, { body: { ...says(EMAIL), model: 'far' } }), 403, { type: 'permission_error', words: /personal data/ });
    refused(s, await ask(s, null, { body: says(EMAIL), headers: { 'Doorstep-AI-Tier': 'cloud' } }), 403);
    // Not even when the machine's own fails.
    s.local.always({ error: 'overloaded' });
    assert.ok((await ask(s, null, { body: says(`${EMAIL} again`) })).status >= 500);
    assert.ok(![s.cloud, s.claude].some((provider) => seen(provider).includes(EMAIL)));
    // What cannot be looked at counts as found.
    const form = await ask(s, null, { at: '/v1/audio/transcriptions', body: 'form', headers: { 'Content-Type': 'multipart/form-data' } });
    assert.equal(form.status, 200);
    assert.equal(s.local.requests.at(-1).body.toString(), 'form');
});

/** Personal data where one might not look. */
const HIDDEN = [
    ['a member\'s name', { body: says('x', { tools: [{ type: 'function', function: { name: 'f', parameters: { properties: { [EMAIL]: {} } } } }] }) }],
    ['the arguments of a tool call', { body: says('x', { messages: [{ role: 'user', content: 'x' }, { role: 'assistant', content: null,
        tool_calls: [{ id: 'a', type: 'function', function: { name: 'f', arguments: `{"card":${CARD.replaceAll(' ', '')}}` } }] },
    { role: 'tool', tool_call_id: 'a', content: 'done' }] }) }],
    ['a number of a tool call', { at: '/v1/messages', body: { ...MESSAGE, model: 'fast', messages: [{ role: 'user', content: 'x' },
        { role: 'assistant', content: [{ type: 'tool_use', id: 'a', name: 'f', input: { card: 4111111111111111 } }] },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'a', content: 'done' }] }] } }],
    ['what a tool said', { at: '/v1/messages', body: { ...MESSAGE, model: 'fast', messages: [{ role: 'user', content: 'x' },
        { role: 'assistant', content: [{ type: 'tool_use', id: 'a', name: 'f', input: {} }] },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'a', content: [{ type: 'text', text: EMAIL }] }] }] } }],
    ['the system prompt', { at: '/v1/messages', body: { ...MESSAGE, model: 'fast', system: [{ type: 'text', text: EMAIL }] } }],
    ['the address of a picture', { body: says([{ type: 'image_url', image_url: { url: `http://site.test/${EMAIL}.png` } }]) }],
    ['an embedding', { at: '/v1/embeddings', body: { model: 'fast', input: ['x', EMAIL] } }],
    ['token numbers', { at: '/v1/embeddings', body: { model: 'fast', input: [[73, 606, 374], [1, 2]] } }],
    ['token numbers of a prompt', { at: '/v1/completions', body: { model: 'fast', prompt: [73, 606, 374] } }],
    ['the instructions', { at: '/v1/responses', body: { model: 'fast', input: 'x', instructions: EMAIL } }],
    ['the query', { at: `/v1/chat/completions?who=jane.doe%40example.org`, body: says('x') }],
    ['the path of something else', { at: `/v1/people/jane%2Edoe@example.org`, method: 'GET', body: undefined }],
    ['the query of something else', { at: `/v1/people?card=4111+1111+1111+1111`, method: 'GET', body: undefined }],
    ['something that is no JSON', { at: '/v1/files', body: `who=${EMAIL}` }],
];
const outside = (s) => [s.cloud, s.claude].flatMap((provider) => provider.requests);

for (const [what, request] of HIDDEN) {
    aiFlow(`pin: personal data in ${what}`, { ...NODE, route: { private: { do: 'pin' } } }, async (s) => {
        const answer = await ask(s, null, request);
        assert.ok(answer.status === 200 || answer.status === 403, `${answer.status} ${answer.text}`);
        assert.deepEqual(outside(s), []);
        s.local.always({ error: 'server' });
        await ask(s, null, { ...request, headers: { 'Cache-Control': 'no-cache' } });
        assert.deepEqual(outside(s), [], 'nor when the machine\'s own fails');
    });
    aiFlow(`redact: personal data in ${what}`, { ...NODE, route: { private: { do: 'redact' } } }, async (s) => {
        const answer = await ask(s, null, request);
        assert.ok(answer.status < 500, `${answer.status} ${answer.text}`);
        const sent = outside(s).map((one) => one.url + one.body).join('\n');
        assert.doesNotMatch(sent, /jane|4111|606/);
        assert.ok(answer.status === 403 || sent.length > 0);
    });
}

aiFlow('users are in keys, and their names are not', { ...NODE, node: false, route: { scope: 'user' } }, async (s) => {
    await pair(s);
    given(s, await ask(s, null, { body: says('hello', { user: EMAIL }), node: s.one }));
    s.hit(await ask(s, null, { body: says('hello', { user: EMAIL }), node: s.one }), 'memory');
    assert.equal(s.status(await ask(s, null, { body: says('hello', { user: 'somebody.else@example.org' }), node: s.one })).hit, undefined);
    await s.written(s.one);
    s.hit(await ask(s, null, { body: says('hello', { user: EMAIL }), node: s.two }), 'shared');
    assert.ok(!(await stored(s.redis)).includes('jane'));
    await s.one.stop();
    const files = fs.readdirSync(s.folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
        .map((entry) => fs.readFileSync(path.join(entry.parentPath ?? entry.path, entry.name), 'latin1')).join();
    assert.ok(!files.includes('jane'));
});

aiFlow('pin to a region: its providers may see it', { ...NODE, route: { private: { find: ['email'], do: 'pin', region: 'eu' } } }, async (s) => {
    assert.equal(s.wall(given(s, await ask(s, null, { body: says(EMAIL) }))).provider, 'claude');
    assert.equal(s.wall(given(s, await ask(s, null, { body: says(CARD) }))).provider, 'cloud'); // nobody looks for cards
});

aiFlow('pictures, which nobody looks into, pass or count as found', { ...NODE, node: false }, async (s) => {
    const picture = says([{ type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }]);
    const start = async (options) => { s.node = await s.startNode({ config: s.config({ route: { private: options } }) }); };
    await start({ do: 'refuse' });
    assert.equal(s.wall(given(s, await ask(s, null, { body: picture }))).provider, 'cloud');
    await start({ do: 'refuse', media: 'found' });
    refused(s, await ask(s, null, { body: picture }), 403);
    await start({ do: 'redact', media: 'found' });
    refused(s, await ask(s, null, { body: picture }), 403, { words: /cannot be taken out/ });
    await start({ do: 'pin', media: 'found' });
    assert.equal(s.wall(given(s, await ask(s, null, { body: picture }))).provider, 'local');
});

aiFlow('redact: placeholders go out, and prompts that differ in them alone share an answer', {
    ...NODE, route: { private: { find: ['email', 'card'], do: 'redact' } },
}, async (s) => {
    given(s, await ask(s, null, { body: says(`mail ${EMAIL} and max@example.org and ${EMAIL}`) }));
    assert.equal(s.cloud.last.json.messages[0].content, 'mail [EMAIL_1] and [EMAIL_2] and [EMAIL_1]');
    s.hit(await ask(s, null, { body: says('mail a@example.org and b@example.org and a@example.org') }));
    s.miss(given(s, await ask(s, null, { body: says('mail a@example.org and b@example.org and b@example.org') })));
    const stream = given(s, await ask(s, null, { body: says(`card ${CARD}`, { stream: true }) }));
    assert.ok(stream.streamed);
    assert.equal(s.cloud.last.json.messages[0].content, 'card [CARD_1]');
    given(s, await message(s, null, { body: { ...MESSAGE, messages: [{ role: 'user', content: EMAIL }] } }));
    assert.equal(s.claude.last.json.messages[0].content, '[EMAIL_1]');
    refused(s, await ask(s, null, { at: '/v1/audio/transcriptions', body: 'form' }), 403, { words: /cannot be taken out/ });
    assert.ok(!Object.values(s.providers).some((provider) => seen(provider).includes('example.org')));
});

aiFlow('redacted users stay two users', { ...NODE, route: { scope: 'user', private: { do: 'redact' } } }, async (s) => {
    given(s, await ask(s, null, { body: says('my orders?', { user: EMAIL }) }));
    s.miss(given(s, await ask(s, null, { body: says('my orders?', { user: 'max@example.org' }) })));
    s.hit(await ask(s, null, { body: says('my orders?', { user: EMAIL }) }));
});

aiFlow('refuse, and allow; the strictest of several rules counts', {
    ...NODE, ai: { rules: { strict: { private: { find: ['card'], do: 'refuse' } } }, tenants: { default: { rules: 'strict' } } },
    route: { private: { find: ['email'], do: 'redact' } },
}, async (s) => {
    refused(s, await ask(s, null, { body: says(`card ${CARD}`) }), 403, { words: /not allowed/ });
    refused(s, await message(s, null, { body: { ...MESSAGE, system: `${CARD} ${EMAIL}` } }), 403, { type: 'permission_error' });
    given(s, await ask(s, null, { body: says(EMAIL) }));
    assert.ok(!seen(s.cloud).includes(EMAIL));
});

/* ---- nodes with a store between them ---- */

/** Nodes called one and two, with a disk each, a store for both, and a log. */
async function pair(s, more = {}) {
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    s.folder = folder;
    s.redis = await s.use(startRedis());
    const nodes = await startNodes(s, ['one', 'two'], (name) => ({ config: s.config({ ...more, config: { node: { name, region: 'eu' },
        disk: { path: path.join(folder, name), size: '64M' }, access_log: { path: path.join(folder, `${name}.log`) },
        shared: { url: s.redis.url, timeout: '1s' }, ...more.config } }), env: { DOORSTEP_DEBUG: '1' } }));
    for (const node of nodes) {
        await until(async () => {
            await node.get('/.clock', { 'Cache-Control': 'only-if-cached' });
            return (await node.metrics()).get('doorstep_bus_caught_up') === 1;
        }, `${node.name} has caught up`);
    }
    [s.one, s.two] = nodes;
    s.written = (node) => until(async () => {
        const all = await node.metrics();
        return (all.get('doorstep_shared_queued_bytes') ?? 0) === 0 && (all.get('doorstep_disk_queued_bytes') ?? 0) === 0;
    }, 'written');
}

/** All that is in the store, as text. */
async function stored(redis) {
    const keys = await redis.cli('KEYS', '*');
    const values = await Promise.all(keys.map((key) => redis.raw('DUMP', key)));
    return `${keys.join('\n')}\n${Buffer.concat(values.flat().filter(Boolean)).toString('latin1')}`;
}

aiFlow('what is pinned is not in the store, and what has no business in this region is not on disk either', { ...NODE, node: false,
    ai: { auth: 'keys', rules: { us: { regions: ['us'] }, eu: { regions: ['eu'] } } }, route: { private: { do: 'pin' } } }, async (s) => {
    await pair(s);
    const [us, eu] = [await makeKey(s.one, 'us', { rules: 'us' }), await makeKey(s.one, 'eu', { rules: 'eu' })];
    const on = (provider, text) => provider.always({ text });
    on(s.cloud, 'MARK-FROM-US');
    on(s.claude, 'MARK-FROM-EU');
    on(s.local, 'MARK-FROM-HERE');
    const free = await makeKey(s.one, 'free');
    assert.equal((await ask(s, us, { body: says('a'), node: s.one })).said, 'MARK-FROM-US');
    assert.equal((await ask(s, eu, { body: says('b'), node: s.one })).said, 'MARK-FROM-EU');
    assert.equal((await ask(s, free, { body: says(EMAIL), node: s.one })).said, 'MARK-FROM-HERE');
    s.hit(await ask(s, us, { body: says('a'), node: s.one }), 'memory');
    s.hit(await ask(s, free, { body: says(EMAIL), node: s.one }), 'memory');
    await s.written(s.one);
    const store = await until(async () => {
        const all = await stored(s.redis);
        return all.includes('MARK-FROM-EU') && all;
    }, 'the answer that may is in the store');
    assert.ok(!store.includes('MARK-FROM-US') && !store.includes('MARK-FROM-HERE'));
    await s.one.stop();
    const disk = fs.readdirSync(path.join(s.folder, 'one'), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
        .map((entry) => fs.readFileSync(path.join(entry.parentPath ?? entry.path, entry.name), 'latin1')).join();
    assert.ok(disk.includes('MARK-FROM-HERE') && disk.includes('MARK-FROM-EU'));
    assert.ok(!disk.includes('MARK-FROM-US'), 'memory does not go to disk at a stop either');
});

aiFlow('who has no business in this region leaves no trace of what was said, and by whom, in its logs', { ...NODE, node: false,
    ai: { auth: 'keys', rules: { us: { regions: ['us'], models: { deny: ['far'] } } } } }, async (s) => {
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    const log = path.join(folder, 'access.log');
    s.node = await s.startNode({ config: s.config({ config: { node: { name: 'one', region: 'eu' }, access_log: { path: log, query: true } } }) });
    const [us, free] = [await makeKey(s.node, 'us', { rules: 'us', scopes: 'inference,other' }), await makeKey(s.node, 'free')];
    const headers = { 'User-Agent': 'MARK-AGENT', Referer: 'http://mark.test/' };
    for (const request of [{ body: says('a') }, { body: { ...CHAT, model: 'far' } }, { at: '/v1/people/MARK-PATH?MARK-QUERY', method: 'GET', body: undefined }]) {
        await ask(s, us, { ...request, headers });
    }
    await ask(s, free, { body: says('b'), headers: { 'User-Agent': 'MINE' } });
    await s.node.stop();
    const lines = fs.readFileSync(log, 'utf8').trim().split('\n');
    const [one, two, three, other] = lines.slice(-4);
    assert.match(other, /MINE/);
    assert.match(other, /127\.0\.0\./);
    for (const line of [one, two, three]) {
        assert.doesNotMatch(line, /MARK|mark\.test|127\.0\.0\.|completions/);
    }
});

aiFlow('a tenant neither reads what another asked, nor learns that it did', { ...NODE, node: false,
    ai: { auth: 'keys' } }, async (s) => {
    await pair(s);
    const keys = { one: {}, two: {} };
    for (const name of ['one', 'two']) {
        for (const tenant of ['a', 'b', 'a.b', 'a-1', 'ta']) {
            keys[name][tenant] = await makeKey(s[name], tenant, { tenant });
        }
    }
    s.cloud.always({ text: 'the secret of a' });
    const body = says('what is our secret?');
    given(s, await ask(s, keys.one.a, { body, node: s.one }));
    s.hit(await ask(s, keys.one.a, { body, node: s.one }), 'memory');
    await s.written(s.one);
    s.hit(await ask(s, keys.two.a, { body, node: s.two }), 'shared'); // the tenant is the same on both
    s.cloud.always({ text: 'nothing' });
    const tricks = [{}, { 'Doorstep-Tenant': 'a', 'X-Tenant-Id': 'a', 'Doorstep-Key': 'a' }, { 'OpenAI-Organization': 'a', 'OpenAI-Project': 'a' },
        { 'cf-aig-metadata': '{"tenant":"a"}', 'Helicone-Auth': `Bearer ${keys.one.a.slice(0, 11)}` }, { Host: 'a' }, { Cookie: 'tenant=a' }];
    const bodies = [body, { ...body, user: 'a' }, { ...body, metadata: { tenant: 'a' } }, { ...body, user: 't1:a' }, { ...body, user: 'a:k0::u' },
        { ...body, prompt_cache_key: 'a', safety_identifier: 'a' }];
    let first = true;
    for (const node of [s.one, s.two]) {
        for (const tenant of ['b', 'a.b', 'a-1', 'ta']) {
            for (const headers of tricks) {
                const answer = await ask(s, keys[node === s.one ? 'one' : 'two'][tenant], { body, headers, node });
                assert.equal(answer.said, 'nothing');
                if (first) { // as if nobody had ever asked
                    assert.equal(s.status(answer).hit, undefined);
                    assert.match(answer.header('cache-status'), /fwd=uri-miss/);
                    first = false;
                }
            }
            for (const one of bodies) {
                assert.equal((await ask(s, keys[node === s.one ? 'one' : 'two'][tenant], { body: one, node })).said, 'nothing');
            }
        }
    }
    for (const control of ['only-if-cached', 'max-stale=100000']) {
        assert.notEqual((await ask(s, keys.one.b, { body: says('what else?'), headers: { 'Cache-Control': control }, node: s.one })).said,
            'the secret of a');
    }
    s.hit(await ask(s, keys.one.a, { body, node: s.one }), 'memory');
});

aiFlow('the second of two tenants in flight waits for its own answer', { ...NODE, ai: { auth: 'keys' } }, async (s) => {
    const [a, b] = [await makeKey(s.node, 'a', { tenant: 'a' }), await makeKey(s.node, 'b', { tenant: 'b' })];
    s.cloud.always(async () => ({ delay: 20 }));
    const answers = await Promise.all([ask(s, a), ask(s, b)]);
    answers.forEach((answer) => given(s, answer));
    assert.equal(s.cloud.count, 2);
    assert.ok(answers.every((answer) => !/collapsed/.test(answer.header('cache-status'))));
});

aiFlow('no secret is where it does not belong: clients, logs, errors, metrics, ledger, files', { ...NODE, node: false,
    ai: { auth: 'keys' } }, async (s) => {
    await pair(s);
    const key = await makeKey(s.one, 'a');
    const told = []; // by the node, to clients
    const note = async (answer) => told.push(JSON.stringify((await answer).lines) + (await answer).text);
    await note(ask(s, key, { body: says('hello'), node: s.one }));
    await note(ask(s, key, { body: says('hello', { stream: true, seed: 1 }), node: s.one }));
    await note(ask(s, key, { body: says('hello', { max_tokens: 'x' }), node: s.one }));
    await note(ask(s, `${key}x`, { body: says('hello'), node: s.one }));
    await note(ask(s, key, { at: `/v1/files?key=${key}`, method: 'GET', body: undefined, node: s.one }));
    for (const error of ['server', 'overloaded', 'rate_limit', 'quota', 'auth']) {
        Object.values(s.providers).forEach((provider) => provider.always({ error }));
        await note(ask(s, key, { body: says(error), node: s.one }));
    }
    Object.values(s.providers).forEach((provider) => provider.always({ cut: 'head' }));
    await note(ask(s, key, { body: says('cut'), node: s.one }));
    const pages = await Promise.all(['/metrics', '/top', '/ai/keys', '/ai/ledger', '/why?url=http://site.test/v1/chat/completions']
        .map(async (page) => (await s.one.admin(page)).body.toString()));
    const check = await run(['check', '-c', s.one.file]);
    await s.one.stop();
    const files = fs.readdirSync(s.folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
        .map((entry) => fs.readFileSync(path.join(entry.parentPath ?? entry.path, entry.name), 'latin1'));
    const all = { told: told.join('\n'), said: s.one.stdout + s.one.stderr, pages: pages.join('\n'), check: check.stdout + check.stderr,
        files: files.join('\n'), store: await stored(s.redis) };
    assert.match(all.told, /doorstep-ai/i, 'there is something to look at');
    for (const [place, text] of Object.entries(all)) {
        for (const secret of ['sk-cloud-secret-1', 'sk-cloud-secret-2', 'sk-ant-secret', key.slice(11, 30)]) {
            assert.ok(!text.includes(secret), `${secret} in ${place}: ${text.slice(Math.max(0, text.indexOf(secret) - 80), text.indexOf(secret) + 20)}`);
        }
    }
    const wire = Object.values(s.providers).flatMap((provider) => provider.requests)
        .map((request) => request.rawHeaders.join('\n') + request.url + request.body).join('\n');
    assert.ok(!wire.includes(key.slice(3)), 'the client\'s key reached no provider');
});

aiFlow('the ledger has a row for each refusal, with its reason', { ...NODE, node: false,
    ai: { auth: 'keys', rules: { strict: { models: { deny: ['far'] }, requests_per_minute: 3, private: { do: 'refuse' } } } } }, async (s) => {
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    s.node = await s.startNode({ config: s.config({ config: { state: { path: path.join(folder, 'state.db') } } }) });
    const key = await makeKey(s.node, 'a', { rules: 'strict', tenant: 'acme' });
    await ask(s, null, { body: says('a') });
    await ask(s, key, { body: { ...CHAT, model: 'far' } });
    await ask(s, key, { body: says(EMAIL) });
    for (let i = 0; i < 3; i++) {
        await ask(s, key, { body: says('hello') });
    }
    const rows = await until(async () => {
        const page = (await s.node.admin('/ai/ledger')).body.toString().trim().split('\n').filter(Boolean).map((line) => JSON.parse(line));
        return page.length >= 6 && page;
    }, 'rows');
    assert.deepEqual(rows.map((row) => [row.error_class ?? '', row.outcome, row.status]), [['key', 'refused', 401], ['rules', 'refused', 403],
        ['private', 'refused', 403], ['', 'ok', 200], ['', 'hit', 200], ['rate', 'refused', 429]]);
    assert.deepEqual(rows.map((row) => row.tenant ?? ''), ['', 'acme', 'acme', 'acme', 'acme', 'acme']);
    assert.ok(rows.every((row) => row.outcome === 'ok' || row.cost_micro === 0));
});
