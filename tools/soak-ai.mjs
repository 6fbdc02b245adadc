/**
 * Mixed load for a while against the AI gateway on two loops: both dialects, streams and plain, few hot questions and many cold ones,
 * long ones, bad JSON, clients that leave in the middle; providers that cut, stall, limit, fail and send nonsense; purges and reloads.
 * What is said follows from the question: every whole answer is compared, and one that is cut short has to say so.
 *
 *   node tools/soak-ai.mjs BINARY SECONDS [SEED]           SOAK_LOOPS=n: loops (2)
 *
 * Fails when an answer is wrong or ends unsaid, when the node ends or says so itself (sanitizers end it), when it grows in memory or
 * descriptors, when rows of the ledger are missing, or when SIGTERM is not answered by 0.
 */
import http from 'node:http';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startProvider } from '../tests/flow/harness/provider.mjs';
import { randomOf, SoakNode } from './soak-node.mjs';

const [binary, seconds = '60', seedText = String(Date.now() % 1e9)] = process.argv.slice(2);
const CLIENTS = 24;
const RESIDENT_MAX_MB = /asan|tsan/.test(binary) ? 1200 : 160;
/** What a client may be told when providers fail or it asked for nonsense. */
const REFUSALS = [400, 404, 429, 502, 503, 504];
const counts = { requests: 0, answers: 0, hits: 0, streams: 0, left: 0, refused: 0, told: 0, purges: 0, reloads: 0 };
const { random, pick } = randomOf(seedText);
const node = new SoakNode();
const { problems } = node;

/* ---- what is asked, and what must be said ---- */

const questionOf = (n) => `what is q${n} times 7${n % 50 === 0 ? ` ${'and on '.repeat(40_000)}` : ''}`;
const answerOf = (n) => `The answer of q${n} is ${n * 7}, as "ünïcode" 💡 and\n${'words '.repeat(n % 13)}say.`;
const numberIn = (request) => Number(/what is q(\d+) times/.exec(request.body.toString('latin1'))[1]);

/** A provider in a mood; it changes with each request. */
function script(request) {
    const text = answerOf(numberIn(request));
    const well = { text, bytes: random(6) === 0 ? 1 + random(40) : undefined, crlf: random(8) === 0, reasoning: random(6) ? undefined : ['hm, ', 'well'],
        pace: random(5) ? 0 : random(4), delay: random(5) ? 0 : random(30), keepAlives: random(8) ? 0 : 3, usage: random(10) ? undefined : null };
    if (random(3)) {
        return well;
    }
    return pick([
        { ...well, cut: 'connect' }, { ...well, cut: 'head' }, { ...well, cut: 1 + random(4) }, { ...well, cut: 2, reset: true },
        { ...well, done: false }, { ...well, malformed: 1 }, { error: 'server' }, { error: 'overloaded' }, { error: 'bad_request' },
        { ...well, error: 'server', inside: true, at: random(3) }, { error: 'rate_limit', retryAfter: 1 }, { raw: '{"nothing":1}' },
        { raw: 'no JSON at all', type: 'text/plain' }, { ...well, delay: 400 + random(800) },
    ]);
}

const cloud = await startProvider({ name: 'cloud', keys: Array.from({ length: 20 }, (_, i) => `sk-${i}`) });
const claude = await startProvider({ name: 'claude', dialect: 'anthropic' });
const spare = await startProvider({ name: 'spare' });
cloud.always(script);
claude.always(script);
spare.always((request) => (random(20) ? { text: answerOf(numberIn(request)) } : script(request)));

/* ---- the node ---- */

const prices = node.file('prices.json', JSON.stringify({ currency: 'USD', prices: [{ provider: '*', model: '*', input: 1, output: 2 }] }));
const breaker = { enabled: false };
await node.start(binary, {
    threads: Number(process.env.SOAK_LOOPS ?? 2), memory: { size: '16M' }, state: { path: path.join(node.folder, 'state.db') },
    disk: { path: path.join(node.folder, 'disk'), size: '64M' },
    ai: {
        prices,
        providers: {
            cloud: { url: cloud.v1, keys: cloud.keys, models: ['gpt-*'], breaker, first_token_timeout: '800ms', token_timeout: '1s' },
            claude: { url: claude.url, dialect: 'anthropic', keys: ['sk-ant'], models: ['claude-*'], breaker, first_token_timeout: '800ms' },
            spare: { url: spare.v1, keys: ['sk-spare'], models: ['gpt-*'], breaker },
        },
        models: {
            best: { candidates: [{ provider: 'cloud', model: 'gpt-a' }, { provider: 'claude', model: 'claude-a' }, { provider: 'spare', model: 'gpt-b' }] },
            mixed: { order: 'weighted', candidates: [{ provider: 'claude', model: 'claude-b' }, { provider: 'spare', model: 'gpt-b' }] },
        },
        budgets: [{ name: 'all', limit: '100000', per: 'day', each: ['tenant'] }],
    },
    routes: [{ match: '/v1/*', disk: 'pin', ai: { ttl: '5s', semantic: 'canonical', stale_if_error: '10s' } }],
});
const agent = new http.Agent({ keepAlive: true, maxSockets: CLIENTS });

/* ---- a client ---- */

/** What a stream says: its text, whether it ended well, whether it says that it did not. */
function readStream(text) {
    const seen = { text: '', ended: false, failed: false };
    for (const block of text.split(/\r?\n\r?\n/)) {
        const data = /^data: ?(.*)$/m.exec(block)?.[1];
        if (data === '[DONE]') {
            seen.ended = true;
        } else if (data !== undefined) {
            let json;
            try {
                json = JSON.parse(data);
            } catch {
                continue; // an event that is cut, or the provider's own nonsense
            }
            seen.text += json.choices?.[0]?.delta?.content ?? (json.type === 'content_block_delta' ? json.delta.text ?? '' : '');
            seen.ended ||= json.type === 'message_stop';
            seen.failed ||= json.error !== undefined && json.error !== null;
        }
    }
    return seen;
}

