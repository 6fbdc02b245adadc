/**
 * HTTP/1.1 messages as a script sees them: a strict reader that keeps every byte of the head, and a writer.
 */

/** Head of a message: start line and fields, as received. */
export class Message {
    constructor(startLine, lines) {
        this.startLine = startLine;
        this.lines = lines;
        this.fields = lines.map((line) => {
            const colon = line.indexOf(':');
            if (colon <= 0) {
                throw new Error(`not a field line: ${JSON.stringify(line)}`);
            }
            return [line.slice(0, colon), line.slice(colon + 1).trim()];
        });
        this.body = Buffer.alloc(0);
        this.trailers = [];
        /** The body ended as its framing says, not by a cut. */
        this.complete = false;
    }

    /** All values of a field in order. */
    all(name) {
        return this.fields.filter(([field]) => field.toLowerCase() === name.toLowerCase()).map(([, value]) => value);
    }

    /** The field's value, several lines joined; undefined when absent. */
    header(name) {
        const values = this.all(name);
        return values.length ? values.join(', ') : undefined;
    }

    get text() {
        return this.body.toString();
    }
}

export class Response extends Message {
    constructor(startLine, lines) {
        super(startLine, lines);
        const match = /^HTTP\/1\.([01]) (\d{3})(?: (.*))?$/.exec(startLine);
        if (!match) {
            throw new Error(`not a status line: ${JSON.stringify(startLine)}`);
        }
        this.minor = Number(match[1]);
        this.status = Number(match[2]);
        this.reason = match[3] ?? '';
        /** 1xx responses that came before. */
        this.interim = [];
    }
}

export class Request extends Message {
    constructor(startLine, lines) {
        super(startLine, lines);
        [this.method, this.target, this.version] = startLine.split(' ');
    }
}

/** Reads one head; null when the connection ends before its first byte. */
async function readHead(conn, Type, what) {
    const start = await conn.line(what);
    if (start === null) {
        return null;
    }
    const lines = [];
    for (;;) {
        const line = await conn.line(`${what} (head)`);
        if (line === null) {
            throw new Error(`the connection ended inside a head after ${JSON.stringify([start, ...lines])}`);
        }
        if (line === '') {
            return new Type(start, lines);
        }
        lines.push(line);
    }
}

/** Chunks as async iterable of Buffers; fills message.trailers, sets message.complete. */
async function* chunks(conn, message) {
    for (;;) {
        const line = await conn.line('a chunk size');
        if (line === null) {
            return;
        }
        const size = /^([0-9a-fA-F]+)(;.*)?$/.exec(line);
        if (!size) {
            throw new Error(`not a chunk size: ${JSON.stringify(line)}`);
        }
        let left = parseInt(size[1], 16);
        if (left === 0) {
            break;
        }
        while (left > 0) {
            const part = await conn.bytes(Math.min(left, 65536), 'chunk bytes');
            if (part.length === 0) {
                return;
            }
            left -= part.length;
            yield part;
        }
        if (await conn.line('the end of a chunk') !== '') {
            throw new Error('a chunk does not end where its size says');
        }
    }
    for (;;) {
        const line = await conn.line('a trailer');
        if (line === null) {
            return;
        }
        if (line === '') {
            message.complete = true;
            return;
        }
        const colon = line.indexOf(':');
        message.trailers.push([line.slice(0, colon), line.slice(colon + 1).trim()]);
    }
}

/** Body bytes by framing. Exact: never takes bytes of the next message. */
async function readBody(conn, message, untilClose) {
    const length = message.header('content-length');
    if (/(^|[\s,])chunked$/i.test(message.header('transfer-encoding') ?? '')) {
        const parts = [];
        message.chunked = true;
        for await (const part of chunks(conn, message)) {
            parts.push(part);
        }
        message.body = Buffer.concat(parts);
    } else if (length !== undefined) {
        message.body = await conn.bytes(Number(length), 'body bytes');
        message.complete = message.body.length === Number(length);
    } else if (untilClose) {
        message.body = await conn.rest();
        message.complete = !conn.error;
    } else {
        message.complete = true;
    }
}

/**
 * Reads a response to `method`: interim responses, head and body. The result says in `complete` whether the body was whole.
 * @returns {Promise<Response>}
 */
export async function readResponse(conn, method = 'GET') {
    const response = await readResponseHead(conn);
    if (method === 'HEAD' || response.status === 204 || response.status === 304 || response.status === 101) {
        response.complete = true;
    } else {
        await readBody(conn, response, true);
    }
    return response;
}

/** Only up to the empty line of the final response (or 101); the body is left to the caller. */
export async function readResponseHead(conn, { interim = false } = {}) {
    const before = [];
    for (;;) {
        const response = await readHead(conn, Response, 'a response');
        if (response === null) {
            throw new Error(`the connection ended without a response${conn.error ? ` (${conn.error.code})` : ''}`);
        }
        if (interim || response.status >= 200 || response.status === 101) {
            response.interim = before;
            return response;
        }
        before.push(response);
    }
}

/** Reads a request head; null at a clean end of the connection. */
export function readRequestHead(conn) {
    return readHead(conn, Request, 'a request');
}

export function readResponseBody(conn, response) {
    return readBody(conn, response, true);
}

export function readRequestBody(conn, request) {
    return readBody(conn, request, false);
}

/**
 * Head of a message. A field value may be an array (several lines) or null (no line).
 * @param {string} startLine
 * @param {Record<string, string | number | string[] | null>} fields
 */
export function formatHead(startLine, fields) {
    const lines = Object.entries(fields).flatMap(([name, value]) =>
        (Array.isArray(value) ? value : [value]).filter((one) => one !== null && one !== undefined)
            .map((one) => `${name}: ${one}\r\n`));
    return `${startLine}\r\n${lines.join('')}\r\n`;
}

export function chunk(data) {
    const bytes = Buffer.from(data, 'latin1');
    return `${bytes.length.toString(16)}\r\n${bytes.toString('latin1')}\r\n`;
}

export const LAST_CHUNK = '0\r\n\r\n';

/** IMF-fixdate, `seconds` from now. */
export function httpDate(seconds = 0) {
    return new Date(Date.now() + seconds * 1000).toUTCString();
}
