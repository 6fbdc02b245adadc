/**
 * A raw TCP (or TLS) connection that is read on demand: what a script has not asked for stays in the kernel, so a script
 * decides exactly how far the peer can get.
 */
import net from 'node:net';
import { once } from 'node:events';

export class Conn {
    #buffer = Buffer.alloc(0);
    #sleepers = [];

    /** @param {net.Socket} socket connected */
    constructor(socket) {
        this.socket = socket;
        /** What the script waits for, named by the watchdog when it fires. */
        this.awaiting = '';
        this.ended = false; // the peer closed its side
        this.error = null; // ECONNRESET and friends
        socket.setNoDelay(true);
        socket.on('readable', () => this.#wake());
        socket.on('end', () => { this.ended = true; this.#wake(); });
        socket.on('close', () => { this.ended = true; this.#wake(); });
        socket.on('error', (error) => { this.error = error; this.ended = true; this.#wake(); });
    }

    static async connect(port, host = '127.0.0.1', options = {}) {
        const socket = net.connect({ port, host, allowHalfOpen: true, ...options });
        await once(socket, 'connect');
        return new Conn(socket);
    }

    #wake() {
        this.#sleepers.splice(0).forEach((resolve) => resolve());
    }

    /** Sends exactly these bytes (strings as latin1); resolves when the kernel has them, or the connection is gone. */
    send(data) {
        const bytes = typeof data === 'string' ? Buffer.from(data, 'latin1') : data;
        return new Promise((resolve) => {
            if (this.socket.destroyed || this.socket.writableEnded) {
                resolve();
                return;
            }
            this.socket.once('close', resolve);
            this.socket.write(bytes, () => { this.socket.off('close', resolve); resolve(); });
        });
    }

    /** Waits for more bytes; false at the end of input. */
    async #more(what) {
        for (;;) {
            const piece = this.socket.read();
            if (piece !== null) {
                this.#buffer = this.#buffer.length ? Buffer.concat([this.#buffer, piece]) : piece;
                return true;
            }
            if (this.ended) {
                return false;
            }
            this.awaiting = what;
            await new Promise((resolve) => { this.#sleepers.push(resolve); });
            this.awaiting = '';
        }
    }

    /** One line without its CRLF; null when the input ends first. */
    async line(what = 'a line') {
        for (;;) {
            const at = this.#buffer.indexOf('\r\n');
            if (at >= 0) {
                return this.#take(at + 2).toString('latin1', 0, at);
            }
            if (!await this.#more(what)) {
                return null;
            }
        }
    }

    /** Exactly `count` bytes, fewer when the input ends first. */
    async bytes(count, what = 'bytes') {
        const parts = [];
        while (count > 0) {
            if (this.#buffer.length === 0 && !await this.#more(`${count} more ${what}`)) {
                break;
            }
            const part = this.#take(Math.min(count, this.#buffer.length));
            parts.push(part);
            count -= part.length;
        }
        return Buffer.concat(parts);
    }

    /** Whatever comes next, at least one byte; empty at the end of input. */
    async some(what = 'some bytes') {
        if (this.#buffer.length === 0) {
            await this.#more(what);
        }
        return this.#take(this.#buffer.length);
    }

    /** Everything up to the end of input. */
    async rest() {
        const parts = [];
        while (this.#buffer.length > 0 || await this.#more('the end of input')) {
            parts.push(this.#take(this.#buffer.length));
        }
        return Buffer.concat(parts);
    }

    /** Resolves when the peer has closed; fails when it sends anything first. */
    async closed() {
        const left = await this.rest();
        if (left.length > 0) {
            throw new Error(`expected a close, got ${JSON.stringify(left.toString('latin1', 0, 200))}`);
        }
    }

    /** What has arrived and was not asked for yet, without waiting. */
    get pending() {
        const piece = this.socket.read();
        if (piece !== null) {
            this.#buffer = Buffer.concat([this.#buffer, piece]);
        }
        return this.#buffer;
    }

    #take(count) {
        const part = this.#buffer.subarray(0, count);
        this.#buffer = this.#buffer.subarray(count);
        return part;
    }

    /** FIN: no more from us, the peer may still send. */
    end() {
        this.socket.end();
    }

    /** Both directions gone; a FIN, or a RST when unread bytes are left. */
    close() {
        this.socket.destroy();
    }

    /** RST. */
    reset() {
        this.socket.resetAndDestroy();
    }
}
