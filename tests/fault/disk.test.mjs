/**
 * A disk that fails a node with every rung, at every write, sync and open: clients see misses; a purge that cannot be made durable
 * is answered with 503 and stays in effect; after a crash in the middle of a write nothing is torn and no acknowledged purge is
 * forgotten. And clocks that jump by an hour and by a year, and too few descriptors.
 *
 * FAULT_SECONDS (default 3 for the sweeps); FAULT_SEED as in net.test.mjs.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, test } from 'node:test';
import { Clock } from '../flow/harness/clock.mjs';
import { DiskFaults } from '../flow/harness/disk.mjs';
import { Backend } from './backend.mjs';
import { playAgain, playLadder, Rungs, startStore } from './ladder.mjs';
import { Program } from './program.mjs';

const SECONDS = Number(process.env.FAULT_SECONDS ?? 3);

let redis;
before(async () => { redis = await startStore(); });
after(() => redis.stop());

/** A node whose files below its folder (disk tier, state.db) fail as told. */
async function withNode(body, { env = {}, config, prefix } = {}) {
    const backend = await Backend.start();
    const rungs = new Rungs(redis);
    const faults = new DiskFaults(rungs.folder);
    const program = new Program({ config: rungs.config(backend, config), prefix, env: { ...faults.env, ...env } });
    const problems = [];
    try {
        assert.ok(await program.ready(), program.said);
        problems.push(...await body({ backend, rungs, faults, program }) ?? []);
    } catch (error) {
        problems.push(error.stack);
    }
    if (!program.ended) {
        problems.push(...await program.stop());
    }
    await backend.gone();
    rungs.remove();
    return problems.map((what) => `${what}\n${process.env.FAULT_SEED ? program.said : ''}`);
}

async function sweep(t, once) {
    const end = Date.now() + SECONDS * 1000;
    const first = Number(process.env.FAULT_SEED ?? Date.now() % 1_000_000);
    const problems = [];
    let seed = first;
    await Promise.all(Array.from({ length: process.env.FAULT_SEED ? 1 : 2 }, async () => {
        do {
            const mine = seed++;
            problems.push(...(await once(mine)).map((what) => `FAULT_SEED=${mine}: ${what}`));
        } while (!process.env.FAULT_SEED && Date.now() < end && problems.length < 4);
    }));
    console.error(`# ${t.name}: seeds ${first} to ${seed - 1}`);
    assert.ok(problems.length === 0, problems.join('\n\n'));
}

const KINDS = ['write', 'allocate', 'sync', 'open', 'tidy', 'read'];
const ERRORS = ['ENOSPC', 'EIO', 'EROFS'];

test('any call to the disk may fail, alone or with all that follow', async (t) => {
    await sweep(t, (seed) => withNode(async ({ backend, rungs, faults, program }) => {
        const kind = KINDS[seed % KINDS.length];
        const error = ERRORS[Math.floor(seed / 6) % ERRORS.length];
        faults.set({ [kind]: error, after: Math.floor(seed / 18) % 23, every: [1, 2, 7][seed % 3], torn: Boolean(seed & 1) });
        const ladder = await playLadder(program, backend);
        faults.clear();
        // A purge may be answered with 503; a body whose middle cannot be read is cut. Nothing else may be refused.
        const refused = ladder.refused.filter((what) => !/^(POST \/purge|PURGE ).*: 503$/.test(what)
            && !(kind === 'read' && /\/(big|bigger|crowd).*(cut after|without a response)/.test(what)));
        const problems = [...ladder.problems, ...refused.map((what) => `refused: ${what}`)];
        problems.push(...await (seed & 2 ? program.kill() : program.stop()));
        return problems.length ? [`${kind} ${error}`, ...problems] : playAgain(rungs, backend, ladder);
    }));
});

