/* Nodes in a row: what they say to each other, loops, tokens, tags, deadlines, fallbacks, and purges that a parent has not heard of. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { assertForwarded, assertHit, cacheStatus, flow, run, scratch, siteConfig } from './harness/flow.mjs';
import { askEach, startNodes } from './harness/nodes.mjs';
import { startRedis } from './harness/redis.mjs';
import { startRelay } from './harness/relay.mjs';
import { freePort } from './harness/server.mjs';

const TOKEN = 'between-us';
const fresh = { headers: { 'Cache-Control': 'max-age=600', ETag: '"v1"', 'Cache-Tag': 'product-1, shop', 'Cache-Groups': '"g"' },
    body: 'hello' };
const url = (port) => `http://127.0.0.1:${port}`;
const members = (response) => response.header('cache-status').match(/"[^"]+"/g);

/** A node whose parent listens on `port`. */
function childConfig(port, { upstream = {}, ...options } = {}) {
    return siteConfig([url(port)], { upstream: { parent: true, token: TOKEN, ...upstream }, ...options });
}

/** A row of nodes, the first one before the origin; each one takes the next as its child. */
async function chain(s, names, options = {}) {
    return startNodes(s, names, (name, earlier) => {
        const own = options[name] ?? {};
        const config = { children: { token: TOKEN }, ...own.config };
        return earlier.length ? childConfig(earlier.at(-1).port, { ...own, config: config })
            : siteConfig([s.origin.url], { ...own, config });
    });
}

const stopped = { node: false };

flow('three nodes: each appends itself, origin side first, stored answers included', stopped, async (s) => {
    s.origin.answers(fresh);
    const nodes = await chain(s, ['one', 'two', 'three']);
    const first = await nodes[2].get('/a');
    assert.deepEqual(members(first), ['"one"', '"two"', '"three"']);
    assert.deepEqual(first.all('via').flatMap((line) => line.split(', ')), ['1.1 one', '1.1 two', '1.1 three']);
    const again = await nodes[2].get('/a');
    assertHit(again);
    assert.deepEqual(members(again), ['"one"', '"two"', '"three"']);
    assert.deepEqual(again.all('server-timing').map((line) => line.replace(/=.*/, '')), ['memory;dur']);
    assert.equal(again.header('cache-status').includes('"one"; fwd=uri-miss; fwd-status=200; stored'), true);
    assert.equal(s.origin.count, 1);
    assert.equal(s.origin.requests[0].header('cdn-loop'), 'three, two, one');
    assert.deepEqual(s.origin.requests[0].all('via').flatMap((line) => line.split(', ')), ['1.1 three', '1.1 two', '1.1 one']);
});

flow('what is only between nodes reaches neither origin nor client', stopped, async (s) => {
    s.origin.answers({ ...fresh, headers: { ...fresh.headers, 'Doorstep-Position': '0000000000000001/99', 'Doorstep-Region': 'mars' } });
    const nodes = await chain(s, ['parent', 'child']);
    const strangers = { 'Doorstep-Authorization': 'Bearer wrong', 'Doorstep-Deadline': '5000' };
    for (const answer of [await nodes[1].get('/a', strangers), await nodes[1].get('/a'), await nodes[0].get('/b', strangers),
        await nodes[0].get('/c', { 'Doorstep-Authorization': `Bearer ${TOKEN}`, 'Doorstep-Deadline': '5000' })]) {
        assert.equal(answer.status, 200);
        for (const name of ['doorstep-authorization', 'doorstep-deadline', 'doorstep-position', 'doorstep-region']) {
            assert.equal(answer.header(name), undefined, name);
        }
    }
    assert.equal(s.origin.count, 3);
    for (const request of s.origin.requests) {
        assert.ok(!/doorstep-(authorization|deadline|position|region)|between-us/i.test([request.startLine, ...request.lines].join('\n')));
    }
});

