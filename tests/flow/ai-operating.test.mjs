/** What operators see of AI providers and can do about them: breakers by hand, lines of the log, counters of second calls. */
import assert from 'node:assert/strict';
import { aiFlow, gate } from './harness/ai.mjs';
import { run } from './harness/flow.mjs';

const upstreams = (s, ...more) => run(['upstreams', '--admin', `127.0.0.1:${s.node.adminPort}`, ...more]);
const page = async (s) => JSON.parse((await s.node.admin('/upstreams')).text);
const user = (content) => ({ messages: [{ role: 'user', content }] });

aiFlow('providers are listed, and their breakers switched by hand', async (s) => {
    const [cloud, claude] = (await page(s)).providers;
    assert.deepEqual([cloud.name, cloud.rung, cloud.region, cloud.credentials, cloud.ready, cloud.resting, cloud.dead, cloud.in_flight, cloud.down],
        ['cloud', 'cloud', 'us', 2, 2, 0, 0, 0, false]);
    assert.deepEqual(cloud.breakers.map((breaker) => [breaker.server, breaker.state, breaker.forced, breaker.in_flight]),
        [[`127.0.0.1:${s.providers.cloud.port}`, 'closed', 'auto', 0]]);
    assert.deepEqual([claude.name, claude.region, claude.credentials], ['claude', 'eu', 1]);
    const opened = await upstreams(s, '--open', 'cloud');
    assert.equal(opened.code, 0, opened.stderr);
    assert.match(opened.stdout, /^cloud {2}DOWN\n {2}provider on cloud, region us; calls under way 0; credentials: 2 ready, 0 resting, 0 dead\n {2}127\.0\.0\.1:\d+ +open \(by hand\)/m);
    assert.match(opened.stdout, /^claude\n/m);
    assert.ok(!/sk-/.test(opened.stdout));
    assert.equal((await s.chat()).status, 503);
    assert.equal((await s.message()).status, 200);
    assert.equal(s.providers.cloud.count, 0);
    assert.equal((await upstreams(s, '--auto', 'cloud')).code, 0);
    assert.equal((await s.chat()).status, 200);
    // Closed by hand, failures do not open it.
    assert.equal((await upstreams(s, '--close', `cloud/127.0.0.1:${s.providers.cloud.port}`)).code, 0);
    s.providers.cloud.always({ error: 'server' });
    for (let i = 0; i < 8; i++) {
        assert.equal((await s.chat(user(`failing ${i}`))).status, 502);
    }
    const [after] = (await page(s)).providers;
    assert.deepEqual([after.down, after.breakers[0].state, after.breakers[0].forced], [false, 'closed', 'closed']);
    const unknown = await upstreams(s, '--open', 'nobody');
    assert.equal(unknown.code, 1);
    assert.match(unknown.stderr, /no such upstream or provider/);
    assert.equal((await upstreams(s, '--open', 'cloud/other:1')).code, 1);
});

aiFlow('an upstream and a provider of one name are told apart', { node: false }, async (s) => {
    s.node = await s.startNode({ config: s.config({ config: {
        upstreams: { cloud: { servers: [s.origin.url] } },
        routes: [{ match: '/v1/*', ai: { ttl: '1h' } }, { match: '/*', upstream: 'cloud' }],
    } }) });
    s.origin.answers({ body: 'hello' });
    const both = await upstreams(s, '--open', 'cloud');
    assert.equal(both.code, 1);
    assert.match(both.stderr, /kind=/);
    assert.equal((await upstreams(s, '--open', 'cloud', '--kind', 'neither')).code, 1);
    assert.equal((await upstreams(s, '--open', 'cloud', '--kind', 'provider')).code, 0);
    assert.deepEqual([(await s.chat()).status, (await s.node.get('/')).status], [503, 200]);
    assert.equal((await upstreams(s, '--auto', 'cloud', '--kind', 'provider')).code, 0);
    assert.equal((await upstreams(s, '--open', 'cloud', '--kind', 'upstream')).code, 0);
    assert.deepEqual([(await s.chat()).status, (await s.node.get('/other')).status], [200, 503]);
    const metrics = await s.node.metrics();
    assert.equal(metrics.get(`doorstep_upstream_breaker_state{upstream="cloud",server="127.0.0.1:${s.origin.port}"}`), 1);
    assert.equal(metrics.get(`doorstep_upstream_breaker_state{provider="cloud",server="127.0.0.1:${s.providers.cloud.port}"}`), 0);
    assert.equal(metrics.get('doorstep_upstream_exchanges_total{provider="cloud"}'), 1);
});

aiFlow('how many credentials are alive is shown, and never one of them', async (s) => {
    s.providers.cloud.next({ error: 'rate_limit' });
    s.providers.claude.next({ error: 'auth' });
    assert.equal((await s.chat()).status, 200);
    assert.equal((await s.message()).status, 502);
    const [cloud, claude] = (await page(s)).providers;
    assert.deepEqual([cloud.ready, cloud.resting, cloud.dead], [1, 1, 0]);
    assert.deepEqual([claude.ready, claude.resting, claude.dead], [0, 0, 1]);
    const shown = (await upstreams(s)).stdout;
    assert.match(shown, /credentials: 1 ready, 1 resting, 0 dead/);
    assert.match(shown, /credentials: 0 ready, 0 resting, 1 dead/);
    assert.ok(!/sk-/.test(shown + JSON.stringify(await page(s))));
});