test('killed in the middle of any write: nothing is torn, no purge forgotten', async (t) => {
    await sweep(t, (seed) => withNode(async ({ backend, rungs, faults, program }) => {
        const kind = ['write', 'write', 'sync', 'allocate', 'tidy'][seed % 5];
        faults.set({ [kind]: 'CRASH', after: (seed * 7) % (kind === 'write' ? 150 : 40) });
        const ladder = await playLadder(program, backend);
        faults.clear();
        const problems = ladder.problems.slice();
        const { code } = program;
        problems.push(...await program.kill().then((found) => found.filter((what) => !/^it ended by itself with SIGKILL/.test(what))));
        return problems.length ? [`${kind} ${code}`, ...problems] : playAgain(rungs, backend, ladder);
    }));
});

test('a purge whose sync fails is answered with 503, and in effect', async () => {
    for (const [kind, error] of [['sync', 'EIO'], ['write', 'ENOSPC'], ['write', 'EIO'], ['write', 'EROFS']]) {
        const problems = await withNode(async ({ backend, faults, program }) => {
            const ladder = await playLadder(program, backend, { acts: [] });
            const target = '/fresh/3000/a';
            await ladder.ask(target);
            faults.set({ [kind]: error });
            backend.version++;
            let status = 0;
            const client = await program.connect(program.adminPort);
            ({ status } = await client.request('/purge?all=1', { method: 'POST' }));
            client.close();
            assert.equal(status, 503, `${kind} ${error}`);
            ladder.floor = backend.version;
            await ladder.ask(target);
            await ladder.ask(target);
            faults.clear();
            const again = await program.connect(program.adminPort);
            ({ status } = await again.request('/purge?all=1', { method: 'POST' }));
            again.close();
            assert.equal(status, 200, `afterwards, ${kind} ${error}`);
            return [...ladder.problems, ...ladder.refused];
        });
        assert.deepEqual(problems, []);
    }
});

/** Clock ticks of CPU that a process has used. */
function ticks(pid) {
    const fields = fs.readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1].split(' ');
    return Number(fields[11]) + Number(fields[12]);
}

test('a clock that jumps by an hour and by a year: no negative Age, nothing beyond its life, no busy loop', async () => {
    // Not in the store: by its clock, which stands for the region's, a copy is as old as it is, whatever this node's clock says.
    const hour = 3600_000;
    const clock = new Clock();
    const problems = await withNode(async ({ backend, program }) => {
        const ladder = await playLadder(program, backend, { acts: [] });
        const targets = ['/fresh/3000/a', '/fresh/1300007/big', '/chunked/700001/bigger', '/fresh/150000/p'];
        const askAll = async () => {
            for (const target of [...targets, ...targets]) {
                await ladder.ask(target);
            }
        };
        await askAll();
        for (const jump of [hour, -hour, 365 * 24 * hour, 0, -365 * 24 * hour, 0]) {
            backend.version++;
            clock.set(clock.offset + (jump || -clock.offset));
            ladder.ageMax = 600 + Math.abs(clock.offset) / 1000; // as the origin's Date seems to say
            ladder.floor = jump > 0 ? backend.version : 1; // everything lives for ten minutes, by the clock as it is now
            await askAll();
            const used = ticks(program.pid);
            await new Promise((resolve) => { setTimeout(resolve, 300); });
            assert.ok(ticks(program.pid) - used < 20, `${ticks(program.pid) - used} of 30 ticks used while nothing is asked`);
        }
        await ladder.purgeOne('all=1', targets);
        return [...ladder.problems, ...ladder.refused];
    }, { env: clock.env, config: { routes: [{ match: '/*', upstream: 'app', disk: 'pin', shared: false }] } });
    assert.deepEqual(problems, []);
});

test('too few descriptors for clients, disk and store: refused or right, and all is well afterwards', async () => {
    const problems = await withNode(async ({ backend, program }) => {
        const crowd = await Promise.all(Array.from({ length: 80 }, () => program.connect().catch(() => null)));
        const ladder = await playLadder(program, backend, { acts: ['hits', 'bigs'] });
        crowd.forEach((client) => client?.close());
        const found = ladder.problems.slice();
        await new Promise((resolve) => { setTimeout(resolve, 200); });
        const calm = await playLadder(program, backend, { acts: ['hits', 'bigs', 'pressure', 'purges'] });
        return [...found, ...calm.problems, ...calm.refused];
    }, { prefix: ['prlimit', '--nofile=64:64'], config: { threads: 2 } });
    assert.deepEqual(problems, []);
});
