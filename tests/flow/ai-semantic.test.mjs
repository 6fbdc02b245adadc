/**
 * Answers to other words: canonical prompts, vectors of an embedding model made for the test, what must never be taken for the same,
 * shadow mode, verification, and what a restart keeps. What may be folded and what must agree is tried on labelled pairs elsewhere.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { aiFlow, CHAT, gate, TWO } from './harness/ai.mjs';
import { makeKey } from './harness/ai-asking.mjs';
import { run, scratch } from './harness/flow.mjs';
import { until } from './harness/server.mjs';

const say = (content, more = {}) => ({ messages: [{ role: 'user', content }], ...more });
const CANONICAL = { route: { semantic: 'canonical', verify: 0 } };

aiFlow('canonical: politeness, case, contractions and articles do not matter', CANONICAL, async (s) => {
    s.miss(await s.chat(say('What is the capital of France?')));
    for (const other of ['what is the capital of france, please', "What's the capital of France?", 'WHAT IS CAPITAL OF FRANCE', 'Could you please tell me what is the capital of France? Thanks']) {
        const answer = await s.chat(say(other));
        if (s.status(answer).hit) {
            const wall = s.wall(answer);
            assert.equal(wall.semantic, 'canonical', other);
            assert.equal(wall.similarity, 1);
            assert.match(answer.said, /answer 1 /);
        }
    }
    s.hit(await s.chat(say('what is the capital of france, please')));
    s.hit(await s.chat(say("What's the capital of France?")));
});

aiFlow('canonical: numbers, negation, names, order, quotes and owners are kept', CANONICAL, async (s) => {
    s.miss(await s.chat(say('Do not enable rule 7 on my server "A b"')));
    for (const other of ['Do enable rule 7 on my server "A b"', 'Do not enable rule 8 on my server "A b"', 'Do not disable rule 7 on my server "A b"',
        'Do not enable rule 7 on your server "A b"', 'Do not enable rule 7 on my server "a b"', 'Do not enable my server "A b" on rule 7']) {
        s.miss(await s.chat(say(other)));
    }
});

aiFlow('canonical: everything else of the request must be the same', CANONICAL, async (s) => {
    s.miss(await s.chat(say('What is the capital of France?')));
    const other = 'what is the capital of france';
    for (const more of [{ temperature: 0.5 }, { model: 'gpt-4o' }, { max_tokens: 5 }, { seed: 1 }, { anything: true },
        { messages: [{ role: 'system', content: 'Be rude.' }, { role: 'user', content: other }] },
        { messages: [{ role: 'user', content: 'hi' }, { role: 'assistant', content: 'hello' }, { role: 'user', content: other }] }]) {
        s.miss(await s.chat(say(other, more)));
    }
    s.hit(await s.chat(say(other)));
});

aiFlow('canonical: in the other form, and for both dialects', CANONICAL, async (s) => {
    s.miss(await s.chat(say('What is the capital of France?', { stream: true })));
    const plain = s.hit(await s.chat(say('Please, what is the capital of france?')));
    assert.equal(plain.json.choices[0].finish_reason, 'stop');
    s.miss(await s.message(say('What is the capital of Spain?')));
    const events = s.hit(await s.message(say('what is the capital of spain', { stream: true })));
    assert.equal(events.events.at(-1).event, 'message_stop');
});

aiFlow('off is off, and tools, images and long conversations are left alone', { route: { semantic: 'off' } }, async (s) => {
    s.miss(await s.chat(say('What is the capital of France?')));
    s.miss(await s.chat(say('what is the capital of france')));
});

aiFlow('tools and long conversations are left alone', CANONICAL, async (s) => {
    const tools = { tools: [{ type: 'function', function: { name: 'f' } }] };
    s.miss(await s.chat(say('What is the capital of France?', tools)));
    s.miss(await s.chat(say('what is the capital of france', tools)));
    const turns = (last) => ({ messages: [...[1, 2, 3, 4].flatMap((i) => [{ role: 'user', content: `q ${i}` }, { role: 'assistant', content: 'a' }]), { role: 'user', content: last }] });
    s.miss(await s.chat(turns('What is the capital of France?')));
    s.miss(await s.chat(turns('what is the capital of france')));
});

aiFlow('shadow: counted and compared, never given', { route: { semantic: 'canonical', shadow: true } }, async (s) => {
    s.miss(await s.chat(say('What is the capital of France?')));
    const other = s.miss(await s.chat(say('what is the capital of france')));
    assert.match(other.said, /answer 2 /);
    assert.equal(s.cloud.count, 2);
});

aiFlow('verify: a hit that turns out wrong is not given again', { route: { semantic: 'canonical', verify: 1 } }, async (s) => {
    s.cloud.next({ text: 'Paris.' }, { text: 'No. It moved to Lyon in 1999.' }, { text: 'Lyon.' });
    s.miss(await s.chat(say('What is the capital of France?')));
    assert.match(s.miss(await s.chat(say('what is the capital of france'))).said, /Lyon/);
    s.miss(await s.chat(say('WHAT IS THE CAPITAL OF FRANCE')));
    assert.equal(s.cloud.count, 3);
});

const SMALL = ['how', 'do', 'explain', 'does', 'what', 'is', 'the', 'a', 'to', '?', '.', ','];

function wordVector(word) {
    const bytes = createHash('sha512').update(word).digest();
    return [...bytes].map((byte) => (byte / 127.5 - 1) * (SMALL.includes(word) ? 0.01 : 1));
}

/** Model2Vec's files: words that matter point anywhere, the others are short, so that they hardly turn the mean. */
function writeModel(folder, ...more) {
    const words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', ...SMALL, 'vaccines', 'work', 'photosynthesis', 'engines', 'fail', ...more];
    const dims = 64;
    const values = new Float32Array(words.length * dims);
    words.forEach((word, i) => values.set(wordVector(word), i * dims));
    const header = Buffer.from(JSON.stringify({ embeddings: { dtype: 'F32', shape: [words.length, dims], data_offsets: [0, values.byteLength] } }));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    fs.mkdirSync(folder, { recursive: true });
    fs.writeFileSync(path.join(folder, 'model.safetensors'), Buffer.concat([length, header, Buffer.from(values.buffer)]));
    fs.writeFileSync(path.join(folder, 'vocab.txt'), `${words.join('\n')}\n`);
    return folder;
}

