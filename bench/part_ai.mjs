/**
 * The AI gateway: what an AI request costs beside a plain one of the same binary and beside @portkey-ai/gateway, what the node
 * adds to a provider's latency, and memory. One node, one scripted provider for each pace (bench/ai_provider.c), prompts of
 * about 300 bytes with a ledger row and a price each.
 */
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { start } from './peers.mjs';
import { BUILD, freePort, get, load, median, Server, stopAll } from './process.mjs';
import { LOAD_CPU, megabytes, ms, note, QUICK, ratio, ROUNDS, say, SECONDS, SERVER_CPU, table, us, work } from './report.mjs';

const ANSWER = 1024;
const CHUNKS = 50;
const CHAT = '/v1/chat/completions';
const PORTKEY = new URL('../tests/node_modules/@portkey-ai/gateway/build/start-server.js', import.meta.url).pathname;
/** What providers do: events of a stream, and microseconds before the answer and each event. */
const PACES = {
    fast: [CHUNKS, 0], near: [CHUNKS, 5000], paced: [CHUNKS, 1000], single: [1, 1000], slow: [CHUNKS, 100_000],
};

async function startProvider([chunks, delayUs]) {
    const port = await freePort();
    const server = new Server('provider', LOAD_CPU, [path.join(BUILD, 'bench/ai_provider'), `${port}`, `${ANSWER}`, `${chunks}`,
        `${delayUs}`]);
    server.port = port;
    return server.ready(port, '/-/count');
}

const posts = async (provider) => Number((await get(provider.port, '/-/count')).text);

async function startNode(providers, more = {}) {
    const prices = path.join(work, 'prices.json');
    fs.writeFileSync(prices, JSON.stringify({ currency: 'USD', prices: [{ provider: '*', model: '*', input: 1, output: 2 }] }));
    const lean = { via: false, request_id: false };
    return start('doorstep', work, SERVER_CPU, providers.fast.port, {
        memory: '256M',
        more: (site, dir) => ({
            state: { path: path.join(dir, 'state.db') },
            ai: {
                prices,
                providers: Object.fromEntries(Object.entries(providers).map(([name, { port }]) => [name,
                    { url: `http://127.0.0.1:${port}/v1`, keys: ['sk-bench'], max_connections: 0, breaker: { enabled: false } }])),
            },
            routes: [{ match: '/v1/*', ai: { ttl: '1h' }, ...lean }, { match: '/off/v1/*', ai: { ttl: '0s' }, ...lean },
                ...site.routes],
            ...more,
        }),
    });
}

/** Answers without the node: the provider itself. With Portkey: its fields. */
const direct = (provider) => ({ port: provider.port, fields: [], path: () => CHAT, model: () => 'gpt-bench' });
const through = (node) => ({ port: node.port, fields: [], server: node, path: (cached) => (cached ? CHAT : `/off${CHAT}`),
    model: (pace) => `${pace}/gpt-bench` });

async function startPortkey() {
    if (!fs.existsSync(PORTKEY)) {
        return null;
    }
    const port = await freePort();
    const server = new Server('Portkey', SERVER_CPU, [process.execPath, PORTKEY, `--port=${port}`, '--headless'],
        { env: { NODE_ENV: 'production' }, log: path.join(work, 'portkey.log') });
    server.port = port;
    await server.ready(port, '/');
    return server;
}

const behindPortkey = (server, provider) => ({ port: server.port, server, path: () => CHAT, model: () => 'gpt-bench',
    fields: ['x-portkey-provider: openai', `x-portkey-custom-host: http://127.0.0.1:${provider.port}/v1`,
        'Authorization: Bearer sk-bench'] });

/** One run of bench/ai_ask.c. */
async function ask(to, pace, { connections = 32, count, seconds, stream, unique = true, prompt, cached, plain } = {}) {
    const flags = [['-c', connections], ['-n', count], ['-d', seconds], ['-b', prompt], ['-p', plain ?? to.path(cached)],
        ['-m', to.model(pace)]].filter(([, value]) => value !== undefined).flatMap(([name, value]) => [name, `${value}`]);
    const result = JSON.parse(await load(LOAD_CPU, [path.join(BUILD, 'bench/ai_ask'), ...flags, ...(stream ? ['-s'] : []),
        ...(unique ? ['-u'] : []), ...(plain ? ['-g'] : []), ...to.fields.flatMap((field) => ['-H', field]), `${to.port}`]));
    if (result.errors > result.asked / 1000) {
        throw new Error(`${to.server?.name ?? 'provider'}, ${pace}: ${result.errors} of ${result.asked} failed`);
    }
    return result;
}

