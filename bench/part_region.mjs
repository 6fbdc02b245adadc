/**
 * Three nodes of a region: how long from a purge on one of them, and from an UPDATE in PostgreSQL, until each of them answers
 * with the new content. The origin reads what it answers from where it was changed, each time.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { start } from './peers.mjs';
import { freePort, get } from './process.mjs';
import { Line, ms, note, now, purgeTag, quantile, QUICK, say, SERVER_CPU, startRedis, table, work } from './report.mjs';
import { startPostgres } from '../tests/flow/harness/postgres.mjs';

const TIMES = QUICK ? 20 : 100;
const NAMES = ['A', 'B', 'C'];
const OUTBOX = new URL('../examples/purge-on-write/outbox.sql', import.meta.url).pathname;

/** Answers with what `read()` gives. */
async function startOrigin(read) {
    const server = http.createServer((request, response) => {
        Promise.resolve(read()).then((text) => {
            response.writeHead(200, {
                'Cache-Control': 'max-age=86400', 'Cache-Tag': 'product-1', 'Content-Length': text.length,
            });
            response.end(text);
        });
    });
    server.keepAliveTimeout = 600_000;
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    server.unref();
    return server;
}

/** One psql that stays: a statement costs what it costs the server. */
class Psql {
    #child;
    #out = '';
    #err = '';
    #wake = () => {};

    constructor(url) {
        this.#child = spawn('psql', ['-XAtq', '-v', 'ON_ERROR_STOP=1', url], { stdio: 'pipe' });
        this.#child.stderr.on('data', (data) => { this.#err += data; });
        this.#child.stdout.on('data', (data) => { this.#out += data; this.#wake(); });
        this.#child.on('close', () => this.#wake());
        this.#child.stdin.on('error', () => {});
    }

    async query(sql) {
        this.#child.stdin.write(`${sql};\n\\echo --done--\n`);
        while (!this.#out.endsWith('--done--\n')) {
            if (this.#child.exitCode !== null) {
                throw new Error(`psql: ${this.#err}`);
            }
            await new Promise((resolve) => { this.#wake = resolve; });
        }
        const said = this.#out.slice(0, -'--done--\n'.length).trimEnd();
        this.#out = '';
        return said;
    }

    async close() {
        const closed = once(this.#child, 'close');
        this.#child.stdin.end('\\q\n');
        await closed;
    }
}

async function startNodes(origin, redis, purge) {
    const nodes = [];
    for (const name of NAMES) {
        const node = await start('doorstep', work, SERVER_CPU, origin.address().port, {
            more: (_, dir) => ({
                node: { name, region: 'bench' },
                admin: { listen: `127.0.0.1:${adminPorts.shift()}` },
                state: { path: path.join(dir, 'state.db') },
                ...(redis ? { shared: { url: `redis://127.0.0.1:${redis.port}` } } : {}),
                ...(purge ? { purge } : {}),
            }),
        });
        node.line = await Line.open(node.port);
        nodes.push(node);
    }
    return nodes;
}

let adminPorts = [];

/** Asks one node again and again until the body is `wanted`; milliseconds since `from`. */
async function until(node, wanted, from) {
    for (;;) {
        const answer = await node.line.http('GET', '/product');
        if (answer.endsWith(`\r\n\r\n${wanted}`)) {
            return now() - from;
        }
        if (now() - from > 10e6) {
            const { text } = await get(node.admin, '/metrics');
            const told = text.split('\n').filter((said) => /^doorstep_(bus|purge|shared)_/.test(said)).join('\n');
            throw new Error(`a node does not show "${wanted}" within 10 s:\n${answer}\n${told}`);
        }
        await new Promise((resolve) => { setImmediate(resolve); });
    }
}

/** @param change(n, wrote) changes the content to n and purges; calls `wrote()` in the moment the clock is to start */
async function series(nodes, change) {
    const took = nodes.map(() => []);
    for (let n = 1; n <= TIMES; n++) {
        let from;
        let seen;
        const started = new Promise((resolve) => {
            seen = () => { from = now(); resolve(); };
        });
        const changed = change(n, seen);
        await started;
        const times = await Promise.all(nodes.map((node) => until(node, `version ${n}`, from)));
        times.forEach((time, i) => took[i].push(time));
        await changed;
        await delay(20); // so that a write to the shared store is not under way any more
    }
    return took;
}

function line(how, took) {
    const all = took[0].map((_, i) => Math.max(...took.map((times) => times[i])));
    return [how, ...[...took, all].flatMap((times) => [ms(quantile(times, 0.5)), ms(quantile(times, 0.99))])];
}

async function end(nodes, origin) {
    nodes.forEach((node) => node.line.close());
    await Promise.all(nodes.map((node) => node.stop()));
    origin.closeAllConnections();
    origin.close();
}

async function byAdmin(redis) {
    let version = 'version 0';
    note('region: purge on one node');
    const origin = await startOrigin(() => version);
    const nodes = await startNodes(origin, redis);
    const took = await series(nodes, (n, wrote) => {
        version = `version ${n}`;
        wrote();
        return purgeTag(nodes[0], 'product-1');
    });
    await end(nodes, origin);
    return line('`doorstep purge --tag` on A', took);
}

/** With the shared store each purge of each node reaches the others over its stream as well. */
async function byDatabase(redis, pg, how) {
    note(`region: ${how}`);
    const [writer, reader] = [new Psql(pg.url), new Psql(pg.url)];
    let waiting = Promise.resolve();
    const origin = await startOrigin(() => {
        waiting = waiting.then(() => reader.query('SELECT name FROM product WHERE id = 1'));
        return waiting;
    });
    const nodes = await startNodes(origin, redis, { postgres: pg.url });
    const took = await series(nodes, (n, wrote) => {
        wrote();
        return writer.query(`UPDATE product SET name = 'version ${n}' WHERE id = 1`);
    });
    await end(nodes, origin);
    await Promise.all([writer.close(), reader.close()]);
    return line(how, took);
}

export async function region() {
    adminPorts = await Promise.all(Array.from({ length: 9 }, () => freePort()));
    const redis = await startRedis();
    const rows = [await byAdmin(redis)];
    let pg;
    try {
        pg = await startPostgres();
    } catch (error) {
        say(`No PostgreSQL here (${error.message.split('\n')[0]}): its rows are missing.`);
        say();
    }
    if (pg && fs.existsSync(OUTBOX)) {
        try {
            await pg.psql(OUTBOX);
            await pg.query('CREATE TABLE product (id int PRIMARY KEY, name text NOT NULL)');
            await pg.query("INSERT INTO product VALUES (1, 'version 0')");
            await pg.query("CREATE TRIGGER product_purge AFTER UPDATE ON product FOR EACH ROW "
                + "EXECUTE FUNCTION doorstep_purge('tag product-{id}')");
            rows.push(await byDatabase(redis, pg, '`UPDATE` in PostgreSQL'));
            await pg.query("UPDATE product SET name = 'version 0'");
            rows.push(await byDatabase(null, pg, '`UPDATE` in PostgreSQL, no shared store'));
        } finally {
            await pg.stop();
        }
    }
    say(`### From a change until nodes A, B and C show it, ${TIMES} times (goal: under 100 ms)`);
    say();
    table(['change', ...[...NAMES, 'all three'].flatMap((name) => [`${name} p50 ms`, 'p99 ms'])], rows);
    await redis.stop();
}
