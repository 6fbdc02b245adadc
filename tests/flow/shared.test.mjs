/** The store that the nodes of a region share: what is found there, for how long, and what its failures cost. */
import assert from 'node:assert/strict';
import { assertForwarded, assertHit, cacheStatus, flow } from './harness/flow.mjs';
import { metric, startRegion } from './harness/region.mjs';
import { startRedisCluster } from './harness/redis.mjs';
import { until } from './harness/server.mjs';

const FRESH = { 'Cache-Control': 'max-age=3600' };

function fromShared(response) {
    assert.equal(assertHit(response).detail, 'shared');
    return response;
}

/** Keys of entries in the store. */
async function entries(redis) {
    return (await redis.cli('KEYS', 'doorstep:eu:o:*')).sort();
}

flow('one node fetches, the others find it in the store, then in memory', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b', 'c'], { disk: false });
    s.origin.answers({ headers: { ...FRESH, ETag: '"x"', Age: '60', 'X-Mine': 'yes', 'Set-Cookie': null }, body: 'hello' });
    assertForwarded(await region.a.get('/x?y=1'), 'uri-miss');
    await region.written();
    for (const node of [region.b, region.c]) {
        const response = fromShared(await node.get('/x?y=1'));
        assert.equal(response.text, 'hello');
        assert.equal(response.header('etag'), '"x"');
        assert.equal(response.header('x-mine'), 'yes');
        assert.match(response.header('server-timing'), /shared;dur=/);
        assert.ok(Number(response.header('age')) >= 60 && Number(response.header('age')) < 70, response.header('age'));
        assert.equal(assertHit(await node.get('/x?y=1')).detail, 'memory');
        assert.equal((await node.get('/x?y=1', { Range: 'bytes=1-2' })).text, 'el');
    }
    assert.equal(s.origin.count, 1);
    assert.equal((await entries(region.redis)).length, 1);
});

flow('bodies of many sizes, and of unknown length, are the same through every node', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { disk: false });
    const body = (target) => Buffer.alloc(Number(target.split('/')[2]), `${target} `);
    s.origin.answers((exchange) => ({
        headers: exchange.target.startsWith('/chunked') ? { ...FRESH, 'Transfer-Encoding': 'chunked' } : FRESH,
        body: exchange.target.startsWith('/chunked')
            ? Buffer.concat([Buffer.from(`${body(exchange.target).length.toString(16)}\r\n`), body(exchange.target), Buffer.from('\r\n0\r\n\r\n')])
            : body(exchange.target),
    }));
    for (const target of ['/length/0', '/length/1', '/length/65536', '/length/1000000', '/chunked/1', '/chunked/65537', '/chunked/900000']) {
        await region.a.get(target);
        await region.written();
        assert.ok(fromShared(await region.b.get(target)).body.equals(body(target)), target);
    }
    await region.a.get('/length/2000000'); // larger than shared.max_object
    await region.written();
    assertForwarded(await region.b.get('/length/2000000'));
});

flow('variants by Vary, each found by the other node, whoever came first', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { disk: false });
    s.origin.answers((exchange) => ({
        headers: { ...FRESH, Vary: 'X-Kind, Accept-Language' },
        body: `${exchange.header('x-kind')} ${exchange.header('accept-language')}`,
    }));
    const kinds = ['one', 'two', 'three'].map((kind) => ({ 'X-Kind': kind, 'Accept-Language': 'de' }));
    const holds = (count) => until(async () => (await entries(region.redis)).length === count, `${count} entries`);
    await region.a.get('/v', kinds[0]);
    await holds(2); // the names, and one variant
    fromShared(await region.b.get('/v', kinds[0]));
    await region.b.get('/v', kinds[1]);
    await holds(3);
    assert.equal(fromShared(await region.a.get('/v', kinds[1])).text, 'two de');
    await region.a.get('/v', kinds[2]);
    await holds(4);
    assert.equal(fromShared(await region.b.get('/v', kinds[2])).text, 'three de');
    assert.equal(s.origin.count, 3);
    assert.equal((await region.b.get('/v', { 'X-Kind': 'one' })).text, 'one undefined');
    assert.equal(s.origin.count, 4);
});

flow('what is not for everybody is not in the store', { node: false }, async (s) => {
    const region = await startRegion(s, ['a'], { disk: false, config: { routes: [
        { match: '/alone/*', upstream: 'app', shared: false }, { match: '/*', upstream: 'app' },
    ] } });
    s.origin.answers((exchange) => ({ headers: { 'Cache-Control': exchange.target === '/private' ? 'private, max-age=60' : 'max-age=60' } }));
    await region.a.get('/private');
    await region.a.get('/alone/x');
    await region.a.get('/mine', { Authorization: 'Basic eDp5' });
    await region.written();
    assert.deepEqual(await entries(region.redis), []);
});

