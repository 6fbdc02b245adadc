/**
 * The scenario on a node with every rung: disk, a shared store, durable state, a purge bus, an upstream of two servers. What is
 * larger than memory.max_object lives on disk only. After it the node is started again, without faults, on what it left: no byte
 * may be torn, no acknowledged purge forgotten.
 *
 *   startStore() -> Promise<Redis>         one for a test file; every run has a region of its own in it
 *   new Rungs(redis)                       folders and names of a run: rungs.config(backend, more), rungs.remove()
 *   playLadder(program, backend) -> Promise<Ladder>
 *   playAgain(rungs, backend, ladder, kill) -> Promise<string[]>       problems
 */
import fs from 'node:fs';
import path from 'node:path';
import { scratch } from '../flow/harness/node.mjs';
import { startRedis } from '../flow/harness/redis.mjs';
import { Program } from './program.mjs';
import { Scenario, siteOf } from './scenario.mjs';

export { startRedis as startStore };

let runs = 0;

export class Rungs {
    constructor(redis, port = redis.port) {
        this.folder = scratch();
        this.region = `r${++runs}`;
        this.port = port;
    }

    get disk() {
        return path.join(this.folder, 'tier');
    }

    config(backend, more = {}) {
        return siteOf(backend, {
            node: { name: 'fault', region: this.region },
            memory: { size: '4M', max_object: '200K' },
            disk: { path: this.disk, size: '32M', segment: '4M', checkpoint: '1s' },
            shared: { url: `redis://127.0.0.1:${this.port}`, timeout: '200ms' },
            purge: { wait: '100ms', method: true },
            upstreams: {
                app: { servers: [backend.url, `http://localhost:${backend.port}`], balance: 'least_requests', slow_start: 0,
                    breaker: { open: '10ms', open_max: '10ms' } },
                named: { servers: [`http://localhost:${backend.port}`], breaker: { open: '10ms', open_max: '10ms' } },
            },
            routes: [{ match: '/*', upstream: 'app', disk: 'pin' }, { match: '/reval/*', upstream: 'named' }],
            ...more,
        });
    }

    remove() {
        fs.rmSync(this.folder, { recursive: true, force: true });
    }
}

/** Larger than memory takes and than a block on disk; its bytes differ from block to block by its period. */
const BIG = '/fresh/1300007/big';
const BIGGER = '/chunked/700001/bigger';
const ALL = ['/fresh/3000/a', '/fresh/0/empty', '/fresh/5000/partly', '/chunked/100000/c', '/swr/4000/s', '/fresh/3000/d', BIG, BIGGER];

export class Ladder extends Scenario {
    /** From disk whole, then in pieces that begin and end on every side of a block's edge. */
    async bigs() {
        for (const target of [BIG, BIGGER, BIG, BIGGER]) {
            await this.ask(target);
        }
        for (const range of ['0-0', '65535-65536', '65536-131071', '131073-400000', '650000-', '-65537', '-1', '0-9,65530-65545,-3']) {
            await this.ask(BIG, { headers: { Range: `bytes=${range}` } });
            await this.ask(BIGGER, { headers: { Range: `bytes=${range}` } });
        }
        await this.ask(BIG, { headers: { 'If-None-Match': `"${this.backend.version}"` } });
        await this.ask(BIG, { method: 'HEAD', check: () => {} });
    }

    /** Two at once, and one that leaves in the middle. */
    async bigsAtOnce() {
        const target = '/fresh/900001/crowd';
        const leaving = this.program.connect().then((conn) => conn.ask(target).then(() => conn.reset())).catch(() => {});
        await Promise.all([this.ask(target), this.ask(target), this.ask(target, { headers: { Range: 'bytes=300000-' } }), leaving]);
        await this.ask(target);
    }

