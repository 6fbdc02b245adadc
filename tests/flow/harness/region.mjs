/**
 * Nodes of a region: each with a disk of its own, all with one store, and relays where a test wants to cut a node off.
 *
 *   startRegion(scope, names, {redis, cluster, relays, shared, disk, clocks, ...siteConfig's}) -> Promise<Region>
 *       redis: a server that runs already (default: a new one), or its arguments as a list; cluster: its servers are one.
 *       relays: true puts one between each node and the store. shared: options of that section. disk: false for nodes without
 *       one, else options of that section (pinned, unless the route says otherwise). clocks: a Clock for each node by name.
 *   region.redis, region.relays            relays by name
 *   region.nodes, region[name]             the nodes; restart(name, options) takes what restartNode() takes, and waits
 *   region.ready(...nodes)                 they are connected, have caught up and know the store's clock
 *   region.written(...nodes)               what they were to write is in the store and on disk
 *   region.ask(target, headers, options)   each node in turn
 *   metric(node, name) -> number           of doorstep_<name>
 */
import fs from 'node:fs';
import path from 'node:path';
import { scratch, siteConfig } from './flow.mjs';
import { askEach, restartNode, startNodes } from './nodes.mjs';
import { startRedis } from './redis.mjs';
import { startRelay } from './relay.mjs';
import { until } from './server.mjs';

export async function metric(node, name) {
    return (await node.metrics()).get(`doorstep_${name}`);
}

class Region {
    relays = {};
    nodes = [];

    async ready(...nodes) {
        for (const node of nodes.length ? nodes : this.nodes) {
            await until(async () => {
                const all = await node.metrics();
                return (all.get('doorstep_bus_caught_up') ?? 1) === 1 && (all.get('doorstep_bus_connected') ?? 1) === 1;
            }, `${node.name} has caught up`);
            if (this.shares) { // any miss asks the store, and with it for its time
                await until(async () => {
                    await node.get('/.clock', { 'Cache-Control': 'only-if-cached' });
                    return (await metric(node, 'shared_clock_known')) === 1;
                }, `${node.name} knows the store's clock`);
            }
        }
    }

    async written(...nodes) {
        for (const node of nodes.length ? nodes : this.nodes) {
            await until(async () => {
                const all = await node.metrics();
                return (all.get('doorstep_shared_queued_bytes') ?? 0) === 0 && (all.get('doorstep_disk_queued_bytes') ?? 0) === 0;
            }, `${node.name} has written`);
        }
    }

    ask(target, headers, options) {
        return askEach(this.nodes, target, headers, options);
    }

    async restart(name, options) {
        const at = this.nodes.indexOf(this[name]);
        this.nodes[at] = this[name] = await restartNode(this.scope, this[name], options);
        if (options?.ready !== false) {
            await this.ready(this[name]);
        }
        return this[name];
    }
}

export async function startRegion(scope, names, { redis, cluster = false, relays = false, shared = {}, disk = {}, clocks = {},
    ...options } = {}) {
    const region = new Region();
    region.scope = scope;
    region.shares = options.route?.shared !== false && !(options.config && 'shared' in options.config);
    region.redis = redis && !Array.isArray(redis) ? redis : await scope.use(startRedis({ args: redis ?? [] }));
    region.folder = scratch();
    scope.after(() => fs.rmSync(region.folder, { recursive: true, force: true }));
    region.nodes = await startNodes(scope, names, async (name) => {
        if (relays) {
            region.relays[name] = await scope.use(startRelay(region.redis.port));
        }
        const port = relays ? region.relays[name].port : region.redis.port;
        const config = {
            node: { name, region: 'eu' },
            shared: { url: `redis://127.0.0.1:${port}`, timeout: '1s', cluster, ...shared },
            disk: disk ? { path: path.join(region.folder, name), size: '64M', ...disk } : undefined,
            state: disk ? undefined : { path: path.join(region.folder, `${name}.db`) },
            ...options.config,
        };
        return { config: siteConfig([scope.origin.url], { ...options, route: { disk: disk ? 'pin' : undefined, ...options.route }, config }),
            env: clocks[name]?.env };
    });
    region.nodes.forEach((node) => { region[node.name] = node; });
    await region.ready();
    return region;
}
