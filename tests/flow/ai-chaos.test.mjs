/**
 * Whatever happens to a request - hits, crowds, failover, cuts, clients that leave, crashes, reloads, full disks, jumping clocks - has one
 * row in the ledger, and the sums of ledger, budgets and providers' bills are the same to the micro-unit.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { aiFlow, CHAT, DIRECT, gate, MESSAGE } from './harness/ai.mjs';
import { ask, makeKey } from './harness/ai-asking.mjs';
import { Clock } from './harness/clock.mjs';
import { BINARY, SANITIZED, scratch } from './harness/flow.mjs';
import { startRedis } from './harness/redis.mjs';
import { until } from './harness/server.mjs';
import { mountTmpfs, noTmpfs } from './harness/tmpfs.mjs';

const exec = promisify(execFile);
const NODE = { needs: 'node', node: false, skip: DIRECT && 'needs the node' };
const CHATS = '/v1/chat/completions';
const PRICE = { input: 1000, cached_input: 100, cache_write: 1250, output: 2000, reasoning: 3000 }; // a token, in micro-units
const PRICES = { currency: 'USD', prices: [{ model: '*', ...PRICE }] };
const user = (content) => ({ messages: [{ role: 'user', content }] });

/** What a provider bills for this usage, as it says it. */
function bill({ input, output, cached = 0, cacheWrite = 0, reasoning = 0 }) {
    return (input - cached - cacheWrite) * PRICE.input + cached * PRICE.cached_input + cacheWrite * PRICE.cache_write
        + (output - reasoning) * PRICE.output + reasoning * PRICE.reasoning;
}

/** A folder with prices, and the configuration of a node that keeps its state there. */
function money(s, { budgets, prices = PRICES, folder = scratch(), ai = {}, config = {}, ...more } = {}) {
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    s.folder = folder;
    s.setPrices = (list) => fs.writeFileSync(path.join(folder, 'prices.json'), JSON.stringify(list));
    s.setPrices(prices);
    return s.config({ ...more, config: { state: { path: path.join(folder, 'state.db') }, ...config },
        ai: { prices: path.join(folder, 'prices.json'), budgets, ...ai } });
}

