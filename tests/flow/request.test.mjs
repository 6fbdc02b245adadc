/* What a request may ask of the cache, what makes a key, and whom we believe. */
import assert from 'node:assert/strict';
import { assertForwarded, assertHit, cacheStatus, flow } from './harness/flow.mjs';

const fresh = { headers: { 'Cache-Control': 'max-age=600', ETag: '"v"' } };
const aged = { headers: { 'Cache-Control': 'max-age=600', Age: '300', ETag: '"v"' } };
const stale = { headers: { 'Cache-Control': 'max-age=600', Age: '700', ETag: '"v"' } };

function wishes(name, reply, rows, options = {}) {
    flow(name, options, async ({ get, origin }) => {
        for (const [at, [asked, forwarded]] of rows.entries()) {
            origin.answers(reply);
            await get(`/${at}`);
            const before = origin.count;
            const response = await get(`/${at}`, asked);
            assert.equal(origin.count - before, forwarded ? 1 : 0,
                `${JSON.stringify(asked)}: ${response.header('cache-status')}`);
        }
    });
}

wishes('no-cache, max-age and min-fresh are honoured', aged, [
    [{}, false],
    [{ 'Cache-Control': 'no-cache' }, true],
    [{ Pragma: 'no-cache' }, true],
    [{ Pragma: 'no-cache', 'Cache-Control': 'max-age=600' }, false],
    [{ 'Cache-Control': 'max-age=0' }, true],
    [{ 'Cache-Control': 'max-age=200' }, true],
    [{ 'Cache-Control': 'max-age=400' }, false],
    [{ 'Cache-Control': 'min-fresh=100' }, false],
    [{ 'Cache-Control': 'min-fresh=500' }, true],
    [{ 'Cache-Control': 'no-transform, unknown=1' }, false],
]);

wishes('max-stale accepts an answer past its time', stale, [
    [{}, true],
    [{ 'Cache-Control': 'max-stale' }, false],
    [{ 'Cache-Control': 'max-stale=500' }, false],
    [{ 'Cache-Control': 'max-stale=10' }, true],
]);

wishes('max-stale does not overrule must-revalidate',
    { headers: { ...stale.headers, 'Cache-Control': 'max-age=600, must-revalidate' } },
    [[{ 'Cache-Control': 'max-stale' }, true]]);

wishes('a route may ignore what the request says', aged, [
    [{ 'Cache-Control': 'no-cache' }, false],
    [{ 'Cache-Control': 'max-age=0' }, false],
    [{ Pragma: 'no-cache' }, false],
    [{ 'Cache-Control': 'no-store' }, false],
], { route: { client_cache_control: 'ignore' } });

flow('no-cache stores what it fetched', async ({ get, origin }) => {
    origin.answers(fresh);
    await get('/a');
    assert.equal((await get('/a', { 'Cache-Control': 'no-cache' })).status, 200);
    assertHit(await get('/a'));
});

flow('no-store is passed through and stores nothing', async ({ get, origin }) => {
    origin.answers(fresh);
    await get('/a', { 'Cache-Control': 'no-store' });
    assertForwarded(await get('/a'));
});

flow('only-if-cached never reaches the origin: a hit, or 504', async ({ get, origin }) => {
    origin.answers(fresh);
    const missing = await get('/a', { 'Cache-Control': 'only-if-cached' });
    assert.equal(missing.status, 504);
    assert.equal(origin.count, 0);
    await get('/a');
    assertHit(await get('/a', { 'Cache-Control': 'only-if-cached' }));
});

flow('only-if-cached is 504 for what is stale, unless the client takes it', async ({ get, origin }) => {
    origin.answers(stale);
    await get('/a');
    assert.equal((await get('/a', { 'Cache-Control': 'only-if-cached' })).status, 504);
    assertHit(await get('/a', { 'Cache-Control': 'only-if-cached, max-stale=1000' }));
    assert.equal(origin.count, 1);
});

flow('requests with no-cache are still coalesced, so that they cannot flood an origin', async ({ connect, node, origin }) => {
    const clients = await Promise.all(Array.from({ length: 10 }, () => connect()));
    await Promise.all(clients.map((client) => client.ask('/a', { headers: { 'Cache-Control': 'no-cache' } })));
    const exchange = await origin.expect('/a');
    await node.settled();
    await exchange.reply(fresh);
    for (const client of clients) {
        assert.equal((await client.response()).text, 'answer 1');
    }
    assert.equal(origin.count, 1);
});

/** Do two requests share an entry? */
function keys(name, route, rows) {
    flow(name, { route }, async ({ get, origin }) => {
        origin.answers(fresh);
        for (const [one, other, same] of rows) {
            const before = origin.count;
            await get(...one);
            await get(...other);
            assert.equal(origin.count - before, same ? 1 : 2, JSON.stringify([one, other]));
        }
    });
}

