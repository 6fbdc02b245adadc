/**
 * A minute of a node's life in a second: every kind of request once, each answer checked. Under faults a request may fail,
 * but only in one of two ways: a 5xx, or a connection that closes. Bytes that come are right bytes.
 */
import { createHash } from 'node:crypto';
import { readResponse } from '../flow/harness/message.mjs';
import { bodyOf } from './backend.mjs';
import { watched } from './program.mjs';

/** The configuration of a fault run. */
export function siteOf(backend, config = {}) {
    return {
        node: { name: 'fault' },
        listen: ['127.0.0.1:0'],
        admin: { listen: '127.0.0.1:0' },
        threads: 1,
        memory: { size: '16M' },
        access_log: { path: 'access.log' },
        upstreams: { app: { servers: [backend.url] }, named: { servers: [`http://localhost:${backend.port}`] } },
        routes: [{ match: '/*', upstream: 'app' }, { match: '/reval/*', upstream: 'named' }],
        ...config,
    };
}

export class Scenario {
    /** What must never be. */
    problems = [];
    /** Requests that were refused or cut. */
    refused = [];
    asked = 0;
    /** The oldest version an answer may have. */
    floor = 1;
    /** The oldest Age, in seconds. */
    ageMax = 600;

    constructor(program, backend) {
        Object.assign(this, { program, backend });
    }

    wrong(what) {
        this.problems.push(what);
    }

    /** One exchange on a connection of its own, or on `conn`. Undefined when it was refused. */
    async ask(target, { headers, method = 'GET', body, conn, port, check } = {}) {
        const label = `${method} ${target}${headers ? ` ${JSON.stringify(headers)}` : ''}`;
        let client = conn;
        this.asked++;
        try {
            client ??= await this.program.connect(port);
            const response = await watched((async () => {
                await client.ask(target, { method, headers, body });
                return client.response(method);
            })(), label);
            return this.judge(label, response, () => (check ? check(response) : this.checkBody(target, response, headers)));
        } catch (error) {
            if (error.hang) {
                this.wrong(error.message);
            }
            this.refused.push(`${label}: ${error.message}`);
            return undefined;
        } finally {
            if (!conn) {
                client?.close();
            }
        }
    }

    judge(label, response, check) {
        if (response.status >= 500) {
            this.refused.push(`${label}: ${response.status}`);
            return undefined;
        }
        try {
            check();
        } catch (error) {
            this.wrong(`${label}: ${response.startLine}: ${error.message}\n${response.lines.join('\n')}`);
        }
        if (!response.complete) {
            this.refused.push(`${label}: cut after ${response.body.length}`);
            return undefined;
        }
        return response;
    }

    /** The versions an answer may have, newest first. */
    *versions() {
        for (let version = this.backend.version; version >= this.floor; version--) {
            yield version;
        }
    }

    /** Every byte is the origin's; a cut answer is a beginning. */
    checkBody(target, response, headers = {}) {
        const language = target.startsWith('/vary/') ? headers['Accept-Language'] : '';
        const age = response.header('age') ?? '0';
        if (!/^\d+$/.test(age) || Number(age) > this.ageMax) {
            throw new Error(`Age ${age}`);
        }
        if (response.status === 304 && headers['If-None-Match']) {
            return;
        }
        if (response.status !== 200 && response.status !== 206) {
            throw new Error('an unexpected status');
        }
        for (const version of this.versions(target)) {
            const whole = bodyOf(target, version, language);
            const wanted = response.status === 206 ? parts(response, whole) : whole;
            if (response.complete ? response.body.equals(wanted)
                : response.body.equals(wanted.subarray(0, response.body.length))) {
                return;
            }
        }
        throw new Error(`wrong bytes (${response.body.length}): ${response.text.slice(0, 80)}`);
    }

    async hits() {
        const target = '/fresh/3000/a';
        await this.ask(target);
        await this.ask(target);
        await this.ask(target, { headers: { Range: 'bytes=100-299' } });
        await this.ask(target, { headers: { Range: 'bytes=0-9,100-109' } });
        await this.ask(target, { headers: { 'If-None-Match': `"${this.backend.version}"` } });
        await this.ask(target, { method: 'HEAD', check: () => {} });
        await this.ask('/fresh/0/empty');
        await this.ask('/fresh/300000/big');
        await this.ask('/fresh/300000/big');
        await this.ask('/fresh/5000/partly', { headers: { Range: 'bytes=10-19' } });
        await this.ask('/chunked/100000/c');
        await this.ask('/chunked/100000/c');
    }

