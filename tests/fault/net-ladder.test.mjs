/**
 * The faults of net.test.mjs on every connection of a node with every rung: clients, upstreams, the shared store, the bus. Bodies
 * larger than memory come from disk, whole and in ranges. FAULT_SECONDS (default 3 for each test), FAULT_SEED as there.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { DiskFaults } from '../flow/harness/disk.mjs';
import { startRelay } from '../flow/harness/relay.mjs';
import { shim } from '../flow/harness/shim.mjs';
import { Backend } from './backend.mjs';
import { playAgain, playLadder, Rungs, startStore } from './ladder.mjs';
import { Program } from './program.mjs';

const SECONDS = Number(process.env.FAULT_SECONDS ?? 3);

let redis;
before(async () => { redis = await startStore(); });
after(() => redis.stop());

/** One run; what the seed decides: the mixture, the number of loops, whether the page cache is cold, how it ends. */
async function once(seed, env, options, judge) {
    const backend = await Backend.start();
    const relay = await startRelay(redis.port);
    const rungs = new Rungs(redis, relay.port);
    const faults = new DiskFaults(rungs.disk);
    faults.set({ cold: Boolean(seed & 2) });
    const config = rungs.config(backend, { threads: 1 + (seed % 2) });
    const program = new Program({ config, env: { ...faults.env, LD_PRELOAD: shim(), FAULT_SEED: String(seed), ...env } });
    let ladder = { problems: [], refused: [] };
    const problems = [];
    try {
        if (await program.ready()) {
            options.during?.(relay, seed);
            ladder = await playLadder(program, backend, options);
            problems.push(...ladder.problems, ...judge(ladder));
        }
    } catch (error) {
        problems.push(error.stack);
    }
    problems.push(...await (seed & 4 ? program.kill() : program.stop()));
    await relay.heal();
    if (problems.length === 0 && options.again !== false) {
        problems.push(...await playAgain(rungs, backend, ladder));
    }
    await backend.gone();
    await relay.stop();
    rungs.remove();
    if (process.env.FAULT_SEED) {
        console.error(program.said, ladder.refused, problems);
    }
    return problems;
}

async function sweep(t, mixture, judge, options = {}) {
    const end = Date.now() + SECONDS * 1000;
    const first = Number(process.env.FAULT_SEED ?? Date.now() % 1_000_000);
    const problems = [];
    let seed = first;
    await Promise.all(Array.from({ length: process.env.FAULT_SEED ? 1 : 2 }, async () => {
        do {
            const mine = seed++;
            const found = await once(mine, mixture(mine), options, judge);
            problems.push(...found.map((what) => `FAULT_SEED=${mine}: ${what}`));
        } while (!process.env.FAULT_SEED && Date.now() < end && problems.length < 5);
    }));
    console.error(`# ${t.name}: seeds ${first} to ${seed - 1}`);
    assert.ok(problems.length === 0, problems.join('\n\n'));
}

const nothing = ({ refused }) => refused.map((what) => `refused: ${what}`);
const shorts = (seed) => ({ FAULT_SHORT: String([5, 20, 50, 90][(seed >> 3) % 4]), FAULT_BUFFER: seed % 3 ? '0' : '8192' });

test('every rung: short reads and writes, EINTR and EAGAIN cost no request', async (t) => {
    await sweep(t, shorts, nothing);
});

test('every rung: resets cut requests, and nothing else', async (t) => {
    await sweep(t, (seed) => ({ ...shorts(seed), FAULT_RESET: String([20, 60, 200, 1000][(seed >> 4) % 4]) }), () => []);
});

test('every rung: a store whose bytes are spoilt, lost and late is nothing but misses', async (t) => {
    const during = (relay, seed) => {
        let count = seed;
        const often = [3, 11, 41][seed % 3];
        if (seed % 5 === 0) {
            relay.blackhole(seed % 2 ? 'toClient' : undefined);
            return;
        }
        relay.corrupt((bytes) => {
            count++;
            if (count % often) {
                return bytes;
            }
            if (count % (2 * often) === 0) {
                return null;
            }
            const spoilt = Buffer.from(bytes);
            spoilt[(count * 7919) % spoilt.length] ^= 1 << (count % 8);
            return spoilt;
        });
    };
    await sweep(t, () => ({}), nothing, { during });
});

test('every rung: a clock that jumps by hours makes no answer wrong and no Age negative', async (t) => {
    await sweep(t, (seed) => ({ FAULT_CLOCK: String([1, 3, 11][seed % 3]) }), nothing, { ageMax: 600 + 22 * 3600, again: false });
});
