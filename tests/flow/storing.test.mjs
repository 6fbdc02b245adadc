/* What may be stored in a shared cache, and what keeps an answer out. */
import assert from 'node:assert/strict';
import { assertForwarded, assertHit, cacheStatus, flow, httpDate, twice } from './harness/flow.mjs';

const old = () => ({ 'Last-Modified': httpDate(-1_000_000) });

function table(name, rows, options = {}) {
    flow(name, options, async (s) => {
        for (const [at, [reply, expected, headers]] of rows.entries()) {
            const { second, hit } = await twice(s, `/${at}`, typeof reply === 'function' ? reply() : reply, { headers });
            assert.equal(hit, expected, `row ${at} ${JSON.stringify(reply)}: ${second.header('cache-status')}`);
            if (reply.status) {
                assert.equal(second.status, reply.status);
            }
        }
    });
}

const explicit = { 'Cache-Control': 'max-age=600' };

table('any final status with explicit freshness is stored, unassigned ones too',
    [200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 403, 404, 405, 410, 414, 418, 451, 499, 500, 502, 503, 504, 599]
        .map((status) => [{ status, headers: explicit }, true]));

table('heuristic freshness is for the statuses that allow it',
    [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501].map((status) => [{ status, headers: old() }, true]));

table('other statuses are not stored without explicit freshness',
    [201, 202, 302, 303, 307, 400, 403, 502, 503, 500, 504, 599].map((status) => [{ status, headers: old() }, false]));

table('public allows heuristic freshness for any status', [
    [{ status: 599, headers: { ...old(), 'Cache-Control': 'public' } }, true],
    [{ status: 302, headers: { ...old(), 'Cache-Control': 'public' } }, true],
]);

table('a heuristic is never used where the request carried a Cookie', [
    [{ headers: old() }, false, { Cookie: 'a=1' }],
    [{ headers: explicit }, true, { Cookie: 'a=1' }],
]);

table('no-store and private are not stored', [
    [{ headers: { 'Cache-Control': 'no-store, max-age=600' } }, false],
    [{ headers: { 'Cache-Control': 'max-age=600, No-Store' } }, false],
    [{ headers: { 'Cache-Control': 'private, max-age=600' } }, false],
    [{ headers: { 'Cache-Control': 'private, s-maxage=600' } }, false],
    [{ headers: { 'Cache-Control': 'private="X-A", max-age=600' } }, false],
]);

flow('no-cache with a validator is stored and revalidated every time', async ({ get, origin }) => {
    origin.answers({ headers: { 'Cache-Control': 'no-cache, max-age=600', ETag: '"v"' } },
        { status: 304, headers: { ETag: '"v"' } });
    await get('/a');
    const second = await get('/a');
    assert.equal(origin.requests[1].header('if-none-match'), '"v"');
    assert.equal(second.status, 200);
    assert.equal(second.text, 'answer 1');
    assert.equal((await get('/a')).text, 'answer 1');
    assert.equal(origin.count, 3);
});

flow('no-cache without a validator is not stored', async (s) => {
    const { hit, second } = await twice(s, '/a', { headers: { 'Cache-Control': 'no-cache, max-age=600' } });
    assert.equal(hit, false);
    assert.equal(s.origin.requests[1].header('if-none-match'), undefined);
    assert.equal(second.text, 'answer 2');
});

table('a request with Authorization is stored only with public, must-revalidate or s-maxage', [
    [{ headers: explicit }, false, { Authorization: 'Basic x' }],
    [{ headers: { 'Cache-Control': 'public, max-age=600' } }, true, { Authorization: 'Basic x' }],
    [{ headers: { 'Cache-Control': 'must-revalidate, max-age=600' } }, true, { Authorization: 'Basic x' }],
    [{ headers: { 'Cache-Control': 's-maxage=600' } }, true, { Authorization: 'Basic x' }],
    [{ headers: { 'Cache-Control': 'proxy-revalidate, max-age=600' } }, false, { Authorization: 'Basic x' }],
]);

