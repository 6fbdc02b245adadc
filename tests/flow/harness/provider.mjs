/**
 * A scripted AI provider that speaks both dialects: chat, responses, completions, embeddings, models, messages, count_tokens;
 * any other /v1 path is echoed. It notes everything it receives and does what the test says, well or badly.
 *
 *   startProvider({name, port, keys, dialect}) -> Promise<Provider>
 *       keys: the credentials it takes (default: any). dialect: of errors on paths that do not tell, and of the model list
 *   provider.url, .v1                      http://127.0.0.1:PORT, the same with /v1
 *   provider.requests                      what came: { method, path, endpoint, headers, rawHeaders, body, json, key, gone }
 *                                          gone: a promise, true when the client left before the answer was whole
 *   provider.count, .last                  how many requests for an answer (models and echoes not counted), the newest
 *   provider.next(...scripts)              for the next requests, one each
 *   provider.on(model, script)             for every request with that model; model may be a RegExp
 *   provider.key(credential, script)       for every request with that credential
 *   provider.always(script)                for all others
 *   provider.arrived(n) -> Promise<request>     the n-th request (from 1) has come
 *   provider.stop(), .reset()              reset: forgets scripts and requests
 *
 * A script is an object, or a function (request) => object, maybe async. All members are optional:
 *   text | pieces: [...]       what is said; by default "answer N of NAME to: QUESTION"
 *   reasoning: [...]           pieces thought first          tools: [{ name, arguments, id }]     finish: 'stop' | 'length'
 *   usage: null | { input, output, cached, cacheWrite, reasoning }          model, id: said in the answer
 *   error: kind, message       an error (kinds in provider-forms.mjs); retryAfter: seconds; headers: {...}; status
 *   inside: true               that error inside of a 200; in a stream after `at` pieces (default 0)
 *   wait: promise | fn         before the head               first: promise | fn     after the head, before the first piece
 *   between: (i) => promise    before piece i                delay, firstToken, pace: the same in milliseconds
 *   cut: 'connect' | 'head' | number            the connection ends before any byte; after the head; after n pieces
 *   reset: true                and it ends with a RST
 *   done: false                no terminal event             end: n              the stream ends well, but after n pieces
 *   malformed: n               piece n is no JSON
 *   bytes: n                   written n bytes at a time     crlf: true          lines end in CRLF
 *   keepAlives: n              comments before the first piece (messages: pings too)
 *   giant: n                   one piece of n characters     extra: [{event, data}]   unknown events before the first piece
 *   raw: bytes, type           this body instead of everything
 *
 * As a program: node provider.mjs --port 9001 --name cloud [--delay MS] [--pace MS] [--key K]; prints `provider on ...`.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import { setImmediate as breath, setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { errorBody, FORMS } from './provider-forms.mjs';

const ENDPOINTS = {
    '/v1/chat/completions': 'chat', '/v1/completions': 'completions', '/v1/responses': 'responses', '/v1/messages': 'messages',
    '/v1/embeddings': 'embeddings', '/v1/messages/count_tokens': 'count_tokens', '/v1/models': 'models',
};

/** Text of a message's content in any dialect. */
function textOf(content) {
    return typeof content === 'string' ? content : (content ?? []).map?.((part) => part?.text ?? '').join('') ?? '';
}

/** The last thing a user said. */
function question(json) {
    const input = json.messages ?? json.input ?? json.prompt ?? '';
    return typeof input === 'string' ? input : textOf(input.findLast?.((one) => one?.role === 'user')?.content ?? input[0]);
}

const tokens = (text) => Math.max(1, Math.ceil(text.length / 4));

/** The same numbers for the same text. */
function vector(text, dimensions) {
    const floats = [];
    for (let round = 0; floats.length < dimensions; round++) {
        const hash = createHash('sha256').update(`${round}:${text}`).digest();
        for (let i = 0; i < hash.length && floats.length < dimensions; i += 2) {
            floats.push(Math.fround(hash.readInt16LE(i) / 32768));
        }
    }
    return floats;
}

