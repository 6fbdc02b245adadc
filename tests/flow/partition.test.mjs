/** Nodes that are cut off from the store, and what they must know before they are believed again. */
import assert from 'node:assert/strict';
import { assertForwarded, assertHit, cacheStatus, flow } from './harness/flow.mjs';
import { metric, startRegion } from './harness/region.mjs';
import { until } from './harness/server.mjs';

const FRESH = { 'Cache-Control': 'max-age=3600', 'Cache-Tag': 'all' };

function numbered(s) {
    s.origin.answers((exchange) => ({ headers: { ...FRESH, ETag: null }, body: `${exchange.target} ${exchange.serial}` }));
}

const number = (response) => Number(response.text.split(' ')[1]);

async function gone(node) {
    await until(async () => (await metric(node, 'bus_connected')) === 0, `${node.name} is cut off`);
}

/** All nodes hold these, in memory and on disk. */
async function fill(region, ...targets) {
    for (const node of region.nodes) {
        for (const target of targets) {
            await node.get(target);
        }
        await region.written();
    }
}

async function purge(node, what = 'tag=all') {
    const answer = await node.admin(`/purge?${what}`, { method: 'POST' });
    assert.equal(answer.status, 200, answer.text);
    return JSON.parse(answer.text);
}

for (const [how, cut] of Object.entries({ reset: (relay) => relay.cut(), 'in silence': (relay) => relay.blackhole() })) {
    flow(`a node cut off (${how}) goes on, and catches up before it serves what it held`, { node: false }, async (s) => {
        const region = await startRegion(s, ['a', 'b', 'c'], { relays: true, config: { purge: { wait: '200ms' } } });
        numbered(s);
        await fill(region, '/x', '/y');
        await cut(region.relays.c);
        if (how === 'reset') {
            await gone(region.c);
        }
        const count = s.origin.count;
        const said = await purge(region.a, 'url=/x');
        assert.equal(said.bus, 'sent');
        assert.equal(said.applied, 2, 'c has not');
        assert.ok(number(await region.b.get('/x')) > count);
        assertHit(await region.c.get('/x'));
        assertHit(await region.c.get('/y'));
        await region.relays.c.heal();
        await until(async () => number(await region.c.get('/x')) > count, 'the purge has come to c', 15_000);
        for (let i = 0; i < 5; i++) {
            assert.ok(number(await region.c.get('/x')) > count, 'and stays');
        }
        await region.ready(region.c);
        assertHit(await region.c.get('/y'));
    });
}

flow('a node restarted while it is cut off serves nothing purged once it is connected', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'c'], { relays: true, config: { purge: { wait: '200ms' } } });
    numbered(s);
    await fill(region, '/x', '/y');
    await region.c.kill();
    const count = s.origin.count;
    await purge(region.a, 'url=/x');
    await region.restart('c', { kill: true });
    assert.ok(number(await region.c.get('/x')) > count);
    assert.equal(assertHit(await region.c.get('/y')).detail, 'disk');
});

flow('until it has caught up a node that starts asks the origin for all it holds', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'c'], { relays: true, config: { threads: 3, purge: { wait: '200ms' } } });
    numbered(s);
    await fill(region, '/x', '/y');
    const count = s.origin.count;
    await region.relays.c.blackhole();
    await purge(region.a, 'url=/x');
    await region.restart('c', { kill: true, ready: false });
    assert.ok(number(await region.c.get('/x')) > count, 'not from disk while it cannot know');
    await region.relays.c.heal();
    await region.relays.c.drop();
    await region.ready(region.c);
    assert.ok(number(await region.c.get('/x')) > count);
});

const LOSSES = {
    'trimmed': (redis) => redis.cli('XTRIM', 'doorstep:{eu}:purges', 'MAXLEN', '0'),
    'trimmed to the last': (redis) => redis.cli('XTRIM', 'doorstep:{eu}:purges', 'MAXLEN', '1'),
    'deleted': (redis) => redis.cli('DEL', 'doorstep:{eu}:purges'),
    'flushed with everything': (redis) => redis.flush(),
};
for (const [how, lose] of Object.entries(LOSSES)) {
    for (const kill of [false, true]) {
        flow(`the stream is ${how} while a node is ${kill ? 'down' : 'cut off'}: all it holds is stale`, { node: false }, async (s) => {
            const region = await startRegion(s, ['a', 'c'], { relays: true, config: { purge: { wait: '200ms' } } });
            numbered(s);
            await purge(region.a, 'tag=nothing');
            await fill(region, '/x', '/y');
            if (kill) {
                await region.c.kill();
            } else {
                await region.relays.c.cut();
                await gone(region.c);
            }
            const count = s.origin.count;
            await purge(region.a, 'url=/x');
            await purge(region.a, 'tag=nothing');
            await lose(region.redis);
            if (kill) {
                await region.restart('c', { kill: true });
            } else {
                await region.relays.c.heal();
            }
            await until(async () => number(await region.c.get('/x')) > count, 'c has noticed', 15_000);
            await region.ready();
            for (const target of ['/x', '/y']) {
                assert.ok(number(await region.c.get(target)) > count, `${target} is asked for again`);
            }
            assert.ok((await metric(region.c, 'bus_gaps_total')) > 0);
        });
    }
}

