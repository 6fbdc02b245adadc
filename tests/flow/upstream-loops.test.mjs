/* Upstreams shared by several loops. */
import assert from 'node:assert/strict';
import { flow, siteConfig } from './harness/flow.mjs';
import { failTimes, servers, until } from './harness/upstreams.mjs';

const pass = { headers: { 'Cache-Control': 'no-store' } };
const threads = 4;

flow(`a flapping server, checks, hedges and reloads under load (${threads} loops)`, { node: false }, async (s) => {
    const flapping = await s.startOrigin();
    let bad = false;
    let seen = 0;
    flapping.answers((exchange) => {
        if (++seen % 40 === 0) {
            bad = !bad;
        }
        if (bad) {
            exchange.reset();
            return undefined;
        }
        return pass;
    });
    s.origin.answers(pass);
    const config = siteConfig([s.origin.url, flapping.url], { config: { threads }, upstream: {
        balance: 'least_requests', breaker: { open: '20ms', open_max: '50ms' }, slow_start: '30ms',
        health: { path: '/', interval: '10ms' }, hedge: { enabled: true, percent: 50 }, max_connections: 3 } });
    s.node = await s.startNode({ config });
    const statuses = new Map();
    for (let round = 0; round < 4; round++) {
        await Promise.all(Array.from({ length: 150 }, async (_, i) => {
            const { status } = await s.get(`/${round}/${i}`);
            statuses.set(status, (statuses.get(status) ?? 0) + 1);
        }));
        s.node.configure(config);
        s.node.signal('SIGHUP');
    }
    for (const status of statuses.keys()) {
        assert.ok([200, 502, 503].includes(status), `${status}`);
    }
    assert.ok(statuses.get(200) > 500, JSON.stringify([...statuses]));
    await until(async () => (await servers(s.node)).every((server) => server.in_flight === 0), 'nothing is left in flight');
});

flow(`the breaker is one for all loops (${threads} loops)`, { config: { threads } }, async ({ get, origin, node }) => {
    origin.answers((exchange) => { exchange.close(); });
    await failTimes(get, 5);
    const conns = origin.conns.length;
    await Promise.all(Array.from({ length: 40 }, (_, i) => get(`/${i}`)));
    assert.equal(origin.conns.length, conns);
    assert.equal((await servers(node))[0].state, 'open');
});
