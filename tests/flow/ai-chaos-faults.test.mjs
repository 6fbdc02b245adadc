/**
 * Crashes, reloads, full disks, price files that are replaced or broken, clocks that jump over midnight: no request is counted twice,
 * none that was settled is forgotten, and nothing that broke is ever served.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { aiFlow, CHAT, gate } from './harness/ai.mjs';
import { agrees, bill, budget, MONEY, money, PRICES, refusedByBudget, rows, rowsNow, sum, user } from './harness/ai-money.mjs';
import { Clock } from './harness/clock.mjs';
import { scratch } from './harness/flow.mjs';
import { restartNode, startNodes } from './harness/nodes.mjs';
import { until } from './harness/server.mjs';
import { mountTmpfs, noTmpfs } from './harness/tmpfs.mjs';

const CHATS = '/v1/chat/completions';
const DAY = 86_400_000;
const ask = (content, more) => ({ ...CHAT, ...user(content), max_tokens: 100, ...more });

function folderOf(s) {
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    return folder;
}

async function reload(s, config, says = /reloaded/) {
    if (config) {
        s.node.configure(config);
    }
    const from = s.node.stdout.length + s.node.stderr.length;
    s.node.signal('SIGHUP');
    return s.node.line(says, from);
}

/* ---- crashes ---- */

aiFlow('kill -9 in the middle of streams and of a crowd: what was settled counts once, nothing is half stored', MONEY, async (s) => {
    const folder = folderOf(s);
    const config = money(s, { folder, config: { threads: 2, disk: { path: path.join(folder, 'disk'), size: '32M', segment: '4M' } },
        budgets: [{ name: 'all', limit: '1000', per: 'total' }, { name: 'each', limit: '1000', per: 'day', each: ['model'] }] });
    [s.node] = await startNodes(s, ['one'], () => config);
    let settled = 0;
    for (let round = 0; round < 3; round++) {
        const door = gate();
        s.cloud.always((request) => ({ pieces: ['one ', 'two ', 'three ', 'four'], usage: { input: 10, output: 4 },
            ...(/held/.test(request.body) ? { between: door.at(2) } : {}) }));
        const sound = await Promise.all(Array.from({ length: 20 }, (_, i) => s.chat(ask(`sound ${round} ${i % 15}`, { stream: i % 2 === 0 }))));
        sound.forEach((answer) => assert.equal(answer.said, 'one two three four'));
        settled += 20;
        const before = await agrees(s.node, settled, ['all', 'each']);
        // Streams, a crowd, and requests that have just ended or not even begun, when it dies.
        const held = await Promise.all(Array.from({ length: 24 }, (_, i) => s.asking(CHATS, ask(i < 12 ? `held ${round} ${i}` : `held crowd ${round}`, { stream: true }))));
        await Promise.all(held.map((client) => client.head()));
        const late = Array.from({ length: 30 }, (_, i) => s.chat(ask(`late ${round} ${i % 20}`)).catch(() => null));
        await Promise.race(late);
        await s.node.kill();
        door.open();
        await Promise.all(late);
        held.forEach((client) => client.close());
        s.node = await restartNode(s, s.node);
        const after = await rowsNow(s.node);
        const known = new Set(after.map((row) => row.request_id));
        assert.equal(known.size, after.length, 'no row is there twice');
        before.forEach((row) => assert.ok(known.has(row.request_id), 'what was committed is there'));
        assert.ok(after.length <= settled + 24 + 30);
        settled = after.length;
        for (const name of ['all', 'each']) {
            assert.equal((await budget(s.node, name)).spent, sum(after, 'cost_micro'), `${name} is what the ledger says`);
        }
        s.cloud.always({ pieces: ['one ', 'two ', 'three ', 'four'], usage: { input: 10, output: 4 } });
        for (const content of [...Array.from({ length: 12 }, (_, i) => `held ${round} ${i}`), `held crowd ${round}`, `late ${round} 0`, `sound ${round} 0`]) {
            assert.equal((await s.chat(ask(content))).said, 'one two three four', content);
            settled++;
        }
        await agrees(s.node, settled, ['all', 'each']);
    }
});

/* ---- reloads ---- */