flow('the token goes to its upstream only, and into no key or variant', stopped, async (s) => {
    const other = await s.startOrigin();
    s.origin.answers({ ...fresh, headers: { ...fresh.headers, Vary: 'Doorstep-Authorization' } });
    other.answers(fresh);
    const [node] = await startNodes(s, ['child'], () => {
        const config = siteConfig([s.origin.url], { upstream: { parent: true, token: TOKEN },
            config: { children: { token: 'ours' } } });
        config.upstreams.plain = { servers: [other.url] };
        config.routes.push({ match: '/plain/*', upstream: 'plain' });
        return config;
    });
    await node.get('/plain/a', { 'Doorstep-Authorization': `Bearer ${TOKEN}` });
    assert.equal(other.requests[0].header('doorstep-authorization'), undefined);
    await node.get('/a', { 'Doorstep-Authorization': 'Bearer ours' });
    assert.deepEqual(s.origin.requests[0].all('doorstep-authorization'), [`Bearer ${TOKEN}`]);
    assertHit(await node.get('/a', { 'Doorstep-Authorization': 'Bearer ours' }));
    assertHit(await node.get('/a', { 'Doorstep-Authorization': 'Bearer something else' }));
    assertHit(await node.get('/a'));
});

flow('children get the tags that strangers do not see, and purge by them', stopped, async (s) => {
    s.origin.answers(fresh);
    const [parent, child] = await chain(s, ['parent', 'child']);
    const shown = { 'Doorstep-Authorization': `Bearer ${TOKEN}` };
    for (let i = 0; i < 2; i++) {
        assert.equal((await parent.get('/a', shown)).header('cache-tag'), 'product-1, shop');
        assert.equal((await parent.get('/a')).header('cache-tag'), undefined);
        assert.equal((await child.get('/a')).header('cache-tag'), undefined);
    }
    assert.equal((await parent.get('/a', { ...shown, 'If-None-Match': '"v1"' })).header('cache-tag'), 'product-1, shop');
    assert.equal((await parent.get('/a', { 'Doorstep-Authorization': 'Bearer between-u' })).header('cache-tag'), undefined);
    assert.equal((await child.get('/a')).header('cache-groups'), '"g"');
    assertHit(await child.get('/a'));
    await run(['purge', '--admin', `127.0.0.1:${child.adminPort}`, '--tag', 'shop']);
    assertForwarded(await child.get('/a'));
    assert.equal(s.origin.count, 1, 'the parent still has it');
});

flow('a loop over two nodes ends with 508, by CDN-Loop also without Via', stopped, async (s) => {
    const ports = [await freePort(), await freePort()];
    for (const route of [{}, { via: false }]) {
        const nodes = await startNodes(s, ['a', 'b'], (name) => ({
            ...childConfig(ports[name === 'a' ? 1 : 0], { route }), listen: [`127.0.0.1:${ports[name === 'a' ? 0 : 1]}`] }));
        for (const node of nodes) {
            const response = await node.get('/x');
            assert.equal(response.status, 508);
        }
        await Promise.all(nodes.map((node) => node.stop()));
    }
});

flow('a CDN-Loop that names us in any form is a loop; other members stay', async ({ get, origin }) => {
    origin.answers(fresh);
    for (const value of ['test-1', 'other, test-1', 'TEST-1; v=1', 'a;x="b,c" , test-1 ;y']) {
        assert.equal((await get('/a', { 'CDN-Loop': value })).status, 508, value);
    }
    assert.equal(origin.count, 0);
    await get('/a', { 'CDN-Loop': ['foo123.foocdn.example; trace="a,b"', 'test-10'] });
    assert.equal(origin.requests[0].header('cdn-loop'), 'foo123.foocdn.example; trace="a,b", test-10, test-1');
});

/** A child with a parent (behind a relay) and the origin as the way around it. */
async function withFallback(s, { route = {}, upstream = {} } = {}) {
    const [parent] = await startNodes(s, ['parent'], () => siteConfig([s.origin.url], { config: { children: { token: TOKEN } } }));
    const relay = await s.use(startRelay(parent.port));
    const [child] = await startNodes(s, ['child'], () => {
        const config = childConfig(relay.port, { route: { fallback: 'direct', ...route }, upstream });
        config.upstreams.direct = { servers: [s.origin.url] };
        return config;
    });
    return { parent, relay, child };
}