    async policies() {
        for (const target of ['/reval/4000/r', '/swr/4000/s', '/pass/4000/p', '/hints/4000/h', '/swr/4000/s', '/reval/4000/r']) {
            await this.ask(target);
        }
        for (const language of ['de', 'en', 'de', 'en']) {
            await this.ask('/vary/2000/v', { headers: { 'Accept-Language': language } });
        }
    }

    async uploads() {
        const body = Buffer.alloc(120_000, 'upload ');
        const answer = `${body.length} ${createHash('sha256').update(body).digest('hex')}`;
        const check = (response) => {
            if (response.status !== 200 || !(response.complete ? response.text === answer : answer.startsWith(response.text))) {
                throw new Error(`the origin got something else: ${response.text.slice(0, 80)}`);
            }
        };
        const pieces = Array.from({ length: 12 }, (_, i) => body.subarray(i * 10_000, (i + 1) * 10_000));
        const chunked = Buffer.concat([...pieces.flatMap((piece) => [Buffer.from(`${piece.length.toString(16)}\r\n`), piece,
            Buffer.from('\r\n')]), Buffer.from('0\r\n\r\n')]);
        await this.ask('/echo/0/e', { method: 'POST', body, check });
        await this.ask('/echo/0/e', { method: 'POST', headers: { Expect: '100-continue' }, body, check });
        await this.ask('/echo/0/e', { method: 'PUT', headers: { 'Transfer-Encoding': 'chunked' }, body: chunked, check });
    }

    /** Several clients want one thing while it arrives. */
    async coalesced() {
        this.backend.hold = true;
        const asked = Array.from({ length: 4 }, (_, i) => this.ask('/slow/60000/one', i === 3
            ? { headers: { Range: 'bytes=5000-' } } : {}));
        await this.ask('/fresh/3000/a'); // those before it have been read, unless they failed
        this.backend.release();
        await Promise.all(asked);
    }

    async keptAlive() {
        const conn = await this.program.connect().catch(() => null);
        if (!conn) {
            this.refused.push('a connection');
            return;
        }
        const targets = ['/fresh/3000/a', '/pass/100/x', '/fresh/3000/new', '/chunked/100000/c'];
        const failed = this.refused.length;
        await conn.send(targets.map((target) => `GET ${target} HTTP/1.1\r\nHost: site.test\r\n\r\n`).join(''));
        for (const target of targets) {
            this.asked++;
            try {
                const response = await watched(readResponse(conn), `pipelined ${target}`);
                if (!this.judge(`pipelined ${target}`, response, () => this.checkBody(target, response))) {
                    break;
                }
            } catch (error) {
                if (error.hang) {
                    this.wrong(error.message);
                }
                this.refused.push(`pipelined ${target}: ${error.message}`);
                break;
            }
        }
        for (let i = 0; i < 3 && this.refused.length === failed; i++) {
            await this.ask(`/fresh/3000/kept${i}`, { conn });
        }
        conn.close();
    }

    async tunnel() {
        const conn = await this.program.connect().catch(() => null);
        const message = Buffer.alloc(50_000, 'tunnel ');
        this.asked++;
        try {
            await conn.ask('/socket/0/t', { headers: { Connection: 'Upgrade', Upgrade: 'echo' } });
            const response = await watched(conn.head(), 'the tunnel');
            if (response.status !== 101) {
                if (response.status < 500) {
                    this.wrong(`tunnel: ${response.startLine}`);
                }
                throw new Error(response.startLine);
            }
            conn.send(message);
            const got = await watched(conn.bytes(message.length), 'the tunnel\'s bytes');
            if (!got.equals(message.subarray(0, got.length))) {
                this.wrong('tunnel: wrong bytes');
            }
            if (got.length < message.length) {
                throw new Error(`cut after ${got.length}`);
            }
        } catch (error) {
            if (error.hang) {
                this.wrong(error.message);
            }
            this.refused.push(`tunnel: ${error.message}`);
        }
        conn?.close();
    }

