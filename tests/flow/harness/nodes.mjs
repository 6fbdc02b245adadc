/**
 * Several nodes in one test, each with its own configuration.
 *
 *   startNodes(scope, names, configOf) -> Promise<Node[]>
 *       one after the other. configOf(name, earlier) gives a configuration (see siteConfig()), or what Node.start() takes:
 *       { config, env, flags, prefix }; it may be async. `earlier` are the nodes already running: parents come first.
 *       node.name is set in the configuration; a listener on port 0 gets a port that restartNode() can give it again.
 *   askEach(nodes, target, headers, options) -> Promise<Response[]>    one request to each, one after the other
 *   restartNode(scope, node, {kill, change}) -> Promise<Node>
 *       ends it (SIGTERM, or SIGKILL with kill: true) and starts it on its ports; change(config) may edit a copy first.
 *       Its working folder is a new one: what shall outlive it lies in folders the test made.
 */
import { freePort } from './server.mjs';

async function fixed(listen) {
    return /:0$/.test(listen) ? listen.replace(/:0$/, `:${await freePort()}`) : listen;
}

async function start(scope, options) {
    for (let tries = 0; ; tries++) {
        const config = structuredClone(options.config);
        config.listen = await Promise.all(config.listen.map(fixed));
        if (config.admin?.listen) {
            config.admin.listen = await fixed(config.admin.listen);
        }
        try {
            return await scope.startNode({ ...options, config });
        } catch (error) {
            if (tries === 3 || !/in use/i.test(error.message)) {
                throw error; // else another test was quicker to take the port
            }
        }
    }
}

export async function startNodes(scope, names, configOf) {
    const nodes = [];
    for (const name of names) {
        const given = await configOf(name, nodes);
        const options = given.config ? given : { config: given };
        const config = { ...options.config, node: { ...options.config.node, name } };
        nodes.push(Object.assign(await start(scope, { ...options, config }), { name }));
    }
    return nodes;
}

export async function askEach(nodes, target, headers, options) {
    const responses = [];
    for (const node of nodes) {
        responses.push(await node.get(target, headers, options));
    }
    return responses;
}

export async function restartNode(scope, node, { kill = false, change } = {}) {
    await (kill ? node.kill() : node.stop());
    const config = structuredClone(node.options.config);
    change?.(config);
    return Object.assign(await scope.startNode({ ...node.options, config }), { name: node.name });
}
