/**
 * An origin whose every byte follows from the URL and a version: whoever reads an answer can tell whether it is right, and
 * whether it is older than it may be.
 *
 * URLs are /KIND/SIZE/NAME. Kinds: fresh, chunked, reval, swr, vary, pass, slow, hints, echo (POST), socket (Upgrade).
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';

const CONTROL = {
    fresh: 'max-age=600',
    chunked: 'max-age=600',
    hints: 'max-age=600',
    reval: 'no-cache',
    swr: 'max-age=0, stale-while-revalidate=600',
    vary: 'max-age=600',
    slow: 'max-age=600',
    pass: 'no-store',
};

/** The body of an URL at a version. */
export function bodyOf(target, version, language = '') {
    const size = Number(target.split('/')[2]);
    const text = `${target}#${version}${language ? `@${language}` : ''};`;
    return Buffer.alloc(size, text);
}

export class Backend {
    #server;
    #held = [];
    #sockets = new Set();
    /** Requests so far. */
    count = 0;
    /** The version of everything. */
    version = 1;
    hold = true;

    static async start() {
        const backend = new Backend();
        backend.#server = http.createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
            backend.#answer(request, response).catch(() => response.destroy());
        });
        backend.#server.on('upgrade', (request, socket) => {
            socket.on('error', () => {});
            socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
            socket.pipe(socket);
        });
        backend.#server.on('connection', (socket) => {
            backend.#sockets.add(socket);
            socket.on('close', () => backend.#sockets.delete(socket));
            socket.on('error', () => {});
        });
        await backend.back();
        return backend;
    }

    get url() {
        return `http://127.0.0.1:${this.port}`;
    }

    async #answer(request, response) {
        const [, kind] = request.url.split('/');
        const version = this.version;
        const language = kind === 'vary' ? (request.headers['accept-language'] ?? '') : '';
        this.count++;
        response.on('error', () => {});
        if (kind === 'echo') {
            const hash = createHash('sha256');
            let size = 0;
            for await (const piece of request) {
                hash.update(piece);
                size += piece.length;
            }
            response.setHeader('Cache-Control', 'no-store');
            response.end(`${size} ${hash.digest('hex')}`);
            return;
        }
        request.resume();
        const etag = `"${version}${language}"`;
        response.setHeader('Cache-Control', CONTROL[kind]);
        response.setHeader('ETag', etag);
        response.setHeader('X-Version', version);
        if (kind === 'vary') {
            response.setHeader('Vary', 'Accept-Language');
        }
        if (kind === 'hints') {
            await new Promise((resolve) => { response.writeEarlyHints({ link: '</a.css>; rel=preload' }, resolve); });
        }
        if (request.headers['if-none-match'] === etag) {
            response.writeHead(304).end();
            return;
        }
        await this.#send(request, response, kind, bodyOf(request.url, version, language));
    }

    async #send(request, response, kind, body) {
        if (kind !== 'chunked') {
            response.setHeader('Content-Length', body.length);
        }
        if (request.method === 'HEAD') {
            response.end();
        } else if (kind === 'slow') {
            response.write(body.subarray(0, body.length >> 1));
            if (this.hold) {
                await new Promise((resolve) => { this.#held.push(resolve); });
            }
            response.end(body.subarray(body.length >> 1));
        } else if (kind === 'chunked') {
            for (let at = 0; at < body.length; at += 10_000) {
                response.write(body.subarray(at, at + 10_000));
            }
            response.end();
        } else {
            response.end(body);
        }
    }

    /** Sends the second halves of `slow` bodies, now and for those that come. */
    release() {
        this.hold = false;
        this.#held.splice(0).forEach((resolve) => resolve());
    }

    /** Refuses connections; those open are cut. */
    async gone() {
        const closed = once(this.#server, 'close');
        this.#server.close();
        this.#sockets.forEach((socket) => socket.destroy());
        this.release();
        await closed;
    }

    async back() {
        this.#server.listen(this.port ?? 0, '127.0.0.1', 1024);
        await once(this.#server, 'listening');
        this.port = this.#server.address().port;
    }
}
