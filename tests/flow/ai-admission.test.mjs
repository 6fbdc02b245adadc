/**
 * Who may ask what: API keys and scopes, rules of key, tenant and route, requests and tokens a minute. Nobody is asked for what is refused,
 * and no message repeats a key.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { aiFlow, CHAT, MESSAGE } from './harness/ai.mjs';
import { admin, ask, CHAT_PATH, given, makeKey, message, refused } from './harness/ai-asking.mjs';
import { run, scratch } from './harness/flow.mjs';
import { until } from './harness/server.mjs';

const KEYS = { needs: 'node', ai: { auth: 'keys' } };

aiFlow('a key is asked for, found in each of three fields, and never sent on', KEYS, async (s) => {
    const key = await makeKey(s.node, 'one');
    const missing = refused(s, await ask(s, null), 401, { type: 'authentication_error', words: /API key is needed/ });
    assert.equal(missing.header('www-authenticate'), 'Bearer');
    assert.equal(missing.json.error.code, 'invalid_api_key');
    refused(s, await message(s, null), 401, { type: 'authentication_error', words: /API key is needed/ });
    refused(s, await ask(s, `${key.slice(0, -1)}x`), 401, { words: /not known/, key });
    refused(s, await ask(s, `${key.slice(0, 20)}${key.slice(20).toLowerCase().replace(/.$/, '0')}`), 401, { key });
    refused(s, await ask(s, 'sk-test-1'), 401, { words: /not known/ }); // the provider's is none of ours
    refused(s, await ask(s, key, { as: 'Authorization' }), 401);
    refused(s, await ask(s, key, { as: 'Cookie' }), 401, { key });
    refused(s, await ask(s, null, { at: `${CHAT_PATH}?api-key=${key}` }), 401, { key });
    refused(s, await ask(s, key, { at: `/v1/files?key=${key}`, method: 'GET', body: undefined }), 400, { words: /URL/, key });
    refused(s, await ask(s, null, { body: '{"model' }), 401);
    refused(s, await ask(s, null, { at: '/v1/models', method: 'GET', body: undefined }), 401);
    for (const as of ['bearer', 'x-api-key', 'api-key']) {
        given(s, await ask(s, key, { as, body: { ...CHAT, seed: s.asked ?? 0 } }));
    }
    given(s, await message(s, key));
    given(s, await message(s, key, { as: 'bearer', body: { ...MESSAGE, temperature: 0 } }));
    for (const request of [...s.cloud.requests, ...s.claude.requests]) {
        const wire = request.rawHeaders.join('\n') + request.url + request.body;
        assert.ok(!wire.includes(key.slice(3)), 'the key does not reach a provider');
        assert.ok(s.keys[request.headers['x-api-key'] ? 'claude' : 'cloud'].includes(request.key));
    }
});

aiFlow('a revoked key and an expired one are told so, an unknown one is not', KEYS, async (s) => {
    const gone = await makeKey(s.node, 'gone');
    given(s, await ask(s, gone));
    assert.equal((await run(['keys', 'revoke', gone.slice(0, 11), ...admin(s.node)])).code, 0);
    refused(s, await ask(s, gone), 401, { words: /revoked/, key: gone });
    refused(s, await ask(s, `${gone.slice(0, 12)}${gone.slice(12).split('').reverse().join('')}`), 401, { words: /not known/, key: gone });
    const short = await makeKey(s.node, 'short', { expires: '1s' });
    await until(async () => (await ask(s, short)).status === 401, 'it expires');
    s.asked = s.cloud.count;
    refused(s, await ask(s, short), 401, { words: /expired/, key: short });
});

aiFlow('a key asks for what its scopes say', KEYS, async (s) => {
    const nothing = await makeKey(s.node, 'a', { scopes: 'models' });
    refused(s, await ask(s, nothing), 403, { type: 'permission_error', words: /scope "inference"/ });
    refused(s, await message(s, nothing), 403, { type: 'permission_error', words: /scope "inference"/ });
    const embeds = await makeKey(s.node, 'b', { scopes: 'embeddings' });
    refused(s, await ask(s, embeds), 403);
    refused(s, await ask(s, embeds, { at: '/v1/models', method: 'GET', body: undefined }), 403, { words: /scope "models"/ });
    given(s, await ask(s, embeds, { at: '/v1/embeddings', body: { model: 'text-embedding-3-small', input: 'hello' } }));
    const usual = await makeKey(s.node, 'c');
    // What we do not know may list what other tenants have at the provider.
    refused(s, await ask(s, usual, { at: '/v1/files', method: 'GET', body: undefined }), 403, { words: /scope "other"/ });
    const other = await makeKey(s.node, 'd', { scopes: 'other' });
    const answer = await ask(s, other, { at: '/v1/files', method: 'GET', body: undefined });
    assert.equal(answer.status, 200);
});

aiFlow('without keys everybody is one tenant, whatever fields say', { needs: 'node' }, async (s) => {
    given(s, await ask(s, null));
    const spoofed = { 'Doorstep-Tenant': 'a', 'X-Tenant': 'a', 'X-Doorstep-Tenant': 'a', 'Doorstep-Key': 'a' };
    s.hit(await ask(s, null, { headers: spoofed }));
});

/* ---- rules ---- */

