/**
 * Asking the gateway as clients with API keys do.
 *
 *   makeKey(node, name, {tenant, rules, scopes, expires}) -> Promise<string>     an API key, made with the command
 *   ask(s, key, {at, body, method, headers, as, node}) -> Promise<Answer>        as: the field that the key is in; key null: none
 *   message(s, key, more)                  the same at /v1/messages
 *   refused(s, answer, status, {type, words, key})     an error in the dialect's shape, and nobody was asked
 *   given(s, answer)                       an answer that a provider was asked for
 */
import assert from 'node:assert/strict';
import { answered, CHAT, MESSAGE } from './ai.mjs';
import { run } from './flow.mjs';

export const CHAT_PATH = '/v1/chat/completions';
export const admin = (node) => ['--admin', `127.0.0.1:${node.adminPort}`];

/** An API key, made with the command. */
export async function makeKey(node, name, more = {}) {
    const made = await run(['keys', 'create', '--name', name, ...Object.entries(more).flatMap(([option, value]) => [`--${option}`, value]),
        ...admin(node)]);
    assert.equal(made.code, 0, made.stderr);
    return made.stdout.trim();
}

/** One request with a key; `as`: the field it is in. */
export async function ask(s, key, { at = CHAT_PATH, body = CHAT, method = 'POST', headers = {}, as = 'bearer', node = s.node } = {}) {
    const fields = as === 'bearer' ? { Authorization: `Bearer ${key}` } : { [as]: key };
    return answered(await node.get(at, { 'Content-Type': 'application/json', ...(key ? fields : {}), ...headers },
        { method, ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }) }));
}

export const message = (s, key, more = {}) => ask(s, key, { at: '/v1/messages', body: MESSAGE, as: 'x-api-key',
    headers: { 'anthropic-version': '2023-06-01' }, ...more });

/** Refused in the dialect's shape, and nobody was asked. */
export function refused(s, answer, status, { type, words = /./, key } = {}) {
    assert.equal(answer.status, status, answer.text);
    const error = answer.json.error;
    assert.equal(answer.json.type, answer.json.error.param === undefined ? 'error' : undefined);
    assert.match(error.message, words);
    if (type) {
        assert.equal(error.type, type);
    }
    if (key) {
        assert.ok(!answer.text.includes(key.slice(11, 30)), 'the key is not repeated');
    }
    assert.equal(Object.values(s.providers).reduce((sum, provider) => sum + provider.count, 0), s.asked ?? 0, 'nobody was asked');
    return answer;
}

export function given(s, answer) {
    assert.equal(answer.status, 200, answer.text);
    s.asked = (s.asked ?? 0) + 1;
    return answer;
}