    /** Leaves in the middle, in several states. */
    async rudeness() {
        for (const cut of ['GET /fre', 'POST /echo/0/e HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc',
            'GET /fresh/900000/left HTTP/1.1\r\nHost: a\r\n\r\n']) {
            const conn = await this.program.connect().catch(() => null);
            await conn?.send(cut);
            conn?.[cut.startsWith('POST') ? 'close' : 'reset']();
        }
    }

    /** What was purged is not served again, unless the purge said that it failed. */
    async purges() {
        const { program, backend } = this;
        for (const wish of ['url=http%3A%2F%2Fsite.test%2Ffresh%2F3000%2Fa', 'prefix=%2Ffresh%2F', 'all=1&soft=1', 'all=1']) {
            backend.version++;
            const done = await this.ask(`/purge?${wish}`, { method: 'POST', port: program.adminPort, check: () => {} });
            const before = this.floor;
            this.floor = done && !wish.includes('soft') ? backend.version : before;
            await this.ask('/fresh/3000/a');
            this.floor = wish.startsWith('url') || wish.startsWith('prefix') ? before : this.floor;
        }
    }

    async administration() {
        const port = this.program.adminPort;
        const check = () => {};
        for (const target of ['/metrics', '/top', '/healthz', '/why?url=http%3A%2F%2Fsite.test%2Ffresh%2F3000%2Fa']) {
            await this.ask(target, { port, check });
        }
    }

    /** The origin goes and comes back; what is stored may be served stale. */
    async outage() {
        await this.ask('/reval/4000/r');
        await this.backend.gone();
        const failed = this.refused.length;
        await this.ask('/reval/4000/r'); // no-cache forbids a stale answer
        await this.ask('/pass/100/y');
        if (this.refused.length !== failed + 2) {
            this.wrong('answers came from an origin that is gone');
        }
        this.refused.length = failed;
        await this.ask('/fresh/3000/a');
        await this.backend.back();
        await this.ask('/pass/100/y');
    }

    async reload() {
        this.program.signal('SIGHUP');
        await this.program.says(/reloaded|not loaded/).catch((error) => this.wrong(error.message));
        this.program.signal('SIGUSR1');
        await this.ask('/fresh/3000/a');
        await this.ask('/reval/4000/r');
    }
}

/** The bytes that a 206 should carry: one part, or multipart. */
function parts(response, whole) {
    const range = (value) => {
        const [, first, last, size] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(value) ?? [];
        if (Number(size) !== whole.length || Number(last) >= whole.length) {
            throw new Error(`Content-Range ${value}`);
        }
        return whole.subarray(Number(first), Number(last) + 1);
    };
    const boundary = /boundary="?([^";]+)/.exec(response.header('content-type') ?? '')?.[1];
    if (!boundary) {
        return range(response.header('content-range'));
    }
    // The heads of the parts are taken as they are, their bytes as they should be.
    let at = 0;
    const out = [];
    for (;;) {
        const end = response.body.indexOf('\r\n\r\n', at);
        if (end < 0) {
            if (!response.complete) {
                return Buffer.concat([...out, response.body.subarray(at)]); // cut within a head
            }
            break;
        }
        const head = response.body.subarray(at, end + 4);
        const bytes = range(/content-range: *([^\r]+)/i.exec(head.toString('latin1'))?.[1]);
        out.push(head, bytes);
        at = end + 4 + bytes.length;
    }
    out.push(Buffer.from(`\r\n--${boundary}--\r\n`));
    return Buffer.concat(out);
}

/** Plays everything. @param {{ ageMax?: number }} [options] @returns {Promise<Scenario>} */
export async function play(program, backend, options = {}) {
    const scenario = Object.assign(new Scenario(program, backend), options);
    for (const act of ['hits', 'policies', 'uploads', 'coalesced', 'keptAlive', 'tunnel', 'rudeness', 'administration', 'reload',
        'outage', 'purges']) {
        await scenario[act]();
        if (program.ended) {
            break;
        }
    }
    return scenario;
}
