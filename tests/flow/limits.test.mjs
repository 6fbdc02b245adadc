/* Every limit has a defined answer. */
import assert from 'node:assert/strict';
import http from 'node:http';
import { flow } from './harness/flow.mjs';

const fresh = { headers: { 'Cache-Control': 'max-age=600' } };
const limits = (values) => ({ config: { limits: values } });

flow('a head over 32 KiB is 431', async ({ connect, origin }) => {
    const client = await connect();
    await client.send(`GET /a HTTP/1.1\r\nHost: site.test\r\nX-Big: ${'x'.repeat(40_000)}\r\n\r\n`);
    assert.equal((await client.response('GET')).status, 431);
    assert.equal(origin.count, 0);
});

flow('a head that never ends is 431 once it is too large', async ({ connect }) => {
    const client = await connect();
    await client.send(`GET /a HTTP/1.1\r\nHost: site.test\r\nX-Big: ${'x'.repeat(40_000)}`);
    assert.equal((await client.response('GET')).status, 431);
});

flow('more than 100 fields is 431', async ({ get, origin }) => {
    origin.answers(fresh);
    const fields = (count) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`X-${i}`, '1']));
    assert.equal((await get('/a', fields(90))).status, 200);
    assert.equal((await get('/b', fields(120))).status, 431);
});

flow('a target over 8 KiB is 414', async ({ get, origin }) => {
    origin.answers(fresh);
    assert.equal((await get(`/${'a'.repeat(8000)}`)).status, 200);
    assert.equal((await get(`/${'a'.repeat(8300)}`)).status, 414);
});

flow('the limits can be set', limits({ head: '4K', fields: 10, target: '1K' }), async ({ get, origin }) => {
    origin.answers(fresh);
    assert.equal((await get('/a', { 'X-Big': 'x'.repeat(5000) })).status, 431);
    assert.equal((await get(`/${'a'.repeat(1100)}`)).status, 414);
    assert.equal((await get('/a')).status, 200);
});

flow('a body over the route\'s limit is 413, announced or not', { route: { body_limit: '1K' } }, async (s) => {
    const { get, connect, origin } = s;
    origin.answers({});
    assert.equal((await get('/a', {}, { method: 'POST', body: 'x'.repeat(1000) })).status, 200);
    assert.equal((await get('/a', {}, { method: 'POST', headers: {}, body: 'x'.repeat(2000) })).status, 413);
    assert.equal(origin.count, 1);
    const client = await connect();
    await client.ask('/b', { method: 'POST', headers: { 'Transfer-Encoding': 'chunked' } });
    await client.send(`400\r\n${'x'.repeat(1024)}\r\n400\r\n${'x'.repeat(1024)}\r\n`);
    assert.equal((await client.response()).status, 413);
    await client.closed();
});

flow('who sends 40 MB before reading still reads the 413', { route: { body_limit: '32M' } }, async ({ node, origin }) => {
    origin.answers({});
    for (const headers of [{ 'Content-Length': 40 << 20 }, { 'Transfer-Encoding': 'chunked' }]) {
        const status = await new Promise((resolve, reject) => {
            const request = http.request({ host: '127.0.0.1', port: node.port, method: 'POST', path: '/a', agent: false, headers }, (response) => {
                response.resume();
                response.on('end', () => resolve(response.statusCode));
            });
            request.on('error', reject);
            request.end(Buffer.alloc(40 << 20, 'x'));
        });
        assert.equal(status, 413);
    }
});

flow('a head that trickles in gets 408 and a close', limits({ header_timeout: '300ms' }), async ({ connect }) => {
    const client = await connect();
    await client.send('GET /a HTTP/1.1\r\nHost: si');
    const trickle = setInterval(() => client.send('x'), 50);
    try {
        const response = await client.response('GET');
        assert.equal(response.status, 408);
        await client.closed();
    } finally {
        clearInterval(trickle);
    }
});

flow('a body that stops gets 408 and a close', limits({ body_timeout: '300ms' }), async ({ connect, origin }) => {
    const client = await connect();
    await client.ask('/a', { method: 'POST', headers: { 'Content-Length': 100 } });
    await client.send('x');
    const exchange = await origin.expect('/a', { whole: false });
    assert.equal((await client.response()).status, 408);
    await client.closed();
    assert.equal((await exchange.body()).length, 1);
});

flow('an idle connection is closed without a word', limits({ idle_timeout: '200ms', header_timeout: '400ms' }), async ({ connect, origin }) => {
    origin.answers(fresh);
    const client = await connect();
    await client.request('/a');
    await client.closed();
    const silent = await connect();
    const said = (await silent.rest()).toString('latin1');
    assert.ok(said === '' || said.startsWith('HTTP/1.1 408'), said);
});

