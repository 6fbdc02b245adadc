/** The disk tier in the running node: what a restart finds, bodies larger than memory, and disks that fail. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { Clock } from './harness/clock.mjs';
import { DiskFaults } from './harness/disk.mjs';
import { assertForwarded, assertHit, cacheStatus, chunk, flow, httpDate, LAST_CHUNK, scratch, siteConfig } from './harness/flow.mjs';
import { restartNode, startNodes } from './harness/nodes.mjs';
import { until } from './harness/server.mjs';
import { mountTmpfs, noTmpfs } from './harness/tmpfs.mjs';

const FRESH = { 'Cache-Control': 'max-age=3600' };
const KEY = '0123456789abcdef'.repeat(4);

/** A folder of the test's own, as long as it. */
function folder(s) {
    const made = scratch();
    s.after(() => fs.rmSync(made, { recursive: true, force: true }));
    return made;
}

/** One node with a disk tier; `options` as for siteConfig(), and disk: its options. */
async function diskNode(s, { disk = {}, env, ...options } = {}) {
    const at = disk.path ?? path.join(folder(s), 'tier');
    const config = siteConfig([s.origin.url], { ...options, config: { ...options.config, disk: { size: '64M', ...disk, path: at } } });
    [s.node] = await startNodes(s, ['test-1'], () => ({ config, env }));
    s.path = at;
    return s.node;
}

async function metric(node, name) {
    return (await node.metrics()).get(`doorstep_disk_${name}`);
}

/** The tier has written all that it was given, and holds so many records. */
function holds(node, objects) {
    return until(async () => {
        const all = await node.metrics();
        return all.get('doorstep_disk_queued_bytes') === 0 && all.get('doorstep_disk_objects') === objects;
    }, `the disk tier holds ${objects}`);
}

async function again(s, options) {
    s.node = await restartNode(s, s.node, options);
    return s.node;
}

function fromDisk(response) {
    assert.equal(assertHit(response).detail, 'disk');
    return response;
}

/** Bytes that are different everywhere and for every seed. */
function bytes(size, seed = 1) {
    const made = Buffer.alloc(size + 4);
    for (let i = 0; i < size; i += 4) {
        made.writeUInt32LE((Math.imul(i + seed * 7919, 2654435761) ^ seed) >>> 0, i);
    }
    return made.subarray(0, size);
}

for (const kill of [false, true]) {
    flow(`what was stored is there after ${kill ? 'kill -9' : 'a clean stop'}`, { node: false }, async (s) => {
        await diskNode(s, { route: { disk: 'pin' } });
        s.origin.answers({ headers: { ...FRESH, ETag: '"a"', Age: '100', 'X-Mine': 'yes' }, body: 'hello' });
        await s.node.get('/a');
        await s.node.get('/b?x=1');
        const before = s.origin.count;
        await holds(s.node, 2);
        await again(s, { kill });
        for (const target of ['/a', '/b?x=1']) {
            const response = fromDisk(await s.node.get(target));
            assert.equal(response.text, 'hello');
            assert.equal(response.header('etag'), '"a"');
            assert.equal(response.header('x-mine'), 'yes');
            assert.ok(Number(response.header('age')) >= 100 && Number(response.header('age')) < 130, response.header('age'));
            assert.match(response.header('server-timing'), /disk;dur=/);
            assert.equal(assertHit(await s.node.get(target)).detail, 'memory');
        }
        assertForwarded(await s.node.get('/b?x=2'), 'uri-miss');
        assert.equal((await s.node.get('/a', { 'If-None-Match': '"a"' })).status, 304);
        assert.equal(s.origin.count, before + 1);
    });
}