flow('a parent that is gone: the origin is asked directly, once, and the answer is kept', stopped, async (s) => {
    s.origin.answers(fresh);
    const { parent, child } = await withFallback(s);
    const normal = await child.get('/a');
    assert.match(normal.header('server-timing'), /parent;dur=/);
    await parent.kill();
    const around = await child.get('/b');
    assert.equal(around.status, 200);
    assert.equal(cacheStatus(around).detail, 'fallback');
    assert.match(around.header('server-timing'), /fallback;dur=/);
    assert.deepEqual(members(around), ['"child"']);
    assertHit(await child.get('/b'));
    assert.equal(s.origin.count, 2);
    assert.equal(s.origin.requests[1].header('doorstep-authorization'), undefined);
    assert.equal(s.origin.requests[1].header('cdn-loop'), 'child');
    assert.equal((await child.get('/c', {}, { method: 'POST', body: 'x' })).status, 502, 'a write is not sent twice');
    assert.equal(s.origin.count, 2);
});

flow('a parent whose breaker is open is not waited for', stopped, async (s) => {
    s.origin.answers(fresh);
    const { relay, child } = await withFallback(s);
    await relay.cut();
    for (let i = 0; i < 8; i++) {
        assert.equal((await child.get(`/${i}`)).status, 200);
    }
    const page = JSON.parse((await child.admin('/upstreams')).text);
    const parent = page.upstreams.find((upstream) => upstream.name === 'app');
    assert.equal(parent.breakers[0].state, 'open');
    assert.ok(page.upstreams.some((upstream) => upstream.name === 'direct'));
    const accepted = relay.accepted;
    await relay.heal();
    assert.equal(cacheStatus(await child.get('/x')).detail, 'fallback');
    assert.equal(cacheStatus(await child.get('/x', {}, { method: 'HEAD' })).hit, true);
    assert.equal(cacheStatus(await child.get('/head', {}, { method: 'HEAD' })).detail, 'fallback');
    s.origin.answers({ headers: { 'Cache-Control': 'max-age=10, stale-while-revalidate=600', Age: '100', ETag: '"v"' }, body: 'old' },
        { headers: { 'Cache-Control': 'max-age=600' }, body: 'new' });
    await child.get('/swr');
    assert.equal((await child.get('/swr')).text, 'old');
    assert.equal((await untilHit(child, '/swr', 'new')).text, 'new', 'a refresh that nobody waits for goes around, too');
    assert.equal(relay.accepted, accepted);
});

for (const status of [502, 503, 504]) {
    flow(`a parent that answers ${status}: the fallback is asked, also by those who waited`, async (s) => {
        const { origin } = s;
        const parent = await s.startOrigin();
        origin.answers(fresh);
        const [child] = await startNodes(s, ['child'], () => {
            const config = childConfig(parent.port, { route: { fallback: 'direct' } });
            config.upstreams.direct = { servers: [origin.url] };
            return config;
        });
        const waiting = [child.get('/a')];
        const asked = await parent.expect('/a');
        waiting.push(child.get('/a'), child.get('/a'));
        await child.settled();
        asked.reply({ status, body: 'sorry' });
        for (const response of await Promise.all(waiting)) {
            assert.equal(response.status, 200);
            assert.equal(response.text, 'hello');
        }
        assert.equal(origin.count, 1);
        parent.answers({ status: 500, body: 'mine' });
        assert.equal((await child.get('/b')).text, 'mine', 'a 500 is the application\'s');
    });
}

flow('both fail: what is stored comes last; without it the error names the last one asked', stopped, async (s) => {
    const stale = { headers: { 'Cache-Control': 'max-age=1, stale-if-error=600', Age: '100', ETag: '"v1"' }, body: 'old' };
    s.origin.answers(stale);
    const { relay, child } = await withFallback(s);
    await child.get('/a');
    s.origin.answers({ ...fresh, body: 'new' });
    await relay.cut();
    assert.equal((await child.get('/a')).text, 'new', 'fresh from the origin before stale from here');
    s.origin.answers(stale);
    await child.get('/b');
    await s.origin.gone();
    const response = await child.get('/b');
    assert.equal(response.text, 'old');
    assert.equal(cacheStatus(response).hit, true);
    assert.equal((await child.get('/c')).status, 502);
});