aiFlow('a reload with streams under way: they go on, what is reserved and spent stays, new budgets know the past', MONEY, async (s) => {
    const small = { name: 'small', limit: '10', per: 'day' };
    s.node = await s.startNode({ config: money(s, { config: { threads: 2 }, budgets: [small] }) });
    s.cloud.always({ usage: { input: 10, output: 5 } });
    await s.chat(ask('before'));
    await agrees(s.node, 1, ['small']);
    const door = gate();
    s.cloud.always({ pieces: ['a', 'b', 'c'], between: door.at(2), usage: { input: 20, output: 3 } });
    const streams = await Promise.all([0, 1, 2].map((i) => s.asking(CHATS, ask(`stream ${i}`, { stream: true }))));
    const heads = await Promise.all(streams.map((client) => client.head()));
    const { reserved, spent } = await budget(s.node, 'small');
    assert.ok(reserved > 0 && spent === bill({ input: 10, output: 5 }));
    const fresh = { name: 'fresh', limit: '20', per: 'month', each: ['model'] };
    await reload(s, money(s, { folder: s.folder, config: { threads: 2 }, budgets: [{ ...small, limit: '0.5' }, fresh] }));
    const now = await budget(s.node, 'small');
    assert.deepEqual([now.limit, now.spent, now.reserved], [500_000, spent, reserved]);
    assert.equal((await budget(s.node, 'fresh')).spent, spent, 'what was spent before it was thought of');
    refusedByBudget(await s.chat(ask('too much now')));
    for (let i = 0; i < 5; i++) {
        await reload(s);
    }
    door.open();
    await Promise.all(streams.map((client, i) => client.body(heads[i])));
    heads.forEach((head) => assert.match(head.text, /\[DONE\]/));
    const all = await agrees(s.node, 5, ['small']);
    assert.equal(sum(all, 'cost_micro'), spent + 3 * bill({ input: 20, output: 3 }));
    await reload(s, money(s, { folder: s.folder, config: { threads: 2 }, budgets: [{ ...small, limit: '10' }, fresh] }));
    s.cloud.always({ usage: { input: 10, output: 5 } });
    assert.equal((await s.chat(ask('again'))).status, 200);
    await agrees(s.node, 6, ['small']);
});

aiFlow('a price file that is replaced is in force after a reload; a broken one changes nothing', MONEY, async (s) => {
    s.node = await s.startNode({ config: money(s, { budgets: [{ name: 'all', limit: '1000' }], ai: { unknown_price: 'refuse' } }) });
    s.cloud.always({ usage: { input: 10, output: 5 } });
    const cost = async (content, more) => {
        const answer = await s.chat(ask(content, more));
        return answer.status === 200 ? s.wall(answer).cost * 1e6 : answer.status;
    };
    assert.equal(Math.round(await cost('old')), 20_000);
    s.setPrices({ currency: 'USD', prices: [{ model: '*', input: 1, output: 2 }] });
    assert.equal(Math.round(await cost('not yet')), 20_000, 'a file alone changes nothing');
    await reload(s);
    assert.equal(Math.round(await cost('new')), 20);
    for (const broken of ['{"prices": [', '{"currency":"USD","prices":[{"model":"*","input":-1}]}', '']) {
        s.setPrices(broken);
        const from = s.node.stderr.length + s.node.stdout.length;
        await reload(s, undefined, /not loaded/);
        assert.match((s.node.stdout + s.node.stderr).slice(from), /prices\.json/);
        assert.equal(Math.round(await cost(`broken ${broken}`)), 20);
    }
    fs.rmSync(path.join(s.folder, 'prices.json'));
    await reload(s, undefined, /not loaded/);
    s.setPrices({ currency: 'USD', prices: [{ model: 'gpt-y*', input: 1, output: 2 }] });
    await reload(s);
    const answer = await s.chat(ask('no price'));
    assert.equal(answer.status, 402, answer.text);
    assert.equal(answer.header('x-should-retry'), 'false');
    await agrees(s.node, 7, ['all']);
});

/* ---- disks ---- */

aiFlow('a full disk under the ledger: requests go on, and every row is there when there is room again', { ...MONEY, skip: MONEY.skip || noTmpfs() }, async (s) => {
    const tmpfs = await s.use(mountTmpfs({ size: '4m' }));
    const config = money(s, { folder: tmpfs.path, config: { threads: 2 }, budgets: [{ name: 'all', limit: '1000' }] });
    s.node = await s.startNode({ config });
    s.cloud.always({ usage: { input: 10, output: 5 } });
    await s.chat(ask('before'));
    await rows(s.node, 1);
    tmpfs.fill();
    for (let i = 0; i < 120; i++) {
        const answer = await s.chat(ask(`full ${i % 100} ${'x'.repeat(400)}`));
        assert.equal(answer.status, 200, answer.text);
    }
    await until(async () => (await s.node.metrics()).get('doorstep_ai_ledger_in_trouble') === 1, 'the node says that it cannot write');
    assert.equal((await budget(s.node, 'all')).spent, 101 * bill({ input: 10, output: 5 }), 'budgets count all the same');
    tmpfs.free();
    const all = await agrees(s.node, 121, ['all']);
    assert.equal(sum(all, 'cost_micro'), 101 * bill({ input: 10, output: 5 }));
    const metrics = await s.node.metrics();
    assert.equal(metrics.get('doorstep_ai_ledger_in_trouble'), 0);
    assert.equal(metrics.get('doorstep_ai_ledger_lost_total'), 0);
    await s.node.line(/ledger: rows are not written.*[^]*ledger: rows are written again/);
    // What cannot be written until the end is lost, and said to be; the log has what it cost.
    tmpfs.fill();
    for (let i = 0; i < 100; i++) {
        await s.chat(ask(`lost ${i} ${'x'.repeat(400)}`));
    }
    await s.node.stop();
    const [, lost, cost] = await s.node.line(/ledger: (\d+) rows were lost; they cost (\d+) millionths/);
    assert.equal(Number(cost), lost * bill({ input: 10, output: 5 }));
    tmpfs.free();
    s.node = await s.startNode({ config });
    await agrees(s.node, 221 - lost, ['all']);
});

