/* What an answer tells about itself: Cache-Status, Proxy-Status, Server-Timing, X-Request-Id. */
import assert from 'node:assert/strict';
import { assertForwarded, assertHit, cacheStatus, flow, proxyStatus, siteConfig } from './harness/flow.mjs';

const fresh = { headers: { 'Cache-Control': 'max-age=600', ETag: '"v"' } };

flow('Cache-Status names the node, and says hit, ttl and tier', async ({ get, origin }) => {
    origin.answers(fresh);
    await get('/a');
    const response = await get('/a');
    const found = assertHit(response);
    assert.equal(found.name, 'test-1');
    assert.ok(found.ttl > 590 && found.ttl <= 600);
    assert.equal(found.detail, 'memory');
});

flow('a miss says uri-miss, the origin\'s status and stored', async ({ get, origin }) => {
    origin.answers(fresh);
    const found = assertForwarded(await get('/a'), 'uri-miss');
    assert.equal(found.stored, true);
    assert.ok(found['fwd-status'] === 200 || found['fwd-status'] === undefined);
});

flow('what is not stored does not say stored', async ({ get, origin }) => {
    origin.answers({ headers: { 'Cache-Control': 'private' } });
    assert.equal(assertForwarded(await get('/a')).stored, undefined);
});

flow('each kind of forwarding has its word', async ({ get, origin }) => {
    origin.answers(fresh);
    await get('/a');
    assertForwarded(await get('/a', { 'Cache-Control': 'no-cache' }), 'request');
    assertForwarded(await get('/a', {}, { method: 'POST', body: 'x' }), 'method');
    origin.answers({ headers: { 'Cache-Control': 'max-age=600', Age: '700', ETag: '"v"' } });
    await get('/stale');
    assertForwarded(await get('/stale'), 'stale');
    origin.answers({ headers: { 'Cache-Control': 'max-age=600', Vary: 'X-A' } });
    await get('/vary', { 'X-A': '1' });
    assertForwarded(await get('/vary', { 'X-A': '2' }), 'vary-miss');
});

flow('Cache-Status of the origin\'s own caches is kept in front', async ({ get, origin }) => {
    origin.answers({ headers: { ...fresh.headers, 'Cache-Status': 'inner; hit' } });
    const response = await get('/a');
    assert.match(response.header('cache-status'), /^inner; hit, *"?test-1"?;/);
    const again = await get('/a');
    assert.match(again.header('cache-status'), /^inner; hit, *"?test-1"?; *hit/);
});

flow('a route can leave these fields out', { route: { cache_status: false, server_timing: false, request_id: false } },
    async ({ get, origin }) => {
        origin.answers(fresh);
        const response = await get('/a');
        for (const name of ['cache-status', 'server-timing', 'x-request-id']) {
            assert.equal(response.header(name), undefined, name);
        }
        assert.equal(origin.requests[0].header('x-request-id'), undefined);
    });

flow('Server-Timing has a member per step that took time, after the origin\'s own', async ({ get, origin }) => {
    origin.answers({ headers: { ...fresh.headers, 'Server-Timing': 'db;dur=5' } });
    const response = await get('/a');
    const members = response.header('server-timing').split(/ *, */);
    assert.equal(members[0], 'db;dur=5');
    assert.ok(members.length > 1);
    members.forEach((member) => assert.match(member, /^[\w-]+(;[^;]+)*$/));
});

flow('X-Request-Id is accepted, returned and passed on; made when missing', async ({ get, origin }) => {
    origin.answers({ headers: { 'Cache-Control': 'no-store' } });
    const given = await get('/a', { 'X-Request-Id': 'abc-123' });
    assert.equal(given.header('x-request-id'), 'abc-123');
    assert.equal(origin.requests[0].header('x-request-id'), 'abc-123');
    const made = await get('/a');
    assert.match(made.header('x-request-id'), /^[\w-]{8,}$/);
    assert.equal(origin.requests[1].header('x-request-id'), made.header('x-request-id'));
    const other = await get('/a');
    assert.notEqual(other.header('x-request-id'), made.header('x-request-id'));
});

flow('a request id that could do harm is replaced', async ({ get, origin }) => {
    origin.answers(fresh);
    for (const id of ['x'.repeat(2000), 'a"b<script>', 'a b;c']) {
        assert.notEqual((await get('/a', { 'X-Request-Id': id })).header('x-request-id'), id);
    }
});