/** A window of the week that is not now. */
function otherHours() {
    const now = new Date();
    return `${['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'][(now.getUTCDay() + 3) % 7]} 09:00-17:00`;
}

const RULES = {
    models: { models: { allow: ['gpt-*', 'fast'], deny: ['*-secret*'] } },
    short: { max_tokens: 50 },
    small: { context_bytes: 400 },
    tokens: { context: 60 },
    plain: { tools: false, images: false },
    shaped: { force: ['temperature=0', 'reasoning_effort="low"'], forbid: ['logit_bias', 'n'] },
    later: { hours: [otherHours()] },
    now: { hours: ['00:00-24:00'], utc_offset: '+05:30' },
    eu: { regions: ['eu'] },
    none: { regions: ['antarctica'] },
    renamed: { models: { aliases: ['gpt-4=fast', 'claude-test-1=gpt-4o-mini', 'good=sneaky'], allow: ['fast', 'gpt-4o-mini'] } },
};
const MODELS = { fast: { candidates: [{ provider: 'cloud', model: 'gpt-4o-mini' }, { provider: 'claude', model: 'claude-test-1' }] },
    sneaky: { candidates: [{ provider: 'cloud', model: 'gpt-secret-1' }] } };
const PROVIDERS = {
    cloud: { dialect: 'openai', config: { rung: 'cloud', region: 'us', keys: ['sk-test-1', 'sk-test-2'] } },
    claude: { dialect: 'anthropic', config: { rung: 'cloud', region: 'eu', keys: ['sk-ant-test'] } },
};
const RULED = { needs: 'node', providers: PROVIDERS, models: MODELS, ai: { auth: 'keys', rules: RULES } };

aiFlow('models: what is allowed by name, and denied through an alias too', RULED, async (s) => {
    const key = await makeKey(s.node, 'a', { rules: 'models' });
    refused(s, await message(s, key), 403, { type: 'permission_error', words: /model is not allowed/, key });
    refused(s, await ask(s, key, { body: { ...CHAT, model: 'gpt-secret-1' } }), 403);
    refused(s, await ask(s, key, { body: { ...CHAT, model: 'GPT-SECRET-1' } }), 403);
    refused(s, await ask(s, key, { body: { ...CHAT, model: 'sneaky' } }), 403);
    refused(s, await ask(s, key, { body: { ...CHAT, model: 'cloud/gpt-secret-1' } }), 403);
    given(s, await ask(s, key));
    given(s, await ask(s, key, { body: { ...CHAT, model: 'fast', seed: 1 } }));
    const list = await ask(s, key, { at: '/v1/models', method: 'GET', body: undefined });
    assert.deepEqual(list.json.data.map((model) => model.id), ['fast']);
    assert.equal((await ask(s, key, { at: '/v1/models/sneaky', method: 'GET', body: undefined })).status, 404);
    const all = await makeKey(s.node, 'b');
    assert.equal((await ask(s, all, { at: '/v1/models', method: 'GET', body: undefined })).json.data.length, 2);
    const other = await makeKey(s.node, 'c', { rules: 'models', scopes: 'other' });
    refused(s, await ask(s, other, { at: '/v1/images/generations', body: { model: 'img-secret', prompt: 'x' } }), 403);
    refused(s, await ask(s, other, { at: '/v1/audio/transcriptions', body: 'no JSON' }), 403, { words: /interface/ });
});

