/* Stale answers: while revalidating, and when the origin fails. */
import assert from 'node:assert/strict';
import { assertForwarded, assertHit, cacheStatus, flow, proxyStatus } from './harness/flow.mjs';

/** Stale by 100 s the moment it arrives. */
const stale = (directives = '', more = {}) => ({
    headers: { 'Cache-Control': `max-age=600${directives}`, Age: '700', ETag: '"v"', ...more }, body: 'stored' });

flow('stale-while-revalidate serves at once, asks once in the background and replaces the entry', async (s) => {
    const { get, origin } = s;
    origin.answers(stale(', stale-while-revalidate=1000'));
    await get('/a');
    origin.byHand();
    for (let i = 0; i < 5; i++) {
        const response = await get('/a');
        const found = assertHit(response);
        assert.ok(found.ttl <= -100 && found.ttl > -130, `ttl ${found.ttl}`);
        assert.equal(response.text, 'stored');
    }
    const background = await origin.expect('/a');
    assert.equal(background.header('if-none-match'), '"v"');
    assert.equal(origin.count, 2);
    await background.reply({ headers: { 'Cache-Control': 'max-age=600', ETag: '"w"' }, body: 'replaced' });
    await until(async () => (await get('/a')).text === 'replaced');
    assert.ok(cacheStatus(await get('/a')).ttl > 0);
    assert.equal(origin.count, 2);
});

/** Asks again and again until it is so; the watchdog ends it otherwise. */
async function until(condition) {
    while (!await condition()) {
        await new Promise(setImmediate);
    }
}

flow('a background revalidation that gets a 304 renews the entry', async ({ get, origin }) => {
    origin.answers(stale(', stale-while-revalidate=1000'),
        { status: 304, headers: { 'Cache-Control': 'max-age=600', ETag: '"v"' } });
    await get('/a');
    assertHit(await get('/a'));
    await until(async () => cacheStatus(await get('/a')).ttl > 0);
    assert.equal(origin.count, 2);
    assert.equal((await get('/a')).text, 'stored');
});

flow('a background revalidation that fails keeps the stored answer', async ({ get, origin }) => {
    origin.answers(stale(', stale-while-revalidate=1000'), { status: 503, body: 'broken' });
    await get('/a');
    for (let i = 0; i < 3; i++) {
        assert.equal((await get('/a')).text, 'stored');
    }
});

flow('past the stale-while-revalidate window the client waits for the origin', async ({ get, origin }) => {
    origin.answers(stale(', stale-while-revalidate=50'), { headers: { 'Cache-Control': 'max-age=600' }, body: 'new' });
    await get('/a');
    const response = await get('/a');
    assertForwarded(response, 'stale');
    assert.equal(response.text, 'new');
});

flow('a route may give the window', { route: { stale_while_revalidate: '1000s' } }, async ({ get, origin }) => {
    origin.answers(stale());
    await get('/a');
    origin.byHand();
    assertHit(await get('/a'));
    await (await origin.expect()).reply({ headers: { 'Cache-Control': 'max-age=600' } });
});

for (const directive of ['must-revalidate', 'proxy-revalidate', 'no-cache']) {
    flow(`${directive} forbids stale-while-revalidate and stale on error`, async ({ get, origin }) => {
        origin.answers(stale(`, stale-while-revalidate=1000, stale-if-error=1000, ${directive}`),
            { headers: { 'Cache-Control': 'max-age=600' }, body: 'new' });
        await get('/a');
        assert.equal((await get('/a')).text, 'new', 'not served stale');
        origin.answers(stale(`, stale-if-error=1000, ${directive}`));
        await get('/b');
        await origin.gone();
        const failed = await get('/b');
        assert.ok([502, 504].includes(failed.status), `status ${failed.status}`);
        await origin.back();
    });
}

flow('s-maxage forbids stale on error; windows written beside it still count', async ({ get, origin }) => {
    origin.answers(stale(', s-maxage=600'));
    await get('/bare');
    origin.answers(stale(', s-maxage=600, stale-if-error=1000'));
    await get('/window');
    await origin.gone();
    assert.equal((await get('/bare')).status, 502);
    assert.equal((await get('/window')).text, 'stored');
    await origin.back();
});

flow('an origin that refuses connections: stale is served and marked', async ({ get, origin }) => {
    origin.answers(stale());
    await get('/a');
    await origin.gone();
    const response = await get('/a');
    assert.equal(response.status, 200);
    assert.equal(response.text, 'stored');
    assert.ok(Number(response.header('age')) >= 700);
    const found = cacheStatus(response);
    assert.ok(found.hit || found.fwd === 'stale', response.header('cache-status'));
    await origin.back();
});

