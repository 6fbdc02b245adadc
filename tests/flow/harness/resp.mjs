/**
 * The smallest client of the Redis protocol (RESP2) that tests need.
 *
 *   Resp.open({port, tls, ca, password}) -> Promise<Resp>
 *   resp.call(...args) -> reply            strings, numbers, null, arrays; an error reply throws
 *   resp.raw(...args) -> reply             bulk strings as Buffer
 *   resp.listen(handler, ...args)          sends args (SUBSCRIBE ...); every reply from then on goes to handler
 *   resp.close()
 */
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';

export class Resp {
    #socket;
    #buffer = Buffer.alloc(0);
    #waiting = [];
    #handler = null;
    closed = false;

    static async open({ port, host = '127.0.0.1', tls: secure = false, ca, password }) {
        const resp = new Resp();
        const socket = secure ? tls.connect({ port, host, ca: fs.readFileSync(ca) }) : net.connect({ port, host });
        resp.#socket = socket;
        await once(socket, secure ? 'secureConnect' : 'connect');
        socket.setNoDelay(true);
        const gone = (error) => {
            resp.closed = true;
            resp.#waiting.splice(0).forEach(({ reject }) => reject(error instanceof Error ? error : new Error('Redis closed')));
        };
        socket.on('error', gone);
        socket.on('close', gone);
        socket.on('data', (data) => resp.#take(data));
        if (password) {
            await resp.call('AUTH', password);
        }
        return resp;
    }

    raw(...args) {
        return new Promise((resolve, reject) => {
            if (this.closed) {
                reject(new Error('Redis closed'));
                return;
            }
            this.#waiting.push({ resolve, reject });
            this.#send(args);
        });
    }

    async call(...args) {
        return textOf(await this.raw(...args));
    }

    listen(handler, ...args) {
        this.#handler = (reply) => handler(textOf(reply));
        this.#send(args);
    }

    close() {
        this.#socket.destroy();
    }

    #send(args) {
        const parts = [Buffer.from(`*${args.length}\r\n`)];
        for (const arg of args) {
            const bytes = Buffer.isBuffer(arg) ? arg : Buffer.from(String(arg));
            parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n'));
        }
        this.#socket.write(Buffer.concat(parts));
    }

    #take(data) {
        this.#buffer = this.#buffer.length ? Buffer.concat([this.#buffer, data]) : data;
        for (let found = parse(this.#buffer, 0); found; found = parse(this.#buffer, 0)) {
            this.#buffer = this.#buffer.subarray(found.end);
            const waiting = this.#handler ? null : this.#waiting.shift();
            if (found.value instanceof Error) {
                waiting?.reject(found.value);
            } else if (waiting) {
                waiting.resolve(found.value);
            } else {
                this.#handler?.(found.value);
            }
        }
    }
}

function textOf(reply) {
    return Array.isArray(reply) ? reply.map(textOf) : Buffer.isBuffer(reply) ? reply.toString() : reply;
}

/** One reply from position `at`: { value, end }, or null when it is not all there. */
function parse(bytes, at) {
    const eol = bytes.indexOf('\r\n', at);
    if (eol < 0) {
        return null;
    }
    const line = bytes.toString('utf8', at + 1, eol);
    let end = eol + 2;
    switch (String.fromCharCode(bytes[at])) {
    case '+': return { value: line, end };
    case '-': return { value: new Error(line), end };
    case ':': return { value: Number(line), end };
    case '$': {
        const length = Number(line);
        if (length < 0) {
            return { value: null, end };
        }
        return bytes.length < end + length + 2 ? null
            : { value: Buffer.from(bytes.subarray(end, end + length)), end: end + length + 2 };
    }
    case '*': {
        const items = Number(line) < 0 ? null : [];
        for (let left = Number(line); left > 0; left--) {
            const item = parse(bytes, end);
            if (!item) {
                return null;
            }
            items.push(item.value);
            end = item.end;
        }
        return { value: items, end };
    }
    default: throw new Error(`no RESP2: ${JSON.stringify(line)}`);
    }
}
