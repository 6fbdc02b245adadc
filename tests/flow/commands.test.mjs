/* check, why, purge, top: the commands people type. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { assertForwarded, assertHit, cacheStatus, flow, run, scratch } from './harness/flow.mjs';

const fresh = { headers: { 'Cache-Control': 'max-age=600', ETag: '"v"' } };

/** Writes a file and runs `check -c` on it. */
async function check(text) {
    const folder = scratch();
    const file = path.join(folder, 'site.yaml');
    fs.writeFileSync(file, text);
    try {
        return { ...await run(['check', '-c', file]), file };
    } finally {
        fs.rmSync(folder, { recursive: true });
    }
}

flow('check accepts a good file', { node: false }, async () => {
    const { code, stderr } = await check(`
node: { name: lisbon-1, region: eu }
listen: ["127.0.0.1:8080"]
memory: { size: 512M }
upstreams:
  app: { servers: ["http://10.0.0.5:3000", "http://10.0.0.6:3000"] }
routes:
  - { match: "/assets/*", upstream: app, ttl: 1h, stale_while_revalidate: 1d, stale_if_error: 7d }
  - { match: "/api/*", upstream: app, guarantee: bounded, max_stale: 5s }
  - { match: "/*", upstream: app }
`);
    assert.equal(code, 0, stderr);
});

flow('check reports all mistakes at once, each with file:line:column, option and nearest spelling', { node: false }, async () => {
    const { code, stderr, stdout, file } = await check(`listen: ["127.0.0.1:8080"]
memry: { size: 512M }
upstreams:
  app: { servers: ["http://10.0.0.5:3000"], conect_timeout: 3s }
routes:
  - { match: "/*", upstream: ap, ttl: soon }
`);
    const said = stderr + stdout;
    assert.equal(code, 2);
    for (const [at, word, nearest] of [['2:1', 'memry', 'memory'], [/4:\d+/, 'conect_timeout', 'connect_timeout'],
        [/6:\d+/, 'ap', 'app'], [/6:\d+/, 'ttl', '']]) {
        const line = said.split('\n').find((one) => one.includes(word) && one.includes(nearest)
            && new RegExp(`${file}:${at.source ?? at}`).test(one));
        assert.ok(line, `${word} at ${at}: ${said}`);
    }
});

flow('check survives what is no YAML, empty, or not there', { node: false }, async () => {
    for (const text of ['', '{', ']', 'a: [1', '\tx', '- 1\n- 2\n', 'routes: 5', '\0\0\0', 'a: &a [*a]', 'x: !!binary "="']) {
        const { code, stderr, stdout } = await check(text);
        assert.equal(code, 2, JSON.stringify(text) + stderr);
        assert.ok((stderr + stdout).length > 10);
    }
    assert.equal((await run(['check', '-c', '/nowhere.yaml'])).code, 2);
});

flow('check refuses a path in a server\'s URL: the client\'s path reaches the origin unchanged', { node: false }, async () => {
    const { code, stderr, stdout } = await check('upstreams: { app: { servers: ["http://10.0.0.5/base"] } }\n'
        + 'routes: [{ match: "/*", upstream: app }]\n');
    assert.equal(code, 2);
    assert.match(stderr + stdout, /:1:\d+.*base/);
});

flow('schema prints a JSON Schema and reference every option', { node: false }, async () => {
    const schema = await run(['schema']);
    assert.equal(schema.code, 0);
    const { properties } = JSON.parse(schema.stdout);
    for (const name of ['node', 'listen', 'memory', 'upstreams', 'routes', 'limits', 'admin']) {
        assert.ok(properties[name], name);
    }
    const reference = await run(['reference']);
    assert.equal(reference.code, 0);
    for (const word of ['stale_while_revalidate', 'waiters_per_fill', 'first_byte_timeout', 'set_cookie']) {
        assert.match(reference.stdout, new RegExp(word));
    }
});

flow('run refuses a bad file the same way', { node: false }, async () => {
    const folder = scratch();
    fs.writeFileSync(path.join(folder, 'site.yaml'), 'routs: []\n');
    const { code, stderr } = await run(['run', '-c', path.join(folder, 'site.yaml')]);
    fs.rmSync(folder, { recursive: true });
    assert.equal(code, 2);
    assert.match(stderr, /routs.*routes/s);
});

const admin = (node) => ['--admin', `127.0.0.1:${node.adminPort}`];
const url = (node, target) => `http://127.0.0.1:${node.port}${target}`;
/** The Host a URL to the node means. */
const host = (node) => ({ Host: `127.0.0.1:${node.port}` });

flow('why explains how a URL is treated: key, variants, freshness arithmetic, tier', async ({ get, origin, node }) => {
    origin.answers({ headers: { ...fresh.headers, Vary: 'Accept-Language' } });
    await get('/app.js', host(node));
    const { code, stdout, stderr } = await run(['why', ...admin(node), url(node, '/app.js')]);
    assert.equal(code, 0, stderr);
    for (const word of [/key/i, /accept-language/i, /max-age/i, /600/, /memory/i]) {
        assert.match(stdout, word);
    }
});

flow('why gives the reason when something is not stored', async ({ get, origin, node }) => {
    origin.answers({ headers: { 'Cache-Control': 'private' } });
    await get('/mine', host(node));
    const { code, stdout, stderr } = await run(['why', ...admin(node), url(node, '/mine')]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /private/);
});

flow('why shows no cookie, query value or credential', async ({ get, origin, node }) => {
    origin.answers(fresh);
    await get('/a?token=topsecret', { ...host(node), Cookie: 'a=topsecret' });
    const { stdout } = await run(['why', ...admin(node), url(node, '/a?token=topsecret')]);
    assert.doesNotMatch(stdout.replaceAll(url(node, '/a?token=topsecret'), ''), /topsecret/);
});

