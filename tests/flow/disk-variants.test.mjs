/** Variants on disk whose bodies are too large to be read whole: a confirmed one must not stand in the way of the others. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { assertHit, cacheStatus, flow, scratch, siteConfig } from './harness/flow.mjs';
import { restartNode, startNodes } from './harness/nodes.mjs';
import { until } from './harness/server.mjs';

/** Nothing waits to be written, and so many records can be found. */
function holds(node, objects) {
    return until(async () => {
        const all = await node.metrics();
        return all.get('doorstep_disk_queued_bytes') === 0 && all.get('doorstep_disk_objects') === objects;
    }, `the disk tier holds ${objects}`);
}

flow('a large variant that was confirmed leaves the others where they are', { node: false }, async (s) => {
    const folder = scratch(), body = Buffer.alloc(2_000_000, 'x');
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    const config = siteConfig([s.origin.url], { route: { disk: 'pin' },
        config: { memory: { size: '64M', max_object: '8M' }, disk: { path: path.join(folder, 'tier'), size: '64M' } } });
    let [node] = await startNodes(s, ['test-1'], () => ({ config }));
    const headers = { 'Cache-Control': 'max-age=600', Vary: 'X-A', ETag: '"e"' };
    s.origin.answers((exchange) => (exchange.header('if-none-match') ? { status: 304, headers } : { headers, body }));
    for (const [i, kind] of ['1', '2', '3'].entries()) {
        await node.get('/v', { 'X-A': kind });
        await holds(node, i + 2); // and their names, which the next one must find
    }
    node = await restartNode(s, node);
    assert.equal(cacheStatus(await node.get('/v', { 'X-A': '1' })).detail, 'disk');
    const confirmed = await node.get('/v', { 'X-A': '1', 'Cache-Control': 'max-age=0' });
    assert.match(confirmed.header('cache-status'), /fwd-status=304/);
    assert.ok(confirmed.body.equals(body));
    await holds(node, 4);
    for (const kill of [false, true]) {
        node = await restartNode(s, node, { kill });
        for (const kind of ['1', '2', '3']) {
            const response = await node.get('/v', { 'X-A': kind });
            assert.equal(assertHit(response).detail, 'disk', kind);
            assert.ok(response.body.equals(body));
        }
    }
    assert.equal(s.origin.count, 4);
});
