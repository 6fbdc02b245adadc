/** doorstep ai compare: the same prompts on two models, past the cache, and where the first falls short. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { aiFlow, CLIENT_KEY, DIRECT } from './harness/ai.mjs';
import { BINARY } from './harness/node.mjs';
import { freePort } from './harness/server.mjs';

const TWO = {
    local: { dialect: 'openai', config: { rung: 'device', models: ['small'] } },
    cloud: { dialect: 'openai', config: { rung: 'cloud', keys: ['sk-cloud'], models: ['large'] } },
};
const ALIAS = { models: { fast: { candidates: [{ provider: 'local', model: 'small' }, { provider: 'cloud', model: 'large' }] } } };
const options = { needs: 'node', skip: DIRECT && 'needs the node', providers: TWO, ...ALIAS };

function scratchFile(s, text) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'doorstep-compare-'));
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    const file = path.join(folder, 'file');
    fs.writeFileSync(file, text);
    return file;
}

const run = (...args) => new Promise((resolve) => {
    execFile(BINARY, ['ai', 'compare', ...args], { env: { ...process.env, DOORSTEP_AI_KEY: '' } }, (error, stdout, stderr) => {
        resolve({ code: error?.code ?? 0, stdout, stderr });
    });
});

/** Compares the two models on these lines; the result as JSON. */
async function compare(s, lines, ...args) {
    const file = scratchFile(s, lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'));
    const { code, stdout, stderr } = await run('--prompts', file, '--models', 'small,large', '--url', s.base(), '--json', ...args);
    return { code, stderr, ...JSON.parse(stdout) };
}

const said = (local, cloud) => (s) => {
    s.local.always(local);
    s.cloud.always(cloud);
};

aiFlow('both are asked each prompt, with the same words, and nothing is a hit', options, async (s) => {
    said({ text: 'Paris is the capital.' }, { text: 'The capital is Paris.' })(s);
    const result = await compare(s, ['What is the capital of France?', '', 'What is the capital of France?'], '--repeat', '2');
    assert.equal(result.code, 0, result.stderr);
    assert.deepEqual([result.prompts, result.repeat], [2, 2]);
    assert.deepEqual([s.local.count, s.cloud.count], [4, 4]);
    assert.ok(s.local.asked.every((request) => request.json.stream && request.json.messages[0].content === 'What is the capital of France?'));
    assert.deepEqual(result.agreement, { compared: 4, agreed: 4, overlap: 1 });
    assert.deepEqual(result.shortfalls, []);
    for (const [i, name] of ['small', 'large'].entries()) {
        const model = result.models[i];
        assert.deepEqual([model.name, model.requests, model.failed, model.estimated, model.cost_micro], [name, 4, 0, false, null]);
        assert.ok(model.first_token_us.p50 > 0 && model.total_us.p50 >= model.first_token_us.p50, JSON.stringify(model));
        assert.ok(model.first_token_us.p95 >= model.first_token_us.p50 && model.output_tokens > 0);
    }
});

const SHORT = [
    ['failed', { error: 'server' }],
    ['failed', { error: 'bad_request' }],
    ['refused', { text: "I'm sorry, but I can't help with that." }],
    ['cut', { text: 'Paris is', finish: 'length' }],
    ['cut', { pieces: ['Paris ', 'is ', 'the capital'], cut: 2 }],
    ['empty', { text: '' }],
    ['disagrees', { text: 'Lyon, with 3 rivers.' }],
];
for (const [what, script] of SHORT) {
    aiFlow(`where the first falls short: ${what} (${JSON.stringify(script)})`, options, async (s) => {
        said(script, { text: 'The capital is Paris.' })(s);
        const result = await compare(s, ['What is the capital of France?']);
        assert.deepEqual(result.shortfalls.map((one) => [one.prompt, one.run, one.what, one.other_too]), [[1, 1, what, false]]);
        assert.equal(result.code, what === 'failed' || script.cut ? 1 : 0);
        assert.equal(result.models[1].failed, 0);
    });
}

aiFlow('where both fall short the other is named too', options, async (s) => {
    said({ text: '' }, { text: '' })(s);
    const result = await compare(s, ['Say nothing.']);
    assert.deepEqual(result.shortfalls.map((one) => [one.what, one.other_too]), [['empty', true]]);
    assert.deepEqual(result.agreement, { compared: 0, agreed: 0, overlap: 0 });
});

aiFlow('JSON that was asked for has to be JSON', options, async (s) => {
    said({ text: 'Sure! {"a":1}' }, { text: '{"a":1}' })(s);
    const line = { messages: [{ role: 'user', content: 'A as JSON.' }], response_format: { type: 'json_object' }, temperature: 0, model: 'x', stream: false };
    const result = await compare(s, [line, 'A as you like.']);
    assert.deepEqual(result.shortfalls.map((one) => [one.prompt, one.what]), [[1, 'invalid-json']]);
    const first = s.cloud.asked.find((request) => request.json.response_format);
    assert.deepEqual([first.json.model, first.json.stream, first.json.temperature], ['large', true, 0]);
});

aiFlow('a first token that is late is listed', options, async (s) => {
    said({ text: 'The capital is Paris.', firstToken: 50 }, { text: 'The capital is Paris.' })(s);
    const result = await compare(s, ['What is the capital of France?'], '--slow', '0.02');
    assert.equal(result.shortfalls[0].what, 'slow');
    assert.deepEqual((await compare(s, ['What is the capital of France?'], '--slow', '0')).shortfalls, []);
});

aiFlow('cost comes from the prices and the usage that was said', options, async (s) => {
    const usage = { input: 10, output: 20 };
    said({ text: 'Paris.', usage }, { text: 'Paris.', usage })(s);
    const prices = scratchFile(s, JSON.stringify({ currency: 'USD', prices: [{ provider: 'local', model: '*', input: 0, output: 0 },
        { provider: 'cloud', model: 'large', input: 1, output: 10 }] }));
    const result = await compare(s, ['What is the capital of France?', 'And again?'], '--prices', prices);
    assert.deepEqual(result.models.map((model) => model.cost_micro), [0, 420]);
});

aiFlow('two rungs of one alias', options, async (s) => {
    said({ text: 'Paris.' }, { text: 'Paris.' })(s);
    const result = await compare(s, ['What is the capital of France?'], '--models', 'fast@device,fast@cloud');
    assert.equal(result.code, 0);
    assert.deepEqual([s.local.count, s.cloud.count], [1, 1]);
    assert.deepEqual([s.local.last.json.model, s.cloud.last.json.model], ['small', 'large']);
});

aiFlow('the table says the same to people', options, async (s) => {
    said({ text: '' }, { text: 'Paris.' })(s);
    const file = scratchFile(s, 'What is the capital of France?\n');
    const { code, stdout } = await run('--prompts', file, '--models=fast@device,large', '--url', `${s.base()}/v1`);
    assert.equal(code, 0);
    assert.match(stdout, /^1 prompts, each asked 1 time of both$/m);
    assert.match(stdout, /^fast@device +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+ +\S+ +- +0 of 1$/m);
    assert.match(stdout, /where fast@device falls short:\n {2}prompt 1: empty\n/);
});

aiFlow('what is wrong with the command is said, with status 2, and nothing is asked', options, async (s) => {
    const good = scratchFile(s, 'a\n');
    const bad = scratchFile(s, 'a\n{"prompt":"b"}\n');
    for (const [args, words] of [
        [[], /--prompts FILE and --models A,B are needed/], [['--prompts', good, '--models', 'a'], /two names/],
        [['--prompts', '/nowhere', '--models', 'a,b'], /cannot read \/nowhere/], [['--prompts', bad, '--models', 'a,b'], /:2: not a JSON object/],
        [['--prompts', good, '--models', 'a,b', '--url', 'https://x'], /http:\/\//], [['--prompts', good, '--models', 'a,b', '--what'], /unknown option/],
        [['--prompts', good, '--models', 'a,b', '--repeat', 'x'], /--repeat/], [['--prompts', good, '--models', 'a,b', '--prices', '/nowhere'], /nowhere/],
    ]) {
        const { code, stdout, stderr } = await run(...args);
        assert.deepEqual([code, stdout], [2, ''], args.join(' '));
        assert.match(stderr, words);
    }
    assert.equal(s.local.count + s.cloud.count, 0);
});

aiFlow('no node there: status 1, and why', options, async (s) => {
    const result = await compare(s, ['a'], '--url', `http://127.0.0.1:${await freePort()}`);
    assert.equal(result.code, 1);
    assert.match(result.shortfalls[0].detail, /no node answers/);
});

aiFlow('a key is sent, and never shown', options, async (s) => {
    said({ text: 'Paris.' }, { text: 'Paris.' })(s);
    const key = scratchFile(s, `${CLIENT_KEY}\n`);
    const { code, stdout, stderr } = await run('--prompts', scratchFile(s, 'a'), '--models', 'small,large', '--url', s.base(), '--key-file', key);
    assert.equal(code, 0);
    assert.ok(!(stdout + stderr).includes(CLIENT_KEY));
});
