/* Behind and before other proxies: schemes apart, who is believed, the request id's name; what an answer says of its way. */
import assert from 'node:assert/strict';
import { assertForwarded, assertHit, cacheStatus, flow, run, siteConfig } from './harness/flow.mjs';

const fresh = { headers: { 'Cache-Control': 'max-age=600', ETag: '"v"' }, body: 'hello' };
const stale = { headers: { 'Cache-Control': 'max-age=60', Age: '100', ETag: '"v"' }, body: 'hello' };
const trusting = { config: { trusted_proxies: ['127.0.0.0/8'] } };
const https = { 'X-Forwarded-Proto': 'https' };

flow('http and https share nothing: a stored redirect to https does not answer https', trusting, async ({ get, origin }) => {
    origin.answers((exchange) => (exchange.header('x-forwarded-proto') === 'https' ? fresh
        : { status: 301, headers: { Location: 'https://site.test/a', 'Cache-Control': 'max-age=600' } }));
    assert.equal((await get('/a')).status, 301);
    assert.equal((await get('/a', https)).status, 200);
    assert.ok(cacheStatus(await get('/a')).hit);
    const again = await get('/a', https);
    assertHit(again);
    assert.equal(again.text, 'hello');
});

flow('a purge by path reaches both schemes, by URL its own', trusting, async ({ get, origin, node }) => {
    origin.answers(fresh);
    const purge = async (target) => (await run(['purge', '--admin', `127.0.0.1:${node.adminPort}`, '--url', target])).stdout;
    const both = async () => { await get('/a'); await get('/a', https); };
    await both();
    assert.match(await purge('/a'), /^purged: url \/a$/m);
    assertForwarded(await get('/a'));
    assertForwarded(await get('/a', https));
    await both();
    assert.match(await purge('https://site.test/a'), /^purged: url https/);
    assertHit(await get('/a'));
    assertForwarded(await get('/a', https));
});

flow('a write drops what is stored for its own scheme', trusting, async ({ get, origin }) => {
    origin.answers(fresh);
    await get('/a');
    await get('/a', https);
    await get('/a', https, { method: 'POST', body: 'x' });
    assertHit(await get('/a'));
    assertForwarded(await get('/a', https), 'uri-miss');
});

flow('what a stranger says of who is behind it goes no further', { route: { forwarded: 'none' } }, async ({ get, origin }) => {
    origin.answers(fresh);
    await get('/a', { Forwarded: 'for=203.0.113.7;host=evil.test', 'X-Forwarded-For': '203.0.113.7',
        'X-Forwarded-Host': 'evil.test', ...https });
    for (const name of ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto']) {
        assert.equal(origin.requests[0].header(name), undefined, name);
    }
});

flow('what a trusted proxy says in fields that the node does not write passes', {
    ...trusting, route: { forwarded: 'x_forwarded' } }, async ({ get, origin }) => {
    origin.answers(fresh);
    await get('/a', { Forwarded: 'for=203.0.113.7' });
    assert.equal(origin.requests[0].header('forwarded'), 'for=203.0.113.7');
});

flow('headers.request_id is the name that is read, too', { config: { headers: { request_id: 'X-Trace' } } },
    async ({ get, origin }) => {
        origin.answers(fresh);
        const response = await get('/a', { 'X-Trace': 'mine-1', 'X-Request-Id': 'other' });
        assert.deepEqual(origin.requests[0].all('x-trace'), ['mine-1']);
        assert.equal(origin.requests[0].header('x-request-id'), 'other');
        assert.equal(response.header('x-trace'), 'mine-1');
    });

flow('a range outside the stored part says partial', async ({ get, origin }) => {
    const part = (from, to) => ({ status: 206, headers: { ...fresh.headers, 'Content-Range': `bytes ${from}-${to}/26` },
        body: 'x'.repeat(to - from + 1) });
    origin.answers((exchange) => (exchange.header('range') === 'bytes=0-9' ? part(0, 9) : part(20, 25)));
    await get('/a', { Range: 'bytes=0-9' });
    assertForwarded(await get('/a', { Range: 'bytes=20-25' }), 'partial');
});

flow('what is not stored says why it was asked for, and in detail why it was not kept', async ({ get, origin }) => {
    origin.answers({ headers: { 'Cache-Control': 'private' } });
    const found = assertForwarded(await get('/a'), 'uri-miss');
    assert.equal(found.detail, 'private');
});

flow('when the origin fails the answer says why it was asked', async ({ get, origin }) => {
    origin.answers({ ...stale, headers: { ...stale.headers, 'Cache-Control': 'max-age=60, must-revalidate' } });
    await get('/a');
    await origin.stop();
    const failed = await get('/a');
    assert.equal(failed.status, 502);
    assert.equal(cacheStatus(failed).fwd, 'stale');
    const missing = await get('/b');
    assert.equal(missing.status, 502);
    assert.equal(cacheStatus(missing).fwd, 'uri-miss');
});

flow('what is softly purged has no time left', { route: { stale_while_revalidate: '1d' } }, async ({ get, origin, node }) => {
    origin.answers(fresh);
    await get('/a');
    await node.admin('/purge?all=1&soft=1', { method: 'POST' });
    origin.byHand();
    const response = await get('/a');
    assert.equal(assertHit(response).ttl, 0);
    await (await origin.expect('/a')).reply(fresh);
});

for (const [name, key, fields] of [['cookies', { cookies: ['who'] }, (who) => ({ Cookie: `who=${who}` })],
    ['headers', { headers: ['X-Plan'] }, (who) => ({ 'X-Plan': who })]]) {
    flow(`a write drops what ${name} in the key made of its URL`, { route: { key } }, async ({ get, origin }) => {
        origin.answers(fresh);
        for (const who of ['ann', 'bob']) {
            await get('/a', fields(who));
            await get('/b', fields(who));
        }
        assertHit(await get('/a', fields('ann')));
        await get('/a', {}, { method: 'POST', body: 'x' });
        assertForwarded(await get('/a', fields('ann')), 'uri-miss');
        assertForwarded(await get('/a', fields('bob')), 'uri-miss');
        assertHit(await get('/b', fields('ann')));
    });
}

flow('a reload says what only a restart changes', async ({ origin, node }) => {
    const changed = siteConfig([origin.url], { config: { listen: ['127.0.0.1:1'], memory: { size: '5M' }, threads: 2,
        admin: { listen: '127.0.0.1:0', token: 'new' }, access_log: { path: 'stdout' } } });
    node.configure(changed);
    node.signal('SIGHUP');
    await node.line(/reloaded/);
    const said = node.stdout + node.stderr;
    for (const word of ['listen', 'threads', 'admin', 'access_log']) {
        assert.match(said, new RegExp(`${word}.* changed: restart`));
    }
});

flow('a reload that changes nothing of that kind says nothing of it', async ({ node, origin }) => {
    node.configure(siteConfig([origin.url], { route: { ttl: '1m' } }));
    node.signal('SIGHUP');
    await node.line(/reloaded/);
    assert.doesNotMatch(node.stdout + node.stderr, /restart/);
});

flow('the usage names every option of serve', { node: false }, async () => {
    const { stdout } = await run(['--help']);
    for (const option of ['--listen', '--threads', '--memory', '--admin', '--access-log']) {
        assert.ok(stdout.includes(option), option);
    }
});
