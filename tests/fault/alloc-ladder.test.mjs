/**
 * Failing allocations with every rung there is: disk, shared store, durable state, bus, two servers. The scenario is played with
 * its nth allocation failing, then the node is started again on what it left, every second time after kill -9.
 *
 * A sample within FAULT_SECONDS (default 4 for each test); FAULT_ALL=1 takes every allocation. DOORSTEP_FAULT_ALLOC=nth[:every] plays one.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Backend } from './backend.mjs';
import { playAgain, playLadder, Rungs, startStore } from './ladder.mjs';
import { Program } from './program.mjs';

const SECONDS = Number(process.env.FAULT_SECONDS ?? 4);
const ALL = Boolean(process.env.FAULT_ALL);
const ONE = process.env.DOORSTEP_FAULT_ALLOC;
delete process.env.DOORSTEP_FAULT_ALLOC; // the next life has none
const NEVER = 1_000_000_000;
/** One failed allocation costs a few requests: those that shared a fetch, a connection or the moment. */
const REFUSED_MAX = 8;

let redis;
before(async () => { redis = await startStore(); });
after(() => redis.stop());

async function once(fault, threads, acts) {
    const backend = await Backend.start();
    const rungs = new Rungs(redis);
    const program = new Program({ config: rungs.config(backend, { threads }), env: { DOORSTEP_FAULT_ALLOC: fault } });
    const found = { problems: [], refused: [], asked: 0 };
    let ladder = null;
    try {
        if (await program.ready()) {
            ladder = await playLadder(program, backend, { acts });
            Object.assign(found, { refused: ladder.refused, asked: ladder.asked });
            found.problems.push(...ladder.problems);
        } else if (program.code !== 1 || program.said.trim().split('\n').length < 2) {
            found.problems.push(`it refused to start with ${program.code}, saying ${JSON.stringify(program.said)}`);
        }
        if (!program.ended) {
            found.problems.push(...await (acts === undefined && fault !== String(NEVER) && Number(fault.split(':')[0]) % 2
                ? program.kill() : program.stop()));
        } else if (ladder) {
            found.problems.push(...await program.stop());
        } else {
            found.problems.push(...program.complaints());
        }
        if (ladder && acts === undefined) {
            found.problems.push(...await playAgain(rungs, backend, ladder, { config: { threads } }));
        }
    } catch (error) {
        found.problems.push(error.stack, ...(program.ended ? program.complaints() : await program.stop()));
    }
    await backend.gone();
    rungs.remove();
    found.left = Number(/fault switch: (\d+) left/.exec(program.said)?.[1]);
    found.said = program.said;
    return found;
}

/** 0 .. count-1, spread: any beginning of the order samples the whole. */
function spread(count) {
    const common = (a, b) => (b ? common(b, a % b) : a);
    let step = Math.max(1, Math.round(count * 0.618));
    while (common(step, count) !== 1) {
        step++;
    }
    const from = Number(process.env.FAULT_FROM ?? 0);
    return Array.from({ length: count }, (_, i) => ((i + from) * step) % count);
}

async function sweep(t, faults, threads, most) {
    const end = Date.now() + (ALL ? 24 * 3600 : SECONDS) * 1000;
    const of = faults.length;
    const problems = [];
    await Promise.all([0, 1].map(async () => {
        while (faults.length && Date.now() < end && problems.length < 10) {
            const fault = faults.shift();
            const found = await once(fault, threads);
            if (found.refused.length > most) {
                found.problems.push(`${found.refused.length} refused:\n${found.refused.join('\n')}`);
            }
            problems.push(...found.problems.map((what) => `DOORSTEP_FAULT_ALLOC=${fault} (${threads} loops): ${what}`));
        }
    }));
    console.error(`# ${t.name}: ${of - faults.length} of ${of} played`);
    assert.ok(problems.length === 0, problems.join('\n\n'));
}

for (const threads of [1, 2]) {
    test(`with every rung, any allocation may fail (${threads} loops)`, { skip: Boolean(ONE) }, async (t) => {
        const whole = await once(String(NEVER), threads);
        assert.deepEqual([...whole.problems, ...whole.refused], []);
        const start = NEVER - (await once(String(NEVER), threads, [])).left;
        const total = NEVER - whole.left;
        console.error(`# ${total} allocations, ${start} of them at the start`);
        await sweep(t, spread(total).map((i) => String(i + 1)), threads, REFUSED_MAX);
    });
}

test('with every rung, every nth allocation fails', { skip: Boolean(ONE) }, async (t) => {
    const start = NEVER - (await once(String(NEVER), 2, [])).left;
    const faults = [3, 5, 7, 11, 13, 17, 19, 23, 29, 37, 53, 71, 97, 199, 499]
        .flatMap((every) => [0, 1, 2].map((offset) => `${start + 1 + offset * 7}:${every}`));
    await sweep(t, spread(faults.length).map((i) => faults[i]), 2, Infinity);
});

test('the allocation named by DOORSTEP_FAULT_ALLOC', { skip: !ONE }, async () => {
    const found = await once(ONE, Number(process.env.FAULT_THREADS ?? 1));
    console.error(found.said, found.refused, found.left);
    assert.ok(found.problems.length === 0, found.problems.join('\n\n'));
});
