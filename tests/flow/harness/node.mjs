/**
 * Starts the real program and learns from its own lines where it listens.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client } from './client.mjs';
import { LEASH } from './server.mjs';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/** The program under test; DOORSTEP_BIN selects another build (ASan, TSan). */
export const BINARY = path.resolve(ROOT, process.env.DOORSTEP_BIN ?? 'build/doorstep');

/** The ASan and TSan builds are slower and larger: tests that measure memory ask. */
export const SANITIZED = /asan|tsan/.test(BINARY);

/** Runs the program to its end. @returns {Promise<{code: number, stdout: string, stderr: string}>} */
export async function run(args, { env = {}, input = '' } = {}) {
    const child = spawn(BINARY, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
    const result = { code: null, stdout: '', stderr: '' };
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    child.stdout.on('data', (data) => { result.stdout += data; });
    child.stderr.on('data', (data) => { result.stderr += data; });
    [result.code] = await once(child, 'close');
    return result;
}

/** A fresh folder; the caller removes it. */
export function scratch() {
    return fs.mkdtempSync(path.join(os.tmpdir(), 'doorstep-flow-'));
}

export class Node {
    stderr = '';
    stdout = '';
    #child;
    #exited;
    #onLine = null;

    /**
     * @param {object} options
     * @param {object} [options.config] the configuration file as an object (JSON is YAML); started with `run -c`
     * @param {string[]} [options.args] a whole command line instead: ["serve", ...]
     * @param {string[]} [options.flags] added to the command line
     * @param {string[]} [options.prefix] a command in front, such as prlimit
     */
    static async start({ config, args, flags = [], prefix = [], env = {} }) {
        const node = new Node();
        node.options = { config, args, flags, prefix, env };
        node.folder = scratch();
        if (config) {
            node.file = path.join(node.folder, 'site.yaml');
            node.configure(config);
        }
        const command = [...LEASH, ...prefix, BINARY, ...(args ?? ['run', '-c', node.file]), ...flags];
        node.#child = spawn(command[0], command.slice(1), {
            cwd: node.folder, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'],
        });
        node.#exited = once(node.#child, 'close').then(([code, signal]) => ({ code, signal }));
        node.#child.stdout.on('data', (data) => { node.stdout += data; node.#onLine?.(); });
        node.#child.stderr.on('data', (data) => { node.stderr += data; node.#onLine?.(); });
        node.#exited.then(() => node.#onLine?.());
        try {
            node.port = await node.#port(/listening on [^\s]*:(\d+)/);
            node.adminPort = config?.admin?.listen ? await node.#port(/admin on [^\s]*:(\d+)/) : null;
        } catch (error) {
            await node.kill();
            throw error;
        }
        return node;
    }

    get pid() { return this.#child.pid; }
    get exited() { return this.#exited; }

    /** Writes the configuration file; a running node reads it at `reload()`. */
    configure(config) {
        fs.writeFileSync(this.file, typeof config === 'string' ? config : JSON.stringify(config, null, 2));
    }

    async #port(pattern) {
        const match = await this.line(pattern);
        return Number(match[1]);
    }

    /** Waits until the node has printed something that matches, from position `from` on. */
    async line(pattern, from = 0) {
        let gone = false;
        this.#exited.then(() => { gone = true; });
        for (;;) {
            const match = pattern.exec((this.stdout + this.stderr).slice(from));
            if (match) {
                return match;
            }
            if (gone) {
                throw new Error(`the node ended before it said ${pattern}:\n${this.stdout}${this.stderr}`);
            }
            await new Promise((resolve) => { this.#onLine = resolve; });
        }
    }

    /** A new connection to the node. */
    client(options) {
        return Client.open(this.port, '127.0.0.1', options);
    }

    /** One request on a fresh connection. */
    async get(target, headers = {}, options = {}) {
        const client = await this.client();
        const response = await client.request(target, { headers, ...options });
        client.close();
        return response;
    }

    /** One request to the admin listener. */
    async admin(target, options = {}) {
        const client = await Client.open(this.adminPort);
        const response = await client.request(target, options);
        client.close();
        return response;
    }

    /** The metrics as a map from "name{labels}" to number. */
    async metrics() {
        const response = await this.admin('/metrics');
        const lines = response.text.split('\n').filter((line) => line && !line.startsWith('#'));
        return new Map(lines.map((line) => {
            const at = line.lastIndexOf(' ');
            return [line.slice(0, at), Number(line.slice(at + 1))];
        }));
    }

    /**
     * A barrier: what clients sent before has been read and acted upon. An only-if-cached request for something never stored
     * is answered by the node itself, after everything that arrived before it (one loop; several loops: ask each often).
     */
    async settled(rounds = 2) {
        for (let i = 0; i < rounds; i++) {
            await this.get('/.settled', { 'Cache-Control': 'only-if-cached' });
        }
    }

    signal(name) {
        this.#child.kill(name);
    }

    /** SIGTERM; the node must end by itself with 0. */
    async stop() {
        if (this.#child.exitCode === null && this.#child.signalCode === null) {
            this.#child.kill('SIGTERM');
        }
        const { code, signal } = await this.#exited;
        this.#clean();
        if (code !== 0 && !this.killed) {
            throw new Error(`the node ended with ${signal ?? `exit code ${code}`}:\n${this.stderr.slice(0, 6000)}`);
        }
    }

    /** As a crash would; `stop()` is content with it. */
    async kill() {
        this.killed = true;
        this.#child.kill('SIGKILL');
        await this.#exited;
        this.#clean();
    }

    #clean() {
        fs.rmSync(this.folder, { recursive: true, force: true });
    }

    /** Resident memory in KiB. */
    get rss() {
        return Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${this.pid}/status`, 'latin1'))[1]);
    }
}
