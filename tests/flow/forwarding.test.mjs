/* What the origin is told: Via, Forwarded, Host, the path as the client wrote it. */
import assert from 'node:assert/strict';
import { flow } from './harness/flow.mjs';

const pass = { headers: { 'Cache-Control': 'no-store' } };

flow('Via is added in both directions and grows', async ({ get, origin }) => {
    origin.answers({ headers: { ...pass.headers, Via: '1.1 inner' } });
    const response = await get('/a', { Via: '1.0 outer' });
    assert.match(origin.requests[0].header('via'), /^1\.0 outer, *1\.1 test-1$/);
    assert.match(response.header('via'), /^1\.1 inner, *1\.1 test-1$/);
});

flow('via: false leaves it out', { route: { via: false } }, async ({ get, origin }) => {
    origin.answers(pass);
    const response = await get('/a');
    assert.equal(origin.requests[0].header('via'), undefined);
    assert.equal(response.header('via'), undefined);
});

flow('a request that went round in circles is stopped', async ({ get, origin }) => {
    origin.answers(pass);
    const response = await get('/a', { Via: Array(30).fill('1.1 test-1').join(', ') });
    assert.ok(response.status === 508 || response.status === 502 || origin.count === 1);
});

for (const [forwarded, rule] of [
    ['none', { forwarded: undefined, 'x-forwarded-for': undefined }],
    ['forwarded', { forwarded: /^for=127\.0\.0\.1;.*host="?site\.test"?/i, 'x-forwarded-for': undefined }],
    ['x_forwarded', { forwarded: undefined, 'x-forwarded-for': /^127\.0\.0\.1$/, 'x-forwarded-proto': /^http$/,
        'x-forwarded-host': /^site\.test$/ }],
    ['both', { forwarded: /for=/, 'x-forwarded-for': /^127/ }],
]) {
    flow(`forwarded: ${forwarded}`, { route: { forwarded } }, async ({ get, origin }) => {
        origin.answers(pass);
        await get('/a');
        for (const [name, pattern] of Object.entries(rule)) {
            const value = origin.requests[0].header(name);
            if (pattern) {
                assert.match(value ?? '', pattern, name);
            } else {
                assert.equal(value, undefined, name);
            }
        }
    });
}

flow('Host is preserved by default', async ({ get, origin }) => {
    origin.answers(pass);
    await get('/a', { Host: 'shop.test:8080' });
    assert.deepEqual(origin.requests[0].all('host'), ['shop.test:8080']);
});

flow('Host can be set per upstream', { upstream: { host: 'internal.test' } }, async ({ get, origin }) => {
    origin.answers(pass);
    await get('/a', { Host: 'shop.test' });
    assert.deepEqual(origin.requests[0].all('host'), ['internal.test']);
});

flow('the client\'s path reaches the origin unchanged', async ({ get, origin }) => {
    origin.answers(pass);
    const targets = ['/a/../b', '/a//b', '/%61', '/%2F', '/a;b=c', '/a?b?c=/../', '/a?', '/./a', '/ä'.replace('ä', '%c3%a4'),
        "/a'b\"c", '/a|b', '/a[1]{2}'];
    for (const target of targets) {
        const response = await get(target);
        assert.ok(response.status === 200 || response.status === 400, target);
        if (response.status === 200) {
            assert.equal(origin.requests.at(-1).target, target);
        }
    }
    assert.ok(origin.count >= 9);
});

flow('hop-by-hop fields of the request stay here', async ({ get, origin }) => {
    origin.answers(pass);
    await get('/a', { Connection: 'X-Mine, keep-alive', 'X-Mine': '1', 'Keep-Alive': '5', 'Proxy-Connection': 'keep-alive',
        'Proxy-Authorization': 'Basic x', 'HTTP2-Settings': 'x', 'X-Yours': '1' });
    const seen = origin.requests[0];
    for (const name of ['x-mine', 'keep-alive', 'proxy-connection', 'proxy-authorization', 'http2-settings', 'upgrade']) {
        assert.equal(seen.header(name), undefined, name);
    }
    assert.equal(seen.header('x-yours'), '1');
});

flow('end-to-end fields pass unchanged, in order, duplicates included', async ({ get, origin }) => {
    origin.answers(pass);
    await get('/a', { Cookie: ['a=1', 'b=2'], 'X-B': ['2', '1'], Authorization: 'Basic Zm9v', 'Accept-Encoding': 'br' });
    const seen = origin.requests[0];
    assert.deepEqual(seen.all('x-b'), ['2', '1']);
    assert.deepEqual(seen.all('cookie'), ['a=1', 'b=2']);
    assert.equal(seen.header('authorization'), 'Basic Zm9v');
    assert.equal(seen.header('accept-encoding'), 'br');
});
