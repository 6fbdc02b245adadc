/**
 * No prompt and no answer in anything the node writes: marked prompts go through every path and failure, then everything it wrote is
 * searched: what it prints (also with DOORSTEP_DEBUG), access log, state, ledger and its exports, metrics, admin pages, spans, what its own
 * commands print. The objects of the disk tier and of the shared store hold answers: that is what they are for; prompts are not in them.
 * The one file that holds prompts is `semantic.index`, which compares them: no answer is in it.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { aiFlow, CHAT, CLIENT_KEY, DIRECT, gate, TWO } from './harness/ai.mjs';
import { run, scratch } from './harness/flow.mjs';
import { startRedis } from './harness/redis.mjs';
import { until } from './harness/server.mjs';

const PROMPT = 'Qx7PROMPTzz9';
const ANSWER = 'Qx7ANSWERzz9';
const TOOLS = 'Qx7TOOLzz9';
const SECRETS = [PROMPT, ANSWER, TOOLS, CLIENT_KEY, 'sk-test-1', 'sk-test-2', 'sk-ant-test', 'sk-first'];
const OBJECTS = /segment|index|\.seg|\.dat/i;
const INDEX = /semantic\.index(\.new)?$/;
const without = (...marks) => SECRETS.filter((secret) => !marks.includes(secret));

/** base64 and percent forms of a mark hide nothing. */
function findMarks(where, bytes, secrets = SECRETS) {
    for (const secret of secrets) {
        for (const form of [secret, encodeURIComponent(secret), ...[0, 1, 2].map((shift) =>
            Buffer.from('x'.repeat(shift) + secret).toString('base64').slice(shift ? 4 : 0, -4))]) {
            const at = bytes.indexOf(form);
            assert.ok(at < 0, `${secret} in ${where}: ${JSON.stringify(bytes.toString('latin1', Math.max(0, at - 80), at + 80))}`);
        }
    }
}

function files(folder) {
    return fs.readdirSync(folder, { withFileTypes: true, recursive: true }).filter((entry) => entry.isFile())
        .map((entry) => path.join(entry.parentPath, entry.name));
}

const user = (what) => ({ messages: [{ role: 'system', content: `${PROMPT} system` }, { role: 'user', content: `${PROMPT} ${what}` }] });

const SAID = { text: `${ANSWER} said`, reasoning: [`${ANSWER} thought`], tools: [{ name: 'f', arguments: { a: TOOLS } }] };

/** What providers do, each with a node that knows no failures yet. */
const SCRIPTS = [
    {}, { error: 'bad_request', message: `you said ${PROMPT}` }, { error: 'auth', message: `${PROMPT} ${ANSWER}` },
    { error: 'rate_limit', message: PROMPT, retryAfter: 1 }, { error: 'server', message: PROMPT }, { error: 'overloaded', message: PROMPT },
    { error: 'server', inside: true, at: 1, message: PROMPT }, { cut: 'connect' }, { cut: 'head' }, { cut: 1 }, { cut: 1, reset: true }, { end: 1 },
    { done: false }, { malformed: 1 }, { pieces: [`${ANSWER} `], giant: 1_500_000 }, { raw: `<html>${ANSWER}</html>`, type: 'text/html' },
    { raw: `{"x": "${ANSWER}`, type: 'application/json' }, { raw: `<p>${ANSWER}`, type: 'text/html', status: 500 },
];

async function ordinary(s, script) {
    for (const provider of [s.cloud, s.claude]) {
        provider.always({ ...SAID, ...script });
    }
    const mark = JSON.stringify(script);
    for (const stream of [false, true]) {
        await s.chat({ ...user(`chat ${mark}`), stream, user: `${PROMPT}-user`, metadata: { note: PROMPT }, tools: [{ type: 'function', function: { name: TOOLS } }] });
        await s.message({ messages: [{ role: 'user', content: `${PROMPT} ${mark}` }], system: PROMPT, stream });
        await s.ask('/v1/responses', { model: 'gpt-4o-mini', input: `${PROMPT} ${mark}`, instructions: PROMPT, stream });
        await s.chat({ ...user(`across ${mark}`), model: 'across', stream });
    }
    await s.ask('/v1/embeddings', { model: 'text-embedding-3-small', input: [`${PROMPT} ${mark}`] });
}

