/**
 * The rungs in their order, and the whole ladder under load while the node is killed: whatever is lost, no answer is wrong.
 * LADDER_KILLS: how often (8).
 */
import assert from 'node:assert/strict';
import { assertForwarded, assertHit, cacheStatus, flow, SANITIZED } from './harness/flow.mjs';
import { metric, startRegion } from './harness/region.mjs';
import { until } from './harness/server.mjs';

const KILLS = Number(process.env.LADDER_KILLS ?? 8);
const FRESH = { 'Cache-Control': 'max-age=3600' };

flow('memory before disk before the store before the origin, and what each took', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b']);
    s.origin.answers({ headers: FRESH, body: 'hello' });
    const timing = (response) => response.header('server-timing').split(', ').map((part) => part.split(';')[0]);
    const first = await region.a.get('/x');
    assertForwarded(first, 'uri-miss');
    assert.deepEqual(timing(first).slice(0, 2), ['disk', 'shared']);
    assert.ok(timing(first).includes('origin'));
    await region.written();
    const second = await region.b.get('/x');
    assert.equal(cacheStatus(second).detail, 'shared');
    assert.deepEqual(timing(second).slice(0, 2), ['disk', 'shared']);
    await region.written();
    const third = await region.b.get('/x');
    assert.equal(cacheStatus(third).detail, 'memory');
    assert.deepEqual(timing(third), ['memory']);
    const asked = await metric(region.b, 'shared_hits_total') + await metric(region.b, 'shared_misses_total');
    await region.restart('b', { kill: true });
    const fourth = await region.b.get('/x');
    assert.equal(cacheStatus(fourth).detail, 'disk', 'what the store had is on disk as well');
    assert.equal(timing(fourth)[0], 'disk');
    assert.ok(!timing(fourth).includes('shared'), 'the store was not asked');
    assert.ok(asked >= 1);
    assert.equal(s.origin.count, 1);
});

flow('a response that is stale on disk and fresh in the store comes from the store', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b']);
    s.origin.answers({ headers: { 'Cache-Control': 'max-age=600', Age: '598' }, body: 'old' });
    await region.a.get('/x');
    await region.written();
    await region.a.kill();
    s.origin.answers({ headers: FRESH, body: 'new' });
    await until(async () => (await region.b.get('/x')).text === 'new', 'it has expired on b');
    await region.written(region.b);
    const count = s.origin.count;
    await region.restart('a', { kill: true });
    const response = await region.a.get('/x');
    assert.equal(response.text, 'new');
    assert.equal(cacheStatus(response).detail, 'shared');
    assert.equal(s.origin.count, count);
});

flow('many requests for what only the disk, or only the store, has are one look there', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b']);
    s.origin.answers({ headers: FRESH, body: 'x'.repeat(200_000) });
    await region.a.get('/x');
    await region.written();
    const answers = await Promise.all(Array.from({ length: 30 }, () => region.b.get('/x')));
    assert.ok(answers.every((response) => response.body.length === 200_000));
    await region.written();
    await region.restart('b', { kill: true });
    const again = await Promise.all(Array.from({ length: 30 }, () => region.b.get('/x')));
    assert.ok(again.every((response) => response.body.length === 200_000));
    assert.equal(s.origin.count, 1);
});

flow('who leaves while the rungs are asked disturbs nobody', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { relays: true, disk: false, shared: { timeout: '5s' } });
    s.origin.answers({ headers: FRESH, body: 'hello' });
    await region.a.get('/x');
    await region.written();
    region.relays.b.delay(50);
    const leaver = await region.b.client();
    await leaver.ask('/x');
    const stayer = region.b.get('/x');
    leaver.close();
    assert.equal((await stayer).text, 'hello');
    const alone = await region.b.client();
    await alone.ask('/y');
    alone.close();
    await region.relays.b.heal();
    assert.equal((await region.b.get('/y')).text, 'hello');
});

/** All that follows from a URL and a version: size, body, tag. */
function content(target, version) {
    const id = Number(/\d+/.exec(target)[0]);
    const size = id % 13 === 0 ? 300_000 + id * 31 : (id * 7919) % 40_000;
    return Buffer.alloc(size, `${target}#${version};`);
}

/** mulberry32 */
function randomOf(seed) {
    return (n) => {
        seed = (seed + 0x6d2b79f5) | 0;
        let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * n);
    };
}