const model = writeModel(path.join(scratch(), 'model'));
process.on('exit', () => fs.rmSync(path.dirname(model), { recursive: true, force: true }));
const EMBEDDING = { ai: { semantic: { model } }, route: { semantic: 'embedding', verify: 0 } };

aiFlow('embedding: a near prompt whose guards agree', EMBEDDING, async (s) => {
    s.miss(await s.chat(say('How do vaccines work?')));
    const near = s.hit(await s.chat(say('Explain how vaccines work')));
    const wall = s.wall(near);
    assert.equal(wall.semantic, 'embedding');
    assert.ok(wall.similarity >= 0.95 && wall.similarity <= 1, `similarity ${wall.similarity}`);
    s.miss(await s.chat(say('Explain how vaccines fail')));
    s.miss(await s.chat(say('Explain how engines work')));
    s.miss(await s.chat(say('Explain how vaccines do not work')));
});

aiFlow('a tenant finds nothing of another by other words, on either level', { ...EMBEDDING, ai: { ...EMBEDDING.ai, auth: 'keys' } }, async (s) => {
    const [a, b] = [await makeKey(s.node, 'a', { tenant: 'a' }), await makeKey(s.node, 'b', { tenant: 'b' })];
    const as = (key, content, headers) => s.chat(say(content), { Authorization: `Bearer ${key}`, ...headers });
    s.cloud.always({ text: 'the secret of a' });
    s.miss(await as(a, 'How do vaccines work?'));
    assert.equal(s.wall(s.hit(await as(a, 'Explain how vaccines work'))).semantic, 'embedding');
    assert.equal(s.wall(s.hit(await as(a, 'HOW DO VACCINES WORK'))).semantic, 'canonical');
    s.cloud.always({ text: 'nothing' });
    for (const words of ['Explain how vaccines work', 'HOW DO VACCINES WORK', 'how do vaccines work', 'How do vaccines work?']) {
        for (const headers of [{}, { 'Doorstep-Tenant': 'a' }, { 'Doorstep-AI-Threshold': '0.8' }]) {
            assert.equal((await as(b, words, headers)).said, 'nothing');
        }
    }
    s.hit(await as(a, 'How do vaccines work?'), 'memory');
});