flow('a client that does not read its answer is dropped', { ...limits({ write_timeout: '300ms' }) }, async (s) => {
    const { connect, origin, node, get } = s;
    origin.answers({ headers: { 'Cache-Control': 'max-age=600' }, body: 'x'.repeat(20_000_000) });
    await get('/a');
    const client = await connect();
    await client.ask('/a');
    await client.head();
    while ((await node.metrics()).get('doorstep_connections') > 0) {
        // until the node has given up: seen in its own count
    }
    const got = (await client.rest()).length;
    assert.ok(got < 20_000_000, 'cut before its end');
});

flow('a request may take no longer than total_timeout', limits({ total_timeout: '400ms' }), async ({ get, origin }) => {
    origin.answers(() => undefined); // never
    const response = await get('/a').catch((error) => ({ status: 0, error }));
    assert.ok([0, 504, 408, 503].includes(response.status), String(response.status));
});

flow('requests per connection are limited, politely', limits({ requests_per_connection: 3 }), async ({ connect, origin }) => {
    origin.answers(fresh);
    const client = await connect();
    for (let i = 0; i < 2; i++) {
        assert.doesNotMatch((await client.request('/a')).header('connection') ?? '', /close/i);
    }
    assert.match((await client.request('/a')).header('connection'), /close/i);
    await client.closed();
});

flow('connections over the limit are refused or wait; those that are open go on', limits({ connections: 3 }),
    async ({ connect, origin }) => {
        origin.answers(fresh);
        const clients = [await connect(), await connect(), await connect()];
        for (const client of clients) {
            assert.equal((await client.request('/a')).status, 200);
        }
        const extra = await connect();
        await extra.ask('/a');
        const said = await Promise.race([extra.response().then((response) => response.status, () => 'closed'),
            clients[0].request('/a').then(() => clients[0].request('/a')).then(() => 'waits')]);
        assert.ok([503, 'closed', 'waits'].includes(said), String(said));
        assert.equal((await clients[1].request('/a')).status, 200);
        for (const client of clients) {
            client.close();
        }
        const next = await connect(); // room again
        await next.ask('/a');
        const response = await next.response().catch(() => null);
        assert.ok(response === null || [200, 503].includes(response.status));
    });

flow('connections per client are limited', limits({ connections_per_client: 2 }), async ({ connect, origin }) => {
    origin.answers(fresh);
    const clients = [await connect(), await connect()];
    for (const client of clients) {
        assert.equal((await client.request('/a')).status, 200);
    }
    const extra = await connect();
    await extra.ask('/a');
    const status = await extra.response().then((response) => response.status, () => 'closed');
    assert.ok([429, 503, 'closed'].includes(status), String(status));
    assert.equal((await clients[0].request('/a')).status, 200);
});

flow('pipelined requests over the limit wait or end the connection, none is answered wrongly', limits({ pipelined: 2 }),
    async ({ connect, origin }) => {
        origin.answers((exchange) => ({ headers: { 'Cache-Control': 'no-store' }, body: exchange.target }));
        const client = await connect();
        await client.send(Array.from({ length: 10 }, (_, i) => `GET /${i} HTTP/1.1\r\nHost: site.test\r\n\r\n`).join(''));
        for (let i = 0; i < 10; i++) {
            const response = await client.response('GET').catch(() => null);
            if (response === null || response.status !== 200) {
                break;
            }
            assert.equal(response.text, `/${i}`);
        }
    });

flow('out of file descriptors: those connected are served, later ones when others have left', {
    prefix: ['prlimit', '--nofile=48:48'] }, async ({ node, origin, connect, get }) => {
    origin.answers(fresh);
    await get('/a');
    const clients = [];
    for (let i = 0; i < 80; i++) {
        clients.push(await connect()); // the kernel completes these even when the node cannot accept
    }
    await Promise.all(clients.map((client) => client.ask('/a')));
    const first = await clients[0].response();
    assert.equal(first.status, 200);
    for (const client of clients) {
        client.close();
    }
    while (await get('/a').then((response) => response.status, () => 0) !== 200) {
        // until the node has seen those leave
    }
    assert.equal((await node.admin('/healthz')).status, 200);
    assert.match(node.stderr, /out of file descriptors/);
});

flow('memory stays within its limit while more is stored than fits', { config: { memory: { size: '4M' } } }, async (s) => {
    const { get, origin, node } = s;
    origin.answers((exchange) => ({ headers: { 'Cache-Control': 'max-age=600' }, body: exchange.target.padEnd(50_000, '.') }));
    for (let i = 0; i < 300; i++) {
        const response = await get(`/${i}`);
        assert.equal(response.body.length, 50_000);
        assert.ok(response.text.startsWith(`/${i}.`));
    }
    const text = (await node.admin('/metrics')).text;
    const used = Number(/^doorstep_memory\w*bytes(?:\{[^}]*used[^}]*\})? (\d+)/m.exec(text)?.[1] ?? 0);
    assert.ok(used <= 4 * 1024 * 1024, `${used} bytes`);
});
