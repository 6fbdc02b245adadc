/* Metrics, access log, health: what people and machines see of a running node. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { flow, scratch } from './harness/flow.mjs';

const fresh = { headers: { 'Cache-Control': 'max-age=600' } };

function sum(metrics, name, ...labels) {
    let total = 0;
    for (const [series, value] of metrics) {
        if (series.split('{')[0] === name && labels.every((label) => series.includes(label))) {
            total += value;
        }
    }
    return total;
}

flow('/metrics counts requests by route, status class and outcome, and hit ratios', async ({ get, origin, node }) => {
    origin.answers(fresh);
    await get('/a');
    await get('/a');
    await get('/a');
    const response = await node.admin('/metrics');
    assert.equal(response.status, 200);
    assert.match(response.header('content-type'), /^text\/plain; *version=0\.0\.4/);
    const metrics = await node.metrics();
    assert.equal(sum(metrics, 'doorstep_requests_total'), 3);
    assert.equal(sum(metrics, 'doorstep_requests_total', 'outcome="hit"'), 2);
    assert.equal(sum(metrics, 'doorstep_requests_total', '2xx'), 3);
    assert.ok([...metrics.keys()].some((series) => /doorstep_requests_total\{.*route=/.test(series)));
    const ratio = metrics.get('doorstep_hit_ratio');
    assert.ok(ratio > 0.6 && ratio < 0.7, `hit ratio ${ratio}`);
    assert.ok(metrics.has('doorstep_byte_hit_ratio'));
});

flow('/metrics is well-formed: help and type before each family, no family twice', async ({ get, origin, node }) => {
    origin.answers(fresh);
    await get('/a');
    const { text } = await node.admin('/metrics');
    const seen = new Set();
    let family = '';
    for (const line of text.trimEnd().split('\n')) {
        const type = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line);
        if (type) {
            assert.ok(!seen.has(type[1]), `${type[1]} twice`);
            seen.add(type[1]);
            family = type[1];
        } else if (!line.startsWith('#')) {
            assert.match(line, /^[a-z_]+(\{([a-z_]+="([^"\\]|\\.)*",?)*\})? (-?[\d.]+(e[+-]?\d+)?|NaN|\+Inf)$/);
            assert.ok(line.startsWith(family), `${line} outside its family ${family}`);
        }
    }
});

flow('/metrics says why answers are not stored or not used', async ({ get, origin, node }) => {
    origin.answers({ headers: { 'Cache-Control': 'no-store' } });
    await get('/a');
    origin.answers({ headers: { 'Cache-Control': 'private' } });
    await get('/b');
    const text = (await node.admin('/metrics')).text;
    assert.match(text, /"no-store"[^\n]* 1\n/);
    assert.match(text, /"private"[^\n]* 1\n/);
});

flow('/metrics shows latency, fills, coalescing, memory, connections and upstreams', async ({ get, origin, node }) => {
    origin.answers(fresh);
    await get('/a');
    const { text } = await node.admin('/metrics');
    for (const word of ['duration_seconds_bucket', 'fill', 'coalesced|collapsed|waiters', 'evict', 'memory.*bytes|bytes',
        'connections', 'upstream']) {
        assert.match(text, new RegExp(`^doorstep_\\w*(${word})`, 'm'), word);
    }
});

flow('a flood of different URLs and hosts makes no new label values', async ({ get, origin, node }) => {
    origin.answers(fresh);
    await get('/first');
    const before = (await node.metrics()).size;
    for (let i = 0; i < 50; i++) {
        await get(`/x${i}?y=${i}`, { Host: `h${i}.test` });
    }
    const { text } = await node.admin('/metrics');
    assert.doesNotMatch(text, /\/x7|h7\.test/);
    assert.ok((await node.metrics()).size <= before + 20);
});

flow('/healthz and /readyz answer 200', async ({ node }) => {
    assert.equal((await node.admin('/healthz')).status, 200);
    assert.equal((await node.admin('/readyz')).status, 200);
    assert.equal((await node.admin('/nothing')).status, 404);
});

flow('the admin pages are not on the public listener', async ({ get, origin }) => {
    origin.answers(fresh);
    assert.equal((await get('/metrics')).text, 'answer 1');
});

flow('the admin listener asks for its token', { config: { admin: { listen: '127.0.0.1:0', token: 'secret-1' } } },
    async ({ node }) => {
        const refused = await node.admin('/metrics');
        assert.equal(refused.status, 401);
        assert.ok(refused.header('www-authenticate'));
        assert.equal((await node.admin('/metrics', { headers: { Authorization: 'Bearer wrong-12' } })).status, 401);
        assert.equal((await node.admin('/metrics', { headers: { Authorization: 'Bearer secret-1' } })).status, 200);
        assert.equal((await node.admin('/healthz')).status, 200);
    });

/** Runs `body` with an access log file; returns its lines. */
function logged(name, options, body) {
    const folder = scratch();
    process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
    const file = path.join(folder, 'access.log');
    flow(name, { config: { access_log: { path: file, ...options } } }, async (s) => {
        s.origin.answers({ headers: { 'Cache-Control': 'public, max-age=600' } });
        s.lines = async (count) => {
            for (;;) { // a line is written at the end of the turn that sent the answer's last byte
                const text = fs.readFileSync(file, 'utf8');
                const lines = text.split('\n').filter(Boolean);
                if (lines.length >= count) {
                    assert.ok(text.endsWith('\n'));
                    return lines;
                }
                await new Promise(setImmediate);
            }
        };
        s.file = file;
        await body(s);
    });
}

