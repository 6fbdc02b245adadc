/* HTTP/1.1 messages through the node: framing, interim answers, methods, back-pressure, tunnels. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { assertForwarded, assertHit, chunk, flow, formatHead, LAST_CHUNK, proxyStatus, SANITIZED } from './harness/flow.mjs';

const fresh = { 'Cache-Control': 'max-age=600' };
const pass = { 'Cache-Control': 'no-store' };

flow('1xx answers are relayed with their fields, 103 included', async ({ connect, origin }) => {
    const client = await connect();
    await client.ask('/a');
    const exchange = await origin.expect('/a');
    await exchange.send('HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nX-Hint: 1\r\n\r\n');
    const hints = await client.interim(); // arrives before the final answer exists
    assert.equal(hints.status, 103);
    assert.equal(hints.header('link'), '</style.css>; rel=preload');
    assert.equal(hints.header('x-hint'), '1');
    await exchange.send('HTTP/1.1 102 Processing\r\n\r\n');
    assert.equal((await client.interim()).status, 102);
    await exchange.reply({ headers: fresh });
    assert.equal((await client.response()).status, 200);
});

flow('HTTP/1.0 clients get no 1xx', async ({ connect, origin }) => {
    const client = await connect();
    await client.ask('/a', { version: 'HTTP/1.0' });
    const exchange = await origin.expect('/a');
    await exchange.send('HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\n');
    await exchange.reply({ headers: pass });
    assert.equal((await client.interim()).status, 200);
});

flow('Expect: 100-continue reaches the origin, and its 100 the client, before the body is sent', async (s) => {
    const client = await s.connect();
    await client.ask('/a', { method: 'POST', headers: { Expect: '100-continue', 'Content-Length': 5 } });
    const exchange = await s.origin.expect('/a', { whole: false });
    assert.equal(exchange.header('expect'), '100-continue');
    await exchange.send('HTTP/1.1 100 Continue\r\nX-Go: 1\r\n\r\n');
    const go = await client.interim();
    assert.equal(go.status, 100);
    assert.equal(go.header('x-go'), '1');
    await client.send('hello');
    assert.equal((await exchange.body()).toString(), 'hello');
    await exchange.reply({ headers: pass, body: 'thanks' });
    assert.equal((await client.response()).text, 'thanks');
});

flow('a refusal instead of 100 Continue comes before the body', async ({ connect, origin }) => {
    const client = await connect();
    await client.ask('/a', { method: 'POST', headers: { Expect: '100-continue', 'Content-Length': 1000000 } });
    const exchange = await origin.expect('/a', { whole: false });
    await exchange.head(413, { 'Content-Length': 2, Connection: 'close' });
    await exchange.send('no');
    const response = await client.response();
    assert.equal(response.status, 413);
    assert.equal(response.text, 'no');
});

flow('an unknown expectation is refused with 417 or left to the origin', async ({ get, origin }) => {
    origin.answers({ status: 417 });
    assert.equal((await get('/a', { Expect: 'magic' }, { method: 'POST', body: 'x' })).status, 417);
});

flow('HEAD is forwarded and answered without a body, on a connection that goes on', async ({ connect, origin }) => {
    origin.answers({ headers: pass, body: 'hello' });
    const client = await connect();
    const head = await client.request('/a', { method: 'HEAD' });
    assert.equal(head.status, 200);
    assert.equal(head.header('content-length'), '5');
    assert.equal((await client.request('/b')).text, 'hello');
});

flow('OPTIONS and OPTIONS * are passed on', async ({ get, origin }) => {
    origin.answers({ status: 204, headers: { Allow: 'GET' } });
    const response = await get('/a', {}, { method: 'OPTIONS' });
    assert.equal(response.status, 204);
    assert.equal(response.header('allow'), 'GET');
    const star = await get('*', {}, { method: 'OPTIONS' });
    assert.ok(star.status === 204 || star.status === 200);
});

flow('Max-Forwards: 0 ends an OPTIONS here, and is counted down otherwise', async ({ get, origin }) => {
    origin.answers({ status: 204 });
    const ended = await get('/a', { 'Max-Forwards': '0' }, { method: 'OPTIONS' });
    assert.equal(origin.count, 0);
    assert.ok(ended.status < 300);
    await get('/a', { 'Max-Forwards': '3' }, { method: 'OPTIONS' });
    assert.equal(origin.requests[0].header('max-forwards'), '2');
});

flow('TRACE is refused and CONNECT is not for us', async ({ get, origin }) => {
    assert.equal((await get('/a', {}, { method: 'TRACE' })).status, 405);
    const connect = await get('example.test:443', {}, { method: 'CONNECT' });
    assert.ok([400, 405, 501].includes(connect.status), String(connect.status));
    assert.equal(origin.count, 0);
});

flow('unknown methods are passed through, with body and answer', async ({ get, origin }) => {
    origin.answers({ headers: fresh, body: 'did it' });
    const response = await get('/a', {}, { method: 'FROB', body: 'input' });
    assert.equal(response.text, 'did it');
    assertForwarded(response, 'method');
    assert.equal(origin.requests[0].method, 'FROB');
    assert.equal(origin.requests[0].text, 'input');
    await get('/a', {}, { method: 'FROB', body: 'input' });
    assert.equal(origin.count, 2);
});

flow('request bodies by length and in chunks reach the origin, trailers included', async ({ connect, origin }) => {
    const client = await connect();
    await client.ask('/a', { method: 'POST', body: 'by length' });
    let exchange = await origin.expect('/a');
    assert.equal(exchange.text, 'by length');
    await exchange.reply({ headers: pass });
    await client.response();
    await client.ask('/b', { method: 'POST', headers: { 'Transfer-Encoding': 'chunked', Trailer: 'X-Sum' } });
    exchange = await origin.expect('/b', { whole: false }); // before any of the body was sent
    await client.send(chunk('one') + chunk('two'));
    await client.send('0\r\nX-Sum: 6\r\n\r\n');
    assert.equal((await exchange.body()).toString(), 'onetwo');
    assert.deepEqual(exchange.request.trailers, [['X-Sum', '6']]);
    await exchange.reply({ headers: pass });
    assert.equal((await client.response()).status, 200);
});

flow('response trailers are relayed, whether the answer arrives slowly or all at once', async ({ connect, origin }) => {
    const client = await connect();
    for (const slowly of [true, false]) {
        await client.ask('/a', { headers: { TE: 'trailers' } });
        const exchange = await origin.expect('/a');
        const head = formatHead('HTTP/1.1 200 OK', { ...pass, 'Transfer-Encoding': 'chunked', Trailer: 'X-Sum' });
        const rest = `${chunk('abc')}0\r\nX-Sum: 3\r\n\r\n`;
        await exchange.send(slowly ? head : head + rest);
        const response = await client.head();
        if (slowly) {
            await exchange.send(rest);
        }
        await client.body(response);
        assert.equal(response.text, 'abc');
        assert.deepEqual(response.trailers, [['X-Sum', '3']], slowly ? 'slowly' : 'at once');
    }
});

flow('a chunked answer goes to HTTP/1.0 unchunked and ends with the connection', async ({ connect, origin }) => {
    origin.answers(async (exchange) => {
        await exchange.head(200, { ...pass, 'Transfer-Encoding': 'chunked' });
        await exchange.send(chunk('abc') + chunk('def') + LAST_CHUNK);
    });
    const client = await connect();
    const response = await client.request('/a', { version: 'HTTP/1.0' });
    assert.equal(response.header('transfer-encoding'), undefined);
    assert.equal(response.text, 'abcdef');
    await client.closed();
});

flow('HTTP/1.0 closes unless keep-alive was asked for; no Host is needed', async ({ connect, origin }) => {
    origin.answers({ headers: fresh });
    const closing = await connect();
    await closing.send('GET /a HTTP/1.0\r\n\r\n');
    assert.equal((await closing.response('GET')).status, 200);
    await closing.closed();
    const keeping = await connect();
    for (let i = 0; i < 2; i++) {
        await keeping.send('GET /a HTTP/1.0\r\nHost: site.test\r\nConnection: keep-alive\r\n\r\n');
        const response = await keeping.response('GET');
        assert.match(response.header('connection') ?? '', /keep-alive/i);
    }
});

flow('Connection: close is honoured', async ({ connect, origin }) => {
    origin.answers({ headers: fresh });
    const client = await connect();
    const response = await client.request('/a', { headers: { Connection: 'close' } });
    assert.match(response.header('connection'), /close/i);
    await client.closed();
});

flow('absolute-form targets are read, and their host wins over Host', async ({ connect, origin }) => {
    origin.answers({ headers: fresh });
    const client = await connect();
    assert.equal((await client.request('http://real.test/a?b=1', { headers: { Host: 'other.test' } })).status, 200);
    assert.equal(origin.requests[0].target, '/a?b=1');
    assert.equal(origin.requests[0].header('host'), 'real.test');
    assertHit(await client.request('/a?b=1', { headers: { Host: 'real.test' } }));
});

flow('pipelined requests are answered in order', async ({ connect, origin }) => {
    origin.answers((exchange) => ({ headers: pass, body: exchange.target }));
    const client = await connect();
    const targets = Array.from({ length: 12 }, (_, i) => `/${i}`);
    await client.send(targets.map((target) => `GET ${target} HTTP/1.1\r\nHost: site.test\r\n\r\n`).join(''));
    for (const target of targets) {
        assert.equal((await client.response('GET')).text, target);
    }
});

flow('pipelined hits and misses, with a body in between', async ({ connect, origin }) => {
    origin.answers((exchange) => ({ headers: fresh, body: `${exchange.method} ${exchange.target} ${exchange.text}` }));
    const client = await connect();
    await client.request('/hit');
    await client.send('GET /hit HTTP/1.1\r\nHost: site.test\r\n\r\n'
        + 'POST /post HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\n\r\nbody'
        + 'GET /hit HTTP/1.1\r\nHost: site.test\r\n\r\n');
    assert.equal((await client.response('GET')).text, 'GET /hit ');
    assert.equal((await client.response('POST')).text, 'POST /post body');
    assert.equal((await client.response('GET')).text, 'GET /hit ');
});

flow('requests may arrive byte by byte', async ({ connect, origin }) => {
    origin.answers({ headers: fresh });
    const client = await connect();
    for (const byte of 'POST /a HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n') {
        await client.send(byte);
    }
    assert.equal((await client.response('POST')).status, 200);
    assert.equal(origin.requests[0].text, 'abc');
});

flow('answers may arrive byte by byte', async ({ connect, origin }) => {
    const client = await connect();
    await client.ask('/a');
    const exchange = await origin.expect('/a');
    for (const byte of 'HTTP/1.1 200 OK\r\nCache-Control: max-age=9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n') {
        await exchange.send(byte);
    }
    assert.equal((await client.response()).text, 'ab');
});

flow('a client that half-closes after its request gets what can be answered at once', async ({ connect, get, origin }) => {
    origin.answers({ headers: fresh });
    await get('/a');
    const client = await connect();
    await client.send('GET /a HTTP/1.1\r\nHost: site.test\r\n\r\nGET /a HTTP/1.1\r\nHost: site.test\r\n\r\n');
    client.end();
    assert.equal((await client.response('GET')).status, 200);
    assert.equal((await client.response('GET')).status, 200);
    await client.closed();
});

flow('a download nobody reads stops at the origin and stays out of memory', { skip: SANITIZED }, async (s) => {
    const size = 200 * 1024 * 1024;
    const client = await s.connect();
    await client.ask('/big');
    const exchange = await s.origin.expect('/big');
    const before = s.node.rss;
    await exchange.head(200, { ...pass, 'Content-Length': size });
    await client.head();
    const block = Buffer.alloc(1024 * 1024, 'x');
    let sent = 0;
    while (sent < size && exchange.conn.socket.write(block)) {
        sent += block.length;
    }
    await stuck(exchange.conn.socket);
    assert.ok(s.node.rss - before < 32 * 1024, `grew by ${s.node.rss - before} KiB`);
    const total = sent + block.length;
    const pump = (async () => {
        for (let left = size - total; left > 0; left -= block.length) {
            await exchange.send(block.subarray(0, Math.min(left, block.length)));
        }
    })();
    const hash = createHash('sha1');
    let got = 0;
    while (got < size) {
        const part = await client.some();
        assert.ok(part.length > 0, `cut after ${got}`);
        got += part.length;
        hash.update(part);
    }
    await pump;
    assert.equal(got, size);
    assert.ok(s.node.rss - before < 48 * 1024, `grew by ${s.node.rss - before} KiB`);
});

flow('an upload the origin does not read stops at the client and stays out of memory', { skip: SANITIZED }, async (s) => {
    const size = 100 * 1024 * 1024;
    const client = await s.connect();
    await client.ask('/up', { method: 'POST', headers: { 'Content-Length': size } });
    const exchange = await s.origin.expect('/up', { whole: false });
    const before = s.node.rss;
    const block = Buffer.alloc(1024 * 1024, 'y');
    let sent = 0;
    while (sent < size && client.socket.write(block)) {
        sent += block.length;
    }
    sent += block.length;
    await stuck(client.socket);
    assert.ok(s.node.rss - before < 32 * 1024, `grew by ${s.node.rss - before} KiB`);
    const pump = (async () => {
        for (let left = size - sent; left > 0; left -= block.length) {
            await client.send(block.subarray(0, Math.min(left, block.length)));
        }
    })();
    assert.equal((await exchange.body()).length, size);
    await pump;
    await exchange.reply({ headers: pass, body: 'done' });
    assert.equal((await client.response()).text, 'done');
});

/** Resolves when a socket with unsent data has made no progress for many turns of the event loop. */
async function stuck(socket) {
    for (let still = 0, last = -1; still < 2000; still++) {
        if (socket.writableLength !== last) {
            [last, still] = [socket.writableLength, 0];
        }
        await new Promise(setImmediate);
    }
}

