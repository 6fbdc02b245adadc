/** Purges: every kind, by every way in, on every tier of every node; and what is under way meanwhile. */
import assert from 'node:assert/strict';
import { assertForwarded, assertHit, cacheStatus, flow, run } from './harness/flow.mjs';
import { metric, startRegion } from './harness/region.mjs';
import { until } from './harness/server.mjs';

const FRESH = { 'Cache-Control': 'max-age=3600' };
const GROUP = 'http://site.test mine';

/** kind: what is purged, which of TARGETS it concerns. */
const KINDS = {
    url: { target: 'http://site.test/p/a', hits: ['/p/a'] },
    path: { word: 'url', target: '/p/a', hits: ['/p/a'] },
    prefix: { target: 'http://site.test/p', hits: ['/p/a', '/p/a?x=1', '/p/b/c'] },
    'path prefix': { word: 'prefix', target: '/p/b', hits: ['/p/b/c'] },
    tag: { target: 'red', hits: ['/p/a', '/q'] },
    host: { target: 'site.test', hits: ['/p/a', '/p/a?x=1', '/p/b/c', '/pa', '/q'] },
    group: { target: GROUP, hits: ['/q', '/pa'] },
    all: { target: '', hits: ['/p/a', '/p/a?x=1', '/p/b/c', '/pa', '/q'] },
};
const TARGETS = ['/p/a', '/p/a?x=1', '/p/b/c', '/pa', '/q'];
const FIELDS = {
    '/p/a': { 'Cache-Tag': 'blue,red' }, '/q': { 'Surrogate-Key': 'red green', 'Cache-Groups': '"mine"' },
    '/pa': { 'Cache-Tag': 'redder', 'Cache-Groups': '"other", "mine"' }, '/p/b/c': { 'Cache-Tag': 'Red', 'Cache-Groups': '"min"' },
};

function answers(s) {
    s.origin.answers((exchange) => ({ headers: { ...FRESH, ...FIELDS[exchange.target] } }));
}

/** Ways in: each does it on one node and waits until it counts everywhere. */
const WAYS = {
    async cli(region, { word, target, soft }) {
        const args = [word === 'all' ? '--all' : `--${word}`, ...(word === 'all' ? [] : [target]), ...(soft ? ['--soft'] : [])];
        const { code, stdout, stderr } = await run(['purge', '--admin', `127.0.0.1:${region.b.adminPort}`, ...args]);
        assert.equal(code, 0, stderr);
        assert.match(stdout, /applied by 3 of 3 nodes/);
    },
    async admin(region, { word, target, soft }) {
        const query = word === 'all' ? 'all=1' : `${word}=${encodeURIComponent(target)}`;
        const answer = await region.a.admin(`/purge?${query}${soft ? '&soft=1' : ''}`, { method: 'POST' });
        assert.equal(answer.status, 200, answer.text);
        const said = JSON.parse(answer.text);
        assert.deepEqual([said.durable, said.bus, said.nodes, said.applied], [true, 'sent', 3, 3]);
    },
    async stream(region, { word, target, soft }) {
        const before = await Promise.all(region.nodes.map((node) => metric(node, 'purge_marks_total')));
        await region.redis.cli('XADD', 'doorstep:{eu}:purges', '*', 'event', `${soft ? 'soft ' : ''}${word} ${target}`.trim());
        await everywhere(region, before);
    },
    async channel(region, { word, target, soft }) {
        const before = await Promise.all(region.nodes.map((node) => metric(node, 'purge_marks_total')));
        assert.equal(await region.redis.cli('PUBLISH', 'purges', `${soft ? 'soft ' : ''}${word} ${target}`.trim()), 3);
        await everywhere(region, before);
    },
};

function everywhere(region, before) {
    return until(async () => {
        const now = await Promise.all(region.nodes.map((node) => metric(node, 'purge_marks_total')));
        const queued = await Promise.all(region.nodes.map((node) => metric(node, 'state_queued')));
        return now.every((count, i) => count > before[i] && queued[i] === 0); // a message is acknowledged by nobody
    }, 'the purge counts everywhere');
}

/** All nodes have them in memory and on disk: the first from the origin, the others from the store. */
async function fill(region, targets = TARGETS) {
    for (const node of region.nodes) {
        for (const target of targets) {
            await node.get(target);
        }
        await region.written();
    }
}

