/** The harness' Redis: what the tests of the shared tier stand on. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { startRedis, startRedisCluster } from './harness/redis.mjs';

const within = (ms, promise) => Promise.race([promise.then(() => true), new Promise((resolve) => {
    setTimeout(resolve, ms, false).unref();
})]);

test('a server answers, is flushed, and comes back empty on its port', async () => {
    const redis = await startRedis({ args: ['--maxmemory', '8mb'] });
    const { port, folder } = redis;
    assert.equal(redis.url, `redis://127.0.0.1:${port}`);
    assert.equal(await redis.cli('SET', 'a', 'one'), 'OK');
    assert.deepEqual(await redis.raw('GET', 'a'), Buffer.from('one'));
    assert.deepEqual(await redis.cli('MGET', 'a', 'none'), ['one', null]);
    assert.deepEqual(await redis.cli('CONFIG', 'GET', 'maxmemory'), ['maxmemory', '8388608']);
    await assert.rejects(redis.cli('NOSUCH'), /ERR unknown command/);
    await redis.flush();
    assert.equal(await redis.cli('DBSIZE'), 0);
    await redis.cli('SET', 'b', '1');
    await redis.restart();
    assert.equal(redis.port, port);
    assert.equal(await redis.cli('GET', 'b'), null);
    await redis.kill();
    await assert.rejects(redis.cli('PING'));
    await redis.start();
    assert.equal(await redis.cli('PING'), 'PONG');
    await redis.stop();
    assert.equal(fs.existsSync(folder), false);
});

test('a paused server keeps its connections and answers when it goes on', async () => {
    const redis = await startRedis();
    await redis.cli('PING');
    redis.pause();
    const answer = redis.cli('PING');
    assert.equal(await within(50, answer), false);
    redis.resume();
    assert.equal(await answer, 'PONG');
    redis.pause();
    await redis.stop();
});

test('TLS and a password', async () => {
    const redis = await startRedis({ tls: true, password: 'secret' });
    assert.match(redis.url, /^rediss:\/\/:secret@127\.0\.0\.1:\d+$/);
    assert.equal(await redis.cli('PING'), 'PONG');
    redis.password = 'wrong';
    await assert.rejects(redis.client(), /WRONGPASS/);
    await redis.stop();
});

test('subscribers hear what is published', async () => {
    const redis = await startRedis();
    const client = await redis.client();
    const heard = new Promise((resolve) => {
        client.listen((reply) => (reply[0] === 'message' ? resolve(reply) : redis.cli('PUBLISH', 'c', 'hello')), 'SUBSCRIBE', 'c');
    });
    assert.deepEqual(await heard, ['message', 'c', 'hello']);
    client.close();
    await redis.stop();
});

test('a cluster of three serves every slot, redirects, and moves slots', async () => {
    const cluster = await startRedisCluster();
    const owners = new Set();
    for (const key of ['a', 'b', 'c', 'd', 'e', 'f']) {
        assert.equal(await cluster.cli(key, 'SET', key, '1'), 'OK');
        owners.add(await cluster.owner(key));
    }
    assert.equal(owners.size, 3);
    const from = await cluster.owner('a');
    const to = cluster.nodes.find((node) => node !== from);
    const slot = await cluster.slot('a');
    await assert.rejects(to.cli('GET', 'a'), new RegExp(`MOVED ${slot} 127.0.0.1:${from.port}`));
    await cluster.beginMove(slot, to);
    await assert.rejects(from.cli('GET', '{a}other'), new RegExp(`ASK ${slot} 127.0.0.1:${to.port}`));
    await cluster.finishMove(slot, to);
    await assert.rejects(from.cli('GET', 'a'), new RegExp(`MOVED ${slot} 127.0.0.1:${to.port}`));
    assert.equal(await to.cli('GET', 'a'), '1');
    await cluster.stop();
});