flow('a copy never lives longer than its original', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b', 'c'], { disk: false });
    s.origin.answers({ headers: { 'Cache-Control': 'max-age=600', Age: '598', ETag: '"x"' } });
    await region.a.get('/x');
    await region.written();
    const response = fromShared(await region.b.get('/x'));
    assert.ok(cacheStatus(response).ttl <= 2);
    const [key] = await entries(region.redis);
    const left = await region.redis.cli('PTTL', key);
    assert.ok(left > 0 && left <= 2000 + 3600_000, `${left} ms in the store`);
    s.origin.answers({ headers: { 'Cache-Control': 'max-age=600' }, body: 'new' });
    await until(async () => {
        const now = await region.b.get('/x');
        assert.ok(now.text === 'new' || Number(now.header('age')) <= 600, `age ${now.header('age')}`);
        return now.text === 'new';
    }, 'it expires');
    const late = await region.c.get('/x');
    assert.equal(late.text, 'new');
});

flow('a stale copy from the store is confirmed, and the confirmation is shared', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b', 'c'], { disk: false });
    s.origin.answers((exchange) => (exchange.header('if-none-match') === '"x"'
        ? { status: 304, headers: { ...FRESH, ETag: '"x"', 'X-Seen': 'again' } }
        : { headers: { 'Cache-Control': 'max-age=60', Age: '60', ETag: '"x"' }, body: 'hello' }));
    await region.a.get('/x');
    await region.written();
    const confirmed = await region.b.get('/x');
    assert.equal(confirmed.text, 'hello');
    assert.equal(s.origin.requests[1].header('if-none-match'), '"x"');
    await region.written();
    const third = fromShared(await region.c.get('/x'));
    assert.equal(third.text, 'hello');
    assert.equal(third.header('x-seen'), 'again');
    assert.equal(s.origin.count, 2);
});

flow('a write through one node drops the copy in the store', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b', 'c'], { disk: false });
    s.origin.answers((exchange) => ({ headers: exchange.method === 'GET' ? FRESH : {} }));
    await region.a.get('/item');
    await region.written();
    await region.b.get('/item', {}, { method: 'POST', body: 'new' });
    await region.written();
    const response = await region.c.get('/item');
    assert.equal(response.text, 'answer 3');
});

const FAILURES = {
    'is killed': { break: (region) => region.redis.kill(), mend: (region) => region.redis.start() },
    'restarts': { break: (region) => region.redis.restart(), mend: () => {} },
    'hangs': { break: (region) => region.redis.pause(), mend: (region) => region.redis.resume() },
    'is cut off': { break: (region) => Promise.all(Object.values(region.relays).map((relay) => relay.cut())),
        mend: (region) => Promise.all(Object.values(region.relays).map((relay) => relay.heal())) },
    'loses what is sent to it': { break: (region) => Object.values(region.relays).forEach((relay) => relay.blackhole('toServer')),
        mend: (region) => Promise.all(Object.values(region.relays).map((relay) => relay.heal())) },
    'talks rubbish': {
        break: (region) => Object.values(region.relays).forEach((relay) => relay.corrupt((bytes, direction) => (direction === 'toClient'
            ? Buffer.from(bytes.map((byte, i) => (i % 3 ? byte ^ 0x55 : byte))) : bytes))),
        mend: async (region) => {
            for (const relay of Object.values(region.relays)) {
                await relay.heal();
                relay.drop(); // what was announced in rubbish may be waited for on a connection that stands
            }
        },
    },
    'answers every byte with an error': {
        break: (region) => Object.values(region.relays).forEach((relay) => relay.corrupt((bytes, direction) => (direction === 'toClient'
            ? Buffer.from('-ERR no\r\n') : bytes))),
        mend: (region) => Promise.all(Object.values(region.relays).map((relay) => relay.heal())),
    },
};
for (const [what, fault] of Object.entries(FAILURES)) {
    flow(`the store ${what}: nothing but misses, few of them wait, and it is used again after`, { node: false }, async (s) => {
        const region = await startRegion(s, ['a', 'b'], { disk: false, relays: true, shared: { timeout: '20ms' } });
        s.origin.answers((exchange) => ({ headers: FRESH, body: exchange.target }));
        await region.a.get('/before');
        await region.written();
        fromShared(await region.b.get('/before'));
        await region.a.admin('/purge?tag=nothing', { method: 'POST' }); // the stream has a position
        await fault.break(region);
        for (let i = 0; i < 30; i++) {
            for (const response of await region.ask(`/during/${i}`)) {
                assert.equal(response.status, 200);
                assert.equal(response.text, `/during/${i}`);
            }
        }
        const before = await region.a.get('/before');
        assert.equal(before.text, '/before');
        if (what !== 'restarts') { // it came back empty: what it was to tell is lost, so what a node holds is confirmed first

            assertHit(before);
        }
        for (const node of region.nodes) {
            const late = await metric(node, 'store_timeouts_total');
            assert.ok(late <= 8, `${late} of 30 misses waited in vain`);
        }
        await fault.mend(region);
        await region.ready();
        let i = 0;
        await until(async () => {
            const target = `/after/${i++}`;
            // After a stream that began anew the next purge is what tells copies from before from those after.
            await region.a.admin('/purge?tag=nothing', { method: 'POST' });
            await region.a.get(target);
            const answer = await region.b.get(target);
            assert.equal(answer.text, target);
            return cacheStatus(answer).detail === 'shared';
        }, 'the store is used again', 15_000);
        await region.ready();
    });
}

