/** What changes by itself is said in the log: a disk tier that goes off and comes back, a breaker that opens and closes. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { DiskFaults } from './harness/disk.mjs';
import { flow, run, scratch, siteConfig } from './harness/flow.mjs';
import { startNodes } from './harness/nodes.mjs';
import { failTimes } from './harness/upstreams.mjs';

flow('a breaker that opens and is closed by hand', async ({ get, origin, node }) => {
    origin.answers((exchange) => { exchange.close(); });
    await failTimes(get, 5);
    await node.line(/warn: upstream \S+, server 127\.0\.0\.1:\d+: breaker open/);
    assert.equal((await run(['upstreams', '--admin', `127.0.0.1:${node.adminPort}`, '--close', 'app'])).code, 0);
    await node.line(/info: upstream \S+, server 127\.0\.0\.1:\d+: breaker closed/);
});

flow('a disk tier that goes off and comes back', { node: false }, async (s) => {
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    const at = path.join(folder, 'tier');
    const faults = new DiskFaults(at);
    const [node] = await startNodes(s, ['test-1'], () => ({
        config: siteConfig([s.origin.url], { route: { disk: 'pin' }, config: { disk: { path: at, size: '64M' }, state: { path: path.join(folder, 'state.db') } } }),
        env: faults.env,
    }));
    s.origin.answers({ headers: { 'Cache-Control': 'max-age=3600' }, body: 'hello' });
    faults.broken();
    await node.get('/a');
    await node.line(/error: disk tier off: /);
    faults.clear();
    await node.line(/info: disk tier on again/);
});
