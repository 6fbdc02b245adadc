/** The harness' relay: what the tests of partitions stand on. */
import assert from 'node:assert/strict';
import net from 'node:net';
import { once } from 'node:events';
import { test } from 'node:test';
import { Conn } from './harness/conn.mjs';
import { startRelay } from './harness/relay.mjs';

/** An echo server and a relay before it. */
async function relayed(body) {
    const sockets = new Set();
    const server = net.createServer((socket) => {
        sockets.add(socket);
        socket.on('error', () => {});
        socket.pipe(socket);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const relay = await startRelay(server.address().port);
    try {
        await body(relay, server, () => Conn.connect(relay.port));
    } finally {
        await relay.stop();
        sockets.forEach((socket) => socket.destroy());
        server.close();
    }
}

const echo = async (conn, text) => {
    await conn.send(text);
    return (await conn.bytes(text.length)).toString();
};

test('bytes and ends pass both ways', () => relayed(async (relay, server, connect) => {
    const conn = await connect();
    const big = 'x'.repeat(3_000_000);
    const back = conn.bytes(big.length);
    await conn.send(big);
    assert.equal((await back).length, big.length);
    assert.deepEqual(relay.bytes, { toServer: big.length, toClient: big.length });
    assert.equal(relay.connections, 1);
    conn.end();
    await conn.closed();
}));

test('cut resets and refuses, heal takes connections again', () => relayed(async (relay, server, connect) => {
    const conn = await connect();
    assert.equal(await echo(conn, 'a'), 'a');
    await relay.cut();
    await conn.rest();
    assert.equal(conn.error.code, 'ECONNRESET');
    await assert.rejects(connect(), /ECONNREFUSED/);
    await relay.heal();
    const again = await connect();
    assert.equal(await echo(again, 'b'), 'b');
    again.close();
}));

test('a black hole keeps what was sent until it heals', () => relayed(async (relay, server, connect) => {
    const before = await connect();
    assert.equal(await echo(before, 'a'), 'a');
    relay.blackhole();
    const during = await connect();
    await Promise.all([before.send('b'), during.send('c')]);
    assert.deepEqual(relay.bytes, { toServer: 1, toClient: 1 });
    await relay.heal();
    assert.equal((await before.bytes(1)).toString(), 'b');
    assert.equal((await during.bytes(1)).toString(), 'c');
    before.close();
    during.close();
}));

test('delayed, throttled and corrupted bytes arrive in order', () => relayed(async (relay, server, connect) => {
    const conn = await connect();
    relay.delay(20);
    const start = performance.now(); // at least so late: the one thing about time that holds on any machine
    assert.equal(await echo(conn, 'later'), 'later');
    assert.ok(performance.now() - start >= 39);
    await relay.heal();
    relay.throttle(100_000);
    assert.equal(await echo(conn, 'slow'.repeat(1000)), 'slow'.repeat(1000));
    assert.ok(performance.now() - start >= 59);
    await relay.heal();
    relay.corrupt((bytes, direction) => (direction === 'toClient' ? Buffer.from(bytes.toString().toUpperCase()) : bytes));
    assert.equal(await echo(conn, 'loud'), 'LOUD');
    relay.corrupt(() => null);
    await conn.send('reset');
    await conn.rest();
    assert.equal(conn.error.code, 'ECONNRESET');
    assert.equal(relay.connections, 0);
}));
