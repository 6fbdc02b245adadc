/**
 * No prompt and no answer in anything the node writes: marked prompts go through every path and failure, then everything it wrote is
 * searched: what it prints, access log, state, metrics, admin pages. The objects of the disk tier and of the shared store hold answers:
 * that is what they are for. Whoever may read those may read answers; prompts are not in them either.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { aiFlow, CHAT, CLIENT_KEY, DIRECT, gate } from './harness/ai.mjs';
import { scratch } from './harness/flow.mjs';

const PROMPT = 'Qx7PROMPTzz9';
const ANSWER = 'Qx7ANSWERzz9';
const TOOLS = 'Qx7TOOLzz9';
const SECRETS = [PROMPT, ANSWER, TOOLS, CLIENT_KEY, 'sk-test-1', 'sk-test-2', 'sk-ant-test', 'sk-first'];
const OBJECTS = /segment|index|\.seg|\.dat/i;

/** base64 and percent forms of a mark hide nothing. */
function findMarks(where, bytes, secrets = SECRETS) {
    for (const secret of secrets) {
        for (const form of [secret, encodeURIComponent(secret), ...[0, 1, 2].map((shift) =>
            Buffer.from('x'.repeat(shift) + secret).toString('base64').slice(shift ? 4 : 0, -4))]) {
            const at = bytes.indexOf(form);
            assert.ok(at < 0, `${secret} in ${where}: ${JSON.stringify(bytes.toString('latin1', Math.max(0, at - 80), at + 80))}`);
        }
    }
}

function files(folder) {
    return fs.readdirSync(folder, { withFileTypes: true, recursive: true }).filter((entry) => entry.isFile())
        .map((entry) => path.join(entry.parentPath, entry.name));
}

const user = (what) => ({ messages: [{ role: 'system', content: `${PROMPT} system` }, { role: 'user', content: `${PROMPT} ${what}` }] });

const SAID = { text: `${ANSWER} said`, reasoning: [`${ANSWER} thought`], tools: [{ name: 'f', arguments: { a: TOOLS } }] };

/** What providers do, each with a node that knows no failures yet. */
const SCRIPTS = [
    {}, { error: 'bad_request', message: `you said ${PROMPT}` }, { error: 'auth', message: `${PROMPT} ${ANSWER}` },
    { error: 'rate_limit', message: PROMPT, retryAfter: 1 }, { error: 'server', message: PROMPT }, { error: 'overloaded', message: PROMPT },
    { error: 'server', inside: true, at: 1, message: PROMPT }, { cut: 'connect' }, { cut: 'head' }, { cut: 1 }, { cut: 1, reset: true }, { end: 1 },
    { done: false }, { malformed: 1 }, { pieces: [`${ANSWER} `], giant: 1_500_000 }, { raw: `<html>${ANSWER}</html>`, type: 'text/html' },
    { raw: `{"x": "${ANSWER}`, type: 'application/json' }, { raw: `<p>${ANSWER}`, type: 'text/html', status: 500 },
];

async function ordinary(s, script) {
    for (const provider of [s.cloud, s.claude]) {
        provider.always({ ...SAID, ...script });
    }
    const mark = JSON.stringify(script);
    for (const stream of [false, true]) {
        await s.chat({ ...user(`chat ${mark}`), stream, user: `${PROMPT}-user`, metadata: { note: PROMPT }, tools: [{ type: 'function', function: { name: TOOLS } }] });
        await s.message({ messages: [{ role: 'user', content: `${PROMPT} ${mark}` }], system: PROMPT, stream });
        await s.ask('/v1/responses', { model: 'gpt-4o-mini', input: `${PROMPT} ${mark}`, instructions: PROMPT, stream });
        await s.chat({ ...user(`across ${mark}`), model: 'across', stream });
    }
    await s.ask('/v1/embeddings', { model: 'text-embedding-3-small', input: [`${PROMPT} ${mark}`] });
}

