/** What can be seen of AI traffic without reading it: metrics under OpenTelemetry's names, /top, `doorstep top`, and spans at a collector. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { aiFlow, gate } from './harness/ai.mjs';
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
        config: { threads: 2, state: { path: path.join(folder, 'state.db') }, ...config } });
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

aiFlow('who shares the call of another saves what it would have cost', OPTIONS, async (s) => {
    await start(s);
    const door = gate();
    s.cloud.always({ usage: { input: 10, output: 5 }, wait: door.held });
    const first = s.chat({ ...FAST, stream: true });
    await s.cloud.arrived(1);
    const second = s.chat({ ...FAST, stream: true });
    await until(async () => (await samples(s))['doorstep_coalesced_requests_total'] >= 0 && (await s.node.settled(), true));
    door.open();
    await Promise.all([first, second]);
    const found = await counted(s, 2);
    const one = 10 * 1000 + 5 * 2000;
    assert.equal(s.cloud.count, 1);
    assert.equal(found['doorstep_ai_cost_micro_total{provider="cloud",model="gpt-4o-mini"}'], one);
    assert.equal(found['doorstep_ai_saved_micro_total{provider="cloud",model="gpt-4o-mini"}'], one);
    assert.equal(found['doorstep_ai_tokens_saved_total{provider="cloud",model="gpt-4o-mini"}'], 15);
    assert.equal((await top(s)).hit_ratio, 0.5);
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
    await start(s, { ai: { budgets: [{ name: 'small', limit: '1000', per: 'day' }] } });
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
    assert.equal(found['doorstep_ai_budget_limit{budget="small",unit="money",window="day"}'], 1_000_000_000);
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

aiFlow('doorstep top: hits by level, providers up and down, budgets left; the same as JSON; 80 columns', { ...OPTIONS, route: { semantic: 'canonical', verify: 0 } }, async (s) => {
    await start(s, { ai: { budgets: [{ name: 'small', limit: '0.08', per: 'day' }, { name: 'tokens', unit: 'tokens', limit: '1000000', per: 'month', soft: true }] } });
    s.cloud.always({ usage: { input: 10, output: 5 } });
    s.claude.always({ error: 'auth' });
    const ask = (content) => s.chat({ ...FAST, max_tokens: 5, messages: [{ role: 'user', content }] });
    s.miss(await ask('What is the capital of France?'));
    s.hit(await ask('What is the capital of France?'));
    s.hit(await ask('what is the capital of france, please'));
    await s.message({ messages: [{ role: 'user', content: 'refused' }], max_tokens: 1 });
    await counted(s, 4);
    const show = async (...more) => (await run(BINARY, ['top', ...more, '--admin', `127.0.0.1:${s.node.adminPort}`])).stdout;
    const screen = await show('--once');
    assert.match(screen, /^ {4}hits {3}memory 25\.0% {3}canonical 25\.0% {3}of cloud 50\.0%$/m);
    assert.match(screen, /^ {4}up {3}cloud {3}DOWN {3}claude \(1 of 1 keys refused\)$/m);
    assert.match(screen, /^ {4}budget small \(day\): left 0\.0600 of 0\.08, 75\.0%$/m);
    assert.match(screen, /^ {4}budget tokens \(month\): left 999985 of 1000000 tokens, 100\.0%$/m);
    assert.ok(screen.split('\n').every((line) => line.length <= 80), screen);
    const { ai } = JSON.parse(await show('--json'));
    assert.deepEqual([ai.semantic.canonical.hits, ai.semantic.canonical.ratio, ai.tiers.semantic.ratio, ai.tiers.memory.hits], [1, 0.25, 0.25, 1]);
    assert.deepEqual(ai.providers.map(({ name, down, dead }) => [name, down, dead]), [['cloud', false, 0], ['claude', false, 1]]);
    assert.deepEqual(ai.budgets.map(({ name, spent, limit }) => [name, spent, limit]).sort(), [['small', 20_000, 80_000], ['tokens', 15, 1_000_000]]);
});

/* ---- spans ---- */

