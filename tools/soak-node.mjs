/** What the soaks of one node share: a random source with a seed, the node with its figures, and its end. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const DESCRIPTORS_MORE = 100;

/** mulberry32: the same seed makes the same run, as far as timing lets it. `random(n)`: 0 to n - 1. */
export function randomOf(seedText) {
    let seed = Number(seedText);
    const random = (n) => {
        seed = (seed + 0x6d2b79f5) | 0;
        let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * n);
    };
    return { random, pick: (list) => list[random(list.length)] };
}

export class SoakNode {
    #residentMost = 0;
    #descriptors = 0;
    #exit;
    said = '';
    /** Exit code or signal; null while it runs. */
    ended = null;
    problems = [];
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'doorstep-soak-'));

    /** `site`: its configuration beside the listeners and logs; resolves when it listens. */
    async start(binary, site) {
        const file = this.file('site.yaml', JSON.stringify({
            listen: ['127.0.0.1:0'], admin: { listen: '127.0.0.1:0' }, access_log: { path: path.join(this.folder, 'access.log') }, ...site,
        }));
        this.process = spawn(binary, ['run', '-c', file], { stdio: ['ignore', 'pipe', 'pipe'] });
        this.process.stdout.on('data', (data) => { this.said += data; });
        this.process.stderr.on('data', (data) => { this.said += data; });
        this.#exit = once(this.process, 'exit').then(([code, signal]) => { this.ended = code ?? signal; });
        while (!/admin on .*\n/.test(this.said) && this.ended === null) {
            await delay(20);
        }
        this.port = Number(/listening on [^\s]*:(\d+)/.exec(this.said)?.[1]);
        this.adminPort = Number(/admin on [^\s]*:(\d+)/.exec(this.said)?.[1]);
        this.#descriptors = this.ended === null ? this.#open() : 0;
    }

    #open() {
        return fs.readdirSync(`/proc/${this.process.pid}/fd`).length;
    }

    /** A file of the node's folder, which goes at the end. */
    file(name, text) {
        const file = path.join(this.folder, name);
        fs.writeFileSync(file, text);
        return file;
    }

    admin(method, target) {
        return new Promise((resolve) => {
            http.request({ host: '127.0.0.1', port: this.adminPort, method, path: target, agent: false }, (response) => {
                let text = '';
                response.on('data', (data) => { text += data; });
                response.on('end', () => resolve({ status: response.statusCode, text }));
            }).on('error', () => resolve({ status: 0, text: '' })).end();
        });
    }

    reload(...signals) {
        ['SIGHUP', ...signals].forEach((signal) => this.process.kill(signal));
    }

    /** `one` by so many clients and disturb(turn) every `pause` ms, until the time is over or there are problems enough. */
    async load(seconds, clients, one, pause, disturb) {
        const end = Date.now() + Number(seconds) * 1000;
        const going = () => Date.now() < end && this.ended === null && this.problems.length < 20;
        const disturbing = async () => {
            for (let turn = 1; going(); turn++) {
                await delay(pause);
                if (this.ended !== null) {
                    return;
                }
                const [, kilobytes] = /VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${this.process.pid}/status`, 'latin1'));
                this.#residentMost = Math.max(this.#residentMost, Number(kilobytes) / 1024);
                await disturb(turn);
            }
        };
        await Promise.all([disturbing(), ...Array.from({ length: clients }, async () => {
            while (going()) {
                await one();
            }
        })]);
    }

    /** Looks at what has grown, and ends it. */
    async stop(residentMaxMB) {
        if (this.ended === null) {
            const before = this.#descriptors;
            const more = this.#open() - before;
            if (more > DESCRIPTORS_MORE) {
                this.problems.push(`${more} descriptors more than at the start`);
            }
            if (this.#residentMost > residentMaxMB) {
                this.problems.push(`${Math.round(this.#residentMost)} MiB resident, more than ${residentMaxMB}`);
            }
            this.process.kill('SIGTERM');
            await Promise.race([this.#exit, delay(40_000)]);
            if (this.ended === null) {
                this.problems.push('SIGTERM was not obeyed in 40 s');
                this.process.kill('SIGKILL');
            }
            console.log(`resident at most ${Math.round(this.#residentMost)} MiB, descriptors ${before} at the start, ${more} more at the end`);
        }
        fs.rmSync(this.folder, { recursive: true, force: true });
        if (this.ended !== 0) {
            this.problems.push(`the node ended with ${this.ended}:\n${this.said.slice(-6000)}`);
        }
    }

    /** Prints the result and ends this process with it. */
    report(what) {
        console.log(what);
        this.problems.forEach((problem) => console.log(`FAIL ${problem}`));
        console.log(this.problems.length ? `0 passed, ${this.problems.length} failed` : '1 passed, 0 failed');
        process.exit(this.problems.length ? 1 : 0);
    }
}
