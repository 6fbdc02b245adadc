/**
 * A region of three nodes with disks, one Redis, a PostgreSQL outbox and an origin whose content changes by writes, under mixed
 * load, while something is broken nearly all the time: nodes are killed, Redis is killed, frozen and emptied, PostgreSQL restarts,
 * nodes are cut off, disks are full. Now and then everything is mended; then all must agree within 30 s.
 *
 *   node tools/soak-ladder.mjs BINARY SECONDS [SEED]       SOAK_ONLY=kill,cut limits what is broken; SOAK_LOG=1 tells all
 *
 * What is checked: every byte; no version older than a purge that this node has acknowledged, or that all nodes have, or that came
 * before the last mending; what was lost with Redis may be served stale, never as fresh; Age and ttl; memory; descriptors; errors in
 * the log; exit codes.
 */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { randomOf } from './soak-node.mjs';

const [binary, seconds = '60', seedText = String(Date.now() % 1e9)] = process.argv.slice(2);
process.env.DOORSTEP_BIN = path.resolve(binary);
const { DiskFaults } = await import('../tests/flow/harness/disk.mjs');
const { startPostgres } = await import('../tests/flow/harness/postgres.mjs');
const { startRedis } = await import('../tests/flow/harness/redis.mjs');
const { startRelay } = await import('../tests/flow/harness/relay.mjs');
const { freePort, Server, until, LEASH } = await import('../tests/flow/harness/server.mjs');

const SANITIZED = /asan|tsan/.test(binary);
const CLIENTS = 12;
const MEMORY_MB = 24;
/** The tier and 32 MiB; a sanitizer's quarantine and shadow are a guess. */
const RESIDENT_MAX_MB = SANITIZED ? 1200 : MEMORY_MB + 32;
const DESCRIPTORS_MORE = 80;
const HOSTS = ['a.test', 'b.test'];
const NUMBERS = 60;
const MAX_AGE = { fresh: 600, tagged: 600, vary: 600, big: 600, short: 2, swr: 1, reval: 0 };
const kinds = Object.keys(MAX_AGE);
const LANGUAGES = ['de', 'en', 'fr'];
const began = Date.now();
const problems = [];
const counts = {};
const journal = [];

const { random, pick } = randomOf(seedText);
const count = (what) => { counts[what] = (counts[what] ?? 0) + 1; };

function note(what) {
    const line = `${((Date.now() - began) / 1000).toFixed(3)} ${what}`;
    journal.push(line);
    if (process.env.SOAK_LOG) {
        console.log(line);
    }
}

function wrong(what) {
    note(`WRONG ${what}`);
    problems.push(`${((Date.now() - began) / 1000).toFixed(3)} ${what}`);
}

/* ---- content ---- */

/** Every URL of both hosts; `since[v]` is when version v came to be. */
const items = new Map();
for (const host of HOSTS) {
    for (const kind of kinds) {
        for (let n = 0; n < (kind === 'big' ? 4 : NUMBERS); n++) {
            const item = { host, kind, n, target: `/${kind}/${n}`, tag: `t${n % 7}`, version: 1, since: [0, began] };
            items.set(host + item.target, item);
        }
    }
}
const all = [...items.values()];

function change(item) {
    item.version++;
    item.since[item.version] = Date.now();
}

/** Sizes differ by version, so that a mixture of two cannot pass. */
function bodyOf(item, version, language) {
    const size = item.kind === 'big' ? 900_000 + item.n * 65_536 + version % 5 : (item.n * 7919) % 40_000 + version % 5;
    return Buffer.alloc(size, `${item.host}${item.target}#${version}@${language};`);
}

const languageOf = (item, language) => (item.kind === 'vary' ? language : '');