/** A collector: keeps spans as plain objects, answers what `status` says. */
async function startCollector(s) {
    const collector = { spans: [], bodies: [], requests: [], status: 200 };
    const server = http.createServer((request, response) => {
        const pieces = [];
        request.on('data', (piece) => pieces.push(piece));
        request.on('end', () => {
            const text = Buffer.concat(pieces).toString();
            collector.bodies.push(text);
            collector.requests.push(request);
            if (collector.status === 200) {
                for (const { resource, scopeSpans } of JSON.parse(text).resourceSpans) {
                    collector.resource = attributes(resource);
                    collector.spans.push(...scopeSpans.flatMap(({ spans }) => spans.map(plainSpan)));
                }
            }
            response.writeHead(collector.status, { 'Content-Type': 'application/json' }).end('{}');
        });
    });
    await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    s.after(() => { server.closeAllConnections(); server.close(); });
    collector.url = `http://127.0.0.1:${server.address().port}`;
    collector.stop = () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); });
    collector.children = (span) => collector.spans.filter((other) => other.parentSpanId === span.spanId);
    collector.named = (name) => collector.spans.find((span) => span.name === name);
    return collector;
}

const valueOf = ({ stringValue, intValue, boolValue }) => stringValue ?? boolValue ?? Number(intValue);
const attributes = ({ attributes: list }) => Object.fromEntries(list.map(({ key, value }) => [key, valueOf(value)]));
const plainSpan = (span) => ({ ...span, is: attributes(span), events: (span.events ?? []).map((event) => ({ ...event, is: attributes(event) })) });

const tracing = (collector, more) => ({ tracing: { otlp: collector.url, sample: 1, interval: '20ms', ...more } });
const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = 'b7ad6b7169203331';

aiFlow('a trace: the caller, the lookups, each call with what it used, its first token, and the provider', OPTIONS, async (s) => {
    const collector = await startCollector(s);
    await start(s, tracing(collector, { headers: ['Authorization: Bearer collectors-own'] }));
    s.cloud.next({ error: 'rate_limit', retryAfter: 1 }, { error: 'server' });
    s.claude.always({ usage: { input: 10, output: 5 } });
    await s.chat({ ...FAST, stream: true }, { traceparent: `00-${TRACE}-${PARENT}-01` });
    const root = await until(() => collector.named('POST /v1/chat/completions'), 'the trace');
    assert.deepEqual([root.traceId, root.parentSpanId, root.kind], [TRACE, PARENT, 2]);
    assert.equal(collector.resource['service.name'], 'doorstep');
    assert.equal(collector.requests[0].headers.authorization, 'Bearer collectors-own');
    assert.equal(collector.requests[0].url, '/v1/traces');
    const is = { ...root.is };
    assert.equal(is['error.type'], undefined, 'in the end it went well');
    assert.deepEqual([is['gen_ai.request.model'], is['gen_ai.provider.name'], is['doorstep.outcome'], is['doorstep.tier'], is['doorstep.attempts']],
        ['fast', 'claude', 'ok', 'none', 3]);
    assert.equal(is['doorstep.cost_micro'], 10 * 1000 + 5 * 2000);
    const children = collector.children(root);
    assert.deepEqual(children.map((span) => span.name), ['auth', 'lookup memory', 'chat gpt-4o-mini', 'lookup memory', 'chat claude-test-1']);
    for (const span of collector.spans) {
        assert.equal(span.traceId, TRACE);
        assert.match(span.spanId, /^[0-9a-f]{16}$/);
        assert.ok(BigInt(span.startTimeUnixNano) <= BigInt(span.endTimeUnixNano));
        assert.ok(BigInt(span.startTimeUnixNano) >= BigInt(root.startTimeUnixNano), span.name);
    }
    assert.equal(new Set(collector.spans.map((span) => span.spanId)).size, collector.spans.length);
    const [failed, good] = children.filter((span) => span.kind === 3);
    assert.equal(failed.status.code, 2);
    assert.deepEqual(collector.children(failed).map((span) => [span.name, span.is['http.response.status_code'], span.is['error.type']]),
        [['attempt', 429, 'rate_limit'], ['attempt', 500, 'server_error']]);
    assert.deepEqual([good.is['gen_ai.usage.input_tokens'], good.is['gen_ai.usage.output_tokens'], good.is['gen_ai.operation.name']], [10, 5, 'chat']);
    assert.equal(good.status, undefined);
    assert.deepEqual(good.events.map((event) => event.name), ['gen_ai.first_token']);
    assert.equal(s.cloud.last.headers.traceparent, `00-${TRACE}-${failed.spanId}-01`);
    assert.equal(s.claude.last.headers.traceparent, `00-${TRACE}-${good.spanId}-01`);
});

