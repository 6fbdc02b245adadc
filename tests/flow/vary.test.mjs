/* Vary: which stored variant may answer which request. */
import assert from 'node:assert/strict';
import { assertForwarded, assertHit, flow, httpDate } from './harness/flow.mjs';

const fresh = (vary, more = {}) => ({ headers: { 'Cache-Control': 'max-age=600', Vary: vary, ...more } });

/** First request with `stored`, then with `asked`: does the stored variant answer? */
function matches(name, rows) {
    flow(name, async ({ get, origin }) => {
        for (const [at, [vary, stored, asked, expected, more]] of rows.entries()) {
            origin.answers(fresh(vary, more));
            const before = origin.count;
            await get(`/${at}`, stored);
            const second = await get(`/${at}`, asked);
            const what = `row ${at}: ${JSON.stringify([vary, stored, asked])} ${second.header('cache-status')}`;
            assert.equal(origin.count - before, expected ? 1 : 2, what);
            if (!expected) {
                assertForwarded(second);
            }
        }
    });
}

matches('a variant answers requests with the same selecting fields, present or absent', [
    ['X-A', { 'X-A': '1' }, { 'X-A': '1' }, true],
    ['X-A', { 'X-A': '1' }, { 'X-A': '2' }, false],
    ['X-A', { 'X-A': '1' }, {}, false],
    ['X-A', {}, {}, true],
    ['X-A', {}, { 'X-A': '1' }, false],
    ['X-A', {}, { 'X-A': '' }, false],
    ['X-A, X-B', { 'X-A': '1', 'X-B': '2' }, { 'X-B': '2', 'X-A': '1' }, true],
    ['X-A, X-B', { 'X-A': '1', 'X-B': '2' }, { 'X-A': '1', 'X-B': '3' }, false],
    [['X-A', 'X-B'], { 'X-A': '1', 'X-B': '2' }, { 'X-A': '1', 'X-B': '3' }, false],
    ['x-a', { 'X-A': '1' }, { 'X-a': '1' }, true],
    ['X-A', { 'X-A': '1', 'X-C': '1' }, { 'X-A': '1', 'X-C': '2' }, true],
    ['', { 'X-A': '1' }, { 'X-A': '2' }, true],
]);

matches('any * means never reuse', [
    ['*', {}, {}, false],
    ['X-A, *', {}, {}, false],
    [['X-A', '*'], {}, {}, false],
    ['*, *', {}, {}, false],
]);

matches('white space and line splits do not make a variant', [
    ['X-A', { 'X-A': 'a,b' }, { 'X-A': 'a, b' }, true],
    ['X-A', { 'X-A': 'a, b' }, { 'X-A': ['a', 'b'] }, true],
    ['X-A', { 'X-A': 'a, b' }, { 'X-A': '  a ,\tb  ' }, true],
    ['X-A', { 'X-A': 'a, b' }, { 'X-A': 'b, a' }, false],
]);

matches('Accept-Language is compared by case and order', [
    ['Accept-Language', { 'Accept-Language': 'en, de' }, { 'Accept-Language': 'EN, De' }, true],
    ['Accept-Language', { 'Accept-Language': 'en, de;q=0.5' }, { 'Accept-Language': 'de;q=0.5, en' }, true],
    ['Accept-Language', { 'Accept-Language': 'en, de;q=0.5' }, { 'Accept-Language': 'de, en;q=0.5' }, false],
]);

matches('Accept-Encoding is compared by the codings that matter', [
    ['Accept-Encoding', { 'Accept-Encoding': 'gzip, br' }, { 'Accept-Encoding': 'br,gzip' }, true],
    ['Accept-Encoding', { 'Accept-Encoding': 'gzip, deflate, br' }, { 'Accept-Encoding': 'GZIP, deflate, br' }, true],
    ['Accept-Encoding', { 'Accept-Encoding': 'gzip' }, { 'Accept-Encoding': 'identity' }, false],
    ['Accept-Encoding', { 'Accept-Encoding': 'gzip' }, { 'Accept-Encoding': 'gzip;q=0' }, false],
    ['Accept-Encoding', { 'Accept-Encoding': 'gzip' }, { 'Accept-Encoding': 'gzip, x-weird' }, true],
]);

matches('a stored Content-Language may satisfy the best-ranked language', [
    ['Accept-Language', { 'Accept-Language': 'de' }, { 'Accept-Language': 'de, en;q=0.5' }, true,
        { 'Content-Language': 'de' }],
    ['Accept-Language', { 'Accept-Language': 'de' }, { 'Accept-Language': 'en, de;q=0.5' }, false,
        { 'Content-Language': 'de' }],
]);

flow('several variants live side by side', async ({ get, origin }) => {
    origin.answers(fresh('X-A'));
    const stored = {};
    for (const value of ['1', '2', '3']) {
        stored[value] = (await get('/a', { 'X-A': value })).text;
    }
    for (const value of ['1', '2', '3']) {
        const again = await get('/a', { 'X-A': value });
        assertHit(again);
        assert.equal(again.text, stored[value]);
    }
    assertForwarded(await get('/a', { 'X-A': '4' }), 'vary-miss');
});

flow('the number of variants is bounded', { config: { limits: { variants_per_key: 4 } } }, async ({ get, origin }) => {
    origin.answers(fresh('X-A'));
    for (let i = 0; i < 20; i++) {
        await get('/a', { 'X-A': String(i) });
    }
    let hits = 0;
    for (let i = 0; i < 20; i++) {
        const before = origin.count;
        await get('/a', { 'X-A': String(i), 'Cache-Control': 'only-if-cached' });
        assert.equal(origin.count, before);
    }
    for (let i = 0; i < 20; i++) {
        const response = await get('/a', { 'X-A': String(i), 'Cache-Control': 'only-if-cached' });
        hits += response.status === 200 ? 1 : 0;
    }
    assert.ok(hits >= 1 && hits <= 4, `${hits} variants`);
});

flow('the newest of several matching variants is used', async ({ get, origin }) => {
    origin.answers(
        { headers: { 'Cache-Control': 'max-age=600', Vary: 'X-A', Date: httpDate(-100) }, body: 'older' },
        { headers: { 'Cache-Control': 'max-age=600', Vary: 'X-B', Date: httpDate(0) }, body: 'newer' });
    await get('/a', { 'X-A': '1', 'X-B': '1' });
    await get('/a', { 'X-A': '2', 'X-B': '1' });
    assert.equal((await get('/a', { 'X-A': '1', 'X-B': '1' })).text, 'newer');
});

flow('all validators of a key are offered when the wanted variant is missing', async ({ get, origin }) => {
    origin.answers(fresh('X-A', { ETag: '"one"' }), fresh('X-A', { ETag: '"two"' }), fresh('X-A'));
    await get('/a', { 'X-A': '1' });
    await get('/a', { 'X-A': '2' });
    const third = await get('/a', { 'X-A': '3' });
    assert.equal(third.status, 200);
});
