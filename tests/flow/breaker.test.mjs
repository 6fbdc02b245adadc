/* Upstreams that fail fast: circuit breakers, retries and their budget, health checks, queues, hedges. */
import assert from 'node:assert/strict';
import { cacheStatus, flow, proxyStatus, run, siteConfig } from './harness/flow.mjs';
import { failTimes, servers, until } from './harness/upstreams.mjs';

const pass = { headers: { 'Cache-Control': 'no-store' } };
const kept = { headers: { 'Cache-Control': 'max-age=0, stale-if-error=600', ETag: '"v1"' }, body: 'kept' };

flow('five failures in a row open the breaker: the sixth request fails at once and is never sent', async ({ get, origin, node }) => {
    origin.answers((exchange) => { exchange.close(); });
    await failTimes(get, 5);
    const conns = origin.conns.length;
    const response = await get('/a');
    assert.equal(response.status, 503);
    assert.equal(proxyStatus(response).error, 'destination_unavailable');
    const seconds = Number(response.header('retry-after'));
    assert.ok(seconds > 20 && seconds <= 33, `Retry-After: ${seconds}`);
    await failTimes(get, 20);
    assert.equal(origin.conns.length, conns);
    const [server] = await servers(node);
    assert.equal(server.state, 'open');
    assert.ok(server.open_for_s > 20 && server.open_for_s <= 33);
});

flow('503 answers count as failures and are passed on until it opens', async ({ get, origin, node }) => {
    origin.answers({ status: 503, headers: pass.headers, body: 'busy' });
    for (let i = 0; i < 5; i++) {
        assert.equal((await get(`/${i}`)).text, 'busy');
    }
    assert.equal(proxyStatus(await get('/x')).error, 'destination_unavailable');
    assert.equal(origin.count, 5);
    assert.equal((await servers(node))[0].state, 'open');
});

flow('500 and 404 are the application\'s own business', async ({ get, origin, node }) => {
    origin.answers({ status: 500, headers: pass.headers });
    await failTimes(get, 20);
    assert.equal(origin.count, 20);
    assert.equal((await servers(node))[0].state, 'closed');
});