aiFlow('names that mean other models, for some', RULED, async (s) => {
    const key = await makeKey(s.node, 'a', { rules: 'renamed' });
    given(s, await ask(s, key, { body: { ...CHAT, model: 'gpt-4' } }));
    assert.equal(s.cloud.last.json.model, 'gpt-4o-mini');
    s.hit(await ask(s, key, { body: { ...CHAT, model: 'fast' } }));
    refused(s, await ask(s, key, { body: { ...CHAT, model: 'good' } }), 403, { words: /model is not allowed/ });
    const body = JSON.stringify({ ...CHAT, seed: 1, model: 'XX' }).replace('XX', 'claude-\\u0074est-1');
    given(s, await ask(s, key, { body }));
    assert.deepEqual(s.cloud.last.json, { ...CHAT, seed: 1, model: 'gpt-4o-mini' });
    const plain = await makeKey(s.node, 'b');
    given(s, await ask(s, plain, { body: { ...CHAT, model: 'gpt-4' } }));
    assert.equal(s.cloud.last.json.model, 'gpt-4');
});

aiFlow('a limit of the answer is a bound, and said where the request says none', RULED, async (s) => {
    const key = await makeKey(s.node, 'a', { rules: 'short' });
    refused(s, await ask(s, key, { body: { ...CHAT, max_tokens: 51 } }), 400, { words: /at most 50/ });
    refused(s, await ask(s, key, { body: { ...CHAT, max_completion_tokens: 51 } }), 400);
    refused(s, await message(s, key), 400, { type: 'invalid_request_error', words: /at most 50/ });
    given(s, await ask(s, key));
    assert.equal(s.cloud.last.json.max_tokens, 50);
    given(s, await ask(s, key, { body: { ...CHAT, max_tokens: 7 } }));
    assert.equal(s.cloud.last.json.max_tokens, 7);
    s.hit(await ask(s, key, { body: { ...CHAT, max_tokens: 50 } }));
});

aiFlow('prompts are no longer than they may be', RULED, async (s) => {
    const long = { ...CHAT, messages: [{ role: 'user', content: 'word '.repeat(100) }] };
    for (const rules of ['small', 'tokens']) {
        const key = await makeKey(s.node, rules, { rules });
        refused(s, await ask(s, key, { body: long }), 400, { words: /longer than is allowed/ });
        given(s, await ask(s, key, { body: { ...CHAT, seed: s.asked ?? 0 } }));
    }
});

aiFlow('tools and images are refused where they are not allowed', RULED, async (s) => {
    const key = await makeKey(s.node, 'a', { rules: 'plain' });
    const tools = [{ type: 'function', function: { name: 'f', parameters: { type: 'object' } } }];
    const image = [{ type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }];
    refused(s, await ask(s, key, { body: { ...CHAT, tools } }), 403, { words: /tools/ });
    refused(s, await ask(s, key, { body: { ...CHAT, messages: [{ role: 'user', content: image }] } }), 403, { words: /images/ });
    refused(s, await message(s, key, { body: { ...MESSAGE, tools: [{ type: 'web_search_20250305', name: 'web_search' }] } }), 403);
    given(s, await ask(s, key));
});

aiFlow('parameters are forced and forbidden, and the key of the answer is of what is asked', RULED, async (s) => {
    const key = await makeKey(s.node, 'a', { rules: 'shaped' });
    refused(s, await ask(s, key, { body: { ...CHAT, logit_bias: {} } }), 400, { words: /logit_bias: is not allowed/ });
    refused(s, await ask(s, key, { body: { ...CHAT, n: 2 } }), 400);
    given(s, await ask(s, key, { body: { ...CHAT, temperature: 1.5 } }));
    assert.equal(s.cloud.last.json.temperature, 0);
    assert.equal(s.cloud.last.json.reasoning_effort, 'low');
    s.hit(await ask(s, key, { body: { ...CHAT, temperature: 0.3 } }));
    const free = await makeKey(s.node, 'b'); // the same tenant under other rules
    s.miss(given(s, await ask(s, free, { body: { ...CHAT, temperature: 0, reasoning_effort: 'low' } })));
});