aiFlow('embedding: a caller may ask for more likeness, not for less', EMBEDDING, async (s) => {
    s.miss(await s.chat(say('How do vaccines work?')));
    s.miss(await s.chat(say('Explain how vaccines work'), { 'Doorstep-AI-Threshold': '1' }));
    s.miss(await s.chat(say('Explain how engines work'), { 'Doorstep-AI-Threshold': '0.1' }));
});

aiFlow('embedding: the index survives a restart with its answers', { ...EMBEDDING, node: false }, async (s) => {
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    const config = s.config({ config: { disk: { path: path.join(folder, 'disk'), size: '32M', segment: '4M' } } });
    s.node = await s.startNode({ config });
    s.miss(await s.chat(say('How do vaccines work?')));
    await s.node.settled();
    await s.node.stop();
    s.node = await s.startNode({ config });
    const near = s.hit(await s.chat(say('Explain how vaccines work')));
    assert.equal(s.wall(near).semantic, 'embedding');
    assert.equal(s.cloud.count, 1);
});

aiFlow('embedding: an answer that was purged is not found by its neighbours', EMBEDDING, async (s) => {
    s.miss(await s.chat(say('How do vaccines work?')));
    const purge = await s.node.admin('/purge?tag=model:gpt-4o-mini', { method: 'POST' });
    assert.equal(purge.status, 200);
    s.miss(await s.chat(say('Explain how vaccines work')));
});

/* ---- the index and its answers ---- */

const entries = async (s) => Number(/^doorstep_ai_semantic_entries (\d+)$/m.exec((await s.node.admin('/metrics')).text)[1]);

aiFlow('embedding: what is purged or too old leaves the index, asked for or not', { ...EMBEDDING, needs: 'node' }, async (s) => {
    s.miss(await s.chat(say('How do vaccines work?')));
    s.miss(await s.chat({ ...say('How do engines work?'), model: 'gpt-4o' }));
    s.miss(await s.chat(say('How do engines fail?'), { 'cf-aig-cache-ttl': '1' }));
    assert.equal(await entries(s), 3);
    await s.node.admin('/purge?tag=model:gpt-4o', { method: 'POST' });
    await until(async () => await entries(s) === 1, 'the purged one and the old one are gone');
    await s.node.admin('/purge?all=1', { method: 'POST' });
    await until(async () => await entries(s) === 0, 'all are gone');
});

function onDisk(s, more = {}) {
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    return { folder, index: path.join(folder, 'disk', 'semantic.index'),
        config: s.config({ ...more, config: { disk: { path: path.join(folder, 'disk'), size: '32M', segment: '4M' }, state: { path: path.join(folder, 'state.db') } } }) };
}

const holds = (file, text) => fs.existsSync(file) && fs.readFileSync(file).includes(text);

aiFlow('embedding: the index survives kill -9', { ...EMBEDDING, needs: 'node', node: false }, async (s) => {
    const { config, index } = onDisk(s);
    s.node = await s.startNode({ config });
    s.miss(await s.chat(say('How do vaccines work?')));
    await until(() => holds(index, 'How do vaccines work?'), 'the index is written while the node runs');
    assert.equal(fs.statSync(index).mode & 0o777, 0o600);
    await s.node.kill();
    s.node = await s.startNode({ config });
    assert.equal(s.wall(s.hit(await s.chat(say('Explain how vaccines work')))).semantic, 'embedding');
    assert.equal(s.cloud.count, 1);
    await s.node.admin('/purge?all=1', { method: 'POST' });
    await until(() => !holds(index, 'How do vaccines work?'), 'a prompt whose answer is purged leaves the file');
});

aiFlow('embedding: a purge that came while the answer was on disk only', { ...EMBEDDING, needs: 'node', node: false }, async (s) => {
    const { config } = onDisk(s);
    s.node = await s.startNode({ config });
    s.miss(await s.chat(say('How do vaccines work?')));
    await s.node.settled();
    await s.node.stop();
    s.node = await s.startNode({ config });
    assert.equal(await entries(s), 1);
    await s.node.admin('/purge?tag=model:gpt-4o-mini', { method: 'POST' });
    await until(async () => await entries(s) === 0, 'its prompt is gone');
});

