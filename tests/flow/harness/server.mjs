/**
 * What the servers of a test have in common: a free port, and a process that cannot outlive the test.
 *
 *   freePort() -> Promise<number>          on 127.0.0.1, outside the range the kernel gives to outgoing connections
 *   LEASH                                  command prefix: the kernel kills what runs behind it when the test ends
 *   find(name, what, ...folders) -> string path of a program in folders or on PATH; throws, naming what to install
 *   until(question, what, ms?) -> answer   asks until the answer is truthy; throws after ms (10 s)
 *   new Server(command, {cwd, env})        a child process; said, pid, alive, says(pattern), signal(name), ended(), kill()
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

export const LEASH = ['setpriv', '--pdeathsig', 'KILL'];

/** Below 32768 the kernel takes none for connections, so a server may stop and come back to its port. */
export async function freePort() {
    for (;;) {
        const port = 20_000 + Math.floor(Math.random() * 12_000);
        const probe = net.createServer().listen({ port, host: '127.0.0.1', exclusive: true });
        try {
            await once(probe, 'listening');
            probe.close();
            await once(probe, 'close');
            return port;
        } catch (error) {
            if (error.code !== 'EADDRINUSE') {
                throw error;
            }
        }
    }
}

export function find(name, what, ...folders) {
    for (const folder of [...folders, ...process.env.PATH.split(':'), '/usr/sbin', '/sbin']) {
        const file = path.join(folder, name);
        if (fs.existsSync(file)) {
            return file;
        }
    }
    throw new Error(`${name} is not installed: ${what} (tools/install-deps check)`);
}

export async function until(question, what, ms = 10_000) {
    const end = Date.now() + ms;
    for (;;) {
        const answer = await question();
        if (answer) {
            return answer;
        }
        if (Date.now() > end) {
            throw new Error(`${what}: not within ${ms} ms`);
        }
        await pause(5);
    }
}

export class Server {
    said = '';
    #child;
    #exited;
    #onOutput = [];

    constructor(command, { cwd, env = {} } = {}) {
        this.#child = spawn(command[0], command.slice(1), {
            cwd, env: { ...process.env, LC_ALL: 'C', ...env }, stdio: ['ignore', 'pipe', 'pipe'],
        });
        const hear = (data) => { this.said = (this.said + data).slice(-100_000); this.#wake(); };
        this.#child.stdout.on('data', hear);
        this.#child.stderr.on('data', hear);
        this.#exited = new Promise((resolve) => {
            this.#child.on('error', (error) => { this.said += error.message; this.error = error; resolve(); });
            this.#child.on('close', resolve);
        }).then(() => this.#wake());
    }

    #wake() {
        this.#onOutput.splice(0).forEach((resolve) => resolve());
    }

    get pid() { return this.#child.pid; }

    get alive() {
        return !this.error && this.#child.exitCode === null && this.#child.signalCode === null;
    }

    /** Resolves when it has printed something that matches (true), or has ended (false). */
    async says(pattern) {
        while (this.alive && !pattern.test(this.said)) {
            await new Promise((resolve) => { this.#onOutput.push(resolve); });
        }
        return pattern.test(this.said);
    }

    signal(name) {
        this.#child.kill(name);
    }

    ended() {
        return this.#exited;
    }

    async kill(signal = 'SIGKILL') {
        if (this.alive) {
            this.#child.kill(signal);
        }
        await this.#exited;
    }
}
