/* Faults that were found in review, each pinned by a test. */
import assert from 'node:assert/strict';
import { assertForwarded, assertHit, cacheStatus, chunk, flow, LAST_CHUNK } from './harness/flow.mjs';

const fresh = { 'Cache-Control': 'max-age=600' };

flow('a node ends cleanly while a background fetch waits for its origin', async ({ get, origin, node }) => {
    origin.answers({ headers: { 'Cache-Control': 'max-age=0, stale-while-revalidate=600', ETag: '"v"' } });
    await get('/a');
    origin.byHand();
    assertHit(await get('/a'));
    await origin.expect('/a'); // never answered
    await node.settled();
}); // stopped with SIGTERM, exit code 0 expected

flow('a node ends cleanly when the time for requests under way is over',
    { config: { threads: 4, shutdown_timeout: '100ms' } }, async ({ connect, origin, node }) => {
        const clients = await Promise.all(Array.from({ length: 16 }, () => connect()));
        await Promise.all(clients.map((client, i) => client.ask(i % 2 ? `/own/${i}` : '/shared')));
        const exchanges = [];
        for (let i = 0; i < 9; i++) {
            exchanges.push(await origin.expect());
        }
        for (const exchange of exchanges.slice(0, 4)) {
            await exchange.head(200, { ...fresh, 'Content-Length': 100 });
            await exchange.send('begin');
        }
        await node.settled(8);
    });

flow('an origin that answers while it still reads gets the rest of the request body', async ({ connect, origin }) => {
    const client = await connect();
    const size = 8 << 20;
    const sending = client.ask('/echo', { method: 'POST', body: Buffer.alloc(size, 'x') });
    const exchange = await origin.expect('/echo', { whole: false });
    await exchange.head(200, { 'Content-Length': 4 });
    await exchange.send('ab');
    assert.equal((await client.head()).status, 200);
    await exchange.body();
    await exchange.send('cd');
    assert.equal((await client.bytes(4)).toString(), 'abcd');
    assert.equal(exchange.request.body.length, size);
    await sending;
});

flow('a stored part that nobody can continue is fetched whole', async ({ get, origin }) => {
    const whole = 'abcdefghij';
    origin.answers((exchange) => (exchange.header('range') === 'bytes=0-3'
        ? { status: 206, headers: { ...fresh, 'Content-Range': 'bytes 0-3/10' }, body: whole.slice(0, 4) }
        : exchange.header('range')
            ? { status: 206, headers: { ...fresh, 'Content-Range': 'bytes 4-9/10' }, body: whole.slice(4) }
            : { headers: fresh, body: whole }));
    assert.equal((await get('/a', { Range: 'bytes=0-3' })).status, 206);
    const response = await get('/a');
    assert.equal(response.status, 200);
    assert.equal(response.text, whole);
});

flow('a part whose continuation is unusable does not stand in the way', async ({ get, origin }) => {
    const whole = 'abcdefghij';
    origin.answers((exchange) => (exchange.header('range') === 'bytes=0-3'
        ? { status: 206, headers: { ...fresh, ETag: '"1"', 'Content-Range': 'bytes 0-3/10' }, body: whole.slice(0, 4) }
        : exchange.header('range')
            ? { status: 206, headers: { ...fresh, ETag: '"2"', 'Content-Range': 'bytes 5-9/10' }, body: whole.slice(5) }
            : { headers: fresh, body: whole }));
    assert.equal((await get('/a', { Range: 'bytes=0-3' })).status, 206);
    await get('/a');
    const response = await get('/a');
    assert.equal(response.status, 200);
    assert.equal(response.text, whole);
});

flow('what a purge overtook is not stored, also when nobody could join it', async ({ get, origin, connect, node }) => {
    origin.answers({ headers: { 'Cache-Control': 'no-store' } });
    await get('/a'); // leaves a pass marker: the next request shares nothing
    origin.byHand();
    const client = await connect();
    await client.ask('/a');
    const exchange = await origin.expect('/a');
    const purge = await node.admin('/purge?url=' + encodeURIComponent('http://site.test/a'), { method: 'POST' });
    assert.ok(purge.status < 300, `purge: ${purge.startLine} ${purge.text}`);
    await exchange.reply({ headers: fresh, body: 'old' });
    assert.equal((await client.response()).text, 'old');
    origin.answers({ headers: fresh, body: 'new' });
    assert.equal((await get('/a')).text, 'new');
});