flow('a store out of memory: reads go on, writes are dropped and counted', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { disk: false, redis: ['--maxmemory-policy', 'noeviction'] });
    s.origin.answers((exchange) => ({ headers: FRESH, body: exchange.target }));
    await region.a.get('/before');
    await region.written();
    await region.redis.cli('CONFIG', 'SET', 'maxmemory', '1');
    for (let i = 0; i < 5; i++) {
        for (const response of await region.ask(`/during/${i}`)) {
            assert.equal(response.text, `/during/${i}`);
        }
    }
    fromShared(await region.b.get('/before'));
    await until(async () => (await metric(region.a, 'shared_write_failures_total')) >= 5, 'writes fail');
    await region.redis.cli('CONFIG', 'SET', 'maxmemory', '0');
    await region.a.get('/after');
    await region.written();
    fromShared(await region.b.get('/after'));
});

flow('what others put under our keys is a miss', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { disk: false });
    s.origin.answers((exchange) => ({ headers: FRESH, body: `${exchange.target} ${'x'.repeat(2000)}` }));
    const spoil = {
        '/type': (key) => region.redis.cli('DEL', key).then(() => region.redis.cli('LPUSH', key, 'x')),
        '/empty': (key) => region.redis.cli('SET', key, ''),
        '/text': (key) => region.redis.cli('SET', key, 'x'.repeat(3000)),
        '/short': async (key) => {
            const value = await region.redis.raw('GET', key);
            await region.redis.cli('SET', key, value.subarray(0, value.length - 7));
        },
        '/head': (key) => region.redis.cli('SETRANGE', key, '40', 'zz'),
        '/body': (key) => region.redis.cli('SETRANGE', key, '1500', 'zz'),
        '/long': (key) => region.redis.cli('APPEND', key, 'more'),
    };
    for (const [target, change] of Object.entries(spoil)) {
        const before = await entries(region.redis);
        await region.a.get(target);
        await region.written();
        const [key] = (await entries(region.redis)).filter((found) => !before.includes(found));
        await change(key);
        const response = await region.b.get(target);
        assertForwarded(response);
        assert.equal(response.text, `${target} ${'x'.repeat(2000)}`);
    }
    // One entry under the key of another: the key in it does not fit.
    const before = await entries(region.redis);
    await region.a.get('/one');
    await region.written();
    const [one] = (await entries(region.redis)).filter((found) => !before.includes(found));
    await region.a.get('/two');
    await region.written();
    const [two] = (await entries(region.redis)).filter((found) => !before.includes(found) && found !== one);
    await region.redis.cli('COPY', one, two, 'REPLACE');
    assert.match((await region.b.get('/two')).text, /^\/two /);
});

flow('lease: 20 equal requests over three nodes are one request to the origin', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b', 'c'], { disk: false, shared: { lease: { time: '10s', wait: '10s' } } });
    const asked = [];
    for (let i = 0; i < 20; i++) {
        asked.push(region.nodes[i % 3].get('/x'));
    }
    const exchange = await s.origin.expect('/x');
    await until(async () => (await metric(region.b, 'shared_leases_lost_total')) + (await metric(region.c, 'shared_leases_lost_total'))
        + (await metric(region.a, 'shared_leases_lost_total')) >= 2, 'two nodes wait for the third');
    await exchange.reply({ headers: FRESH, body: 'hello' });
    for (const response of await Promise.all(asked)) {
        assert.equal(response.text, 'hello');
    }
    assert.equal(s.origin.count, 1);
});

flow('lease: what cannot be stored lets the others go at once', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { disk: false, shared: { lease: { time: '60s', wait: '60s' } } });
    const first = region.a.get('/x');
    const exchange = await s.origin.expect('/x');
    const second = region.b.get('/x');
    await until(async () => (await metric(region.b, 'shared_leases_lost_total')) > 0, 'b waits');
    s.origin.answers({ headers: { 'Cache-Control': 'no-store' }, body: 'second' });
    await exchange.reply({ headers: { 'Cache-Control': 'no-store' }, body: 'first' });
    assert.equal((await first).text, 'first');
    assert.equal((await second).text, 'second');
});

