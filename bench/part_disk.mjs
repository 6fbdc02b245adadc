/**
 * The disk tier beside nginx's proxy_cache: the same objects filled through each, then a restart, then random hits with a
 * working set of ten times the memory, then hits of one hot object beside cold reads.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { dropPageCache, memoryCgroup } from './cgroup.mjs';
import { start, startNginxDisk } from './peers.mjs';
import { ask, get, median, stopAll } from './process.mjs';
import { count, diskFolder, LOAD_CPU, megabytes, ms, note, now, PEERS, QUICK, ratio, ROUNDS, say, SECONDS, SERVER_CPU,
    startOrigin, table, us } from './report.mjs';

const N = Number(process.env.DISK_OBJECTS ?? (QUICK ? 5000 : 200_000));
const [LEAST, MOST] = [1024, 10240];
const LIMIT_LEAST = 24e6; // below this the programs themselves have no room
const HOT_RATE = 2000;

const sync = () => execFileSync('sync');

/** Bytes written to the device below a folder since boot, the file system's own included. */
function deviceWritten(folder) {
    const { dev } = fs.statSync(folder);
    const [major, minor] = [(dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00)];
    try {
        const fields = fs.readFileSync(`/sys/dev/block/${major}:${minor}/stat`, 'utf8').trim().split(/\s+/);
        return Number(fields[6]) * 512;
    } catch {
        return NaN;
    }
}

const onDisk = (folder) => Number(execFileSync('du', ['-s', '-B1', folder], { encoding: 'utf8' }).split('\t')[0]);


/** Until it has written nothing for half a second. */
async function settled(server) {
    for (let last = -1; last !== server.io().written;) {
        last = server.io().written;
        await delay(500);
    }
}

async function launch(kind, dir, origin, limit) {
    if (kind === 'nginx') {
        return startNginxDisk(dir, SERVER_CPU, origin.port, { keys: Math.max(8, Math.ceil(N / 7000)), size: 8192 });
    }
    const server = await start('doorstep', dir, SERVER_CPU, origin.port, {
        memory: `${Math.max(2, Math.floor(limit / 4 / 2 ** 20))}M`,
        more: (site) => ({
            disk: { path: path.join(dir, 'tier'), size: '8G' },
            routes: site.routes.map((route) => ({ ...route, disk: 'pin' })),
        }),
    });
    return Object.assign(server, { kind, dir });
}

async function fill(server, origin, bytesOf) {
    const folder = server.dir;
    sync();
    const before = { cpu: server.cpu(), io: server.io(), device: deviceWritten(folder), origin: await count(origin) };
    const first = await ask(LOAD_CPU, server.port, '/o/', { connections: 32, count: N, keys: N });
    await settled(server);
    const written = server.io().written - before.io.written;
    const cpu = (server.cpu() - before.cpu) / N;
    sync();
    const device = deviceWritten(folder) - before.device;
    if (first.errors) {
        throw new Error(`${server.name}: ${first.errors} errors while it was filled`);
    }
    bytesOf.value = first.bytes;
    return { rate: first.rate, cpu, written: written / first.bytes, device: device / first.bytes, disk: onDisk(folder) };
}

/** Milliseconds from starting it to the first byte of an answer; polled, as a client would that tries again at once. */
async function firstHit(server, target, from, origin) {
    const seen = await count(origin);
    for (;;) {
        const answer = await new Promise((resolve) => {
            const socket = net.connect(server.port, '127.0.0.1', () => {
                socket.write(`GET ${target} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n`);
            });
            socket.once('data', (data) => { socket.destroy(); resolve(data.toString('latin1')); });
            socket.once('error', () => resolve(''));
            socket.once('close', () => resolve(''));
        });
        if (answer.startsWith('HTTP/1.1 200')) {
            const took = (now() - from) / 1000;
            return { took, hit: await count(origin) === seen };
        }
        await delay(1);
        if (now() - from > 120e6) {
            throw new Error(`${server.name} does not answer after a restart`);
        }
    }
}