function judge(wish, response, text) {
    const expected = answerOf(wish.n);
    if (response.statusCode !== 200) {
        counts.refused += 1;
        return REFUSALS.includes(response.statusCode) ? (JSON.parse(text).error ? null : `no error: ${text.slice(0, 200)}`)
            : `status ${response.statusCode}: ${text.slice(0, 200)}`;
    }
    if (wish.bad) {
        return `200 for nonsense: ${text.slice(0, 200)}`;
    }
    if (wish.stream) {
        const seen = readStream(text);
        counts.streams += 1;
        if (seen.failed) {
            counts.told += 1;
            return expected.startsWith(seen.text) ? null : `wrong before its error: ${JSON.stringify(seen.text)}`;
        }
        return seen.ended && seen.text === expected ? null : `${seen.ended ? 'wrong' : 'cut and silent'}: ${JSON.stringify(seen.text)}, ends ${
            JSON.stringify(text.slice(-200))}`;
    }
    const json = JSON.parse(text);
    const got = json.choices?.[0]?.message?.content ?? json.content?.filter?.((part) => part.type === 'text').map((part) => part.text).join('');
    return got === expected ? null : `said ${JSON.stringify(got ?? text.slice(0, 300))}`;
}

function one() {
    const n = random(3) ? random(30) : random(100_000);
    const messages = random(2) === 0;
    const wish = { n, messages, stream: random(2) === 0, bad: random(30) === 0, leave: random(10) === 0 ? 1 + random(60) : 0,
        model: pick(messages ? ['best', 'mixed', 'claude-x'] : ['best', 'best', 'mixed', 'gpt-x', 'spare/gpt-x']) };
    let body = JSON.stringify({ model: wish.model, ...(messages ? { max_tokens: 100 } : {}), ...(wish.stream ? { stream: true } : {}),
        ...(wish.stream && random(3) === 0 && !messages ? { stream_options: { include_usage: true } } : {}),
        messages: [{ role: 'user', content: questionOf(n) }] });
    if (wish.bad) {
        body = pick([body.slice(0, -2), '[]', '{"model":1}', '{"model":"best","messages":"no"}', body.replace('{', '{"model":"best",')]);
    }
    const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), ...pick([{}, {}, {}, { 'Cache-Control': 'no-cache' },
        { 'Cache-Control': 'no-store' }, { 'Cache-Control': 'max-age=1' }]), ...(messages ? { 'anthropic-version': '2023-06-01' } : {}) };
    counts.requests += 1;
    return new Promise((resolve) => {
        const request = http.request({ host: '127.0.0.1', port: node.port, method: 'POST', path: messages ? '/v1/messages' : '/v1/chat/completions', headers,
            agent }, (response) => {
            const parts = [];
            response.on('data', (part) => {
                parts.push(part);
                if (wish.leave) {
                    request.destroy();
                }
            });
            response.on('error', () => {});
            response.on('close', () => {
                if (wish.leave) {
                    counts.left += 1;
                } else if (!response.complete) {
                    problems.push(`${JSON.stringify(wish)}: cut after ${Buffer.concat(parts).length}`);
                } else {
                    const wrong = judge(wish, response, Buffer.concat(parts).toString());
                    counts.answers += 1;
                    counts.hits += /; hit/.test(response.headers['cache-status'] ?? '');
                    if (wrong) {
                        problems.push(`${JSON.stringify(wish)} ${JSON.stringify(response.headers)}: ${wrong}`);
                    }
                }
                resolve();
            });
        });
        if (wish.leave > 30) {
            setTimeout(() => request.destroy(), wish.leave - 30); // perhaps before its head
        }
        request.setTimeout(20_000, () => {
            problems.push(`${JSON.stringify(wish)}: nothing for 20 s`);
            request.destroy();
        });
        request.on('error', (error) => {
            if (!wish.leave) {
                problems.push(`${JSON.stringify(wish)}: ${error.code}`);
            }
            resolve();
        });
        request.end(body);
    });
}

/* ---- disturbances, the end ---- */

const PURGES = ['/purge?tag=ai', '/purge?tag=provider:claude', '/purge?all=1', '/purge?tag=ai&soft=1'];

async function disturb(turn) {
    [cloud, claude, spare].forEach((provider) => { provider.requests.length = 0; });
    if (turn % 4 === 0) {
        const purged = await node.admin('POST', pick(PURGES));
        counts.purges += 1;
        if (purged.status !== 200) {
            problems.push(`a purge was answered with ${purged.status}`);
        }
    }
    if (turn % 7 === 0) {
        node.reload();
        counts.reloads += 1;
    }
}

async function compareRows() {
    const { text } = await node.admin('GET', '/ai/ledger?format=json&sum=tenant');
    const rows = /"requests":\s*(\d+)/.exec(text)?.[1];
    if (!(Number(rows) >= counts.answers && Number(rows) <= counts.requests)) {
        problems.push(`${rows} rows in the ledger for ${counts.answers} answers to ${counts.requests} requests: ${text.slice(0, 300)}`);
    }
    counts.rows = Number(rows);
}

await node.load(seconds, CLIENTS, one, 500, disturb);
agent.destroy();
if (node.ended === null) {
    await delay(1500);
    await compareRows();
}
await node.stop(RESIDENT_MAX_MB);
await Promise.all([cloud, claude, spare].map((provider) => provider.stop()));
node.report(`seed ${seedText}, ${seconds} s: ${JSON.stringify(counts)}`);