/** As bytes, in names; unknown paths and models; nonsense; clients that leave; what is stored. */
async function odd(s) {
    for (const provider of [s.cloud, s.claude]) {
        provider.always(SAID);
    }
    await s.ask('/v1/chat/completions', `{"model": "gpt-4o-mini", "messages": [{"content": "${PROMPT}"`);
    await s.ask('/v1/chat/completions', `{"model": "gpt-4o-mini", "${PROMPT}": 1, "messages": "${PROMPT}"}`);
    await s.ask('/v1/chat/completions', `${PROMPT} no JSON`);
    await s.ask('/v1/messages', Buffer.from([...Buffer.from(`{"${PROMPT}": "`), 0xff, 0x22, 0x7d]));
    await s.ask('/v1/echo/anything', { any: PROMPT });
    await s.chat({ messages: [{ role: 'user', content: PROMPT.repeat(300_000) }] });
    const door = gate();
    s.cloud.next({ ...SAID, wait: door.held });
    const before = s.cloud.count;
    const client = await s.asking('/v1/chat/completions', { ...CHAT, ...user('leaves') });
    await s.cloud.arrived(before + 1);
    client.close();
    assert.equal(await s.cloud.last.gone, true);
    door.open();
    await s.chat(user('stored'));
    s.hit(await s.chat(user('stored')));
    await s.chat(user('stored'), { 'Cache-Control': 'no-store' });
}

const PAGES = ['/metrics', '/why', '/why?url=/v1/chat/completions', '/top', '/top?format=json', '/upstreams', '/healthz', '/readyz', '/ai', '/ai/ledger', '/'];

for (const level of ['info', 'debug']) {
    aiFlow(`nothing the node writes has prompts, answers or keys in it (log level ${level})`, { needs: 'node', node: false,
        models: { across: { candidates: [{ provider: 'claude', model: 'claude-test-1' }, { provider: 'cloud', model: 'gpt-4o-mini' }] } },
        skip: DIRECT && 'needs the node' }, async (s) => {
        const folder = scratch();
        s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
        const log = path.join(folder, 'access.log');
        const config = s.config({ config: { disk: { path: path.join(folder, 'disk'), size: '32M', segment: '4M' }, state: { path: path.join(folder, 'state.db') },
            access_log: { path: log, query: true } } });
        for (const script of [...SCRIPTS, null]) {
            s.node = await s.startNode({ config, env: { DOORSTEP_DEBUG: level === 'debug' ? '1' : undefined } });
            await (script ? ordinary(s, script) : odd(s));
            for (const page of PAGES) {
                const answer = await s.node.admin(page);
                findMarks(`admin ${page}`, Buffer.concat([Buffer.from(answer.lines.join('\n')), answer.body]));
            }
            await s.node.settled();
            await s.node.stop();
            findMarks('stdout', Buffer.from(s.node.stdout));
            findMarks('stderr', Buffer.from(s.node.stderr));
        }
        assert.ok(fs.statSync(log).size > 0, 'there is an access log');
        for (const file of files(folder)) {
            const objects = file.startsWith(path.join(folder, 'disk')) && OBJECTS.test(path.basename(file));
            findMarks(file, fs.readFileSync(file), objects ? without(ANSWER, TOOLS) : SECRETS);
        }
    });
}

/* ---- all parts of a node at once ---- */

/** Keeps what arrives, whatever it is. */
async function startCollector(s) {
    const collector = { bytes: [], spans: 0 };
    const server = http.createServer((request, response) => {
        const pieces = [];
        request.on('data', (piece) => pieces.push(piece));
        request.on('end', () => {
            collector.bytes.push(Buffer.from(request.rawHeaders.join('\n') + request.url), ...pieces);
            collector.spans += Buffer.concat(pieces).toString().split('"spanId"').length - 1;
            response.writeHead(200).end('{}');
        });
    });
    await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    s.after(() => { server.closeAllConnections(); server.close(); });
    collector.url = `http://127.0.0.1:${server.address().port}`;
    return collector;
}

const say = (content, more = {}) => ({ messages: [{ role: 'user', content }], ...more });