for (const [way, purge] of Object.entries(WAYS)) {
    for (const [kind, { word = kind, target, hits }] of Object.entries(KINDS)) {
        flow(`${kind} by ${way}: hard, then soft, on three nodes and all their tiers`, { node: false }, async (s) => {
            const region = await startRegion(s, ['a', 'b', 'c'], { config: { purge: { redis_channel: 'purges' } } });
            answers(s);
            await fill(region);
            const before = s.origin.count;
            assert.equal(before, TARGETS.length);
            await purge(region, { word, target, soft: false });
            for (const node of region.nodes) {
                for (const at of TARGETS) {
                    const response = await node.get(at);
                    assert.equal(response.status, 200);
                    const fresh = Number(response.text.split(' ')[1]) > before;
                    assert.equal(fresh, hits.includes(at), `${at} through ${node.name}: ${response.header('cache-status')}`);
                }
            }
            await region.written();
            await purge(region, { word, target, soft: true });
            await s.origin.gone();
            const stale = await region.a.get(hits[0]);
            assert.equal(stale.status, 200, 'soft: still good when the origin fails');
            assert.equal(cacheStatus(stale).hit, true);
            await s.origin.back();
            const count = s.origin.count;
            for (const node of region.nodes) {
                for (const at of TARGETS) {
                    const fresh = Number((await node.get(at)).text.split(' ')[1]) > count;
                    assert.equal(fresh, hits.includes(at), `${at} through ${node.name}`);
                }
            }
            // Once more, of what only disk and store have.
            await region.written();
            await purge(region, { word, target, soft: false });
            const last = s.origin.count;
            await region.restart('c', { kill: true });
            for (const at of TARGETS) {
                const fresh = Number((await region.c.get(at)).text.split(' ')[1]) > last;
                assert.equal(fresh, hits.includes(at), `${at} after kill -9`);
            }
        });
    }
}

flow('PURGE drops a URL on all nodes', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { config: { purge: { method: true } } });
    answers(s);
    await fill(region, ['/p/a', '/q']);
    const answer = await region.b.get('/p/a', {}, { method: 'PURGE' });
    assert.equal(answer.status, 200);
    assert.equal(JSON.parse(answer.text).applied, 2);
    for (const node of region.nodes) {
        assert.notEqual((await node.get('/p/a')).text, 'answer 1');
        assertHit(await node.get('/q'));
        await region.written();
    }
    assert.equal(s.origin.count, 3);
});

flow('Cache-Group-Invalidation of a POST through one node counts on all', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b', 'c']);
    s.origin.answers((exchange) => ({
        headers: exchange.method === 'POST' ? { 'Cache-Group-Invalidation': '"mine", "a b"' }
            : { ...FRESH, 'Cache-Groups': { '/one': '"mine"', '/two': '"x", "a b"', '/three': '"theirs"' }[exchange.target] ?? null },
        body: `${exchange.target} ${exchange.serial}`,
    }));
    for (const target of ['/one', '/two', '/three']) {
        await region.ask(target);
        for (const node of region.nodes) {
            await node.get(target, { Host: 'other.test' });
        }
    }
    await region.written();
    const count = s.origin.count;
    const marks = await Promise.all(region.nodes.map((node) => metric(node, 'purge_marks_total')));
    await region.b.get('/elsewhere', {}, { method: 'POST', body: 'x' });
    // The answer to a write does not wait for the other nodes: theirs follows on the bus.
    await until(async () => {
        const now = await Promise.all(region.nodes.map((node) => metric(node, 'purge_marks_total')));
        return now.every((n, i) => n >= marks[i] + 2) && (await metric(region.b, 'bus_queued')) === 0;
    }, 'all nodes know');
    for (const node of region.nodes) {
        for (const target of ['/one', '/two']) {
            assert.ok(Number((await node.get(target)).text.split(' ')[1]) > count, `${target} through ${node.name}`);
            assertHit(await node.get(target, { Host: 'other.test' }));
        }
        assertHit(await node.get('/three'));
    }
});

flow('a purge of one node counts on the others when its answer is there', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b', 'c']);
    s.origin.answers({ headers: { ...FRESH, 'Cache-Tag': 'x' } });
    for (let round = 0; round < 10; round++) {
        await fill(region, ['/a']);
        const count = s.origin.count;
        const answer = JSON.parse((await region.nodes[round % 3].admin('/purge?tag=x', { method: 'POST' })).text);
        assert.equal(answer.applied, 3);
        for (const node of region.nodes) {
            const response = await node.get('/a');
            await region.written();
            assert.ok(Number(response.text.split(' ')[1]) > count, `round ${round}: ${response.text} of ${count}`);
        }
        assert.equal(s.origin.count, count + 1, 'and the store has the new one');
    }
});