async function rowsNow(node) {
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
async function rows(node, count) {
    const found = await until(async () => {
        const all = await rowsNow(node);
        return all.length >= count && all;
    }, `${count} rows`);
    assert.equal(found.length, count);
    assert.equal(new Set(found.map((row) => row.request_id)).size, count, 'each request has its own');
    return found;
}

const sum = (list, member) => list.reduce((total, one) => total + one[member], 0);

async function budget(node, name) {
    const found = {};
    for (const [series, value] of await node.metrics()) {
        const [, what] = /^doorstep_ai_budget_(\w+)\{/.exec(series) ?? [];
        if (what && series.includes(`budget="${name}"`)) {
            found[what] = value;
        }
    }
    return found;
}

/** Everything is settled: what is spent is what the rows say. */
async function agrees(node, count, names, { unit = 'money' } = {}) {
    const all = await rows(node, count);
    for (const name of names) {
        const { spent, reserved } = await budget(node, name);
        assert.equal(reserved, 0, `${name}: nothing is held when nothing is under way`);
        assert.equal(spent, sum(all, unit === 'money' ? 'cost_micro' : 'charged_tokens'), name);
    }
    return all;
}

function refusedByBudget(answer, dialect = 'openai') {
    assert.equal(answer.status, 402, answer.text);
    assert.equal(answer.header('x-should-retry'), 'false');
    assert.equal(answer.json.type, dialect === 'anthropic' ? 'error' : undefined);
    assert.match(answer.json.error.message, /budget/);
}

/* ---- a bit of everything ---- */

/** Two of the same model; what the first one says depends on the question, the second one always answers. */
const MIXED = {
    cloud: { dialect: 'openai', config: { keys: ['sk-test-1'], breaker: { enabled: false } } },
    spare: { dialect: 'openai', config: { keys: ['sk-spare'] } },
    claude: { dialect: 'anthropic', config: { keys: ['sk-ant-test'], breaker: { enabled: false } } },
};
const ALIASES = {
    fast: { candidates: [{ provider: 'cloud', model: 'm-1' }, { provider: 'spare', model: 'm-2' }] },
    smart: { candidates: [{ provider: 'claude', model: 'c-1' }] },
};

/** What each kind of question is answered with, and whether its bill is known. */
const KINDS = {
    well: {}, cached: { usage: { cached: 7 } }, thinking: { usage: { reasoning: 4, output: 30 }, reasoning: ['hm ', 'so'] },
    silent: { usage: null }, cut: { cut: 3 }, torn: { cut: 2, reset: true }, ended: { end: 2 }, broken: { malformed: 2 },
    error: { error: 'server' }, unavailable: { error: 'unavailable' }, inside: { error: 'server', inside: true }, late: { error: 'overloaded', inside: true, at: 2 },
    connect: { cut: 'connect' }, bad: { error: 'bad_request' }, nonsense: { raw: '{"nothing":1}' }, slow: { bytes: 7 },
};

/** Kind and number of a question, in whatever dialect it comes. */
function kindOf({ json }) {
    const said = json.messages?.at(-1).content ?? json.input ?? json.prompt;
    return /^(\w+) (\d+)/.exec(typeof said === 'string' ? said : said.map((part) => part.text).join(''));
}

/** Answers of these kinds are never whole, but for some that only streams can have. */
const BROKEN = ['silent', 'cut', 'torn', 'ended', 'broken', 'error', 'unavailable', 'inside', 'late', 'connect', 'bad', 'nonsense'];

function scripted(provider, bills) {
    const usageOf = (number) => ({ input: 20 + (number % 13), output: 10 + (number % 17) });
    provider.always((request) => {
        const [, kind, number] = kindOf(request);
        const script = provider.name === 'spare' ? {} : KINDS[kind];
        const usage = script.usage === null ? null : { ...usageOf(Number(number)), ...script.usage };
        const whole = !BROKEN.includes(kind) || provider.name === 'spare' || (!request.json.stream && ['ended', 'broken'].includes(kind));
        if (usage && whole) { // messages do not tell reasoning from the rest
            bills.push(bill(provider.name === 'claude' ? { ...usage, reasoning: 0 } : usage));
        }
        return { pieces: ['one ', 'two ', 'three ', 'four ', 'five'], ...script, usage };
    });
}

aiFlow('hundreds of mixed requests: ledger, budgets and bills agree to the micro-unit', { ...NODE, providers: MIXED, models: ALIASES }, async (s) => {
    s.node = await s.startNode({ config: money(s, { config: { threads: 2 }, ai: { auth: 'keys' }, budgets: [
        { name: 'day', limit: '100000', per: 'day', each: ['tenant'] }, { name: 'tokens', unit: 'tokens', limit: '100000000', each: ['tenant'] },
        { name: 'keys', limit: '100000', per: 'total', each: ['key'] }, { name: 'models', limit: '100000', each: ['model'], soft: true },
    ] }) });
    const keys = [await makeKey(s.node, 'a', { tenant: 'x' }), await makeKey(s.node, 'b', { tenant: 'x' }), await makeKey(s.node, 'c', { tenant: 'y' })];
    const bills = [];
    Object.values(s.providers).forEach((provider) => scripted(provider, bills));
    const asked = [];
    let number = 0;
    const put = (kind, { at = CHATS, stream = false, model = 'fast', body } = {}) => {
        const key = keys[number % 3];
        const content = `${kind} ${number++}`;
        const anthropic = at === '/v1/messages';
        asked.push({ kind, content, run: () => ask(s, key, { at, as: anthropic ? 'x-api-key' : 'bearer',
            headers: anthropic ? { 'anthropic-version': '2023-06-01' } : {},
            body: body ?? { model, ...(stream ? { stream } : {}), max_tokens: 200,
                ...(at === '/v1/responses' ? { input: content, max_tokens: undefined, max_output_tokens: 200 }
                    : at === '/v1/completions' ? { prompt: content } : user(content)) } }) });
    };
    for (const stream of [false, true]) {
        for (const kind of Object.keys(KINDS)) {
            for (let i = 0; i < 3; i++) {
                put(kind, { stream });
                put(kind, { stream, model: 'smart', at: '/v1/messages' });
                put(kind, { stream, model: i ? 'fast' : 'smart', at: i ? '/v1/messages' : CHATS });
            }
        }
        for (const at of ['/v1/responses', '/v1/completions']) {
            ['well', 'cached', 'silent', 'cut', 'error', 'late'].forEach((kind) => put(kind, { at, stream, model: 'cloud/m-1' }));
        }
    }
    ['{"model', '[]', '{"model":"nobody","messages":[]}'].forEach((body) => put('junk', { body }));
    let sent = 0;
    const answers = new Map();
    for (let at = 0; at < asked.length; at += 12) {
        const some = asked.slice(at, at + 12);
        (await Promise.all(some.map((one) => one.run().catch((error) => ({ status: 0, error })))))
            .forEach((answer, i) => answers.set(some[i].content, answer));
        sent += some.length;
    }
    // Once more: what was sound is a hit and costs nothing.
    const again = asked.filter((one) => one.kind === 'well');
    for (const one of again) {
        const answer = await one.run();
        assert.equal(s.status(answer).hit, true, `${one.content}: ${answer.header('cache-status')} ${answer.text}`);
    }
    const all = await agrees(s.node, sent + again.length, ['day', 'keys', 'models']);
    await agrees(s.node, sent + again.length, ['tokens'], { unit: 'tokens' });
    // What providers billed for answers that were whole; usage that nobody said is estimated.
    const sound = all.filter((row) => row.outcome === 'ok' && !row.estimated);
    assert.equal(sound.length, bills.length);
    assert.deepEqual(sound.map((row) => row.cost_micro).sort(), bills.sort());
    for (const row of all) {
        assert.ok(!row.estimated || row.cost_micro > 0 || row.outcome === 'hit', JSON.stringify(row));
        assert.ok(row.cost_micro <= row.reserved_micro, JSON.stringify(row));
    }
    for (const kind of ['cut', 'torn', 'late', 'broken', 'ended']) {
        for (const one of asked.filter((each) => each.kind === kind && JSON.stringify(answers.get(each.content).headers ?? '').includes('event-stream'))) {
            assert.ok(/"error"|event: error/.test(answers.get(one.content).text), `${one.content} says that it broke`);
        }
    }
    assert.equal((await budget(s.node, 'day')).overshoots_total, 0);
});

/* ---- clients that leave ---- */

for (const [name, path, more, provider] of [
    ['chat', CHATS, CHAT, 'cloud'], ['messages', '/v1/messages', MESSAGE, 'claude'],
    ['chat on the other dialect', CHATS, { ...CHAT, model: 'claude/claude-x' }, 'claude'],
    ['messages on the other dialect', '/v1/messages', { ...MESSAGE, model: 'cloud/gpt-x' }, 'cloud'],
]) {
    aiFlow(`${name}: who leaves in the middle of a stream pays for what came, marked as an estimate`, NODE, async (s) => {
        s.node = await s.startNode({ config: money(s, { budgets: [{ name: 'all', limit: '1000', per: 'total' }] }) });
        const door = gate();
        s[provider].always({ pieces: ['12345678', '12345678', '12345678', 'never'], between: door.at(3), usage: { input: 11, output: 999 } });
        const client = await s.asking(path, { ...more, stream: true });
        await client.head();
        for (let seen = ''; seen.split('12345678').length < 4;) {
            const byte = await client.bytes(1);
            assert.equal(byte.length, 1, 'the stream goes on');
            seen += byte.toString('latin1');
        }
        client.close();
        assert.equal(await s[provider].last.gone, true);
        door.open();
        const [row] = await agrees(s.node, 1, ['all']);
        assert.equal(row.outcome, 'disconnected');
        assert.equal(row.estimated, 1);
        assert.equal(row.output_tokens, 6, JSON.stringify(row)); // 24 bytes
        assert.equal(row.cost_micro, row.input_tokens * PRICE.input + 6 * PRICE.output);
    });
}