aiFlow('embedding: a damaged index, one of nonsense and one of another model are thrown away, each with one line', { ...EMBEDDING, needs: 'node', node: false }, async (s) => {
    const { config, index, folder } = onDisk(s);
    s.node = await s.startNode({ config });
    s.miss(await s.chat(say('How do vaccines work?')));
    await s.node.settled();
    await s.node.stop();
    const good = fs.readFileSync(index);
    const start = async (bytes, semantic) => {
        fs.writeFileSync(index, bytes);
        s.node = await s.startNode({ config: semantic ? { ...config, ai: { ...config.ai, semantic } } : config });
        const count = await entries(s);
        await s.node.stop();
        return [count, s.node.stderr.split('\n').filter((line) => line.includes('semantic.index'))];
    };
    const flipped = Buffer.from(good);
    flipped[good.length - 5] ^= 1;
    for (const [bytes, semantic, line] of [[flipped, undefined, /1 damaged entries/], [good.subarray(0, good.length - 9), undefined, /1 damaged entries/],
        [Buffer.from('nonsense'), undefined, /begins empty/], [Buffer.alloc(0), undefined, /begins empty/],
        [good, { model: writeModel(path.join(folder, 'other'), 'more') }, /another embedding model/]]) {
        const [count, lines] = await start(bytes, semantic);
        assert.equal(count, 0);
        assert.equal(lines.length, 1, lines.join('\n'));
        assert.match(lines[0], line);
    }
    assert.deepEqual(await start(good), [1, []]);
});

aiFlow('embedding: each other part of a request is a hard partition', { ...EMBEDDING, models: { alias: { candidates: [{ provider: 'cloud', model: 'gpt-4o-mini' }] } } }, async (s) => {
    const near = 'Explain how vaccines work';
    const turns = (last, ...before) => ({ messages: [...before.map((content, i) => ({ role: i % 2 ? 'assistant' : 'user', content })), { role: 'user', content: last }] });
    s.miss(await s.chat(say('How do vaccines work?')));
    s.miss(await s.chat(turns('How do vaccines work?', 'hi', 'hello')));
    const parts = {
        temperature: { temperature: 0.5 }, 'top_p': { top_p: 0.9 }, 'max_tokens': { max_tokens: 5 }, seed: { seed: 1 }, stop: { stop: ['x'] }, n: { n: 2 },
        'response_format': { response_format: { type: 'json_object' } }, 'what nobody knows': { anything: { at: 'all' } }, model: { model: 'gpt-4o' },
        'the system prompt': { messages: [{ role: 'system', content: 'Be rude.' }, { role: 'user', content: near }] },
        'earlier turns': turns(near, 'hi', 'Hello'), 'fewer turns': turns(near, 'hi'), 'a name': { messages: [{ role: 'user', content: near, name: 'anna' }] },
        'a role': { messages: [{ role: 'developer', content: 'hi' }, { role: 'user', content: near }] },
        'content in parts': { messages: [{ role: 'user', content: [{ type: 'text', text: near }] }] },
    };
    for (const [what, more] of Object.entries(parts)) {
        assert.equal(s.status(await s.chat({ ...say(near), ...more })).hit, undefined, what);
    }
    s.miss(await s.message(say(near, { model: 'claude-test-1' })));
    s.miss(await s.chat(say(near), { 'OpenAI-Beta': 'other=v1' }));
    for (const more of [{ stream: true }, { metadata: { a: 'b' } }, { model: 'alias' }]) {
        s.hit(await s.chat({ ...say(near), ...more }));
    }
    s.hit(await s.chat(turns(near, 'hi', 'hello')));
});

