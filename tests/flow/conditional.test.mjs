/* Conditional requests: answered from what is stored, and used to ask the origin again. */
import assert from 'node:assert/strict';
import { assertHit, cacheStatus, flow, httpDate } from './harness/flow.mjs';

const LAST = httpDate(-100_000);
const fresh = { 'Cache-Control': 'max-age=600', ETag: '"abc"', 'Last-Modified': LAST };
/** Stale the moment it arrives, yet worth keeping. */
const stale = { ...fresh, Age: '700' };

function conditions(name, rows, headers = fresh) {
    flow(name, async ({ get, origin }) => {
        origin.answers({ headers });
        await get('/a');
        for (const [asked, status] of rows) {
            const response = await get('/a', asked);
            assert.equal(response.status, status, JSON.stringify(asked));
            assert.equal(response.body.length, status === 304 ? 0 : 8);
        }
        assert.equal(origin.count, 1);
    });
}

conditions('If-None-Match lists are compared weakly', [
    [{ 'If-None-Match': '"abc"' }, 304],
    [{ 'If-None-Match': 'W/"abc"' }, 304],
    [{ 'If-None-Match': '"x", "abc"' }, 304],
    [{ 'If-None-Match': ['"x"', '"y", W/"abc"'] }, 304],
    [{ 'If-None-Match': '*' }, 304],
    [{ 'If-None-Match': '"ABC"' }, 200],
    [{ 'If-None-Match': '"x"' }, 200],
    [{ 'If-None-Match': 'abc' }, 200],
    [{ 'If-None-Match': '"x,"abc""' }, 200],
]);

conditions('a weak stored ETag matches weakly too', [
    [{ 'If-None-Match': '"abc"' }, 304],
    [{ 'If-None-Match': 'W/"abc"' }, 304],
], { ...fresh, ETag: 'W/"abc"' });

conditions('If-None-Match comes before If-Modified-Since', [
    [{ 'If-None-Match': '"x"', 'If-Modified-Since': httpDate() }, 200],
    [{ 'If-None-Match': '"abc"', 'If-Modified-Since': httpDate(-1_000_000) }, 304],
]);

conditions('If-Modified-Since is compared with Last-Modified', [
    [{ 'If-Modified-Since': LAST }, 304],
    [{ 'If-Modified-Since': httpDate(-50_000) }, 304],
    [{ 'If-Modified-Since': httpDate(-200_000) }, 200],
    [{ 'If-Modified-Since': 'yesterday' }, 200],
]);

flow('a 304 carries ETag, Date, Cache-Control, Vary, Expires, Content-Location, and no length', async (s) => {
    const headers = { ...fresh, Date: httpDate(-5), Vary: 'X-A', Expires: httpDate(600), 'Content-Location': '/b',
        'Content-Type': 'text/plain', 'X-Other': '1' };
    s.origin.answers({ headers });
    await s.get('/a');
    const response = await s.get('/a', { 'If-None-Match': '"abc"' });
    assert.equal(response.status, 304);
    for (const name of ['ETag', 'Date', 'Cache-Control', 'Vary', 'Expires', 'Content-Location']) {
        assert.equal(response.header(name), headers[name], name);
    }
    assert.ok(response.header('age'));
    assert.equal(response.header('content-length'), undefined);
    assert.equal(response.header('transfer-encoding'), undefined);
    assert.equal(cacheStatus(response).hit, true);
});

flow('a stale answer is revalidated with both validators; a 304 keeps the body and renews the head', async (s) => {
    const { get, origin } = s;
    origin.answers(
        { headers: { ...stale, 'X-Keep': 'old', 'X-Change': 'old' }, body: 'the body' },
        { status: 304, headers: { 'Cache-Control': 'max-age=900', ETag: '"abc"', 'X-Change': 'new',
            'Content-Length': '3', Age: null } });
    await get('/a');
    const second = await get('/a');
    assert.equal(origin.requests[1].header('if-none-match'), '"abc"');
    assert.equal(origin.requests[1].header('if-modified-since'), LAST);
    assert.equal(second.status, 200);
    assert.equal(second.text, 'the body');
    assert.equal(cacheStatus(second).fwd, 'stale');
    assert.equal(cacheStatus(second)['fwd-status'], 304);
    const third = await get('/a');
    const { ttl } = assertHit(third);
    assert.ok(ttl > 600, `ttl ${ttl}`);
    assert.equal(third.text, 'the body');
    assert.equal(third.header('content-length'), '8');
    assert.equal(third.header('x-change'), 'new');
    assert.equal(third.header('x-keep'), 'old');
    assert.equal(third.header('cache-control'), 'max-age=900');
    assert.equal(origin.count, 2);
});

