/**
 * `flow(name, options, body)`: one test with its own origin, its own node in front of it, and a watchdog. Everything opened
 * through it is closed after it; what the node said is shown when it failed.
 */
import { test } from 'node:test';
import { Node } from './node.mjs';
import { Origin } from './origin.mjs';

export { chunk, formatHead, httpDate, LAST_CHUNK } from './message.mjs';
export { BINARY, Node, run, SANITIZED, scratch } from './node.mjs';
export { Origin } from './origin.mjs';
export * from './assert.mjs';

/** Nothing here takes seconds; what hangs is a failure. */
const WATCHDOG_MS = Number(process.env.FLOW_TIMEOUT_MS ?? 20_000);

/**
 * The configuration most tests use.
 * @param {string[]} servers
 * @param {object} [options] as for flow()
 */
export function siteConfig(servers, { route = {}, upstream = {}, config = {} } = {}) {
    return {
        node: { name: 'test-1' },
        listen: ['127.0.0.1:0'],
        admin: { listen: '127.0.0.1:0' },
        access_log: { path: 'off' },
        threads: 1,
        upstreams: { app: { servers, ...upstream } },
        routes: [{ match: '/*', upstream: 'app', ...route }],
        ...config,
    };
}

/** What a test is given. */
class Scope {
    #cleanups = [];
    #conns = [];

    /** Runs after the test, last first. */
    after(cleanup) {
        this.#cleanups.unshift(cleanup);
    }

    /** A further origin. */
    startOrigin = async (options) => {
        const origin = await Origin.start(options);
        this.after(() => origin.stop());
        this.#conns.push(origin);
        return origin;
    };

    /** A further node; stopped with SIGTERM, exit code 0 expected. */
    startNode = async (options) => {
        const node = await Node.start(options);
        this.nodes.push(node);
        this.after(() => (this.failed ? node.kill() : node.stop()));
        return node;
    };

    nodes = [];

    /** Awaits what startRedis(), startPostgres(), startRelay(), mountTmpfs() ... promise; ended after the test. */
    use = async (started) => {
        const helper = await started;
        this.after(() => (helper.stop ?? helper.unmount).call(helper));
        return helper;
    };

    /** A scripted client connected to the node. */
    connect = async (options) => {
        const client = await this.node.client(options);
        this.#conns.push(client);
        this.after(() => client.close());
        return client;
    };

    get = (target, headers, options) => this.node.get(target, headers, options);

    get waits() {
        return this.#conns.map((conn) => conn.awaiting).filter(Boolean).join('; ') || 'nothing known';
    }

    async close() {
        const failures = [];
        for (const cleanup of this.#cleanups) {
            try {
                await cleanup();
            } catch (error) {
                failures.push(error);
            }
        }
        if (failures.length && !this.failed) {
            throw failures[0];
        }
    }
}

async function watched(scope, promise) {
    let timer;
    const bark = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`nothing happened for ${WATCHDOG_MS} ms; waiting: ${scope.waits}`)),
            WATCHDOG_MS);
    });
    try {
        return await Promise.race([promise, bark]);
    } finally {
        clearTimeout(timer);
    }
}

/**
 * @param {string} name a sentence
 * @param {object} options route, upstream: merged into the configuration; config: top-level options replaced; origin: options
 *   of the scripted origin; flags, prefix, env: for the process; node: false leaves starting it to the test
 * @param {(scope: Scope & { origin: Origin, node: Node }) => Promise<void>} body
 */
export function flow(name, options, body) {
    if (typeof options === 'function') {
        [options, body] = [{}, options];
    }
    test(name, { skip: options.skip }, async () => {
        const scope = new Scope();
        try {
            await watched(scope, (async () => {
                scope.origin = await scope.startOrigin(options.origin);
                if (options.node !== false) {
                    const config = siteConfig([options.server?.(scope.origin) ?? scope.origin.url], options);
                    const { flags, prefix, env } = options;
                    scope.node = await scope.startNode({ config, flags, prefix, env });
                }
                await body(scope);
            })());
        } catch (error) {
            scope.failed = true;
            const said = scope.nodes.map((node) => node.stdout + node.stderr).join('---\n');
            error.message += `\n  the node said:\n${said.replace(/^/gm, '    ').slice(-4000)}`;
            throw error;
        } finally {
            await watched(scope, scope.close());
        }
    });
}
