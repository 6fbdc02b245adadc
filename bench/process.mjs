/**
 * Processes of a measurement: started on one CPU, their CPU time and memory read from /proc, stopped by their own id.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const ROOT = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '..');
/** Where the programs are; BENCH_BUILD measures those of another tree. */
export const BUILD = path.resolve(process.env.BENCH_BUILD ?? path.join(ROOT, 'build'));

const TICK_US = 1e6 / Number(execFileSync('getconf', ['CLK_TCK']));
const FILES = Math.min(65536, Number(execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' })) || 65536);
const started = new Set();

export async function freePort() {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    server.close();
    await once(server, 'close');
    return port;
}

/** A process (and its children) on one CPU, with as many files as connections may need. */
export class Server {
    constructor(name, cpu, command, { env = {}, log } = {}) {
        Object.assign(this, { name, cpuNumber: cpu, command, env, log });
        const out = log ? fs.openSync(log, 'a') : 'ignore';
        this.child = spawn('taskset', ['-c', String(cpu), 'prlimit', `--nofile=${FILES}:${FILES}`, ...command], {
            stdio: ['ignore', out, out], env: { ...process.env, ...env },
        });
        this.child.on('exit', (code) => { this.code = code ?? 'signal'; });
        started.add(this);
    }

    async ready(port, target = '/') {
        for (let i = 0; i < 500; i++) {
            if (this.code !== undefined) {
                const said = this.log ? fs.readFileSync(this.log, 'utf8').slice(-2000) : '';
                throw new Error(`${this.name} ended with ${this.code} before it answered\n${said}`);
            }
            if (await get(port, target).then(() => true, () => false)) {
                return this;
            }
            await delay(20);
        }
        throw new Error(`${this.name} does not answer on port ${port}`);
    }

    /** Fields of /proc/PID/stat of the process and all its descendants, comm removed. */
    #tree() {
        const all = new Map();
        for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
            try {
                const text = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
                all.set(Number(pid), text.slice(text.lastIndexOf(')') + 2).split(' '));
            } catch { /* it ended meanwhile */ }
        }
        const tree = [this.child.pid];
        for (let i = 0; i < tree.length; i++) {
            for (const [pid, fields] of all) {
                if (Number(fields[1]) === tree[i]) {
                    tree.push(pid);
                }
            }
        }
        return tree.filter((pid) => all.has(pid)).map((pid) => ({ pid, fields: all.get(pid) }));
    }

    /** User and system time so far, microseconds. */
    cpu() {
        return this.#tree().reduce((sum, { fields }) => sum + (Number(fields[11]) + Number(fields[12])) * TICK_US, 0);
    }

    /** Proportional resident memory in bytes: pages shared by several processes count once. */
    memory() {
        return this.#tree().reduce((sum, { pid }) => {
            try {
                const rollup = fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
                return sum + Number(/^Pss:\s+(\d+)/m.exec(rollup)[1]) * 1024;
            } catch {
                return sum;
            }
        }, 0);
    }

    /** What all its processes read from and wrote to disk so far, bytes (the page cache's view: /proc/PID/io). */
    io() {
        const sum = { read: 0, written: 0 };
        for (const { pid } of this.#tree()) {
            try {
                const text = fs.readFileSync(`/proc/${pid}/io`, 'utf8');
                sum.read += Number(/^read_bytes: (\d+)/m.exec(text)[1]);
                sum.written += Number(/^write_bytes: (\d+)/m.exec(text)[1]);
            } catch { /* it ended meanwhile, or is not ours to look at */ }
        }
        return sum;
    }

    /** Command lines of its processes: some servers have helpers that come and go. */
    commands() {
        return this.#tree().map(({ pid }) => {
            try {
                return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
            } catch {
                return '';
            }
        });
    }

    signal(name) {
        this.#tree().forEach(({ pid }) => { try { process.kill(pid, name); } catch { /* gone */ } });
    }

    /** SIGKILL to all of it at once. */
    async kill() {
        started.delete(this);
        const gone = this.code === undefined ? once(this.child, 'exit') : undefined;
        this.signal('SIGKILL');
        await gone;
    }

    /** The same command again, behind `prefix`; on the same port. Does not wait until it answers. */
    again(prefix = []) {
        const server = new Server(this.name, this.cpuNumber, [...prefix, ...this.command], { env: this.env, log: this.log });
        const { command, port, label, kind, dir, admin } = this;
        return Object.assign(server, { command, port, label, kind, dir, admin });
    }

    async stop() {
        started.delete(this);
        if (this.code === undefined) {
            const gone = once(this.child, 'exit');
            this.child.kill('SIGTERM');
            await Promise.race([gone, delay(3000)]);
            if (this.code === undefined) {
                const pids = this.#tree().map(({ pid }) => pid);
                pids.forEach((pid) => { try { process.kill(pid, 'SIGKILL'); } catch { /* gone */ } });
                await gone;
            }
        }
    }
}

