/**
 * Answers to other words: canonical prompts, vectors of an embedding model made for the test, what must never be taken for the same,
 * shadow mode, verification, and what a restart keeps. What may be folded and what must agree is tried on labelled pairs elsewhere.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { aiFlow } from './harness/ai.mjs';
import { scratch } from './harness/flow.mjs';

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

/** Model2Vec's files: words that matter point anywhere, the others are short, so that they hardly turn the mean. */
function writeModel(folder) {
    const small = ['how', 'do', 'explain', 'does', 'what', 'is', 'the', 'a', 'to', '?', '.', ','];
    const words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', ...small, 'vaccines', 'work', 'photosynthesis', 'engines', 'fail'];
    const dims = 64;
    const values = new Float32Array(words.length * dims);
    words.forEach((word, i) => {
        const bytes = createHash('sha512').update(word).digest();
        for (let k = 0; k < dims; k++) {
            values[i * dims + k] = (bytes[k] / 127.5 - 1) * (small.includes(word) ? 0.01 : 1);
        }
    });
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
