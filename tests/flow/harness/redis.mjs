/**
 * Redis servers of a test's own: loopback, nothing persistent unless args say so, gone with the test.
 *
 *   startRedis({args, password, tls}) -> Promise<Redis>        args: redis-server options, e.g. ['--maxmemory', '2mb']
 *   redis.url, .port, .pid, .ca            redis://[:password@]127.0.0.1:port or rediss://...; ca: path, with tls
 *   redis.cli(...args) -> reply            through the harness' own client; an error reply throws. raw(...args): Buffers
 *   redis.client() -> Promise<Resp>        a further connection, for blocking commands and SUBSCRIBE (see resp.mjs)
 *   redis.flush()                          FLUSHALL
 *   redis.stop()                           ends it and removes its folder; always the last call
 *   redis.kill()                           SIGKILL; the folder stays, start() or restart() brings it back
 *   redis.start() / redis.restart()        again on the same port and folder: empty, unless args made it persistent
 *   redis.pause() / redis.resume()         SIGSTOP, SIGCONT: connections stand, nothing is answered
 *
 *   startRedisCluster(count = 3, {args, password, tls}) -> Promise<Cluster>    masters, all 16384 slots, state ok
 *   cluster.nodes, .urls, .url             Redis[], their urls, the first of them
 *   cluster.cli(key, ...args) -> reply     sent to the node that owns the key
 *   cluster.slot(key) -> number            cluster.owner(key) -> Redis
 *   cluster.beginMove(slot, to)            the slot's owner answers ASK for keys it does not have
 *   cluster.finishMove(slot, to)           moves the keys; the old owner answers MOVED
 *   cluster.stop()
 */
import fs from 'node:fs';
import path from 'node:path';
import { scratch } from './node.mjs';
import { certificates } from './pki.mjs';
import { Resp } from './resp.mjs';
import { find, freePort, LEASH, Server, until } from './server.mjs';

const SLOTS = 16384;

export class Redis {
    #server = null;
    #link = null;
    #args;

    constructor({ args = [], password, tls = false, cluster = false }) {
        Object.assign(this, { password, tls, cluster, folder: scratch() });
        this.#args = args;
        this.ca = tls ? certificates().ca : undefined;
    }

    get url() {
        return `${this.tls ? 'rediss' : 'redis'}://${this.password ? `:${this.password}@` : ''}127.0.0.1:${this.port}`;
    }

    get pid() { return this.#server.pid; }
    get said() { return this.#server.said; }

    async start() {
        for (let tries = 0; !this.#server?.alive; tries++) {
            const fixed = this.port !== undefined;
            this.port ??= await freePort();
            this.busPort = this.cluster ? this.busPort ?? await freePort() : undefined;
            this.#server = new Server([...LEASH, find('redis-server', 'package redis-server'), ...this.#options()],
                { cwd: this.folder });
            if (await this.#server.says(/Ready to accept connections|The server is now ready/)) {
                return;
            }
            const said = this.#server.said;
            // The port was free a moment ago: another test was quicker. One that is known to others is kept.
            if (fixed || tries === 5 || !/bind|in use/i.test(said)) {
                throw new Error(`redis-server did not start:\n${said}`);
            }
            this.port = this.busPort = undefined;
        }
    }

    #options() {
        const { cert, key, ca } = this.tls ? certificates() : {};
        return [
            '--bind', '127.0.0.1', '--dir', this.folder, '--save', '', '--appendonly', 'no', '--protected-mode', 'no',
            '--shutdown-timeout', '0',
            ...(this.tls ? ['--port', '0', '--tls-port', `${this.port}`, '--tls-cert-file', cert, '--tls-key-file', key,
                '--tls-ca-cert-file', ca, '--tls-auth-clients', 'no'] : ['--port', `${this.port}`]),
            ...(this.password ? ['--requirepass', this.password, '--masterauth', this.password] : []),
            ...(this.cluster ? ['--cluster-enabled', 'yes', '--cluster-port', `${this.busPort}`, '--cluster-node-timeout',
                '2000', ...(this.tls ? ['--tls-cluster', 'yes', '--tls-replication', 'yes'] : [])] : []),
            ...this.#args,
        ];
    }

    client() {
        return Resp.open(this);
    }