const NAMES = { needs: 'node', providers: PROVIDERS, models: { best: { candidates: [{ provider: 'claude', model: 'claude-test-1' }] },
    wide: { candidates: [{ provider: 'cloud', model: 'gpt-4o-mini' }] } },
ai: { rules: { names: { force: ['stop=["END"]', 'reasoning_effort="low"', 'store=false', 'service_tier="flex"'], forbid: ['seed', 'tools', 'top_k'] },
    few: { force: ['max_tokens=7'] } } } };

aiFlow('forced and forbidden parameters under the names of each interface, and after translation', { ...NAMES, route: { rules: 'names' } }, async (s) => {
    given(s, await ask(s, null, { body: { ...CHAT, stop: 'mine' } }));
    assert.deepEqual([s.cloud.last.json.stop, s.cloud.last.json.reasoning_effort, s.cloud.last.json.store], [['END'], 'low', false]);
    // Anthropic knows neither reasoning_effort nor store, and refuses what it does not know.
    given(s, await message(s, null, { body: { ...MESSAGE, stop_sequences: ['mine'] } }));
    const { stop_sequences: stop, reasoning_effort: effort, store, stop: other, service_tier: tier } = s.claude.last.json;
    assert.deepEqual([stop, effort, store, other, tier], [['END'], undefined, undefined, undefined, 'flex']);
    given(s, await message(s, null, { body: { ...MESSAGE, model: 'wide' } }));
    assert.deepEqual([s.cloud.last.json.stop, s.cloud.last.json.reasoning_effort, s.cloud.last.json.store], [['END'], 'low', false]);
    given(s, await ask(s, null, { body: { ...CHAT, model: 'best' } }));
    assert.deepEqual([s.claude.last.json.stop_sequences, s.claude.last.json.store], [['END'], undefined]);
    given(s, await ask(s, null, { at: '/v1/responses', body: { model: 'gpt-4o-mini', input: 'x' } }));
    assert.equal(s.cloud.last.json.stop, undefined);
    // The same thing by its other name is the same thing.
    refused(s, await ask(s, null, { body: { ...CHAT, functions: [{ name: 'f' }] } }), 400, { words: /functions: is not allowed/ });
    refused(s, await message(s, null, { body: { ...MESSAGE, tools: [{ name: 'f', input_schema: {} }] } }), 400, { words: /tools: is not allowed/ });
});

aiFlow('a forced limit of the answer, whatever it is called', { ...NAMES, route: { rules: 'few' } }, async (s) => {
    given(s, await ask(s, null, { body: { ...CHAT, max_completion_tokens: 5000 } }));
    assert.deepEqual([s.cloud.last.json.max_completion_tokens, s.cloud.last.json.max_tokens], [7, undefined]);
    given(s, await ask(s, null, { at: '/v1/responses', body: { model: 'gpt-4o-mini', input: 'x' } }));
    assert.equal(s.cloud.last.json.max_output_tokens, 7);
    given(s, await ask(s, null, { body: { ...CHAT, model: 'best', max_tokens: 9 } }));
    assert.equal(s.claude.last.json.max_tokens, 7);
    const escaped = JSON.stringify({ ...CHAT, max_tokens: 9, seed: 1 }).replace('"max_tokens"', '"max\\u005ftokens"');
    given(s, await ask(s, null, { body: escaped }));
    assert.equal(s.cloud.last.json.max_tokens, 7);
});

aiFlow('hours', RULED, async (s) => {
    refused(s, await ask(s, await makeKey(s.node, 'a', { rules: 'later' })), 403, { words: /at this time/ });
    given(s, await ask(s, await makeKey(s.node, 'b', { rules: 'now' })));
});

