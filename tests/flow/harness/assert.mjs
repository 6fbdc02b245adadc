/**
 * What tests ask about answers, in the words of RFC 9211 and RFC 9209.
 */
import assert from 'node:assert/strict';

/**
 * Cache-Status of the node as an object: { name, hit, fwd, stored, ttl, ... }; flags are true.
 * @param {import('./message.mjs').Response} response
 */
export function cacheStatus(response) {
    return parameters(lastMember(response.header('cache-status') ?? ''));
}

export function proxyStatus(response) {
    return parameters(lastMember(response.header('proxy-status') ?? ''));
}

function lastMember(value) {
    return value.match(/(?:"(?:\\.|[^"\\])*"|[^,"])+/g)?.at(-1)?.trim() ?? '';
}

function parameters(member) {
    const parts = member.match(/(?:"(?:\\.|[^"\\])*"|[^;"])+/g)?.map((part) => part.trim()) ?? [];
    const found = { name: unquote(parts.shift() ?? '') };
    for (const part of parts) {
        const at = part.indexOf('=');
        found[at < 0 ? part : part.slice(0, at)] = at < 0 ? true : typed(part.slice(at + 1));
    }
    return found;
}

function typed(value) {
    return /^-?\d+$/.test(value) ? Number(value) : unquote(value);
}

function unquote(value) {
    return value.startsWith('"') ? value.slice(1, -1).replace(/\\(.)/g, '$1') : value;
}

/** Served from what is stored, nothing forwarded. Returns the Cache-Status. */
export function assertHit(response, status = 200) {
    assert.equal(response.status, status, `status of ${describe(response)}`);
    const found = cacheStatus(response);
    assert.equal(found.hit, true, `expected a hit: ${describe(response)}`);
    assert.equal(found.fwd, undefined, `a hit is not forwarded: ${describe(response)}`);
    return found;
}

/** Forwarded; `fwd` as in RFC 9211 where given. */
export function assertForwarded(response, fwd) {
    const found = cacheStatus(response);
    assert.equal(found.hit, undefined, `expected no hit: ${describe(response)}`);
    assert.ok(found.fwd, `expected fwd: ${describe(response)}`);
    if (fwd !== undefined) {
        assert.equal(found.fwd, fwd, describe(response));
    }
    return found;
}

function describe(response) {
    return JSON.stringify([response.startLine, ...response.lines, response.text.slice(0, 200)]);
}

/**
 * Asks twice and says whether the second answer came from the cache.
 * @returns {Promise<{ first, second, hit: boolean }>}
 */
export async function twice({ get, origin }, target, reply, { headers = {}, again = headers } = {}) {
    if (reply) {
        origin.answers(reply);
    }
    const before = origin.count;
    const first = await get(target, headers);
    const second = await get(target, again);
    return { first, second, hit: origin.count === before + 1 && cacheStatus(second).hit === true };
}