for (const [name, options] of Object.entries({
    'disk': { config: { shared: undefined } }, 'disk, encrypted': { config: { shared: undefined }, disk: { key: 'ab'.repeat(32) } },
    'disk and store': {},
})) {
    flow(`killed at any moment under load, ${KILLS} times (${name}): every byte, age and tag is right afterwards`,
        { node: false, skip: SANITIZED && name !== 'disk and store' && 'one is enough there' }, async (s) => {
            const seed = Number(process.env.LADDER_SEED ?? Date.now() % 1e9);
            const random = randomOf(seed);
            const note = ` (LADDER_SEED=${seed})`;
            const region = await startRegion(s, ['a'], { ...options, disk: { size: '32M', segment: '4M', ...options.disk },
                config: { memory: { size: '2M', max_object: '64K' }, ...options.config } });
            const URLS = 200;
            const version = new Map(); // what the origin has
            const floor = new Map(); // what is the least that may be served: purged or written since
            // A write is on disk the moment after it was answered (docs/disk.md): one in the very last moments may be undone by a kill.
            let writes = [];
            const raise = (target, v) => floor.set(target, Math.max(floor.get(target) ?? 0, v));
            const leastOf = (target) => Math.max(floor.get(target) ?? 0, ...writes.filter((write) => write.target === target).map((write) => write.v));
            s.origin.answers(async (exchange) => {
                const target = exchange.target;
                if (exchange.method === 'POST') {
                    version.set(target, (version.get(target) ?? 0) + 1);
                    return { status: 204 };
                }
                const v = version.get(target) ?? 0;
                const headers = { ...FRESH, ETag: `"${target}-${v}"`, 'Cache-Tag': `n${/\d+/.exec(target)[0]}`, 'X-Made': Date.now() };
                if (exchange.header('if-none-match') === headers.ETag) {
                    return { status: 304, headers };
                }
                return { headers, body: content(target, v) };
            });
            const verify = (target, response, least) => {
                const v = Number(/-(\d+)"$/.exec(response.header('etag'))?.[1]);
                const whole = content(target, v);
                assert.ok(v >= least, `${target}: version ${v}, but ${least} was written or purged before${note}: ${response.header('cache-status')}`);
                assert.ok(v <= (version.get(target) ?? 0), `${target}: version ${v} from the future${note}`);
                if (response.status === 206) {
                    const [, first, last] = /bytes (\d+)-(\d+)\//.exec(response.header('content-range'));
                    assert.ok(response.body.equals(whole.subarray(Number(first), Number(last) + 1)), `${target}: bytes of a range${note}`);
                } else {
                    assert.equal(response.status, 200);
                    assert.ok(response.body.equals(whole), `${target}: bytes${note}: ${response.header('cache-status')}`);
                }
                const real = (Date.now() - Number(response.header('x-made'))) / 1000;
                assert.ok(Number(response.header('age') ?? 0) <= real + 2, `${target}: age ${response.header('age')}, made ${real} s ago${note}`);
                assert.ok(Number(response.header('age') ?? 0) >= real - 2.5, `${target}: age ${response.header('age')}, made ${real} s ago${note}`);
            };
            let stopped = false;
            let killing = false;
            let done = 0;
            const worker = async () => {
                while (!stopped) {
                    const target = `/${random(URLS)}`;
                    const node = region.a;
                    const least = leastOf(target);
                    const dice = random(40);
                    try {
                        if (dice === 0) {
                            const before = version.get(target) ?? 0;
                            await node.get(target, {}, { method: 'POST', body: 'x' });
                            writes.push({ target, v: before + 1, at: Date.now() });
                        } else if (dice === 1) {
                            const v = (version.get(target) ?? 0) + 1;
                            version.set(target, v);
                            const answer = await node.admin(`/purge?tag=n${target.slice(1)}`, { method: 'POST' });
                            if (answer.status === 200) {
                                raise(target, v);
                            }
                        } else {
                            const size = content(target, 0).length;
                            const range = dice < 6 && size > 10 ? { Range: `bytes=${random(size - 1)}-${size - 1}` } : {};
                            const response = await node.get(target, range);
                            if (!response.complete && killing) {
                                continue;
                            }
                            assert.ok(response.complete, `${target} was cut${note}: ${response.header('cache-status')}`);
                            verify(target, response, least);
                        }
                        done++;
                    } catch (error) {
                        if (error.code === 'ERR_ASSERTION') {
                            throw error;
                        }
                        await new Promise((resolve) => { setImmediate(resolve); }); // it was killed meanwhile
                    }
                }
            };
            for (let kill = 0; kill < KILLS; kill++) {
                stopped = killing = false;
                const load = Promise.all(Array.from({ length: 6 }, worker));
                const wanted = done + 50 + random(400);
                await Promise.race([load, until(() => done >= wanted, 'the load goes on')]);
                killing = true;
                await region.a.kill();
                stopped = true;
                await load;
                writes.filter((write) => write.at < Date.now() - 500).forEach((write) => raise(write.target, write.v));
                writes = [];
                await region.restart('a', { kill: true });
            }
            const client = await region.a.client();
            for (let i = 0; i < URLS; i++) {
                verify(`/${i}`, await client.request(`/${i}`), leastOf(`/${i}`));
            }
            client.close();
            assert.equal(await metric(region.a, 'disk_corrupt_total'), 0, `nothing torn was even read${note}`);
            assert.ok((await metric(region.a, 'disk_hits_total')) > 0, `and the disk was of use${note}`);
        });
}