const telltale = { Cookie: 'session=topsecret', Authorization: 'Basic dG9wc2VjcmV0', 'User-Agent': 'flow/1',
    Referer: 'http://user:topsecret@from.test/page?topsecret=1' };

logged('the access log is JSON without query values, cookies and whole addresses', {}, async ({ get, lines }) => {
    await get('/path?token=topsecret', telltale);
    await get('/path?token=topsecret', telltale);
    const [first, second] = (await lines(2)).map((line) => JSON.parse(line));
    const text = JSON.stringify([first, second]);
    assert.doesNotMatch(text, /topsecret|dG9wc2VjcmV0/);
    assert.match(text, /127\.0\.0\.0/);
    assert.doesNotMatch(text, /127\.0\.0\.1/);
    assert.match(text, /flow\/1/);
    assert.match(text, /"GET"/);
    assert.ok(Object.values(first).includes(200));
    assert.match(JSON.stringify(second), /hit/);
});

logged('the log can show queries and addresses when asked to', { query: true, addresses: 'full' }, async ({ get, lines }) => {
    await get('/path?x=visible', telltale);
    const [line] = await lines(1);
    assert.match(line, /x=visible/);
    assert.match(line, /127\.0\.0\.1/);
    assert.doesNotMatch(line, /session=topsecret|dG9wc2VjcmV0/);
});

logged('the combined format reads like those of common servers', { format: 'combined' }, async ({ get, lines }) => {
    await get('/path?x=1', telltale);
    const [line] = await lines(1);
    assert.match(line, /^\S+ - - \[[^\]]+\] "GET \/path\S* HTTP\/1\.1" 200 \d+ "[^"]*" "flow\/1"/);
    assert.doesNotMatch(line, /topsecret/);
});

logged('what a client sends cannot break a log line', {}, async ({ get, lines }) => {
    await get('/%0a"\\{}', { 'User-Agent': '"},{"x":"\\' });
    const [line] = await lines(1);
    JSON.parse(line);
});

logged('SIGUSR1 reopens the file, so that it can be rotated', {}, async ({ get, node, lines, file }) => {
    await get('/before');
    await lines(1);
    fs.renameSync(file, `${file}.1`);
    node.signal('SIGUSR1');
    while (!fs.existsSync(file)) {
        await new Promise(setImmediate);
    }
    await get('/after');
    const [line] = await lines(1);
    assert.match(line, /after/);
    assert.match(fs.readFileSync(`${file}.1`, 'utf8'), /before/);
});

flow('the log can go to standard output', { config: { access_log: { path: 'stdout' } } }, async ({ get, origin, node }) => {
    origin.answers(fresh);
    await get('/to-stdout');
    await node.line(/to-stdout/);
    assert.match(node.stdout, /to-stdout/);
});
