/* Connections to origins: pools, retries, names, TLS. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { assertHit, flow, Origin, proxyStatus, scratch, siteConfig } from './harness/flow.mjs';

const pass = { headers: { 'Cache-Control': 'no-store' } };

flow('connections to the origin are kept and used again', async ({ get, origin }) => {
    origin.answers(pass);
    for (let i = 0; i < 5; i++) {
        assert.equal((await get(`/${i}`)).status, 200);
    }
    assert.equal(origin.conns.length, 1);
});

flow('Connection: close from the origin is respected', async ({ get, origin }) => {
    origin.answers({ headers: { ...pass.headers, Connection: 'close' } });
    await get('/a');
    await get('/b');
    assert.equal(origin.conns.length, 2);
});

flow('an HTTP/1.0 origin closes after each answer', async ({ get, origin }) => {
    origin.answers(async (exchange) => {
        await exchange.send('HTTP/1.0 200 OK\r\nCache-Control: no-store\r\n\r\nold style');
        exchange.end();
    });
    assert.equal((await get('/a')).text, 'old style');
    assert.equal((await get('/b')).text, 'old style');
});

flow('max_connections limits an origin\'s connections; others wait their turn', { upstream: { max_connections: 2 } },
    async ({ connect, origin, node }) => {
        const clients = await Promise.all(Array.from({ length: 5 }, () => connect()));
        await Promise.all(clients.map((client, i) => client.ask(`/${i}`, { method: 'POST', body: 'x' })));
        const first = [await origin.expect(), await origin.expect()];
        await node.settled();
        assert.equal(origin.conns.length, 2);
        origin.answers(pass);
        for (const exchange of first) {
            await exchange.reply(pass);
        }
        for (const client of clients) {
            assert.equal((await client.response()).status, 200);
        }
        assert.equal(origin.conns.length, 2);
    });

/** Leaves one idle connection in the node's pool and returns the next exchange on it, cut before an answer. */
async function cutReused({ get, connect, origin }, method) {
    origin.answers(pass);
    await get('/warm');
    origin.byHand();
    const client = await connect();
    await client.ask('/a', { method, body: ['POST', 'PUT', 'PATCH'].includes(method) ? 'x' : undefined });
    const exchange = await origin.expect('/a');
    assert.equal(exchange.conn, origin.conns[0], 'the idle connection is used');
    origin.answers(pass);
    exchange.close();
    return client.response();
}

for (const method of ['GET', 'HEAD', 'OPTIONS', 'DELETE']) {
    flow(`${method} on a reused connection that closes before the answer is sent again`, async (s) => {
        const response = await cutReused(s, method);
        assert.equal(response.status, 200);
        assert.equal(s.origin.count, 3);
    });
}

for (const method of ['POST', 'PATCH', 'FROB']) {
    flow(`${method} on a reused connection that closes before the answer is never sent again`, async (s) => {
        const response = await cutReused(s, method);
        assert.equal(response.status, 502);
        assert.equal(s.origin.count, 2);
    });
}

flow('an answer that has begun is not asked for again', async ({ get, origin }) => {
    origin.answers(pass);
    await get('/warm');
    origin.answers(async (exchange) => { await exchange.send('HTTP/1.1 20'); exchange.end(); });
    assert.equal((await get('/a')).status, 502);
    assert.equal(origin.count, 2);
});

flow('a fresh connection that closes before the answer is not tried for ever', async ({ get, origin }) => {
    origin.answers((exchange) => { exchange.end(); });
    const response = await get('/a');
    assert.equal(response.status, 502);
    assert.ok(origin.count <= 2);
    assert.ok(proxyStatus(response).error);
});

flow('an idle connection closed by the origin is noticed; POST then uses a fresh one', async ({ get, origin, node }) => {
    origin.answers(pass);
    await get('/warm');
    origin.conns[0].close();
    await node.settled();
    const response = await get('/a', {}, { method: 'POST', body: 'x' });
    assert.equal(response.status, 200);
    assert.equal(origin.conns.length, 2);
});

flow('an origin that falls silent in the middle of a body is given up, the body cut and not stored', {
    upstream: { idle_timeout: '300ms' } }, async ({ connect, get, origin }) => {
    const client = await connect();
    await client.ask('/a');
    const exchange = await origin.expect('/a');
    await exchange.head(200, { 'Cache-Control': 'max-age=600', 'Content-Length': 10 });
    await exchange.send('12345');
    const response = await client.response();
    assert.equal(response.text, '12345');
    assert.equal(response.complete, false);
    await exchange.closed();
    origin.answers({ headers: { 'Cache-Control': 'max-age=600' }, body: 'whole' });
    assert.equal((await get('/a')).text, 'whole');
});

flow('a name is resolved, and the address that answers is used', { server: (origin) => `http://localhost:${origin.port}` },
    async ({ get, origin }) => { // localhost may be ::1 first, where nobody listens
        origin.answers(pass);
        assert.equal((await get('/a')).status, 200);
    });

flow('a name that does not exist gives a clear error', { server: () => 'http://no-such-name.invalid:80' }, async ({ get }) => {
    const response = await get('/a');
    assert.ok([502, 504].includes(response.status));
    assert.match(proxyStatus(response).error, /^dns_/);
});

