/** Two nodes that spend one budget through a Redis, which dies, stops and forgets: together they never spend more than there is. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { aiFlow, CHAT } from './harness/ai.mjs';
import { bill, budget, MONEY, money, refusedByBudget, rows, rowsNow, sum, user } from './harness/ai-money.mjs';
import { scratch } from './harness/flow.mjs';
import { restartNode, startNodes } from './harness/nodes.mjs';
import { startRedis } from './harness/redis.mjs';
import { until } from './harness/server.mjs';

const USAGE = { input: 10, output: 10 };
const COST = bill(USAGE);
/** Of 10 tokens of answer and some bytes of prompt; what is reserved is about twice the cost. */
const body = (content) => ({ ...CHAT, ...user(content), max_tokens: 10 });

/** Nodes a and b, each with a state of its own, and a Redis; s.spent(): what all their ledgers say. */
async function twoNodes(s, limit, more = {}) {
    s.redis = await s.use(startRedis());
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    s.cloud.always({ usage: USAGE });
    s.nodes2 = await startNodes(s, ['a', 'b'], (name) => {
        fs.mkdirSync(path.join(folder, name), { recursive: true });
        return money(s, { folder: path.join(folder, name), config: { threads: 2, shared: { url: s.redis.url, timeout: '100ms' } },
            budgets: [{ name: 'team', limit: String(limit / 1e6), per: 'total', shared: true }], ai: more });
    });
    s.asked = [0, 0];
    s.number = 0;
    s.pay = async (i) => {
        s.asked[i]++;
        return s.ask('/v1/chat/completions', body(`question ${s.number++}`), {}, s.nodes2[i]);
    };
    s.spent = async () => sum((await Promise.all(s.nodes2.map((node, i) => rows(node, s.asked[i])))).flat(), 'cost_micro');
}

/** Asks `i` until it is refused `times` times one after the other; how many were paid. */
async function payAll(s, i, times = 20) {
    let paid = 0;
    for (let refused = 0; refused < times;) {
        const answer = await s.pay(i);
        if (answer.status === 200) {
            paid++;
            refused = 0;
        } else {
            refusedByBudget(answer);
            refused++;
        }
    }
    return paid;
}

aiFlow('two nodes and a crowd at each: together they spend the budget and no more; killed and started again, too', MONEY, async (s) => {
    const limit = 200 * COST;
    await twoNodes(s, limit);
    const crowds = await Promise.all(Array.from({ length: 120 }, (_, i) => s.pay(i % 2)));
    assert.ok(crowds.filter((answer) => answer.status === 200).length > 60);
    crowds.filter((answer) => answer.status !== 200).forEach((answer) => refusedByBudget(answer));
    await s.spent(); // committed
    await s.nodes2[1].kill();
    s.nodes2[1] = await restartNode(s, s.nodes2[1]);
    await Promise.all([payAll(s, 0), payAll(s, 1)]);
    const spent = await s.spent();
    assert.ok(spent <= limit, `${spent} of ${limit}`);
    assert.ok(spent > limit * 0.85, `${spent} of ${limit}`);
    for (const node of s.nodes2) {
        const { spent: own, reserved, overshoots_total: overshoots } = await budget(node, 'team');
        assert.equal(own, sum(await rowsNow(node), 'cost_micro'));
        assert.deepEqual([reserved, overshoots], [0, 0]);
    }
});

aiFlow('a Redis that dies and comes back empty, under load: not more than the budget is spent', MONEY, async (s) => {
    const limit = 300 * COST;
    await twoNodes(s, limit);
    for (let i = 0; i < 60; i++) {
        assert.equal((await s.pay(i % 2)).status, 200);
    }
    let over = false;
    const load = [0, 1].map(async (i) => {
        while (!over) {
            await s.pay(i);
        }
    });
    await s.redis.kill();
    await until(async () => (await budget(s.nodes2[0], 'team')).refused_total > 0 && (await budget(s.nodes2[1], 'team')).refused_total > 0,
        'the slices in hand are used up, then it is refused');
    const without = await s.nodes2[0].admin('/metrics');
    assert.equal(without.status, 200);
    await s.redis.start();
    const paid = s.cloud.count;
    await until(async () => s.cloud.count > paid + 20, 'it goes on');
    over = true;
    await Promise.all(load);
    await payAll(s, 0);
    await payAll(s, 1);
    const spent = await s.spent();
    assert.ok(spent <= limit * 1.02, `${spent} of ${limit}`);
    assert.ok(spent > limit * 0.8, `${spent} of ${limit}`);
});

aiFlow('without its Redis a node spends its slice and the configured share, and says so', MONEY, async (s) => {
    const limit = 1000 * COST;
    await twoNodes(s, limit, { budget_share: 0.02 });
    await s.pay(0);
    s.redis.pause();
    const paid = await payAll(s, 0, 3);
    assert.match(refusedByBudget(await s.pay(0)).json.error.message, /does not answer/);
    assert.ok((await s.nodes2[0].admin('/metrics')).text.includes('doorstep_ai_budget_unavailable{budget="team",unit="money",window="total"} 1'));
    s.redis.resume();
    assert.ok(paid >= 18, `${paid}: 2% and what was in hand`);
    assert.ok(paid <= 80, `${paid}`);
    await until(async () => (await s.pay(0)).status === 200, 'it leases again');
    assert.equal((await budget(s.nodes2[0], 'team')).unavailable, 0);
    assert.equal((await s.pay(1)).status, 200);
    await s.spent();
});