flow('an answer stored for all may satisfy a request with Authorization', async ({ get, origin }) => {
    origin.answers({ headers: explicit });
    await get('/a');
    assertHit(await get('/a', { Authorization: 'Basic x' }));
});

table('must-understand overrides no-store for statuses we know and forbids those we do not', [
    [{ status: 200, headers: { 'Cache-Control': 'no-store, must-understand, max-age=600' } }, true],
    [{ status: 404, headers: { 'Cache-Control': 'must-understand, max-age=600, no-store' } }, true],
    [{ status: 299, headers: { 'Cache-Control': 'must-understand, max-age=600' } }, false],
    [{ status: 599, headers: { 'Cache-Control': 'no-store, must-understand, max-age=600' } }, false],
]);

const cookie = { 'Set-Cookie': ['a=1', 'b=2'] };

table('Set-Cookie keeps an answer out unless it says public, s-maxage or a targeted field', [
    [{ headers: { ...cookie, ...explicit } }, false],
    [{ headers: { ...cookie, 'Cache-Control': 'public, max-age=600' } }, true],
    [{ headers: { ...cookie, 'Cache-Control': 's-maxage=600' } }, true],
    [{ headers: { ...cookie, ...explicit, 'CDN-Cache-Control': 'max-age=600' } }, true],
    [{ headers: { ...cookie, ...old() } }, false],
]);

table('set_cookie: store is the plain RFC rule: what is explicitly fresh', [
    [{ headers: { ...cookie, ...explicit } }, true],
    [{ headers: { ...cookie, ...old() } }, false],
], { route: { set_cookie: 'store' } });

flow('set_cookie: strip stores the answer without its cookies', { route: { set_cookie: 'strip' } }, async (s) => {
    const { second, hit } = await twice(s, '/a', { headers: { ...cookie, ...explicit } });
    assert.ok(hit);
    assert.deepEqual(second.all('set-cookie'), []);
});

flow('several Set-Cookie lines stay several', async (s) => {
    const { first, second } = await twice(s, '/a', { headers: { ...cookie, 'Cache-Control': 'public, max-age=600' } });
    assert.deepEqual(first.all('set-cookie'), ['a=1', 'b=2']);
    assert.deepEqual(second.all('set-cookie'), ['a=1', 'b=2']);
});

flow('POST with explicit freshness and Content-Location equal to the target serves later GETs', async (s) => {
    const { get, origin } = s;
    origin.answers({ headers: { ...explicit, 'Content-Location': '/form?x=1' } });
    await get('/form?x=1', {}, { method: 'POST', body: 'data' });
    const hit = await get('/form?x=1');
    assertHit(hit);
    assert.equal(hit.text, 'answer 1');
    await get('/form?x=1', {}, { method: 'POST', body: 'data' });
    assert.equal(origin.count, 2, 'a POST is never answered from the cache');
});

flow('POST without Content-Location, or with another one, is not stored', async ({ get, origin }) => {
    origin.answers({ headers: explicit });
    await get('/a', {}, { method: 'POST', body: 'x' });
    assertForwarded(await get('/a'));
    origin.answers({ headers: { ...explicit, 'Content-Location': '/other' } });
    await get('/b', {}, { method: 'POST', body: 'x' });
    assertForwarded(await get('/b'));
    origin.answers({ headers: { ...old(), 'Content-Location': '/c' } });
    await get('/c', {}, { method: 'POST', body: 'x' });
    assertForwarded(await get('/c'));
});

flow('hop-by-hop and Connection-listed fields are neither passed on nor stored', async (s) => {
    const { first, second, hit } = await twice(s, '/a', { headers: { ...explicit,
        Connection: 'X-Private, keep-alive', 'X-Private': '1', 'Keep-Alive': 'timeout=5', 'Proxy-Authenticate': 'Basic',
        'Proxy-Connection': 'keep-alive', 'Proxy-Authentication-Info': 'x', Upgrade: 'h2c', 'X-Public': '1' } });
    assert.ok(hit);
    for (const response of [first, second]) {
        for (const name of ['x-private', 'keep-alive', 'proxy-authenticate', 'proxy-connection',
            'proxy-authentication-info', 'upgrade']) {
            assert.equal(response.header(name), undefined, name);
        }
        assert.equal(response.header('x-public'), '1');
    }
});