    async #linked() {
        if (!this.#link || this.#link.closed) {
            this.#link = await this.client();
        }
        return this.#link;
    }

    async cli(...args) {
        return (await this.#linked()).call(...args);
    }

    async raw(...args) {
        return (await this.#linked()).raw(...args);
    }

    flush() {
        return this.cli('FLUSHALL');
    }

    pause() {
        this.#server.signal('SIGSTOP');
    }

    resume() {
        this.#server.signal('SIGCONT');
    }

    async #end(signal) {
        this.#link?.close();
        this.#link = null;
        this.resume(); // a stopped process would keep SIGTERM waiting
        await this.#server.kill(signal);
    }

    async kill() {
        await this.#end('SIGKILL');
    }

    async restart() {
        await this.#end('SIGTERM');
        await this.start();
    }

    async stop() {
        await this.#end('SIGTERM');
        fs.rmSync(this.folder, { recursive: true, force: true });
    }
}

export async function startRedis(options = {}) {
    const redis = new Redis(options);
    try {
        await redis.start();
    } catch (error) {
        fs.rmSync(redis.folder, { recursive: true, force: true });
        throw error;
    }
    return redis;
}

class Cluster {
    /** @param {Redis[]} nodes */
    constructor(nodes) {
        this.nodes = nodes;
    }

    get url() { return this.nodes[0].url; }
    get urls() { return this.nodes.map((node) => node.url); }

    async form() {
        const share = Math.ceil(SLOTS / this.nodes.length);
        await Promise.all(this.nodes.map(async (node, i) => {
            await node.cli('CLUSTER', 'SET-CONFIG-EPOCH', i + 1);
            await node.cli('CLUSTER', 'ADDSLOTSRANGE', i * share, Math.min(SLOTS, (i + 1) * share) - 1);
            if (i > 0) {
                await node.cli('CLUSTER', 'MEET', '127.0.0.1', this.nodes[0].port, this.nodes[0].busPort);
            }
        }));
        await this.settled();
    }

    /** Resolves when every node knows every other and says that all slots are served. */
    async settled() {
        await until(async () => {
            const told = await Promise.all(this.nodes.map((node) => node.cli('CLUSTER', 'INFO')));
            return told.every((info) => /cluster_state:ok/.test(info)
                && info.includes(`cluster_size:${this.nodes.length}`) && info.includes(`cluster_slots_ok:${SLOTS}`));
        }, 'a Redis Cluster', 15_000);
    }

    slot(key) {
        return this.nodes[0].cli('CLUSTER', 'KEYSLOT', key);
    }

    async #ownerOf(slot) {
        const ranges = await this.nodes[0].cli('CLUSTER', 'SLOTS');
        const [, , [, port]] = ranges.find(([first, last]) => slot >= first && slot <= last);
        return this.nodes.find((node) => node.port === port);
    }

    async owner(key) {
        return this.#ownerOf(await this.slot(key));
    }

    async cli(key, ...args) {
        return (await this.owner(key)).cli(...args);
    }

    async beginMove(slot, to) {
        const from = await this.#ownerOf(slot);
        await to.cli('CLUSTER', 'SETSLOT', slot, 'IMPORTING', await from.cli('CLUSTER', 'MYID'));
        await from.cli('CLUSTER', 'SETSLOT', slot, 'MIGRATING', await to.cli('CLUSTER', 'MYID'));
    }

    async finishMove(slot, to) {
        const from = await this.#ownerOf(slot);
        const auth = to.password ? ['AUTH', to.password] : [];
        for (let keys; (keys = await from.cli('CLUSTER', 'GETKEYSINSLOT', slot, 100)).length > 0;) {
            await from.cli('MIGRATE', '127.0.0.1', to.port, '', 0, 5000, ...auth, 'KEYS', ...keys);
        }
        const id = await to.cli('CLUSTER', 'MYID');
        for (const node of [to, from, ...this.nodes.filter((other) => other !== to && other !== from)]) {
            await node.cli('CLUSTER', 'SETSLOT', slot, 'NODE', id);
        }
    }

    async stop() {
        await Promise.all(this.nodes.map((node) => node.stop()));
    }
}

export async function startRedisCluster(count = 3, options = {}) {
    const nodes = await Promise.all(Array.from({ length: count }, () => startRedis({ ...options, cluster: true })));
    const cluster = new Cluster(nodes);
    try {
        await cluster.form();
    } catch (error) {
        await cluster.stop();
        throw error;
    }
    return cluster;
}
