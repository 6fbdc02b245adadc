/** The harness' helpers around nodes: several at once, clocks apart, small disks, and that nothing outlives a test. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Clock } from './harness/clock.mjs';
import { assertHit, flow, siteConfig } from './harness/flow.mjs';
import { askEach, restartNode, startNodes } from './harness/nodes.mjs';
import { startRelay } from './harness/relay.mjs';
import { until } from './harness/server.mjs';
import { mountTmpfs, noTmpfs } from './harness/tmpfs.mjs';

flow('a chain of nodes with a relay between them', { node: false }, async (s) => {
    s.origin.answers({ headers: { 'Cache-Control': 'max-age=60' }, body: 'hello' });
    let relay;
    const nodes = await startNodes(s, ['parent', 'child'], async (name, [parent]) => {
        relay = parent && await s.use(startRelay(parent.port));
        return siteConfig([relay ? `http://127.0.0.1:${relay.port}` : s.origin.url]);
    });
    const [fromParent, fromChild] = await askEach(nodes, '/a');
    assert.match(fromParent.header('cache-status'), /^"parent";/);
    assert.match(fromChild.header('cache-status'), /^"parent"; hit.*"child";/);
    assert.equal(s.origin.count, 1);
    await relay.cut();
    assertHit(await nodes[1].get('/a'));
    assert.ok((await nodes[1].get('/b')).status >= 500);
    const again = await restartNode(s, nodes[0], { kill: true });
    assert.equal(again.port, nodes[0].port);
    await relay.heal();
    assert.equal((await nodes[1].get('/c')).status, 200);
});

flow('a node whose clock is an hour ahead, then right', { node: false }, async (s) => {
    const clock = new Clock(3_600_000);
    const [node] = await startNodes(s, ['early'], () => ({ config: siteConfig([s.origin.url]), env: clock.env }));
    s.origin.answers({ headers: { 'Cache-Control': 'max-age=60' } });
    await node.get('/a');
    await node.get('/a');
    assert.equal(s.origin.count, 2, 'to this node the answer is an hour old');
    clock.set(0);
    await node.get('/b');
    await node.get('/b');
    assert.equal(s.origin.count, 3);
});

test('a tmpfs fills up, grows, turns read-only, and is gone afterwards', { skip: noTmpfs() }, async () => {
    const tmpfs = await mountTmpfs({ size: '1m' });
    const file = path.join(tmpfs.path, 'file');
    assert.equal(tmpfs.available, 1 << 20);
    tmpfs.fill(8192);
    assert.throws(() => fs.writeFileSync(file, Buffer.alloc(16384)), { code: 'ENOSPC' });
    tmpfs.resize('2m');
    fs.writeFileSync(file, Buffer.alloc(16384));
    tmpfs.remount('ro');
    assert.throws(() => fs.writeFileSync(file, 'x'), { code: 'EROFS' });
    tmpfs.remount('rw');
    tmpfs.free();
    const open = fs.openSync(file, 'r+');
    await tmpfs.unmount();
    fs.closeSync(open);
    assert.equal(fs.existsSync(tmpfs.path), false);
});

const VICTIM = `
const { startRedis } = await import('./harness/redis.mjs');
const { startPostgres } = await import('./harness/postgres.mjs');
const { mountTmpfs, noTmpfs } = await import('./harness/tmpfs.mjs');
const tmpfs = noTmpfs() ? null : await mountTmpfs();
const [redis, pg] = [await startRedis(), await startPostgres()];
console.log(JSON.stringify({ pids: [redis.pid, pg.pid], folders: [redis.folder, pg.folder], mount: tmpfs?.path }));
await new Promise(() => { setInterval(() => {}, 1000); });
`;

test('servers and mounts end with a test that is killed', async () => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', VICTIM],
        { cwd: import.meta.dirname, stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = await once(child.stdout, 'data');
    const { pids, folders, mount } = JSON.parse(line);
    child.kill('SIGKILL');
    await once(child, 'close');
    const isOver = (pid) => !fs.existsSync(`/proc/${pid}`)
        || /\) [ZX] /.test(fs.readFileSync(`/proc/${pid}/stat`, 'latin1'));
    await until(() => pids.every(isOver), 'the end of the servers');
    await until(() => !mount || !fs.existsSync(mount), 'the end of the mount');
    folders.forEach((folder) => fs.rmSync(folder, { recursive: true, force: true }));
});
