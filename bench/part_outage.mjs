/**
 * Three upstreams, one of which accepts, reads and never answers: what requests to the other two notice. Both times the third
 * gets the same requests; once it answers them. Nothing is cached.
 */
import { startThree } from './peers.mjs';
import { ask, median } from './process.mjs';
import { LOAD_CPU, note, PEERS, ratio, ROUNDS, say, SECONDS, SERVER_CPU, startOrigin, table, us, work } from './report.mjs';

const RATE = 1500; // to each of the two
const THIRD = 200;

export async function outage() {
    const origins = [];
    for (const delayMs of [0, 0, 0, -1]) {
        origins.push(delayMs < 0 ? await startHanging() : await startOrigin(1024, delayMs, 'Cache-Control: no-store'));
    }
    const [a, b, c, hanging] = origins.map(({ port }) => port);
    const kinds = PEERS.filter((kind) => kind !== 'varnish');
    if (kinds.includes('doorstep')) {
        kinds.push('doorstep, breaker off');
    }
    const setups = [];
    for (const kind of kinds) {
        for (const third of [c, hanging]) {
            const server = await startThree(kind, work, SERVER_CPU, [a, b, third]);
            server.name = kind.includes(',') ? 'Doorstep, breaker off' : server.name;
            setups.push({ server, hangs: third === hanging, p50: [], p99: [], cpu: [], failed: 0 });
        }
    }
    for (let round = 0; round < ROUNDS; round++) {
        for (const setup of setups) {
            note(`outage: round ${round + 1}/${ROUNDS}, ${setup.server.name}, ${setup.hangs ? 'one hangs' : 'all answer'}`);
            await measure(setup);
        }
    }
    say(`### One of three upstreams hangs: ${RATE} requests/s to each of the two others, ${THIRD}/s to it (goal: within 1.10)`);
    say();
    table(['server', 'p50 µs, all answer', 'one hangs', 'ratio', 'p99 µs, all answer', 'one hangs', 'ratio',
        'CPU µs, all answer', 'one hangs', 'ratio', 'failed'], kinds.map((_, i) => {
        const [well, ill] = [setups[2 * i], setups[2 * i + 1]];
        const cells = ['p50', 'p99', 'cpu'].flatMap((name) => {
            const [x, y] = [median(well[name]), median(ill[name])];
            return [us(x), us(y), ratio(y, x)];
        });
        return [well.server.name, ...cells, well.failed + ill.failed];
    }));
    say('CPU: all of the server\'s, for each request to the two. Answers time out after 2 s. The breaker opens on the first five');
    say('that do; without it, as in nginx and HAProxy here, every request to the third waits that long.');
    say();
    await Promise.all([...setups.map(({ server }) => server.stop()), ...origins.map((origin) => origin.stop())]);
}

/** It answers /-/count, and nothing else. */
const startHanging = () => startOrigin(1024, -1);

async function measure(setup) {
    const { port } = setup.server;
    const third = ask(LOAD_CPU, port, '/c/x', { connections: 1024, seconds: SECONDS + 0.3, rate: THIRD });
    await new Promise((resolve) => { setTimeout(resolve, 300); });
    const before = setup.server.cpu();
    const load = { connections: 16, seconds: SECONDS, rate: RATE };
    const two = await Promise.all(['/a/x', '/b/x'].map((target) => ask(LOAD_CPU, port, target, load)));
    const cpu = setup.server.cpu() - before;
    await third;
    const good = two.reduce((sum, run) => sum + run.good, 0);
    setup.failed += two.reduce((sum, run) => sum + run.errors + run.unanswered, 0);
    setup.p50.push(Math.max(...two.map((run) => run.p50)));
    setup.p99.push(Math.max(...two.map((run) => run.p99)));
    setup.cpu.push(cpu / good);
}
