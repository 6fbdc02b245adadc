/* Ranges: cut from a complete object, and partial answers kept and completed. */
import assert from 'node:assert/strict';
import { assertForwarded, assertHit, flow, httpDate } from './harness/flow.mjs';

const BODY = 'abcdefghijklmnopqrstuvwxyz';
const LAST = httpDate(-100_000);
const whole = { headers: { 'Cache-Control': 'max-age=600', ETag: '"v"', 'Last-Modified': LAST, 'Content-Type': 'text/x' },
    body: BODY };

flow('single ranges are cut from a complete object', async ({ get, origin }) => {
    origin.answers(whole);
    await get('/a');
    for (const [range, text, shown] of [
        ['bytes=0-3', 'abcd', '0-3'], ['bytes=5-5', 'f', '5-5'], ['bytes=20-', 'uvwxyz', '20-25'],
        ['bytes=-3', 'xyz', '23-25'], ['bytes=24-99', 'yz', '24-25'], ['bytes=-99', BODY, '0-25'],
        ['BYTES=0-0', 'a', '0-0']]) {
        const response = await get('/a', { Range: range });
        assert.equal(response.status, 206, range);
        assert.equal(response.text, text, range);
        assert.equal(response.header('content-range'), `bytes ${shown}/26`);
        assert.equal(response.header('content-length'), String(text.length));
        assert.equal(response.header('etag'), '"v"');
    }
    assert.equal(origin.count, 1);
});

flow('ranges that cannot be satisfied get 416 with the length', async ({ get, origin }) => {
    origin.answers(whole);
    await get('/a');
    for (const range of ['bytes=26-', 'bytes=100-200', 'bytes=-0']) {
        const response = await get('/a', { Range: range });
        assert.equal(response.status, 416, range);
        assert.equal(response.header('content-range'), 'bytes */26');
    }
});

flow('malformed and unknown ranges are ignored', async ({ get, origin }) => {
    origin.answers(whole);
    await get('/a');
    for (const range of ['bytes=3-1', 'bytes=a-b', 'lines=0-3', 'bytes 0-3', 'bytes=', 'bytes=--3', 'bytes=0-3x']) {
        const response = await get('/a', { Range: range });
        assert.equal(response.status, 200, range);
        assert.equal(response.text, BODY);
    }
    assert.equal((await get('/a', { Range: 'bytes=0-3' }, { method: 'HEAD' })).status, 200);
});

flow('several ranges come as multipart/byteranges', async ({ get, origin }) => {
    origin.answers({ ...whole, body: BODY.repeat(100) });
    await get('/a');
    const response = await get('/a', { Range: 'bytes=0-1, -2' });
    assert.equal(response.status, 206);
    const boundary = /^multipart\/byteranges; *boundary="?([^"]+)"?$/.exec(response.header('content-type'))[1];
    assert.equal(response.header('content-range'), undefined);
    assert.ok(response.complete);
    const parts = response.text.split(`--${boundary}`).slice(1);
    assert.equal(parts.length, 3);
    assert.match(parts[0], /content-type: text\/x\r\n/i);
    assert.match(parts[0], /content-range: bytes 0-1\/2600\r\n/i);
    assert.match(parts[0], /\r\n\r\nab\r\n$/);
    assert.match(parts[1], /content-range: bytes 2598-2599\/2600\r\n(?:[^]*\r\n)?\r\nyz\r\n$/i);
    assert.match(parts[2], /^--/);
});

flow('ranges so close that parts would be larger than the gap come as one', async ({ get, origin }) => {
    origin.answers(whole);
    await get('/a');
    const response = await get('/a', { Range: 'bytes=0-3,2-5,7-9' });
    assert.equal(response.status, 206);
    assert.equal(response.header('content-range'), 'bytes 0-9/26');
    assert.equal(response.text, BODY.slice(0, 10));
});

flow('many overlapping ranges are not amplified', async ({ get, origin }) => {
    origin.answers({ ...whole, body: BODY.repeat(1000) });
    await get('/a');
    const response = await get('/a', { Range: `bytes=${Array(200).fill('0-').join(',')}` });
    assert.ok(response.body.length <= 26_000 * 2, `${response.body.length} bytes`);
});

flow('If-Range decides between a part and the whole', async ({ get, origin }) => {
    origin.answers(whole);
    await get('/a');
    for (const [condition, status] of [['"v"', 206], ['"w"', 200], ['W/"v"', 200], [LAST, 206], [httpDate(-5), 200],
        ['nonsense', 200]]) {
        const response = await get('/a', { Range: 'bytes=0-3', 'If-Range': condition });
        assert.equal(response.status, status, condition);
    }
    assert.equal(origin.count, 1);
});