aiFlow('a hit says which lookup found it', OPTIONS, async (s) => {
    const collector = await startCollector(s);
    await start(s, tracing(collector));
    await s.chat(FAST);
    await s.chat(FAST);
    const root = await until(() => collector.spans.find((span) => span.is['doorstep.outcome'] === 'hit'), 'the hit');
    assert.ok(collector.spans.every((span) => span.events.length === 0), 'an answer that came at once has no first token');
    assert.equal(root.parentSpanId, undefined);
    assert.equal(root.is['doorstep.tier'], 'memory');
    assert.ok(root.is['doorstep.saved_micro'] > 0);
    assert.deepEqual(collector.children(root).map((span) => [span.name, span.is['doorstep.hit']]), [['auth', undefined], ['lookup memory', true]]);
});

aiFlow('what is not sampled is not recorded, and the caller decides when it is followed', OPTIONS, async (s) => {
    const collector = await startCollector(s);
    await start(s, tracing(collector, { sample: 0 }));
    await s.chat({ messages: [{ role: 'user', content: 'nobody records this' }] });
    assert.match(s.cloud.last.headers.traceparent, /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-00$/);
    await s.chat(FAST, { traceparent: `00-${TRACE}-${PARENT}-00` });
    assert.equal(s.cloud.last.headers.traceparent, `00-${TRACE}-${PARENT}-00`);
    await s.chat({ ...FAST, seed: 1 }, { traceparent: `00-${TRACE}-${PARENT}-01` });
    await until(() => collector.named('POST /v1/chat/completions'), 'the trace');
    assert.equal(new Set(collector.spans.map((span) => span.traceId)).size, 1);
});

aiFlow('no collector: requests are served, spans are dropped and counted; a node that stops sends what it has', OPTIONS, async (s) => {
    const collector = await startCollector(s);
    await start(s, tracing(collector, { queue: '64K' }));
    collector.status = 503;
    let dropped = 0;
    for (let i = 0; dropped === 0; i++) {
        assert.ok(i < 1000, 'the queue has no bound');
        assert.equal((await s.chat({ ...FAST, seed: i % 7 })).status, 200);
        dropped = (await samples(s)).doorstep_trace_dropped_total;
    }
    const found = await samples(s);
    assert.ok(found.doorstep_trace_queued_bytes <= 65536);
    assert.equal(found.doorstep_trace_exported_total, 0);
    collector.status = 200;
    await s.node.stop();
    assert.ok(collector.spans.length > 0, 'the rest came at the end');
});

aiFlow('spans of what breaks: cut streams, clients that leave, refusals, rivals', OPTIONS, async (s) => {
    const collector = await startCollector(s);
    const ended = (outcome) => until(() => collector.spans.find((span) => span.kind === 2 && span.is['doorstep.outcome'] === outcome), outcome);
    await start(s, tracing(collector));
    s.cloud.next({ cut: 2 });
    await s.chat({ ...FAST, stream: true, seed: 1 });
    const cut = await ended('error');
    assert.equal(cut.is['error.type'], 'stream_cut');
    const [call] = collector.children(cut).filter((span) => span.kind === 3);
    assert.ok(call.is['error.type'], 'a stream that broke says so');
    assert.equal(call.status.code, 2);
    assert.equal(call.is['doorstep.usage_estimated'], true);
    assert.deepEqual(call.events.map((event) => event.name), ['gen_ai.first_token']);
    const door = gate();
    s.cloud.next({ between: door.at(1) });
    const before = s.cloud.count;
    const client = await s.asking('/v1/chat/completions', { ...FAST, stream: true, seed: 2, messages: [{ role: 'user', content: 'leaves' }] });
    await s.cloud.arrived(before + 1);
    client.close();
    assert.equal(await s.cloud.last.gone, true);
    door.open();
    await ended('disconnected');
    await s.chat({ model: 'nobody-has-it' });
    const refused = await ended('refused');
    assert.ok(refused.is['error.type']);
    assert.ok(collector.children(refused).every((span) => span.kind !== 3), 'nobody was asked');
});