flow('answers name the region', { config: { node: { name: 'test-1', region: 'eu' } } }, async ({ get, origin }) => {
    origin.answers(fresh);
    assert.equal((await get('/a')).header('doorstep-region'), 'eu');
    assert.equal((await get('/a')).header('doorstep-region'), 'eu');
    assert.deepEqual((await get('/a', { Range: 'bytes=0-1' })).all('doorstep-region'), ['eu']);
});

flow('a child\'s region replaces its parent\'s', stopped, async (s) => {
    s.origin.answers(fresh);
    const nodes = await startNodes(s, ['parent', 'child', 'plain'], (name, earlier) => (earlier.length
        ? { ...childConfig(earlier[0].port), ...(name === 'child' && { node: { region: 'us' } }) }
        : { ...siteConfig([s.origin.url]), node: { region: 'eu' } }));
    const answers = await askEach(nodes, '/a');
    assert.deepEqual(answers.map((answer) => answer.all('doorstep-region')), [['eu'], ['us'], []]);
});

flow('a deadline goes along, and shrinks', stopped, async (s) => {
    s.origin.answers(fresh);
    const parent = await s.startOrigin();
    parent.answers(fresh);
    const [limited, timed, free] = await startNodes(s, ['limited', 'timed', 'free'], (name) => childConfig(parent.port, {
        upstream: name === 'timed' ? { total_timeout: '3s' } : {},
        config: { children: { token: 'ours' }, ...(name === 'limited' && { limits: { total_timeout: '9s' } }) } }));
    const seen = async (node, headers) => {
        await node.get(`/${parent.count}`, headers);
        const value = parent.requests.at(-1).header('doorstep-deadline');
        return value === undefined ? undefined : Number(value);
    };
    const ours = { 'Doorstep-Authorization': 'Bearer ours' };
    assert.ok((await seen(limited)) > 3000 && (await seen(limited)) <= 9000);
    assert.ok((await seen(timed)) <= 3000);
    assert.equal(await seen(free), undefined);
    assert.equal(await seen(free, { 'Doorstep-Deadline': '800' }), undefined, 'a stranger\'s does not count');
    assert.ok((await seen(free, { ...ours, 'Doorstep-Deadline': '800' })) <= 800);
    assert.ok((await seen(timed, { ...ours, 'Doorstep-Deadline': '99999' })) <= 3000);
});

flow('a request whose time is over is answered at once', { config: { children: { token: 'ours' } } }, async ({ get, origin, node }) => {
    const ours = { 'Doorstep-Authorization': 'Bearer ours' };
    assert.equal((await get('/a', { ...ours, 'Doorstep-Deadline': '0' })).status, 504);
    assert.equal(origin.count, 0);
    const late = get('/b', { ...ours, 'Doorstep-Deadline': '50' });
    await origin.expect('/b');
    assert.equal((await late).status, 504);
    assert.ok((await node.get('/.settled', { 'Cache-Control': 'only-if-cached' })).status, 504);
});

flow('small fills and revalidations share kept connections', stopped, async (s) => {
    s.origin.answers((exchange) => ({ headers: { 'Cache-Control': 'max-age=60', Age: '100', ETag: '"v"' }, body: 'x',
        status: exchange.header('if-none-match') ? 304 : 200 }));
    const [parent] = await startNodes(s, ['parent'], () => siteConfig([s.origin.url]));
    const relay = await s.use(startRelay(parent.port));
    const [child] = await startNodes(s, ['child'], () => childConfig(relay.port));
    const client = await child.client();
    for (let i = 0; i < 40; i++) {
        assert.equal((await client.request(`/${i % 20}`)).status, 200);
    }
    client.close();
    assert.equal(relay.accepted, 1);
    assert.equal(s.origin.conns.length, 1);
    assert.equal(s.origin.requests.filter((request) => request.header('if-none-match')).length, 20);
});

