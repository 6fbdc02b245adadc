/**
 * A TCP relay on loopback that a test can break, slow down and heal: the network between two servers.
 *
 *   startRelay(targetPort, {host}) -> Promise<Relay>
 *   relay.port                             where it listens; stays the same over cut() and heal()
 *   relay.target = port                    where new connections go from now on (a server that came back elsewhere)
 *   relay.cut() -> Promise                 resets every connection, refuses new ones
 *   relay.drop()                           resets every connection once, takes new ones
 *   relay.blackhole(direction?)            accepts and forwards nothing; what was sent meanwhile arrives after heal().
 *                                          direction: 'toServer' or 'toClient' loses only one way
 *   relay.delay(ms)                        every byte arrives so much later, each way
 *   relay.throttle(bytesPerSecond)         for each connection and direction; 0: no limit
 *   relay.corrupt(fn)                      fn(bytes, direction) -> bytes to send instead, or null to reset; null: as it came
 *   relay.heal() -> Promise                none of the above any more
 *   relay.connections, relay.accepted      open now; ever
 *   relay.bytes                            { toServer, toClient }: forwarded so far
 *   relay.stop() -> Promise
 */
import { once } from 'node:events';
import net from 'node:net';
import { freePort } from './server.mjs';

const WINDOW = 1 << 20; // bytes held back for a direction before its sender must wait
const STEPS = 50;       // a second of throttled traffic comes in so many pieces

/** One direction of one connection: what came from `source` goes to `sink` when the relay lets it. */
class Pipe {
    #queue = [];
    #held = 0;
    #pumping = false;

    constructor(relay, link, direction, source, sink) {
        Object.assign(this, { relay, link, direction, source, sink });
        source.on('data', (bytes) => this.#push(bytes));
        source.on('end', () => this.#push(null));
        source.on('error', () => link.reset());
        source.on('close', () => { if (!source.readableEnded) { link.reset(); } });
    }

    #push(bytes) {
        this.#queue.push({ bytes, at: performance.now() + this.relay.latency });
        this.#held += bytes?.length ?? 0;
        if (this.#held > WINDOW) {
            this.source.pause();
        }
        this.pump();
    }

    /** Also called when something changed: what waits asks anew. */
    async pump() {
        if (this.#pumping) {
            return;
        }
        this.#pumping = true;
        while (this.#queue.length > 0 && this.link.open && !this.relay.lost(this.direction) && this.link.connected) {
            const [head] = this.#queue;
            const late = head.at - performance.now();
            if (late > 0) {
                await this.link.sleep(late);
            } else if (head.bytes === null) {
                this.#queue.shift();
                this.sink.end();
            } else {
                await this.#forward(head);
            }
        }
        this.#pumping = false;
    }

    async #forward(head) {
        const rate = this.relay.rate;
        const most = rate ? Math.max(1, Math.floor(rate / STEPS)) : Infinity;
        let bytes = head.bytes.subarray(0, most);
        head.bytes = head.bytes.subarray(bytes.length);
        if (head.bytes.length === 0) {
            this.#queue.shift();
        }
        this.#held -= bytes.length;
        bytes = this.relay.mangle(bytes, this.direction);
        if (bytes === null) {
            this.link.reset();
            return;
        }
        this.relay.bytes[this.direction] += bytes.length;
        if (!this.sink.write(bytes) && this.link.open) {
            await Promise.race([once(this.sink, 'drain'), this.link.gone]).catch(() => {});
        }
        if (rate) {
            await this.link.sleep(1000 * bytes.length / rate);
        }
        if (this.#held <= WINDOW) {
            this.source.resume();
        }
    }
}

/** A client's connection and ours to the target behind it. */
class Link {
    open = true;
    connected = false;
    server = null;
    #timers = new Set();

    constructor(relay, client) {
        this.relay = relay;
        this.client = client;
        this.gone = new Promise((resolve) => { this.over = resolve; });
        client.setNoDelay(true);
        client.on('error', () => this.reset());
        this.connect();
    }

    /** A black hole's clients are connected to nobody until it heals. */
    connect() {
        if (this.server || !this.open || this.relay.lost('toServer')) {
            return;
        }
        this.server = net.connect({ port: this.relay.target, host: this.relay.host, allowHalfOpen: true });
        this.server.setNoDelay(true);
        this.pipes = [new Pipe(this.relay, this, 'toServer', this.client, this.server),
            new Pipe(this.relay, this, 'toClient', this.server, this.client)];
        this.server.on('connect', () => { this.connected = true; this.wake(); });
        for (const socket of [this.client, this.server]) {
            socket.on('close', () => { if (this.client.destroyed && this.server.destroyed) { this.#end(); } });
        }
    }

    /** The state of the relay has changed. */
    wake() {
        this.connect();
        for (const timer of [...this.#timers]) {
            timer.fire();
        }
        this.pipes?.forEach((pipe) => pipe.pump());
    }

    sleep(ms) {
        return new Promise((resolve) => {
            const timer = { fire: () => { clearTimeout(timer.id); this.#timers.delete(timer); resolve(); } };
            timer.id = setTimeout(timer.fire, ms);
            this.#timers.add(timer);
        });
    }

    #end() {
        if (this.open) {
            this.open = false;
            this.relay.links.delete(this);
            [...this.#timers].forEach((timer) => timer.fire());
            this.over();
        }
    }

    reset() {
        if (this.open) {
            this.#end();
            this.#cut(this.client);
            this.#cut(this.server);
        }
    }

    /** Once a FIN is on its way Node cannot reset any more, and would keep the handle for ever. */
    #cut(socket) {
        socket?.[socket.writableEnded ? 'destroy' : 'resetAndDestroy']();
    }
}

export class Relay {
    links = new Set();
    accepted = 0;
    bytes = { toServer: 0, toClient: 0 };
    latency = 0;
    rate = 0;
    #server = null;
    #lost = new Set();
    #mangle = null;

    constructor(target, host) {
        Object.assign(this, { target, host });
    }

    get connections() { return this.links.size; }

    lost(direction) {
        return this.#lost.has(direction);
    }

    mangle(bytes, direction) {
        return this.#mangle ? this.#mangle(bytes, direction) : bytes;
    }

    async listen() {
        this.port ??= await freePort();
        this.#server = net.createServer({ allowHalfOpen: true }, (socket) => {
            this.accepted++;
            this.links.add(new Link(this, socket));
        });
        this.#server.listen(this.port, '127.0.0.1', 1024);
        await once(this.#server, 'listening');
    }

    drop() {
        [...this.links].forEach((link) => link.reset());
    }

    async cut() {
        const server = this.#server;
        this.#server = null;
        const closed = server && new Promise((resolve) => { server.close(resolve); });
        this.drop();
        await closed;
    }

    #changed() {
        this.links.forEach((link) => link.wake());
    }

    blackhole(direction) {
        (direction ? [direction] : ['toServer', 'toClient']).forEach((way) => this.#lost.add(way));
    }

    delay(ms) {
        this.latency = ms;
    }

    throttle(bytesPerSecond) {
        this.rate = bytesPerSecond;
        this.#changed();
    }

    corrupt(fn) {
        this.#mangle = fn;
    }

    async heal() {
        this.#lost.clear();
        this.latency = this.rate = 0;
        this.#mangle = null;
        this.#changed();
        if (!this.#server) {
            await this.listen();
        }
    }

    async stop() {
        await this.cut();
    }
}

export async function startRelay(targetPort, { host = '127.0.0.1' } = {}) {
    const relay = new Relay(targetPort, host);
    await relay.listen();
    return relay;
}