flow('an upload is answered early and the rest of it does no harm', async ({ connect, origin }) => {
    const client = await connect();
    await client.ask('/up', { method: 'POST', headers: { 'Content-Length': 1_000_000 } });
    await client.send('x'.repeat(1000));
    const exchange = await origin.expect('/up', { whole: false });
    await exchange.head(403, { ...pass, 'Content-Length': 2, Connection: 'close' });
    await exchange.send('no');
    const response = await client.response();
    assert.equal(response.status, 403);
    assert.equal(response.text, 'no');
});

flow('a client that leaves in the middle of an upload ends the request to the origin', async ({ connect, origin }) => {
    const client = await connect();
    await client.ask('/up', { method: 'POST', headers: { 'Content-Length': 1000 } });
    await client.send('x'.repeat(10));
    const exchange = await origin.expect('/up', { whole: false });
    client.reset();
    assert.equal((await exchange.body()).length, 10);
});

flow('Upgrade is tunnelled both ways', async ({ connect, origin }) => {
    const client = await connect();
    await client.ask('/ws', { headers: { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13',
        'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' } });
    const exchange = await origin.expect('/ws', { whole: false });
    assert.equal(exchange.header('upgrade'), 'websocket');
    assert.match(exchange.header('connection'), /upgrade/i);
    assert.equal(exchange.header('sec-websocket-key'), 'dGhlIHNhbXBsZSBub25jZQ==');
    await exchange.send('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n'
        + 'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x05Hello');
    const response = await client.head();
    assert.equal(response.status, 101);
    assert.equal(response.header('sec-websocket-accept'), 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
    assert.equal((await client.bytes(7)).toString('latin1'), '\x81\x05Hello');
    await client.send('\x81\x02hi');
    assert.equal((await exchange.conn.bytes(4)).toString('latin1'), '\x81\x02hi');
    const block = Buffer.alloc(3_000_000, 'z');
    exchange.conn.send(block);
    assert.ok((await client.bytes(block.length)).equals(block));
    exchange.conn.end();
    await client.closed();
});

flow('an Upgrade the origin declines is an ordinary answer', async ({ connect, origin }) => {
    origin.answers({ headers: pass, body: 'plain' });
    const client = await connect();
    const response = await client.request('/ws', { headers: { Connection: 'Upgrade', Upgrade: 'websocket' } });
    assert.equal(response.text, 'plain');
    assert.equal((await client.request('/next')).text, 'plain');
});

flow('a 101 nobody asked for is 502', async ({ get, origin }) => {
    origin.answers(async (exchange) => {
        await exchange.send('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n');
    });
    assert.equal((await get('/a')).status, 502);
});

flow('fewer bytes than Content-Length: what came is delivered, cut, not stored', async ({ connect, origin, get }) => {
    const client = await connect();
    await client.ask('/a');
    const exchange = await origin.expect('/a');
    await exchange.head(200, { ...fresh, 'Content-Length': 10 });
    await exchange.send('12345');
    exchange.end();
    const response = await client.response();
    assert.equal(response.text, '12345');
    assert.equal(response.complete, false);
    origin.answers({ headers: fresh, body: 'all of it' });
    assert.equal((await get('/a')).text, 'all of it');
});

flow('a chunked body cut short is not ended properly either', async ({ connect, origin, get }) => {
    const client = await connect();
    await client.ask('/a');
    const exchange = await origin.expect('/a');
    await exchange.head(200, { ...fresh, 'Transfer-Encoding': 'chunked' });
    await exchange.send(chunk('12345'));
    exchange.end();
    const response = await client.response();
    assert.equal(response.text, '12345');
    assert.equal(response.complete, false);
    origin.answers({ headers: fresh, body: 'all of it' });
    assert.equal((await get('/a')).text, 'all of it');
});

flow('more bytes than Content-Length: the valid ones are delivered, that connection is closed', async (s) => {
    const { connect, origin } = s;
    const client = await connect();
    await client.ask('/a');
    const exchange = await origin.expect('/a');
    await exchange.send('HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 5\r\n\r\n12345'
        + 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil');
    const response = await client.response();
    assert.equal(response.text, '12345');
    await exchange.closed();
    await client.ask('/b');
    const next = await origin.expect('/b');
    assert.notEqual(next.conn, exchange.conn);
    await next.reply({ body: 'right' });
    assert.equal((await client.response()).text, 'right');
});

for (const [what, bytes] of [
    ['nonsense', 'what?\r\n\r\n'],
    ['HTTP/0.9-style bytes', '<html>hello</html>'],
    ['a bad status', 'HTTP/1.1 2x0 OK\r\n\r\n'],
    ['Content-Length and Transfer-Encoding', 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['differing lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd'],
    ['a length that is no number', 'HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n'],
    ['space before a colon', 'HTTP/1.1 200 OK\r\nX-A : 1\r\nContent-Length: 0\r\n\r\n'],
    ['NUL in a field', 'HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 0\r\n\r\n'],
    ['a head that never ends', `HTTP/1.1 200 OK\r\n${'X-Long: y\r\n'.repeat(20_000)}`],
]) {
    flow(`an origin that sends ${what} gives 502 with Proxy-Status`, async ({ get, origin }) => {
        origin.answers(async (exchange) => { await exchange.send(bytes); exchange.end(); });
        const response = await get('/a');
        assert.equal(response.status, 502);
        assert.match(proxyStatus(response).error, /^(http_protocol_error|http_response_|connection_terminated|destination)/);
    });
}

flow('bad chunks from the origin cut the body', async ({ connect, origin }) => {
    for (const bad of ['xyz\r\nabc\r\n', 'fffffffffffffffff\r\nabc', '3\r\nabcd\r\n', '3\nabc\n']) {
        const client = await connect();
        await client.ask(`/${bad.length}${bad.charCodeAt(0)}`);
        const exchange = await origin.expect();
        await exchange.head(200, { ...fresh, 'Transfer-Encoding': 'chunked' });
        await exchange.send(`${chunk('good')}${bad}`);
        const response = await client.response().catch(() => ({ complete: false, text: 'good' }));
        assert.equal(response.complete, false, JSON.stringify(bad));
        exchange.close();
    }
});

flow('an unknown transfer coding from the origin gives 502', async ({ get, origin }) => {
    origin.answers(async (exchange) => {
        await exchange.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n');
    });
    assert.equal((await get('/a')).status, 502);
});

flow('large bodies arrive unharmed, stored or not', async ({ get, origin }) => {
    const body = Buffer.alloc(5_000_000, 0);
    for (let i = 0; i < body.length; i++) {
        body[i] = (i * 7 + (i >> 8)) & 255;
    }
    for (const [target, headers] of [['/stored', fresh], ['/passed', pass]]) {
        origin.answers({ headers, body });
        assert.ok((await get(target)).body.equals(body), target);
        assert.ok((await get(target)).body.equals(body), target);
    }
    assertHit(await get('/stored'));
});