aiFlow('embedding: images, tools, tool turns and more than four turns are left alone', EMBEDDING, async (s) => {
    const image = [{ type: 'text', text: 'How do vaccines work?' }, { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }];
    const call = { role: 'assistant', content: null, tool_calls: [{ id: 'a', type: 'function', function: { name: 'f', arguments: '{}' } }] };
    const asks = [(text) => ({ messages: [{ role: 'user', content: [{ ...image[0], text }, image[1]] }] }),
        (text) => say(text, { tools: [{ type: 'function', function: { name: 'f' } }] }),
        (text) => ({ messages: [{ role: 'user', content: 'q' }, call, { role: 'tool', tool_call_id: 'a', content: 'x' }, { role: 'user', content: text }] }),
        (text) => ({ messages: [1, 2, 3, 4, 5].map((i) => ({ role: 'user', content: i === 5 ? text : `q ${i}` })) })];
    for (const ask of asks) {
        s.miss(await s.chat(ask('How do vaccines work?')));
        s.miss(await s.chat(ask('Explain how vaccines work')));
    }
    assert.equal(await entries(s), 0);
    const four = (text) => ({ messages: [1, 2, 3, 4].map((i) => ({ role: 'user', content: i === 4 ? text : `q ${i}` })) });
    s.miss(await s.chat(four('How do vaccines work?')));
    s.hit(await s.chat(four('Explain how vaccines work')));
});

for (const scope of ['tenant', 'user', 'public']) {
    aiFlow(`embedding and canonical: scope ${scope}: who gets whose answers`, { ...EMBEDDING, needs: 'node', node: false }, async (s) => {
        const folder = scratch();
        s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
        s.node = await s.startNode({ config: s.config({ ai: { ...EMBEDDING.ai, auth: 'keys' }, route: { ...EMBEDDING.route, scope }, config: { state: { path: path.join(folder, 'state.db') } } }) });
        const keys = {};
        const ask = async (tenant, content, user) => {
            keys[tenant] ??= (await run(['keys', 'create', '--name', 'k', '--tenant', tenant, '--admin', `127.0.0.1:${s.node.adminPort}`])).stdout.trim();
            return s.chat({ ...say(content), user }, { Authorization: `Bearer ${keys[tenant]}` });
        };
        const same = scope === 'public' ? s.hit : s.miss;
        s.miss(await ask('acme', 'How do vaccines work?', 'anna'));
        same(await ask('other', 'Explain how vaccines work', 'anna'));
        same(await ask('acmee', 'how do vaccines work, please', 'anna'));
        same(await ask('acm', 'Explain how vaccines work', 'eanna'));
        (scope === 'user' ? s.miss : s.hit)(await ask('acme', 'Explain how vaccines work', 'bert'));
        s.hit(await ask('acme', 'Explain how vaccines work', 'anna'));
        s.hit(await ask('acme', 'how do vaccines work, please', 'anna'));
    });
}

aiFlow('embedding: off and canonical make no vectors', { ...EMBEDDING, route: { semantic: 'canonical', verify: 0 } }, async (s) => {
    s.miss(await s.chat(say('How do vaccines work?')));
    s.miss(await s.chat(say('Explain how vaccines work')));
    assert.equal(await entries(s), 0);
});

aiFlow('embedding: shadow mode counts and compares; what it learns closes the entry', { ...EMBEDDING, route: { semantic: 'embedding', shadow: true } }, async (s) => {
    s.cloud.next({ text: 'They train the immune system.' }, { text: 'They train the immune system.' });
    s.miss(await s.chat(say('How do vaccines work?')));
    s.miss(await s.chat(say('Explain how vaccines work')));
    const report = async () => JSON.parse((await s.node.admin('/top')).text).ai.semantic.embedding;
    const first = await until(async () => (await report()).verified === 1 && report());
    assert.deepEqual([first.lookups, first.hits, first.shadow_hits, first.wrong, first.false_hit_rate, first.low], [2, 0, 1, 0, 0, 0]);
    assert.ok(first.high > 0.5, 'one verdict says little');
    assert.equal(s.cloud.count, 2);
});

aiFlow('embedding: a verified hit that was wrong raises the thresholds: no more hits there', { ...EMBEDDING, route: { semantic: 'embedding', verify: 1 } }, async (s) => {
    s.cloud.next({ text: 'They train the immune system in 3 steps.' }, { text: 'No. With 5 engines, on Mars.' });
    s.miss(await s.chat(say('How do vaccines work?')));
    s.miss(await s.chat(say('Explain how vaccines work')));
    const semantic = await until(async () => {
        const found = JSON.parse((await s.node.admin('/top')).text).ai.semantic;
        return found.embedding.wrong === 1 && found;
    });
    assert.equal(semantic.embedding.verified, 1);
    assert.ok(semantic.embedding.low > 0 && semantic.embedding.high === 1);
    s.miss(await s.chat(say('Explain how do vaccines work')));
    const after = JSON.parse((await s.node.admin('/top')).text).ai.semantic;
    assert.equal(after.embedding.verified, 1);
    assert.ok(after.refused_by_threshold >= 1);
});