for (const when of ['before its head', 'after its head', 'in its body']) {
    flow(`a fill from before the mark (purged ${when}): no node serves it, nor does the store`, { node: false }, async (s) => {
        const region = await startRegion(s, ['a', 'b', 'c']);
        const asked = region.a.get('/x');
        const exchange = await s.origin.expect('/x');
        const purge = async () => {
            const answer = await region.b.admin('/purge?tag=t', { method: 'POST' });
            assert.equal(JSON.parse(answer.text).applied, 3, answer.text);
        };
        const head = () => exchange.head(200, { ...FRESH, 'Cache-Tag': 't', 'Content-Length': 8 });
        if (when === 'before its head') {
            await purge();
            await head();
        } else {
            await head();
            if (when === 'in its body') {
                await exchange.send('old ');
            }
            await region.a.settled();
            await purge();
            if (when !== 'in its body') {
                await exchange.send('old ');
            }
        }
        if (when === 'before its head') {
            await exchange.send('old ');
        }
        await exchange.send('body');
        assert.equal((await asked).text, 'old body');
        await region.written();
        s.origin.answers({ headers: { ...FRESH, 'Cache-Tag': 't' }, body: 'new' });
        for (const node of [region.c, region.a, region.b]) {
            assert.equal((await node.get('/x')).text, 'new', node.name);
        }
        await region.restart('a', { kill: true });
        assert.equal((await region.a.get('/x')).text, 'new');
    });
}

flow('who asks after a purge does not get the fill from before it', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b']);
    for (const what of ['url=/x', 'tag=t', 'prefix=/', 'all=1', 'host=site.test', `group=${encodeURIComponent('http://site.test g')}`]) {
        const first = region.a.get('/x');
        const old = await s.origin.expect('/x');
        await region.b.admin(`/purge?${what}`, { method: 'POST' });
        const second = region.a.get('/x');
        const fresh = await s.origin.expect('/x');
        const headers = { ...FRESH, 'Cache-Tag': 't', 'Cache-Groups': '"g"' };
        await fresh.reply({ headers, body: `new by ${what}` });
        assert.equal((await second).text, `new by ${what}`);
        await old.reply({ headers, body: 'old' });
        assert.equal((await first).text, 'old');
        await region.written();
        assert.equal((await region.a.get('/x')).text, `new by ${what}`);
        assert.equal((await region.b.get('/x')).text, `new by ${what}`);
        await region.a.admin('/purge?all=1', { method: 'POST' });
    }
});

flow('more marks than are remembered: too much goes, never too little', { node: false }, async (s) => {
    const region = await startRegion(s, ['a', 'b'], { config: { purge: { marks: 64, wait: '5s' } } });
    s.origin.answers((exchange) => ({ headers: { ...FRESH, 'Cache-Tag': `t${exchange.target.slice(1)}` }, body: `${exchange.target} ${exchange.serial}` }));
    const targets = Array.from({ length: 150 }, (_, i) => `/${i}`);
    for (const target of targets) {
        await region.a.get(target);
        await region.b.get(target);
    }
    await region.written();
    const count = s.origin.count;
    const purged = targets.filter((_, i) => i % 2 === 0);
    const client = await Promise.all(purged.map((target, i) => region.nodes[i % 2].admin(`/purge?tag=t${target.slice(1)}`, { method: 'POST' })));
    assert.ok(client.every((answer) => JSON.parse(answer.text).applied === 2));
    await region.restart('b', { kill: true });
    for (const node of region.nodes) {
        for (const target of purged) {
            const response = await node.get(target);
            assert.ok(Number(response.text.split(' ')[1]) > count, `${target} through ${node.name}: ${response.text}`);
        }
        for (const target of targets) {
            assert.ok((await node.get(target)).text.startsWith(`${target} `));
        }
    }
    assert.ok((await metric(region.a, 'purge_folds_total')) > 0, 'marks were folded');
    // What is filled now is kept.
    await region.a.get('/new');
    assertHit(await region.a.get('/new'));
});

flow('what a purge cannot be is refused, and purges nothing', { node: false }, async (s) => {
    const region = await startRegion(s, ['a'], { config: { purge: { redis_channel: 'purges' } } });
    answers(s);
    await region.a.get('/p/a');
    for (const query of ['', 'tag=', 'url=ftp://site.test/', 'url=p/a', 'prefix=http://site.test/p?x=1', 'all=1&tag=red', 'group=mine', 'host=', 'tag=a&tag=b']) {
        const answer = await region.a.admin(`/purge?${query}`, { method: 'POST' });
        assert.equal(answer.status, 400, `${query}: ${answer.text}`);
    }
    for (const line of ['', 'nonsense', 'tag', 'purge everything', 'tag red blue', '\x00', 'x'.repeat(20_000)]) {
        await region.redis.cli('PUBLISH', 'purges', line);
        await region.redis.cli('XADD', 'doorstep:{eu}:purges', '*', 'event', line);
        await region.redis.cli('XADD', 'doorstep:{eu}:purges', '*', 'other', line);
    }
    await until(async () => (await metric(region.a, 'bus_bad_total')) >= 7, 'they were read');
    assertHit(await region.a.get('/p/a'));
    await region.redis.cli('XADD', 'doorstep:{eu}:purges', '*', 'event', 'tag red');
    await until(async () => cacheStatus(await region.a.get('/p/a')).fwd, 'a good one after them counts');
    assertForwarded(await region.a.get('/never'));
});
