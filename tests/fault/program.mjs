/**
 * The program as a fault run sees it: it may refuse to start, it may close connections, but it must not crash, hang or stay.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { BINARY, scratch } from '../flow/harness/node.mjs';
import { LEASH } from '../flow/harness/server.mjs';
import { Client } from '../flow/harness/client.mjs';

/** Nothing here takes seconds; what takes this long hangs. */
export const WATCHDOG_MS = Number(process.env.FAULT_TIMEOUT_MS ?? 10_000);

const SANITIZER = /Sanitizer|runtime error:|check failed/i;

/** The promise, or an error once the watchdog barks. */
export async function watched(promise, what, ms = WATCHDOG_MS) {
    let timer;
    const bark = new Promise((_, reject) => {
        timer = setTimeout(() => reject(Object.assign(new Error(`${what}: nothing for ${ms} ms`), { hang: true })), ms);
    });
    try {
        return await Promise.race([promise, bark]);
    } finally {
        clearTimeout(timer);
    }
}

export class Program {
    said = '';
    code = null;
    #child;
    #exited;
    #onOutput = () => {};

    /** @param {{ config?: object, args?: string[], env?: object, prefix?: string[] }} options */
    constructor({ config, args, env = {}, prefix = [] }) {
        this.folder = scratch();
        this.file = path.join(this.folder, 'site.yaml');
        if (config) {
            fs.writeFileSync(this.file, JSON.stringify(config, null, 2));
        }
        const command = [...LEASH, ...prefix, BINARY, ...(args ?? ['run', '-c', this.file])];
        this.#child = spawn(command[0], command.slice(1), {
            cwd: this.folder, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'],
        });
        const hear = (data) => { this.said += data; this.#onOutput(); };
        this.#child.stdout.on('data', hear);
        this.#child.stderr.on('data', hear);
        this.#exited = once(this.#child, 'close').then(([code, signal]) => { this.code = code ?? signal; this.#onOutput(); });
    }

    get pid() { return this.#child.pid; }
    get ended() { return this.code !== null; }

    /** Resolves when it listens (true) or has ended (false). */
    async ready(admin = true) {
        await watched((async () => {
            while (!this.ended && !(/listening on /.test(this.said) && (!admin || /admin on .*\n/.test(this.said)))) {
                await new Promise((resolve) => { this.#onOutput = resolve; });
            }
        })(), 'the start');
        this.port = Number(/listening on [^\s]*:(\d+)/.exec(this.said)?.[1]);
        this.adminPort = Number(/admin on [^\s]*:(\d+)/.exec(this.said)?.[1]);
        return !this.ended;
    }

    /** Resolves when it has printed something that matches; false when it ended first. */
    async says(pattern) {
        await watched((async () => {
            while (!this.ended && !pattern.test(this.said)) {
                await new Promise((resolve) => { this.#onOutput = resolve; });
            }
        })(), `waiting for ${pattern}`);
        return pattern.test(this.said);
    }

    signal(name) {
        this.#child.kill(name);
    }

    /** SIGTERM. Returns what is wrong with how it ended; a program that had ended before counts as crashed. */
    async stop() {
        const problems = [];
        if (this.ended) {
            problems.push(`it ended by itself with ${this.code}`);
        } else {
            this.#child.kill('SIGTERM');
            await watched(this.#exited, 'SIGTERM').catch((error) => problems.push(error.message));
            if (!this.ended) {
                this.#child.kill('SIGABRT');
                await this.#exited;
            } else if (this.code !== 0) {
                problems.push(`it ended with ${this.code}`);
            }
        }
        return [...problems, ...this.complaints()];
    }

    /** As power going away, for the process. Returns what a sanitizer had said before. */
    async kill() {
        const problems = this.ended ? [`it ended by itself with ${this.code}`] : [];
        this.#child.kill('SIGKILL');
        await this.#exited;
        return [...problems, ...this.complaints()];
    }

    /** Resolves with its exit code or signal. */
    async end(what = 'its end') {
        await watched(this.#exited, what);
        return this.code;
    }

    /** What a sanitizer or a failed CHECK said. */
    complaints() {
        fs.rmSync(this.folder, { recursive: true, force: true });
        return SANITIZER.test(this.said) ? [this.said.slice(0, 5000)] : [];
    }

    async connect(port = this.port) {
        return watched(Client.open(port), 'a connection');
    }

    /** What the operating system counts. */
    get descriptors() {
        return fs.readdirSync(`/proc/${this.pid}/fd`).length;
    }

    get residentKiB() {
        return Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${this.pid}/status`, 'latin1'))[1]);
    }
}
