/**
 * Doorstep beside its peers, in one run on one machine: ratios, not seconds. Prints Markdown.
 *
 * Servers sit on CPU 0, load generators and origins on CPU 1. Short rounds alternate between the servers, and medians are
 * shown, so that a machine whose speed drifts slows all of them alike. CPU microseconds per request (user and system time of
 * the whole process tree over requests served) stay meaningful where requests per second do not.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import net from 'node:net';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { ai } from './part_ai.mjs';
import { disk } from './part_disk.mjs';
import { outage } from './part_outage.mjs';
import { purge } from './part_purge.mjs';
import { region } from './part_region.mjs';
import { shared } from './part_shared.mjs';
import { start, startNginxOrigin, versions } from './peers.mjs';
import { BUILD, get, load, median, stopAll, wrk, wrkSequence } from './process.mjs';
import { count, LOAD_CPU, ms, note, PEERS, QUICK, ROUNDS, say, SECONDS, SERVER_CPU, startOrigin, table, us,
    work } from './report.mjs';

const ONLY = process.env.ONLY?.split(',');

async function originCount(origin) {
    const { text } = await get(origin.port, '/-/status');
    return Number(/\n\s*\d+ \d+ (\d+)/.exec(text)[1]);
}

/** One timed round; `expected`: which share of requests the origin must have seen (0: hits, 1: pass-through). */
async function round(server, target, origin, expected, first) {
    if (first) {
        await wrk(LOAD_CPU, `http://127.0.0.1:${server.port}${target}`, { seconds: 1 });
    }
    const before = { cpu: server.cpu(), origin: await originCount(origin) };
    const result = await wrk(LOAD_CPU, `http://127.0.0.1:${server.port}${target}`, { seconds: SECONDS });
    const cpu = server.cpu() - before.cpu;
    const share = (await originCount(origin) - before.origin) / result.requests;
    if (server.name !== 'bare responder' && Math.abs(share - expected) > 0.02) {
        throw new Error(`${server.name} ${target}: the origin saw ${(100 * share).toFixed(1)}% of the requests`);
    }
    if (result.errors) {
        throw new Error(`${server.name} ${target}: ${result.errors} errors`);
    }
    return { rate: result.rate, p99Us: result.p99Us, cpuUs: cpu / result.requests };
}

const ROWS = [
    { title: '1 KiB hit', target: '/1k', size: 1024, expected: 0, goal: '<= 0.75 of the best peer' },
    { title: '100 KiB hit', target: '/100k', size: 102400, expected: 0, goal: '<= 1.0 of the bare responder' },
    { title: 'pass-through, 1 KiB', target: '/pass/1k', size: 0, expected: 1, goal: '<= 1.0 of the best peer' },
];

/** Measures rows x servers in alternating rounds and prints one table per row. */
async function requestRows(rows, servers, origin) {
    const results = new Map();
    for (let i = 0; i < ROUNDS; i++) {
        for (const row of rows) {
            for (const server of servers.filter(({ only }) => !only || only === row.size)) {
                note(`round ${i + 1}/${ROUNDS}: ${row.title}, ${server.label}`);
                const key = `${row.title} ${server.label}`;
                results.set(key, [...(results.get(key) ?? []), await round(server, row.target, origin, row.expected, i === 0)]);
            }
        }
    }
    for (const row of rows) {
        const lines = servers.filter(({ only }) => !only || only === row.size).map((server) => {
            const runs = results.get(`${row.title} ${server.label}`);
            return {
                server, rate: median(runs.map((run) => run.rate)), p99: median(runs.map((run) => run.p99Us)),
                cpu: median(runs.map((run) => run.cpuUs)),
            };
        });
        const peers = lines.filter(({ server }) => server.peer);
        const best = Math.min(...peers.map((line) => line.cpu));
        const bare = lines.find(({ server }) => server.only)?.cpu;
        say(`**${row.title}** (goal: ${row.goal})`);
        say();
        table(['server', 'requests/s', 'p99 ms', 'CPU µs/request', 'CPU / best peer', 'CPU / bare'], lines.map((line) => [
            line.server.label, line.rate.toFixed(0), ms(line.p99), us(line.cpu), (line.cpu / best).toFixed(2),
            bare ? (line.cpu / bare).toFixed(2) : '-',
        ]));
    }
}

