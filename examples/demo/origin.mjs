// The demo's origin: a static page, and a JSON endpoint that takes its time. Needs nothing but Node.
// Usage: node origin.mjs [PORT]; prints `origin on 127.0.0.1:PORT`.
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const PUBLIC = fileURLToPath(new URL('public', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.css': 'text/css', '.js': 'text/javascript', '.svg': 'image/svg+xml' };
const SLOW_MS = 400;
let requests = 0;

// Everything is read once: names outside the folder simply do not exist.
const files = new Map(fs.readdirSync(PUBLIC).map((name) => [`/${name}`, fs.readFileSync(path.join(PUBLIC, name))]));
files.set('/', files.get('/index.html'));

const server = http.createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://origin');
    requests += 1;
    if (pathname === '/api/report') {
        // The browser asks every time; the node may answer for 5 s, and for 30 s more while it fetches a newer one.
        setTimeout(() => {
            const body = JSON.stringify({ made: new Date().toISOString(), took_ms: SLOW_MS, origin_requests: requests });
            response.writeHead(200, {
                'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body),
                'Cache-Control': 'no-cache', 'CDN-Cache-Control': 'max-age=5, stale-while-revalidate=30',
            }).end(body);
        }, SLOW_MS);
        return;
    }
    const file = files.get(pathname);
    if (!file) {
        response.writeHead(404, { 'Content-Type': 'text/plain', 'Cache-Control': 'max-age=5' }).end('not here\n');
        return;
    }
    const type = TYPES[path.extname(pathname)] ?? TYPES['.html'];
    response.writeHead(200, {
        'Content-Type': type, 'Content-Length': file.length, 'Cache-Control': 'max-age=60',
    }).end(request.method === 'HEAD' ? undefined : file);
});

server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
    console.log(`origin on 127.0.0.1:${server.address().port}`);
});
