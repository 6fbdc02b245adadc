/** The harness' PostgreSQL: what the tests of purge on write stand on. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { scratch } from './harness/flow.mjs';
import { startPostgres } from './harness/postgres.mjs';

test('a server answers, keeps what was committed over a crash and a restart, and leaves nothing', async () => {
    const pg = await startPostgres({ args: ['max_connections=12'] });
    const { port, folder } = pg;
    assert.equal(await pg.query('SHOW max_connections'), '12');
    await pg.query('CREATE TABLE product (id int PRIMARY KEY, price int)');
    await pg.query('INSERT INTO product VALUES (1, 10), (2, 20)');
    assert.equal(await pg.query('SELECT * FROM product ORDER BY id'), '1|10\n2|20');
    await assert.rejects(pg.query('SELECT nothing FROM nowhere'), /relation "nowhere" does not exist/);
    await pg.kill();
    await assert.rejects(pg.query('SELECT 1'), /refused/);
    await pg.restart();
    assert.equal(pg.port, port);
    assert.equal(await pg.query('SELECT sum(price) FROM product'), '30');
    await pg.stop();
    assert.equal(fs.existsSync(folder), false);
});

test('a file of SQL, and sessions with transactions that overlap', async () => {
    const pg = await startPostgres();
    const folder = scratch();
    const file = path.join(folder, 'setup.sql');
    fs.writeFileSync(file, 'CREATE TABLE t (n int);\nINSERT INTO t VALUES (1);\n');
    await pg.psql(file);
    const [one, two] = [await pg.session(), await pg.session()];
    await one.query('BEGIN');
    await one.query('INSERT INTO t VALUES (2)');
    assert.equal(await two.query('SELECT count(*) FROM t'), '1');
    await one.query('COMMIT');
    assert.equal(await two.query('SELECT n FROM t ORDER BY n'), '1\n2');
    await assert.rejects(two.query('SELECT 1/0'), /division by zero/);
    assert.equal(await two.query('SELECT 3'), '3');
    pg.pause();
    pg.resume();
    assert.equal(await two.query('SELECT 4'), '4');
    await pg.stop();
    fs.rmSync(folder, { recursive: true });
});
