/* Writes make stored answers go away. */
import assert from 'node:assert/strict';
import { assertForwarded, assertHit, flow } from './harness/flow.mjs';

const fresh = { headers: { 'Cache-Control': 'max-age=600', ETag: '"v"' } };

/** Stores `target`, writes, and says whether `target` was still a hit. */
async function survives({ get, origin }, target, write, { method = 'POST', status = 200, headers = {} } = {}) {
    origin.answers(fresh);
    await get(target);
    origin.answers({ status, headers });
    await get(write, {}, { method, body: method === 'DELETE' ? undefined : 'x' });
    origin.answers(fresh);
    const before = origin.count;
    const response = await get(target);
    assert.equal(response.status, 200);
    return origin.count === before;
}

flow('a 2xx or 3xx to an unsafe method invalidates its target', async (s) => {
    for (const [at, [method, status]] of [['POST', 200], ['PUT', 204], ['DELETE', 200], ['PATCH', 200], ['POST', 303],
        ['PUT', 301], ['POST', 299]].entries()) {
        assert.equal(await survives(s, `/${at}`, `/${at}`, { method, status }), false, `${method} ${status}`);
    }
});

flow('an unknown method invalidates too', async (s) => {
    assert.equal(await survives(s, '/a', '/a', { method: 'FROBNICATE' }), false);
});

flow('a 4xx or 5xx does not invalidate', async (s) => {
    for (const [at, status] of [400, 403, 404, 409, 500, 503].entries()) {
        assert.equal(await survives(s, `/${at}`, `/${at}`, { status }), true, String(status));
    }
});

flow('safe methods do not invalidate', async (s) => {
    assert.equal(await survives(s, '/a', '/a', { method: 'OPTIONS' }), true);
});

flow('Location and Content-Location of the same origin are invalidated', async (s) => {
    for (const [at, field] of ['Location', 'Content-Location'].entries()) {
        for (const [n, value] of [(path) => path, (path) => `http://site.test${path}`, (path) => `http://SITE.test:80${path}`]
            .entries()) {
            const target = `/t${at}${n}`;
            assert.equal(await survives(s, target, '/form', { status: 201, headers: { [field]: value(target) } }), false,
                `${field}: ${value(target)}`);
        }
    }
});

flow('Location of another origin is left alone', async (s) => {
    for (const [at, field] of ['Location', 'Content-Location'].entries()) {
        const target = `/t${at}`;
        const headers = { [field]: `http://other.test${target}` };
        assert.equal(await survives(s, target, '/form', { status: 201, headers }), true, field);
    }
});

flow('all variants of the target go', async ({ get, origin }) => {
    origin.answers({ headers: { 'Cache-Control': 'max-age=600', Vary: 'X-A' } });
    await get('/a', { 'X-A': '1' });
    await get('/a', { 'X-A': '2' });
    origin.answers({});
    await get('/a', {}, { method: 'POST', body: 'x' });
    origin.answers({ headers: { 'Cache-Control': 'max-age=600', Vary: 'X-A' } });
    assertForwarded(await get('/a', { 'X-A': '1' }));
    assertForwarded(await get('/a', { 'X-A': '2' }));
});

flow('a fill that was under way when a write succeeded is not stored', async ({ connect, origin, get }) => {
    const reader = await connect();
    reader.ask('/a');
    const before = await origin.expect('/a');
    const writer = await connect();
    writer.ask('/a', { method: 'POST', body: 'x' });
    const write = await origin.expect('/a');
    await write.reply({});
    await writer.response();
    await before.reply({ ...fresh, body: 'from before the write' });
    assert.equal((await reader.response()).text, 'from before the write');
    origin.answers({ ...fresh, body: 'after' });
    assert.equal((await get('/a')).text, 'after');
    assertHit(await get('/a'));
});