const origin = http.createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    const item = items.get(request.headers.host + request.url);
    request.resume();
    response.on('error', () => {});
    if (!item) {
        response.writeHead(404, { 'Cache-Control': 'no-store' }).end();
        return;
    }
    if (request.method === 'POST') {
        change(item);
        response.writeHead(200, { 'Cache-Control': 'no-store', 'X-Version': item.version }).end('written');
        return;
    }
    const { version } = item;
    const language = languageOf(item, request.headers['accept-language']);
    const etag = `"${version}${language}"`;
    const headers = {
        ETag: etag, 'X-Version': version, 'Cache-Tag': `${item.tag}, ${item.kind}`,
        'Cache-Control': { swr: 'max-age=1, stale-while-revalidate=5', reval: 'no-cache' }[item.kind] ?? `max-age=${MAX_AGE[item.kind]}`,
        ...(item.kind === 'vary' ? { Vary: 'Accept-Language' } : {}),
    };
    if (request.headers['if-none-match'] === etag) {
        response.writeHead(304, headers).end();
        return;
    }
    const body = bodyOf(item, version, language);
    const send = () => response.writeHead(200, { ...headers, ...(random(2) ? { 'Content-Length': body.length } : {}) }).end(body);
    if (random(10)) {
        send();
    } else {
        setTimeout(send, random(60)); // a purge may come in between
    }
});

/* ---- nodes ---- */

const work = fs.mkdtempSync(path.join(os.tmpdir(), 'doorstep-soak-'));
const redis = await startRedis();
const postgres = await startPostgres();
await postgres.psql(fileURLToPath(new URL('../examples/purge-on-write/outbox.sql', import.meta.url)));
origin.listen(0, '127.0.0.1');
await until(() => origin.listening, 'the origin');

/** How often Redis has lost what it had. */
let losses = 0;

class Node {
    /** By item: no version below is served; none below is served as fresh. */
    hard = new Map();
    fresh = new Map();
    /** Raised when all is mended: { item, version, losses, soft }. */
    pending = [];
    down = false;
    lives = 0;
    broken = new Set();
    residentMost = 0;
    said = '';

    constructor(name) {
        this.name = name;
        this.agent = new http.Agent({ keepAlive: true, maxSockets: CLIENTS });
    }

    async prepare() {
        this.folder = path.join(work, this.name);
        fs.mkdirSync(this.folder);
        this.relay = await startRelay(redis.port);
        this.database = await startRelay(postgres.port);
        this.faults = new DiskFaults(path.join(this.folder, 'tier'));
        [this.port, this.adminPort] = [await freePort(), await freePort()];
        fs.writeFileSync(path.join(this.folder, 'site.yaml'), JSON.stringify({
            node: { name: this.name, region: 'eu' }, listen: [`127.0.0.1:${this.port}`], admin: { listen: `127.0.0.1:${this.adminPort}` },
            threads: 2, memory: { size: `${MEMORY_MB}M`, max_object: '256K' },
            disk: { path: path.join(this.folder, 'tier'), size: '64M', segment: '4M', checkpoint: '2s' },
            shared: { url: `redis://127.0.0.1:${this.relay.port}`, timeout: '100ms', lease: { time: '1s', wait: '200ms' } },
            purge: { method: true, wait: '2s', postgres: `postgres://postgres@127.0.0.1:${this.database.port}/postgres` },
            upstreams: { app: { servers: [`http://127.0.0.1:${origin.address().port}`, `http://localhost:${origin.address().port}`],
                balance: 'least_requests', idle_timeout: '20s' } },
            routes: [{ match: '/*', upstream: 'app' }, { match: '/big/*', upstream: 'app', disk: 'pin' },
                { match: '/tagged/*', upstream: 'app', disk: 'pin' }],
        }));
    }

    async start() {
        this.server = new Server([...LEASH, process.env.DOORSTEP_BIN, 'run', '-c', path.join(this.folder, 'site.yaml')],
            { cwd: this.folder, env: this.faults.env });
        const { server } = this;
        if (!await server.says(/admin on .*\n/)) {
            throw new Error(`${this.name} does not start:\n${server.said}`);
        }
        this.descriptorsFirst = this.descriptors;
        this.down = false;
        this.lives++;
        this.began = Date.now();
        server.ended().then(() => {
            if (!this.down) {
                wrong(`${this.name} ended by itself:\n${server.said.slice(-8000)}`);
            }
        });
    }

    /** What it said in the life that is over. */
    collect() {
        this.said += this.server.said;
        for (const line of this.server.said.split('\n')) {
            if (/ error: |Sanitizer|runtime error|check failed/.test(line) && !this.mayComplain(line)) {
                wrong(`${this.name} says: ${line}`);
            }
        }
    }

