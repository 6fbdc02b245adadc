/**
 * Whatever happens to a request - hits, crowds, failover, cuts, clients that leave, refusals - it has one row in the ledger, and the
 * sums of ledger, budgets and providers' bills are the same to the micro-unit.
 */
import assert from 'node:assert/strict';
import { aiFlow, CHAT, gate, MESSAGE } from './harness/ai.mjs';
import { ask, makeKey } from './harness/ai-asking.mjs';
import { agrees, bill, budget, MONEY, money, PRICE, refusedByBudget, rows, user } from './harness/ai-money.mjs';

const CHATS = '/v1/chat/completions';

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

aiFlow('hundreds of mixed requests: ledger, budgets and bills agree to the micro-unit', { ...MONEY, providers: MIXED, models: ALIASES }, async (s) => {
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
    aiFlow(`${name}: who leaves in the middle of a stream pays for what came, marked as an estimate`, MONEY, async (s) => {
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

/* ---- budgets ---- */

const CAPPED = { ...CHAT, max_tokens: 100 };

aiFlow('a hard budget refuses in both dialects, hits stay free, and a crowd does not get past it', MONEY, async (s) => {
    s.node = await s.startNode({ config: money(s, { config: { threads: 2 }, budgets: [{ name: 'small', limit: '3', per: 'day' }] }) });
    const usage = { input: 100, output: 100 };
    s.cloud.always({ usage });
    s.claude.always({ usage });
    await s.chat(CAPPED);
    const answers = await Promise.all(Array.from({ length: 40 }, (_, i) => s.chat({ ...CAPPED, ...user(`crowd ${i}`) })));
    const refusals = answers.filter((answer) => answer.status !== 200);
    assert.ok(refusals.length > 20, `${refusals.length}`);
    refusals.forEach((answer) => refusedByBudget(answer));
    const one = (i) => s.chat({ ...CAPPED, ...user(`one by one ${i}`) });
    let asked = 41;
    while ((await one(asked++)).status === 200) {
        assert.ok(asked < 100);
    }
    refusedByBudget(await s.message(), 'anthropic');
    refusedByBudget(await s.message({ stream: true }), 'anthropic');
    refusedByBudget(await s.chat({ ...CAPPED, ...user('as a stream'), stream: true }));
    s.hit(await s.chat(CAPPED));
    const all = await agrees(s.node, asked + 4, ['small']);
    const { spent, refused_total: refused, overshoots_total: overshoots } = await budget(s.node, 'small');
    assert.ok(spent <= 3_000_000 && spent > 2_300_000, `${spent}`);
    assert.equal(overshoots, 0);
    assert.equal(refused, all.filter((row) => row.outcome === 'refused').length);
    assert.ok(all.every((row) => row.outcome !== 'refused' || (row.status === 402 && row.cost_micro === 0 && row.error_class === 'budget')));
    assert.equal(s.cloud.count + s.claude.count, all.filter((row) => row.cost_micro > 0).length, 'nobody was asked for a refusal');
});

aiFlow('a budget in tokens counts tokens; a soft one counts, and refuses nobody', MONEY, async (s) => {
    s.node = await s.startNode({ config: money(s, { budgets: [
        { name: 'tokens', unit: 'tokens', limit: '1000', per: 'total' }, { name: 'soft', limit: '0.1', per: 'month', soft: true },
    ] }) });
    s.cloud.always({ usage: { input: 50, output: 100 } });
    let asked = 0;
    let answer;
    while ((answer = await s.chat({ ...CAPPED, ...user(`tokens ${asked++}`) })).status === 200) {
        assert.ok(asked < 10);
    }
    assert.match(refusedByBudget(answer).json.error.message, /tokens/);
    await agrees(s.node, asked, ['soft']);
    const all = await agrees(s.node, asked, ['tokens'], { unit: 'tokens' });
    assert.ok(all.reduce((total, row) => total + row.charged_tokens, 0) <= 1000);
    const soft = await budget(s.node, 'soft');
    assert.ok(soft.spent > soft.limit && soft.soft_exceeded_total > 0 && soft.refused_total === 0, JSON.stringify(soft));
});

aiFlow('an answer that a limit of ours cut short is for its own request alone', MONEY, async (s) => {
    s.node = await s.startNode({ config: money(s, { budgets: [{ name: 'all', limit: '1000' }] }) });
    for (const [path, provider, body, kept] of [
        [CHATS, s.cloud, { ...CHAT, ...user('ours') }, false], [CHATS, s.cloud, { ...CHAT, ...user('theirs'), max_tokens: 50 }, true],
        ['/v1/messages', s.claude, { ...MESSAGE, ...user('theirs') }, true],
    ]) {
        for (const stream of [false, true]) {
            provider.reset();
            provider.always({ finish: 'length' });
            const both = { ...body, seed: stream ? 1 : 2 };
            assert.equal((await s.ask(path, { ...both, stream })).status, 200);
            await s.ask(path, both);
            assert.equal(provider.count, kept ? 1 : 2, `${path} ${JSON.stringify(both)}`);
        }
    }
});

aiFlow('under a hard budget an answer without a limit gets one, and no more than is reserved', { ...MONEY, models: {
    least: { candidates: [{ provider: 'cloud', model: 'gpt-x', max_output: 70 }] }, small: { candidates: [{ provider: 'cloud', model: 'gpt-x', context: 4096 }] },
} }, async (s) => {
    s.node = await s.startNode({ config: money(s, { budgets: [{ name: 'all', limit: '1000' }] }) });
    const limitOf = async (path, body) => {
        const answer = await s.ask(path, body);
        assert.equal(answer.status, 200, answer.text);
        const { max_tokens: old, max_completion_tokens: chat, max_output_tokens: responses } = s.cloud.last.json;
        return { old, chat, responses };
    };
    const none = { old: undefined, chat: undefined, responses: undefined };
    assert.deepEqual(await limitOf(CHATS, CHAT), { ...none, old: 16384 });
    assert.deepEqual(await limitOf(CHATS, { ...CHAT, model: 'cloud/o3-mini' }), { ...none, chat: 16384 });
    assert.deepEqual(await limitOf(CHATS, { ...CHAT, max_tokens: null, n: 2 }), { ...none, old: 16384 });
    assert.deepEqual(await limitOf(CHATS, { ...CHAT, max_completion_tokens: 12 }), { ...none, chat: 12 });
    assert.deepEqual(await limitOf(CHATS, { ...CHAT, model: 'least' }), { ...none, old: 70 });
    assert.ok((await limitOf(CHATS, { ...CHAT, model: 'small' })).old < 4096);
    assert.deepEqual(await limitOf('/v1/responses', { model: 'gpt-x', input: 'a' }), { ...none, responses: 16384 });
    assert.deepEqual(await limitOf('/v1/completions', { model: 'gpt-x', prompt: 'a' }), none, 'these have a limit of their own');
    const all = await agrees(s.node, 8, ['all']);
    for (const row of all) {
        const reserved = row.reserved_micro / PRICE.reasoning;
        assert.ok(reserved >= (row.client_model === 'least' ? 70 : row.client_model === 'small' ? 3000 : 12), JSON.stringify(row));
    }
    s.node.configure(money(s, { folder: s.folder, budgets: [{ name: 'soft', limit: '1000', soft: true }] }));
    const from = s.node.stderr.length + s.node.stdout.length;
    s.node.signal('SIGHUP');
    await s.node.line(/reloaded/, from);
    assert.deepEqual(await limitOf(CHATS, { ...CHAT, ...user('as it is') }), none, 'a soft budget changes nothing');
});

aiFlow('what is no answer of a model costs nothing: counting tokens, lists, other paths without a price', MONEY, async (s) => {
    s.node = await s.startNode({ config: money(s, { budgets: [{ name: 'all', limit: '1000' }] }) });
    assert.equal((await s.ask('/v1/messages/count_tokens', MESSAGE)).status, 200);
    assert.equal((await s.ask('/v1/audio/other', { model: 'gpt-x' })).status, 200);
    assert.deepEqual((await rows(s.node, 2)).map((row) => [row.cost_micro, row.charged_tokens]), [[0, 0], [0, 0]]);
});

/* ---- crowds and floods ---- */

aiFlow('whoever leaves a crowd: one call, one bill, one row each', MONEY, async (s) => {
    s.node = await s.startNode({ config: money(s, { config: { threads: 2 }, budgets: [{ name: 'all', limit: '1000' }] }) });
    const door = gate();
    s.cloud.always({ pieces: ['12345678', '12345678', 'end'], between: door.at(2), usage: { input: 11, output: 9 } });
    const crowd = await Promise.all(Array.from({ length: 30 }, () => s.asking(CHATS, { ...CHAT, stream: true })));
    const heads = await Promise.all(crowd.map((client) => client.head()));
    crowd.forEach((client, i) => i % 3 === 0 && client.close());
    door.open();
    await Promise.all(crowd.map((client, i) => i % 3 && client.body(heads[i])));
    heads.forEach((head, i) => i % 3 && assert.match(head.text, /\[DONE\]/));
    const all = await agrees(s.node, 30, ['all']);
    assert.equal(s.cloud.count, 1);
    assert.equal(all.reduce((total, row) => total + row.cost_micro, 0), bill({ input: 11, output: 9 }));
    assert.equal(all.filter((row) => row.attempts).length, 1);
});

aiFlow('500 connections at once, half of which leave whenever they like: 500 rows, nothing is held', MONEY, async (s) => {
    s.node = await s.startNode({ config: money(s, { config: { threads: 2 }, budgets: [{ name: 'all', limit: '1000' }] }) });
    s.cloud.always((request) => ({ pieces: ['a', 'b', 'c'], usage: { input: 5, output: 3 }, ...(request.json.n === 2 ? { cut: 1 } : {}) }));
    const ends = await Promise.all(Array.from({ length: 500 }, async (_, i) => {
        const client = await s.asking(CHATS, { ...CAPPED, ...user(`flood ${i % 250}`), stream: i % 4 < 2, ...(i % 50 === 7 ? { n: 2 } : {}) });
        if (i % 2) {
            await new Promise((resolve) => { setTimeout(resolve, i % 20); });
            client.close();
            return 0;
        }
        const { status } = await client.response();
        client.close();
        return status;
    }));
    assert.deepEqual([...new Set(ends)].sort(), [0, 200]);
    const all = await agrees(s.node, 500, ['all']);
    assert.ok(all.every((row) => row.cost_micro <= row.reserved_micro));
});

aiFlow('a provider that gives more than it was asked for is paid, and each such error is counted', MONEY, async (s) => {
    s.node = await s.startNode({ config: money(s, { budgets: [{ name: 'small', limit: '1', per: 'day' }] }) });
    s.cloud.next({ usage: { input: 10, output: 100 } }, { usage: { input: 10, output: 500 } });
    assert.equal((await s.chat(CAPPED)).status, 200);
    const second = await s.chat({ ...CAPPED, ...user('more') });
    assert.equal(second.status, 200, second.text);
    refusedByBudget(await s.chat({ ...CAPPED, ...user('after that') }));
    await agrees(s.node, 3, ['small']);
    const { spent, limit, overshoots_total: overshoots } = await budget(s.node, 'small');
    assert.ok(spent > limit);
    assert.equal(overshoots, 1);
});

aiFlow('two calls at once for one request: both are in its row and in the budgets, whoever answers and whoever leaves', { ...MONEY,
    providers: { first: { dialect: 'openai', config: { keys: ['sk-one'] } }, second: { dialect: 'openai', config: { keys: ['sk-two'] } } },
    models: { fast: { candidates: [{ provider: 'first', model: 'm-a' }, { provider: 'second', model: 'm-b' }], hedge: { enabled: true, after: '10ms', percent: 100 } } },
}, async (s) => {
    const config = money(s, { config: { threads: 2 }, budgets: [{ name: 'all', limit: '1000' }, { name: 'small', model: 'm-b', limit: '2' }] });
    s.node = await s.startNode({ config });
    const doors = [gate(), gate()];
    const usage = { input: 10, output: 10 };
    [s.first, s.second].forEach((provider, i) => provider.always((request) => ({ pieces: ['12345678', '12345678'], usage,
        ...(/late/.test(request.body) ? { wait: doors[i].held } : /both/.test(request.body) ? { delay: 5 + i * 5 } : { delay: i ? 0 : 30 }) })));
    const asked = await Promise.all(Array.from({ length: 90 }, async (_, i) => {
        const kind = ['both', 'slow', 'late'][i % 3];
        const client = await s.asking(CHATS, { ...CAPPED, ...user(`${kind} ${i % 60}`), model: 'fast', stream: i % 2 === 0 });
        if (kind === 'late' || i % 5 === 0) {
            setTimeout(() => client.close(), 30 + (i % 20));
            await client.rest();
            return 0;
        }
        const { status } = await client.response();
        client.close();
        return status;
    }));
    doors.forEach((door) => door.open());
    assert.deepEqual([...new Set(asked)].sort(), [0, 200]);
    const all = await agrees(s.node, 90, ['all']);
    assert.ok(all.some((row) => row.attempts === 2));
    assert.ok(all.every((row) => row.cost_micro <= row.reserved_micro));
    assert.equal((await budget(s.node, 'small')).reserved, 0);
    const { spent } = await budget(s.node, 'small');
    assert.ok(spent > 0 && spent <= 2_000_000);
    await s.node.stop();
    s.node = await s.startNode({ config });
    assert.equal((await budget(s.node, 'small')).spent, spent, 'each model has its own, after a restart, too');
    assert.equal((await budget(s.node, 'all')).spent, all.reduce((total, row) => total + row.cost_micro, 0));
});