/* ---- vectors of a provider's /v1/embeddings ---- */

const ENDPOINT = {
    providers: { ...TWO, vectors: { dialect: 'openai', config: { rung: 'cloud', region: 'us', keys: ['sk-vectors'], models: ['embed-*'] } } },
    ai: { semantic: { kind: 'endpoint', provider: 'vectors', model: 'embed-small', dimensions: 64, timeout: '60s' } },
    route: { semantic: 'embedding', verify: 0 },
};

/** The mean of words' vectors, as the static model above has it. */
function embed(text) {
    const mean = new Array(64).fill(0);
    for (const word of text.toLowerCase().match(/\w+/g) ?? []) {
        wordVector(word).forEach((value, k) => { mean[k] += value; });
    }
    return mean;
}

const vectorsOf = (change = (floats) => floats) => ({ json }) => ({ type: 'application/json', raw: JSON.stringify({ object: 'list', model: json.model,
    data: [{ object: 'embedding', index: 0, embedding: change(embed(json.input)) }], usage: { prompt_tokens: 7, total_tokens: 7 } }) });

aiFlow('endpoint: vectors of a provider', ENDPOINT, async (s) => {
    s.vectors.always(vectorsOf());
    s.miss(await s.chat(say('How do vaccines work?')));
    const near = s.hit(await s.chat(say('Explain how vaccines work')));
    assert.equal(s.wall(near).semantic, 'embedding');
    assert.deepEqual(s.vectors.last.json, { model: 'embed-small', input: 'Explain how vaccines work', encoding_format: 'float' });
    assert.equal(s.vectors.last.path, '/v1/embeddings');
    assert.equal(s.vectors.count, 2);
    s.hit(await s.chat(say('How do vaccines work?')));
    assert.equal(s.vectors.count, 2, 'who has the answer needs no vector');
    s.miss(await s.chat(say('Explain how engines work')));
});

/** What the endpoint does -> whether later prompts find this one. A request goes on without a vector, always. */
const BAD_VECTORS = {
    'a server error': { error: 'server' }, 'a rate limit': { error: 'rate_limit', retryAfter: 1 }, 'a refused key': { error: 'auth' },
    'other dimensions': vectorsOf((floats) => floats.slice(1)), 'no numbers': vectorsOf((floats) => ['a', ...floats.slice(1)]),
    zeros: vectorsOf((floats) => floats.map(() => 0)), 'an infinite number': vectorsOf((floats) => [1e300, ...floats.slice(1)]),
    'two vectors': () => ({ type: 'application/json', raw: '{"data": [{"embedding": [1]}, {"embedding": [1]}]}' }),
    'no JSON': { raw: '<html>', type: 'text/html' }, 'half an answer': { raw: '{"data": [{"embedding": [1, 2', type: 'application/json' },
    'a cut connection': { cut: 'connect' }, 'a cut head': { cut: 'head' },
    'too much': () => ({ type: 'application/json', raw: JSON.stringify({ data: [{ embedding: new Array(200_000).fill(0.12345) }] }) }),
};
for (const [what, script] of Object.entries(BAD_VECTORS)) {
    aiFlow(`endpoint: ${what}, and the request goes on without a vector`, ENDPOINT, async (s) => {
        s.vectors.always(script);
        const first = s.miss(await s.chat(say('How do vaccines work?')));
        assert.equal(first.status, 200);
        assert.match(first.said, /answer 1 /);
        s.vectors.always(vectorsOf());
        assert.equal(s.miss(await s.chat(say('Explain how vaccines work'))).status, 200);
    });
}

aiFlow('endpoint: too slow, and the request goes on; three times, and it is not asked for a while',
    { ...ENDPOINT, ai: { semantic: { ...ENDPOINT.ai.semantic, timeout: '10ms' } } }, async (s) => {
        const door = gate();
        s.vectors.always({ wait: door.held });
        for (let i = 1; i <= 5; i++) {
            assert.equal(s.miss(await s.chat(say(`How do vaccines work? ${i}`))).status, 200);
        }
        assert.equal(s.vectors.count, 3);
        assert.equal(await s.vectors.last.gone, true, 'nobody waits for the answer any more');
        door.open();
    });

