/**
 * Tests of the AI gateway: scripted providers behind a node.
 *
 *   aiFlow(name, options, body)            a flow() with providers s.cloud (OpenAI's dialect, keys sk-test-1 and -2) and s.claude
 *                                          (Anthropic's, sk-ant-test) and a node before them
 *       options.providers: { name: { ...startProvider()'s, config: {...}, is: a provider that runs } } instead of these two
 *       options.models, ai, route, config: of the configuration: model aliases; other members of `ai`; of the route's `ai`; top level
 *                                          (with a disk the route is pinned to it)
 *       node: false                        the test starts nodes itself, from aiConfig(s.providers, options)
 *   s.providers                            all of them by name; s.base: the node's http://127.0.0.1:PORT
 *   s.ask(path, body, headers) -> Promise<Answer>       one POST; body: an object, or bytes
 *   s.chat(more, headers), s.message(...)               the usual question at /v1/chat/completions and /v1/messages
 *   s.hit(answer, detail), s.miss(answer)               from which rung it came; s.wall(answer): { provider, model, cost, ... }
 *
 *   gate() -> { held, open(), at(i) }      for scripts: wait: door.held; between: door.at(1)
 *   Answer: a Response with .json, .events ([{event, data, json}]), .said (its text), .tools
 *
 * After each test no request that any provider got may have held the client's key, and none of its body changed but as allowed.
 * DOORSTEP_AI_DIRECT=1 leaves the node out: clients talk to the provider itself, and what only a node can do is not asked. So a test
 * is proved before the node is.
 */
import assert from 'node:assert/strict';
import { cacheStatus, flow, siteConfig } from './flow.mjs';
import { Client } from './client.mjs';
import { startProvider } from './provider.mjs';

export const DIRECT = Boolean(process.env.DOORSTEP_AI_DIRECT);

/** What clients send. It must never arrive at a provider. */
export const CLIENT_KEY = 'sk-client-never-forwarded';

export const CHAT = { model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'What is the capital of France?' }] };
export const MESSAGE = { model: 'claude-test-1', max_tokens: 100, messages: CHAT.messages };

export const TWO = {
    cloud: { dialect: 'openai', config: { rung: 'cloud', region: 'us', keys: ['sk-test-1', 'sk-test-2'], models: ['gpt-*', 'text-*', 'o*'] } },
    claude: { dialect: 'anthropic', config: { rung: 'cloud', region: 'eu', keys: ['sk-ant-test'], models: ['claude-*'] } },
};

/** A script waits for `held`, until the test says `open()`. */
export function gate() {
    let open;
    const held = new Promise((resolve) => { open = resolve; });
    return { held, open, at: (i) => (piece) => (piece === i ? held : undefined) };
}

/** A provider's keys as the node is told; also for startProvider(). */
const keysOf = (given) => given.config?.keys;

export function aiConfig(running, { providers = TWO, models, ai, route, config, ...rest } = {}) {
    const entries = Object.entries(providers).map(([name, given]) => [name, {
        url: given.url ?? (given.dialect === 'anthropic' ? running[name].url : running[name].v1), dialect: given.dialect ?? 'openai',
        ...given.config,
    }]);
    return siteConfig([], { ...rest, config: {
        upstreams: undefined,
        ai: { auth: 'none', providers: Object.fromEntries(entries), ...(models ? { models } : {}), ...ai },
        routes: [{ match: '/v1/*', disk: config?.disk ? 'pin' : undefined, ai: { ttl: '1h', scope: 'tenant', ...route } }],
        ...config,
    } });
}

/** Events of a stream, as a strict reader sees them. */
export function parseEvents(text) {
    return text.split(/\r?\n\r?\n/).filter((block) => block.trim() && !/^(:.*\r?\n?)+$/.test(block)).map((block) => {
        const found = { event: undefined, data: '' };
        for (const line of block.split(/\r?\n/)) {
            const [, name, value] = /^(event|data|id|retry|): ?(.*)$/s.exec(line) ?? [];
            assert.notEqual(name, undefined, `a line of a stream: ${JSON.stringify(line.slice(0, 200))}`);
            found[name] = name === 'data' && found.data ? `${found.data}\n${value}` : value;
        }
        found.json = found.data === '[DONE]' || found.data === '' ? undefined : JSON.parse(found.data);
        return found;
    });
}

function saidIn(json) {
    const choice = json.choices?.[0];
    return choice ? choice.message?.content ?? choice.delta?.content ?? choice.text ?? ''
        : json.type === 'message' ? json.content.filter((block) => block.type === 'text').map((block) => block.text).join('')
            : json.object === 'response' ? (json.output ?? []).flatMap((item) => item.content ?? []).map((part) => part.text ?? '').join('')
                : json.delta?.text ?? (json.type === 'response.output_text.delta' ? json.delta : '');
}