flow('Connection cannot remove the fields a cache needs to be safe', async ({ get, origin }) => {
    origin.answers({ headers: { Connection: 'Cache-Control', 'Cache-Control': 'no-store', ...old() } });
    await get('/a');
    assertForwarded(await get('/a'));
});

flow('HEAD is answered from a stored GET, with the same fields and no body', async ({ get, origin }) => {
    origin.answers({ headers: { ...explicit, ETag: '"v"' }, body: 'x'.repeat(1000) });
    await get('/a');
    const head = await get('/a', {}, { method: 'HEAD' });
    assertHit(head);
    assert.equal(head.header('content-length'), '1000');
    assert.equal(head.header('etag'), '"v"');
    assert.equal(head.body.length, 0);
    assert.equal(origin.count, 1);
});

flow('an answer to HEAD never serves a GET', async ({ get, origin }) => {
    origin.answers({ headers: explicit, body: 'hello' });
    const head = await get('/a', {}, { method: 'HEAD' });
    assert.equal(head.header('content-length'), '5');
    assert.equal((await get('/a')).text, 'hello');
});

flow('larger objects than max_object pass through and are not stored', { route: { max_object: '64K' } }, async (s) => {
    const small = await twice(s, '/small', { headers: explicit, body: 'x'.repeat(60_000) });
    assert.ok(small.hit);
    const large = await twice(s, '/large', { headers: explicit, body: 'x'.repeat(70_000) });
    assert.equal(large.hit, false);
    assert.equal(large.second.body.length, 70_000);
    const chunked = await twice(s, '/chunked', async (exchange) => {
        await exchange.head(200, { ...explicit, 'Transfer-Encoding': 'chunked' });
        await exchange.send(`11170\r\n${'y'.repeat(70_000)}\r\n0\r\n\r\n`);
    });
    assert.equal(chunked.hit, false);
    assert.equal(chunked.second.body.length, 70_000);
});

flow('a route with cache: false stores nothing and says bypass', { route: { cache: false } }, async (s) => {
    const { second, hit } = await twice(s, '/a', { headers: explicit });
    assert.equal(hit, false);
    assertForwarded(second, 'bypass');
});

flow('empty bodies, 204 and chunked bodies are stored whole', async (s) => {
    const empty = await twice(s, '/empty', { headers: explicit, body: '' });
    assert.ok(empty.hit);
    assert.equal(empty.second.header('content-length'), '0');
    const nothing = await twice(s, '/204', { status: 204, headers: explicit });
    assert.ok(nothing.hit);
    assert.equal(nothing.second.header('content-length'), undefined);
    const chunked = await twice(s, '/chunked', async (exchange) => {
        await exchange.head(200, { ...explicit, 'Transfer-Encoding': 'chunked' });
        await exchange.send('3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\n\r\n');
    });
    assert.ok(chunked.hit);
    assert.equal(chunked.second.text, 'abcdefg');
    assert.equal(chunked.second.header('content-length'), '7');
    assert.equal(chunked.second.header('transfer-encoding'), undefined);
    assert.equal(cacheStatus(chunked.first).stored, true);
});

flow('a body that ends with the connection is stored when that is how it was framed', async ({ get, origin }) => {
    origin.answers(async (exchange) => {
        await exchange.head(200, { ...explicit, Connection: 'close' });
        await exchange.send('until the end');
        exchange.end();
    });
    assert.equal((await get('/a')).text, 'until the end');
    const second = await get('/a');
    assertHit(second);
    assert.equal(second.text, 'until the end');
});