keys('by default the whole query, the path by its exact case and the host make the key', {}, [
    [['/a?x=1'], ['/a?x=1'], true],
    [['/b?x=1'], ['/b?x=2'], false],
    [['/c?x=1&y=2'], ['/c?y=2&x=1'], false],
    [['/d'], ['/d?'], false],
    [['/e'], ['/E'], false],
    [['/f', { Host: 'one.test' }], ['/f', { Host: 'two.test' }], false],
    [['/g', { Host: 'one.test' }], ['/g', { Host: 'ONE.test:80' }], true],
    [['/h', { Cookie: 'a=1' }], ['/h', { Cookie: 'a=2' }], true],
    [['/a/../i'], ['/i'], false],
]);

keys('query parameters can be ignored and sorted', { key: { query: { ignore: ['utm_*', 'fbclid'], sort: true } } }, [
    [['/a?x=1&utm_source=mail'], ['/a?x=1'], true],
    [['/b?fbclid=9'], ['/b'], true],
    [['/c?x=1&y=2'], ['/c?y=2&x=1'], true],
    [['/d?x=1'], ['/d?x=2'], false],
]);

keys('only the kept query parameters count', { key: { query: { keep: ['id'] } } }, [
    [['/a?id=1&session=5'], ['/a?id=1&session=6'], true],
    [['/b?id=1'], ['/b?id=2'], false],
    [['/c?other=1'], ['/c'], true],
]);

keys('named cookies and headers enter the key', { key: { cookies: ['theme'], headers: ['X-Device'] } }, [
    [['/a', { Cookie: 'theme=dark; id=1' }], ['/a', { Cookie: 'id=2; theme=dark' }], true],
    [['/b', { Cookie: 'theme=dark' }], ['/b', { Cookie: 'theme=light' }], false],
    [['/c', { 'X-Device': 'phone' }], ['/c', { 'X-Device': 'desk' }], false],
    [['/d', { 'X-Device': 'phone' }], ['/d', { 'X-Device': 'phone' }], true],
]);

keys('host aliases share entries', { key: { host: 'main.test' } }, [
    [['/a', { Host: 'www.main.test' }], ['/a', { Host: 'main.test' }], true],
]);

flow('the query reaches the origin whole, whatever the key ignores', { route: { key: { query: { ignore: ['utm_*'], sort: true } } } },
    async ({ get, origin }) => {
        origin.answers(fresh);
        await get('/a?utm_x=1&z=2&a=3');
        assert.equal(origin.requests[0].target, '/a?utm_x=1&z=2&a=3');
    });

flow('routes of different scopes share nothing', {
    config: { routes: [
        { match: 'one.test/*', upstream: 'app', scope: 'one', key: { host: 'same' } },
        { match: 'two.test/*', upstream: 'app', scope: 'two', key: { host: 'same' } },
    ] } }, async ({ get, origin }) => {
    origin.answers(fresh);
    await get('/a', { Host: 'one.test' });
    assertForwarded(await get('/a', { Host: 'two.test' }));
    assert.equal((await get('/a', { Host: 'three.test' })).status, 404);
});

flow('Forwarded fields of strangers are replaced, those of trusted proxies believed', {
    route: { forwarded: 'both' } }, async ({ get, origin }) => {
    origin.answers({});
    await get('/a', { 'X-Forwarded-For': '203.0.113.7', Forwarded: 'for=203.0.113.7', 'X-Forwarded-Proto': 'https' });
    const seen = origin.requests[0];
    assert.doesNotMatch(seen.header('x-forwarded-for'), /203\.0\.113\.7/);
    assert.doesNotMatch(seen.header('forwarded'), /203\.0\.113\.7/);
    assert.equal(seen.header('x-forwarded-proto'), 'http');
});

flow('a trusted proxy\'s X-Forwarded-For is kept and grown', {
    route: { forwarded: 'both' }, config: { trusted_proxies: ['127.0.0.0/8'] } }, async ({ get, origin }) => {
    origin.answers({});
    await get('/a', { 'X-Forwarded-For': '203.0.113.7', Forwarded: 'for=203.0.113.7;proto=https',
        'X-Forwarded-Proto': 'https' });
    const seen = origin.requests[0];
    assert.match(seen.header('x-forwarded-for'), /^203\.0\.113\.7, *127\.0\.0\.1$/);
    assert.match(seen.header('forwarded'), /for="?203\.0\.113\.7"?.*, *for="?127\.0\.0\.1/);
    assert.equal(seen.header('x-forwarded-proto'), 'https');
});

flow('client_cache_control: honour shows why a request went forward', async ({ get, origin }) => {
    origin.answers(fresh);
    await get('/a');
    assert.equal(cacheStatus(await get('/a', { 'Cache-Control': 'no-cache' })).fwd, 'request');
});