aiFlow('who asks for a page that is not there is told of those of the gateway', async (s) => {
    const answer = await s.node.admin('/ai');
    assert.equal(answer.status, 404);
    assert.match(answer.text, /\/ai\/keys.*\/ai\/ledger/);
});

aiFlow('a reload tells an upstream and a provider of one name and server apart, too', { node: false }, async (s) => {
    s.node = await s.startNode({ config: s.config({ config: {
        upstreams: { cloud: { servers: [`http://127.0.0.1:${s.providers.cloud.port}`] } },
        routes: [{ match: '/v1/*', ai: { ttl: '1h' } }, { match: '/*', upstream: 'cloud' }],
    } }) });
    assert.equal((await upstreams(s, '--open', 'cloud', '--kind', 'upstream')).code, 0);
    const said = s.node.stderr.length + s.node.stdout.length;
    s.node.signal('SIGHUP');
    await s.node.line(/reloaded/, said);
    const { upstreams: [upstream], providers: [provider] } = await page(s);
    assert.deepEqual([upstream.breakers[0].forced, provider.breakers[0].forced], ['open', 'auto']);
});

/* ---- the log ---- */

const lines = (s, pattern) => (s.node.stdout + s.node.stderr).match(new RegExp(pattern, 'g')) ?? [];

aiFlow('the log says that the breaker of a provider opens and closes', async (s) => {
    s.providers.cloud.always({ cut: 'connect' });
    for (let i = 0; i < 6; i++) {
        assert.ok((await s.chat(user(`lost ${i}`))).status >= 502);
    }
    await s.node.line(/warn: provider cloud: breaker open$/m);
    assert.equal((await upstreams(s, '--close', 'cloud')).code, 0);
    await s.node.line(/info: provider cloud: breaker closed$/m);
    assert.equal((await upstreams(s, '--open', 'claude')).code, 0);
    await s.node.line(/warn: provider claude: breaker open, by hand$/m);
    assert.deepEqual([lines(s, 'provider cloud: breaker open').length, lines(s, 'provider cloud: breaker closed').length], [1, 1]);
});

aiFlow('the log says once that a credential is dead, and nothing of it', async (s) => {
    const { cloud, claude } = s.providers;
    cloud.always((request) => (request.key === 'sk-test-2' ? { error: 'auth', message: 'no such key: sk-test-2' }
        : { error: 'quota' }));
    claude.always({ error: 'billing' });
    await Promise.all(Array.from({ length: 12 }, (_, i) => s.chat(user(`question ${i}`))));
    for (let i = 0; i < 3; i++) {
        assert.equal((await s.message(user(`bill ${i}`))).status, 502);
    }
    await s.node.line(/warn: provider cloud: credential 2 of 2 is dead: refused with 401; it is not used before the next reload/);
    await s.node.line(/warn: provider cloud: credential 1 of 2 is dead: its quota is used up; it is not/);
    await s.node.line(/warn: provider claude: credential 1 of 1 is dead: its quota is used up/);
    assert.equal(lines(s, 'is dead').length, 3);
    assert.ok(!/sk-|no such key/.test(s.node.stdout + s.node.stderr));
});

/* ---- two at once ---- */

const BOTH = [{ provider: 'cloud', model: 'gpt-4o-mini' }, { provider: 'claude', model: 'claude-test-1' }];

aiFlow('second calls are counted, and those of them that won', { models: { fast: { candidates: BOTH, hedge: { enabled: true, after: '20ms', percent: 100 } } } }, async (s) => {
    const { cloud, claude } = s.providers;
    const counted = async () => {
        const metrics = await s.node.metrics();
        const of = (name) => metrics.get(`doorstep_ai_${name}_total{provider="claude",model="claude-test-1"}`);
        return [of('hedges'), of('hedges_won')];
    };
    const ask = (content) => s.chat({ model: 'fast', ...user(content) });
    // The second is left: it is counted though no answer is of it.
    const [one, two] = [gate(), gate()];
    cloud.next({ wait: one.held });
    claude.next({ wait: two.held });
    const asking = ask('the first is faster');
    await claude.arrived(1);
    assert.deepEqual(await counted(), [1, 0]);
    one.open();
    assert.match((await asking).said, /of cloud/);
    assert.equal(await claude.last.gone, true);
    two.open();
    // The second is first.
    const three = gate();
    cloud.next({ wait: three.held });
    assert.match((await ask('the second is faster')).said, /of claude/);
    assert.deepEqual(await counted(), [2, 1]);
    three.open();
    // The first fails while the second is under way.
    const [four, five] = [gate(), gate()];
    cloud.next({ wait: four.held, error: 'server' });
    claude.next({ wait: five.held });
    const third = ask('the first fails');
    await claude.arrived(3);
    four.open();
    five.open();
    assert.match((await third).said, /of claude/);
    assert.deepEqual(await counted(), [3, 2]);
    // Nobody is late.
    assert.match((await s.chat(user('one alone'))).said, /of cloud/);
    assert.deepEqual(await counted(), [3, 2]);
    const { ai } = JSON.parse((await s.node.admin('/top')).text);
    assert.deepEqual([ai.hedges, ai.hedges_won], [3, 2]);
    assert.deepEqual([ai.models.find((model) => model.provider === 'claude').hedges], [3]);
});