/* ---- clocks ---- */

aiFlow('over midnight: a request belongs to the day it began in, and a new day has a budget of its own', MONEY, async (s) => {
    const clock = new Clock(DAY - (Date.now() % DAY) - 3600_000); // an hour before
    const config = money(s, { budgets: [{ name: 'day', limit: '1', per: 'day' }, { name: 'ever', limit: '1000', per: 'total' }] });
    s.node = await s.startNode({ config, env: clock.env });
    s.cloud.always({ usage: { input: 100, output: 100 } });
    const price = bill({ input: 100, output: 100 });
    const fill = async (name) => {
        let paid = 0;
        for (let answer; (answer = await s.chat(ask(`${name} ${paid}`))).status === 200; paid++) {
            assert.ok(paid < 10);
        }
        return paid;
    };
    const door = gate();
    s.cloud.next({ pieces: ['a', 'b'], between: door.at(1), usage: { input: 100, output: 100 } });
    const stream = await s.asking(CHATS, ask('over midnight', { stream: true }));
    const head = await stream.head();
    const first = await fill('first');
    assert.ok(first > 0);
    clock.set(clock.offset + 2 * 3600_000);
    assert.equal((await budget(s.node, 'day')).spent, 0, 'a new day');
    const second = await fill('second');
    assert.ok(second >= first);
    door.open();
    await stream.body(head);
    const all = await rows(s.node, first + second + 3);
    assert.equal((await budget(s.node, 'day')).spent, second * price, 'what began yesterday is paid yesterday');
    const days = new Map();
    all.forEach((row) => days.set(row.time.slice(0, 10), (days.get(row.time.slice(0, 10)) ?? 0) + row.cost_micro));
    assert.deepEqual([...days.values()], [(first + 1) * price, second * price]);
    // Back again, and far ahead, and back: what is used up stays used up.
    const offset = clock.offset;
    for (const hours of [-2, 0, 24 * 3, 0]) {
        clock.set(offset + hours * 3600_000);
        if (hours > 0) {
            assert.equal((await s.chat(ask(`ahead ${hours}`))).status, 200);
        } else {
            refusedByBudget(await s.chat(ask(`jumped ${hours}`)));
        }
    }
    assert.equal((await budget(s.node, 'ever')).spent, (first + second + 2) * price);
    await s.node.stop();
    s.node = await s.startNode({ config, env: clock.env });
    assert.equal((await budget(s.node, 'day')).spent, second * price);
    assert.equal((await budget(s.node, 'ever')).spent, (first + second + 2) * price);
});

/* ---- half-open providers ---- */