async function lineUp(origin, mode) {
    const servers = [];
    for (const kind of PEERS) {
        const server = await start(kind, work, SERVER_CPU, origin.port, { mode });
        server.label = server.name;
        server.peer = kind !== 'doorstep';
        servers.push(server);
        for (const target of ['/1k', '/100k', '/pass/1k']) {
            const answer = await get(server.port, target);
            if (answer.status !== 200) {
                throw new Error(`${server.name} ${target}: ${answer.status}`);
            }
        }
    }
    return servers;
}

async function rows() {
    const origin = await startNginxOrigin(work, LOAD_CPU);
    say('### Requests, equal terms: no log, no field added but Age');
    say();
    let servers = await lineUp(origin, 'lean');
    for (const [label, size] of [['bare writev', 1024], ['bare writev ', 102400]]) {
        const bare = await start('bare', work, SERVER_CPU, origin.port, { size });
        servers.push(Object.assign(bare, { label, only: size }));
    }
    await requestRows(ROWS, servers, origin);
    await Promise.all(servers.map((server) => server.stop()));

    say('### Requests, everybody logs a line to a file and says hit or miss; and our defaults');
    say();
    servers = await lineUp(origin, 'full');
    if (PEERS.includes('doorstep')) {
        const ours = await start('doorstep', work, SERVER_CPU, origin.port, { mode: 'defaults' });
        servers.push(Object.assign(ours, { label: 'Doorstep, defaults' }));
        await get(ours.port, '/1k');
    }
    await requestRows([ROWS[0]], servers, origin);
    say('Log and fields in that table: nginx combined log, X-Cache-Status; HAProxy httplog to a file, X-Cache, Age;');
    say('Varnish shared-memory log and varnishncsa (its CPU included), Via, X-Varnish, Age; Doorstep combined log, Via, Age,');
    say('Cache-Status; Doorstep, defaults: JSON lines log, Via, Age, Cache-Status, Server-Timing, X-Request-Id.');
    say();
    await Promise.all([...servers.map((server) => server.stop()), origin.stop()]);
}

/** n connections that have each had one answer and stay open. */
async function idleConnections(port, n) {
    const request = 'GET /1k HTTP/1.1\r\nHost: bench\r\n\r\n';
    const sockets = [];
    for (let i = 0; i < n; i += 50) {
        await Promise.all(Array.from({ length: Math.min(50, n - i) }, async () => {
            const socket = net.connect(port, '127.0.0.1');
            sockets.push(socket);
            socket.on('error', () => {});
            await once(socket, 'connect');
            socket.write(request);
            let seen = 0;
            for await (const [data] of on(socket)) {
                seen += data.length;
                if (seen >= 1024 + 60) {
                    break;
                }
            }
            socket.pause();
        }));
    }
    return sockets;
}

async function* on(socket) {
    for (;;) {
        yield await once(socket, 'data');
    }
}

async function idle() {
    const n = QUICK ? 1000 : 5000;
    const origin = await startNginxOrigin(work, LOAD_CPU);
    const lines = [];
    for (const kind of PEERS) {
        note(`idle connections, ${kind}`);
        const server = await start(kind, work, SERVER_CPU, origin.port);
        await get(server.port, '/1k');
        (await idleConnections(server.port, 64)).forEach((socket) => socket.destroy());
        await delay(300);
        const before = server.memory();
        const sockets = await idleConnections(server.port, n);
        await delay(300);
        const open = sockets.filter((socket) => !socket.destroyed && !socket.readableEnded).length;
        lines.push([server.name, String(open), ((server.memory() - before) / n).toFixed(0)]);
        sockets.forEach((socket) => socket.destroy());
        await server.stop();
    }
    say(`### Memory per idle keep-alive connection (${n} connections after one answer each; goal: <= 530 bytes)`);
    say();
    table(['server', 'still open', 'bytes per connection'], lines);
    await origin.stop();
}

