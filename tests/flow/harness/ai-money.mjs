/**
 * Money in tests: a node with prices and a state of its own, what its ledger and its budgets say, and that they agree.
 *
 *   MONEY                                  aiFlow() options: the test starts the node itself
 *   money(s, {budgets, prices, folder, ai, config, ...}) -> config     with s.folder and s.setPrices(list)
 *   rowsNow(node) -> Promise<row[]>        rows(node, n): once there are n; never more, each with its own request id
 *   budget(node, name, ...labels) -> Promise<{limit, spent, reserved, ...}>
 *   agrees(node, n, names, {unit})         nothing is reserved, and what is spent is what n rows say
 *   refusedByBudget(answer, dialect)       402 in the dialect's shape, not to be retried
 *   user(text, more)                       a body's messages
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { DIRECT } from './ai.mjs';
import { scratch } from './flow.mjs';
import { until } from './server.mjs';

export const MONEY = { needs: 'node', node: false, skip: DIRECT && 'needs the node' };

/** A token, in micro-units. */
export const PRICE = { input: 1000, cached_input: 100, cache_write: 1250, output: 2000, reasoning: 3000 };
export const PRICES = { currency: 'USD', prices: [{ model: '*', ...PRICE }] };
export const user = (content, more) => ({ messages: [{ role: 'user', content }], ...more });
export const sum = (list, member) => list.reduce((total, one) => total + one[member], 0);

/** What a provider bills for this usage, as it says it. */
export function bill({ input, output, cached = 0, cacheWrite = 0, reasoning = 0 }) {
    return (input - cached - cacheWrite) * PRICE.input + cached * PRICE.cached_input + cacheWrite * PRICE.cache_write
        + (output - reasoning) * PRICE.output + reasoning * PRICE.reasoning;
}

/** A folder with prices, and the configuration of a node that keeps its state there. */
export function money(s, { budgets, prices = PRICES, folder, ai = {}, config = {}, ...more } = {}) {
    if (!folder) {
        folder = scratch();
        s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    }
    s.folder = folder;
    s.setPrices = (list) => fs.writeFileSync(path.join(folder, 'prices.json'), typeof list === 'string' ? list : JSON.stringify(list));
    s.setPrices(prices);
    return s.config({ ...more, config: { state: { path: path.join(folder, 'state.db') }, ...config },
        ai: { prices: path.join(folder, 'prices.json'), budgets, ...ai } });
}

export async function rowsNow(node) {
    const rows = [];
    for (let after = '0'; ;) {
        const page = (await node.admin(`/ai/ledger?format=json&limit=1000&after=${after}`)).text.split('\n').filter(Boolean)
            .map((line) => JSON.parse(line));
        if (!page.length) {
            return rows;
        }
        rows.push(...page);
        after = page.at(-1).id;
    }
}

/** Every row, once there are as many as requests; there must never be more. */
export async function rows(node, count) {
    const found = await until(async () => {
        const all = await rowsNow(node);
        return all.length >= count && all;
    }, `${count} rows`);
    assert.equal(found.length, count);
    assert.equal(new Set(found.map((row) => row.request_id)).size, count, 'each request has its own');
    return found;
}

export async function budget(node, name, ...labels) {
    const found = {};
    for (const [series, value] of await node.metrics()) {
        const [, what] = /^doorstep_ai_budget_(\w+)\{/.exec(series) ?? [];
        if (what && [`budget="${name}"`, ...labels].every((label) => series.includes(label))) {
            found[what] = value;
        }
    }
    return found;
}

/** Everything is settled: what is spent is what the rows say. */
export async function agrees(node, count, names, { unit = 'money' } = {}) {
    const all = await rows(node, count);
    for (const name of names) {
        const { spent, reserved } = await budget(node, name);
        assert.equal(reserved, 0, `${name}: nothing is held when nothing is under way`);
        assert.equal(spent, sum(all, unit === 'money' ? 'cost_micro' : 'charged_tokens'), name);
    }
    return all;
}

export function refusedByBudget(answer, dialect = 'openai') {
    assert.equal(answer.status, 402, answer.text);
    assert.equal(answer.header('x-should-retry'), 'false');
    assert.equal(answer.header('retry-after'), undefined);
    assert.equal(answer.json.type, dialect === 'anthropic' ? 'error' : undefined);
    assert.match(answer.json.error.message, /budget/);
    return answer;
}