aiFlow('a region is for fallbacks, too', RULED, async (s) => {
    const key = await makeKey(s.node, 'a', { rules: 'eu' });
    refused(s, await ask(s, key, { body: { ...CHAT, model: 'cloud/gpt-4o-mini' } }), 403, { words: /no provider that is allowed/ });
    const answer = given(s, await ask(s, key, { body: { ...CHAT, model: 'fast' } }));
    assert.deepEqual([s.wall(answer).provider, s.cloud.count], ['claude', 0]);
    s.claude.always({ error: 'overloaded' });
    const failed = await ask(s, key, { body: { ...CHAT, model: 'fast', seed: 9 } });
    assert.ok(failed.status >= 500, `${failed.status}`);
    assert.equal(s.cloud.count, 0, 'not even when nobody else can');
    const nowhere = await makeKey(s.node, 'b', { rules: 'none' });
    assert.equal((await ask(s, nowhere, { body: { ...CHAT, model: 'fast', seed: 10 } })).status, 403);
    assert.equal(s.cloud.count, 0);
});

aiFlow('rules of key, tenant and route must all be passed; a key whose rules are gone may nothing', {
    ...RULED, route: { rules: 'small' }, ai: { ...RULED.ai, tenants: { acme: { rules: 'plain' } } },
}, async (s) => {
    const key = await makeKey(s.node, 'a', { tenant: 'acme', rules: 'short' });
    refused(s, await ask(s, key, { body: { ...CHAT, max_tokens: 51 } }), 400, { words: /at most 50/ });
    refused(s, await ask(s, key, { body: { ...CHAT, tools: [{ type: 'function', function: { name: 'f' } }] } }), 403, { words: /tools/ });
    refused(s, await ask(s, key, { body: { ...CHAT, messages: [{ role: 'user', content: 'x'.repeat(500) }] } }), 400, { words: /longer/ });
    given(s, await ask(s, key));
    refused(s, await ask(s, await makeKey(s.node, 'b', { rules: 'nonesuch' })), 403, { words: /not configured/ });
});

aiFlow('a changed rule is in force after a reload', { ...RULED, node: false }, async (s) => {
    const config = s.config();
    s.node = await s.startNode({ config });
    const key = await makeKey(s.node, 'a', { rules: 'models' });
    refused(s, await message(s, key), 403);
    s.node.configure({ ...config, ai: { ...config.ai, rules: { ...RULES, models: {} } } });
    const said = s.node.stderr.length + s.node.stdout.length;
    s.node.signal('SIGHUP');
    await s.node.line(/reloaded/, said);
    given(s, await message(s, key));
});

aiFlow('mistakes in rules are told with their place and the nearest spelling', { needs: 'node', node: false }, async (s) => {
    const folder = scratch();
    s.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    const file = path.join(folder, 'site.yaml');
    fs.writeFileSync(file, `listen: ["127.0.0.1:8080"]
ai:
  providers: { local: { url: "http://127.0.0.1:8081" } }
  rules:
    strict:
      hours: ["Mon-Fri 8-18"]
      force: ["temperature", "model=1"]
      utc_offset: "2"
      private: { find: [emial], do: pin }
    loose: { private: { find: [email] }, modles: {} }
    odd: { private: { do: redact, region: eu }, models: { aliases: [fast] } }
  tenants:
    acme: { rules: strikt }
    "a:b": {}
routes:
  - { match: "/v1/*", ai: { rules: losse, private: { find: [nothing], do: refuse } } }
`);
    const { code, stdout, stderr } = await run(['check', '-c', file]);
    const said = stdout + stderr;
    assert.equal(code, 2);
    for (const [line, ...words] of [[6, 'Mon-Fri 8-18', 'Mon-Fri 08:00-18:00'], [7, '"temperature"', 'NAME=JSON'], [7, 'model cannot be forced'],
        [8, '+02:00'], [9, 'emial', 'email'], [10, 'say what to do'], [10, 'modles', 'models'], [11, 'do: pin only'], [11, 'NAME=MODEL'], [13, 'strikt', 'strict'],
        [14, 'tenant'], [16, 'losse', 'loose'], [16, 'nothing', 'iban']]) {
        const found = said.split('\n').find((one) => one.includes(`:${line}:`) && words.every((word) => one.includes(word)));
        assert.ok(found, `${line}: ${words}\n${said}`);
    }
});

/* ---- requests and tokens a minute ---- */