async function objects() {
    const n = Number(process.env.OBJECTS ?? (QUICK ? 100_000 : 1_000_000));
    const origin = await startOrigin(1024, 0);
    const lines = [];
    const urlBytes = `http://127.0.0.1:00000/o/${'0'.repeat(9)}`.length;
    for (const kind of PEERS.filter((name) => name === 'varnish' || name === 'doorstep')) {
        note(`${n} objects, ${kind}`);
        const server = await start(kind, work, SERVER_CPU, origin.port, { memory: '4G' });
        const url = `http://127.0.0.1:${server.port}/`;
        const fill = async (prefix, more) => {
            const target = await count(origin) + more;
            const done = async () => await count(origin) >= target;
            await wrkSequence(LOAD_CPU, url, { connections: 64, seconds: 300, prefix, done });
        };
        await fill('/w/', 2000);
        await delay(1000);
        const before = { memory: server.memory(), count: await count(origin) };
        await fill('/o/', n);
        await delay(2000);
        const stored = await count(origin) - before.count;
        const each = (server.memory() - before.memory) / stored;
        const again = await count(origin);
        await get(server.port, `/o/${String(5).padStart(9, '0')}`);
        await get(server.port, `/o/${String(n - 5).padStart(9, '0')}`);
        const kept = await count(origin) === again;
        const head = await headBytes(server.port, `/o/${String(5).padStart(9, '0')}`);
        lines.push([server.name, String(stored), kept ? 'yes' : 'no', each.toFixed(0), (each - 1024).toFixed(0),
            (each - 1024 - urlBytes - head).toFixed(0)]);
        await server.stop();
    }
    say('### Memory per stored object of 1 KiB (goal: <= 400 bytes beyond body, URL and head)');
    say();
    table(['server', 'objects', 'first and last still stored', 'bytes each', 'beyond the body', 'beyond body, URL, head'], lines);
    await origin.stop();
}

/** Bytes of a hit's head without Age: what the cache has to keep of it (the lean setup adds nothing else). */
async function headBytes(port, path) {
    const socket = net.connect(port, '127.0.0.1');
    socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
    const [data] = await once(socket, 'data');
    socket.destroy();
    return data.toString('latin1').split('\r\n\r\n')[0].replace(/\r\nAge: \d+/i, '').length + 4;
}

/** Latencies of one h2load run at a constant rate, microseconds, sorted. */
async function hitLatencies(port, rate, seconds) {
    const log = path.join(work, 'h2load.log');
    fs.rmSync(log, { force: true });
    const connections = 32;
    await load(LOAD_CPU, ['h2load', '--h1', '-t1', `-c${connections}`, `--rps=${rate / connections}`, `-D${seconds}`,
        `--log-file=${log}`, `http://127.0.0.1:${port}/hit`]);
    const latencies = fs.readFileSync(log, 'utf8').trim().split('\n').map((line) => line.split('\t'));
    const bad = latencies.filter(([, status]) => status !== '200').length;
    if (bad) {
        throw new Error(`${bad} of ${latencies.length} hits were no 200`);
    }
    return latencies.map(([, , time]) => Number(time)).sort((a, b) => a - b);
}

const p99 = (sorted) => sorted[Math.floor(sorted.length * 0.99)];