flow('admission: second sight, immutable, pin and off', { node: false }, async (s) => {
    const config = { routes: [
        { match: '/pin/*', upstream: 'app', disk: 'pin' },
        { match: '/off/*', upstream: 'app', disk: 'off' },
        { match: '/*', upstream: 'app' },
    ] };
    await diskNode(s, { config });
    s.origin.answers((exchange) => ({
        headers: { 'Cache-Control': exchange.target.startsWith('/immutable') ? 'max-age=3600, immutable' : 'max-age=3600' },
    }));
    for (const target of ['/pin/a', '/off/a', '/immutable', '/once', '/twice']) {
        await s.node.get(target);
    }
    await holds(s.node, 2);
    // Fetched a second time: seen before.
    for (const target of ['/off/a', '/twice']) {
        await s.node.admin(`/purge?url=http://site.test${target}`, { method: 'POST' });
        await s.node.get(target);
    }
    await holds(s.node, 3);
    const count = s.origin.count;
    await again(s, { kill: true });
    for (const target of ['/pin/a', '/immutable', '/twice']) {
        fromDisk(await s.node.get(target));
    }
    assert.equal(s.origin.count, count);
    assertForwarded(await s.node.get('/off/a'));
    assertForwarded(await s.node.get('/once'));
});

flow('what leaves memory after use goes to disk', { node: false }, async (s) => {
    await diskNode(s, { config: { memory: { size: '1M', max_object: '256K' } } });
    s.origin.answers((exchange) => ({ headers: FRESH, body: bytes(100_000, exchange.target.length) }));
    const targets = Array.from({ length: 40 }, (_, i) => `/${'x'.repeat(i)}`);
    for (const target of targets) {
        for (let uses = 0; uses < 4; uses++) {
            await s.node.get(target);
        }
    }
    await until(async () => (await metric(s.node, 'objects')) > 0 && (await metric(s.node, 'queued_bytes')) === 0, 'some went to disk');
    await again(s, { kill: true });
    const rungs = new Set();
    for (const target of targets) {
        const response = await s.node.get(target);
        assert.ok(response.body.equals(bytes(100_000, target.length)));
        rungs.add(cacheStatus(response).detail);
    }
    assert.ok(rungs.has('disk'));
});

for (const framing of ['length', 'chunks']) {
    flow(`a body larger than memory takes is served from disk, every range of it (${framing})`, { node: false }, async (s) => {
        const clock = new Clock();
        const size = 2_500_123;
        const whole = bytes(size, 3);
        await diskNode(s, { env: clock.env, config: { memory: { size: '8M', max_object: '64K' } }, route: { disk: 'pin' } });
        s.origin.answers(async (exchange) => {
            if (exchange.header('if-none-match') === '"big"') {
                return { status: 304, headers: { ...FRESH, Date: httpDate(7200), ETag: '"big"', 'X-Seen': 'again' } };
            }
            const headers = { ...FRESH, ETag: '"big"' };
            if (framing === 'length') {
                return { headers, body: whole };
            }
            await exchange.head(200, { ...headers, 'Transfer-Encoding': 'chunked' });
            for (let at = 0; at < size; at += 77_777) {
                await exchange.send(chunk(whole.subarray(at, at + 77_777)));
            }
            await exchange.send(LAST_CHUNK);
            return undefined;
        });
        assert.deepEqual((await s.node.get('/big')).body, whole);
        await holds(s.node, 1);
        assert.deepEqual(fromDisk(await s.node.get('/big')).body, whole);
        await again(s, { kill: true });
        assert.deepEqual(fromDisk(await s.node.get('/big')).body, whole);
        const client = await s.node.client();
        const range = async (spec, first, last) => {
            const response = await client.request('/big', { headers: { Range: `bytes=${spec}` } });
            assert.equal(response.status, 206, `${spec}: ${response.startLine}`);
            assert.equal(response.header('content-range'), `bytes ${first}-${last}/${size}`);
            assert.ok(response.body.equals(whole.subarray(first, last + 1)), `the bytes of ${spec}`);
        };
        for (let at = 65536; at < size; at += 65536) {
            await range(`${at - 1}-${at}`, at - 1, at);
            await range(`${at}-${at}`, at, at);
            await range(`${at - 1}-${at - 1}`, at - 1, at - 1);
            await range(`${at - 3}-${Math.min(at + 65537, size - 1)}`, at - 3, Math.min(at + 65537, size - 1));
        }
        await range('-1', size - 1, size - 1);
        await range('-65537', size - 65537, size - 1);
        await range(`${size - 1}-`, size - 1, size - 1);
        await range('0-', 0, size - 1);
        assert.equal((await client.request('/big', { headers: { Range: `bytes=${size}-` } })).status, 416);
        const many = await client.request('/big', { headers: { Range: 'bytes=0-1,65535-65536,-2' } });
        assert.ok(many.status === 206 || many.status === 200);
        const head = await client.request('/big', { method: 'HEAD' });
        assert.equal(head.status, 200);
        assert.equal((await client.request('/big', { headers: { 'If-None-Match': '"big"' } })).status, 304);
        client.close();
        assert.equal(s.origin.count, 1);

        clock.set(2 * 3600_000);
        const confirmed = await s.node.get('/big');
        assert.deepEqual(confirmed.body, whole);
        assert.equal(s.origin.count, 2);
        assert.equal(s.origin.requests[1].header('if-none-match'), '"big"');
        fromDisk(await s.node.get('/big'));
        await until(async () => (await metric(s.node, 'queued_bytes')) === 0, 'the new head is written');
        await again(s, { kill: true });
        const third = fromDisk(await s.node.get('/big'));
        assert.deepEqual(third.body, whole);
        assert.equal(third.header('x-seen'), 'again');
        assert.equal(s.origin.count, 2, 'still fresh after a restart');
    });
}