flow('with the breaker open what is stored is served stale at once, and the origin sees nothing', async ({ get, origin, node }) => {
    origin.answers(kept);
    await get('/kept');
    origin.answers((exchange) => { exchange.close(); });
    await failTimes(get, 5);
    const conns = origin.conns.length;
    for (let i = 0; i < 10; i++) {
        const response = await get('/kept');
        assert.equal(response.status, 200);
        assert.equal(response.text, 'kept');
        assert.equal(cacheStatus(response).hit, true);
    }
    assert.equal(origin.conns.length, conns);
    const why = await node.admin(`/why?format=text&url=${encodeURIComponent(`http://127.0.0.1:${node.port}/kept`)}`);
    assert.match(why.text, /upstream +down/);
    assert.match(why.text, /open, tried again in/);
});

flow('a dead origin: connections refused open it as well, stale is served', async ({ get, origin, node }) => {
    origin.answers(kept);
    await get('/kept');
    await origin.gone();
    await failTimes(get, 6);
    assert.equal((await servers(node))[0].state, 'open');
    assert.equal((await get('/kept')).text, 'kept');
});

flow('half-open: one probe at a time, closed after two successes, and the metrics say so', {
    upstream: { breaker: { open: '50ms' }, slow_start: '0s' } }, async ({ connect, get, origin, node }) => {
    origin.answers((exchange) => { exchange.close(); });
    await failTimes(get, 5);
    origin.byHand();
    const probe = await connect();
    const arrives = origin.expect();
    let exchange;
    await until(async () => { // the probe is whoever comes first after the open time
        await probe.ask('/probe');
        const answer = probe.response();
        const first = await Promise.race([arrives, answer]);
        if (first.status === 503) {
            return false;
        }
        exchange = first;
        probe.later = answer;
        return true;
    }, 'a probe is let through');
    assert.equal((await get('/meanwhile')).status, 503);
    assert.equal((await servers(node))[0].state, 'half-open');
    origin.answers(pass);
    await exchange.reply(pass);
    assert.equal((await probe.later).status, 200);
    assert.equal((await get('/second')).status, 200);
    assert.equal((await servers(node))[0].state, 'closed');
    const label = `upstream="app",server="127.0.0.1:${origin.port}"`;
    const metrics = await node.metrics();
    assert.equal(metrics.get(`doorstep_upstream_breaker_state{${label}}`), 0);
    assert.equal(metrics.get(`doorstep_upstream_breaker_opens_total{${label}}`), 1);
    await failOnlyAfter(get);
});

async function failOnlyAfter(get) {
    for (let i = 0; i < 20; i++) {
        assert.equal((await get(`/ok${i}`)).status, 200);
    }
}

flow('a client that leaves says nothing about the origin', async ({ connect, origin, node }) => {
    for (let i = 0; i < 8; i++) {
        const client = await connect();
        await client.ask(`/${i}`, { method: 'POST', body: 'x' });
        const exchange = await origin.expect();
        client.close();
        await exchange.closed();
    }
    assert.equal((await servers(node))[0].consecutive_failures, 0);
    assert.equal((await servers(node))[0].in_flight, 0);
});

flow('a bad server of two is left alone, and nobody notices', { node: false }, async (s) => {
    const bad = await s.startOrigin();
    bad.answers((exchange) => { exchange.reset(); });
    s.origin.answers(pass);
    s.node = await s.startNode({ config: siteConfig([s.origin.url, bad.url]) });
    for (let i = 0; i < 30; i++) {
        assert.equal((await s.get(`/${i}`)).status, 200);
    }
    const [good, out] = await servers(s.node);
    assert.equal(good.state, 'closed');
    assert.equal(out.state, 'open');
    assert.equal(bad.count, 5);
});

flow('a request that changes something is not sent again after it may have arrived', { node: false }, async (s) => {
    const bad = await s.startOrigin();
    bad.answers((exchange) => { exchange.close(); });
    s.origin.answers(pass);
    s.node = await s.startNode({ config: siteConfig([bad.url, s.origin.url]) });
    const statuses = [];
    for (let i = 0; i < 4; i++) {
        statuses.push((await s.get(`/${i}`, {}, { method: 'POST', body: 'x' })).status);
    }
    assert.deepEqual(statuses.sort(), [200, 200, 502, 502]);
    assert.equal(s.origin.count, 2);
    assert.equal(bad.count, 2);
});

flow('retry_statuses: a 503 of one server is replaced by the other\'s answer', { node: false }, async (s) => {
    const bad = await s.startOrigin();
    bad.answers({ status: 503, headers: pass.headers });
    s.origin.answers(pass);
    s.node = await s.startNode({ config: siteConfig([bad.url, s.origin.url], { upstream: { retry_statuses: true } }) });
    for (let i = 0; i < 6; i++) {
        assert.equal((await s.get(`/${i}`)).status, 200);
    }
    assert.equal(bad.count, 3);
});

flow('retry_statuses: also on a kept connection, and never at the same server', { upstream: { retry_statuses: true } },
    async ({ get, origin }) => {
        origin.answers(pass, { status: 503, headers: pass.headers });
        assert.equal((await get('/a')).status, 200);
        assert.equal((await get('/b')).status, 503);
        assert.equal(origin.count, 2);
    });

flow('retries: 0, and an empty budget, send nothing twice', { node: false }, async (s) => {
    const bad = await s.startOrigin();
    bad.answers((exchange) => { exchange.reset(); });
    s.origin.answers(pass);
    for (const upstream of [{ retries: 0 }, { retry_budget: { percent: 0, per_second: 0 } }]) {
        s.node = await s.startNode({ config: siteConfig([bad.url, s.origin.url], { upstream }) });
        const statuses = [];
        for (let i = 0; i < 4; i++) {
            statuses.push((await s.get(`/${i}`)).status);
        }
        assert.deepEqual(statuses.sort(), [200, 200, 502, 502], JSON.stringify(upstream));
    }
});

flow('balance: hash keeps a URL at its server', { node: false }, async (s) => {
    const other = await s.startOrigin();
    s.origin.answers({ headers: pass.headers, body: 'one' });
    other.answers({ headers: pass.headers, body: 'two' });
    s.node = await s.startNode({ config: siteConfig([s.origin.url, other.url], { upstream: { balance: 'hash' } }) });
    const seen = new Set();
    for (let i = 0; i < 20; i++) {
        const first = (await s.get(`/${i}`)).text;
        seen.add(first);
        for (let k = 0; k < 3; k++) {
            assert.equal((await s.get(`/${i}`)).text, first);
        }
    }
    assert.equal(seen.size, 2);
});

flow('balance: least_requests goes round a server that is busy', { node: false }, async (s) => {
    const busy = await s.startOrigin();
    s.origin.answers(pass);
    s.node = await s.startNode({ config: siteConfig([busy.url, s.origin.url], { upstream: { balance: 'least_requests' } }) });
    const arrives = busy.expect();
    while (busy.count === 0) { // the first that lands there hangs
        const client = await s.connect();
        await client.ask(`/w`, { method: 'POST', body: 'x' });
        await Promise.race([arrives, client.response().catch(() => {})]);
    }
    for (let i = 0; i < 10; i++) {
        assert.equal((await s.get(`/${i}`)).status, 200);
    }
    assert.equal(busy.count, 1);
});

flow('by hand: doorstep upstreams --open and --auto', async ({ get, origin, node }) => {
    origin.answers(pass);
    const admin = `127.0.0.1:${node.adminPort}`;
    const server = `127.0.0.1:${origin.port}`;
    const opened = await run(['upstreams', '--admin', admin, '--open', `app/${server}`]);
    assert.equal(opened.code, 0, opened.stderr);
    assert.match(opened.stdout, /app {2}DOWN\n {2}127\.0\.0\.1:\d+ +open \(by hand\)/);
    assert.equal((await get('/a')).status, 503);
    assert.equal(origin.count, 0);
    assert.match((await run(['top', '--once', '--admin', admin])).stdout, /open by hand/);
    assert.equal((await run(['upstreams', '--admin', admin, '--auto', 'app'])).code, 0);
    assert.equal((await get('/a')).status, 200);
    const unknown = await run(['upstreams', '--admin', admin, '--open', 'nobody']);
    assert.equal(unknown.code, 1);
    assert.match(unknown.stderr, /no such upstream/);
    assert.equal((await run(['upstreams', '--admin', admin, '--open', 'app/other:1'])).code, 1);
    assert.equal((await node.admin('/upstreams/app/breaker?state=open')).status, 405);
    assert.equal((await node.admin('/upstreams/app/breaker?state=ajar', { method: 'POST' })).status, 400);
});

flow('a reload keeps what is known and what was switched', { node: false }, async (s) => {
    const other = await s.startOrigin();
    const config = siteConfig([s.origin.url, other.url]);
    s.origin.answers(pass);
    other.answers((exchange) => { exchange.reset(); });
    s.node = await s.startNode({ config });
    for (let i = 0; i < 12; i++) {
        assert.equal((await s.get(`/${i}`)).status, 200);
    }
    await s.node.admin(`/upstreams/app/breaker?state=closed&server=127.0.0.1:${s.origin.port}`, { method: 'POST' });
    const said = s.node.stderr.length + s.node.stdout.length;
    s.node.signal('SIGHUP');
    await s.node.line(/reloaded/, said);
    const [first, second] = await servers(s.node);
    assert.equal(first.forced, 'closed');
    assert.equal(second.state, 'open');
    assert.ok(second.open_for_s > 20);
    assert.equal((await s.get('/after')).status, 200);
    assert.equal(other.count, 5);
});

flow('closed by hand, failures do not open it', async ({ get, origin, node }) => {
    await node.admin('/upstreams/app/breaker?state=closed', { method: 'POST' });
    origin.answers((exchange) => { exchange.close(); });
    await failTimes(get, 12);
    assert.ok(origin.count >= 12);
});

flow('slow answers open it where `slow` is set', { upstream: { breaker: { slow: '20ms', requests: 2 } } },
    async ({ get, origin, node }) => {
        origin.answers(async (exchange) => {
            await new Promise((resolve) => setTimeout(resolve, 60));
            await exchange.reply(pass);
        });
        assert.equal((await get('/a')).status, 200);
        assert.equal((await get('/b')).status, 200);
        assert.equal((await get('/c')).status, 503);
        assert.equal((await servers(node))[0].state, 'open');
    });

flow('the ramp after it closed lets through a growing share', {
    upstream: { breaker: { open: '20ms' }, slow_start: '3600s' } }, async ({ get, origin, node }) => {
    origin.answers((exchange) => { exchange.close(); });
    await failTimes(get, 5);
    origin.answers(pass);
    await until(async () => (await get('/probe')).status === 200 && (await servers(node))[0].state === 'ramp', 'it closes');
    let good = 0;
    for (let i = 0; i < 200; i++) {
        good += (await get(`/${i}`)).status === 200 ? 1 : 0;
    }
    assert.ok(good > 10 && good < 80, `${good} of 200`);
});

flow('one of three upstreams hangs under load: the others answer, its queue is bounded', { node: false }, async (s) => {
    const hanging = s.origin;
    const [one, two] = [await s.startOrigin(), await s.startOrigin()];
    one.answers(pass);
    two.answers(pass);
    s.node = await s.startNode({ config: siteConfig([], { config: {
        upstreams: { hanging: { servers: [hanging.url], max_connections: 4, max_waiting: 10 }, one: { servers: [one.url] },
            two: { servers: [two.url] } },
        routes: [{ match: '/h/*', upstream: 'hanging' }, { match: '/1/*', upstream: 'one' }, { match: '/2/*', upstream: 'two' }],
    } }) });
    const clients = await Promise.all(Array.from({ length: 40 }, () => s.connect()));
    const refused = [];
    await Promise.all(clients.map(async (client, i) => {
        await client.ask(`/h/${i}`, { method: 'POST', body: 'x' });
        client.response().then((response) => refused.push(response), () => {});
    }));
    for (let i = 0; i < 4; i++) {
        await hanging.expect();
    }
    for (let i = 0; i < 50; i++) {
        assert.equal((await s.get(`/1/${i}`)).status, 200);
        assert.equal((await s.get(`/2/${i}`)).status, 200);
    }
    assert.equal(hanging.count, 4);
    await until(() => refused.length === 26, 'all beyond 4 connections and 10 places are refused');
    for (const response of refused) {
        assert.equal(response.status, 503);
        assert.equal(proxyStatus(response).error, 'connection_limit_reached');
    }
});

flow('a server that accepts and never answers holds up only its own requests, then is left alone', {
    node: false }, async (s) => {
    s.origin.answers(pass);
    const hanging = await s.startOrigin();
    s.node = await s.startNode({ config: siteConfig([s.origin.url, hanging.url], {
        upstream: { first_byte_timeout: '50ms', max_connections: 2 } }) });
    for (let i = 0; i < 20; i++) {
        assert.equal((await s.get(`/${i}`)).status, 200); // each a retry at the good one where needed
    }
    assert.equal(hanging.count, 5);
    assert.equal((await servers(s.node))[1].state, 'open');
});

flow('who stands in the queue of a server whose breaker opens leaves at once', { upstream: {
    max_connections: 1, first_byte_timeout: '60s', breaker: { failures: 1 } } }, async ({ connect, origin }) => {
    const clients = await Promise.all(Array.from({ length: 4 }, () => connect()));
    await Promise.all(clients.map((client, i) => client.ask(`/${i}`, { method: 'POST', body: 'x' })));
    const exchange = await origin.expect();
    exchange.reset();
    const statuses = [];
    for (const client of clients) {
        statuses.push((await client.response()).status);
    }
    assert.deepEqual(statuses.sort(), [502, 503, 503, 503]);
    assert.equal(origin.count, 1);
});

flow('a storm of resets neither crashes nor leaks connections', async ({ get, origin, node }) => {
    await node.admin('/upstreams/app/breaker?state=closed', { method: 'POST' });
    origin.answers((exchange) => { exchange.reset(); });
    await Promise.all(Array.from({ length: 100 }, (_, i) => get(`/${i}`)));
    assert.equal((await servers(node))[0].in_flight, 0);
    assert.equal((await node.metrics()).get('doorstep_upstream_active_connections{upstream="app"}'), 0);
});

/* ---- hedging ---- */

flow('hedge: a late answer is asked for at a second server; the loser is dropped; at most 5 % extra', { node: false }, async (s) => {
    const other = await s.startOrigin();
    for (const origin of [s.origin, other]) {
        origin.answers(pass);
    }
    s.node = await s.startNode({ config: siteConfig([s.origin.url, other.url], { upstream: { hedge: { enabled: true } } }) });
    for (let i = 0; i < 60; i++) { // it learns what is usual
        assert.equal((await s.get(`/${i}`)).status, 200);
    }
    const hangs = [];
    for (const origin of [s.origin, other]) {
        origin.answers(async (exchange) => {
            if (hangs.length === 0) {
                hangs.push(exchange);
                await exchange.closed();
                return undefined;
            }
            return pass;
        });
    }
    assert.equal((await s.get('/late')).status, 200);
    await hangs[0].closed();
    let metrics = await s.node.metrics();
    assert.equal(metrics.get('doorstep_upstream_hedges_won_total{upstream="app"}'), 1);
    assert.ok((await servers(s.node)).every((server) => server.state === 'closed' && server.in_flight === 0));
    for (const origin of [s.origin, other]) { // from now on everything is late: the budget holds
        origin.answers(async (exchange) => {
            await new Promise((resolve) => setTimeout(resolve, 60));
            await exchange.reply(pass);
        });
    }
    const before = s.origin.count + other.count;
    await Promise.all(Array.from({ length: 60 }, (_, i) => s.get(`/slow${i}`)));
    assert.ok(s.origin.count + other.count - before <= 60 + 6, `${s.origin.count + other.count - before} requests`);
    metrics = await s.node.metrics();
    assert.ok(metrics.get('doorstep_upstream_hedges_total{upstream="app"}') <= 7);
});

flow('hedge: what is not safe to repeat is never sent twice', { node: false }, async (s) => {
    const other = await s.startOrigin();
    const late = async (exchange) => {
        await new Promise((resolve) => setTimeout(resolve, exchange.method === 'POST' ? 60 : 0));
        await exchange.reply(pass);
    };
    s.origin.answers(late);
    other.answers(late);
    s.node = await s.startNode({ config: siteConfig([s.origin.url, other.url], { upstream: { hedge: { enabled: true, percent: 100 } } }) });
    for (let i = 0; i < 60; i++) {
        await s.get(`/${i}`);
    }
    const before = s.origin.count + other.count;
    for (let i = 0; i < 5; i++) {
        await s.get(`/p${i}`, {}, { method: 'POST', body: 'x' });
    }
    assert.equal(s.origin.count + other.count, before + 5);
});

flow('hedge: the first fails while the second is on its way: the second answers', { node: false }, async (s) => {
    const other = await s.startOrigin();
    const closing = { headers: { ...pass.headers, Connection: 'close' } }; // a kept connection would be tried again
    s.origin.answers(closing);
    other.answers(closing);
    s.node = await s.startNode({ config: siteConfig([s.origin.url, other.url], {
        upstream: { hedge: { enabled: true, percent: 100 }, retries: 0 } }) });
    for (let i = 0; i < 60; i++) {
        await s.get(`/${i}`);
    }
    const arrived = [];
    let both;
    const two = new Promise((resolve) => { both = resolve; });
    for (const origin of [s.origin, other]) {
        origin.answers(async (exchange) => {
            arrived.push(exchange);
            if (arrived.length === 2) {
                both();
            }
            await exchange.closed();
        });
    }
    const client = await s.connect();
    await client.ask('/late');
    await two;
    arrived[0].reset();
    await s.node.settled();
    await arrived[1].reply(closing);
    assert.equal((await client.response()).status, 200);
    await client.ask('/both');
    await until(() => arrived.length === 4, 'both are asked again');
    arrived[2].reset();
    arrived[3].reset();
    assert.equal((await client.response()).status, 502);
});

/* ---- active checks ---- */

const health = { path: '/healthz', interval: '20ms', timeout: '200ms', unhealthy: 2, healthy: 2 };

/** Answers checks as `state.good` says and counts them apart; everything else is answered with 200. */
function checked(origin, state) {
    state.checks = 0;
    origin.answers((exchange) => {
        if (exchange.target === '/healthz') {
            state.checks++;
            return { status: state.good ? 200 : 500, headers: { Connection: 'close' } };
        }
        state.requests = (state.requests ?? 0) + 1;
        return pass;
    });
}

flow('checks take a server out and bring it back; a single server too', { node: false }, async (s) => {
    const state = { good: true };
    checked(s.origin, state);
    s.node = await s.startNode({ config: siteConfig([s.origin.url], { upstream: { health, slow_start: '0s' } }) });
    await until(() => state.checks >= 2, 'checks run without any request');
    assert.equal((await s.get('/a')).status, 200);
    state.good = false;
    await until(async () => !(await servers(s.node))[0].healthy, 'it is taken out');
    const requests = state.requests;
    const response = await s.get('/b');
    assert.equal(response.status, 503);
    assert.equal(proxyStatus(response).error, 'destination_unavailable');
    assert.equal(state.requests, requests);
    state.good = true;
    await until(async () => (await servers(s.node))[0].healthy, 'it comes back');
    assert.equal((await s.get('/c')).status, 200);
    const metrics = await s.node.metrics();
    assert.equal(metrics.get(`doorstep_upstream_server_healthy{upstream="app",server="127.0.0.1:${s.origin.port}"}`), 1);
});

flow('a server whose checks fail gets nothing; the other gets all', { node: false }, async (s) => {
    const other = await s.startOrigin();
    const [good, bad] = [{ good: true }, { good: false }];
    checked(s.origin, good);
    checked(other, bad);
    s.node = await s.startNode({ config: siteConfig([s.origin.url, other.url], { upstream: { health } }) });
    await until(async () => !(await servers(s.node))[1].healthy, 'it is taken out');
    for (let i = 0; i < 10; i++) {
        assert.equal((await s.get(`/${i}`)).status, 200);
    }
    assert.equal(bad.requests, undefined);
});

flow('a server that accepts and says nothing fails its checks', { node: false }, async (s) => {
    s.node = await s.startNode({ config: siteConfig([s.origin.url], { upstream: { health: { ...health, timeout: '30ms' } } }) });
    await until(async () => !(await servers(s.node))[0].healthy, 'it is taken out');
});

flow('checks get through although every connection is in use, and a reload ends and renews them', {
    node: false }, async (s) => {
    const state = { good: true };
    s.origin.answers(async (exchange) => {
        if (exchange.target === '/healthz') {
            state.checks = (state.checks ?? 0) + 1;
            return { headers: { Connection: 'close' } };
        }
        await exchange.closed();
        return undefined;
    });
    const config = siteConfig([s.origin.url], { upstream: { health, max_connections: 1 } });
    s.node = await s.startNode({ config });
    const client = await s.connect();
    await client.ask('/hangs', { method: 'POST', body: 'x' });
    await until(() => s.origin.requests.some((request) => request.target === '/hangs'), 'it hangs');
    const seen = state.checks;
    await until(() => state.checks > seen + 3, 'checks go on');
    assert.equal((await servers(s.node))[0].healthy, true);
    s.node.configure(config);
    const said = s.node.stderr.length + s.node.stdout.length;
    s.node.signal('SIGHUP');
    await s.node.line(/reload|configuration/i, said);
    const before = state.checks;
    await until(() => state.checks > before + 3, 'checks go on after the reload');
});

for (const [name, upstream, path] of [
    ['a status out of range', { breaker: { statuses: ['99'] } }, 'breaker.statuses'],
    ['a path without its slash', { health: { path: 'healthz' } }, 'health.path'],
    ['a path with a line end', { health: { path: '/a\r\nX: y' } }, 'health.path'],
]) {
    flow(`check refuses ${name}`, { node: false }, async (s) => {
        await assert.rejects(s.startNode({ config: siteConfig(['http://127.0.0.1:9'], { upstream }) }),
            new RegExp(path.replace('.', '\\.')));
    });
}

flow('queue_timeout: who has waited that long for a connection is told so', { upstream: {
    max_connections: 1, queue_timeout: '300ms' } }, async ({ connect, origin }) => {
    const [first, second] = [await connect(), await connect()];
    await first.ask('/1', { method: 'POST', body: 'x' });
    const exchange = await origin.expect('/1');
    await second.ask('/2', { method: 'POST', body: 'x' });
    const response = await second.response();
    assert.equal(response.status, 503);
    assert.equal(proxyStatus(response).error, 'connection_limit_reached');
    await exchange.reply(pass);
    assert.equal((await first.response()).status, 200);
    assert.equal(origin.count, 1);
});