flow('purges made while the store is away reach all nodes when it is back, also over a kill -9', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { relays: true });
    numbered(s);
    await purge(region.a, 'tag=nothing');
    await fill(region, '/x', '/y', '/z');
    for (const name of ['a', 'b']) {
        await region.relays[name].cut();
        await gone(region[name]);
    }
    const count = s.origin.count;
    assert.equal((await purge(region.a, 'url=/x')).bus, 'queued');
    assert.ok(number(await region.a.get('/x')) > count, 'at once here');
    assertHit(await region.b.get('/x'));
    const again = await region.restart('a', { kill: true, ready: false });
    assert.equal((await purge(again, 'url=/y')).bus, 'queued');
    await region.relays.b.heal();
    await region.relays.a.heal();
    await region.ready();
    for (const target of ['/x', '/y']) {
        await until(async () => number(await region.b.get(target)) > count, `${target} is purged on b`, 15_000);
        assert.ok(number(await region.a.get(target)) > count);
    }
    assertHit(await region.b.get('/z'));
});

flow('a copy written by a node that did not know of the purge is not served by one that does', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b', 'c'], { relays: true, disk: false, config: { purge: { wait: '200ms' } } });
    numbered(s);
    await purge(region.a, 'tag=nothing');
    await region.b.get('/warm'); // both its connections are there
    await region.written();
    const before = await region.redis.cli('DBSIZE');
    // b fetches before the purge, and writes to the store when the purge has come to all but b.
    s.origin.byHand();
    const slow = region.b.get('/x');
    const waiting = await s.origin.expect('/x');
    await region.relays.b.blackhole('toClient');
    const count = s.origin.count;
    await purge(region.a, 'url=/x');
    await waiting.reply({ headers: FRESH, body: '/x 0' });
    assert.equal((await slow).text, '/x 0');
    numbered(s);
    await until(async () => (await region.redis.cli('DBSIZE')) > before, 'the old answer is in the store');
    const response = await region.c.get('/x');
    assertForwarded(response);
    assert.ok(number(response) > count);
    await region.relays.b.heal();
    await until(async () => number(await region.b.get('/x')) > count, 'b hears of it', 15_000);
});

flow('a node in doubt still answers when the origin is gone, too', { node: false }, async (s) => {
    const region = await startRegion(s, ['a'], { relays: true });
    numbered(s);
    await fill(region, '/x');
    await region.relays.a.cut();
    await s.origin.gone();
    await region.restart('a', { kill: true, ready: false });
    const response = await region.a.get('/x');
    assert.equal(response.status, 200, response.header('cache-status'));
    assert.equal(response.text, '/x 1');
    assert.equal(cacheStatus(response).hit, true);
    await s.origin.back();
    await region.relays.a.heal();
    await region.ready();
});

flow('cut off from everything, then back: an hour of purges in one go', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { relays: true, config: { purge: { wait: '100ms' } } });
    s.origin.answers((exchange) => ({ headers: { ...FRESH, 'Cache-Tag': `t${exchange.target.slice(1)}` }, body: `${exchange.target} ${exchange.serial}` }));
    const targets = Array.from({ length: 40 }, (_, i) => `/${i}`);
    await fill(region, ...targets);
    await region.relays.b.cut();
    await gone(region.b);
    const count = s.origin.count;
    for (let i = 0; i < 2000; i++) {
        await region.redis.cli('XADD', 'doorstep:{eu}:purges', '*', 'event', `tag ${i < 40 && i % 2 ? `t${i}` : `u${i}`}`);
    }
    await region.relays.b.heal();
    await region.ready();
    for (let i = 0; i < 40; i++) {
        assert.equal(number(await region.b.get(targets[i])) > count, i % 2 === 1, targets[i]);
    }
});