    /** A disk that was full keeps no purge. */
    mayComplain(line) {
        return this.diskEverFailed && /could not be made durable|disk tier off/.test(line);
    }

    async kill() {
        this.down = true;
        this.lives++;
        await this.server.kill('SIGKILL');
        this.collect();
        this.agent.destroy();
        this.agent = new http.Agent({ keepAlive: true, maxSockets: CLIENTS });
    }

    async stop() {
        this.down = true;
        this.lives++;
        this.server.signal('SIGTERM');
        await Promise.race([this.server.ended(), delay(45_000)]);
        if (this.server.alive) {
            wrong(`${this.name}: SIGTERM was not obeyed in 45 s`);
            await this.server.kill('SIGABRT');
        }
        this.collect();
        if (/Sanitizer/.test(this.server.said)) {
            wrong(`${this.name}: ${this.server.said.slice(-6000)}`);
        }
        this.agent.destroy();
        this.agent = new http.Agent({ keepAlive: true, maxSockets: CLIENTS });
    }

    get descriptors() {
        return fs.readdirSync(`/proc/${this.server.pid}/fd`).length;
    }

    look() {
        if (!this.down) {
            try {
                const status = fs.readFileSync(`/proc/${this.server.pid}/status`, 'latin1');
                this.residentMost = Math.max(this.residentMost, Number(/VmRSS:\s+(\d+)/.exec(status)[1]) / 1024);
            } catch { /* it ended just now */ }
        }
    }

    /** { status, headers, body, error } of one request. */
    ask(target, { method = 'GET', headers = {}, port = this.port, leave = false, agent = this.agent } = {}) {
        return new Promise((resolve) => {
            const request = http.request({ host: '127.0.0.1', port, method, path: target, headers, agent }, (response) => {
                const parts = [];
                response.on('data', (part) => {
                    parts.push(part);
                    if (leave) {
                        request.destroy();
                    }
                });
                response.on('error', () => {});
                response.on('close', () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts),
                    error: response.complete && !(leave && parts.length) ? null : 'cut' })); // who left may have had the end in its buffers
            });
            request.setTimeout(25_000, () => resolve({ error: 'nothing for 25 s' }));
            request.on('error', (error) => resolve({ error: error.message }));
            request.end();
        });
    }

    async admin(target, method = 'GET') {
        return this.ask(target, { method, port: this.adminPort, agent: false });
    }

    async metrics() {
        const { body } = await this.admin('/metrics');
        return new Map((body ?? '').toString().split('\n').filter((line) => line && line[0] !== '#').map((line) => {
            const at = line.lastIndexOf(' ');
            return [line.slice(0, at).replace('doorstep_', ''), Number(line.slice(at + 1))];
        }));
    }

    raise(floors, item, version) {
        const key = item.host + item.target;
        if ((floors.get(key) ?? 0) < version) {
            floors.set(key, version);
        }
    }
}

const nodes = ['n1', 'n2', 'n3'].map((name) => new Node(name));
for (const node of nodes) {
    await node.prepare();
    await node.start();
}

/* ---- clients ---- */

function wishes(length) {
    const from = random(Math.max(1, length - 1));
    switch (length > 10 ? random(10) : 9) {
    case 0: return { Range: `bytes=${from}-` };
    case 1: return { Range: `bytes=${from}-${from + random(70_000)}` };
    case 2: return { Range: `bytes=-${1 + random(length)}` };
    default: return {};
    }
}

