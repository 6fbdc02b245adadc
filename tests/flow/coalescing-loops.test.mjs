/* Many clients, one request to the origin. The whole file runs with one event loop and with four. */
import assert from 'node:assert/strict';
import { assertForwarded, assertHit, cacheStatus, chunk, flow, LAST_CHUNK, SANITIZED } from './harness/flow.mjs';

const fresh = { 'Cache-Control': 'max-age=600', ETag: '"v"' };

for (const threads of [1, 4]) {
    const many = (name, options, body) => {
        if (typeof options === 'function') {
            [options, body] = [{}, options];
        }
        flow(`${name} (${threads} loop${threads > 1 ? 's' : ''})`,
            { ...options, config: { threads, ...options.config } }, body);
    };

    /** Clients that have all asked; the node has seen them (a barrier with one loop, likely with several). */
    const crowd = async ({ connect, node }, count, target, headers = () => ({})) => {
        const clients = await Promise.all(Array.from({ length: count }, () => connect()));
        await Promise.all(clients.map((client, i) => client.ask(target, { headers: headers(i) })));
        await node.settled(2 * threads);
        return clients;
    };

    many('a hundred clients asking for one missing key cause one request', async (s) => {
        const clients = await crowd(s, 100, '/a');
        const exchange = await s.origin.expect('/a');
        await exchange.reply({ headers: fresh, body: 'shared' });
        let collapsed = 0;
        for (const client of clients) {
            const response = await client.response();
            assert.equal(response.status, 200);
            assert.equal(response.text, 'shared');
            collapsed += cacheStatus(response).collapsed ? 1 : 0;
        }
        assert.equal(s.origin.count, 1);
        assert.ok(threads > 1 || collapsed >= 99, `${collapsed} collapsed`);
    });

    many('all of them stream the body as it arrives', async (s) => {
        const clients = await crowd(s, 5, '/a');
        const exchange = await s.origin.expect('/a');
        await exchange.head(200, { ...fresh, 'Transfer-Encoding': 'chunked' });
        const heads = await Promise.all(clients.map((client) => client.head()));
        heads.forEach((head) => assert.equal(head.status, 200));
        for (const piece of ['one', 'two', 'three']) {
            await exchange.send(chunk(piece));
            for (const client of clients) { // nobody gets the next piece before everybody has this one
                assert.equal(await client.line(), piece.length.toString(16));
                assert.equal(await client.line(), piece);
            }
        }
        const late = await s.connect(); // joins while the body arrives
        await late.ask('/a');
        assert.equal((await late.head()).status, 200);
        await exchange.send(LAST_CHUNK);
        for (const client of clients) {
            assert.equal(await client.line(), '0');
        }
        assertHit(await s.get('/a'));
        assert.equal(s.origin.count, 1);
    });

    many('a known length streams as well, to HTTP/1.0 too', async (s) => {
        const client = await s.connect();
        await client.ask('/a', { version: 'HTTP/1.0' });
        const exchange = await s.origin.expect('/a');
        await exchange.head(200, { ...fresh, 'Content-Length': 6 });
        await exchange.send('abc');
        const other = await s.connect();
        await other.ask('/a');
        assert.equal((await client.head()).header('content-length'), '6');
        assert.equal((await client.bytes(3)).toString(), 'abc');
        assert.equal((await other.head()).status, 200);
        assert.equal((await other.bytes(3)).toString(), 'abc');
        await exchange.send('def');
        assert.equal((await client.bytes(3)).toString(), 'def');
        assert.equal((await other.bytes(3)).toString(), 'def');
        assert.equal(s.origin.count, 1);
    });

    many('an uncacheable outcome releases the waiters at once to fetch for themselves', async (s) => {
        const clients = await crowd(s, 5, '/a');
        const first = await s.origin.expect('/a');
        await first.head(200, { 'Cache-Control': 'no-store', 'Transfer-Encoding': 'chunked' });
        const others = [];
        for (let i = 0; i < 4; i++) { // while the first body is still open
            others.push(await s.origin.expect('/a'));
        }
        for (const [i, exchange] of others.entries()) {
            await exchange.reply({ headers: { 'Cache-Control': 'no-store' }, body: `own ${i}` });
        }
        await first.send(chunk('own first') + LAST_CHUNK);
        const texts = await Promise.all(clients.map(async (client) => (await client.response()).text));
        assert.deepEqual(texts.sort(), ['own 0', 'own 1', 'own 2', 'own 3', 'own first']);
        assert.equal(s.origin.count, 5);
    });

    many('an uncacheable answer leaves a pass marker: the next ones do not wait', async (s) => {
        const { get, origin, connect } = s;
        origin.answers({ headers: { 'Cache-Control': 'no-store' } });
        await get('/a');
        origin.byHand();
        const clients = await Promise.all([connect(), connect()]);
        await Promise.all(clients.map((client) => client.ask('/a')));
        const exchanges = [await origin.expect('/a'), await origin.expect('/a')]; // both at the same time
        for (const exchange of exchanges) {
            await exchange.reply({ headers: fresh });
        }
        for (const client of clients) {
            assertForwarded(await client.response(), 'bypass');
        }
        await until(async () => cacheStatus(await get('/a', { 'Cache-Control': 'only-if-cached' })).hit);
    });

    many('a pass marker ends', { route: { pass_marker: '0s' } }, async ({ get, origin }) => {
        origin.answers({ headers: { 'Cache-Control': 'no-store' } }, { headers: fresh });
        await get('/a');
        assert.notEqual(cacheStatus(await get('/a')).fwd, 'bypass');
        assertHit(await get('/a'));
    });

    many('a Vary mismatch releases only the mismatched', async (s) => {
        const clients = await crowd(s, 6, '/a', (i) => ({ 'X-A': String(i % 2) }));
        const first = await s.origin.expect('/a');
        const value = first.header('x-a');
        await first.head(200, { ...fresh, Vary: 'X-A', 'Content-Length': 1 });
        const second = await s.origin.expect('/a');
        assert.notEqual(second.header('x-a'), value);
        await second.reply({ headers: { ...fresh, Vary: 'X-A' }, body: second.header('x-a') });
        await first.send(value);
        for (const [i, client] of clients.entries()) {
            assert.equal((await client.response()).text, String(i % 2));
        }
        assert.equal(s.origin.count, 2);
    });

    many('a slow reader does not slow the others', async (s) => {
        const size = 8 * 1024 * 1024;
        const [slow, quick] = await crowd(s, 2, '/a');
        const exchange = await s.origin.expect('/a');
        await exchange.head(200, { ...fresh, 'Content-Length': size });
        exchange.send(Buffer.alloc(size, 'x'));
        const response = await quick.response(); // slow has read nothing yet
        assert.equal(response.body.length, size);
        assert.equal((await slow.response()).body.length, size);
    });

    many('when the first client leaves the others lose nothing', async (s) => {
        const first = await s.connect();
        await first.ask('/a');
        const exchange = await s.origin.expect('/a');
        const others = await crowd(s, 3, '/a');
        await exchange.head(200, { ...fresh, 'Content-Length': 6 });
        await exchange.send('abc');
        await first.head();
        first.reset();
        await s.node.settled(2 * threads);
        await exchange.send('def');
        for (const client of others) {
            const response = await client.response();
            assert.equal(response.text, 'abcdef');
        }
        assert.equal(s.origin.count, 1);
        assertHit(await s.get('/a'));
    });

    many('when the first client leaves before the head the others lose nothing', async (s) => {
        const first = await s.connect();
        await first.ask('/a');
        const exchange = await s.origin.expect('/a');
        const others = await crowd(s, 3, '/a');
        first.reset();
        await s.node.settled(2 * threads);
        await exchange.reply({ headers: fresh, body: 'still here' });
        for (const client of others) {
            assert.equal((await client.response()).text, 'still here');
        }
        assert.equal(s.origin.count, 1);
    });

    many('a fill nobody wants any more is cancelled', async (s) => {
        const client = await s.connect();
        await client.ask('/a');
        const exchange = await s.origin.expect('/a');
        await exchange.head(200, { ...fresh, 'Content-Length': 100_000_000 });
        await exchange.send('x'.repeat(1000));
        await client.head();
        client.reset();
        await exchange.closed();
        s.origin.answers({ headers: fresh, body: 'again' });
        assert.equal((await s.get('/a')).text, 'again');
    });

    many('a fill nobody wants any more is finished when it is nearly complete', async (s) => {
        const client = await s.connect();
        await client.ask('/a');
        const exchange = await s.origin.expect('/a');
        await exchange.head(200, { ...fresh, 'Content-Length': 1000 });
        await exchange.send('x'.repeat(999));
        await client.head();
        await client.bytes(999);
        client.reset();
        await s.node.settled(2 * threads);
        await exchange.send('y');
        await until(async () => cacheStatus(await s.get('/a', { 'Cache-Control': 'only-if-cached' })).hit);
        assert.equal(s.origin.count, 1);
    });

    many('an origin that fails while many wait fails each of them once', async (s) => {
        const clients = await crowd(s, 5, '/a');
        const exchange = await s.origin.expect('/a');
        exchange.reset();
        for (const client of clients) {
            assert.equal((await client.response()).status, 502);
        }
        assert.ok(s.origin.count <= 5);
    });

    many('a body cut short cuts every reader short and is not stored', async (s) => {
        const clients = await crowd(s, 3, '/a');
        const exchange = await s.origin.expect('/a');
        await exchange.head(200, { ...fresh, 'Content-Length': 10 });
        await exchange.send('12345');
        exchange.end();
        for (const client of clients) {
            const response = await client.response();
            assert.equal(response.complete, false);
            assert.equal(response.text, '12345');
        }
        s.origin.answers({ headers: fresh, body: 'whole' });
        assert.equal((await s.get('/a')).text, 'whole');
    });

    many('requests that revalidate one stale entry share the request', async (s) => {
        s.origin.answers({ headers: { ...fresh, Age: '700' }, body: 'stored' });
        await s.get('/a');
        s.origin.byHand();
        const clients = await crowd(s, 10, '/a');
        const exchange = await s.origin.expect('/a');
        assert.equal(exchange.header('if-none-match'), '"v"');
        await exchange.reply({ status: 304, headers: fresh });
        for (const client of clients) {
            assert.equal((await client.response()).text, 'stored');
        }
        assert.equal(s.origin.count, 2);
    });

    many('many stale-while-revalidate hits start one background request', async (s) => {
        s.origin.answers({ headers: { 'Cache-Control': 'max-age=600, stale-while-revalidate=1000', Age: '700', ETag: '"v"' } });
        await s.get('/a');
        s.origin.byHand();
        const answers = await Promise.all(Array.from({ length: 40 }, () => s.get('/a')));
        answers.forEach((response) => assertHit(response));
        const exchange = await s.origin.expect('/a');
        assert.equal(s.origin.count, 2);
        await exchange.reply({ status: 304, headers: fresh });
        await until(async () => cacheStatus(await s.get('/a')).ttl > 0);
        assert.equal(s.origin.count, 2);
    });

    many('purges and fills at once leave nothing old behind', async (s) => {
        let version = 1;
        s.origin.answers(() => ({ headers: fresh, body: `version ${version}` }));
        for (; version <= 20; version++) {
            const asks = Array.from({ length: 8 }, () => s.get('/a'));
            await s.get('/a', {}, { method: 'POST', body: 'x' });
            await Promise.all(asks);
            await s.get('/a', {}, { method: 'DELETE' }); // nothing fetched before this may be served after it
            assert.equal((await s.get('/a')).text, `version ${version}`);
            await s.get('/a', {}, { method: 'DELETE' });
        }
    });

    many('ranges and HEAD of one missing key do not mix up their answers', async (s) => {
        const body = 'abcdefghij';
        s.origin.answers((exchange) => ({ headers: fresh, body }));
        const [all, part, head] = await Promise.all([s.get('/a'), s.get('/a', { Range: 'bytes=2-3' }),
            s.get('/a', {}, { method: 'HEAD' })]);
        assert.equal(all.text, body);
        assert.equal(part.text, part.status === 206 ? 'cd' : body);
        assert.equal(head.header('content-length'), '10');
    });

    many('waiters per fill are limited; those beyond fetch for themselves', {
        config: { limits: { waiters_per_fill: 2 } } }, async (s) => {
        let open;
        const gate = new Promise((resolve) => { open = resolve; });
        s.origin.answers(async () => { await gate; return { headers: fresh }; });
        const clients = await crowd(s, 6, '/a');
        await until(() => s.origin.count >= 2); // the first and those beyond the limit
        open();
        for (const client of clients) {
            assert.equal((await client.response()).status, 200);
        }
    });

    many('many keys at once, each fetched once', async (s) => {
        const keys = SANITIZED ? 20 : 100;
        s.origin.answers((exchange) => ({ headers: fresh, body: `for ${exchange.target}` }));
        await Promise.all(Array.from({ length: keys * 5 }, async (_, i) => {
            const target = `/${i % keys}`;
            assert.equal((await s.get(target)).text, `for ${target}`);
        }));
        assert.equal(s.origin.count, keys);
    });
}

async function until(condition) {
    while (!await condition()) {
        await new Promise(setImmediate);
    }
}
