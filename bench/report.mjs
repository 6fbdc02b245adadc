/**
 * What all parts of the bench have in common: how long they run, where, and how a table looks.
 */
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { BUILD, freePort, get, Server } from './process.mjs';

export const QUICK = Boolean(process.env.QUICK);
export const ROUNDS = Number(process.env.ROUNDS ?? (QUICK ? 2 : 5));
export const SECONDS = QUICK ? 1 : 3;
export const SERVER_CPU = 0;
export const LOAD_CPU = os.cpus().length > 1 ? 1 : 0;
export const PEERS = (process.env.PEERS ?? 'nginx,haproxy,varnish,doorstep').split(',');

/** Scratch space in memory: configurations, logs, what peers keep in files without being asked about disks. */
export const work = fs.mkdtempSync(path.join(fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir(), 'doorstep-bench-'));

process.on('exit', () => fs.rmSync(work, { recursive: true, force: true }));

/** A folder on a disk, gone when this program ends. */
export function diskFolder() {
    const folder = fs.mkdtempSync(path.join(process.env.BENCH_DISK ?? BUILD, 'bench-disk-'));
    process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
    return folder;
}

export const say = (line = '') => process.stdout.write(`${line}\n`);
export const note = (line) => process.stderr.write(`bench: ${line}\n`);
export const us = (value) => (Number.isFinite(value) ? value.toFixed(1) : '-');
export const ms = (value) => (Number.isFinite(value) ? (value / 1000).toFixed(2) : '-');
export const ratio = (value, base) => (Number.isFinite(value / base) ? (value / base).toFixed(2) : '-');
export const megabytes = (bytes) => (bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0);

export function table(head, rows) {
    say(`| ${head.join(' | ')} |`);
    say(`|${head.map((_, i) => (i ? '---:' : '---')).join('|')}|`);
    rows.forEach((row) => say(`| ${row.join(' | ')} |`));
    say();
}

/** The value below which that share of the values lie. */
export function quantile(values, share) {
    const sorted = [...values].sort((a, b) => a - b);
    return sorted[Math.floor(share * (sorted.length - 1))];
}

/** bench/origin.c. @param {number|string} bytes a length, or `1024-10240` */
export async function startOrigin(bytes, delayMs, ...fields) {
    const port = await freePort();
    const server = new Server('origin', LOAD_CPU, [path.join(BUILD, 'bench/origin'), String(port), String(bytes),
        String(delayMs), ...fields]);
    server.port = port;
    return server.ready(port, '/-/count');
}

/** Requests an origin of startOrigin() has seen. */
export async function count(origin) {
    return Number((await get(origin.port, '/-/count')).text);
}

/** Until a TCP port takes connections. */
export async function listening(port) {
    for (let i = 0; i < 1000; i++) {
        const socket = net.connect(port, '127.0.0.1');
        if (await once(socket, 'connect').then(() => true, () => false)) {
            socket.destroy();
            return;
        }
        await delay(5);
    }
    throw new Error(`nothing listens on port ${port}`);
}

export async function startRedis(dir = work) {
    const port = await freePort();
    const server = new Server('Redis', LOAD_CPU, ['redis-server', '--bind', '127.0.0.1', '--port', `${port}`, '--save', '',
        '--appendonly', 'no', '--dir', dir, '--protected-mode', 'no', '--shutdown-timeout', '0']);
    server.port = port;
    await listening(port);
    return server;
}

/** One connection on which lines are sent and answers awaited: less in the way of a latency than an HTTP library. */
export class Line {
    #socket;
    #seen = '';

    static async open(port) {
        const line = new Line();
        line.#socket = net.connect(port, '127.0.0.1').setNoDelay();
        line.#socket.on('error', () => {});
        line.#socket.setEncoding('latin1');
        await once(line.#socket, 'connect');
        return line;
    }

    /** Sends; resolves with the answer when `complete(text)` says how long it is (0: not there yet). */
    say(text, complete) {
        this.#socket.write(text);
        return this.hear(complete);
    }

    hear(complete) {
        return new Promise((resolve, reject) => {
            const look = () => {
                const length = complete(this.#seen);
                if (length) {
                    const answer = this.#seen.slice(0, length);
                    this.#seen = this.#seen.slice(length);
                    this.#socket.off('data', data).off('close', closed);
                    resolve(answer);
                }
            };
            const data = (piece) => { this.#seen += piece; look(); };
            const closed = () => reject(new Error(`the connection was closed; so far:\n${this.#seen}`));
            if (this.#socket.destroyed) {
                closed();
                return;
            }
            this.#socket.on('data', data).on('close', closed);
            look();
        });
    }

    /** One HTTP request; the whole answer as text. */
    http(method, target, fields = '') {
        return this.say(`${method} ${target} HTTP/1.1\r\nHost: bench\r\n${fields}\r\n`, (text) => {
            const end = text.indexOf('\r\n\r\n');
            const length = /\r\ncontent-length: *(\d+)/i.exec(text);
            return end >= 0 && length && text.length >= end + 4 + Number(length[1]) ? end + 4 + Number(length[1]) : 0;
        });
    }

    close() {
        this.#socket.destroy();
    }
}

/** A request on a connection of its own, as the admin listener has it; the answer as text. */
export async function single(port, method, target) {
    const line = await Line.open(port);
    try {
        return await line.http(method, target, 'Connection: close\r\nContent-Length: 0\r\n');
    } finally {
        line.close();
    }
}

/** Purges a tag over the admin API. */
export async function purgeTag(node, tag) {
    const answer = await single(node.admin, 'POST', `/purge?tag=${tag}`);
    if (!answer.startsWith('HTTP/1.1 200')) {
        throw new Error(`purge: ${answer}`);
    }
}

export const now = () => Number(process.hrtime.bigint()) / 1000;
