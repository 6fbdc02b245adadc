/**
 * The shared tier: what a hit in it costs a node whose memory is cold, beside asking Redis itself and beside asking the origin;
 * and what hits in memory notice of a store that hangs or is gone: nothing.
 */
import { execFileSync } from 'node:child_process';
import { ask, median, stopAll } from './process.mjs';
import { start } from './peers.mjs';
import { count, LOAD_CPU, listening, note, QUICK, ratio, ROUNDS, say, SECONDS, SERVER_CPU, startOrigin, startRedis, table, us,
    work } from './report.mjs';

const N = QUICK ? 5000 : 50_000; // asked for once each, by one connection and by sixteen
const ORIGIN_MS = 20;
const BODY = 1024;
const HOT_RATE = 3000;
const MISS_RATE = 100;

async function node(origin, redis) {
    return start('doorstep', work, SERVER_CPU, origin.port, { more: { shared: { url: `redis://127.0.0.1:${redis.port}` } } });
}

/** A run, and what it cost the node (if any) and the origin. */
async function timed(origin, server, port, prefix, options) {
    const before = { cpu: server?.cpu(), origin: await count(origin) };
    const run = await ask(LOAD_CPU, port, prefix, options);
    if (run.errors || run.unanswered) {
        throw new Error(`${prefix}: ${run.errors} errors, ${run.unanswered} unanswered`);
    }
    return { ...run, cpu: server ? (server.cpu() - before.cpu) / run.good : NaN, fetched: await count(origin) - before.origin };
}

async function latencies(origin, redis) {
    const half = N / 2;
    note('shared: preloading');
    const first = await node(origin, redis);
    await ask(LOAD_CPU, first.port, '/o/', { connections: 512, count: N, keys: N });
    await first.stop(); // its queue is written
    const size = Number(await bulk(redis));
    await redisFill(redis, size);
    const cold = await node(origin, redis);
    const rows = [];
    for (const connections of [1, 16]) {
        const at = connections === 1 ? 0 : half;
        note(`shared: ${connections} connections`);
        const hits = await timed(origin, cold, cold.port, '/o/', { connections, count: half, keys: half, first: at });
        const again = await timed(origin, cold, cold.port, '/o/', { connections, count: half, keys: half, first: at });
        const plain = await timed(origin, null, redis.port, 'plain:',
            { connections, count: half, keys: half, first: at, redis: true });
        const misses = await timed(origin, cold, cold.port, `/m${connections}/`,
            { connections, count: 100 * connections, keys: 1e6 });
        for (const [name, run, expected] of [['Redis GET, same client', plain, 0], ['Doorstep, shared hit', hits, 0],
            ['Doorstep, memory hit', again, 0], [`Doorstep, miss to an origin of ${ORIGIN_MS} ms`, misses, misses.good]]) {
            rows.push([name, connections, us(run.p50), us(run.p99), ratio(run.p50, plain.p50), run.rate.toFixed(0), us(run.cpu),
                run.fetched === expected ? 'yes' : `**${run.fetched} of ${run.good} fetched**`]);
        }
    }
    say(`### Shared tier: ${BODY} bytes of body, ${size} in Redis; each key asked for once by a node with a cold memory`);
    say();
    table(['what', 'connections', 'p50 µs', 'p99 µs', 'p50 / Redis', 'answers/s', 'CPU µs/answer (node)',
        'as it should be'], rows);
    return cold;
}

/** Speaks to Redis through its own program. */
async function cli(redis, ...args) {
    return execFileSync('redis-cli', ['-p', `${redis.port}`, ...args], { encoding: 'utf8' }).trim();
}

/** The size of what a node has written there. */
async function bulk(redis) {
    const script = "local k = redis.call('scan', 0, 'count', 1000, 'type', 'string')[2]; local m = 0; "
        + "for _, key in ipairs(k) do m = math.max(m, redis.call('strlen', key)) end return m";
    return cli(redis, 'eval', script, '0');
}

/** As many keys as the node is asked for, with values as long as its own. */
async function redisFill(redis, size) {
    const script = "local v = string.rep('x', tonumber(ARGV[2])); for i = 0, tonumber(ARGV[1]) - 1 do "
        + "redis.call('set', string.format('plain:%09d', i), v) end";
    await cli(redis, 'eval', script, '0', `${N}`, `${size}`);
}

async function outage(origin, redis, server) {
    const states = ['answers', 'hangs (SIGSTOP)', 'is gone (SIGKILL)'];
    const results = states.map(() => ({ p50: [], p99: [], cpu: [] }));
    let serial = 0;
    let store = redis;
    await ask(LOAD_CPU, server.port, '/hot', { count: 100 });
    for (let round = 0; round < ROUNDS; round++) {
        for (const [i, state] of states.entries()) {
            note(`shared: round ${round + 1}/${ROUNDS}, Redis ${state}`);
            if (i === 1) {
                store.signal('SIGSTOP');
            } else if (i === 2) {
                store.signal('SIGCONT');
                await store.kill();
            }
            const before = server.cpu();
            const misses = ask(LOAD_CPU, server.port, `/x${serial++}/`,
                { connections: 64, seconds: SECONDS, rate: MISS_RATE, keys: 1e6 });
            const run = await ask(LOAD_CPU, server.port, '/hot', { connections: 16, seconds: SECONDS, rate: HOT_RATE });
            const beside = await misses;
            if (run.errors + run.unanswered + beside.errors + beside.unanswered) {
                throw new Error(`Redis ${state}: ${run.errors} hits and ${beside.errors} misses failed`);
            }
            results[i].p50.push(run.p50);
            results[i].p99.push(run.p99);
            results[i].cpu.push((server.cpu() - before) / (run.good + beside.good));
        }
        store = store.again();
        await listening(store.port);
        await new Promise((resolve) => { setTimeout(resolve, 1500); }); // the node finds it again
    }
    const base = median(results[0].p99);
    say(`**Hits in memory, ${HOT_RATE}/s, beside ${MISS_RATE} misses/s that ask Redis first** (goal: nothing added)`);
    say();
    table(['Redis', 'p50 µs', 'p99 µs', 'p99 / answering', 'CPU µs/request'], states.map((state, i) => [state,
        us(median(results[i].p50)), us(median(results[i].p99)), ratio(median(results[i].p99), base), us(median(results[i].cpu))]));
}

export async function shared() {
    const origin = await startOrigin(BODY, ORIGIN_MS);
    const redis = await startRedis();
    const cold = await latencies(origin, redis);
    await outage(origin, redis, cold);
    await stopAll();
}