class Provider {
    requests = [];
    /** Those of them for an answer. */
    asked = [];
    /** So that a test's watchdog can name it. */
    awaiting = '';
    #queue = [];
    #models = [];
    #keys = new Map();
    #always = {};
    #sleepers = [];
    #server;

    constructor({ name = 'provider', keys, dialect = 'openai' } = {}) {
        Object.assign(this, { name, keys, dialect });
    }

    async start(port) {
        this.#server = http.createServer({ keepAliveTimeout: 60_000, maxHeaderSize: 65_536 }, (req, res) => {
            this.#serve(req, res).catch((error) => {
                if (!res.destroyed && !res.writableEnded) {
                    res.destroy(error);
                }
            });
        });
        this.#server.listen(port, '127.0.0.1');
        await once(this.#server, 'listening');
        this.port = this.#server.address().port;
    }

    get url() { return `http://127.0.0.1:${this.port}`; }
    get v1() { return `${this.url}/v1`; }
    get count() { return this.asked.length; }
    get last() { return this.asked.at(-1); }

    next(...scripts) { this.#queue.push(...scripts); return this; }
    on(model, script) { this.#models.unshift([model, script]); return this; }
    key(credential, script) { this.#keys.set(credential, script); return this; }
    always(script) { this.#always = script; return this; }

    reset() {
        this.#queue = [];
        this.#models = [];
        this.#keys.clear();
        this.#always = {};
        this.requests = [];
        this.asked = [];
    }

    async arrived(n) {
        this.awaiting = `request ${n} at ${this.name}`;
        while (this.asked.length < n) {
            await new Promise((resolve) => { this.#sleepers.push(resolve); });
        }
        this.awaiting = '';
        return this.asked[n - 1];
    }

    async stop() {
        if (!this.#server.listening) {
            return;
        }
        const closed = once(this.#server, 'close');
        this.#server.close();
        this.#server.closeAllConnections();
        await closed;
    }

    async #serve(req, res) {
        const parts = [];
        for await (const part of req) {
            parts.push(part);
        }
        const request = this.#note(req, res, Buffer.concat(parts));
        const script = await this.#scriptFor(request);
        await script.wait?.call?.(script, request);
        await script.wait;
        await (script.delay && pause(script.delay));
        if (script.cut === 'connect') {
            this.#cut(res, script);
        } else if (script.raw !== undefined) {
            await this.#write(res, script, Buffer.from(script.raw), script.status ?? 200, script.type ?? 'application/json');
        } else if (script.error && !script.inside) {
            const { status, body } = errorBody(request.dialect, script.error, script.message);
            await this.#json(res, request, script, body, script.status ?? status);
        } else {
            await this.#answer(res, request, script);
        }
    }

    #note(req, res, body) {
        const path = req.url.split('?')[0];
        const endpoint = ENDPOINTS[path] ?? (path.startsWith('/v1/models/') ? 'models' : 'echo');
        const anthropic = ['messages', 'count_tokens'].includes(endpoint) || req.headers['anthropic-version'] !== undefined;
        const request = {
            method: req.method, url: req.url, path, endpoint, headers: req.headers, rawHeaders: req.rawHeaders, body,
            dialect: anthropic ? 'anthropic' : this.dialect,
            key: req.headers['x-api-key'] ?? req.headers.authorization?.replace(/^Bearer /i, ''),
            gone: once(res, 'close').then(() => !res.writableFinished),
        };
        try {
            request.json = body.length ? JSON.parse(body) : {};
        } catch {
            request.json = undefined;
        }
        this.requests.push(request);
        if (!['models', 'echo'].includes(endpoint)) {
            this.asked.push(request);
        }
        this.#sleepers.splice(0).forEach((wake) => wake());
        return request;
    }

    async #scriptFor(request) {
        if (this.keys && !this.keys.includes(request.key)) {
            return { error: 'auth', message: 'no such key' };
        }
        if (['models', 'echo'].includes(request.endpoint)) {
            return {};
        }
        if (request.json === undefined) {
            return { error: 'bad_request', message: 'the body is no JSON' };
        }
        const model = request.json.model;
        const script = this.#keys.get(request.key) ?? this.#queue.shift()
            ?? this.#models.find(([wanted]) => (wanted.test ? wanted.test(model) : wanted === model))?.[1] ?? this.#always;
        return await (typeof script === 'function' ? script(request) : script) ?? {};
    }

    #answerOf(request, script) {
        const { json } = request;
        const asked = question(json);
        const number = this.count;
        const text = script.text ?? `answer ${number} of ${this.name} to: ${asked}`;
        const tools = (script.tools ?? []).map((tool, i) => ({
            id: tool.id ?? `call_${this.name}_${number}_${i}`, name: tool.name,
            arguments: typeof tool.arguments === 'string' ? tool.arguments : JSON.stringify(tool.arguments ?? {}),
        }));
        const pieces = script.pieces?.slice() ?? (tools.length && script.text === undefined ? [] : text.match(/\s*\S+\s*?/g) ?? []);
        if (script.giant) {
            pieces.push('g'.repeat(script.giant));
        }
        const said = [...pieces, ...(script.reasoning ?? [])].join('') + tools.map((tool) => tool.arguments).join('');
        return {
            id: script.id ?? `${request.endpoint === 'messages' ? 'msg' : 'chatcmpl'}_${this.name}_${number}`,
            model: script.model ?? json.model, fingerprint: `fp_${this.name}`, pieces, tools, reasoning: script.reasoning ?? [],
            finish: script.finish,
            usage: script.usage === null ? null : { input: tokens(request.body.toString()), output: tokens(said), ...script.usage },
        };
    }

    async #answer(res, request, script) {
        const { endpoint, json } = request;
        if (FORMS[endpoint] && json.stream === true) {
            await this.#stream(res, request, script);
            return;
        }
        const body = script.error ? errorBody(request.dialect, script.error, script.message).body
            : FORMS[endpoint] ? FORMS[endpoint].plain(this.#answerOf(request, script), json) : this[endpoint](request);
        await this.#json(res, request, script, body, script.status ?? 200);
    }

    embeddings({ json }) {
        const inputs = Array.isArray(json.input) && typeof json.input[0] !== 'number' ? json.input : [json.input];
        return {
            object: 'list', model: json.model, usage: { prompt_tokens: tokens(inputs.join('')), total_tokens: tokens(inputs.join('')) },
            data: inputs.map((input, index) => {
                const floats = vector(String(input), json.dimensions ?? 8);
                return { object: 'embedding', index, embedding: json.encoding_format === 'base64'
                    ? Buffer.from(new Float32Array(floats).buffer).toString('base64') : floats };
            }),
        };
    }

    count_tokens({ body }) {
        return { input_tokens: tokens(body.toString()) };
    }

    models({ path, dialect }) {
        const one = (id) => (dialect === 'anthropic' ? { type: 'model', id, display_name: id, created_at: '2025-01-01T00:00:00Z' }
            : { id, object: 'model', created: 1_760_000_000, owned_by: this.name });
        const data = [`${this.name}-large`, `${this.name}-small`].map(one);
        return path !== '/v1/models' ? one(path.slice('/v1/models/'.length))
            : dialect === 'anthropic' ? { data, has_more: false, first_id: data[0].id, last_id: data[1].id } : { object: 'list', data };
    }

    echo(request) {
        return { object: 'echo', method: request.method, url: request.url, type: request.headers['content-type'] ?? null,
            length: request.body.length, sha256: createHash('sha256').update(request.body).digest('hex') };
    }

    #headers(request, script) {
        const id = `req_${this.name}_${this.requests.length}`;
        return {
            ...(request.dialect === 'anthropic' ? { 'request-id': id, 'anthropic-ratelimit-requests-remaining': '99' }
                : { 'x-request-id': id, 'openai-processing-ms': '1', 'x-ratelimit-remaining-requests': '99' }),
            ...(script.retryAfter !== undefined ? { 'retry-after': String(script.retryAfter) } : {}), ...script.headers,
        };
    }

    async #json(res, request, script, body, status) {
        const bytes = Buffer.from(JSON.stringify(body));
        if (script.cut !== undefined) {
            res.writeHead(status, { 'content-type': 'application/json', 'content-length': bytes.length });
            res.write(bytes.subarray(0, script.cut === 'head' ? 1 : bytes.length >> 1));
            await this.#written(res);
            this.#cut(res, script);
            return;
        }
        await this.#write(res, script, bytes, status, 'application/json', this.#headers(request, script));
    }

    async #write(res, script, bytes, status, type, headers = script.headers) {
        res.writeHead(status, { 'content-type': type, 'content-length': bytes.length, ...headers });
        await this.#send(res, script, bytes);
        res.end();
    }

    /** All at once, or so many bytes in a TCP segment. */
    async #send(res, script, bytes) {
        if (!script.bytes) {
            if (!res.write(bytes) && !res.destroyed) {
                await Promise.race([once(res, 'drain'), once(res, 'close')]);
            }
            return;
        }
        res.socket.setNoDelay(true);
        for (let at = 0; at < bytes.length && !res.destroyed; at += script.bytes) {
            await new Promise((resolve) => { res.write(bytes.subarray(at, at + script.bytes), resolve); });
            await breath();
        }
    }

    /** The kernel has all of it, so that a cut comes after it. */
    async #written(res) {
        do {
            await breath();
        } while (res.socket?.writableLength);
    }

    #cut(res, script) {
        if (script.reset) {
            res.socket.resetAndDestroy();
        } else {
            res.socket.destroy();
        }
    }

    async #stream(res, request, script) {
        const eol = script.crlf ? '\r\n' : '\n';
        const line = ({ event, data }) => Buffer.from(`${event ? `event: ${event}${eol}` : ''}data: ${
            typeof data === 'string' ? data : JSON.stringify(data)}${eol}${eol}`);
        const say = (event) => this.#send(res, script, line(event));
        res.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache',
            ...this.#headers(request, script) });
        res.flushHeaders();
        if (script.cut === 'head') {
            await breath();
            this.#cut(res, script);
            return;
        }
        await this.#before(script, request, res, say, eol);
        let piece = 0;
        for (const event of FORMS[request.endpoint].events(this.#answerOf(request, script), request.json)) {
            if (res.destroyed) {
                return;
            }
            if (event.piece || event.last) {
                if (script.error && piece === (script.at ?? 0)) {
                    const { body } = errorBody(request.dialect, script.error, script.message);
                    await say({ event: request.dialect === 'anthropic' ? 'error' : undefined, data: body });
                    res.end();
                    return;
                }
                if (script.cut === piece) {
                    await this.#written(res);
                    this.#cut(res, script);
                    return;
                }
                await script.between?.(piece);
                await (script.pace && piece && pause(script.pace));
            }
            if ((event.last && script.done === false) || ((event.piece || event.last) && script.end === piece)) {
                break;
            }
            await say(event.piece && script.malformed === piece ? { ...event, data: '{"choices": [{"delta": {' } : event);
            piece += event.piece ? 1 : 0;
        }
        res.end();
    }

    async #before(script, request, res, say, eol) {
        await script.first?.call?.(script, request);
        await script.first;
        await (script.firstToken && pause(script.firstToken));
        for (let i = 0; i < (script.keepAlives ?? 0); i++) {
            await this.#send(res, script, Buffer.from(`: keep-alive${eol}${eol}`));
            await (request.endpoint === 'messages' && say({ event: 'ping', data: { type: 'ping' } }));
        }
        for (const event of script.extra ?? []) {
            await say(event);
        }
    }
}

export async function startProvider({ port = 0, ...options } = {}) {
    const provider = new Provider(options);
    await provider.start(port);
    return provider;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
    const given = Object.fromEntries(process.argv.slice(2).join(' ').split('--').filter(Boolean).map((pair) => pair.trim().split(' ')));
    const provider = await startProvider({ name: given.name, port: Number(given.port ?? 0), keys: given.key && [given.key] });
    provider.always({ delay: Number(given.delay ?? 0), pace: Number(given.pace ?? 0) });
    console.log(`provider on 127.0.0.1:${provider.port}`);
}
