/* The admin listener and the commands that ask it: tokens, Unix sockets, hosts, and what people read. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { assertForwarded, assertHit, flow, run, scratch, siteConfig } from './harness/flow.mjs';

const fresh = { headers: { 'Cache-Control': 'max-age=600' } };
const admin = (node) => ['--admin', `127.0.0.1:${node.adminPort}`];
const host = (node) => ({ Host: `127.0.0.1:${node.port}` });
const url = (node, target) => `http://127.0.0.1:${node.port}${target}`;

flow('the commands send the token from a file or the environment, and say so when it is missing', {
    config: { admin: { listen: '127.0.0.1:0', token: 'secret-1' } } }, async ({ node }) => {
    const file = path.join(node.folder, 'token');
    fs.writeFileSync(file, 'secret-1\n');
    const refused = await run(['purge', ...admin(node), '--all']);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /DOORSTEP_ADMIN_TOKEN.*--token-file/);
    assert.equal((await run(['purge', ...admin(node), '--token-file', file, '--all'])).code, 0);
    assert.equal((await run(['purge', '--all', ...admin(node)], { env: { DOORSTEP_ADMIN_TOKEN: 'secret-1' } })).code, 0);
    assert.equal((await run(['purge', '--all', ...admin(node)], { env: { DOORSTEP_ADMIN_TOKEN: 'secret-2' } })).code, 1);
    const gone = await run(['purge', '--all', '--token-file', '/nowhere/token']);
    assert.equal(gone.code, 2);
    assert.match(gone.stderr, /\/nowhere\/token/);
});

flow('over a Unix socket the commands need no token', { node: false }, async (s) => {
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    const socket = `unix:${path.join(folder, 'admin.sock')}`;
    const file = path.join(folder, 'site.yaml');
    const config = siteConfig([s.origin.url], { config: { admin: { listen: socket, token: 'secret-1' } } });
    fs.writeFileSync(file, JSON.stringify(config));
    const node = await s.startNode({ args: ['run', '-c', file] });
    await node.line(/admin on unix:/);
    const { code, stdout, stderr } = await run(['purge', '--admin', socket, '--all']);
    assert.equal(code, 0, stderr);
    assert.equal(stdout, 'purged: everything\n');
    assert.equal((await run(['top', '--once'], { env: { DOORSTEP_ADMIN: socket } })).code, 0);
});

flow('a path purges it on every host', async ({ get, origin, node }) => {
    origin.answers(fresh);
    for (const name of ['a.test', 'b.test']) {
        await get('/x?1', { Host: name });
        await get('/y', { Host: name });
    }
    assert.equal((await run(['purge', ...admin(node), '--url', '/x?1'])).stdout, 'purged: url /x?1\n');
    assertForwarded(await get('/x?1', { Host: 'a.test' }));
    assertForwarded(await get('/x?1', { Host: 'b.test' }));
    assertHit(await get('/y', { Host: 'a.test' }));
    assertHit(await get('/y', { Host: 'b.test' }));
});

flow('a URL is purged whatever cookies are in its keys', { route: { key: { cookies: ['who'] } } },
    async ({ get, origin, node }) => {
        origin.answers(fresh);
        const ask = (who) => get('/a', { ...host(node), Cookie: `who=${who}` });
        await ask('ann');
        await ask('bob');
        assertHit(await ask('ann'));
        assert.match((await run(['purge', ...admin(node), '--url', url(node, '/a')])).stdout, /^purged: url /);
        assertForwarded(await ask('ann'));
        assertForwarded(await ask('bob'));
    });

flow('what was not cacheable may be stored right after a purge', async ({ get, origin, node }) => {
    origin.answers({ headers: { 'Cache-Control': 'private' } });
    await get('/a', host(node));
    origin.answers(fresh);
    await run(['purge', ...admin(node), '--url', url(node, '/a')]);
    await get('/a', host(node));
    assertHit(await get('/a', host(node)));
    const { stdout } = await run(['why', ...admin(node), url(node, '/a')]);
    assert.match(stdout, /answered from memory/);
});

flow('why keeps the reason behind a pass marker', async ({ get, origin, node }) => {
    origin.answers({ headers: { 'Cache-Control': 'no-store' } });
    await get('/a', host(node));
    await get('/a', host(node));
    const { stdout } = await run(['why', ...admin(node), url(node, '/a')]);
    assert.match(stdout, /not stored \[no-store\]/);
    const page = JSON.parse((await run(['why', '--json', ...admin(node), url(node, '/a')])).stdout);
    assert.equal(page.not_stored.why, 'no-store');
    assert.deepEqual(page.variants, []);
});

flow('top --once fits 80 columns and counts; top --json is JSON; URLs have no queries', async ({ get, origin, node }) => {
    origin.answers(fresh);
    await get('/long/'.repeat(30));
    await get('/a?token=topsecret');
    await get('/a?token=topsecret');
    const { code, stdout, stderr } = await run(['top', '--once', ...admin(node)]);
    assert.equal(code, 0, stderr);
    assert.ok(stdout.split('\n').every((line) => line.length <= 80), stdout);
    assert.match(stdout, /\/a\?\*/);
    assert.match(stdout, /fresh 0\/s \(1\)/);
    const json = (await run(['top', '--json', ...admin(node)])).stdout;
    assert.doesNotMatch(stdout + json, /topsecret/);
    const top = JSON.parse(json);
    assert.equal(top.requests.hit, 1);
    assert.equal(top.requests.miss, 2);
    assert.equal(top.memory.objects, 2);
    assert.equal(top.upstreams[0].name, 'app');
});