    /** More than memory takes, so that disk and store are asked. */
    async pressure() {
        for (let i = 0; i < 40; i++) {
            await this.ask(`/fresh/150000/p${i}`);
        }
        for (const target of [...ALL, '/fresh/150000/p0', '/fresh/150000/p1']) {
            await this.ask(target);
        }
    }

    /** The origin goes and comes back; the breaker may need a moment to see it. */
    async outage() {
        await this.ask('/fresh/3000/a');
        await this.backend.gone();
        const failed = this.refused.length;
        await this.ask('/pass/100/y');
        await this.ask('/pass/100/z');
        if (this.refused.length !== failed + 2) {
            this.wrong('answers came from an origin that is gone');
        }
        await this.ask('/fresh/3000/a');
        await this.backend.back();
        for (let tries = 0; tries < 100 && !await this.ask('/pass/100/y'); tries++) {
            await new Promise((resolve) => { setTimeout(resolve, 20); });
        }
        this.refused.length = failed;
    }

    /** Each purge that is acknowledged raises the floor of what it covers, for good; those that are not change nothing. */
    floors = new Map();

    *versions(target) {
        const floor = Math.max(this.floor, this.floors.get(target) ?? 0);
        for (let version = this.backend.version; version >= floor; version--) {
            yield version;
        }
    }

    async purgeOne(wish, covers, { method = 'POST', target = `/purge?${wish}`, port = this.program.adminPort } = {}) {
        this.backend.version++;
        const version = this.backend.version;
        const done = await this.ask(target, { method, port, check: (response) => {
            if (response.status !== 200) {
                throw new Error('a purge is answered with 200 or 503');
            }
        } });
        if (done) {
            covers.forEach((each) => this.floors.set(each, version));
        }
        for (const each of covers) {
            await this.ask(each);
        }
    }

    async purges() {
        const host = 'http%3A%2F%2Fsite.test';
        await this.ask(BIG);
        await this.purgeOne(`url=${host}%2Ffresh%2F3000%2Fa`, ['/fresh/3000/a']);
        await this.purgeOne('', ['/fresh/3000/d'], { method: 'PURGE', target: '/fresh/3000/d', port: this.program.port });
        await this.purgeOne('prefix=%2Fchunked%2F', ['/chunked/100000/c', BIGGER]);
        await this.purgeOne('soft=1&all=1', []);
        await this.ask('/fresh/3000/a');
        await this.purgeOne(`url=${host}${encodeURIComponent(BIG)}`, [BIG]);
        await this.purgeOne('all=1', ALL);
        await this.purgeOne('host=other.test', []);
        await this.purgeOne('tag=nothing', []);
    }

    /** After a restart: what there is is right, and as young as it was. */
    async everything() {
        for (const target of ALL) {
            await this.ask(target);
            await this.ask(target);
        }
        await this.ask(BIG, { headers: { Range: 'bytes=65000-66000' } });
    }
}

const ACTS = ['hits', 'bigs', 'policies', 'coalesced', 'bigsAtOnce', 'pressure', 'keptAlive', 'rudeness', 'administration', 'reload',
    'outage', 'purges'];

export async function playLadder(program, backend, { acts = ACTS, ...options } = {}) {
    const ladder = Object.assign(new Ladder(program, backend), options);
    for (const act of acts) {
        await ladder[act]();
        if (program.ended) {
            break;
        }
    }
    return ladder;
}

/** The next life of the node. `ladder` is what the one before was told. */
export async function playAgain(rungs, backend, before, { config, env } = {}) {
    const program = new Program({ config: rungs.config(backend, config), env });
    const problems = [];
    if (!await program.ready()) {
        return [`it does not start again: ${program.said}`, ...program.complaints()];
    }
    const ladder = Object.assign(new Ladder(program, backend), { floors: before.floors, floor: before.floor, ageMax: before.ageMax });
    await ladder.everything();
    problems.push(...ladder.problems, ...ladder.refused.map((what) => `refused: ${what}`), ...await program.stop());
    return problems.map((what) => `after the restart: ${what}`);
}
