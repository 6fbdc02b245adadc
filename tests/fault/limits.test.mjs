/** Running out: of descriptors, of the memory tier, of disk for the log, of ports. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { Backend, bodyOf } from './backend.mjs';
import { Program, watched } from './program.mjs';
import { play, siteOf } from './scenario.mjs';

/** Starts a program before an origin, hands both over, and sees to both ends. */
async function running(options, body) {
    const backend = await Backend.start();
    const program = new Program({ ...options, config: siteOf(backend, options.config) });
    try {
        assert.ok(await program.ready(), program.said);
        await body(program, backend);
        assert.deepEqual(await program.stop(), []);
    } finally {
        if (!program.ended) {
            program.signal('SIGKILL');
        }
        await backend.gone();
    }
}

async function get(program, target) {
    const client = await program.connect();
    const response = await watched(client.request(target), target);
    client.close();
    return response;
}

test('few descriptors, many clients: refused or answered rightly, and all is well afterwards', async () => {
    await running({ prefix: ['prlimit', '--nofile=40:40'], config: { threads: 2 } }, async (program, backend) => {
        for (let round = 0; round < 3; round++) {
            const clients = await Promise.all(Array.from({ length: 100 }, () => program.connect()));
            await Promise.all(clients.map(async (client, i) => {
                const target = `/${i % 2 ? 'fresh' : 'pass'}/3000/${round}-${i}`;
                client.ask(target).catch(() => {});
                const response = await watched(client.response('GET'), target).catch((error) => {
                    assert.ok(!error.hang, error.message);
                    return null;
                });
                client.close();
                assert.ok(response === null || response.status >= 500 || response.body.equals(bodyOf(target, 1)), target);
            }));
        }
        const { problems, refused } = await play(program, backend);
        assert.deepEqual([...problems, ...refused], []);
    });
});

test('a memory tier of 1 MiB and objects around that size', async () => {
    await running({ config: { threads: 2, memory: { size: '1M' } } }, async (program) => {
        for (let i = 0; i < 300; i++) {
            const target = `/${i % 3 ? 'fresh' : 'chunked'}/${[100, 30_000, 400_000, 1_100_000][i % 4]}/${i % 50}`;
            const response = await get(program, target);
            assert.equal(response.status, 200);
            assert.ok(response.complete && response.body.equals(bodyOf(target, 1)), target);
        }
    });
});

const mountable = spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', '/mnt']).status === 0;

test('an access log on a full disk stops no answer', { skip: mountable ? false : 'mounting is not permitted' }, async () => {
    // The folder is mounted in a namespace of the program's own and filled before it starts.
    const prefix = ['unshare', '-m', 'sh', '-c',
        'mount -t tmpfs -o size=64k none /mnt && head -c 60000 /dev/zero > /mnt/full; exec "$@"', 'sh'];
    await running({ prefix, config: { access_log: { path: '/mnt/access.log' } } }, async (program) => {
        for (let i = 0; i < 400; i++) {
            const response = await get(program, `/fresh/100/${i % 10}`);
            assert.ok(response.body.equals(bodyOf(`/fresh/100/${i % 10}`, 1)));
        }
    });
});

test('an admin port in use is said, exit code 1', async () => {
    const backend = await Backend.start();
    const program = new Program({ config: siteOf(backend, { admin: { listen: `127.0.0.1:${backend.port}` } }) });
    await program.ready();
    await backend.gone();
    assert.equal(program.code, 1);
    assert.match(program.said, new RegExp(`127\\.0\\.0\\.1:${backend.port}: .*in use`));
    assert.deepEqual(program.complaints(), []);
});

test('too few descriptors to start with is said, exit code 1', async () => {
    const backend = await Backend.start();
    const program = new Program({ config: siteOf(backend), prefix: ['prlimit', '--nofile=6:6'] });
    await program.ready();
    await backend.gone();
    assert.equal(program.code, 1);
    assert.match(program.said, /Too many open files/);
    assert.deepEqual(program.complaints(), []);
});

test('an origin that cannot be reached at the start: 502, and served once it is there', async () => {
    const backend = await Backend.start();
    const config = siteOf(backend);
    await backend.gone();
    const program = new Program({ config });
    assert.ok(await program.ready(), program.said);
    assert.equal((await get(program, '/fresh/100/a')).status, 502);
    await backend.back();
    assert.equal((await get(program, '/fresh/100/a')).status, 200);
    assert.deepEqual(await program.stop(), []);
    await backend.gone();
});