flow('an HTTP/1.0 request with Expect is served as if it had none (RFC 9110 section 10.1.1)', async ({ get, origin }) => {
    origin.answers({});
    const response = await get('/a', { Expect: '100-continue' }, { method: 'POST', body: 'x', version: 'HTTP/1.0' });
    assert.equal(response.status, 200);
    assert.equal(origin.requests[0].header('expect'), undefined);
});

flow('a background fetch of what may not be stored is given up', async ({ get, origin, node }) => {
    origin.answers({ headers: { 'Cache-Control': 'max-age=0, stale-while-revalidate=600', ETag: '"v"' } });
    await get('/a');
    origin.byHand();
    assertHit(await get('/a'));
    const exchange = await origin.expect('/a');
    await exchange.head(200, { 'Cache-Control': 'no-store', 'Transfer-Encoding': 'chunked' });
    await exchange.send(chunk('x'.repeat(1000)));
    await exchange.closed();
});

flow('the answers 412 and 416 have a Date', async ({ get, origin }) => {
    origin.answers({ headers: { ...fresh, ETag: '"v"' }, body: 'abc' });
    await get('/a');
    const unmatched = await get('/a', { 'If-Match': '"other"' });
    assert.equal(unmatched.status, 412);
    assert.ok(unmatched.header('date'));
    const outside = await get('/a', { Range: 'bytes=10-' });
    assert.equal(outside.status, 416);
    assert.ok(outside.header('date'));
});

flow('a write to a very long target invalidates it too', async ({ get, origin }) => {
    const target = `/a?${'q'.repeat(6000)}`;
    origin.answers({ headers: fresh });
    await get(target);
    assertHit(await get(target));
    await get(target, {}, { method: 'POST', body: 'x' });
    assertForwarded(await get(target));
});

flow('an HTTP/1.0 client cannot upgrade: its Upgrade is not passed on (RFC 9110 section 7.8)', async ({ get, origin }) => {
    origin.answers({});
    await get('/a', { Connection: 'upgrade', Upgrade: 'websocket' }, { version: 'HTTP/1.0' });
    assert.equal(origin.requests[0].header('upgrade'), undefined);
});

flow('a port behind an IPv6 literal is not part of the name a route matches', {
    config: { routes: [{ match: '[2001:db8::1]/*', upstream: 'app' }] },
}, async ({ get, origin }) => {
    origin.answers({});
    assert.equal((await get('/a', { Host: '[2001:db8::1]' })).status, 200);
    assert.equal((await get('/a', { Host: '[2001:db8::1]:8080' })).status, 200);
    assert.equal((await get('/a', { Host: '[2001:db8::2]:8080' })).status, 404);
});

flow('a tunnel one side of which is closed ends when nothing comes from the other', {
    config: { limits: { idle_timeout: '200ms' } },
}, async ({ connect, origin }) => {
    const client = await connect();
    await client.ask('/up', { headers: { Connection: 'upgrade', Upgrade: 'x' } });
    const exchange = await origin.expect('/up');
    await exchange.send('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n');
    assert.equal((await client.interim()).status, 101);
    client.end();
    await exchange.closed(); // the origin never closes
});

flow('trailers that would frame, route or vouch for a message are dropped (RFC 9110 section 6.5.1)', async ({ connect, origin }) => {
    const client = await connect();
    await client.ask('/a', { method: 'POST', headers: { 'Transfer-Encoding': 'chunked', TE: 'trailers' } });
    await client.send('3\r\nabc\r\n0\r\nX-Sum: 6\r\nContent-Length: 9\r\nHost: evil\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n');
    const exchange = await origin.expect('/a');
    assert.deepEqual(exchange.request.trailers, [['X-Sum', '6']]);
    await exchange.head(200, { 'Transfer-Encoding': 'chunked' });
    await exchange.send('3\r\nabc\r\n0\r\nSet-Cookie: a=b\r\nX-Sum: 3\r\nContent-Length: 1\r\n\r\n');
    assert.deepEqual((await client.response()).trailers, [['X-Sum', '3']]);
});