/** What is wrong with an answer, or null. */
function judge(item, language, floors, response, asked) {
    const { status, headers, body } = response;
    const version = Number(headers['x-version'] ?? /^"(\d+)/.exec(headers.etag ?? '')?.[1]);
    const cache = /[^,]*$/.exec(headers['cache-status'] ?? '')[0];
    const ttl = Number(/; ttl=(-?\d+)/.exec(cache)?.[1] ?? 0);
    const age = Number(headers.age ?? 0);
    const isHit = /; hit/.test(cache);
    const isFresh = isHit && ttl > 0 && !/stale/.test(cache);
    if (!(status === 200 || status === 206 || status === 304)) {
        return `status ${status}: ${body.toString().slice(0, 200)}`;
    }
    if (!(version >= floors.hard && version <= item.version)) {
        return `version ${version}, purged up to ${floors.hard}`;
    }
    if (isFresh && version < floors.fresh) {
        return `version ${version} as fresh, which ends at ${floors.fresh}`;
    }
    if (!(age >= 0 && age <= (Date.now() - item.since[version]) / 1000 + 2)) {
        return `Age ${age}, but that version is ${(Date.now() - item.since[version]) / 1000} s old`;
    }
    if (isFresh && ttl + age > MAX_AGE[item.kind] + 1) {
        return `ttl ${ttl} at an age of ${age}`;
    }
    if (status === 304) {
        return asked['If-None-Match'] === headers.etag ? null : `304 with ${headers.etag}`;
    }
    let wanted = bodyOf(item, version, languageOf(item, language));
    if (status === 206) {
        const [, first, last, size] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(headers['content-range']) ?? [];
        if (Number(size) !== wanted.length) {
            return `Content-Range ${headers['content-range']} of ${wanted.length}`;
        }
        wanted = wanted.subarray(Number(first), Number(last) + 1);
    }
    count(isHit ? `hit ${/detail=(\w+)/.exec(cache)?.[1] ?? ''}` : 'forwarded');
    if (!response.error) {
        return body.equals(wanted) ? null : `${status}: ${body.length} bytes, wrong ones; expected ${wanted.length}`;
    }
    return body.equals(wanted.subarray(0, body.length)) ? null : `${status}: wrong bytes in a cut answer`;
}

async function one() {
    const node = pick(nodes.filter((each) => !each.down));
    const item = random(3) ? all[random(all.length)] : all[random(20) * 19];
    if (!node) {
        await delay(20);
        return;
    }
    const language = pick(LANGUAGES);
    const key = item.host + item.target;
    const floors = { hard: node.hard.get(key) ?? 0, fresh: node.fresh.get(key) ?? 0 };
    const { lives } = node;
    const length = bodyOf(item, item.version, languageOf(item, language)).length;
    const headers = { Host: item.host, 'Accept-Language': language, ...wishes(length) };
    if (!headers.Range && random(8) === 0) {
        headers['If-None-Match'] = `"${item.version - random(2)}${languageOf(item, language)}"`;
    }
    const leave = random(30) === 0;
    const response = await node.ask(item.target, { headers, leave });
    count('requests');
    const excused = node.lives !== lives || node.down || leave;
    if (response.headers) {
        const bad = judge(item, language, floors, response, headers);
        if (bad) {
            wrong(`${node.name} ${item.host}${item.target} ${JSON.stringify(headers)}: ${bad}\n    ${JSON.stringify(response.headers)}`);
        }
    }
    if (response.error && !excused) {
        // A kept connection may be closed in the moment it is used.
        if (!/ECONNRESET|socket hang up/.test(response.error)) {
            wrong(`${node.name} ${item.target}: ${response.error} after ${response.body?.length}`);
        } else {
            count('reset');
        }
    }
}

/* ---- purges ---- */

const isWell = (node) => !node.down && node.broken.size === 0;

/** What a purge covers, in its words. */
function draw() {
    const item = pick(all);
    switch (random(8)) {
    case 0: case 1: case 2: return { kind: 'url', target: `http://${item.host}${item.target}`, covers: [item] };
    case 3: return { kind: 'url', target: item.target, covers: all.filter((each) => each.target === item.target) };
    case 4: return { kind: 'prefix', target: `/${item.kind}`, covers: all.filter((each) => each.kind === item.kind) };
    case 5: return { kind: 'tag', target: item.tag, covers: all.filter((each) => each.tag === item.tag) };
    case 6: return { kind: 'host', target: item.host, covers: all.filter((each) => each.host === item.host) };
    default: return random(3) ? draw() : { kind: 'all', target: '', covers: all };
    }
}

/** Not everything changes that is purged. */
function changeSome(covers) {
    covers.forEach((item) => { if (covers.length === 1 || random(3) === 0) { change(item); } });
    return covers.map((item) => ({ item, version: item.version }));
}

async function run(command) {
    return new Promise((resolve) => {
        execFile(process.env.DOORSTEP_BIN, command, (error, stdout, stderr) => resolve({ code: error?.code ?? 0, stdout, stderr }));
    });
}

/** Who was well before and after, and lives the same life, has the purge when all live nodes have. */
function register(changed, { soft, by, acknowledged, everywhere, well, lost }) {
    for (const node of nodes) {
        const has = acknowledged && (node === by || (everywhere && well.get(node) === node.lives && isWell(node)));
        for (const { item, version } of changed) {
            if (has) {
                node.raise(soft ? node.fresh : node.hard, item, version);
                node.raise(node.fresh, item, version);
            } else {
                node.pending.push({ item, version, soft, losses: lost });
            }
        }
    }
}

async function purge() {
    const by = pick(nodes.filter((each) => !each.down));
    if (!by) {
        return;
    }
    const { kind, target, covers } = draw();
    const soft = random(4) === 0;
    const changed = changeSome(covers);
    const well = new Map(nodes.filter(isWell).map((node) => [node, node.lives]));
    const { lives } = by;
    const lost = losses;
    const way = pick(['http', 'http', 'cli', 'method', 'sql', 'stream', 'post']);
    const say = `${way} ${by.name} ${soft ? 'soft ' : ''}${kind} ${target}`;
    count(`purge ${way}`);
    if (way === 'sql') {
        try {
            await postgres.query(`INSERT INTO doorstep_outbox (kind, target, soft) VALUES ('${kind}', '${target}', ${soft})`);
            register(changed, { soft, lost: -1 });
            note(say);
        } catch (error) {
            note(`${say}: not in the database: ${error.message.slice(0, 80)}`);
        }
        return;
    }
    if (way === 'stream') {
        try {
            await redis.cli('XADD', 'doorstep:{eu}:purges', '*', 'event', `${soft ? 'soft ' : ''}${kind} ${target}`.trim());
            register(changed, { soft, lost });
            note(say);
        } catch { /* Redis is away, and who asked knows */ }
        return;
    }
    if (way === 'post') {
        // Drops the copies of this node and of the store; other nodes hear nothing of a write.
        const item = pick(all);
        const response = await by.ask(item.target, { method: 'POST', headers: { Host: item.host, 'Content-Length': 0 }, agent: false });
        note(`post ${by.name} ${item.host}${item.target} ${response.headers?.['x-version']}`);
        if ((response.status !== 200 || response.error) && by.lives === lives && !by.down) {
            wrong(`POST ${by.name} ${item.host}${item.target}: ${response.status} ${response.error}`);
        }
        return;
    }
    let answer = {};
    if (way === 'http') {
        const wish = kind === 'all' ? 'all=1' : `${kind}=${encodeURIComponent(target)}`;
        const response = await by.admin(`/purge?${wish}${soft ? '&soft=1' : ''}`, 'POST');
        answer = { status: response.status, text: response.body?.toString(), error: response.error };
    } else if (way === 'cli') {
        const { code, stdout, stderr } = await run(['purge', '--json', '--admin', `127.0.0.1:${by.adminPort}`,
            ...(kind === 'all' ? ['--all'] : [`--${kind}`, target]), ...(soft ? ['--soft'] : [])]);
        answer = { status: code === 0 ? 200 : 503, text: stdout, error: code === 0 ? null : stderr };
    } else {
        const item = pick(all);
        changed.splice(0, Infinity, ...changeSome([item]));
        const response = await by.ask(item.target, { method: 'PURGE', headers: { Host: item.host }, agent: false });
        answer = { status: response.status, text: response.body?.toString(), error: response.error };
        note(`PURGE ${by.name} ${item.host}${item.target}`);
        settle(answer, false);
        return;
    }
    settle(answer, soft);

    function settle({ status, text, error }, isSoft) {
        const excused = by.lives !== lives || by.down || by.diskFailed;
        if (status !== 200 || error) {
            note(`${say}: ${status} ${error ?? ''}`);
            if (!excused) {
                wrong(`${say}: ${status} ${text} ${error ?? ''}`);
            }
            return;
        }
        const told = JSON.parse(text);
        const everywhere = told.bus === 'sent' && told.nodes >= 1 && told.applied === told.nodes;
        count(everywhere ? 'applied by all' : `bus ${told.bus}`);
        note(`${say}: ${told.bus} ${told.id} ${told.applied}/${told.nodes}`);
        if (told.bus === 'lost' && !excused) {
            wrong(`${say}: ${text}`);
        }
        register(changed, { soft: isSoft, by, acknowledged: true, everywhere: everywhere && losses === lost, well, lost });
    }
}

/* ---- what breaks ---- */

let going = () => Date.now() < end && problems.length < 8;

/** A node that is not as it should be cannot be held to what all live nodes have. */
async function breaking(node, what, action) {
    node.broken.add(what);
    note(`${node.name} ${what}`);
    await action();
    await caughtUp(node, 30_000).catch(() => {}); // others may be broken as well; the mending asks for it
    node.broken.delete(what);
    note(`${node.name} ${what}: over`);
}

async function caughtUp(node, ms) {
    await until(async () => {
        if (node.down) {
            return true;
        }
        const values = await node.metrics();
        return values.get('bus_connected') === 1 && values.get('bus_caught_up') === 1 && values.get('purge_database_current') === 1
            && values.get('bus_queued') === 0;
    }, `${node.name} has caught up`, ms);
}

/** Redis goes: nobody is well until each has caught up again. */
async function breakingAll(what, action) {
    note(what);
    nodes.forEach((node) => node.broken.add(what));
    await action();
    await Promise.all(nodes.map((node) => caughtUp(node, 30_000).catch(() => {})));
    nodes.forEach((node) => node.broken.delete(what));
    note(`${what}: over`);
}

const BREAKS = {
    kill: (node) => breaking(node, 'killed', async () => { await node.kill(); await delay(random(1500)); await node.start(); }),
    stop: (node) => breaking(node, 'stopped', async () => { await node.stop(); await delay(random(500)); await node.start(); }),
    reload: async (node) => { if (!node.down) { node.server.signal('SIGHUP'); node.server.signal('SIGUSR1'); } await delay(300); },
    cut: (node) => breaking(node, 'cut off', async () => {
        await node.relay.cut();
        await delay(random(3) ? random(3000) : 11_000);
        await node.relay.heal();
    }),
    hole: (node) => breaking(node, 'in a black hole', async () => {
        node.relay.blackhole(pick(['toServer', 'toClient', undefined]));
        await delay(random(5000));
        await node.relay.heal();
        await delay(3500); // connections that nobody answered are given up first
    }),
    slow: (node) => breaking(node, 'far away', async () => {
        node.relay.delay(50 + random(300));
        await delay(random(4000));
        await node.relay.heal();
    }),
    database: (node) => breaking(node, 'without the database', async () => {
        await node.database.cut();
        await delay(random(4000));
        await node.database.heal();
    }),
    disk: (node) => breaking(node, 'with a full disk', async () => {
        node.diskFailed = node.diskEverFailed = true;
        node.faults[pick(['full', 'readOnly'])]();
        await delay(500 + random(2500));
        node.faults.clear();
    }),
    'redis-kill': () => breakingAll('Redis is killed', async () => {
        losses++;
        await redis.kill();
        losses++;
        await delay(random(2000));
        await redis.start();
    }),
    'redis-pause': () => breakingAll('Redis hangs', async () => { redis.pause(); await delay(random(5000)); redis.resume(); }),
    'redis-flush': () => breakingAll('Redis is emptied', async () => { losses++; await redis.flush(); losses++; await delay(300); }),
    'pg-restart': () => breakingAll('PostgreSQL restarts', () => postgres.restart()),
    'pg-kill': () => breakingAll('PostgreSQL is killed', async () => { await postgres.kill(); await delay(random(500)); await postgres.restart(); }),
};
const breaks = Object.keys(BREAKS).filter((name) => !process.env.SOAK_ONLY || process.env.SOAK_ONLY.split(',').includes(name));

/** All is mended, nothing new breaks: within 30 s everything is heard of everywhere. */
async function agree() {
    const pending = nodes.map((node) => node.pending.slice());
    for (const node of nodes) {
        await caughtUp(node, 30_000).catch(async (error) => {
            const values = await node.metrics();
            wrong(`${error.message}: ${JSON.stringify([...values].filter(([name]) => /^bus|^purge_data/.test(name)))}\n${node.server.said.slice(-2000)}`);
        });
    }
    // A purge by each node; nothing it said before waits any more, so all of that came before.
    for (const node of nodes) {
        await until(async () => {
            const response = await node.admin('/purge?tag=barrier', 'POST');
            const told = response.status === 200 ? JSON.parse(response.body) : {};
            return told.bus === 'sent' && told.nodes === nodes.length && told.applied === told.nodes;
        }, `all have heard ${node.name}`, 30_000).catch((error) => wrong(error.message));
    }
    // And a row that each node reads after all others.
    const before = await Promise.all(nodes.map((node) => node.metrics()));
    await postgres.query("INSERT INTO doorstep_outbox (kind, target) VALUES ('tag', 'barrier')");
    await Promise.all(nodes.map((node, i) => until(async () => {
        const values = await node.metrics();
        return values.get('purge_database_events_total') > before[i].get('purge_database_events_total');
    }, `${node.name} reads the database`, 15_000).catch((error) => wrong(error.message))));
    nodes.forEach((node, i) => {
        pending[i].forEach(({ item, version, soft, losses: lost }) => {
            // What was lost with Redis is a gap: everything older is stale.
            node.raise(node.fresh, item, version);
            if (!soft && (lost === -1 || lost === losses)) {
                node.raise(node.hard, item, version);
            }
        });
        node.pending = node.pending.slice(pending[i].length);
        node.diskFailed = false;
    });
    count('agreed');
    note('all agree');
}

async function disturb() {
    for (let turn = 1; going(); turn++) {
        const wait = random(1200);
        await delay(wait);
        const under = [];
        for (let i = 1 + random(2); i > 0 && breaks.length; i--) {
            const what = pick(breaks);
            const free = nodes.filter((node) => isWell(node));
            const isAll = /redis|pg/.test(what);
            if (!isAll && free.length === 0) {
                continue;
            }
            count(what);
            under.push(BREAKS[what](isAll ? null : pick(free)));
            await delay(random(800));
        }
        await Promise.all(under);
        if (turn % 3 === 0 && going()) {
            await agree();
        }
    }
}

const end = Date.now() + Number(seconds) * 1000;
try {
    await agree();
    await Promise.all([
        disturb(),
        (async () => { while (going()) { await purge(); await delay(random(250)); } })(),
        (async () => { while (going()) { nodes.forEach((node) => node.look()); await delay(300); } })(),
        ...Array.from({ length: CLIENTS }, async () => { while (going()) { await one(); } }),
    ]);
    if (problems.length === 0) {
        await agree();
        going = () => true;
        for (let i = 0; i < 300; i++) {
            await one();
        }
        await delay(1000);
        for (const node of nodes) {
            const more = node.descriptors - node.descriptorsFirst;
            if (more > DESCRIPTORS_MORE) {
                wrong(`${node.name}: ${more} descriptors more than at its start`);
            }
            if (node.residentMost > RESIDENT_MAX_MB) {
                wrong(`${node.name}: ${Math.round(node.residentMost)} MiB resident, more than ${RESIDENT_MAX_MB}`);
            }
        }
    }
} catch (error) {
    wrong(`the soak itself: ${error.stack}`);
}
for (const node of nodes) {
    if (!node.down) {
        await node.stop();
        if (node.server.said && !/Sanitizer/.test(node.server.said)) {
            count('stopped');
        }
    }
}
const log = path.join(os.tmpdir(), `doorstep-soak-${seedText}.log`);
if (problems.length) {
    fs.writeFileSync(log, [...journal, ...nodes.map((node) => `---- ${node.name}\n${node.said}`)].join('\n'));
    console.log(`what happened: ${log}`);
}
console.log(`resident at most ${nodes.map((node) => Math.round(node.residentMost)).join(', ')} MiB`);
console.log(`seed ${seedText}, ${seconds} s: ${JSON.stringify(counts)}`);
problems.forEach((problem) => console.log(`FAIL ${problem}`));
console.log(problems.length ? `0 passed, ${problems.length} failed` : '1 passed, 0 failed');
for (const node of nodes) {
    await node.relay.stop();
    await node.database.stop();
}
origin.closeAllConnections();
await redis.stop();
await postgres.stop();
fs.rmSync(work, { recursive: true, force: true });
process.exit(problems.length ? 1 : 0);
