/** The scripted provider itself: it does what its scripts say, so that a failing test of the gateway is the gateway's. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answered, CHAT, gate, MESSAGE } from './harness/ai.mjs';
import { Client } from './harness/client.mjs';
import { startProvider } from './harness/provider.mjs';

const RESPONSES = { model: 'm', input: 'Hello?' };
const COMPLETIONS = { model: 'm', prompt: 'Hello?' };

function scripted(name, body) {
    test(name, async () => {
        const provider = await startProvider({ name: 'x' });
        const clients = [];
        const asking = async (path, json) => {
            const client = await Client.open(provider.port);
            clients.push(client);
            await client.ask(path, { method: 'POST', body: JSON.stringify(json), headers: { Authorization: 'Bearer k' } });
            return client;
        };
        const ask = async (path, json) => answered(await (await asking(path, json)).response());
        try {
            await body({ provider, ask, asking, chat: (more) => ask('/v1/chat/completions', { ...CHAT, ...more }),
                message: (more) => ask('/v1/messages', { ...MESSAGE, ...more }) });
        } finally {
            clients.forEach((client) => client.close());
            await provider.stop();
        }
    });
}

scripted('every endpoint says the same, plain and streamed', async ({ provider, ask }) => {
    provider.always({ pieces: ['one ', 'zwö'], reasoning: ['hm'] });
    for (const [path, json] of [['/v1/chat/completions', CHAT], ['/v1/messages', MESSAGE], ['/v1/responses', RESPONSES], ['/v1/completions', COMPLETIONS]]) {
        assert.equal((await ask(path, json)).said, 'one zwö', path);
        const streamed = await ask(path, { ...json, stream: true });
        assert.ok(streamed.streamed && streamed.complete);
        assert.equal(streamed.said, 'one zwö', path);
    }
});

scripted('it notes what it got: bytes, fields, key', async ({ provider, chat }) => {
    await chat({ seed: 1 });
    assert.deepEqual([provider.last.json.seed, provider.last.key, provider.last.endpoint, provider.count], [1, 'k', 'chat', 1]);
    assert.equal(JSON.stringify({ ...CHAT, seed: 1 }), provider.last.body.toString());
});

scripted('scripts in turn, by key and by model, then for all', async ({ provider, chat }) => {
    provider.always({ text: 'always' }).on(/^special/, { text: 'special' }).next({ text: 'first' }, () => ({ text: 'second' }));
    assert.deepEqual([(await chat()).said, (await chat()).said, (await chat()).said, (await chat({ model: 'special-1' })).said],
        ['first', 'second', 'always', 'special']);
    provider.key('k', { error: 'auth' });
    assert.equal((await chat()).status, 401);
});

scripted('errors of both dialects', async ({ provider, chat, message }) => {
    for (const [kind, status] of [['rate_limit', 429], ['quota', 429], ['server', 500], ['overloaded', 529], ['bad_request', 400]]) {
        provider.always({ error: kind, retryAfter: 7, message: 'words' });
        for (const answer of [await chat(), await message()]) {
            assert.deepEqual([answer.status, answer.header('retry-after'), answer.json.error.message], [status, '7', 'words']);
        }
    }
    provider.always({ error: 'server', inside: true, at: 1, pieces: ['a ', 'b'] });
    assert.equal((await chat()).status, 200);
    assert.match((await chat({ stream: true })).text, /"a "[^]*data: \{"error"/);
    assert.match((await message({ stream: true })).text, /"a "[^]*event: error/);
});

scripted('connections are cut where the script says', async ({ provider, asking, chat }) => {
    provider.always({ cut: 'connect' });
    await assert.rejects(chat(), /without a response/);
    provider.always({ cut: 'head' });
    const headed = await (await asking('/v1/chat/completions', { ...CHAT, stream: true })).response();
    assert.deepEqual([headed.status, headed.complete, headed.text], [200, false, '']);
    provider.always({ pieces: ['a ', 'b ', 'c'], cut: 2 });
    const cut = await chat({ stream: true });
    assert.deepEqual([cut.complete, cut.said], [false, 'a b ']);
    provider.always({ done: false });
    const open = await chat({ stream: true });
    assert.ok(open.complete && !open.text.includes('[DONE]'));
});

scripted('pieces wait, bytes trickle, comments keep alive', async ({ provider, asking, chat }) => {
    const door = gate();
    provider.next({ pieces: ['a ', 'b'], between: door.at(1) });
    const client = await asking('/v1/chat/completions', { ...CHAT, stream: true });
    const head = await client.head();
    assert.equal(provider.count, 1);
    door.open();
    await client.body(head);
    assert.match(head.text, /\[DONE\]/);
    provider.always({ pieces: ['ü漢🎈'], bytes: 1, crlf: true, keepAlives: 2 });
    assert.equal((await chat({ stream: true })).said, 'ü漢🎈');
    assert.match((await chat({ stream: true })).text, /^: keep-alive\r\n\r\n: keep-alive/);
});