flow('a hit carries the asking request\'s id, not the stored one', async ({ get, origin }) => {
    origin.answers(fresh);
    await get('/a', { 'X-Request-Id': 'first-one' });
    assert.equal((await get('/a', { 'X-Request-Id': 'second-one' })).header('x-request-id'), 'second-one');
});

flow('traceparent is passed on with its trace id, and started when missing', async ({ get, origin }) => {
    origin.answers({ headers: { 'Cache-Control': 'no-store' } });
    await get('/a', { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', tracestate: 'x=1' });
    assert.match(origin.requests[0].header('traceparent'), /^00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-01$/);
    assert.equal(origin.requests[0].header('tracestate'), 'x=1');
    await get('/a');
    assert.match(origin.requests[1].header('traceparent'), /^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/);
    await get('/a', { traceparent: 'nonsense' });
    assert.match(origin.requests[2].header('traceparent') ?? '00-', /^00-/);
});

flow('errors made here carry Proxy-Status and a short body, HTML or JSON by Accept', async ({ get, origin }) => {
    await origin.gone();
    const plain = await get('/a', { Accept: 'text/html,*/*;q=0.8' });
    assert.equal(plain.status, 502);
    const found = proxyStatus(plain);
    assert.equal(found.name, 'test-1');
    assert.equal(found.error, 'connection_refused');
    assert.match(plain.header('content-type'), /^text\/html/);
    assert.ok(plain.body.length > 20 && plain.body.length < 4096);
    const json = await get('/a', { Accept: 'application/json' });
    assert.match(json.header('content-type'), /^application\/(problem\+)?json/);
    assert.equal(typeof JSON.parse(json.text), 'object');
    assert.doesNotMatch(plain.text, new RegExp(`127\\.0\\.0\\.1|${origin.port}`), 'addresses inside stay inside');
    assert.match(plain.header('cache-control') ?? 'no-store', /no-store/);
    await origin.back();
});

flow('an error body does not echo what the client sent', async ({ get, origin }) => {
    await origin.gone();
    const response = await get('/%3Cscript%3Ealert(1)%3C/script%3E?<b>', { Accept: 'text/html' });
    assert.doesNotMatch(response.text, /<script>alert|<b>/);
    await origin.back();
});

flow('an origin\'s own error passes unchanged, without Proxy-Status of ours', async ({ get, origin }) => {
    origin.answers({ status: 500, headers: { 'Content-Type': 'text/plain' }, body: 'mine' });
    const response = await get('/a');
    assert.equal(response.text, 'mine');
    assert.equal(response.header('proxy-status'), undefined);
});

flow('a host no route knows gets a 404 of ours', { config: { routes: [{ match: 'site.test/*', upstream: 'app' }] } },
    async ({ get, origin }) => {
        origin.answers(fresh);
        assert.equal((await get('/a')).status, 200);
        const response = await get('/a', { Host: 'other.test' });
        assert.equal(response.status, 404);
        assert.equal(cacheStatus(response).hit, undefined);
    });

flow('the longest match decides the route', { config: { routes: [
    { match: '/*', upstream: 'app' }, { match: '/static/*', upstream: 'app', ttl: '1h' },
    { match: '/static/live/*', upstream: 'app', cache: false }] } }, async ({ get, origin }) => {
    origin.answers({});
    for (const [target, hit] of [['/a', false], ['/static/a', true], ['/static/live/a', false]]) {
        await get(target);
        assert.equal(cacheStatus(await get(target)).hit === true, hit, target);
    }
});

flow('nodes chain: each adds its own member, Age grows through both', async (s) => {
    const { origin, node } = s;
    const child = await s.startNode({ config: siteConfig([`http://127.0.0.1:${node.port}`], {
        config: { node: { name: 'child-1' } } }) });
    origin.answers({ headers: { 'Cache-Control': 'max-age=600', Age: '100' } });
    const first = await child.get('/a');
    assert.match(first.header('cache-status'), /"?test-1"?; *fwd=uri-miss.*, *"?child-1"?; *fwd=uri-miss/);
    assert.match(first.header('via'), /1\.1 test-1, *1\.1 child-1/);
    assert.match(origin.requests[0].header('via'), /1\.1 child-1, *1\.1 test-1/);
    const second = await child.get('/a');
    const { ttl } = assertHit(second);
    assert.ok(ttl <= 500 && Number(second.header('age')) >= 100);
    assert.equal(origin.count, 1);
    await node.kill();
    assertHit(await child.get('/a'));
});
