/**
 * Short reads and writes, interrupted calls, full buffers, resets and a clock that jumps, made by tests/fault/shim.c under a
 * seed. Without resets nothing may fail at all; with them a request may be cut, but no byte is wrong and nothing hangs.
 *
 * Seeds for FAULT_SECONDS (default 8 for each test). FAULT_SEED=n plays that one and shows what the node said.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shim } from '../flow/harness/shim.mjs';
import { Backend } from './backend.mjs';
import { Program } from './program.mjs';
import { play, siteOf } from './scenario.mjs';

const SECONDS = Number(process.env.FAULT_SECONDS ?? 8);

/** One run. The seed decides the faults' mixture and the number of loops as well. */
async function once(seed, env, options) {
    const backend = await Backend.start();
    const program = new Program({ config: siteOf(backend, { threads: 1 + (seed % 2) }),
        env: { LD_PRELOAD: shim(), FAULT_SEED: String(seed), ...env } });
    let problems = [];
    let refused = [];
    try {
        if (await program.ready()) {
            ({ problems, refused } = await play(program, backend, options));
        }
    } catch (error) {
        problems.push(error.message);
    }
    problems.push(...await program.stop());
    await backend.gone();
    if (process.env.FAULT_SEED) {
        console.error(program.said, refused, problems);
    }
    return { problems, refused };
}

/** Seeds until the time is over. `mixture` makes the environment of a seed; `judge` says what else is wrong. */
async function sweep(t, mixture, judge, options) {
    const end = Date.now() + SECONDS * 1000;
    const first = Number(process.env.FAULT_SEED ?? Date.now() % 1_000_000);
    const problems = [];
    let seed = first;
    await Promise.all(Array.from({ length: process.env.FAULT_SEED ? 1 : 2 }, async () => {
        do {
            const mine = seed++;
            const found = await once(mine, mixture(mine), options);
            problems.push(...[...found.problems, ...judge(found)].map((what) => `FAULT_SEED=${mine}: ${what}`));
        } while (!process.env.FAULT_SEED && Date.now() < end && problems.length < 5);
    }));
    console.error(`# ${t.name}: seeds ${first} to ${seed - 1}`);
    assert.ok(problems.length === 0, problems.join('\n\n'));
}

const nothing = ({ refused }) => refused.map((what) => `refused: ${what}`);
const shorts = (seed) => ({ FAULT_SHORT: String([5, 20, 50, 90][seed % 4]), FAULT_BUFFER: seed % 3 ? '0' : '8192' });

test('short reads and writes, EINTR and EAGAIN cost no request', async (t) => {
    await sweep(t, shorts, nothing);
});

test('resets cut requests, and nothing else', async (t) => {
    await sweep(t, (seed) => ({ ...shorts(seed), FAULT_RESET: String([20, 60, 200, 1000][(seed >> 2) % 4]) }), () => []);
});

test('a clock that jumps by hours makes no answer wrong and no Age negative', async (t) => {
    // An answer's Age is what the clock says it is; a jump may add what it jumped. Less than a day, beyond which stale answers
    // may not stand in for an origin that is gone.
    await sweep(t, (seed) => ({ FAULT_CLOCK: String([1, 3, 11][seed % 3]) }), nothing, { ageMax: 600 + 22 * 3600 });
});
