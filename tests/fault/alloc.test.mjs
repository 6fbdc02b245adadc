/**
 * Failing allocations. The scenario is played with its 1st, 2nd, 3rd ... allocation failing, and with every nth.
 * Whatever fails: the program refuses to start with a word, or it goes on and answers rightly, or not at all.
 *
 * A sample within FAULT_SECONDS (default 10 for each test); FAULT_ALL=1 takes every allocation.
 * DOORSTEP_FAULT_ALLOC=nth[:every] plays one of them and shows all.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backend } from './backend.mjs';
import { Program } from './program.mjs';
import { play, siteOf } from './scenario.mjs';

const SECONDS = Number(process.env.FAULT_SECONDS ?? 10);
const ALL = Boolean(process.env.FAULT_ALL);
/** A single failed allocation may cost a few requests (those that shared a fetch, or a connection), never the node. */
const REFUSED_MAX = 8;
const NEVER = 1_000_000_000;

/** Plays the scenario once. @returns {Promise<{ problems: string[], refused: string[], asked: number, left: number }>} */
async function once(fault, config) {
    const backend = await Backend.start();
    const program = new Program({ config: siteOf(backend, config), env: { DOORSTEP_FAULT_ALLOC: fault } });
    const found = { problems: [], refused: [], asked: 0 };
    try {
        if (await program.ready()) {
            const { problems, refused, asked } = await play(program, backend);
            Object.assign(found, { problems, refused, asked });
            found.problems.push(...await program.stop());
        } else {
            found.problems.push(...refusal(program), ...program.complaints());
        }
    } catch (error) {
        found.problems.push(error.message, ...await program.stop());
    }
    await backend.gone();
    found.left = Number(/fault switch: (\d+) left/.exec(program.said)?.[1]);
    found.said = program.said;
    return found;
}

/** What is wrong with how it refused to start. */
function refusal(program) {
    const words = program.said.replace(/^doorstep: fault switch:.*$/m, '').trim();
    return program.code === 1 && words ? [] : [`it refused to start with ${program.code}, saying ${JSON.stringify(program.said)}`];
}

/** 0 .. count-1, spread: any beginning of the order samples the whole. */
function spread(count) {
    let step = Math.max(1, Math.round(count * 0.618));
    const common = (a, b) => (b ? common(b, a % b) : a);
    while (common(step, count) !== 1) {
        step++;
    }
    return Array.from({ length: count }, (_, i) => (i * step) % count);
}

/** Plays faults, two at a time, until the time is over. Returns how many and every problem. */
async function sweep(faults, config, judge = () => []) {
    const end = Date.now() + (ALL ? 3600 : SECONDS) * 1000;
    const problems = [];
    let played = 0;
    await Promise.all(Array.from({ length: 2 }, async () => {
        while (faults.length && Date.now() < end && problems.length < 10) {
            const fault = faults.shift();
            const found = await once(fault, config);
            played++;
            problems.push(...[...found.problems, ...judge(found)].map((what) => `DOORSTEP_FAULT_ALLOC=${fault}: ${what}`));
        }
    }));
    return { played, problems };
}

/** How many allocations the scenario makes, and how many of them a start makes. */
async function measure(config) {
    const whole = await once(String(NEVER), config);
    assert.deepEqual(whole.problems, []);
    assert.deepEqual(whole.refused, []);
    const backend = await Backend.start();
    const program = new Program({ config: siteOf(backend, config), env: { DOORSTEP_FAULT_ALLOC: String(NEVER) } });
    await program.ready();
    assert.deepEqual(await program.stop(), []);
    await backend.gone();
    const left = Number(/fault switch: (\d+) left/.exec(program.said)[1]);
    return { total: NEVER - whole.left, start: NEVER - left };
}

function tell(t, { played, problems }, of) {
    t.diagnostic(`${played} of ${of}`);
    console.error(`# ${t.name}: ${played} of ${of} played`);
    assert.ok(problems.length === 0, problems.join('\n\n'));
}

for (const threads of [1, 2]) {
    const config = { threads };
    test(`any single allocation may fail (${threads} loops)`, { skip: Boolean(process.env.DOORSTEP_FAULT_ALLOC) }, async (t) => {
        const { total } = await measure(config);
        const faults = spread(total).map((i) => String(i + 1));
        const judge = ({ refused }) => (refused.length > REFUSED_MAX ? [`${refused.length} refused:\n${refused.join('\n')}`] : []);
        tell(t, await sweep(faults, config, judge), total);
    });

    test(`every nth allocation fails (${threads} loops)`, { skip: Boolean(process.env.DOORSTEP_FAULT_ALLOC) }, async (t) => {
        const { start } = await measure(config);
        const faults = [1, 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 61, 71, 83, 97]
            .flatMap((every) => [0, 1, 2, 3, 4].map((offset) => `${start + 1 + offset * 7}:${every}`));
        const of = faults.length;
        tell(t, await sweep(spread(of).map((i) => faults[i]), config), of);
    });
}

test('the allocation named by DOORSTEP_FAULT_ALLOC', { skip: !process.env.DOORSTEP_FAULT_ALLOC }, async () => {
    const found = await once(process.env.DOORSTEP_FAULT_ALLOC, {});
    console.error(found.said, found.refused, found.left);
    assert.ok(found.problems.length === 0, found.problems.join('\n\n'));
});
