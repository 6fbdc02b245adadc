// What connects one node to the store and the origin. Ends it, and the node is cut off; start it again on its ports, and it is back.
// Usage: node link.mjs STORE_PORT ORIGIN_PORT [PORT_FOR_STORE PORT_FOR_ORIGIN]; prints `store on ...` and `origin on ...`.
import { once } from 'node:events';
import net from 'node:net';

const [store, origin, forStore = 0, forOrigin = 0] = process.argv.slice(2).map(Number);

async function relay(name, from, to) {
    const server = net.createServer({ allowHalfOpen: true }, (near) => {
        const far = net.connect({ port: to, host: '127.0.0.1', allowHalfOpen: true });
        near.pipe(far).pipe(near);
        near.setNoDelay();
        far.setNoDelay();
        near.on('error', () => far.destroy()).on('close', () => far.destroy());
        far.on('error', () => near.destroy()).on('close', () => near.destroy());
    });
    server.listen(from, '127.0.0.1');
    await once(server, 'listening');
    console.log(`${name} on 127.0.0.1:${server.address().port}`);
}

await relay('store', forStore, store);
await relay('origin', forOrigin, origin);
