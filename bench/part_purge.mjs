/**
 * Purging a tag that very many entries carry: what accepting it takes, whether what is asked for next is fetched anew, and what
 * hits cost before, after and while purges arrive. Beside Varnish's ban in the same run.
 */
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { start } from './peers.mjs';
import { ask, freePort, median } from './process.mjs';
import { count, diskFolder, Line, LOAD_CPU, note, now, PEERS, purgeTag, quantile, QUICK, ratio, say, SECONDS, SERVER_CPU,
    startOrigin, table, us, work } from './report.mjs';

const N = Number(process.env.PURGE_OBJECTS ?? (QUICK ? 50_000 : 1_000_000));
const KEPT = 50_000; // entries with another tag, whose hits are measured
const PURGES = 100;
const STREAM = 100; // purges a second while hits are measured

async function startDoorstep(origin, durable) {
    const server = await start('doorstep', work, SERVER_CPU, origin.port, {
        memory: '8G',
        more: { admin: { listen: `127.0.0.1:${await freePort()}` }, ...(durable ? { state: { path: durable } } : {}) },
    });
    server.label = durable ? 'Doorstep, durable state' : 'Doorstep';
    server.purge = (tag) => purgeTag(server, tag);
    return server;
}

async function startVarnish(origin) {
    const cli = await freePort();
    const server = await start('varnish', work, SERVER_CPU, origin.port, { memory: '8G', cli });
    server.label = 'Varnish, ban';
    const line = await Line.open(cli);
    // "200 12      \n" and so many bytes and a newline.
    const answered = (text) => {
        const status = /^\d{3} (\d+) *\n/.exec(text);
        const length = status ? status[0].length + Number(status[1]) + 1 : 0;
        return text.length >= length ? length : 0;
    };
    await line.hear(answered);
    server.purge = async (tag) => {
        const answer = await line.say(`ban obj.http.Cache-Tag ~ (^|[^a-z0-9-])${tag}($|[^a-z0-9-])\n`, answered);
        if (!answer.startsWith('200')) {
            throw new Error(`ban: ${answer}`);
        }
    };
    return server;
}

/** Asks all kept entries once, or at random for a while. */
async function hits(server, origin, options) {
    const before = { cpu: server.cpu(), origin: await count(origin) };
    const run = await ask(LOAD_CPU, server.port, '/kept/', { connections: 16, keys: KEPT, ...options });
    const fetched = await count(origin) - before.origin;
    if (run.errors || fetched > 0) {
        throw new Error(`${server.label}: ${run.errors} errors, ${fetched} of ${run.good} hits were fetched`);
    }
    return { cpu: (server.cpu() - before.cpu) / run.good, p50: run.p50, p99: run.p99 };
}

const once = { count: KEPT };
const key = (n) => `/big/${String(n).padStart(9, '0')}`;

/** Purges the tag; what is asked for next must be fetched, once, and is a hit after that. */
async function purges(server, origin) {
    const took = [];
    let right = 0;
    const client = await Line.open(server.port);
    const fetched = async (target) => {
        const before = await count(origin);
        await client.http('GET', target);
        return await count(origin) - before;
    };
    for (let i = 0; i < PURGES; i++) {
        const target = key((i * 7919) % N);
        const from = now();
        await server.purge('big');
        took.push(now() - from);
        right += await fetched(target) === 1 && await fetched(target) === 0;
    }
    for (let i = 0; i < PURGES; i++) {
        await server.purge(`else-${i}`);
    }
    client.close();
    return { p50: median(took), p99: quantile(took, 0.99), most: Math.max(...took), right };
}

async function duringPurges(server, origin) {
    let over = false;
    let n = 0;
    const took = [];
    const stream = (async () => {
        for (const from = now(); !over; n++) {
            const sent = now();
            await server.purge(`other-${n}`);
            took.push(now() - sent);
            await delay(Math.max(0, (from + (n + 1) * 1e6 / STREAM - now()) / 1000));
        }
    })();
    const result = await hits(server, origin, { seconds: SECONDS, seed: 3 });
    over = true;
    await stream;
    return { ...result, purge: median(took) };
}

async function measure(server, origin) {
    note(`purge: filling ${N} + ${KEPT} entries, ${server.label}`);
    const run = await ask(LOAD_CPU, server.port, '/big/', { connections: 64, count: N, keys: N });
    await ask(LOAD_CPU, server.port, '/kept/', { connections: 64, ...once, keys: KEPT });
    note(`purge: ${server.label}`);
    await hits(server, origin, once);
    const before = await hits(server, origin, once);
    const steady = await hits(server, origin, { seconds: SECONDS, seed: 1 });
    const accepted = await purges(server, origin);
    const first = await hits(server, origin, once);
    const second = await hits(server, origin, once);
    const during = await duringPurges(server, origin);
    return { server, errors: run.errors, accepted, before, steady, first, second, during };
}

export async function purge() {
    const origin = await startOrigin(64, 0, 'Cache-Tag: %s');
    const state = diskFolder();
    const results = [];
    const starters = [
        () => startDoorstep(origin),
        () => startDoorstep(origin, path.join(state, 'state.db')),
        ...(PEERS.includes('varnish') ? [() => startVarnish(origin)] : []),
    ];
    for (const starter of starters) {
        const server = await starter();
        results.push(await measure(server, origin));
        await server.stop();
    }
    await origin.stop();
    say(`### Purge of a tag that ${N} entries carry, ${PURGES} times (goal: accepted within 1 ms, the next lookup fetched)`);
    say();
    table(['server', 'accepted p50 µs', 'p99 µs', 'most µs', 'next lookup fetched, the one after it a hit'],
        results.map(({ server, accepted: a }) => [
            server.label, us(a.p50), us(a.p99), us(a.most), `${a.right} of ${PURGES}`,
        ]));
    say(`**Hits of ${KEPT} other entries, CPU µs each:** each once before the purges, each once right after them `
        + `and ${PURGES} of other tags (all are looked at again), each once more`);
    say();
    table(['server', 'before', 'right after', 'once more', 'right after / before', 'p99 µs before', 'right after'],
        results.map(({ server, before, first, second }) => [server.label, us(before.cpu), us(first.cpu), us(second.cpu),
            ratio(first.cpu, before.cpu), us(before.p99), us(first.p99)]));
    say(`**Random hits of these while ${STREAM} purges of other tags arrive each second** (their CPU included)`);
    say();
    table(['server', 'CPU µs/hit, no purges', 'purges arrive', 'ratio', 'p99 µs, no purges', 'purges arrive', 'purge p50 µs'],
        results.map(({ server, steady, during }) => [server.label, us(steady.cpu), us(during.cpu),
            ratio(during.cpu, steady.cpu), us(steady.p99), us(during.p99), us(during.purge)]));
    say('Accepted: Doorstep over its admin API, connecting included; Varnish on a CLI connection that is open.');
    if (PEERS.includes('varnish')) {
        say(`Varnish's vmod xkey is ${xkey() ? '' : 'not '}installed here; this is its ban.`);
    }
    say();
}

function xkey() {
    return execFileSync('sh', ['-c', 'ls /usr/lib/*/varnish/vmods /usr/lib/varnish/vmods 2>/dev/null || true'],
        { encoding: 'utf8' }).includes('libvmod_xkey');
}