/** CPU of the server for each answer, rate and latency; `expected`: the share of requests the provider must have seen. */
async function timed(to, pace, provider, options, expected) {
    await ask(to, pace, { ...options, count: 200 });
    const before = { cpu: to.server.cpu(), posts: await posts(provider) };
    const run = await ask(to, pace, { ...options, seconds: SECONDS });
    const share = (await posts(provider) - before.posts) / run.good;
    if (Math.abs(share - expected) > 0.02) {
        throw new Error(`${to.server.name}: the provider saw ${(100 * share).toFixed(1)}% of the requests`);
    }
    return { ...run, cpu: (to.server.cpu() - before.cpu) / run.good };
}

async function rounds(what, jobs) {
    const results = new Map(jobs.map(({ title }) => [title, []]));
    for (let i = 0; i < ROUNDS; i++) {
        for (const { title, run } of jobs) {
            note(`${what}: round ${i + 1}/${ROUNDS}, ${title}`);
            results.get(title).push(await run());
        }
    }
    return new Map([...results].map(([title, runs]) => [title,
        Object.fromEntries(Object.keys(runs[0]).map((name) => [name, median(runs.map((run) => run[name]))]))]));
}

async function requests(node, portkey, providers) {
    const ours = through(node);
    const theirs = portkey && behindPortkey(portkey, providers.fast);
    const job = (title, to, options, expected) => ({ title, run: () => timed(to, 'fast', providers.fast, options, expected) });
    const found = await rounds('AI requests', [
        job('plain pass-through, 1 KiB', ours, { plain: '/pass/1k' }, 0),
        job('plain hit, 1 KiB', ours, { plain: '/1k' }, 0),
        job('AI pass-through', ours, {}, 1),
        job('AI exact hit', ours, { cached: true, unique: false }, 0),
        job('AI stream replayed', ours, { cached: true, unique: false, stream: true }, 0),
        ...(theirs ? [job('Portkey, pass-through', theirs, {}, 1)] : []),
    ]);
    const pass = found.get('plain pass-through, 1 KiB').cpu;
    const hit = found.get('plain hit, 1 KiB').cpu;
    const goals = {
        'AI pass-through': [pass, '>= 8,000/s; <= 2.0'], 'AI exact hit': [hit, '>= 15,000/s; <= 2.5'],
        'AI stream replayed': [hit, ''], 'Portkey, pass-through': [pass, ''],
    };
    say(`### AI requests: 32 connections, answers of ${ANSWER} bytes, a ledger row and a price each`);
    say();
    table(['what', 'answers/s', 'p99 ms', 'CPU µs/request', 'CPU / plain of its kind', 'asked'], [...found].map(([title, r]) => [title,
        r.rate.toFixed(0), ms(r.p99), us(r.cpu), goals[title] ? ratio(r.cpu, goals[title][0]) : '-', goals[title]?.[1] ?? '']));
    say('Answers per second are what is left of two CPUs beside provider and load generator.');
    say();
}

async function latency(node, portkey, providers) {
    const options = { connections: 10, seconds: SECONDS };
    const found = await rounds('AI latency', [
        ['provider itself', direct(providers.near)], ['Doorstep', through(node)],
        ...(portkey ? [['Portkey', behindPortkey(portkey, providers.near)]] : []),
    ].map(([title, to]) => ({ title, run: () => ask(to, 'near', options) })));
    const base = found.get('provider itself');
    say('### AI: latency added to a provider of 5 ms, 10 connections (asked: p50 <= 100 µs, p99 <= 300 µs)');
    say();
    table(['what', 'p50 µs', 'p99 µs', 'p50 added', 'p99 added', 'answers/s'], [...found].map(([title, r]) => [title, us(r.p50), us(r.p99),
        us(r.p50 - base.p50), us(r.p99 - base.p99), r.rate.toFixed(0)]));
}