/** A parent that reaches the bus through a relay, and its child that reaches it directly. */
async function withBus(s, { route = {}, threads = 1 } = {}) {
    const redis = await s.use(startRedis());
    const relay = await s.use(startRelay(redis.port));
    const common = (store) => ({ children: { token: TOKEN }, shared: { url: store }, purge: { wait: '50ms' } });
    const [parent, child] = await startNodes(s, ['parent', 'child'], (name, [earlier]) => {
        if (!earlier) {
            return siteConfig([s.origin.url], { route: { shared: false }, config: common(`redis://127.0.0.1:${relay.port}`) });
        }
        const config = childConfig(earlier.port, { route: { shared: false, ...route }, config: { ...common(redis.url), threads } });
        config.upstreams.direct = { servers: [s.origin.url] };
        return config;
    });
    await Promise.all([parent, child].map((node) => node.line(/bus: caught up/)));
    return { redis, relay, parent, child };
}

const shown = { 'Doorstep-Authorization': `Bearer ${TOKEN}` };
const version = (n, more = {}) => ({ headers: { ...fresh.headers, ETag: `"v${n}"`, ...more }, body: `v${n}` });
const purgeTag = (node, tag, ...more) => run(['purge', '--admin', `127.0.0.1:${node.adminPort}`, '--tag', tag, ...more]);
const position = (response) => response.header('doorstep-position')?.split('/') ?? [];

/** Asks until it is a hit; what the bus decides is waited for. */
async function untilHit(node, target, text) {
    for (let i = 0; i < 500; i++) {
        const response = await node.get(target);
        if (cacheStatus(response).hit && (!text || response.text === text)) {
            return response;
        }
        await new Promise((resolve) => setTimeout(resolve, 10));
    }
    throw new Error(`${target} never became a hit`);
}

flow('children are told up to which purge an answer is good', stopped, async (s) => {
    s.origin.answers(fresh);
    const { parent, child } = await withBus(s);
    const [identity, before] = position(await parent.get('/a', shown));
    assert.match(identity, /^[0-9a-f]{16}$/);
    await purgeTag(parent, 'product-1');
    await untilHit(child, '/a');
    const [same, after] = position(await parent.get('/a', shown));
    assert.equal(same, identity);
    assert.ok(BigInt(after) > BigInt(before));
    assert.equal((await parent.get('/a')).header('doorstep-position'), undefined);
});

for (const soft of [[], ['--soft']]) {
    flow(`a child that knows of a ${soft.length ? 'soft ' : ''}purge its parent has not heard of asks the origin through it, and keeps nothing older`,
        stopped, async (s) => {
            s.origin.answers(version(1));
            const { relay, child } = await withBus(s);
            await child.get('/a');
            assertHit(await child.get('/a'));
            relay.blackhole();
            s.origin.answers((exchange) => (exchange.header('if-none-match') === '"v2"'
                ? { status: 304, headers: { ETag: '"v2"', 'Cache-Control': 'max-age=600' } } : version(2)));
            await purgeTag(child, 'product-1', ...soft);
            for (let i = 0; i < 3; i++) {
                const response = await child.get('/a');
                assert.equal(response.text, 'v2');
                assertForwarded(response);
            }
            assert.equal(s.origin.requests[1].header('cache-control'), 'no-cache');
            assert.equal((await child.get('/other')).text, 'v2');
            await relay.heal();
            assert.equal((await untilHit(child, '/a')).text, 'v2');
        });
}

flow('what a purge does not concern is taken from a parent that lags behind', stopped, async (s) => {
    s.origin.answers(fresh);
    const { relay, parent, child } = await withBus(s);
    await parent.get('/a');
    relay.blackhole();
    await purgeTag(child, 'something-else');
    assert.match((await child.get('/a')).header('cache-status'), /^"parent"; hit/);
    assertHit(await child.get('/a'));
    assert.equal(s.origin.count, 1);
});