flow('two clients read a big body while it arrives, a third after half of it', { node: false }, async (s) => {
    const whole = bytes(1_500_000, 9);
    await diskNode(s, { config: { memory: { size: '8M', max_object: '64K' } }, route: { disk: 'pin' } });
    const asked = [s.node.get('/big'), s.node.get('/big')];
    const exchange = await s.origin.expect('/big');
    await exchange.head(200, { ...FRESH, 'Content-Length': whole.length });
    await exchange.send(whole.subarray(0, 700_000));
    await s.node.settled();
    s.origin.answers({ headers: FRESH, body: whole }); // what is past is forgotten: the third asks for itself
    asked.push(s.node.get('/big'));
    await s.node.settled();
    await exchange.send(whole.subarray(700_000));
    for (const response of await Promise.all(asked)) {
        assert.ok(response.body.equals(whole));
    }
    await holds(s.node, 1);
    assert.ok(fromDisk(await s.node.get('/big')).body.equals(whole));
});

flow('a big body cut short is not stored', { node: false }, async (s) => {
    const whole = bytes(1_500_000, 9);
    await diskNode(s, { config: { memory: { size: '8M', max_object: '64K' } }, route: { disk: 'pin' } });
    const asked = s.node.get('/big').catch((error) => error);
    const exchange = await s.origin.expect('/big');
    await exchange.head(200, { ...FRESH, 'Content-Length': whole.length });
    await exchange.send(whole.subarray(0, 900_000));
    exchange.close();
    assert.ok(!(await asked).complete);
    s.origin.answers({ headers: FRESH, body: whole });
    assertForwarded(await s.node.get('/big'));
    await holds(s.node, 1);
    assert.ok(fromDisk(await s.node.get('/big')).body.equals(whole));
});

flow('variants by Vary are there after a restart, each for its requests', { node: false }, async (s) => {
    await diskNode(s, { route: { disk: 'pin' } });
    s.origin.answers((exchange) => ({
        headers: { ...FRESH, Vary: 'Accept-Language', ETag: `"${exchange.header('accept-language')}"` },
        body: `in ${exchange.header('accept-language')}`,
    }));
    for (const [i, language] of ['de', 'en', 'fr'].entries()) {
        await s.node.get('/v', { 'Accept-Language': language });
        await holds(s.node, i + 2); // and the names
    }
    await again(s, { kill: true });
    for (const language of ['en', 'de', 'fr']) {
        const response = fromDisk(await s.node.get('/v', { 'Accept-Language': language }));
        assert.equal(response.text, `in ${language}`);
    }
    assert.equal(s.origin.count, 3);
    assert.equal((await s.node.get('/v', { 'Accept-Language': 'nl' })).text, 'in nl');
    assert.equal(s.origin.count, 4);
});

