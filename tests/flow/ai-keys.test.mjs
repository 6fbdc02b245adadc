/* doorstep keys: made, shown once, listed, revoked; they survive a restart and a kill, and never show up anywhere else. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { flow, run, scratch, siteConfig } from './harness/flow.mjs';

const KEY = /^ds_[0-9A-Za-z]{46}\n$/;
const admin = (node) => ['--admin', `127.0.0.1:${node.adminPort}`];
const list = async (node) => JSON.parse((await run(['keys', 'list', '--json', ...admin(node)])).stdout).keys;

/** A node whose state is in a folder that outlives it. */
async function stateful(s, config = {}) {
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    const log = path.join(folder, 'access.log');
    const start = () => s.startNode({ config: siteConfig([s.origin.url],
        { config: { state: { path: path.join(folder, 'state.db') }, access_log: { path: log, query: true }, ...config } }),
        env: { DOORSTEP_DEBUG: '1' } });
    return { folder, start };
}

flow('create prints the key alone on standard output, and what it is about on standard error', { node: false }, async (s) => {
    const { start } = await stateful(s);
    const node = await start();
    const made = await run(['keys', 'create', '--name', 'build server', '--tenant', 'acme', '--expires', '30d', '--scopes', 'inference,models',
        '--rules', 'strict', ...admin(node)]);
    assert.equal(made.code, 0, made.stderr);
    assert.match(made.stdout, KEY);
    assert.match(made.stderr, new RegExp(`${made.stdout.slice(0, 11)}.*acme`));
    assert.ok(!made.stderr.includes(made.stdout.slice(11, 20)));
    const [key, ...more] = await list(node);
    assert.equal(more.length, 0);
    assert.equal(key.prefix, made.stdout.slice(0, 11));
    assert.deepEqual([key.name, key.tenant, key.scopes, key.rules, key.revoked], ['build server', 'acme', 'inference,models', 'strict', 0]);
    assert.equal(key.expires - key.created, 30 * 86400);
    const table = await run(['keys', 'list', ...admin(node)]);
    assert.match(table.stdout, /PREFIX[^\n]*\nds_\w{8} [^\n]*acme[^\n]*build server[^\n]*good/);
    const json = await run(['keys', 'create', '--name', 'x', '--json', ...admin(node)]);
    const answer = JSON.parse(json.stdout);
    assert.match(`${answer.key}\n`, KEY);
    assert.deepEqual([answer.tenant, answer.scopes, answer.expires, answer.durable], ['default', 'inference,embeddings,models', 0, true]);
});

flow('what was answered survives kill -9, and no key is in the log, the state or any page', { node: false }, async (s) => {
    const { folder, start } = await stateful(s);
    let node = await start();
    const keys = [];
    for (const name of ['one', 'two', 'three']) {
        keys.push((await run(['keys', 'create', '--name', name, ...admin(node)])).stdout.trim());
    }
    const revoked = await run(['keys', 'revoke', keys[1].slice(0, 11), ...admin(node)]);
    assert.equal(revoked.stdout, `revoked: ${keys[1].slice(0, 11)} (two)\n`);
    const before = await list(node);
    await node.kill();
    const said = node.stdout + node.stderr;
    node = await start();
    assert.deepEqual(await list(node), before);
    assert.deepEqual(before.map((key) => [key.name, key.revoked > 0]), [['one', false], ['two', true], ['three', false]]);
    assert.equal((await run(['keys', 'revoke', before[2].id, ...admin(node)])).code, 0);
    assert.ok((await list(node))[2].revoked > 0);
    const pages = (await Promise.all(['/ai/keys', '/metrics', '/top'].map((page) => node.admin(page)))).map((page) => page.body.toString()).join();
    await node.stop();
    const files = fs.readdirSync(folder).map((file) => fs.readFileSync(path.join(folder, file), 'latin1')).join();
    for (const key of keys) {
        for (const place of [said, node.stdout + node.stderr, pages, files]) {
            assert.ok(!place.includes(key.slice(11, 20)), 'a secret is nowhere');
        }
    }
});

flow('wrong wishes are refused with a reason, and a key on the command line is not repeated', { node: false }, async (s) => {
    const node = await (await stateful(s)).start();
    const key = (await run(['keys', 'create', '--name', 'one', ...admin(node)])).stdout.trim();
    for (const [args, code, said] of [[[], 2, /create, list or revoke/], [['create'], 2, /--name/], [['create', '--name', ''], 2, /--name/],
        [['create', '--name', 'a', '--expires', 'soon'], 2, /30d/], [['create', '--name', 'a', '--expires', '0d'], 2, /30d/],
        [['list', '--name', 'a'], 2, /create/], [['revoke'], 2, /PREFIX/], [['revoke', key], 2, /never/], [['create', '--nmae', 'a'], 2, /unknown/],
        [['create', key], 2, /too many/], [['create', '--name', 'a', '--tenant', 'a:b', ...admin(node)], 1, /tenant/],
        [['create', '--name', 'a\nb', ...admin(node)], 1, /name/], [['revoke', 'ds_nonsense', ...admin(node)], 1, /no such key/]]) {
        const answer = await run(['keys', ...args]);
        assert.equal(answer.code, code, args.join(' ') + answer.stderr);
        assert.match(answer.stderr, said);
        assert.equal(answer.stdout, '');
        assert.ok(!answer.stderr.includes(key));
    }
    assert.equal((await list(node)).length, 1);
    assert.match((await run(['keys', '--help'])).stdout, /usage: doorstep keys/);
});

flow('keys are made with POST, by who has the token, and not by web pages', { node: false }, async (s) => {
    const node = await (await stateful(s)).start();
    assert.equal((await node.admin('/ai/keys?name=a', { method: 'PUT' })).status, 405);
    assert.equal((await node.admin('/ai/keys/revoke?key=a')).status, 405);
    assert.equal((await node.admin('/ai/keys?name=a', { method: 'POST', headers: { 'Sec-Fetch-Site': 'cross-site' } })).status, 403);
    assert.equal((await node.admin('/ai/keys?name=a&expires=x', { method: 'POST' })).status, 400);
    assert.equal((await list(node)).length, 0);
    const guarded = await (await stateful(s, { admin: { listen: '127.0.0.1:0', token: 'secret-1' } })).start();
    const refused = await run(['keys', 'create', '--name', 'a', ...admin(guarded)]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /DOORSTEP_ADMIN_TOKEN/);
    assert.match((await run(['keys', 'create', '--name', 'a', ...admin(guarded)], { env: { DOORSTEP_ADMIN_TOKEN: 'secret-1' } })).stdout, KEY);
});

flow('without a state a key lives as long as the node, and create says so', async ({ node }) => {
    const made = await run(['keys', 'create', '--name', 'a', ...admin(node)]);
    assert.match(made.stdout, KEY);
    assert.match(made.stderr, /ends with it/);
});
