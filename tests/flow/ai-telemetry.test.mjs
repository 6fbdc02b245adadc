/** What can be seen of AI traffic without reading it: metrics under OpenTelemetry's names, /top, `doorstep top`, and spans at a collector. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { aiFlow, TWO } from './harness/ai.mjs';
import { scratch } from './harness/flow.mjs';
import { BINARY } from './harness/node.mjs';
import { until } from './harness/server.mjs';

const run = promisify(execFile);
const OPTIONS = { needs: 'node', node: false };
const PRICES = { currency: 'USD', prices: [{ model: '*', input: 1000, output: 2000 }] }; // 1000 micro-units an input token
const MODELS = { fast: { candidates: [{ provider: 'cloud', model: 'gpt-4o-mini' }, { provider: 'claude', model: 'claude-test-1' }] } };
const FAST = { model: 'fast' };
const SECRET = 'Qx7PROMPTzz9';

async function start(s, { ai, ...config } = {}) {
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    fs.writeFileSync(path.join(folder, 'prices.json'), JSON.stringify(PRICES));
    s.given = s.config({ models: MODELS, ai: { prices: path.join(folder, 'prices.json'), ...ai },
        config: { state: { path: path.join(folder, 'state.db') }, ...config } });
    s.node = await s.startNode({ config: s.given });
}

/** Samples by name and labels; every line must be one. */
async function samples(s) {
    const found = {};
    for (const line of (await s.node.admin('/metrics')).text.split('\n')) {
        if (line && !line.startsWith('#')) {
            const [, name, value] = /^([a-zA-Z_:][\w:]*(?:\{(?:[a-zA-Z_]\w*="(?:[^"\\]|\\.)*",?)+\})?) (-?[0-9.e+-]+|\+Inf|NaN)$/.exec(line) ?? [];
            assert.ok(name, line);
            assert.equal(found[name], undefined, `twice: ${name}`);
            found[name] = Number(value);
        }
    }
    return found;
}

const sum = (found, name) => Object.entries(found).filter(([key]) => key === name || key.startsWith(`${name}{`)).reduce((a, [, value]) => a + value, 0);
const top = async (s) => JSON.parse((await s.node.admin('/top')).text).ai;

/** A request is counted when it has ended here, a moment after the client has its answer. */
const counted = (s, count) => until(async () => {
    const found = await samples(s);
    return sum(found, 'doorstep_ai_requests_total') >= count && found;
});

const LABELS = 'gen_ai_operation_name="chat",gen_ai_provider_name="cloud",gen_ai_request_model="gpt-4o-mini"';

aiFlow('requests, tokens, times, money and savings are counted', OPTIONS, async (s) => {
    await start(s);
    s.cloud.always({ usage: { input: 10, output: 5 } });
    await s.chat({ ...FAST, stream: true });
    await s.chat(FAST);
    await s.chat({ ...FAST, stream: true });
    const found = await counted(s, 3);
    assert.equal(found['doorstep_ai_requests_total{outcome="ok",tier="none",rung="cloud"}'], 1);
    assert.equal(found['doorstep_ai_requests_total{outcome="hit",tier="memory",rung="cloud"}'], 2);
    assert.equal(found[`gen_ai_client_token_usage_sum{${LABELS},gen_ai_token_type="input"}`], 10);
    assert.equal(found[`gen_ai_client_token_usage_bucket{${LABELS},gen_ai_token_type="input",le="4"}`], 0);
    assert.equal(found[`gen_ai_client_token_usage_bucket{${LABELS},gen_ai_token_type="input",le="16"}`], 1);
    assert.equal(found[`gen_ai_client_token_usage_sum{${LABELS},gen_ai_token_type="output"}`], 5);
    for (const name of ['request_duration', 'time_to_first_token', 'time_per_output_token']) {
        assert.equal(found[`gen_ai_server_${name}_seconds_count{${LABELS}}`], 1, name);
        assert.equal(found[`gen_ai_server_${name}_seconds_bucket{${LABELS},le="+Inf"}`], 1, name);
    }
    const one = 10 * 1000 + 5 * 2000;
    assert.equal(found['doorstep_ai_cost_micro_total{provider="cloud",model="gpt-4o-mini"}'], one);
    assert.equal(found['doorstep_ai_saved_micro_total{provider="cloud",model="gpt-4o-mini"}'], 2 * one);
    assert.equal(found['doorstep_ai_tokens_saved_total{provider="cloud",model="gpt-4o-mini"}'], 30);
    assert.equal(found['doorstep_ai_attempts_total{provider="cloud",model="gpt-4o-mini"}'], 1);
    assert.equal(found['doorstep_ai_credentials{provider="cloud",state="ready"}'], 2);
    assert.equal(found['doorstep_ai_in_flight{alias="fast",provider="cloud",model="gpt-4o-mini"}'], 0);
    assert.ok(found['doorstep_ai_expected_first_content_seconds{alias="fast",provider="cloud",model="gpt-4o-mini"}'] > 0);
    assert.equal(found.doorstep_ai_ledger_lost_total, 0);
    const ai = await top(s);
    assert.deepEqual(ai.money, { today: one, today_saved: 2 * one, month: one, month_saved: 2 * one, since_start: one, since_start_saved: 2 * one });
    assert.deepEqual(ai.tokens, { input: 10, output: 5, saved: 30 });
    assert.deepEqual(ai.tiers.memory, { hits: 2, ratio: 0.66666 });
    assert.deepEqual(ai.rungs.cloud, { requests: 3, hits: 2, hit_ratio: 0.66666 });
    assert.deepEqual([ai.models[0].provider, ai.models[0].model, ai.models[0].requests, ai.models[0].hits], ['cloud', 'gpt-4o-mini', 3, 2]);
});

aiFlow('what was spent before a restart is known after it', OPTIONS, async (s) => {
    await start(s);
    s.cloud.always({ usage: { input: 10, output: 5 } });
    await s.chat(FAST);
    await counted(s, 1);
    const { money } = await top(s);
    await s.node.stop();
    s.node = await s.startNode({ config: s.given });
    assert.deepEqual((await top(s)).money, { ...money, since_start: 0, since_start_saved: 0 });
});

aiFlow('failovers, refusals, dead credentials and budgets are counted', OPTIONS, async (s) => {
    await start(s, { ai: { budgets: [{ name: 'small', limit: '10', per: 'day' }] } });
    s.cloud.next({ error: 'auth' }, { error: 'auth' });
    const answer = await s.chat(FAST);
    assert.equal(s.wall(answer).provider, 'claude');
    await s.chat({ model: `${SECRET}-unknown-model` });
    await s.ask('/v1/chat/completions', `{"model": "${SECRET}`);
    s.cloud.always({});
    const refused = await s.ask('/v1/messages', { model: 'claude-test-1' });
    assert.equal(refused.status, 400);
    const found = await counted(s, 4);
    assert.equal(found['doorstep_ai_failovers_total{provider="claude",model="claude-test-1"}'], 1);
    assert.equal(found['doorstep_ai_attempts_total{provider="claude",model="claude-test-1"}'], 3);
    assert.equal(found['doorstep_ai_credentials{provider="cloud",state="dead"}'], 2);
    assert.equal(found['doorstep_ai_refused_total{reason="bad_request"}'], 2);
    assert.equal(found['doorstep_ai_refused_total{reason="model_not_found"}'], 1);
    assert.equal(found['doorstep_ai_budget_limit{budget="small",unit="money",window="day"}'], 10_000_000);
    assert.equal(found['doorstep_ai_budget_spent{budget="small",unit="money",window="day"}'], found['doorstep_ai_cost_micro_total{provider="claude",model="claude-test-1"}']);
    assert.equal((await top(s)).budgets[0].spent, found['doorstep_ai_budget_spent{budget="small",unit="money",window="day"}']);
    assert.ok(!JSON.stringify(found).includes(SECRET), 'what clients say is no label');
});

aiFlow('names that clients make up share one label', OPTIONS, async (s) => {
    await start(s);
    for (let i = 0; i < 5; i++) {
        await s.chat({ model: `gpt-made-up-${i}` });
    }
    const found = await counted(s, 5);
    assert.equal(found['doorstep_ai_model_requests_total{provider="cloud",model="other",outcome="ok"}'], 5);
    assert.ok(!JSON.stringify(found).includes('made-up'));
});

aiFlow('doorstep top shows AI when there is any', OPTIONS, async (s) => {
    await start(s);
    const show = async () => (await run(BINARY, ['top', '--once', '--admin', `127.0.0.1:${s.node.adminPort}`])).stdout;
    s.cloud.always({ usage: { input: 10, output: 5 } });
    assert.doesNotMatch(await show(), /^AI /m);
    await s.chat(FAST);
    await s.chat(FAST);
    await counted(s, 2);
    const screen = await show();
    assert.match(screen, /^AI {2}.*hits 50\.0%/m);
    assert.match(screen, /today 0\.0200 .*saved 0\.0200/);
    assert.match(screen, /^cloud +gpt-4o-mini +cloud +2 +50\.0%/m);
});