async function streams(node, portkey, providers) {
    const options = { connections: 10, seconds: SECONDS, stream: true };
    const ours = through(node);
    const job = (title, to, pace) => ({ title, run: async () => {
        const before = to.server?.cpu();
        const run = await ask(to, pace, options);
        return { ...run, cpu: to.server ? (to.server.cpu() - before) / run.good : NaN };
    } });
    const jobs = [job('provider itself', direct(providers.paced), 'paced'), job('Doorstep', ours, 'paced'),
        job('Doorstep, one chunk', ours, 'single')];
    const theirs = portkey && behindPortkey(portkey, providers.paced);
    if (theirs && await ask(theirs, 'paced', { connections: 1, count: 2, stream: true }).catch(() => null)) {
        jobs.push(job('Portkey', theirs, 'paced'));
    } else if (theirs) {
        note('Portkey answers streams with 500');
    }
    const found = await rounds('AI streams', jobs);
    const base = found.get('provider itself');
    const one = found.get('Doorstep, one chunk').cpu;
    found.delete('Doorstep, one chunk');
    say(`### AI streams: ${CHUNKS} chunks, 1 ms apart, 10 connections (asked: first token <= 300 µs later, <= 5 µs a chunk)`);
    say();
    table(['what', 'first token p50 µs', 'p99 µs', 'added p50', 'added p99', 'whole stream p50 µs', 'added, after the first, µs/chunk',
        'a chunk is under way, p50 µs', 'CPU µs/chunk'], [...found].map(([title, r]) => [title, us(r.first50), us(r.first99),
        us(r.first50 - base.first50), us(r.first99 - base.first99), us(r.p50),
        us((r.p50 - base.p50 - (r.first50 - base.first50)) / (CHUNKS - 1)), us(r.lag50),
        title === 'Doorstep' ? us((r.cpu - one) / (CHUNKS - 1)) : title === 'Portkey' ? us(r.cpu / CHUNKS) : '-']));
    if (theirs && !found.has('Portkey')) {
        say('Portkey\'s gateway answers streams with an error on this Node.');
        say();
    }
}

/** The largest memory() while something runs. */
async function watched(server, run) {
    let most = server.memory();
    let over = false;
    const watching = (async () => {
        while (!over) {
            most = Math.max(most, server.memory());
            await delay(50);
        }
    })();
    try {
        await run();
    } finally {
        over = true;
        await watching;
    }
    return most;
}

async function memory(providers) {
    const few = QUICK ? 200 : 1000;
    const rows = [];
    const servers = [['Doorstep', await startNode(providers), (server) => through(server)]];
    const portkey = await startPortkey();
    if (portkey) {
        servers.push(['Portkey', portkey, (server, pace) => behindPortkey(server, providers[pace])]);
    }
    for (const [name, server, to] of servers) {
        await delay(500);
        const idle = server.memory();
        note(`AI memory: ${few} streams, ${name}`);
        const works = (pace) => ask(to(server, pace), pace, { connections: 1, count: 1, stream: true }).then(() => true, () => false);
        const flowing = await works('fast') ? await watched(server, () => ask(to(server, 'slow'), 'slow',
            { connections: few, count: few, stream: true })) : NaN;
        note(`AI memory: prompts of 1 MB, ${name}`);
        const large = await watched(server, () => ask(to(server, 'near'), 'near', { connections: 32, count: 640, prompt: 1e6 }));
        await delay(1000);
        rows.push([name, megabytes(idle), Number.isNaN(flowing) ? '-' : megabytes(flowing),
            Number.isNaN(flowing) ? '-' : ((flowing - idle) / few / 1024).toFixed(1), megabytes(large), megabytes(server.memory())]);
        await server.stop();
    }
    say(`### AI: memory (asked: idle <= 20 MiB = 21 MB; bounded with ${few} concurrent streams of 5 s and 32 connections with prompts of 1 MB)`);
    say();
    table(['server', 'idle MB', `${few} streams MB`, 'KiB a stream', '1 MB prompts MB', 'afterwards MB'], rows);
}

export async function ai() {
    const providers = {};
    for (const [name, pace] of Object.entries(PACES)) {
        providers[name] = await startProvider(pace);
    }
    const node = await startNode(providers);
    const portkey = await startPortkey();
    await requests(node, portkey, providers);
    await latency(node, portkey, providers);
    await streams(node, portkey, providers);
    await Promise.all([node.stop(), portkey?.stop()]);
    await memory(providers);
    await stopAll();
}