export function answered(response) {
    return Object.defineProperties(response, {
        json: { get() { return JSON.parse(this.text); } },
        streamed: { get() { return /^text\/event-stream/.test(this.header('content-type') ?? ''); } },
        events: { get() { return parseEvents(this.text); } },
        said: { get() {
            return this.streamed ? this.events.map((event) => (event.json ? saidIn(event.json) : '')).join('') : saidIn(this.json);
        } },
    });
}

/** Doorstep-AI as an object; empty where there is none. */
export function wallOf(value) {
    return Object.fromEntries((value ?? '').split(';').map((pair) => pair.trim().split('=')).filter(([name]) => name)
        .map(([name, text]) => [name, /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text?.replace(/^"|"$/g, '')]));
}

function checkSecrets(s) {
    for (const provider of Object.values(s.providers)) {
        for (const request of provider.requests ?? []) {
            assert.ok(!request.rawHeaders.join('\n').includes(CLIENT_KEY), `a client's key at ${provider.name}`);
            const keys = s.keys[provider.name];
            assert.ok(!keys || keys.includes(request.key), `${provider.name} was asked with another's key: ${request.key}`);
        }
    }
}

/** The words of a test: what it can ask and say. */
function words(s) {
    const auth = { Authorization: `Bearer ${CLIENT_KEY}` };
    const at = (path, node) => (DIRECT ? (path.startsWith('/v1/messages') ? s.providers.claude : Object.values(s.providers)[0]).port
        : (node ?? s.node).port);
    s.asking = async (path, body, headers = {}, node = undefined) => {
        const client = await Client.open(at(path, node));
        s.after(() => client.close());
        await client.ask(path, { method: 'POST', body: Buffer.isBuffer(body) || typeof body === 'string' ? body : JSON.stringify(body),
            headers: { 'Content-Type': 'application/json',
                ...(path.startsWith('/v1/messages') ? { 'x-api-key': CLIENT_KEY, 'anthropic-version': '2023-06-01' } : auth), ...headers } });
        return client;
    };
    s.ask = async (...args) => {
        const client = await s.asking(...args);
        const response = answered(await client.response());
        client.close();
        return response;
    };
    s.chat = (more, headers, node) => s.ask('/v1/chat/completions', { ...CHAT, ...more }, headers, node);
    s.message = (more, headers, node) => s.ask('/v1/messages', { ...MESSAGE, ...more }, headers, node);
    s.status = (answer) => cacheStatus(answer.header ? answer : { header: (name) => answer.headers.get(name) ?? undefined });
    s.wall = (answer) => wallOf(answer.header ? answer.header('doorstep-ai') : answer.headers.get('doorstep-ai'));
    s.hit = (answer, detail) => {
        if (!DIRECT) {
            const found = s.status(answer);
            assert.equal(found.hit, true, `a hit: ${JSON.stringify(found)}, ${(answer.text ?? '').slice?.(0, 300)}`);
            assert.equal(detail ?? found.detail, found.detail);
        }
        return answer;
    };
    s.miss = (answer) => {
        if (!DIRECT) {
            assert.equal(s.status(answer).hit, undefined, `no hit: ${JSON.stringify(s.status(answer))}`);
        }
        return answer;
    };
}

export function aiFlow(name, options, body) {
    if (typeof options === 'function') {
        [options, body] = [{}, options];
    }
    const providers = options.providers ?? TWO;
    flow(name, { node: false, skip: options.skip ?? (DIRECT && options.needs === 'node' && 'needs the node') }, async (s) => {
        s.providers = {};
        s.keys = {};
        for (const [id, given] of Object.entries(providers)) {
            const provider = given.is ?? (given.url ? { name: id, requests: [] }
                : await s.use(startProvider({ name: id, keys: keysOf(given), ...given, ...(DIRECT ? { keys: undefined } : {}) })));
            s[id] = s.providers[id] = provider;
            s.keys[id] = DIRECT ? undefined : keysOf(given);
        }
        s.config = (more = {}) => aiConfig(s.providers, { ...options, ...more });
        words(s);
        if (options.node !== false && !DIRECT) {
            const { flags, prefix, env } = options;
            s.node = await s.startNode({ config: s.config(), flags, prefix, env });
        }
        s.base = (dialect = 'openai') => `http://127.0.0.1:${DIRECT ? s[dialect === 'openai' ? Object.keys(providers)[0] : 'claude'].port
            : s.node.port}`;
        await body(s);
        if (!DIRECT) {
            checkSecrets(s);
        }
    });
}