export async function stopAll() {
    await Promise.all([...started].map((server) => server.stop()));
}

export function get(port, path, headers = {}) {
    return new Promise((resolve, reject) => {
        const request = http.get({ host: '127.0.0.1', port, path, headers, agent: false }, (response) => {
            let length = 0;
            let text = '';
            response.on('data', (data) => { length += data.length; text += length < 1 << 20 ? data : ''; });
            response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, length, text }));
            response.on('error', reject);
        });
        request.setTimeout(5000, () => request.destroy(new Error('timeout')));
        request.on('error', reject);
    });
}

/** Runs a load generator to its end on one CPU; returns what it printed. */
export async function load(cpu, command, watch = () => {}) {
    const child = spawn('taskset', ['-c', String(cpu), 'prlimit', `--nofile=${FILES}:${FILES}`, ...command],
        { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (data) => { output += data; });
    child.stderr.on('data', (data) => { output += data; });
    watch(child);
    const [code] = await once(child, 'close');
    if (code !== 0) {
        throw new Error(`${command[0]} ended with ${code}: ${output.slice(-500)}`);
    }
    return output;
}

const UNIT_US = { us: 1, ms: 1e3, s: 1e6, m: 6e7 };

/**
 * One run of bench/ask.c. Latencies are microseconds.
 * @returns {Promise<{asked: number, good: number, errors: number, unanswered: number, seconds: number, rate: number,
 *     bytes: number, p50: number, p90: number, p99: number, p999: number, max: number}>}
 */
export async function ask(cpu, port, prefix, { connections = 1, count, seconds, rate, keys, first, seed, redis } = {}) {
    const flags = { c: connections, n: count, d: seconds, r: rate, k: keys, f: first, s: seed };
    const given = Object.entries(flags).filter(([, value]) => value !== undefined)
        .flatMap(([name, value]) => [`-${name}`, `${value}`]);
    return JSON.parse(await load(cpu, [path.join(BUILD, 'bench/ask'), ...given, ...(redis ? ['-R'] : []), `${port}`, prefix]));
}

/** One run of wrk. @returns {Promise<{requests: number, rate: number, p99Us: number, errors: number}>} */
export async function wrk(cpu, url, { connections = 64, seconds }) {
    const output = await load(cpu, ['wrk', '-t1', `-c${connections}`, `-d${seconds}s`, '--latency',
        url]);
    const [, value, unit] = /99%\s+([\d.]+)(us|ms|s|m)/.exec(output);
    const socketErrors = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(output);
    return {
        requests: Number(/(\d+) requests in/.exec(output)[1]),
        rate: Number(/Requests\/sec:\s+([\d.]+)/.exec(output)[1]),
        p99Us: Number(value) * UNIT_US[unit],
        errors: (socketErrors ? socketErrors.slice(1).reduce((sum, n) => sum + Number(n), 0) : 0)
            + Number(/Non-2xx or 3xx responses: (\d+)/.exec(output)?.[1] ?? 0),
    };
}

/** Asks for URLs nobody asked for before, for so many seconds or until `done()`. */
export async function wrkSequence(cpu, url, { connections, seconds, prefix, done }) {
    const script = new URL('sequence.lua', import.meta.url).pathname;
    let over = false;
    const run = load(cpu, ['wrk', '-t1', `-c${connections}`, `-d${seconds}s`, '-s', script, url, '--', prefix],
        (child) => void (async () => {
            while (done && !over) {
                await delay(50);
                if (await done()) {
                    child.kill('SIGINT');
                    return;
                }
            }
        })());
    await run.finally(() => { over = true; });
}

export function median(values) {
    const sorted = values.filter((value) => Number.isFinite(value)).sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    if (sorted.length === 0) {
        return NaN;
    }
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
