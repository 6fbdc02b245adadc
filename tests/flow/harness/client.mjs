/**
 * A scripted client: sends exact bytes, reads exact answers.
 */
import { Conn } from './conn.mjs';
import { formatHead, readResponse, readResponseBody, readResponseHead } from './message.mjs';

export class Client extends Conn {
    static async open(port, host = '127.0.0.1', options = {}) {
        const conn = await Conn.connect(port, host, options);
        Object.setPrototypeOf(conn, Client.prototype);
        return conn;
    }

    /** Sends a request without waiting for the answer. `body` gets a Content-Length unless the framing is given. */
    ask(target, { method = 'GET', headers = {}, body, version = 'HTTP/1.1' } = {}) {
        const bytes = body === undefined ? Buffer.alloc(0) : Buffer.from(body);
        const names = Object.keys(headers).map((name) => name.toLowerCase());
        const fields = { ...(names.includes('host') ? {} : { Host: 'site.test' }), ...headers };
        if (body !== undefined && !names.includes('content-length') && !names.includes('transfer-encoding')) {
            fields['Content-Length'] = bytes.length;
        }
        this.method = method;
        const head = Buffer.from(formatHead(`${method} ${target} ${version}`, fields), 'latin1');
        return this.send(Buffer.concat([head, bytes]));
    }

    /** The next response, whole. */
    response(method = this.method) {
        return readResponse(this, method);
    }

    /** The next final response's head. */
    head() {
        return readResponseHead(this);
    }

    /** The body that follows a head taken before. */
    body(response) {
        return readResponseBody(this, response);
    }

    /** The next response's head, interim ones not skipped. */
    interim() {
        return readResponseHead(this, { interim: true });
    }

    async request(target, options) {
        await this.ask(target, options);
        return this.response();
    }
}
