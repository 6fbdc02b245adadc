/**
 * Mixed load for a while against two loops. Every answer of the origin follows from its URL and a version; clients ask for few
 * hot and many cold URLs, in ranges, conditionally, and often leave in the middle, while everything is purged now and then, the
 * configuration reloaded and the origin restarted. Every body is compared, and no version is older than the last purge.
 *
 *   node tools/soak.mjs BINARY SECONDS [SEED]
 *
 * Fails when a byte is wrong, when the node ends or says so itself (sanitizers end it), when it grows in memory or descriptors,
 * or when SIGTERM is not answered by 0.
 */
import { once } from 'node:events';
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { randomOf, SoakNode } from './soak-node.mjs';

const [binary, seconds = '60', seedText = String(Date.now() % 1e9)] = process.argv.slice(2);
const CLIENTS = 24;
const MEMORY_MB = 64;
/** What the process may hold: the tier and 48 MiB, or under a sanitizer, whose quarantine and shadow count, a guess. */
const RESIDENT_MAX_MB = /asan|tsan/.test(binary) ? 900 : MEMORY_MB + 48;
const { random } = randomOf(seedText);
const node = new SoakNode();

/** The whole body of an URL /kind/number at a version. */
function bodyOf(target, version) {
    const number = Number(target.split('/')[2]);
    const size = number % 97 === 0 ? 3_000_000 : (number * 7919) % 60_000;
    return Buffer.alloc(size, `${target}#${version};`);
}

const KINDS = {
    fresh: { 'Cache-Control': 'max-age=2' },
    swr: { 'Cache-Control': 'max-age=1, stale-while-revalidate=5' },
    vary: { 'Cache-Control': 'max-age=3', Vary: 'Accept-Language' },
    reval: { 'Cache-Control': 'no-cache' },
    pass: { 'Cache-Control': 'no-store' },
    slow: { 'Cache-Control': 'max-age=1' },
    broken: { 'Cache-Control': 'max-age=1' },
};
const kinds = Object.keys(KINDS);
/** The version of everything; the oldest one that may still be answered; how often the origin has gone. */
const now = { version: 1, floor: 1, outages: 0, down: false };
const counts = { requests: 0, complete: 0, confirmed: 0, left: 0, cut: 0, refused: 0, purges: 0, reloads: 0, restarts: 0 };
const { problems } = node;

const origin = http.createServer(async (request, response) => {
    const kind = request.url.split('/')[1];
    const { version } = now;
    const headers = { ...KINDS[kind], ETag: `"${version}"`, 'X-Version': version };
    const body = bodyOf(request.url, version);
    request.resume();
    response.on('error', () => {});
    if (request.headers['if-none-match'] === headers.ETag) {
        response.writeHead(304, headers).end();
        return;
    }
    if (kind === 'slow') {
        await delay(random(80));
    }
    response.writeHead(200, { ...headers, ...(random(2) ? { 'Content-Length': body.length } : {}) });
    if (kind === 'broken' && random(2)) {
        response.write(body.subarray(0, body.length >> 1), () => response.destroy());
        return;
    }
    response.end(body);
});
origin.listen(0, '127.0.0.1');
await once(origin, 'listening');
const originPort = origin.address().port;

await node.start(binary, {
    threads: 2, memory: { size: `${MEMORY_MB}M` },
    // An origin that cuts one answer in so many would open the breaker, and then nothing else would be tried.
    upstreams: { app: { servers: [`http://127.0.0.1:${originPort}`], breaker: { enabled: false } } }, routes: [{ match: '/*', upstream: 'app' }],
});
const agent = new http.Agent({ keepAlive: true, maxSockets: CLIENTS });

/** Range and If-None-Match for a body of this length, sometimes. */
function wishes(length) {
    const from = random(Math.max(1, length - 1));
    switch (length > 10 ? random(12) : 11) {
    case 0: return { Range: `bytes=${from}-` };
    case 1: return { Range: `bytes=${from}-${from + random(5000)}` };
    case 2: return { Range: `bytes=-${1 + random(length)}` };
    case 3: return { 'If-None-Match': `"${now.version}"` };
    default: return {};
    }
}