flow('another encryption key finds nothing, says so, and nothing is in clear', { node: false }, async (s) => {
    await diskNode(s, { disk: { key: KEY }, route: { disk: 'pin' } });
    s.origin.answers({ headers: { ...FRESH, 'X-Secret': 'clandestine-head' }, body: 'clandestine-body '.repeat(100) });
    await s.node.get('/secret-path');
    await holds(s.node, 1);
    await again(s);
    fromDisk(await s.node.get('/secret-path'));
    const stored = fs.readdirSync(s.path, { recursive: true }).map((name) => path.join(s.path, name))
        .filter((file) => fs.statSync(file).isFile() && !file.includes('state.db'));
    for (const file of stored) {
        const text = fs.readFileSync(file, 'latin1');
        assert.ok(!/clandestine|secret-path/.test(text), `${file} is in clear`);
    }
    await again(s, { change: (config) => { config.disk.key = KEY.replaceAll('0', 'f'); } });
    assert.equal(await metric(s.node, 'objects'), 0);
    assertForwarded(await s.node.get('/secret-path'));
    assert.match(s.node.stdout + s.node.stderr, /key/i, 'the log says why it is empty');
});

for (const [what, fail] of [['full', 'full'], ['read-only', 'readOnly'], ['broken', 'broken']]) {
    flow(`a disk that is ${what} while the node serves: nothing but misses`, { node: false }, async (s) => {
        const at = path.join(folder(s), 'tier');
        const faults = new DiskFaults(at);
        await diskNode(s, { env: faults.env, disk: { path: at }, route: { disk: 'pin' },
            config: { memory: { size: '1M', max_object: '200K' } } });
        s.origin.answers((exchange) => ({ headers: FRESH, body: bytes(50_000, exchange.target.length) }));
        await s.node.get('/before');
        await holds(s.node, 1);
        faults[fail]();
        for (let i = 0; i < 60; i++) {
            const response = await s.node.get(`/during/${'x'.repeat(i)}`);
            assert.equal(response.status, 200);
            assert.ok(response.body.equals(bytes(50_000, 8 + i)));
        }
        for (const target of ['/before', '/during/', '/during/xxx']) {
            assert.ok((await s.node.get(target)).body.equals(bytes(50_000, target.length)));
        }
        await until(async () => (await metric(s.node, 'up')) === 0, 'the tier is off');
        assert.ok((await metric(s.node, 'switched_off_total')) >= 1);
        await s.node.line(/warn: disk tier switched itself off/);
        assert.equal((await s.node.get('/more')).status, 200);
        faults.clear();
        await until(async () => (await metric(s.node, 'up')) === 1, 'the tier is on again', 15_000);
        await s.node.get('/after');
        await until(async () => (await metric(s.node, 'objects')) > 0 && (await metric(s.node, 'queued_bytes')) === 0, 'stored');
        await again(s, { kill: true });
        fromDisk(await s.node.get('/after'));
    });
}

flow('reads that fail while a big body is served: the client sees a cut, never wrong bytes; the next asks the origin',
    { node: false }, async (s) => {
        const at = path.join(folder(s), 'tier');
        const faults = new DiskFaults(at);
        const whole = bytes(3_000_000, 4);
        await diskNode(s, { env: faults.env, disk: { path: at }, route: { disk: 'pin' },
            config: { memory: { size: '8M', max_object: '64K' } } });
        s.origin.answers({ headers: FRESH, body: whole });
        await s.node.get('/big');
        await holds(s.node, 1);
        faults.set({ read: 'EIO', after: 8, cold: true });
        const response = await s.node.get('/big').catch((error) => error);
        if (!(response instanceof Error)) {
            assert.ok(whole.subarray(0, response.body.length).equals(response.body), 'what came is right');
        }
        assert.equal((await s.node.get('/small')).status, 200);
        await until(async () => {
            const next = await s.node.get('/big').catch(() => null);
            return next?.body.equals(whole);
        }, 'the node does without such a disk');
        faults.clear();
    });

