/* Whatever two servers could read differently is refused with 400 and a close, and never reaches the origin. */
import assert from 'node:assert/strict';
import { flow } from './harness/flow.mjs';

const GET = 'GET /a HTTP/1.1\r\nHost: site.test\r\n';
const POST = 'POST /a HTTP/1.1\r\nHost: site.test\r\n';
const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: site.test\r\n\r\n';

const vectors = {
    'Content-Length with Transfer-Encoding': `${POST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    'Transfer-Encoding with Content-Length after it': `${POST}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n`,
    'several differing Content-Length lines': `${POST}Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde`,
    'a Content-Length list that differs': `${POST}Content-Length: 4, 5\r\n\r\nabcde`,
    'a signed Content-Length': `${POST}Content-Length: +4\r\n\r\nabcd`,
    'a negative Content-Length': `${POST}Content-Length: -1\r\n\r\n`,
    'a hexadecimal Content-Length': `${POST}Content-Length: 0x4\r\n\r\nabcd`,
    'an empty Content-Length': `${POST}Content-Length: \r\n\r\n`,
    'an overflowing Content-Length': `${POST}Content-Length: 18446744073709551620\r\n\r\nabcd`,
    'a Content-Length with a space inside': `${POST}Content-Length: 4 4\r\n\r\nabcd`,
    'Transfer-Encoding not ending in chunked': `${POST}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n`,
    'chunked twice': `${POST}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n`,
    'chunked on two lines': `${POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    'Transfer-Encoding: identity': `${POST}Transfer-Encoding: identity\r\n\r\n`,
    'an obfuscated chunked': `${POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
    'chunked with a vertical tab': `${POST}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n`,
    'chunked in quotes': `${POST}Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n`,
    'Transfer-Encoding in HTTP/1.0': 'POST /a HTTP/1.0\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'obs-fold': `${GET}X-A: 1\r\n 2\r\n\r\n`,
    'obs-fold with a tab': `${GET}X-A: 1\r\n\t2\r\n\r\n`,
    'a folded first line': 'GET /a HTTP/1.1\r\n Host: site.test\r\n\r\n',
    'bare CR in a value': `${GET}X-A: 1\r2\r\n\r\n`,
    'bare LF as line end': `${GET}X-A: 1\nX-B: 2\r\n\r\n`,
    'only bare LF': 'GET /a HTTP/1.1\nHost: site.test\n\n',
    'NUL in a value': `${GET}X-A: 1\x002\r\n\r\n`,
    'NUL in a name': `${GET}X\x00A: 1\r\n\r\n`,
    'a control character in a value': `${GET}X-A: 1\x012\r\n\r\n`,
    'space before the colon': `${POST}Content-Length : 4\r\n\r\nabcd`,
    'a tab before the colon': `${POST}Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n`,
    'a field without a colon': `${GET}Nonsense\r\n\r\n`,
    'an empty field name': `${GET}: x\r\n\r\n`,
    'a field name with a separator': `${GET}X(A): 1\r\n\r\n`,
    'no Host': 'GET /a HTTP/1.1\r\nX-A: 1\r\n\r\n',
    'two Hosts': `${GET}Host: site.test\r\n\r\n`,
    'two different Hosts': `${GET}Host: evil.test\r\n\r\n`,
    'a Host with a path': 'GET /a HTTP/1.1\r\nHost: site.test/evil\r\n\r\n',
    'a Host with a user': 'GET /a HTTP/1.1\r\nHost: user@site.test\r\n\r\n',
    'a Host with a space': 'GET /a HTTP/1.1\r\nHost: site test\r\n\r\n',
    'a Host list': 'GET /a HTTP/1.1\r\nHost: site.test, evil.test\r\n\r\n',
    'a Host with a bad port': 'GET /a HTTP/1.1\r\nHost: site.test:http\r\n\r\n',
    'a Host with a control character': 'GET /a HTTP/1.1\r\nHost: site\x7f.test\r\n\r\n',
    'a tab in the request line': 'GET\t/a HTTP/1.1\r\nHost: site.test\r\n\r\n',
    'two spaces in the request line': 'GET  /a HTTP/1.1\r\nHost: site.test\r\n\r\n',
    'a space in the target': 'GET /a b HTTP/1.1\r\nHost: site.test\r\n\r\n',
    'a fragment in the target': 'GET /a#b HTTP/1.1\r\nHost: site.test\r\n\r\n',
    'a control character in the target': 'GET /a\x01 HTTP/1.1\r\nHost: site.test\r\n\r\n',
    'a lower-case version': 'GET /a http/1.1\r\nHost: site.test\r\n\r\n',
    'a version without minor': 'GET /a HTTP/1\r\nHost: site.test\r\n\r\n',
    'a method with a separator': 'G(T /a HTTP/1.1\r\nHost: site.test\r\n\r\n',
    'HTTP/0.9': 'GET /a\r\n\r\n',
    'leading white space': ' GET /a HTTP/1.1\r\nHost: site.test\r\n\r\n',
    'a target that is no path': 'GET a HTTP/1.1\r\nHost: site.test\r\n\r\n',
};

flow('smuggling vectors are answered with 400 and a close', async ({ connect, origin }) => {
    origin.answers({});
    for (const [what, bytes] of Object.entries(vectors)) {
        const client = await connect();
        await client.send(bytes + SMUGGLED);
        const response = await client.response('GET');
        assert.equal(response.status, 400, what);
        assert.match(response.header('connection') ?? '', /close/i, what);
        await client.closed(); // nothing after it: the smuggled request was not answered
        assert.equal(origin.count, 0, what);
    }
});

const chunks = {
    'a chunk size that is no number': 'xyz\r\n',
    'an empty chunk size': '\r\n',
    'a chunk size with 0x': '0x3\r\nabc\r\n',
    'a signed chunk size': '+3\r\nabc\r\n',
    'a chunk size that overflows': 'fffffffffffffffff1\r\nabc\r\n',
    'a chunk size with a space before it': ' 3\r\nabc\r\n',
    'a chunk longer than its size': '3\r\nabcd\r\n0\r\n\r\n',
    'a bare LF after a chunk size': '3\nabc\r\n0\r\n\r\n',
    'a bare LF after chunk data': '3\r\nabc\n0\r\n\r\n',
    'a bare CR after a chunk size': '3\rabc\r\n',
    'chunk extensions over the limit': `3;${'x'.repeat(100_000)}\r\nabc\r\n0\r\n\r\n`,
    'a bare CR in a chunk extension': '3;a\rb\r\nabc\r\n0\r\n\r\n',
    'a malformed trailer': '3\r\nabc\r\n0\r\nno colon\r\n\r\n',
    'a trailer with space before the colon': '0\r\nX-A : 1\r\n\r\n',
    'trailers over the limit': `0\r\n${'X-A: 1\r\n'.repeat(20_000)}\r\n`,
};

flow('bad chunked bodies are answered with 400 and a close, and never look complete to the origin', async (s) => {
    s.origin.answers({});
    for (const [what, bytes] of Object.entries(chunks)) {
        const client = await s.connect();
        await client.send(`${POST}Transfer-Encoding: chunked\r\n\r\n${bytes}${SMUGGLED}`);
        const response = await client.response('POST');
        assert.ok(response.status === 400 || response.status === 431, `${what}: ${response.status}`);
        await client.closed();
        assert.ok(!s.origin.requests.some((request) => request.complete), what);
        assert.ok(!s.origin.requests.some((request) => request.target === '/smuggled'), what);
    }
});

flow('equal Content-Length lines or an unusual spelling of chunked are no harm', async ({ connect, origin }) => {
    origin.answers({ headers: { 'Cache-Control': 'no-store' } });
    const client = await connect();
    await client.send(`${POST}Transfer-Encoding: CHUNKED\r\n\r\n3;x="a;b"\r\nabc\r\n0\r\n\r\n`);
    assert.equal((await client.response('POST')).status, 200);
    assert.equal(origin.requests[0].text, 'abc');
    await client.send(`\r\n${GET}\r\n`); // an empty line before a request is skipped
    assert.equal((await client.response('GET')).status, 200);
});

flow('a transfer coding we do not know is 501', async ({ connect }) => {
    const client = await connect();
    await client.send(`${POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`);
    assert.equal((await client.response('POST')).status, 501);
    await client.closed();
});

flow('other major versions are 505', async ({ connect }) => {
    const client = await connect();
    await client.send('GET /a HTTP/2.0\r\nHost: site.test\r\n\r\n');
    assert.equal((await client.response('GET')).status, 505);
    await client.closed();
});

flow('TLS bytes on a plain port get an error and a close', async ({ connect }) => {
    const client = await connect();
    await client.send(Buffer.from('16030100c8010000c40303', 'hex'));
    await client.send(Buffer.alloc(200, 0x0d));
    const answer = (await client.rest()).toString('latin1');
    assert.ok(answer === '' || answer.startsWith('HTTP/1.1 400'), answer);
});

flow('the PRI preface of HTTP/2 does not get through', async ({ connect, origin }) => {
    const client = await connect();
    await client.send('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    assert.ok([400, 505].includes((await client.response('GET')).status));
    assert.equal(origin.count, 0);
});