/** A listener that behaves badly: what it does with a connection once it has got bytes. */
async function badServer(s, does) {
    const sockets = new Set();
    const server = net.createServer((socket) => {
        sockets.add(socket);
        socket.on('error', () => {});
        socket.once('data', () => does(socket));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    s.after(() => { server.close(); sockets.forEach((socket) => socket.destroy()); });
    return `http://127.0.0.1:${server.address().port}/v1`;
}

const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n';
const ROLE = 'data: {"id":"x","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n';

for (const [what, does] of [
    ['says nothing', () => {}], ['begins a head', (socket) => socket.write('HTTP/1.1 200 O')], ['says a head and no more', (socket) => socket.write(HEAD)],
    ['begins without content', (socket) => socket.write(HEAD + ROLE)], ['closes its side', (socket) => socket.end()],
    ['resets', (socket) => socket.resetAndDestroy()], ['speaks something else', (socket) => socket.write('SSH-2.0-OpenSSH\r\n')],
]) {
    aiFlow(`a provider that takes connections and ${what}: the next one answers, and is paid alone`, MONEY, async (s) => {
        const url = await badServer(s, does);
        const config = money(s, { budgets: [{ name: 'all', limit: '1000' }, { name: 'each', limit: '1000', each: ['model'] }],
            models: { fast: { candidates: [{ provider: 'bad', model: 'm-bad' }, { provider: 'cloud', model: 'm-good' }] } } });
        config.ai.providers.bad = { url, keys: ['sk-bad'], first_token_timeout: '100ms', total_timeout: '200ms', breaker: { enabled: false } };
        s.node = await s.startNode({ config });
        s.cloud.always({ usage: { input: 10, output: 5 } });
        for (const stream of [true, false]) {
            const answer = await s.chat(ask(`half open ${stream}`, { model: 'fast', stream }));
            assert.equal(answer.status, 200, answer.text);
            assert.match(answer.said, /of cloud/);
        }
        const gone = await s.asking(CHATS, ask('whoever leaves', { model: 'bad/m', stream: true }));
        gone.close();
        const all = await agrees(s.node, 3, ['all', 'each']);
        assert.equal(sum(all, 'cost_micro'), 2 * bill({ input: 10, output: 5 }));
        assert.deepEqual(all.slice(0, 2).map((row) => [row.attempts, row.model, row.outcome]), [[2, 'm-good', 'ok'], [2, 'm-good', 'ok']]);
    });
}

aiFlow('SIGTERM with streams, a crowd and calls under way: each has its row when the node has ended', MONEY, async (s) => {
    const config = money(s, { config: { threads: 2, shutdown_timeout: '300ms' }, budgets: [{ name: 'all', limit: '1000', per: 'total' }] });
    s.node = await s.startNode({ config });
    const door = gate();
    s.cloud.always((request) => ({ pieces: ['12345678', '12345678', 'end'], usage: { input: 9, output: 9 },
        ...(/slow/.test(request.body) ? { wait: door.held } : { between: door.at(2) }) }));
    const streams = await Promise.all(Array.from({ length: 20 }, (_, i) => s.asking(CHATS, ask(i < 10 ? `stream ${i}` : 'crowd', { stream: true }))));
    await Promise.all(streams.map((client) => client.head()));
    const slow = await Promise.all(Array.from({ length: 10 }, (_, i) => s.asking(CHATS, ask(`slow ${i}`, { stream: i % 2 === 0 }))));
    await s.cloud.arrived(21);
    await s.node.stop();
    door.open();
    [...streams, ...slow].forEach((client) => client.close());
    s.node = await s.startNode({ config });
    const all = await agrees(s.node, 30, ['all']);
    assert.equal(all.filter((row) => row.cost_micro > 0).length, 11, 'what came is paid');
    assert.ok(all.every((row) => row.outcome === 'disconnected' || row.outcome === 'error'), JSON.stringify(all.map((row) => row.outcome)));
    assert.ok(all.every((row) => !row.cost_micro || row.estimated));
});

aiFlow('who leaves when the model has finished pays what the provider says, and leaves a whole answer', MONEY, async (s) => {
    const door = gate();
    const event = (more) => `data: ${JSON.stringify({ id: 'x', object: 'chat.completion.chunk', model: 'm', ...more })}\n\n`;
    const choice = (delta, reason = null) => event({ choices: [{ index: 0, delta, finish_reason: reason }] });
    const url = await badServer(s, (socket) => {
        socket.write(HEAD + ROLE + choice({ content: 'all of it' }) + choice({}, 'stop'));
        door.held.then(() => socket.end(`${event({ choices: [], usage: { prompt_tokens: 11, completion_tokens: 9 } })}data: [DONE]\n\n`));
    });
    const config = money(s, { budgets: [{ name: 'all', limit: '1000' }] });
    config.ai.providers.odd = { url, keys: ['sk-bad'] };
    s.node = await s.startNode({ config });
    const client = await s.asking(CHATS, ask('and gone', { model: 'odd/m', stream: true }));
    await client.head();
    for (let seen = ''; !seen.includes('"stop"');) {
        seen += (await client.some()).toString('latin1');
    }
    client.close();
    await s.node.settled();
    door.open();
    const [row] = await agrees(s.node, 1, ['all']);
    assert.deepEqual([row.outcome, row.estimated, row.cost_micro], ['disconnected', 0, bill({ input: 11, output: 9 })]);
    const again = await s.chat(ask('and gone', { model: 'odd/m' }));
    assert.equal(s.hit(again).said, 'all of it');
    assert.equal(Math.round(s.wall(again).saved * 1e6), bill({ input: 11, output: 9 }));
});
