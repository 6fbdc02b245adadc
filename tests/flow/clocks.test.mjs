/** Nodes whose clocks are wrong, each in its own way: answers are as old on one as on the other. */
import assert from 'node:assert/strict';
import { Clock } from './harness/clock.mjs';
import { assertHit, cacheStatus, flow, httpDate } from './harness/flow.mjs';
import { metric, startRegion } from './harness/region.mjs';
import { until } from './harness/server.mjs';

const HOUR = 3600_000;
/** Of an age in seconds, between two nodes: both measurements' errors (4 ms), what the test takes, and the rounding. */
const BOUND_S = 2;

const age = (response) => Number(response.header('age'));

flow('two nodes an hour apart agree on age and lifetime of what they share', { node: false }, async (s) => {
    const clocks = { early: new Clock(-HOUR), right: new Clock(0), late: new Clock(HOUR) };
    const region = await startRegion(s, ['early', 'right', 'late'], { disk: false, clocks });
    // The origin is right; an answer is as old as its Age says where a clock is behind, and as its Date says where it is ahead.
    s.origin.answers((exchange) => ({
        headers: { 'Cache-Control': 'max-age=7200', Age: '100', Date: exchange.target === '/late' ? httpDate(3600) : httpDate() },
        body: `${exchange.target} ${exchange.serial}`,
    }));
    for (const writer of region.nodes) {
        const target = `/${writer.name}`;
        const first = await writer.get(target);
        await region.written();
        const ages = [age(await writer.get(target))];
        for (const reader of region.nodes.filter((node) => node !== writer)) {
            const response = await reader.get(target);
            const status = assertHit(response);
            assert.equal(status.detail, 'shared', `${target} through ${reader.name}`);
            ages.push(age(response));
            assert.ok(Math.abs(status.ttl + age(response) - 7200) <= BOUND_S, `${status.ttl} + ${age(response)}`);
        }
        assert.ok(Math.max(...ages) - Math.min(...ages) <= BOUND_S, `ages through all nodes: ${ages}`);
        assert.ok(ages[0] >= 100 && ages[0] <= 100 + BOUND_S, `${first.text}: ${ages}`);
    }
    assert.equal(s.origin.count, 3);
    for (const node of region.nodes) {
        assert.equal(await metric(node, 'shared_clock_known'), 1);
        assert.ok((await metric(node, 'shared_clock_error_milliseconds')) <= 100);
    }
});

flow('a copy expires at the same time on a node whose clock is behind', { node: false }, async (s) => {
    const region = await startRegion(s, ['right', 'early'], { disk: false, clocks: { early: new Clock(-HOUR) } });
    s.origin.answers({ headers: { 'Cache-Control': 'max-age=600', Age: '598' }, body: 'old' });
    await region.right.get('/x');
    await region.written();
    const copy = await region.early.get('/x');
    assert.equal(cacheStatus(copy).detail, 'shared');
    assert.ok(cacheStatus(copy).ttl <= 2);
    s.origin.answers({ headers: { 'Cache-Control': 'max-age=600' }, body: 'new' });
    await until(async () => {
        const now = await region.early.get('/x');
        assert.ok(now.text === 'new' || age(now) <= 600, `served at age ${age(now)}`);
        return now.text === 'new';
    }, 'it expires');
});

flow('a clock that jumps while the node runs: copies from before and after have their real age', { node: false }, async (s) => {
    const clock = new Clock(0);
    const region = await startRegion(s, ['steady', 'jumpy'], { disk: false, clocks: { jumpy: clock } });
    s.origin.answers({ headers: { 'Cache-Control': 'max-age=7200', Age: '100' } });
    await region.jumpy.get('/before');
    await region.steady.get('/theirs');
    await region.written();
    clock.set(-HOUR / 2);
    const back = await region.steady.get('/before');
    assert.equal(cacheStatus(back).detail, 'shared');
    assert.ok(age(back) >= 100 && age(back) <= 100 + BOUND_S, `age ${age(back)}`);
    await until(async () => {
        const response = await region.jumpy.get('/theirs');
        const status = cacheStatus(response);
        assert.ok(status.detail !== 'shared' || (age(response) >= 100 && age(response) <= 105), `age ${age(response)}`);
        assert.equal(response.status, 200);
        return true;
    }, 'an answer');
    await region.jumpy.get('/after');
    await region.written();
    const after = await region.steady.get('/after');
    assert.ok(cacheStatus(after).detail !== 'shared' || (age(after) >= 100 && age(after) <= 105), `age ${age(after)}`);
});

flow('purges keep their order whatever the nodes think the time is', { node: false }, async (s) => {
    const clocks = { early: new Clock(-HOUR), late: new Clock(HOUR) };
    const region = await startRegion(s, ['early', 'late'], { clocks });
    s.origin.answers((exchange) => ({
        headers: { 'Cache-Control': 'max-age=7200', 'Cache-Tag': 't', Date: httpDate(3600) }, body: `x ${exchange.serial}`,
    }));
    const number = (response) => Number(response.text.split(' ')[1]);
    for (let round = 0; round < 6; round++) {
        for (const node of region.nodes) {
            await node.get('/x');
            await region.written();
        }
        const count = s.origin.count;
        const answer = JSON.parse((await region.nodes[round % 2].admin('/purge?tag=t', { method: 'POST' })).text);
        assert.equal(answer.applied, 2, JSON.stringify(answer));
        assert.equal(answer.nodes, 2);
        for (const node of region.nodes) {
            assert.ok(number(await node.get('/x')) > count);
            await region.written();
        }
    }
    await region.restart('early', { kill: true });
    await region.restart('late', { kill: true });
    const count = s.origin.count;
    for (const node of region.nodes) {
        assertHit(await node.get('/x'));
    }
    assert.equal(s.origin.count, count);
});

flow('what a disk holds is as old after a restart as it is', { node: false }, async (s) => {
    const clock = new Clock(0);
    const region = await startRegion(s, ['a'], { clocks: { a: clock }, config: { shared: undefined } });
    s.origin.answers({ headers: { 'Cache-Control': 'max-age=7200', Age: '100', ETag: '"x"' } });
    await region.a.get('/x');
    await region.written();
    clock.set(HOUR);
    await region.restart('a', { kill: true });
    const hour = await region.a.get('/x');
    assert.equal(assertHit(hour).detail, 'disk');
    assert.ok(age(hour) >= 3700 && age(hour) <= 3700 + 10, `age ${age(hour)}`);
    clock.set(3 * HOUR);
    await region.restart('a', { kill: true });
    assert.equal(cacheStatus(await region.a.get('/x')).fwd, 'stale');
});
