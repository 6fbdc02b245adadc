/**
 * Looking at a node's upstreams.
 */
import assert from 'node:assert/strict';

/** The servers of the (first) upstream as the admin page shows them. */
export async function servers(node) {
    return JSON.parse((await node.admin('/upstreams')).text).upstreams[0].breakers;
}

/** Asks until `done` says so; what a timer decides is waited for, never guessed. */
export async function until(done, what) {
    for (let i = 0; i < 2000; i++) {
        if (await done()) {
            return;
        }
        await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error(`never: ${what}`);
}

export async function failTimes(get, count) {
    for (let i = 0; i < count; i++) {
        assert.ok((await get(`/f${i}`)).status >= 500);
    }
}