flow('a child that is ahead of its parent prefers the fallback, and keeps its answer', stopped, async (s) => {
    s.origin.answers(version(1));
    const { relay, child } = await withBus(s, { route: { fallback: 'direct' } });
    await child.get('/a');
    relay.blackhole();
    s.origin.answers(version(2));
    await purgeTag(child, 'shop');
    const response = await child.get('/a');
    assert.equal(response.text, 'v2');
    assert.equal(cacheStatus(response).detail, 'fallback');
    assertHit(await child.get('/a'));
    assert.equal(s.origin.count, 2);
});

flow('many at once, with several loops, while the parent lags behind: nobody gets the old one', stopped, async (s) => {
    s.origin.answers(version(1));
    const { relay, child } = await withBus(s, { threads: 2 });
    await Promise.all(Array.from({ length: 8 }, () => child.get('/a')));
    relay.blackhole();
    s.origin.answers(version(2));
    await purgeTag(child, 'shop');
    const answers = await Promise.all(Array.from({ length: 40 }, () => child.get('/a')));
    assert.deepEqual([...new Set(answers.map((answer) => answer.text))], ['v2']);
    await relay.heal();
    assert.equal((await untilHit(child, '/a')).text, 'v2');
});

flow('hot responses of a parent are refreshed before they run out: each at its own moment, once, few at a time', stopped, async (s) => {
    s.origin.answers((exchange) => (exchange.header('if-none-match')
        ? { status: 304, headers: { ETag: '"v"', 'Cache-Control': 'max-age=6000' } }
        : { headers: { 'Cache-Control': 'max-age=600', Age: '570', ETag: '"v"' } }));
    const [parent] = await startNodes(s, ['parent'], () => siteConfig([s.origin.url]));
    const relay = await s.use(startRelay(parent.port));
    const [first, second] = await startNodes(s, ['first', 'second'], () => childConfig(relay.port));
    const refreshed = () => s.origin.requests.filter((request) => request.header('if-none-match')).map((request) => request.target);
    const visit = async (node) => {
        const client = await node.client();
        let renewed = 0;
        for (let i = 0; i < 40; i++) {
            renewed += cacheStatus(await client.request(`/${i}`)).ttl > 600 ? 1 : 0;
        }
        client.close();
        return renewed;
    };
    let renewed = 0;
    for (let round = 0; round < 300 && renewed < 2; round++) {
        renewed = await visit(first);
    }
    assert.ok(renewed >= 2, 'half of them are past their moment');
    for (let round = 0; round < 20; round++) {
        await visit(first);
    }
    const targets = refreshed();
    assert.ok(targets.length < 40, 'not all in one moment');
    assert.equal(new Set(targets).size, targets.length, 'each once');
    assert.ok(relay.accepted <= 5, `${relay.accepted} connections`);
    for (let round = 0; round < 20; round++) {
        await visit(second);
    }
    assert.equal(new Set(refreshed()).size, refreshed().length, 'what one child had refreshed, the other gets from the parent');
});

flow('what nobody asks for often is not refreshed ahead of time, nor what comes from an origin', stopped, async (s) => {
    s.origin.answers({ headers: { 'Cache-Control': 'max-age=600', Age: '599', ETag: '"v"' } });
    const [parent] = await startNodes(s, ['parent'], () => siteConfig([s.origin.url]));
    const [child] = await startNodes(s, ['child'], () => childConfig(parent.port));
    for (let i = 0; i < 30; i++) {
        await child.get(`/${i}`);
        assertHit(await child.get(`/${i}`));
    }
    for (let i = 0; i < 10; i++) {
        assertHit(await parent.get('/1'));
    }
    assert.equal(s.origin.count, 30);
});

