/** Money: every request has a row, budgets refuse with 402, and a restart knows what was spent. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { aiFlow, DIRECT } from './harness/ai.mjs';
import { BINARY } from './harness/node.mjs';

const run = promisify(execFile);
const skip = DIRECT && 'needs the node';

const PRICES = { currency: 'USD', prices: [{ model: '*', input: 1000, output: 2000 }] }; // 1000 micro-units an input token

/** Folder, configuration with prices and state, and the node. */
async function moneyNode(s, budgets) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'doorstep-money-'));
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    fs.writeFileSync(path.join(folder, 'prices.json'), JSON.stringify(PRICES));
    const config = s.config({ config: { state: { path: path.join(folder, 'state.db') } }, ai: { prices: path.join(folder, 'prices.json'), budgets } });
    s.node = await s.startNode({ config });
    return config;
}

const ledger = async (s, ...words) => (await run(BINARY, ['ai', 'ledger', '--admin', `127.0.0.1:${s.node.adminPort}`, ...words])).stdout;

/** Rows as they are on disk; a row is there within a moment of its request. */
async function rows(s, count, ...words) {
    for (;;) {
        const lines = (await ledger(s, '--json', ...words)).split('\n').filter(Boolean).map((line) => JSON.parse(line));
        if (lines.length >= count) {
            return lines;
        }
        await new Promise((resolve) => { setTimeout(resolve, 10); });
    }
}

aiFlow('every request has a row, which costs what the prices say', { needs: 'node', node: false, skip }, async (s) => {
    await moneyNode(s);
    const first = await s.chat();
    const again = await s.chat();
    assert.deepEqual([first.status, again.status], [200, 200]);
    const [paid, hit] = await rows(s, 2);
    const { prompt_tokens: input, completion_tokens: output } = first.json.usage;
    assert.equal(paid.outcome, 'ok');
    assert.equal(paid.cost_micro, input * 1000 + output * 2000);
    assert.equal(paid.charged_tokens, input + output);
    assert.deepEqual([paid.provider, paid.model, paid.endpoint, paid.status], ['cloud', 'gpt-4o-mini', 'chat', 200]);
    assert.deepEqual([hit.outcome, hit.tier, hit.cost_micro, hit.charged_tokens], ['hit', 'memory', 0, 0]);
    assert.equal(hit.saved_micro, paid.cost_micro);
    const csv = await ledger(s, '--csv', '--since', '1h');
    assert.equal(csv.trim().split('\n').length, 3);
    assert.match(csv, /^time,id,request_id,tenant,/);
    const [sum] = (await ledger(s, '--json', '--sum', 'by=model')).trim().split('\n').map((line) => JSON.parse(line));
    assert.deepEqual([sum.requests, sum.hits, sum.cost_micro], [2, 1, paid.cost_micro]);
    assert.equal((await ledger(s, '--json', '--tenant', 'nobody')), '');
    assert.equal((await s.node.admin('/ai/ledger?limit=0')).status, 400);
});

aiFlow('a budget that is used up refuses, and still does after kill -9', { needs: 'node', node: false, skip }, async (s) => {
    const config = await moneyNode(s, [{ name: 'small', limit: '5', per: 'total' }]);
    const ask = (i) => s.chat({ max_tokens: 100, messages: [{ role: 'user', content: `question ${i}` }] });
    let answer;
    let paid = 0;
    for (let i = 0; (answer = await ask(i)).status === 200; i++) {
        paid++;
    }
    assert.equal(answer.status, 402, answer.text);
    assert.equal(answer.header('x-should-retry'), 'false');
    assert.ok(paid > 0);
    const before = (await rows(s, paid + 1)).reduce((sum, row) => sum + row.cost_micro, 0);
    assert.ok(before <= 5_000_000, `${before}`);
    await s.node.kill();
    s.node = await s.startNode({ config });
    assert.equal((await ask('new')).status, 402);
    assert.equal((await rows(s, paid + 2)).reduce((sum, row) => sum + row.cost_micro, 0), before);
});