/** As bytes, in names; unknown paths and models; nonsense; clients that leave; what is stored. */
async function odd(s) {
    for (const provider of [s.cloud, s.claude]) {
        provider.always(SAID);
    }
    await s.ask('/v1/chat/completions', `{"model": "gpt-4o-mini", "messages": [{"content": "${PROMPT}"`);
    await s.ask('/v1/chat/completions', `{"model": "gpt-4o-mini", "${PROMPT}": 1, "messages": "${PROMPT}"}`);
    await s.ask('/v1/chat/completions', `${PROMPT} no JSON`);
    await s.ask('/v1/messages', Buffer.from([...Buffer.from(`{"${PROMPT}": "`), 0xff, 0x22, 0x7d]));
    await s.ask('/v1/echo/anything', { any: PROMPT });
    await s.chat({ messages: [{ role: 'user', content: PROMPT.repeat(300_000) }] });
    const door = gate();
    s.cloud.next({ ...SAID, wait: door.held });
    const before = s.cloud.count;
    const client = await s.asking('/v1/chat/completions', { ...CHAT, ...user('leaves') });
    await s.cloud.arrived(before + 1);
    client.close();
    assert.equal(await s.cloud.last.gone, true);
    door.open();
    await s.chat(user('stored'));
    s.hit(await s.chat(user('stored')));
    await s.chat(user('stored'), { 'Cache-Control': 'no-store' });
}

const PAGES = ['/metrics', '/why', '/why?url=/v1/chat/completions', '/top', '/top?format=json', '/upstreams', '/healthz', '/readyz', '/ai', '/ai/ledger', '/'];

for (const level of ['info', 'debug']) {
    aiFlow(`nothing the node writes has prompts, answers or keys in it (log level ${level})`, { needs: 'node', node: false,
        models: { across: { candidates: [{ provider: 'claude', model: 'claude-test-1' }, { provider: 'cloud', model: 'gpt-4o-mini' }] } },
        skip: DIRECT && 'needs the node' }, async (s) => {
        const folder = scratch();
        s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
        const log = path.join(folder, 'access.log');
        const config = s.config({ config: { disk: { path: path.join(folder, 'disk'), size: '32M', segment: '4M' }, state: { path: path.join(folder, 'state.db') },
            access_log: { path: log, query: true } } });
        for (const script of [...SCRIPTS, null]) {
            s.node = await s.startNode({ config, env: { DOORSTEP_DEBUG: level === 'debug' ? '1' : undefined } });
            await (script ? ordinary(s, script) : odd(s));
            for (const page of PAGES) {
                const answer = await s.node.admin(page);
                findMarks(`admin ${page}`, Buffer.concat([Buffer.from(answer.lines.join('\n')), answer.body]));
            }
            await s.node.settled();
            await s.node.stop();
            findMarks('stdout', Buffer.from(s.node.stdout));
            findMarks('stderr', Buffer.from(s.node.stderr));
        }
        assert.ok(fs.statSync(log).size > 0, 'there is an access log');
        for (const file of files(folder)) {
            const objects = file.startsWith(path.join(folder, 'disk')) && OBJECTS.test(path.basename(file));
            findMarks(file, fs.readFileSync(file), objects ? SECRETS.filter((secret) => ![ANSWER, TOOLS].includes(secret)) : SECRETS);
        }
    });
}

aiFlow('no key of a provider in any answer, and no key of a client at any provider', { needs: 'node' }, async (s) => {
    for (const script of [{}, { error: 'auth', message: 'Incorrect API key provided: sk-test-1. You said sk-ant-test.' }, { error: 'server' }]) {
        s.cloud.always(script);
        s.claude.always(script);
        for (const answer of [await s.chat(user(script.error)), await s.message({ system: script.error ?? '' }), await s.chat({ ...user(script.error), stream: true })]) {
            assert.doesNotMatch(answer.lines.join('\n') + answer.text, /sk-test-[12]|sk-ant-test/);
        }
    }
    for (const headers of [{ 'x-api-key': CLIENT_KEY }, { 'api-key': CLIENT_KEY }, { Authorization: `bearer ${CLIENT_KEY}` }, { 'x-goog-api-key': CLIENT_KEY },
        { Cookie: `key=${CLIENT_KEY}` }, { 'Proxy-Authorization': `Basic ${CLIENT_KEY}` }]) {
        await s.chat(user(JSON.stringify(Object.keys(headers))), headers);
    }
});