/** Semantic hits, shadows and verdicts; personal data; budgets; hedges; a node behind a node; queries; odd fields. */
async function everywhere(s, round) {
    const ask = (content, more, headers) => s.chat({ ...say(`${PROMPT} ${round} ${content}`), max_tokens: 5, ...more }, headers);
    for (const stream of [false, true]) {
        await ask(`What is the capital of France? ${stream}`, { stream });
        await ask(`what is the capital of france? ${stream}, please`, { stream });
        await ask(`How do I reset it? ${stream}`, { stream, model: 'edge' });
        await ask('again', { stream, model: 'hedged' });
        await ask('mail anna@example.com', { stream });
    }
    for (const script of [{ error: 'server', message: PROMPT }, { error: 'auth', message: `${PROMPT} sk-test-1` }, { raw: `<${PROMPT}`, type: 'text/html' }, { cut: 'head' }]) {
        s.vectors.always(script);
        await ask(`Explain vaccines ${JSON.stringify(script)}`);
    }
    await ask('too dear', { model: 'gpt-dear', max_tokens: 1_000_000 });
    await ask('region', {}, { [`X-${PROMPT}`]: PROMPT, Cookie: `a=${PROMPT}`,
        tracestate: `a=${PROMPT}`, baggage: `p=${PROMPT}`, 'Doorstep-AI-Tier': PROMPT, 'Cache-Control': `${PROMPT}=1`, 'cf-aig-cache-ttl': PROMPT, 'anthropic-beta': PROMPT });
    await s.ask(`/v1/chat/completions?q=${PROMPT}`, { model: 'gpt-4o-mini', ...say(PROMPT) });
    await s.chat({ ...say(PROMPT), model: { [PROMPT]: 1 } });
    await s.ask('/v1/chat/completions', `{"model": "gpt-4o-mini", "messages": [], "${PROMPT}": ${'['.repeat(100)}`);
    await s.message({ ...say(PROMPT), max_tokens: PROMPT });
    await s.ask('/v1/messages/count_tokens', { model: 'claude-test-1', ...say(PROMPT) });
    await s.ask('/v1/completions', { model: 'gpt-4o-mini', prompt: PROMPT, suffix: PROMPT });
    s.cloud.always({ ...SAID, cut: 2 });
    await ask('cut', { stream: true });
    s.cloud.always(SAID);
}