flow('lease: the holder fails at the origin, the others go on', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { disk: false, shared: { lease: { time: '60s', wait: '60s' } }, upstream: { retries: 0 } });
    const first = region.a.get('/x');
    const exchange = await s.origin.expect('/x');
    const second = region.b.get('/x');
    await until(async () => (await metric(region.b, 'shared_leases_lost_total')) > 0, 'b waits');
    s.origin.answers({ headers: FRESH, body: 'second' });
    exchange.reset();
    assert.ok((await first).status >= 500);
    assert.equal((await second).text, 'second');
});

flow('lease: the holder is killed, nobody hangs', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b', 'c'], { disk: false, shared: { lease: { time: '2s', wait: '60s' } } });
    const first = region.a.get('/x').catch((error) => error);
    await s.origin.expect('/x');
    const others = [region.b.get('/x'), region.c.get('/x'), region.b.get('/x')];
    await until(async () => (await metric(region.b, 'shared_leases_lost_total')) > 0 && (await metric(region.c, 'shared_leases_lost_total')) > 0,
        'they wait');
    s.origin.answers({ headers: FRESH, body: 'second' });
    await region.a.kill();
    await first;
    for (const response of await Promise.all(others)) {
        assert.equal(response.text, 'second');
    }
    assert.equal(s.origin.count, 2);
});

flow('lease: the holder is slower than the others wait', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { disk: false, shared: { lease: { time: '60s', wait: '100ms' } } });
    const first = region.a.get('/x');
    const exchange = await s.origin.expect('/x');
    s.origin.answers({ headers: FRESH, body: 'second' });
    assert.equal((await region.b.get('/x')).text, 'second');
    await exchange.reply({ headers: FRESH, body: 'first' });
    assert.equal((await first).text, 'first');
});

flow('a Redis Cluster of three, a slot on its way, a server that stops', { node: false }, async (s) => {
    const cluster = await s.use(startRedisCluster(3));
    const [redis] = cluster.nodes;
    const region = await startRegion(s, ['a', 'b'], { disk: false, redis, cluster: true });
    s.origin.answers((exchange) => ({ headers: { ...FRESH, 'Cache-Tag': 'all', ...(exchange.target.startsWith('/v') ? { Vary: 'X-Kind' } : {}) },
        body: `${exchange.target} ${exchange.serial}` }));
    const targets = Array.from({ length: 24 }, (_, i) => `/${i % 4 ? 'p' : 'v'}${i}`);
    const check = async (node, detail) => {
        for (const target of targets) {
            const response = await node.get(target, { 'X-Kind': 'k' });
            assert.equal(response.status, 200);
            assert.ok(response.text.startsWith(`${target} `));
            if (detail) {
                assert.equal(cacheStatus(response).detail, detail, `${target}: ${response.header('cache-status')}`);
            }
        }
    };
    const stored = async () => (await Promise.all(cluster.nodes.map((node) => node.cli('KEYS', 'doorstep:eu:o:*')))).flat();
    for (const target of targets) { // the clocks of all three are known then
        await region.a.get(`/warm${target}`);
    }
    await check(region.a);
    await until(async () => (await stored()).length === 2 * targets.length + 6, 'all are in the store, and the names of six');
    await check(region.b, 'shared');
    assert.equal(s.origin.count, 2 * targets.length);
    const sizes = await Promise.all(cluster.nodes.map((node) => node.cli('DBSIZE')));
    assert.ok(sizes.every((size) => size > 0), `spread over all: ${sizes}`);

    // a slot moves: ASK, then MOVED
    const keys = await stored();
    const slot = await cluster.slot(keys[0]);
    const from = await cluster.owner(keys[0]);
    const to = cluster.nodes.find((node) => node !== from);
    await region.restart('b');
    await cluster.beginMove(slot, to);
    await check(region.b);
    await region.a.admin('/purge?tag=all', { method: 'POST' });
    await check(region.a);
    await region.written();
    await check(region.b);
    await cluster.finishMove(slot, to);
    await region.restart('b');
    await check(region.b);

    const answer = JSON.parse((await region.a.admin('/purge?all=1', { method: 'POST' })).text);
    assert.equal(answer.bus, 'sent', JSON.stringify(answer));
    assert.equal(answer.applied, 2);
    const count = s.origin.count;
    await check(region.b);
    assert.equal(s.origin.count, count + targets.length);

    // one of three is gone
    const bus = await cluster.owner('doorstep:{eu}:purges');
    await cluster.nodes.find((node) => node !== bus).kill();
    await region.a.admin('/purge?all=1', { method: 'POST' });
    await check(region.a);
    await check(region.b);
});