/** What is wrong with a complete answer, or null. */
function judge(target, floor, response, got) {
    const version = Number(response.headers['x-version']);
    if (response.statusCode === 304) {
        counts.confirmed += 1;
        return null;
    }
    if (response.statusCode !== 200 && response.statusCode !== 206) {
        return `status ${response.statusCode}`;
    }
    if (!(version >= floor && version <= now.version)) {
        return `version ${version}, purged up to ${floor}`;
    }
    let wanted = bodyOf(target, version);
    if (response.statusCode === 206) {
        const [, first, last, size] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.headers['content-range']) ?? [];
        if (Number(size) !== wanted.length) {
            return `Content-Range ${response.headers['content-range']}`;
        }
        wanted = wanted.subarray(Number(first), Number(last) + 1);
    }
    counts.complete += 1;
    return got.equals(wanted) ? null : `${response.statusCode}: ${got.length} bytes, wrong ones; expected ${wanted.length}`;
}

function one() {
    const kind = kinds[random(kinds.length)];
    const target = `/${kind}/${random(4) ? random(20) : random(20_000)}`;
    const headers = { 'Accept-Language': ['de', 'en', 'fr'][random(3)], ...wishes(bodyOf(target, now.version).length) };
    const leave = random(12) === 0;
    const { floor, outages, down } = now;
    const excused = () => kind === 'broken' || down || now.outages !== outages;
    counts.requests += 1;
    return new Promise((resolve) => {
        const request = http.get({ host: '127.0.0.1', port: node.port, path: target, headers, agent }, (response) => {
            const parts = [];
            response.on('data', (part) => {
                parts.push(part);
                if (leave) {
                    request.destroy();
                }
            });
            response.on('error', () => {});
            response.on('close', () => {
                if (leave) {
                    counts.left += 1;
                } else if (!response.complete) {
                    counts.cut += 1;
                    if (!excused()) {
                        problems.push(`${target}: cut after ${Buffer.concat(parts).length}`);
                    }
                } else if (response.statusCode >= 500 && excused()) {
                    counts.refused += 1;
                } else {
                    const wrong = judge(target, floor, response, Buffer.concat(parts));
                    if (wrong) {
                        problems.push(`${target} ${JSON.stringify(headers)}: ${wrong}`);
                    }
                }
                resolve();
            });
        });
        request.setTimeout(20_000, () => {
            problems.push(`${target}: nothing for 20 s`);
            request.destroy();
        });
        request.on('error', () => resolve());
    });
}

/** Everything becomes another version, and what is stored of the old ones is purged. */
async function purge() {
    const version = ++now.version;
    const { status } = await node.admin('POST', '/purge?all=1');
    if (status !== 200) {
        problems.push(`the purge was answered with ${status}`);
    }
    now.floor = version;
    counts.purges += 1;
}

async function restartOrigin() {
    now.outages += 1;
    now.down = true;
    const closed = once(origin, 'close');
    origin.close();
    origin.closeAllConnections();
    await closed;
    await delay(100);
    origin.listen(originPort, '127.0.0.1');
    await once(origin, 'listening');
    await delay(200);
    now.outages += 1;
    now.down = false;
    counts.restarts += 1;
}

await node.load(seconds, CLIENTS, one, 700, async (turn) => {
    await purge();
    if (turn % 3 === 0) {
        node.reload('SIGUSR1');
        counts.reloads += 1;
    }
    if (turn % 5 === 0) {
        await restartOrigin();
    }
});
agent.destroy();
await delay(200);
await node.stop(RESIDENT_MAX_MB);
origin.closeAllConnections();
origin.close();
node.report(`seed ${seedText}, ${seconds} s: ${JSON.stringify(counts)}`);