flow('the folder is removed under the node', { node: false }, async (s) => {
    await diskNode(s, { route: { disk: 'pin' } });
    s.origin.answers({ headers: FRESH, body: bytes(200_000, 2) });
    await s.node.get('/a');
    await holds(s.node, 1);
    fs.rmSync(s.path, { recursive: true });
    for (let i = 0; i < 60; i++) {
        assert.ok((await s.node.get(`/a${i}`)).body.equals(bytes(200_000, 2)));
    }
    assert.equal((await s.node.get('/a')).status, 200);
    const answer = await s.node.admin('/purge?url=/a', { method: 'POST' });
    assert.ok([200, 503].includes(answer.status), answer.text);
    assertForwarded(await s.node.get('/a'));
});

flow('a small file system runs full, and has room again', { node: false, skip: noTmpfs() }, async (s) => {
    const tmpfs = await s.use(mountTmpfs({ size: '80m' }));
    await diskNode(s, { disk: { path: path.join(tmpfs.path, 'tier'), size: '64M' }, route: { disk: 'pin' },
        config: { memory: { size: '1M', max_object: '512K' }, state: { path: path.join(folder(s), 'state.db') } } });
    s.origin.answers((exchange) => ({ headers: FRESH, body: bytes(300_000, exchange.target.length) }));
    await s.node.get('/a');
    await holds(s.node, 1);
    tmpfs.fill();
    for (let i = 0; i < 60; i++) {
        assert.ok((await s.node.get(`/${'x'.repeat(i + 2)}`)).body.equals(bytes(300_000, i + 3)));
    }
    tmpfs.free();
    await until(async () => {
        await s.node.get(`/again${Math.floor(Math.random() * 1e6)}`);
        return (await metric(s.node, 'up')) === 1 && (await metric(s.node, 'objects')) > 3;
    }, 'it stores again', 15_000);
    await again(s);
    assert.ok((await s.node.get('/a')).body.equals(bytes(300_000, 2)));
});

/** Each way to purge '/p/a', and what it must not touch. */
const WAYS = {
    tag: 'tag=red', prefix: 'prefix=/p', url: 'url=http://site.test/p/a', host: 'host=site.test', all: 'all=1',
    group: `group=${encodeURIComponent('http://site.test mine')}`,
};
for (const [kind, what] of Object.entries(WAYS)) {
    flow(`purged by ${kind}, then killed: never served again`, { node: false }, async (s) => {
        await diskNode(s, { route: { disk: 'pin' } });
        s.origin.answers((exchange) => ({
            headers: exchange.target === '/p/a' ? { ...FRESH, 'Cache-Tag': 'blue, red', 'Cache-Groups': '"mine", "other"' } : FRESH,
        }));
        const first = await s.node.get('/p/a');
        await s.node.get('/q');
        await holds(s.node, 2);
        const purge = await s.node.admin(`/purge?${what}`, { method: 'POST' });
        assert.equal(purge.status, 200, purge.text);
        await again(s, { kill: true });
        const second = await s.node.get('/p/a');
        assertForwarded(second);
        assert.notEqual(second.text, first.text);
        if (!['host', 'all'].includes(kind)) {
            fromDisk(await s.node.get('/q'));
        }
        await until(async () => (await metric(s.node, 'queued_bytes')) === 0, 'written');
        await again(s, { kill: true });
        assert.notEqual((await s.node.get('/p/a')).text, first.text, 'nor after one more');
    });
}