flow('an origin that closes or resets without an answer: stale is served', async ({ get, origin }) => {
    origin.answers(stale());
    await get('/a');
    origin.answers((exchange) => { exchange.end(); });
    assert.equal((await get('/a')).text, 'stored');
    origin.answers((exchange) => { exchange.reset(); });
    assert.equal((await get('/a')).text, 'stored');
    origin.answers(async (exchange) => { await exchange.send('garbage\r\n\r\n'); exchange.end(); });
    assert.equal((await get('/a')).text, 'stored');
});

flow('an origin that does not answer in time: stale is served', { upstream: { first_byte_timeout: '200ms' } },
    async ({ get, origin }) => {
        origin.answers(stale());
        await get('/a');
        origin.byHand();
        assert.equal((await get('/a')).text, 'stored');
    });

flow('max_stale_on_error: 0 turns that off', { route: { max_stale_on_error: '0s' } }, async ({ get, origin }) => {
    origin.answers(stale());
    await get('/a');
    await origin.gone();
    const response = await get('/a');
    assert.equal(response.status, 502);
    assert.ok(proxyStatus(response).error);
    await origin.back();
});

flow('what is staler than max_stale_on_error is not served', { route: { max_stale_on_error: '50s' } },
    async ({ get, origin }) => {
        origin.answers(stale());
        await get('/a');
        await origin.gone();
        assert.equal((await get('/a')).status, 502);
        await origin.back();
    });

flow('a 5xx is replaced by a stale answer only within stale-if-error', async ({ get, origin }) => {
    for (const status of [500, 502, 503, 504]) {
        origin.answers(stale(', stale-if-error=1000'), { status, body: 'broken' });
        await get(`/in${status}`);
        assert.equal((await get(`/in${status}`)).text, 'stored', String(status));
        origin.answers(stale(', stale-if-error=50'), { status, body: 'broken' });
        await get(`/out${status}`);
        const late = await get(`/out${status}`);
        assert.equal(late.status, status);
        assert.equal(late.text, 'broken');
        origin.answers(stale(), { status, body: 'broken' });
        await get(`/none${status}`);
        assert.equal((await get(`/none${status}`)).status, status);
    }
});

flow('a 4xx is never replaced', async ({ get, origin }) => {
    origin.answers(stale(', stale-if-error=1000'), { status: 404, body: 'gone' });
    await get('/a');
    assert.equal((await get('/a')).status, 404);
});

flow('a fresh 5xx is never replaced by a stored 5xx', async ({ get, origin }) => {
    origin.answers({ ...stale(', stale-if-error=1000'), status: 503 }, { status: 500, body: 'now' });
    await get('/a');
    const response = await get('/a');
    assert.equal(response.status, 500);
    assert.equal(response.text, 'now');
});

flow('guarantee: available answers with whatever is stored', { route: { guarantee: 'available' } }, async (s) => {
    const { get, origin } = s;
    origin.answers(stale(', must-revalidate'));
    await get('/a');
    await origin.gone();
    const response = await get('/a');
    assert.equal(response.status, 200);
    assert.equal(response.text, 'stored');
    await origin.back();
});

flow('guarantee: bounded answers with an error past its bound', { route: { guarantee: 'bounded', max_stale: '50s' } },
    async ({ get, origin }) => {
        origin.answers(stale(', stale-if-error=1000'));
        await get('/a');
        await origin.gone();
        assert.ok((await get('/a')).status >= 500);
        await origin.back();
    });

flow('guarantee: origin serves nothing without the origin\'s word', { route: { guarantee: 'origin' } },
    async ({ get, origin }) => {
        origin.answers({ headers: { 'Cache-Control': 'max-age=600', ETag: '"v"' }, body: 'stored' },
            { status: 304, headers: { ETag: '"v"', 'Cache-Control': 'max-age=600' } });
        await get('/a');
        assert.equal((await get('/a')).text, 'stored');
        assert.equal(origin.count, 2);
        await origin.gone();
        assert.ok((await get('/a')).status >= 500);
        await origin.back();
    });

flow('when nothing is stored an unreachable origin is 502, a silent one 504',
    { upstream: { first_byte_timeout: '200ms' } }, async ({ get, origin }) => {
        const slow = await get('/slow');
        assert.equal(slow.status, 504);
        assert.equal(proxyStatus(slow).error, 'http_response_timeout');
        await origin.gone();
        const refused = await get('/refused');
        assert.equal(refused.status, 502);
        assert.equal(proxyStatus(refused).error, 'connection_refused');
        await origin.back();
    });