aiFlow('semantic cache, personal data, budgets, hedges, another node, shared store, spans, ledger exports: all silent', { needs: 'node', node: false,
    providers: { ...TWO, vectors: { dialect: 'openai', config: { rung: 'cloud', keys: ['sk-vectors'], models: ['embed'] } } },
    skip: DIRECT && 'needs the node' }, async (s) => {
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    const redis = await s.use(startRedis());
    const collector = await startCollector(s);
    const log = path.join(folder, 'access.log');
    const prices = path.join(folder, 'prices.json');
    fs.writeFileSync(prices, JSON.stringify({ currency: 'USD', prices: [{ model: '*', input: 1000, output: 2000 }] }));
    for (const provider of [s.cloud, s.claude]) {
        provider.always(SAID);
    }
    const common = { tracing: { otlp: collector.url, sample: 1, interval: '20ms' }, shared: { url: redis.url } };
    const edge = await s.startNode({ config: s.config({ config: { ...common, node: { name: 'edge-1' } } }), env: { DOORSTEP_DEBUG: '1' } });
    const semantic = { kind: 'endpoint', provider: 'vectors', model: 'embed', dimensions: 8 };
    const nodes = [edge];
    for (const route of [{ semantic: 'embedding', verify: 0 }, { semantic: 'embedding', verify: 1 }, { semantic: 'canonical', shadow: true }]) {
        const config = s.config({ route: { ...route, private: { find: ['email'], do: route.shadow ? 'refuse' : 'redact' } },
            models: { edge: { candidates: [{ provider: 'near', model: 'gpt-4o-mini' }] },
                hedged: { hedge: { enabled: true, after: '1ms', percent: 100 }, candidates: [{ provider: 'cloud', model: 'gpt-4o-mini' }, { provider: 'claude', model: 'claude-test-1' }] } },
            ai: { prices, semantic, budgets: [{ name: 'day', limit: '900', per: 'day' }] },
            config: { ...common, disk: { path: path.join(folder, 'disk'), size: '32M', segment: '4M' }, state: { path: path.join(folder, 'state.db') }, access_log: { path: log } } });
        config.ai.providers.near = { url: `http://127.0.0.1:${edge.port}/v1`, dialect: 'openai', rung: 'edge' };
        s.node = await s.startNode({ config, env: { DOORSTEP_DEBUG: '1' } });
        nodes.push(s.node);
        s.vectors.always({});
        await everywhere(s, nodes.length);
        await s.node.settled();
        await until(async () => {
            const { ledger } = JSON.parse((await s.node.admin('/top')).text).ai;
            return ledger.rows > 20 && ledger.committed === ledger.rows;
        }, 'the ledger is written');
        const at = ['--admin', `127.0.0.1:${s.node.adminPort}`];
        for (const words of [['ai', 'ledger', '--csv'], ['ai', 'ledger', '--json'], ['top', '--once'], ['top', '--json'], ['why', `http://127.0.0.1:${s.node.port}/v1/chat/completions`]]) {
            const { stdout, stderr } = await run([...words, ...at]);
            assert.ok(stdout.length > 0, words.join(' '));
            findMarks(words.join(' '), Buffer.from(stdout + stderr));
        }
        for (const page of PAGES) {
            findMarks(`admin ${page}`, (await s.node.admin(page)).body);
        }
        const { semantic: report } = JSON.parse((await s.node.admin('/top')).text).ai;
        assert.ok(route.semantic !== 'embedding' || report.embedding.lookups > 0, 'there were vectors');
        await s.node.stop();
    }
    await edge.stop();
    for (const node of nodes) {
        findMarks('stdout', Buffer.from(node.stdout));
        findMarks('stderr', Buffer.from(node.stderr));
    }
    assert.ok(collector.spans > 100, `${collector.spans} spans`);
    findMarks('spans', Buffer.concat(collector.bytes));
    assert.ok(fs.statSync(log).size > 0, 'there is an access log');
    let index = 0;
    for (const file of files(folder)) {
        const objects = file.startsWith(path.join(folder, 'disk')) && OBJECTS.test(path.basename(file));
        index += INDEX.test(file);
        findMarks(file, fs.readFileSync(file), INDEX.test(file) ? without(PROMPT) : objects ? without(ANSWER, TOOLS) : SECRETS);
    }
    assert.equal(index, 1);
    assert.ok(fs.readFileSync(path.join(folder, 'disk', 'semantic.index')).includes(PROMPT), 'the index is what it is said to be');
    const keys = await redis.cli('KEYS', '*');
    assert.ok(keys.length > 0, 'there is a shared store');
    for (const key of keys) {
        findMarks(`key ${key} of the shared store`, Buffer.from(key));
        if (await redis.cli('TYPE', key) === 'string') {
            findMarks(`the shared store's ${key}`, Buffer.from(await redis.cli('GET', key), 'latin1'), without(ANSWER, TOOLS));
        } else {
            findMarks(`the shared store's ${key}`, Buffer.from(String(await redis.cli('DUMP', key)), 'latin1'));
        }
    }
});

aiFlow('no key of a provider in any answer, and no key of a client at any provider', { needs: 'node' }, async (s) => {
    for (const script of [{}, { error: 'auth', message: 'Incorrect API key provided: sk-test-1. You said sk-ant-test.' }, { error: 'server' }]) {
        s.cloud.always(script);
        s.claude.always(script);
        for (const answer of [await s.chat(user(script.error)), await s.message({ system: script.error ?? '' }), await s.chat({ ...user(script.error), stream: true })]) {
            assert.doesNotMatch(answer.lines.join('\n') + answer.text, /sk-test-[12]|sk-ant-test/);
        }
    }
    for (const headers of [{ 'x-api-key': CLIENT_KEY }, { 'api-key': CLIENT_KEY }, { Authorization: `bearer ${CLIENT_KEY}` }, { 'x-goog-api-key': CLIENT_KEY },
        { Cookie: `key=${CLIENT_KEY}` }, { 'Proxy-Authorization': `Basic ${CLIENT_KEY}` }]) {
        await s.chat(user(JSON.stringify(Object.keys(headers))), headers);
    }
});