flow('an origin on IPv6', { origin: { host: '::1' }, server: (origin) => `http://[::1]:${origin.port}` }, async (s) => {
    s.origin.answers(pass);
    assert.equal((await s.get('/a')).status, 200);
});

flow('an origin that is down at start is no reason not to start', async ({ get, origin }) => {
    await origin.gone();
    assert.equal((await get('/a')).status, 502);
    await origin.back();
    origin.answers(pass);
    assert.equal((await get('/b')).status, 200);
});

flow('an unreachable server is passed over for its neighbour', { node: false }, async (s) => {
    const dead = await Origin.start();
    await dead.stop();
    s.origin.answers(pass);
    s.node = await s.startNode({ config: siteConfig([`http://127.0.0.1:${dead.port}`, s.origin.url]) });
    for (let i = 0; i < 4; i++) {
        assert.equal((await s.get(`/${i}`)).status, 200);
    }
});

flow('several servers share the work', { node: false }, async (s) => {
    const other = await s.startOrigin();
    s.origin.answers(pass);
    other.answers(pass);
    s.node = await s.startNode({ config: siteConfig([s.origin.url, other.url]) });
    for (let i = 0; i < 10; i++) {
        await s.get(`/${i}`);
    }
    assert.ok(s.origin.count > 0 && other.count > 0, `${s.origin.count} and ${other.count}`);
});

/* ---- TLS ---- */

const openssl = (...args) => execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'ignore'] });

/** A certificate authority and certificates it signed, made once. */
const pki = (() => {
    const folder = scratch();
    process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
    const at = (name) => path.join(folder, name);
    const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    openssl('req', '-x509', ...newKey, '-keyout', at('ca.key'), '-out', at('ca.pem'), '-days', '2', '-subj', '/CN=Test CA');
    const leaf = (name, san, days = '2') => {
        openssl('req', ...newKey, '-keyout', at(`${name}.key`), '-out', at(`${name}.csr`), '-subj', `/CN=${name}`);
        fs.writeFileSync(at(`${name}.ext`), `subjectAltName=${san}\n`);
        openssl('x509', '-req', '-in', at(`${name}.csr`), '-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial',
            '-days', days, '-extfile', at(`${name}.ext`), '-out', at(`${name}.pem`));
        return { key: fs.readFileSync(at(`${name}.key`)), cert: fs.readFileSync(at(`${name}.pem`)) };
    };
    return { ca: at('ca.pem'), good: leaf('good', 'DNS:origin.test,IP:127.0.0.1,DNS:localhost'),
        other: leaf('other', 'DNS:elsewhere.test'), expired: leaf('expired', 'IP:127.0.0.1', '-1') };
})();

flow('an https origin with our own CA', { origin: { tls: pki.good }, upstream: { tls: { ca: pki.ca } } }, async (s) => {
    const body = 'x'.repeat(500_000);
    s.origin.answers({ headers: { 'Cache-Control': 'max-age=600' }, body });
    assert.equal((await s.get('/a')).text, body);
    assertHit(await s.get('/a'));
    const upload = 'y'.repeat(500_000);
    await s.get('/b', {}, { method: 'POST', body: upload });
    assert.equal(s.origin.requests[1].text, upload);
    assert.equal(s.origin.conns.length, 1);
});

flow('the server name is sent and checked', { origin: { tls: pki.good },
    server: (origin) => `https://localhost:${origin.port}`,
    upstream: { tls: { ca: pki.ca, server_name: 'origin.test' } } }, async ({ get, origin }) => {
    origin.answers(pass);
    assert.equal((await get('/a')).status, 200);
    assert.equal(origin.conns.at(-1).socket.servername, 'origin.test');
});

flow('TLS sessions are resumed', { origin: { tls: pki.good }, upstream: { tls: { ca: pki.ca } } }, async (s) => {
    s.origin.answers({ headers: { ...pass.headers, Connection: 'close' } });
    for (let i = 0; i < 3; i++) {
        await s.get(`/${i}`);
    }
    assert.ok(s.origin.conns.some((conn) => conn.resumed));
});

for (const [what, tls, upstream] of [
    ['an unknown authority', pki.good, {}],
    ['another name', pki.other, { tls: { ca: pki.ca } }],
    ['an expired certificate', pki.expired, { tls: { ca: pki.ca } }],
]) {
    flow(`${what} is refused: 502 with Proxy-Status, nothing sent`, { origin: { tls }, upstream }, async ({ get, origin }) => {
        const response = await get('/a');
        assert.equal(response.status, 502);
        assert.match(proxyStatus(response).error, /^tls_/);
        assert.equal(origin.count, 0);
    });
}

flow('verify: false accepts any certificate', { origin: { tls: pki.other }, upstream: { tls: { verify: false } } }, async (s) => {
    s.origin.answers(pass);
    assert.equal((await s.get('/a')).status, 200);
});

flow('TLS to a server that does not speak it is 502', { node: false }, async (s) => {
    const plain = net.createServer((socket) => {
        socket.on('error', () => {});
        socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n'));
    }).listen(0, '127.0.0.1');
    await once(plain, 'listening');
    s.after(() => plain.close());
    s.node = await s.startNode({ config: siteConfig([`https://127.0.0.1:${plain.address().port}`]) });
    const response = await s.get('/a');
    assert.equal(response.status, 502);
    assert.match(proxyStatus(response).error, /^tls_/);
});
