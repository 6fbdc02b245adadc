/**
 * A scripted origin. Either a test takes each request by hand (`expect`), deciding every byte and when it leaves, or it says
 * once what the origin answers (`answers`).
 */
import net from 'node:net';
import tls from 'node:tls';
import { once } from 'node:events';
import { Conn } from './conn.mjs';
import { formatHead, httpDate, readRequestBody, readRequestHead } from './message.mjs';

/**
 * @typedef {object} Reply
 * @property {number} [status]
 * @property {string} [reason]
 * @property {Record<string, string | number | string[] | null>} [headers] Date and Content-Length are added unless named
 * @property {string | Buffer} [body] default: "answer N", N counting the origin's requests
 */

/** One request at the origin and the way to answer it. */
class Exchange {
    /** @param {Conn} conn @param {import('./message.mjs').Request} request */
    constructor(conn, request, serial) {
        Object.assign(this, { conn, request, serial });
    }

    get method() { return this.request.method; }
    get target() { return this.request.target; }
    get text() { return this.request.text; }
    header(name) { return this.request.header(name); }
    all(name) { return this.request.all(name); }

    /** Reads the request's body (expect() leaves it unread). */
    async body() {
        await readRequestBody(this.conn, this.request);
        return this.request.body;
    }

    send(bytes) { return this.conn.send(bytes); }

    /** Only a head: exactly these fields plus Date. */
    head(status, headers = {}, reason = 'Scripted') {
        return this.send(formatHead(`HTTP/1.1 ${status} ${reason}`, withDate(headers)));
    }

    /** A whole response. @param {Reply} reply */
    async reply({ status = 200, reason = 'Scripted', headers = {}, body } = {}) {
        const bytes = Buffer.from(body ?? `answer ${this.serial}`);
        const bodiless = status === 204 || status === 304 || status < 200;
        const fields = withDate(headers);
        if (!bodiless && !has(fields, 'content-length') && !has(fields, 'transfer-encoding')) {
            fields['Content-Length'] = bytes.length;
        }
        const head = Buffer.from(formatHead(`HTTP/1.1 ${status} ${reason}`, fields), 'latin1');
        const sent = bodiless || this.method === 'HEAD' ? head : Buffer.concat([head, bytes]);
        await this.send(sent);
        if (/close/i.test(String(headers.Connection ?? ''))) {
            this.conn.end();
        }
    }

    end() { this.conn.end(); }
    close() { this.conn.close(); }
    reset() { this.conn.reset(); }
    /** Resolves when the node has closed this connection. */
    closed() { return this.conn.closed(); }
}

function has(fields, name) {
    return Object.keys(fields).some((field) => field.toLowerCase() === name);
}

function withDate(headers) {
    return has(headers, 'date') ? { ...headers } : { Date: httpDate(), ...headers };
}

export class Origin {
    #server;
    #arrived = [];
    #takers = [];
    #answer = null;

    /** Every request so far (heads; bodies where answered). */
    requests = [];
    /** Every connection so far, oldest first. */
    conns = [];

    /** @param {{ tls?: tls.TlsOptions, host?: string, port?: number }} options */
    static async start({ tls: secure, host = '127.0.0.1', port = 0 } = {}) {
        const origin = new Origin();
        const accept = (socket) => origin.#serve(new Conn(socket));
        origin.#server = secure
            ? tls.createServer({ allowHalfOpen: true, ...secure }, accept)
            : net.createServer({ allowHalfOpen: true, highWaterMark: 16384 }, accept);
        origin.#server.on('tlsClientError', () => {});
        origin.#server.listen(port, host, 1024);
        await once(origin.#server, 'listening');
        origin.secure = Boolean(secure);
        origin.host = host;
        origin.port = origin.#server.address().port;
        return origin;
    }

    get url() {
        return `${this.secure ? 'https' : 'http'}://${this.host}:${this.port}`;
    }

    /** How many requests came. */
    get count() {
        return this.requests.length;
    }

    get awaiting() {
        return this.#takers.length ? 'the origin expects a request' : '';
    }

    async #serve(conn) {
        this.conns.push(conn);
        conn.resumed = Boolean(conn.socket.isSessionReused?.()); // only known while it is open
        try {
            for (;;) {
                const request = await readRequestHead(conn);
                if (request === null) {
                    conn.end();
                    return;
                }
                this.requests.push(request);
                await this.#take(new Exchange(conn, request, this.requests.length));
            }
        } catch (error) {
            conn.failure = error; // cut inside a head: a test that cares looks here
            conn.close();
        }
    }

    async #take(exchange) {
        if (this.#answer) {
            await exchange.body();
            await this.#answer(exchange);
            return;
        }
        const taker = this.#takers.shift();
        if (taker) {
            taker(exchange);
        } else {
            this.#arrived.push(exchange);
        }
        await new Promise((resolve) => { exchange.next = resolve; });
    }

    /**
     * The next request, in order of arrival, its body unread. The connection reads no further request before `done()` or,
     * with `whole` (default), at once after the body.
     * @returns {Promise<Exchange>}
     */
    async expect(target, { whole = true } = {}) {
        const exchange = this.#arrived.shift() ?? await new Promise((resolve) => this.#takers.push(resolve));
        if (target !== undefined && exchange.target !== target) {
            throw new Error(`the origin expected ${target}, got ${exchange.request.startLine}`);
        }
        if (whole) {
            await exchange.body();
            exchange.next();
        }
        return exchange;
    }

    /**
     * From now on: each reply in turn, the last one again and again. A reply is a Reply or a function of the exchange that
     * returns one, or answers by itself and returns undefined.
     * @param {...(Reply | ((exchange: Exchange) => Reply | undefined | Promise<Reply | undefined>))} replies
     */
    answers(...replies) {
        let at = 0;
        this.#answer = async (exchange) => {
            const next = replies[Math.min(at++, replies.length - 1)];
            const reply = typeof next === 'function' ? await next(exchange) : next;
            if (reply !== undefined) {
                await exchange.reply(reply);
            }
        };
        return this;
    }

    /** Back to `expect`. */
    byHand() {
        this.#answer = null;
    }

    /** Refuses connections from now on; those open are reset. The port stays known and comes back with `back()`. */
    async gone() {
        await this.stop();
    }

    async back() {
        this.#server.listen(this.port, this.host, 1024);
        await once(this.#server, 'listening');
    }

    async stop() {
        const closed = this.#server.listening ? once(this.#server, 'close') : null;
        this.#server.close();
        for (const conn of this.conns) {
            conn.close();
        }
        await closed;
    }
}