flow('a soft purge survives a kill: what is on disk is asked for again, and serves when the origin is gone', { node: false },
    async (s) => {
        await diskNode(s, { route: { disk: 'pin' } });
        s.origin.answers({ headers: { ...FRESH, ETag: '"a"' } });
        await s.node.get('/a');
        await holds(s.node, 1);
        await s.node.admin('/purge?url=/a&soft=1', { method: 'POST' });
        await again(s, { kill: true });
        await s.origin.gone();
        const stale = await s.node.get('/a');
        assert.equal(stale.status, 200);
        assert.equal(stale.text, 'answer 1');
        await s.origin.back();
        s.origin.answers((exchange) => (exchange.header('if-none-match') === '"a"' ? { status: 304, headers: { ...FRESH, ETag: '"a"' } }
            : { headers: FRESH }));
        const response = await s.node.get('/a');
        assert.equal(response.text, 'answer 1');
        assert.equal(s.origin.requests.at(-1).header('if-none-match'), '"a"');
        assertHit(await s.node.get('/a'));
    });

flow('a write, then kill -9: what was stored before it is not served', { node: false }, async (s) => {
    await diskNode(s, { route: { disk: 'pin' } });
    s.origin.answers((exchange) => ({ headers: exchange.method === 'GET' ? FRESH : {} }));
    await s.node.get('/item');
    await s.node.get('/else');
    await holds(s.node, 2);
    assert.equal((await s.node.get('/item', {}, { method: 'POST', body: 'new' })).status, 200);
    await until(async () => (await metric(s.node, 'queued_bytes')) === 0, 'written');
    await again(s, { kill: true });
    const response = await s.node.get('/item');
    assertForwarded(response);
    assert.equal(response.text, 'answer 4');
    fromDisk(await s.node.get('/else'));
});

for (const big of [false, true]) {
    for (const when of ['before its head', 'after its head', 'in its body']) {
        flow(`a purge while a ${big ? 'big ' : ''}fill is under way (${when}): it is not kept on any rung`, { node: false }, async (s) => {
            const size = big ? 1_000_000 : 10_000;
            await diskNode(s, { route: { disk: 'pin' }, config: { memory: { size: '8M', max_object: '64K' } } });
            const asked = s.node.get('/a');
            const exchange = await s.origin.expect('/a');
            const head = () => exchange.head(200, { ...FRESH, 'Cache-Tag': 'red', 'Content-Length': size });
            const purge = async () => assert.equal((await s.node.admin('/purge?tag=red', { method: 'POST' })).status, 200);
            if (when === 'before its head') {
                await purge();
                await head();
                await exchange.send(bytes(size / 2, 1));
            } else {
                await head();
                if (when === 'in its body') {
                    await exchange.send(bytes(size / 2, 1));
                }
                await s.node.settled();
                await purge();
                if (when !== 'in its body') {
                    await exchange.send(bytes(size / 2, 1));
                }
            }
            await exchange.send(bytes(size / 2, 1));
            assert.equal((await asked).body.length, size, 'who asked before gets the answer');
            s.origin.answers({ headers: { ...FRESH, 'Cache-Tag': 'red' }, body: 'new' });
            await again(s, { kill: true });
            const second = await s.node.get('/a');
            assertForwarded(second);
            assert.equal(second.text, 'new');
        });
    }
}

flow('Cache-Status of a range, a HEAD and a conditional request name the rung', { node: false }, async (s) => {
    await diskNode(s, { route: { disk: 'pin' } });
    s.origin.answers({ headers: { ...FRESH, ETag: '"a"' }, body: 'abcdefgh' });
    for (const target of ['/1', '/2', '/3']) {
        await s.node.get(target);
    }
    await holds(s.node, 3);
    await again(s);
    const part = await s.node.get('/1', { Range: 'bytes=2-3' });
    assert.equal(part.text, 'cd');
    assert.equal(cacheStatus(part).detail, 'disk');
    const head = await s.node.get('/2', {}, { method: 'HEAD' });
    assert.equal(cacheStatus(head).detail, 'disk');
    const same = await s.node.get('/3', { 'If-None-Match': '"a"' });
    assert.equal(same.status, 304);
    assert.equal(cacheStatus(same).detail, 'disk');
    assert.equal(s.origin.count, 3);
});
