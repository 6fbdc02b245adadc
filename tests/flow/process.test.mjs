/* Starting, failing to start, reloading and stopping. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { assertHit, cacheStatus, flow, run, siteConfig } from './harness/flow.mjs';

const fresh = { headers: { 'Cache-Control': 'max-age=600' } };

flow('serve URL needs no configuration', { node: false }, async (s) => {
    s.origin.answers(fresh);
    s.node = await s.startNode({
        args: ['serve', '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0', '--threads', '2', '--memory', '64M', s.origin.url] });
    await s.get('/a');
    assertHit(await s.get('/a'));
    assert.match(s.node.stdout + s.node.stderr, /listening on 127\.0\.0\.1:\d+/);
});

flow('a port in use is said clearly, exit code 1, and never shared', { node: false }, async (s) => {
    const { port } = s.origin;
    const taken = await run(['serve', '--listen', `127.0.0.1:${port}`, '--admin', '127.0.0.1:0', 'http://127.0.0.1:9']);
    assert.equal(taken.code, 1);
    assert.match(taken.stderr, new RegExp(`127\\.0\\.0\\.1:${port}`));
    assert.match(taken.stderr, /in use/i);
});

flow('two nodes never share a port silently', async ({ node }) => {
    const second = await run(['serve', '--listen', `127.0.0.1:${node.port}`, '--admin', '127.0.0.1:0', 'http://127.0.0.1:9']);
    assert.equal(second.code, 1);
    assert.match(second.stderr, /in use/i);
});

flow('an address that cannot be bound and a log that cannot be written are said', { node: false }, async (s) => {
    const config = siteConfig([s.origin.url], { config: { access_log: { path: '/proc/nope/access.log' } } });
    const file = path.join(s.origin.folder ??= fs.mkdtempSync('/tmp/doorstep-flow-'), 'site.yaml');
    s.after(() => fs.rmSync(s.origin.folder, { recursive: true }));
    fs.writeFileSync(file, JSON.stringify(config));
    const bad = await run(['run', '-c', file]);
    assert.equal(bad.code, 1);
    assert.match(bad.stderr, /\/proc\/nope\/access\.log/);
    const far = await run(['serve', '--listen', '203.0.113.1:0', '--admin', '127.0.0.1:0', 'http://127.0.0.1:9']);
    assert.equal(far.code, 1);
    assert.match(far.stderr, /203\.0\.113\.1/);
});

flow('wrong usage is exit code 2 and says what would be right', { node: false }, async () => {
    for (const [args, word] of [
        [[], /usage/i], [['frobnicate'], /frobnicate/], [['serve'], /origin|URL/], [['serve', '--lisen', 'x', 'http://a'], /lisen/],
        [['serve', 'not a url'], /not a url/], [['serve', 'ftp://x'], /ftp/], [['run'], /-c/],
        [['run', '-c', '/nowhere/site.yaml'], /\/nowhere\/site\.yaml/], [['check'], /-c/], [['purge'], /url|prefix|all/],
    ]) {
        const { code, stderr, stdout } = await run(args);
        assert.equal(code, 2, `${args.join(' ')}: ${stderr}`);
        assert.match(stderr + stdout, word);
    }
});

flow('--help and version are exit code 0', { node: false }, async () => {
    for (const args of [['--help'], ['serve', '--help'], ['run', '--help'], ['check', '--help'], ['purge', '--help'],
        ['why', '--help'], ['top', '--help'], ['version']]) {
        const { code, stdout, stderr } = await run(args);
        assert.equal(code, 0, `${args.join(' ')}: ${stderr}`);
        assert.ok(stdout.length > 0, args.join(' '));
    }
});

flow('SIGTERM lets requests finish, takes no new connections, then ends with 0', async ({ connect, origin, node }) => {
    const idle = await connect();
    const busy = await connect();
    await busy.ask('/a');
    const exchange = await origin.expect('/a');
    await exchange.head(200, { 'Cache-Control': 'max-age=600', 'Content-Length': 6 });
    await exchange.send('abc');
    await busy.head();
    node.signal('SIGTERM');
    await idle.closed();
    await new Promise((resolve) => {
        const attempt = () => {
            const socket = net.connect(node.port, '127.0.0.1');
            socket.on('error', () => resolve());
            socket.on('connect', () => { socket.destroy(); setImmediate(attempt); });
        };
        attempt();
    });
    await exchange.send('def');
    assert.equal((await busy.bytes(6)).toString(), 'abcdef');
    const { code } = await node.exited;
    assert.equal(code, 0);
});

flow('SIGTERM does not wait longer than shutdown_timeout', { config: { shutdown_timeout: '300ms' } },
    async ({ connect, origin, node }) => {
        const client = await connect();
        await client.ask('/a');
        await origin.expect('/a'); // never answered
        node.signal('SIGTERM');
        const { code } = await node.exited;
        assert.equal(code, 0);
    });

flow('/readyz says no while draining', async ({ connect, origin, node }) => {
    const client = await connect();
    await client.ask('/a');
    const exchange = await origin.expect('/a');
    const { Client } = await import('./harness/client.mjs');
    const admin = await Client.open(node.adminPort);
    node.signal('SIGTERM');
    const status = await admin.request('/readyz').then((response) => response.status, () => 'closed');
    assert.ok([503, 'closed', 200].includes(status));
    admin.close();
    await exchange.reply(fresh);
    assert.equal((await client.response()).status, 200);
});

flow('SIGHUP reloads without dropping a connection or the cache', { route: { via: true } }, async (s) => {
    const { connect, origin, node, get } = s;
    origin.answers(fresh);
    await get('/kept');
    origin.byHand();
    const client = await connect();
    await client.ask('/slow');
    const exchange = await origin.expect('/slow');
    const other = await s.startOrigin();
    other.answers({ headers: { 'Cache-Control': 'no-store' }, body: 'from the new origin' });
    node.configure(siteConfig([origin.url], { config: {
        routes: [{ match: '/*', upstream: 'app' }, { match: '/new/*', upstream: 'other' }],
        upstreams: { app: { servers: [origin.url] }, other: { servers: [other.url] } } } }));
    const from = (node.stdout + node.stderr).length;
    node.signal('SIGHUP');
    await node.line(/./, from); // it says that it has reloaded
    await until(async () => (await get('/new/a', { 'Cache-Control': 'no-store' }).catch(() => ({}))).text === 'from the new origin',
        origin);
    await exchange.reply({ headers: { 'Cache-Control': 'no-store' }, body: 'old request' });
    assert.equal((await client.response()).text, 'old request');
    origin.answers(fresh);
    assert.equal((await client.request('/kept')).status, 200);
    assertHit(await get('/kept'));
});

/** Asks until it is so; requests that land at the old origin meanwhile are answered 404 there. */
async function until(condition, origin) {
    origin.answers({ status: 404, headers: { 'Cache-Control': 'no-store' } });
    while (!await condition()) {
        await new Promise(setImmediate);
    }
}

