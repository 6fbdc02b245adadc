/* Tags: what clients see of them, what becomes of them in a 304, and whom they reach. */
import assert from 'node:assert/strict';
import { assertForwarded, assertHit, flow, run } from './harness/flow.mjs';

const tagged = {
    headers: { 'Cache-Control': 'max-age=600', ETag: '"v1"', 'Cache-Tag': 'product-1, shop', 'Surrogate-Key': 'red blue',
        'Cache-Groups': '"g1", "g2"' },
    body: 'tagged',
};
const purge = (node, ...what) => run(['purge', '--admin', `127.0.0.1:${node.adminPort}`, ...what]);

function assertStripped(response) {
    assert.equal(response.header('cache-tag'), undefined);
    assert.equal(response.header('surrogate-key'), undefined);
    assert.equal(response.header('cache-groups'), '"g1", "g2"');
}

flow('clients see groups and no tags: when it is fetched, stored, confirmed or asked for in part', async ({ get, origin }) => {
    origin.answers(tagged);
    const first = await get('/a');
    assertForwarded(first);
    assertStripped(first);
    const hit = await get('/a');
    assertHit(hit);
    assertStripped(hit);
    const part = await get('/a', { Range: 'bytes=0-2' });
    assert.equal(part.status, 206);
    assertStripped(part);
    assert.equal((await get('/a', { 'If-None-Match': '"v1"' })).header('cache-tag'), undefined);
});

flow('clients do not see the tags of what is not stored either', async ({ get, origin }) => {
    origin.answers({ ...tagged, headers: { ...tagged.headers, 'Cache-Control': 'no-store' } });
    assertStripped(await get('/a'));
    assertStripped(await get('/b', {}, { method: 'POST', body: 'x' }));
});

flow('tags: keep shows them as they came', { route: { tags: 'keep' } }, async ({ get, origin }) => {
    origin.answers(tagged);
    await get('/a');
    const hit = await get('/a');
    assertHit(hit);
    assert.deepEqual(hit.all('cache-tag'), ['product-1, shop']);
    assert.deepEqual(hit.all('surrogate-key'), ['red blue']);
});

for (const [tags, what] of [['strip', ['--tag', 'product-1']], ['strip', ['--tag', 'blue']], ['keep', ['--tag', 'shop']]]) {
    flow(`a 304 without tags leaves those that are stored (tags: ${tags}, purge ${what.join(' ')})`, { route: { tags } },
        async ({ get, origin, node }) => {
            origin.answers({ ...tagged, headers: { ...tagged.headers, 'Cache-Control': 'max-age=60', Age: '100' } },
                { status: 304, headers: { ETag: '"v1"', 'Cache-Control': 'max-age=600' } }, { ...tagged, body: 'new' });
            await get('/a');
            await get('/a');
            assertHit(await get('/a'));
            assert.equal(origin.count, 2);
            assert.equal((await purge(node, ...what)).code, 0);
            assert.equal((await get('/a')).text, 'new');
        });
}

flow('a 304 with tags replaces them', async ({ get, origin, node }) => {
    origin.answers({ ...tagged, headers: { ...tagged.headers, 'Cache-Control': 'max-age=60', Age: '100' } },
        { status: 304, headers: { ETag: '"v1"', 'Cache-Control': 'max-age=600', 'Cache-Tag': 'other' } }, { ...tagged, body: 'new' });
    await get('/a');
    await get('/a');
    await purge(node, '--tag', 'product-1');
    assertHit(await get('/a'));
    await purge(node, '--tag', 'other');
    assert.equal((await get('/a')).text, 'new');
});

flow('a purge by tag reaches what carried it in either field', async ({ get, origin, node }) => {
    origin.answers(tagged);
    for (const tag of ['product-1', 'shop', 'red', 'blue']) {
        await get('/a');
        assertHit(await get('/a'));
        await purge(node, '--tag', tag);
        assertForwarded(await get('/a'));
    }
    await purge(node, '--tag', 'green');
    assertHit(await get('/a'));
});

flow('Cache-Group-Invalidation of a write empties its groups, on this origin only', async ({ get, origin }) => {
    origin.answers((exchange) => (exchange.method === 'POST'
        ? { status: 204, headers: { 'Cache-Group-Invalidation': '"g2"' } } : tagged));
    await get('/a');
    await get('/a', { Host: 'other.test' });
    await get('/write', {}, { method: 'POST', body: 'x' });
    assertForwarded(await get('/a'));
    assertHit(await get('/a', { Host: 'other.test' }));
});

flow('Clear-Site-Data passes through, stored answers included', async ({ get, origin }) => {
    origin.answers({ headers: { 'Cache-Control': 'max-age=60', 'Clear-Site-Data': '"cache", "cookies"' } });
    assert.equal((await get('/a')).header('clear-site-data'), '"cache", "cookies"');
    assert.equal((await get('/a')).header('clear-site-data'), '"cache", "cookies"');
    assert.equal((await get('/b', {}, { method: 'POST', body: 'x' })).header('clear-site-data'), '"cache", "cookies"');
});