flow('If-None-Match is judged before the range', async ({ get, origin }) => {
    origin.answers(whole);
    await get('/a');
    assert.equal((await get('/a', { Range: 'bytes=0-3', 'If-None-Match': '"v"' })).status, 304);
});

flow('a ranged miss is answered with the right part, whatever the origin makes of it', async ({ get, origin }) => {
    origin.answers(whole);
    const response = await get('/a', { Range: 'bytes=0-3' });
    assert.ok([200, 206].includes(response.status));
    assert.equal(response.text, response.status === 206 ? 'abcd' : BODY);
    assert.ok(response.complete);
});

/** An origin that serves ranges of BODY properly. */
function ranged(exchange) {
    const match = /^bytes=(\d*)-(\d*)$/.exec(exchange.header('range') ?? '');
    if (!match) {
        return whole;
    }
    const from = match[1] ? Number(match[1]) : BODY.length - Number(match[2]);
    const to = match[1] && match[2] ? Math.min(Number(match[2]), 25) : 25;
    return { ...whole, status: 206, body: BODY.slice(from, to + 1),
        headers: { ...whole.headers, 'Content-Range': `bytes ${from}-${to}/26` } };
}

flow('a partial answer is kept and completed', async ({ get, origin }) => {
    origin.answers(ranged);
    const part = await get('/a', { Range: 'bytes=0-9' });
    assert.equal(part.status, 206);
    assert.equal(part.text, BODY.slice(0, 10));
    const all = await get('/a');
    assert.equal(all.status, 200);
    assert.equal(all.text, BODY);
    const before = origin.count;
    const again = await get('/a');
    assertHit(again);
    assert.equal(again.text, BODY);
    assert.equal((await get('/a', { Range: 'bytes=12-14' })).text, 'mno');
    assert.equal(origin.count, before);
});

flow('a stored part answers a range inside it', async ({ get, origin }) => {
    origin.answers(ranged);
    await get('/a', { Range: 'bytes=0-9' });
    const response = await get('/a', { Range: 'bytes=2-4' });
    assert.equal(response.status, 206);
    assert.equal(response.text, 'cde');
    assert.equal(response.header('content-range'), 'bytes 2-4/26');
});

flow('a range outside what is stored is fetched', async ({ get, origin }) => {
    origin.answers(ranged);
    await get('/a', { Range: 'bytes=0-9' });
    const response = await get('/a', { Range: 'bytes=20-25' });
    assert.equal(response.text, 'uvwxyz');
    assert.equal(response.status, 206);
    assertForwarded(response);
});

flow('malformed 206 answers are passed on and never combined', async ({ get, origin }) => {
    const bad = (range) => ({ status: 206, headers: { ...whole.headers, 'Content-Range': range }, body: 'abcd' });
    for (const [at, range] of [null, 'bytes 0-3', 'bytes 3-0/26', 'bytes 0-30/26', 'pages 0-3/26', 'bytes 0-9/26'].entries()) {
        origin.answers(bad(range), whole);
        await get(`/${at}`, { Range: 'bytes=0-3' }).catch(() => null);
        const next = await get(`/${at}`);
        assert.equal(next.status, 200, range);
        assert.equal(next.text, BODY, range);
    }
});

flow('an origin that cannot give the rest of a stored part is asked for the whole', async ({ get, origin }) => {
    origin.answers(ranged);
    await get('/a', { Range: 'bytes=0-9' });
    origin.answers((exchange) => (exchange.header('range')
        ? { status: 416, headers: { 'Content-Range': 'bytes */5' } }
        : { ...whole, body: 'fresh' }));
    const all = await get('/a');
    assert.equal(all.status, 200);
    assert.equal(all.text, 'fresh');
});

flow('parts of different versions are never combined', async ({ get, origin }) => {
    origin.answers(ranged);
    await get('/a', { Range: 'bytes=0-9' });
    const newer = BODY.toUpperCase();
    origin.answers((exchange) => {
        const { headers } = whole;
        if (exchange.header('range') && exchange.header('if-range') !== '"v"') {
            return { status: 206, headers: { ...headers, ETag: '"w"', 'Content-Range': 'bytes 10-25/26' },
                body: newer.slice(10) };
        }
        return { headers: { ...headers, ETag: '"w"' }, body: newer };
    });
    const all = await get('/a');
    assert.equal(all.status, 200);
    assert.equal(all.text, newer);
});
