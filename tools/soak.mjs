/**
 * Mixed load for a while: an origin whose every answer follows from its URL, clients that ask for few hot and many cold URLs,
 * in ranges, conditionally, compressed or not, and often leave in the middle. Every complete body is compared.
 *
 *   node tools/soak.mjs BINARY SECONDS [SEED]
 *
 * Fails when a body is wrong, when the node ends or says so itself (sanitizers end it), or when SIGTERM is not answered by 0.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

const [binary, seconds = '60', seedText = String(Date.now() % 1e9)] = process.argv.slice(2);
const CLIENTS = 24;
let seed = Number(seedText);

/** mulberry32: the same seed makes the same run, as far as timing lets it. */
function random(n) {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * n);
}

/** The whole body of an URL /kind/number. */
function bodyOf(path) {
    const number = Number(path.split('/')[2]);
    const size = number % 97 === 0 ? 3_000_000 : (number * 7919) % 60_000;
    return Buffer.alloc(size, `${path};`);
}

const KINDS = {
    fresh: { 'Cache-Control': 'max-age=2' },
    swr: { 'Cache-Control': 'max-age=1, stale-while-revalidate=5', ETag: '"v1"' },
    vary: { 'Cache-Control': 'max-age=3', Vary: 'Accept-Language' },
    pass: { 'Cache-Control': 'no-store' },
    slow: { 'Cache-Control': 'max-age=1' },
    broken: { 'Cache-Control': 'max-age=1' },
};
const kinds = Object.keys(KINDS);

const origin = http.createServer(async (request, response) => {
    const kind = request.url.split('/')[1];
    const body = bodyOf(request.url);
    request.resume();
    if (request.headers['if-none-match'] === KINDS[kind]?.ETag && KINDS[kind]?.ETag) {
        response.writeHead(304, KINDS[kind]).end();
        return;
    }
    if (kind === 'slow') {
        await delay(random(80));
    }
    response.writeHead(200, { ...KINDS[kind], ...(random(2) ? { 'Content-Length': body.length } : {}) });
    if (kind === 'broken' && random(2)) {
        response.write(body.subarray(0, body.length >> 1), () => response.destroy());
        return;
    }
    response.end(body);
});
origin.listen(0, '127.0.0.1');
await once(origin, 'listening');

const node = spawn(binary, ['serve', '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0', '--threads', '2', '--memory', '64M',
    `http://127.0.0.1:${origin.address().port}`], { stdio: ['ignore', 'pipe', 'pipe'] });
let said = '';
let ended = null;
node.stdout.on('data', (data) => { said += data; });
node.stderr.on('data', (data) => { said += data; });
const exit = once(node, 'exit').then(([code, signal]) => { ended = code ?? signal; });
while (!/listening on/.test(said) && ended === null) {
    await delay(20);
}
const port = Number(/listening on [^\s]*:(\d+)/.exec(said)?.[1]);

const agent = new http.Agent({ keepAlive: true, maxSockets: CLIENTS });
const counts = { requests: 0, complete: 0, left: 0, cut: 0, wrong: 0 };
const problems = [];

function one() {
    const kind = kinds[random(kinds.length)];
    const path = `/${kind}/${random(4) ? random(20) : random(20_000)}`;
    const headers = { 'Accept-Language': ['de', 'en', 'fr'][random(3)] };
    const leave = random(12) === 0;
    const body = bodyOf(path);
    let from = 0;
    if (random(5) === 0 && body.length > 10) {
        from = random(body.length - 1);
        headers.Range = `bytes=${from}-`;
    }
    counts.requests += 1;
    return new Promise((resolve) => {
        const request = http.get({ host: '127.0.0.1', port, path, headers, agent }, (response) => {
            const parts = [];
            response.on('data', (part) => {
                parts.push(part);
                if (leave) {
                    counts.left += 1;
                    request.destroy();
                }
            });
            response.on('error', () => {});
            response.on('close', () => {
                const got = Buffer.concat(parts);
                const whole = response.statusCode === 206 ? body.subarray(from) : body;
                if (leave) {
                    // nothing to compare
                } else if (!response.complete) {
                    counts.cut += 1;
                    if (kind !== 'broken') {
                        problems.push(`${path}: cut after ${got.length} of ${whole.length}`);
                    }
                } else if (response.statusCode === 200 || response.statusCode === 206) {
                    counts.complete += 1;
                    if (!got.equals(whole) && kind !== 'broken') {
                        counts.wrong += 1;
                        problems.push(`${path} ${response.statusCode}: ${got.length} bytes, expected ${whole.length}`);
                    }
                } else if (kind !== 'broken') {
                    problems.push(`${path}: status ${response.statusCode}`);
                }
                resolve();
            });
        });
        request.setTimeout(20_000, () => {
            problems.push(`${path}: nothing for 20 s`);
            request.destroy();
        });
        request.on('error', () => resolve());
    });
}

const end = Date.now() + Number(seconds) * 1000;
await Promise.all(Array.from({ length: CLIENTS }, async () => {
    while (Date.now() < end && ended === null && problems.length < 20) {
        await one();
    }
}));
agent.destroy();
if (ended === null) {
    node.kill('SIGTERM');
    await Promise.race([exit, delay(40_000)]);
    if (ended === null) {
        problems.push('SIGTERM was not obeyed in 40 s');
        node.kill('SIGKILL');
    }
}
origin.closeAllConnections();
origin.close();
if (ended !== 0) {
    problems.push(`the node ended with ${ended}:\n${said.slice(-6000)}`);
}
console.log(`seed ${seedText}: ${JSON.stringify(counts)}`);
problems.forEach((problem) => console.log(`FAIL ${problem}`));
console.log(problems.length ? `0 passed, ${problems.length} failed` : '1 passed, 0 failed');
process.exit(problems.length ? 1 : 0);