const key = (n) => `/o/${String(n).padStart(9, '0')}`;

/** nginx walks its folders in a process of its own, a minute after its start; until then it tries the file of each key. */
async function indexComplete(server, from) {
    if (server.kind === 'nginx' && QUICK) {
        return '-';
    }
    if (server.kind === 'nginx') {
        while (server.commands().some((line) => line.includes('cache loader'))) {
            await delay(50);
        }
    }
    return ((now() - from) / 1000).toFixed(0);
}

async function restart(server, cell, how, anyKey, origin) {
    await (how === 'kill' ? server.kill() : server.stop());
    sync();
    const cold = dropPageCache();
    const from = now();
    const next = server.again(cell.prefix);
    const found = await firstHit(next, key(anyKey()), from, origin);
    return { next, from, cold, ...found };
}

/** Hits at a rate to one object that is in memory (nginx: in the page cache), alone or beside cold reads. */
async function hot(server, rate, seed) {
    const reads = { connections: 32, seconds: SECONDS, rate, keys: N, seed };
    const noise = rate ? ask(LOAD_CPU, server.port, '/o/', reads) : null;
    const hits = await ask(LOAD_CPU, server.port, '/hot/1', { connections: 16, seconds: SECONDS, rate: HOT_RATE });
    await noise;
    return hits.p99;
}

/** Random hits; the origin's share of them, CPU and bytes read with it. */
async function random(server, origin, seed) {
    await ask(LOAD_CPU, server.port, '/o/', { connections: 32, seconds: 0.5, keys: N, seed: 1000 + seed });
    const before = { cpu: server.cpu(), io: server.io(), origin: await count(origin) };
    const run = await ask(LOAD_CPU, server.port, '/o/', { connections: 32, seconds: SECONDS, keys: N, seed });
    return {
        rate: run.rate, p50: run.p50, p99: run.p99, cpu: (server.cpu() - before.cpu) / run.good,
        read: (server.io().read - before.io.read) / run.bytes, missed: (await count(origin) - before.origin) / run.good,
    };
}

async function measure(servers, origin) {
    const results = servers.map(() => ({ rate: [], p50: [], p99: [], cpu: [], missed: [], read: [], alone: [], beside: [] }));
    for (let round = 0; round < ROUNDS; round++) {
        for (const [i, server] of servers.entries()) {
            note(`disk: round ${round + 1}/${ROUNDS}, ${server.name}`);
            if (server.cell.prefix.length === 0) {
                dropPageCache();
            }
            Object.entries(await random(server, origin, 1 + round)).forEach(([name, value]) => results[i][name].push(value));
        }
    }
    // What the slowest can do in half of its time: nobody is measured in a queue of its own making.
    const coldRate = Math.round(Math.min(...results.map((r) => median(r.rate))) / 2);
    for (let round = 0; round < ROUNDS; round++) {
        for (const [i, server] of servers.entries()) {
            note(`disk: beside cold reads, round ${round + 1}/${ROUNDS}, ${server.name}`);
            await ask(LOAD_CPU, server.port, '/hot/1', { connections: 4, count: 200 });
            results[i].alone.push(await hot(server, 0));
            results[i].beside.push(await hot(server, coldRate, 50 + round));
        }
    }
    const medians = results.map((r) => Object.fromEntries(Object.entries(r).map(([name, values]) => [name, median(values)])));
    return { results: medians, coldRate };
}

function randomTable(servers, results) {
    const peer = results[servers.findIndex(({ kind }) => kind === 'nginx')];
    table(['server', 'hits/s', 'p50 ms', 'p99 ms', 'CPU µs/hit', 'CPU / nginx', 'hits/s / nginx', 'bytes read per byte sent',
        'missed'], results.map((r, i) => [servers[i].name, r.rate.toFixed(0), ms(r.p50), ms(r.p99), us(r.cpu),
        ratio(r.cpu, peer?.cpu), ratio(r.rate, peer?.rate), r.read.toFixed(2), `${(100 * r.missed).toFixed(2)}%`]));
}

