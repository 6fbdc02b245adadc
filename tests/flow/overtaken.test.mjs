/** Purges and writes that come while an older answer is still on its way: it must not stay on any rung. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { chunk, flow, LAST_CHUNK, scratch, siteConfig } from './harness/flow.mjs';
import { metric, startRegion } from './harness/region.mjs';
import { until } from './harness/server.mjs';

const FRESH = { 'Cache-Control': 'max-age=3600' };

function folder(s) {
    const made = scratch();
    s.after(() => fs.rmSync(made, { recursive: true, force: true }));
    return made;
}

/** From now on the origin has something else, and that is what the node must say. */
async function saysNew(origin, node, target, headers) {
    origin.answers({ headers: FRESH, body: 'new' });
    assert.equal((await node.get(target, headers)).text, 'new');
}

function soft(node, target) {
    return node.admin(`/purge?soft=true&url=http://site.test${target}`, { method: 'POST' });
}

flow('a soft purge counts for a body of unknown length that was arriving', async (s) => {
    const client = await s.connect();
    client.ask('/a');
    const exchange = await s.origin.expect('/a');
    await exchange.head(200, { ...FRESH, 'Transfer-Encoding': 'chunked' });
    await exchange.send(chunk('old'));
    const response = await client.head();
    assert.equal((await soft(s.node, '/a')).status, 200);
    await exchange.send(LAST_CHUNK);
    await client.body(response);
    await saysNew(s.origin, s.node, '/a');
});

flow('a soft purge counts for what was arriving, on the other nodes too', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { disk: false });
    const client = await region.a.client();
    s.after(() => client.close());
    client.ask('/a');
    const exchange = await s.origin.expect('/a');
    await exchange.head(200, { ...FRESH, 'Content-Length': 6 });
    await exchange.send('old');
    const response = await client.head();
    assert.equal((await soft(region.a, '/a')).status, 200);
    await exchange.send('old');
    await client.body(response);
    await region.written();
    await saysNew(s.origin, region.b, '/a');
});

flow('a purge without a position counts for copies from before the first one that has one', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { disk: false, config: { purge: { redis_channel: 'purges' } } });
    s.origin.answers({ headers: FRESH, body: 'old' });
    await region.a.get('/a');
    await region.written();
    const before = await Promise.all(region.nodes.map((node) => node.metrics()));
    await until(async () => await region.redis.cli('PUBLISH', 'purges', 'url http://site.test/a') === 2, 'both listen');
    await until(async () => {
        const now = await Promise.all(region.nodes.map((node) => node.metrics()));
        return now.every((all, i) => all.get('doorstep_purge_marks_total') > before[i].get('doorstep_purge_marks_total'));
    }, 'both have heard');
    assert.equal((await region.a.admin('/purge?url=http://site.test/other', { method: 'POST' })).status, 200);
    await saysNew(s.origin, region.b, '/a');
});

flow('a write wins over a body that goes to disk while it arrives', { node: false }, async (s) => {
    const config = { memory: { size: '16M', max_object: '64K' }, disk: { path: `${folder(s)}/tier`, size: '64M' } };
    s.node = await s.startNode({ config: siteConfig([s.origin.url], { route: { disk: 'pin' }, config }) });
    const half = Buffer.alloc(300_000, 'o'), reader = await s.connect(), writer = await s.connect();
    reader.ask('/big');
    const exchange = await s.origin.expect('/big');
    await exchange.head(200, { ...FRESH, 'Content-Length': 2 * half.length });
    await exchange.send(half);
    const response = await reader.head();
    await reader.bytes(half.length);
    writer.ask('/big', { method: 'POST', body: 'x' });
    await (await s.origin.expect('/big')).reply({});
    assert.equal((await writer.response()).status, 200);
    await exchange.send(half);
    await reader.bytes(half.length);
    assert.equal(response.status, 200);
    await saysNew(s.origin, s.node, '/big');
});

flow('a write wins over a search that was under way', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { disk: false, relays: true });
    s.origin.answers({ headers: FRESH, body: 'old' });
    await region.b.get('/a');
    await region.written();
    const asked = region.relays.a.bytes.toServer;
    region.relays.a.blackhole('toClient');
    const pending = region.a.get('/a');
    await until(() => region.relays.a.bytes.toServer > asked, 'the store was asked');
    s.origin.answers({ headers: { 'Cache-Control': 'no-store' } });
    await region.a.get('/a', {}, { method: 'POST', body: 'x' });
    await region.relays.a.heal();
    await pending;
    await saysNew(s.origin, region.a, '/a');
});

flow('a write wins over a variant that waits for its name', { node: false }, async (s) => {
    const region = await startRegion(s, ['a'], { disk: false, relays: true });
    s.origin.answers({ headers: { ...FRESH, Vary: 'X-A' }, body: 'old' });
    region.relays.a.delay(100);
    await region.a.get('/a', { 'X-A': '1' });
    s.origin.answers({});
    await region.a.get('/a', {}, { method: 'POST', body: 'x' });
    await region.relays.a.heal();
    await region.written();
    await until(async () => (await region.redis.cli('KEYS', 'doorstep:eu:o:*')).length !== 2, 'names and variant are not both there');
    await saysNew(s.origin, region.a, '/a', { 'X-A': '1' });
});

flow('a write that the store could not be told of reaches it, and the other nodes, when it is back', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { disk: false, relays: true });
    s.origin.answers({ headers: FRESH, body: 'old' });
    await region.a.get('/a');
    await region.b.get('/a');
    await region.written();
    await region.relays.a.cut();
    await until(async () => (await metric(region.a, 'bus_connected')) === 0, 'a is cut off');
    s.origin.answers({ body: 'written' });
    await region.a.get('/a', {}, { method: 'POST', body: 'x' });
    await until(async () => (await metric(region.a, 'bus_queued')) > 0, 'the write is kept for later');
    await region.relays.a.heal();
    await until(async () => (await metric(region.b, 'bus_received_total')) > 0, 'b has heard of it');
    await region.ready();
    await saysNew(s.origin, region.a, '/a');
    await region.written();
    await saysNew(s.origin, region.b, '/a');
});

flow('what another node fetched before a write is not taken from the store after it', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { disk: false });
    const reader = await region.b.client(), writer = await region.a.client();
    s.after(() => reader.close());
    s.after(() => writer.close());
    reader.ask('/a');
    const read = await s.origin.expect('/a');
    writer.ask('/a', { method: 'POST', body: 'x' });
    const written = await s.origin.expect('/a');
    await written.reply({ body: 'written' });
    assert.equal((await writer.response()).text, 'written');
    await read.reply({ headers: FRESH, body: 'old' });
    assert.equal((await reader.response()).text, 'old');
    await region.written();
    await saysNew(s.origin, region.a, '/a');
});