flow('a 304 whose ETag is strong where the stored one is weak is believed, and the stored one stays', async (s) => {
    const { get, origin } = s; // servers that compress on the way out do this
    origin.answers({ headers: { 'Cache-Control': 'no-cache', ETag: 'W/"abc"' }, body: 'the body' },
        { status: 304, headers: { 'Cache-Control': 'no-cache', ETag: '"abc"' } });
    await get('/a');
    const second = await get('/a');
    assert.equal(second.status, 200);
    assert.equal(second.text, 'the body');
    assert.equal(second.header('etag'), 'W/"abc"');
});

flow('a 304 about something else is not believed: the answer is fetched whole', async ({ get, origin }) => {
    origin.answers({ headers: { 'Cache-Control': 'no-cache', ETag: '"abc"' }, body: 'old' },
        { status: 304, headers: { ETag: '"other"' } },
        (exchange) => (exchange.header('if-none-match') ? { status: 304, headers: { ETag: '"other"' } }
            : { headers: { ETag: '"other"', 'Cache-Control': 'max-age=600' }, body: 'new' }));
    await get('/a');
    const second = await get('/a');
    assert.equal(second.status, 200);
    assert.equal(second.text, 'new');
});

flow('a changed answer replaces the stored one', async ({ get, origin }) => {
    origin.answers({ headers: stale, body: 'old' },
        { headers: { 'Cache-Control': 'max-age=600', ETag: '"new"' }, body: 'new' });
    await get('/a');
    assert.equal((await get('/a')).text, 'new');
    const third = await get('/a');
    assertHit(third);
    assert.equal(third.header('etag'), '"new"');
});

flow('a conditional request whose answer is revalidated gets its 304', async ({ get, origin }) => {
    origin.answers({ headers: stale }, { status: 304, headers: { ETag: '"abc"', 'Cache-Control': 'max-age=600' } });
    await get('/a');
    assert.equal((await get('/a', { 'If-None-Match': '"abc"' })).status, 304);
    assert.equal((await get('/a')).status, 200);
    assert.equal(origin.count, 2);
});

flow('a client\'s own condition does not reach the origin when the answer is to be stored', async ({ get, origin }) => {
    origin.answers({ headers: fresh });
    const first = await get('/a', { 'If-None-Match': '"abc"' });
    assert.equal(first.status, 304);
    assert.equal((await get('/a')).text.length, 8);
    assert.ok(origin.count <= 2);
});

flow('a 304 for a client with another validator does not break what is stored', async ({ get, origin }) => {
    origin.answers((exchange) => (exchange.header('if-none-match')
        ? { status: 304, headers: { ETag: '"abc"', 'Cache-Control': 'max-age=600' } } : { headers: stale, body: 'whole' }));
    await get('/a');
    const other = await get('/a', { 'If-None-Match': '"other"' });
    assert.equal(other.status, 200);
    assert.equal(other.text, 'whole');
});

flow('If-Match and If-Unmodified-Since are the origin\'s business', async ({ get, origin }) => {
    origin.answers({ headers: fresh }, (exchange) => ({ status: exchange.header('if-match') ? 412 : 200, headers: fresh }));
    await get('/a');
    const response = await get('/a', { 'If-Match': '"zzz"' });
    assert.ok([200, 412].includes(response.status));
    assertHit(await get('/a'));
});

flow('conditions do not apply to an error from the origin', async ({ get, origin }) => {
    origin.answers({ status: 404, headers: { 'Cache-Control': 'max-age=600', ETag: '"abc"' } });
    await get('/a');
    assert.equal((await get('/a', { 'If-None-Match': '"abc"' })).status, 404);
});