aiFlow('a hedged request has both calls in its trace', { ...OPTIONS }, async (s) => {
    const collector = await startCollector(s);
    await start(s, tracing(collector));
    await s.node.stop();
    const models = { fast: { ...MODELS.fast, hedge: { enabled: true, after: '1ms', percent: 100 } } };
    s.node = await s.startNode({ config: { ...s.given, ai: { ...s.given.ai, models } } });
    const door = gate();
    s.cloud.always({ wait: door.held });
    assert.equal(s.wall(await s.chat({ ...FAST, stream: true })).provider, 'claude');
    door.open();
    const root = await until(() => collector.named('POST /v1/chat/completions'), 'the trace');
    const calls = collector.children(root).filter((span) => span.kind === 3);
    assert.deepEqual(calls.map((span) => span.is['gen_ai.provider.name']).sort(), ['claude', 'cloud']);
    assert.notEqual(s.cloud.last.headers.traceparent, s.claude.last.headers.traceparent);
});

aiFlow('a collector that takes everything and answers nothing, one that is not there, and one that talks nonsense: no request waits', OPTIONS, async (s) => {
    const sockets = [];
    const silent = net.createServer((socket) => { sockets.push(socket); socket.on('error', () => {}); socket.resume(); });
    const nonsense = net.createServer((socket) => { sockets.push(socket); socket.on('error', () => {}); socket.end('no HTTP\r\n\r\n'); });
    for (const server of [silent, nonsense]) {
        await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    }
    s.after(() => { sockets.forEach((socket) => socket.destroy()); silent.close(); nonsense.close(); });
    for (const url of [`http://127.0.0.1:${silent.address().port}`, 'http://127.0.0.1:1', `http://127.0.0.1:${nonsense.address().port}`]) {
        await start(s, tracing({ url }, { queue: '64K' }));
        let dropped = 0;
        for (let i = 0; dropped === 0; i++) {
            assert.ok(i < 1000, 'the queue has no bound');
            assert.equal((await s.chat({ ...FAST, seed: i % 5 })).status, 200);
            const found = await samples(s);
            dropped = found.doorstep_trace_dropped_total + found.doorstep_trace_failed_total;
            assert.ok(found.doorstep_trace_queued_bytes <= 65536);
            assert.equal(found.doorstep_trace_exported_total, 0);
        }
        await s.node.stop();
    }
});

aiFlow('nothing that was said is in a span', OPTIONS, async (s) => {
    const collector = await startCollector(s);
    await start(s, tracing(collector));
    s.cloud.always({ text: `${SECRET} said` });
    const said = { messages: [{ role: 'user', content: SECRET }], user: SECRET, metadata: { a: SECRET }, stop: SECRET };
    await s.chat({ ...said, ...FAST }, { 'X-Secret': SECRET, 'X-Request-Id': SECRET });
    await s.ask(`/v1/chat/completions?q=${SECRET}`, { ...said, ...FAST, stream: true });
    await s.ask(`/v1/${SECRET}/path`, said);
    await s.chat({ ...said, model: `${SECRET}-model` });
    await s.chat({ ...said, model: 5 });
    s.cloud.next({ error: 'bad_request', message: SECRET });
    await s.chat({ ...said, ...FAST, seed: 1 });
    await s.ask('/v1/chat/completions', `{"${SECRET}`);
    await until(() => collector.spans.filter((span) => span.kind === 2).length >= 7, 'the traces');
    for (const text of collector.bodies) {
        assert.ok(!text.includes(SECRET), text.slice(Math.max(0, text.indexOf(SECRET) - 200)).slice(0, 400));
    }
    assert.ok(!(await s.node.admin('/metrics')).text.includes(SECRET));
});