flow('hostile URLs cannot reach the terminal through top', async ({ connect, origin, node }) => {
    origin.answers(fresh);
    const client = await connect();
    await client.ask('/%1b[2J\x7f\x80"\\', { headers: host(node) }).catch(() => {});
    await client.response().catch(() => {});
    const { stdout } = await run(['top', '--once', ...admin(node)]);
    assert.doesNotMatch(stdout, /[^\n -~]/);
});

flow('the admin listener names its methods, and errors are JSON', async ({ node }) => {
    const post = await node.admin('/metrics', { method: 'POST' });
    assert.equal(post.status, 405);
    assert.equal(post.header('allow'), 'GET, HEAD');
    assert.equal(JSON.parse(post.text).status, 405);
    const get = await node.admin('/purge?all=1');
    assert.equal(get.status, 405);
    assert.equal(get.header('allow'), 'POST');
    assert.equal((await node.admin('/purge', { method: 'POST' })).status, 400);
    assert.equal((await node.admin('/why?url=nonsense')).status, 400);
});

flow('a page of another site cannot purge through a browser on this machine', async ({ get, origin, node }) => {
    origin.answers(fresh);
    await get('/a');
    for (const headers of [{ Origin: 'https://evil.example' }, { Origin: 'null' }, { 'Sec-Fetch-Site': 'cross-site' }]) {
        const refused = await node.admin('/purge?all=1', { method: 'POST', headers });
        assert.equal(refused.status, 403);
        assert.match(JSON.parse(refused.text).error, /admin\.token/);
        assertHit(await get('/a'));
    }
    const allowed = await node.admin('/purge?all=1', { method: 'POST' });
    assert.equal(JSON.parse(allowed.text).purged, true);
    assertForwarded(await get('/a'));
});

flow('with a token a page that has it may purge', { config: { admin: { listen: '127.0.0.1:0', token: 'secret-1' } } },
    async ({ node }) => {
        const headers = { Authorization: 'Bearer secret-1', Origin: 'https://console.example' };
        assert.equal((await node.admin('/purge?all=1', { method: 'POST', headers })).status, 200);
    });

flow('wrong usage ends with 2 and says what is wrong', { node: false }, async () => {
    for (const [args, said] of [[['purge'], /--url/], [['purge', '--all', '--url', 'x'], /once/], [['purge', '--urk'], /--urk/],
        [['why'], /which URL/], [['why', 'a', 'b'], /too many/], [['top', '--twice'], /--twice/], [['top', '--admin'], /value/],
        [['purge', '--url', '/a', '--url', '/b'], /--url was said before/], [['purge', 'ds_secret'], /^doorstep purge: word 1 is one too many;[^_]*$/],
        [['upstreams', '--open=a', '--close=b'], /one switch at a time/]]) {
        const { code, stdout, stderr } = await run(args);
        assert.equal(code, 2, args.join(' '));
        assert.equal(stdout, '');
        assert.match(stderr, said);
    }
    for (const command of ['why', 'purge', 'top']) {
        const { code, stdout } = await run([command, '--help']);
        assert.equal(code, 0);
        assert.match(stdout, /usage: doorstep/);
    }
});

flow('why, top and purge ask another server politely and refuse its answer', async ({ node, origin }) => {
    origin.answers(fresh);
    for (const args of [['why', 'http://a/'], ['why', '--json', 'http://a/'], ['top', '--once'], ['top', '--json'], ['purge', '--all']]) {
        const { code, stderr } = await run([...args, '--admin', `127.0.0.1:${node.port}`]);
        assert.equal(code, 1);
        assert.match(stderr, /not the admin listener/);
    }
});