async function purge(node, ...args) {
    const { code, stdout, stderr } = await run(['purge', ...admin(node), ...args]);
    assert.equal(code, 0, stderr);
    return stdout;
}

flow('check names files of the AI gateway that are missing or wrong', { node: false }, async () => {
    const folder = scratch();
    fs.writeFileSync(path.join(folder, 'prices.json'), '{"prices": 1}');
    const { code, stdout } = await check(`
listen: ["127.0.0.1:8080"]
ai:
  prices: ${folder}/prices.json
  providers: { p: { url: "http://127.0.0.1:1/v1", key_files: ["${folder}/key"] } }
  semantic: { model: "${folder}/model" }
routes: [{ match: "/v1/*", ai: { semantic: embedding } }]
`);
    fs.rmSync(folder, { recursive: true });
    assert.equal(code, 1);
    for (const said of [/ai\.prices: .*prices/, /key_files .*\/key: No such file/, /ai\.semantic\.model .*\/model: No such file/]) {
        assert.match(stdout, said);
    }
});

flow('why says that a path is of the AI gateway', { config: { ai: { providers: { p: { url: 'http://127.0.0.1:1/v1' } } }, routes: [{ match: '/v1/*', ai: {} }] } }, async ({ node }) => {
    const { code, stdout } = await run(['why', '--admin', `127.0.0.1:${node.adminPort}`, 'http://x/v1/chat/completions']);
    assert.equal(code, 0);
    assert.match(stdout, /^route +\/v1\/\* -> AI gateway$/m);
    assert.doesNotMatch(stdout, /origin/);
    assert.equal(JSON.parse((await run(['why', '--json', '--admin', `127.0.0.1:${node.adminPort}`, 'http://x/v1/models'])).stdout).service, 'ai');
});

flow('purge --url drops one URL with all its variants', async ({ get, origin, node }) => {
    origin.answers({ headers: { 'Cache-Control': 'max-age=600', Vary: 'X-A' } });
    const ask = (target, value) => get(target, { ...host(node), 'X-A': value });
    await ask('/a', '1');
    await ask('/a', '2');
    await ask('/b', '1');
    await purge(node, '--url', url(node, '/a'));
    assertForwarded(await ask('/a', '1'));
    assertForwarded(await ask('/a', '2'));
    assertHit(await ask('/b', '1'));
});

flow('purge --prefix drops what begins so, and nothing else', async ({ get, origin, node }) => {
    origin.answers(fresh);
    for (const target of ['/x/1', '/x/2?q', '/xy', '/y']) {
        await get(target, host(node));
    }
    await purge(node, '--prefix', url(node, '/x/'));
    assertForwarded(await get('/x/1', host(node)));
    assertForwarded(await get('/x/2?q', host(node)));
    assertHit(await get('/xy', host(node)));
    assertHit(await get('/y', host(node)));
});

flow('purge --all drops everything', async ({ get, origin, node }) => {
    origin.answers(fresh);
    await get('/a');
    await get('/b', { Host: 'other.test' });
    await purge(node, '--all');
    assertForwarded(await get('/a'));
    assertForwarded(await get('/b', { Host: 'other.test' }));
});

flow('purge --soft makes stale what is stored, to be revalidated', async ({ get, origin, node }) => {
    origin.answers(fresh, { status: 304, headers: fresh.headers });
    await get('/a', host(node));
    await purge(node, '--url', url(node, '/a'), '--soft');
    const response = await get('/a', host(node));
    assert.equal(cacheStatus(response).fwd, 'stale');
    assert.equal(origin.requests[1].header('if-none-match'), '"v"');
    assertHit(await get('/a', host(node)));
});

flow('a fill under way when its URL is purged is not stored', async ({ connect, get, origin, node }) => {
    const client = await connect();
    await client.ask('/a', { headers: host(node) });
    const exchange = await origin.expect('/a');
    await purge(node, '--url', url(node, '/a'));
    await exchange.reply({ ...fresh, body: 'from before' });
    assert.equal((await client.response()).text, 'from before');
    origin.answers({ ...fresh, body: 'after' });
    assert.equal((await get('/a', host(node))).text, 'after');
});

flow('the PURGE method drops a URL where it is allowed, and is refused elsewhere', {
    config: { purge: { method: true, allow: ['127.0.0.0/8'] } } }, async ({ get, origin }) => {
    origin.answers(fresh);
    await get('/a');
    const response = await get('/a', {}, { method: 'PURGE' });
    assert.ok(response.status < 300);
    assertForwarded(await get('/a'));
});

flow('PURGE from strangers is refused', { config: { purge: { method: true, allow: ['192.0.2.1'] } } }, async ({ get, origin }) => {
    origin.answers(fresh);
    await get('/a');
    assert.ok([403, 405].includes((await get('/a', {}, { method: 'PURGE' })).status));
    assertHit(await get('/a'));
    assert.equal(origin.count, 1);
});

flow('commands say it when no node answers', { node: false }, async (s) => {
    const { port } = s.origin;
    await s.origin.gone();
    for (const args of [['purge', '--admin', `127.0.0.1:${port}`, '--all'], ['why', '--admin', `127.0.0.1:${port}`, 'http://a/']]) {
        const { code, stderr } = await run(args);
        assert.equal(code, 1, args.join(' '));
        assert.match(stderr, new RegExp(String(port)));
    }
    await s.origin.back();
});

flow('/top on the admin listener gives what the live view shows', async ({ get, origin, node }) => {
    origin.answers(fresh);
    await get('/a');
    await get('/a');
    assert.equal((await node.admin('/top')).status, 200);
});