aiFlow('requests a minute, of a key, with the fields of the dialect', {
    ...RULED, ai: { ...RULED.ai, limits: { requests_per_minute: 3 }, rules: { ...RULES, busy: { requests_per_minute: 0 } } },
}, async (s) => {
    const key = await makeKey(s.node, 'a');
    const first = given(s, await ask(s, key));
    assert.deepEqual(['limit', 'remaining'].map((word) => first.header(`x-ratelimit-${word}-requests`)), ['3', '2']);
    assert.match(first.header('x-ratelimit-reset-requests'), /^[\d.ms]+$/);
    const hit = s.hit(await ask(s, key));
    assert.equal(hit.header('x-ratelimit-remaining-requests'), '1');
    s.hit(await ask(s, key));
    const answer = refused(s, await ask(s, key), 429, { type: 'rate_limit_error', words: /too many requests: the limit of 3 a minute of this API key/ });
    assert.ok(Number(answer.header('retry-after')) >= 1 && Number(answer.header('retry-after')) <= 60);
    assert.equal(answer.all('retry-after').length, 1);
    assert.equal(answer.header('x-ratelimit-remaining-requests'), '0');
    const other = refused(s, await message(s, key), 429, { type: 'rate_limit_error' });
    assert.equal(other.header('anthropic-ratelimit-requests-limit'), '3');
    assert.match(other.header('anthropic-ratelimit-requests-reset'), /^\d{4}-\d\d-\d\dT/);
    assert.equal(other.header('x-ratelimit-limit-requests'), undefined);
    s.hit(await ask(s, await makeKey(s.node, 'b'))); // the other key has its own
    const free = await makeKey(s.node, 'c', { rules: 'busy' });
    for (let i = 0; i < 5; i++) {
        assert.equal((await ask(s, free)).header('x-ratelimit-limit-requests'), undefined);
    }
});

aiFlow('requests a minute of a tenant and of a route', {
    ...RULED, ai: { ...RULED.ai, tenants: { acme: { requests_per_minute: 2 } } }, route: { requests_per_minute: 4 },
}, async (s) => {
    const [a, b] = [await makeKey(s.node, 'a', { tenant: 'acme' }), await makeKey(s.node, 'b', { tenant: 'acme' })];
    given(s, await ask(s, a));
    s.hit(await ask(s, b));
    refused(s, await ask(s, b), 429, { words: /this tenant/ });
    const c = await makeKey(s.node, 'c');
    given(s, await ask(s, c));
    s.hit(await ask(s, c));
    refused(s, await ask(s, c), 429, { words: /this route/ });
});

aiFlow('without keys an address has limits', { needs: 'node', ai: { limits: { requests_per_minute: 1 } } }, async (s) => {
    given(s, await ask(s, null));
    refused(s, await ask(s, null), 429, { words: /this address/ });
});

aiFlow('tokens are estimated before, and put right after; hits take none', {
    ...RULED, ai: { ...RULED.ai, limits: { tokens_per_minute: 1000 } },
}, async (s) => {
    const key = await makeKey(s.node, 'a');
    s.cloud.always({ usage: { input: 10, output: 5 } });
    const first = given(s, await ask(s, key, { body: { ...CHAT, max_tokens: 800 } }));
    const left = Number(first.header('x-ratelimit-remaining-tokens'));
    assert.ok(left < 200 && left > 100, `taken before: ${left}`);
    const hit = s.hit(await ask(s, key, { body: { ...CHAT, max_tokens: 800 } }));
    assert.ok(Number(hit.header('x-ratelimit-remaining-tokens')) < 200, 'an estimate while it is not known that it is a hit');
    s.cloud.always({ usage: { input: 900, output: 500 } });
    const dear = given(s, await ask(s, key, { body: { ...CHAT, max_tokens: 1, seed: 2 } }));
    assert.ok(Number(dear.header('x-ratelimit-remaining-tokens')) > 900, `given back: ${dear.header('x-ratelimit-remaining-tokens')}`);
    refused(s, await ask(s, key, { body: { ...CHAT, max_tokens: 1, seed: 3 } }), 429, { words: /too many tokens: the limit of 1000/ });
});