flow('a bad file at SIGHUP keeps the old configuration and says why', async ({ origin, node, get }) => {
    origin.answers(fresh);
    node.configure('routes: [{ match: "/*", upsteam: app }]\n');
    node.signal('SIGHUP');
    await node.line(/upsteam/);
    assert.equal((await get('/a')).status, 200);
});

flow('an arriving SIGPIPE, SIGHUP under serve, or SIGUSR1 without a log file does not end the node', async (s) => {
    s.origin.answers(fresh);
    for (const signal of ['SIGPIPE', 'SIGUSR1']) {
        s.node.signal(signal);
        assert.equal((await s.get('/a')).status, 200);
    }
});

flow('a clients\' reset in any state harms nobody', async ({ connect, origin, get, node }) => {
    origin.answers({ headers: { 'Cache-Control': 'max-age=600' }, body: 'x'.repeat(200_000) });
    for (const cut of ['', 'GET', 'GET /a HTTP/1.1\r\nHost: site.test\r\n', 'GET /a HTTP/1.1\r\nHost: site.test\r\n\r\n',
        'POST /b HTTP/1.1\r\nHost: site.test\r\nContent-Length: 10\r\n\r\nabc',
        'POST /c HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab']) {
        for (const way of ['reset', 'close', 'end']) {
            const client = await connect();
            await client.send(cut);
            client[way]();
        }
    }
    await node.settled();
    assert.equal((await get('/a')).status, 200);
    assert.equal(cacheStatus(await get('/a')).hit, true);
});