async function misses() {
    const rate = 3000;
    const seconds = QUICK ? 2 : 5;
    const rounds = QUICK ? 1 : 3;
    const origin = await startOrigin(1024, 50);
    const results = new Map();
    const servers = [];
    let serial = 0;
    for (const kind of PEERS) {
        const server = await start(kind, work, SERVER_CPU, origin.port);
        await get(server.port, '/hit');
        await get(server.port, '/hit');
        servers.push(server);
        results.set(server.name, []);
    }
    for (let i = 0; i < rounds; i++) {
        for (const server of servers) {
            note(`hits beside misses, round ${i + 1}/${rounds}, ${server.name}`);
            const alone = p99(await hitLatencies(server.port, rate, seconds));
            const before = await count(origin);
            // Each of these connections has one miss of 50 ms in flight: 8 make about 5% of all requests.
            const url = `http://127.0.0.1:${server.port}/`;
            const noise = wrkSequence(LOAD_CPU, url, { connections: 8, seconds, prefix: `/m${serial++}/` });
            const mixed = await hitLatencies(server.port, rate, seconds);
            await noise;
            const missed = await count(origin) - before;
            results.get(server.name).push({ alone, mixed: p99(mixed), share: missed / (missed + mixed.length) });
        }
    }
    say(`### p99 of hits at ${rate} hits/s, alone and beside misses to an origin of 50 ms (goal: within 1.5)`);
    say();
    table(['server', 'alone ms', 'beside misses ms', 'ratio', 'misses'], servers.map(({ name }) => {
        const runs = results.get(name);
        const alone = median(runs.map((run) => run.alone));
        const mixed = median(runs.map((run) => run.mixed));
        return [name, ms(alone), ms(mixed), (mixed / alone).toFixed(2),
            `${(100 * median(runs.map((run) => run.share))).toFixed(1)}%`];
    }));
    await Promise.all([...servers.map((server) => server.stop()), origin.stop()]);
}

/** Allocations while 100,000 hits are served: the same number of connections in both runs, so that theirs cancel. */
async function malloc() {
    const origin = await startNginxOrigin(work, LOAD_CPU);
    const file = path.join(work, 'malloc-count');
    const server = await start('doorstep', work, SERVER_CPU, origin.port, {
        mode: 'defaults', env: { LD_PRELOAD: path.join(BUILD, 'bench/malloc_count.so'), MALLOC_COUNT_FILE: file },
    });
    const calls = async (n) => {
        const before = fs.readFileSync(file).readBigUInt64LE();
        await load(LOAD_CPU, ['h2load', '--h1', '-t1', '-c8', `-n${n}`, `http://127.0.0.1:${server.port}/1k`]);
        await delay(200);
        return Number(fs.readFileSync(file).readBigUInt64LE() - before);
    };
    await calls(1000);
    const few = await calls(1000);
    const many = await calls(101_000);
    say('### Allocations on the hit path (our defaults, access log on)');
    say();
    say(`1,000 hits: ${few} calls of malloc and its kin; 101,000 hits: ${many}; difference over 100,000 hits: ${many - few}.`);
    say();
    await Promise.all([server.stop(), origin.stop()]);
}

const PARTS = { rows, idle, objects, misses, malloc, disk, shared, purge, outage, region, ai };
const OURS = ['malloc', 'disk', 'shared', 'purge', 'region', 'ai']; // say nothing without us

process.on('SIGINT', async () => {
    await stopAll();
    process.exit(130);
});

try {
    say(`${versions().join('; ')}; ${os.cpus()[0].model}, ${os.cpus().length} CPUs, Linux ${os.release().split('-')[0]}; `
        + `servers on CPU ${SERVER_CPU}, load and origin on CPU ${LOAD_CPU}; ${ROUNDS} rounds of ${SECONDS} s, medians.`);
    say();
    for (const [name, part] of Object.entries(PARTS)) {
        if ((!ONLY || ONLY.includes(name)) && (!OURS.includes(name) || PEERS.includes('doorstep'))) {
            await part();
        }
    }
} catch (error) {
    note(error.stack);
    process.exitCode = 1;
} finally {
    await stopAll();
}