export async function disk() {
    const folder = diskFolder();
    const origin = await startOrigin(`${LEAST}-${MOST}`, 0);
    const kinds = PEERS.filter((kind) => kind === 'nginx' || kind === 'doorstep');
    const limit = Math.max(LIMIT_LEAST, Math.round(N * (LEAST + MOST) / 2 / 10));
    const filled = [];
    const resident = []; // in the page cache
    const restarts = [];
    const servers = [];
    const total = {};
    let empty = true;
    let seed = 17;
    const anyKey = () => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed % N; };
    try {
        for (const kind of kinds) {
            const dir = path.join(folder, kind);
            fs.mkdirSync(dir);
            note(`disk: filling ${N} objects, ${kind}`);
            let server = await launch(kind, dir, origin, limit);
            filled.push({ name: server.name, ...await fill(server, origin, total) });
            resident.push(await random(server, origin, 99));
            const cell = memoryCgroup(limit);
            const stopped = [];
            let complete = '-';
            for (let i = 0; i < 3; i++) {
                const again = await restart(server, cell, 'stop', anyKey, origin);
                stopped.push(again);
                empty &&= again.cold;
                server = again.next;
            }
            // Some more objects, and none of them synced: what a kill -9 leaves.
            await ask(LOAD_CPU, server.port, '/late/', { connections: 32, count: Math.ceil(N / 50), keys: Math.ceil(N / 50) });
            note(`disk: kill -9, ${kind}`);
            const killed = await restart(server, cell, 'kill', anyKey, origin);
            server = killed.next;
            complete = await indexComplete(server, killed.from);
            server.cell = cell;
            servers.push(server);
            restarts.push([server.name, median(stopped.map(({ took }) => took)).toFixed(0), killed.took.toFixed(0), complete,
                [...stopped, killed].every(({ hit }) => hit) ? 'yes' : '**no**']);
            await get(server.port, '/hot/1');
        }
        const { results, coldRate } = await measure(servers, origin);
        const how = servers.map(({ cell }) => cell.how)[0];

        say(`### Disk: ${N} objects of ${LEAST / 1024} to ${MOST / 1024} KiB, ${megabytes(total.value)} MB, on the same file system`);
        say();
        say('**Filled through the proxy** (written: by the server\'s processes; by the device, with the file system\'s own)');
        say();
        table(['server', 'fills/s', 'CPU µs/fill', 'written per byte of body', 'device writes per byte of body', 'MB on disk',
            'on disk / bodies'], filled.map((f) => [f.name, f.rate.toFixed(0), us(f.cpu), f.written.toFixed(2),
            f.device.toFixed(2), megabytes(f.disk), (f.disk / total.value).toFixed(2)]));
        say(`**Restarted with ${empty ? 'a cold page cache' : 'the page cache as it was (no permission to drop it)'}: `
            + 'ms until the first hit** (any key; stopped, median of 3; killed with -9 after '
            + `${Math.ceil(N / 50)} more objects), and until all of the index is in memory`);
        say();
        table(['server', 'after a stop', 'after kill -9', 'index complete', 'all were hits'], restarts);
        say(`**Random hits, 32 connections,** ${how}: ${(total.value / limit).toFixed(1)} times less than the objects`);
        say();
        randomTable(servers, results);
        say('**Random hits, 32 connections, everything in the page cache** (measured once, after the fill)');
        say();
        randomTable(servers, resident);
        say(`**p99 of ${HOT_RATE} hits/s of one object in memory, alone and beside ${coldRate} random hits/s as above** `
            + '(half of what the slower server can do)');
        say();
        table(['server', 'alone µs', 'beside cold reads µs', 'ratio'], results.map((r, i) => [servers[i].name, us(r.alone),
            us(r.beside), ratio(r.beside, r.alone)]));
    } finally {
        await stopAll();
        servers.forEach(({ cell }) => cell.remove());
        fs.rmSync(folder, { recursive: true, force: true });
    }
}