aiFlow('endpoint: a client that leaves takes its question along', ENDPOINT, async (s) => {
    const door = gate();
    s.vectors.always({ wait: door.held });
    const client = await s.asking('/v1/chat/completions', { ...CHAT, ...say('How do vaccines work?') });
    await s.vectors.arrived(1);
    client.close();
    assert.equal(await s.vectors.last.gone, true);
    door.open();
    assert.equal(s.cloud.count, 0);
});

aiFlow('endpoint: personal data that is pinned elsewhere is never sent there',
    { ...ENDPOINT, route: { ...ENDPOINT.route, private: { find: ['email'], do: 'pin', region: 'eu' } },
        models: { fast: { candidates: [{ provider: 'claude', model: 'claude-test-1' }] } } }, async (s) => {
        s.vectors.always(vectorsOf());
        assert.equal(s.miss(await s.chat({ ...say('How do vaccines work for anna@example.com?'), model: 'fast' })).status, 200);
        assert.equal(s.vectors.count, 0);
        s.miss(await s.chat({ ...say('How do vaccines work?'), model: 'fast' }));
        assert.equal(s.vectors.count, 1);
    });

aiFlow('endpoint: what is redacted is redacted there, too',
    { ...ENDPOINT, route: { ...ENDPOINT.route, private: { find: ['email'], do: 'redact' } } }, async (s) => {
        s.vectors.always(vectorsOf());
        s.miss(await s.chat(say('How do vaccines work for anna@example.com?')));
        assert.equal(s.vectors.count, 1);
        assert.doesNotMatch(s.vectors.last.body.toString(), /anna/);
    });

aiFlow('endpoint: its vectors are paid for', { ...ENDPOINT, needs: 'node', node: false }, async (s) => {
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    const prices = path.join(folder, 'prices.json');
    fs.writeFileSync(prices, JSON.stringify({ currency: 'USD', prices: [{ model: 'gpt-4o-mini', input: 1000, output: 2000 }, { model: 'embed-small', input: 10, output: 0 }] }));
    s.node = await s.startNode({ config: s.config({ ai: { ...ENDPOINT.ai, prices }, config: { state: { path: path.join(folder, 'state.db') } } }) });
    s.vectors.always(vectorsOf());
    s.cloud.always({ usage: { input: 10, output: 5 } });
    await s.chat(say('How do vaccines work?'));
    s.hit(await s.chat(say('Explain how vaccines work')));
    const top = await until(async () => {
        const { ai } = JSON.parse((await s.node.admin('/top')).text);
        return ai.requests >= 2 && ai;
    });
    assert.equal(top.money.since_start, 10 * 1000 + 5 * 2000 + 2 * 7 * 10);
    assert.equal(top.failovers, 0, 'a vector is no candidate that failed');
    assert.equal(top.attempts, 1);
});

aiFlow('endpoint: a request in this dialect only', { ...ENDPOINT, needs: 'node', node: false }, async (s) => {
    const start = (semantic) => s.startNode({ config: s.config({ ai: { semantic: { ...ENDPOINT.ai.semantic, ...semantic } } }) });
    await assert.rejects(start({ provider: 'claude' }), /dialect openai/);
    await assert.rejects(start({ provider: 'nobody' }), /names no provider/);
    await assert.rejects(start({ dimensions: 0 }), /size of its vectors/);
    await assert.rejects(start({ model: '' }), /name of its model/);
});

/* ---- an ONNX model ---- */

aiFlow('onnx: without the runtime the node says what is missing', { needs: 'node', node: false }, async (s) => {
    const start = (semantic) => s.startNode({ config: s.config({ ai: { semantic: { model, ...semantic } }, route: { semantic: 'embedding' } }) });
    await assert.rejects(start({ kind: 'onnx' }), /there is no model\.onnx/);
    fs.writeFileSync(path.join(model, 'model.onnx'), 'no model');
    await assert.rejects(start({ kind: 'onnx', library: '/nonexistent/libonnxruntime.so' }), /libonnxruntime|ONNX/);
    await assert.rejects(start({ model: '/nonexistent' }), /\/nonexistent.*no such file/);
});