flow('the access log names the upstream that answered', stopped, async (s) => {
    s.origin.answers(fresh);
    const [child] = await startNodes(s, ['child'], async () => {
        const config = childConfig(await freePort(), { route: { fallback: 'direct' }, config: { access_log: { path: 'stdout' } } });
        config.upstreams.direct = { servers: [s.origin.url] };
        return config;
    });
    await child.get('/a');
    assert.match((await child.line(/\{"time.*"path":"\/a".*\}/))[0], /"upstream":"direct"/);
});

test('check: a token is for parents, has no spaces, and is better not sent in clear', async () => {
    const folder = scratch();
    const check = async (upstream) => {
        const file = path.join(folder, 'site.yaml');
        fs.writeFileSync(file, JSON.stringify(siteConfig(['http://192.0.2.1'], { upstream })));
        return run(['check', '-c', file]);
    };
    try {
        const origin = await check({ token: 'x' });
        assert.notEqual(origin.code, 0);
        assert.match(origin.stdout + origin.stderr, /upstreams\.app\.token: only parents are shown a token/);
        const spaced = await check({ parent: true, token: 'x y' });
        assert.match(spaced.stdout + spaced.stderr, /a token has letters/);
        const clear = await check({ parent: true, token: 'x' });
        assert.equal(clear.code, 0);
        assert.match(clear.stdout, /upstream app: its token is sent in clear/);
        assert.doesNotMatch((await check({ parent: true, token: 'x', servers: ['https://192.0.2.1'] })).stdout, /in clear: https/);
    } finally {
        fs.rmSync(folder, { recursive: true });
    }
});

flow('three nodes, and only the last has heard of a purge: it insists through both', stopped, async (s) => {
    const redis = await s.use(startRedis());
    const relay = await s.use(startRelay(redis.port));
    s.origin.answers(version(1));
    const nodes = await startNodes(s, ['one', 'two', 'three'], (name, earlier) => {
        const store = name === 'three' ? redis.url : `redis://127.0.0.1:${relay.port}`;
        const options = { route: { shared: false },
            config: { children: { token: TOKEN }, shared: { url: store }, purge: { wait: '50ms' } } };
        return earlier.length ? childConfig(earlier.at(-1).port, options) : siteConfig([s.origin.url], options);
    });
    await Promise.all(nodes.map((node) => node.line(/bus: caught up/)));
    await nodes[2].get('/a');
    await nodes[2].get('/head');
    relay.blackhole();
    s.origin.answers(version(2));
    await purgeTag(nodes[2], 'shop');
    assert.equal((await nodes[2].get('/a')).text, 'v2');
    assert.equal((await nodes[2].get('/head', {}, { method: 'HEAD' })).header('etag'), '"v2"');
    assert.equal((await nodes[2].get('/a', { Range: 'bytes=0-1' })).text, 'v2');
    const writes = s.origin.requests.filter((request) => request.method === 'POST').length;
    assert.equal((await nodes[2].get('/a', {}, { method: 'POST', body: 'x' })).text, 'v2');
    assert.equal(s.origin.requests.filter((request) => request.method === 'POST').length, writes + 1, 'a write is sent once');
    assert.equal((await nodes[2].get('/a', { Connection: 'upgrade', Upgrade: 'websocket' })).text, 'v2');
    await relay.heal();
    assert.equal((await untilHit(nodes[2], '/a')).text, 'v2');
    assert.equal((await untilHit(nodes[1], '/a')).text, 'v2');
});

flow('a parent that is no Doorstep: its answers are believed, whatever position they claim for another bus', stopped, async (s) => {
    s.origin.answers(fresh);
    const redis = await s.use(startRedis());
    const parent = await s.startOrigin();
    parent.answers({ ...fresh, headers: { ...fresh.headers, 'Doorstep-Position': '0000000000000001/1' } });
    const [child] = await startNodes(s, ['child'], () => childConfig(parent.port,
        { route: { shared: false }, config: { shared: { url: redis.url }, purge: { wait: '50ms' } } }));
    await child.line(/bus: caught up/);
    for (const value of ['0000000000000001/1', '/', '', 'x', '0000000000000001', '0000000000000001/99999999999999999999999']) {
        parent.answers({ ...fresh, headers: { ...fresh.headers, 'Doorstep-Position': value } });
        await purgeTag(child, 'shop');
        assert.equal((await child.get('/a')).text, 'hello', value);
        assertHit(await child.get('/a'));
    }
});
