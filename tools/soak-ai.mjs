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
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startProvider } from '../tests/flow/harness/provider.mjs';

const [binary, seconds = '60', seedText = String(Date.now() % 1e9)] = process.argv.slice(2);
const CLIENTS = 24;
const RESIDENT_MAX_MB = /asan|tsan/.test(binary) ? 1200 : 160;
const DESCRIPTORS_MORE = 100;
/** What a client may be told when providers fail or it asked for nonsense. */
const REFUSALS = [400, 404, 429, 502, 503, 504];
const counts = { requests: 0, answers: 0, hits: 0, streams: 0, left: 0, refused: 0, told: 0, purges: 0, reloads: 0 };
const problems = [];
let seed = Number(seedText);

function random(n) {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * n);
}

const pick = (list) => list[random(list.length)];

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

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'doorstep-soak-ai-'));
fs.writeFileSync(path.join(folder, 'prices.json'), JSON.stringify({ currency: 'USD', prices: [{ provider: '*', model: '*', input: 1, output: 2 }] }));
const breaker = { enabled: false };
fs.writeFileSync(path.join(folder, 'site.yaml'), JSON.stringify({
    listen: ['127.0.0.1:0'], admin: { listen: '127.0.0.1:0' }, threads: Number(process.env.SOAK_LOOPS ?? 2), memory: { size: '16M' },
    access_log: { path: path.join(folder, 'access.log') }, state: { path: path.join(folder, 'state.db') },
    disk: { path: path.join(folder, 'disk'), size: '64M' },
    ai: {
        prices: path.join(folder, 'prices.json'),
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
}));
const node = spawn(binary, ['run', '-c', path.join(folder, 'site.yaml')], { stdio: ['ignore', 'pipe', 'pipe'] });
let said = '';
let ended = null;
node.stdout.on('data', (data) => { said += data; });
node.stderr.on('data', (data) => { said += data; });
const exit = once(node, 'exit').then(([code, signal]) => { ended = code ?? signal; });
while (!/admin on .*\n/.test(said) && ended === null) {
    await delay(20);
}
const port = Number(/listening on [^\s]*:(\d+)/.exec(said)?.[1]);
const adminPort = Number(/admin on [^\s]*:(\d+)/.exec(said)?.[1]);
const descriptors = () => fs.readdirSync(`/proc/${node.pid}/fd`).length;
const residentMB = () => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${node.pid}/status`, 'latin1'))[1]) / 1024;
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
        const request = http.request({ host: '127.0.0.1', port, method: 'POST', path: messages ? '/v1/messages' : '/v1/chat/completions', headers,
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

function admin(method, target) {
    return new Promise((resolve) => {
        http.request({ host: '127.0.0.1', port: adminPort, method, path: target, agent: false }, (response) => {
            let text = '';
            response.on('data', (data) => { text += data; });
            response.on('end', () => resolve({ status: response.statusCode, text }));
        }).on('error', () => resolve({ status: 0, text: '' })).end();
    });
}

const end = Date.now() + Number(seconds) * 1000;
const going = () => Date.now() < end && ended === null && problems.length < 20;
let residentMost = 0;
const before = ended === null ? descriptors() : 0;

async function disturb() {
    for (let turn = 1; going(); turn++) {
        await delay(500);
        if (ended !== null) {
            return;
        }
        residentMost = Math.max(residentMost, residentMB());
        [cloud, claude, spare].forEach((provider) => { provider.requests.length = 0; });
        if (turn % 4 === 0) {
            const purged = await admin('POST', pick(['/purge?tag=ai', '/purge?tag=provider:claude', '/purge?all=1', '/purge?tag=ai&soft=1']));
            counts.purges += 1;
            if (purged.status !== 200) {
                problems.push(`a purge was answered with ${purged.status}`);
            }
        }
        if (turn % 7 === 0) {
            node.kill('SIGHUP');
            counts.reloads += 1;
        }
    }
}

await Promise.all([disturb(), ...Array.from({ length: CLIENTS }, async () => {
    while (going()) {
        await one();
    }
})]);
agent.destroy();
if (ended === null) {
    await delay(1500);
    const more = descriptors() - before;
    const { text } = await admin('GET', '/ai/ledger?format=json&sum=tenant');
    const rows = /"requests":\s*(\d+)/.exec(text)?.[1];
    if (!(Number(rows) >= counts.answers && Number(rows) <= counts.requests)) {
        problems.push(`${rows} rows in the ledger for ${counts.answers} answers to ${counts.requests} requests: ${text.slice(0, 300)}`);
    }
    if (more > DESCRIPTORS_MORE) {
        problems.push(`${more} descriptors more than at the start`);
    }
    if (residentMost > RESIDENT_MAX_MB) {
        problems.push(`${Math.round(residentMost)} MiB resident, more than ${RESIDENT_MAX_MB}`);
    }
    node.kill('SIGTERM');
    await Promise.race([exit, delay(40_000)]);
    if (ended === null) {
        problems.push('SIGTERM was not obeyed in 40 s');
        node.kill('SIGKILL');
    }
    console.log(`resident at most ${Math.round(residentMost)} MiB, descriptors ${before} at the start, ${more} more at the end; ${rows} rows`);
}
await Promise.all([cloud, claude, spare].map((provider) => provider.stop()));
fs.rmSync(folder, { recursive: true, force: true });
if (ended !== 0) {
    problems.push(`the node ended with ${ended}:\n${said.slice(-6000)}`);
}
console.log(`seed ${seedText}, ${seconds} s: ${JSON.stringify(counts)}`);
problems.forEach((problem) => console.log(`FAIL ${problem}`));
console.log(problems.length ? `0 passed, ${problems.length} failed` : '1 passed, 0 failed');
process.exit(problems.length ? 1 : 0);
