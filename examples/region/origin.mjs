// The region's origin, far away: every answer takes 300 ms and says how many requests have come so far.
// Usage: node origin.mjs [PORT]; prints `origin on 127.0.0.1:PORT`.
import http from 'node:http';

const FAR_MS = 300;
let requests = 0;

const server = http.createServer((request, response) => {
    const name = new URL(request.url, 'http://origin').pathname.slice(1) || 'home';
    requests += 1;
    const body = `page ${name}, answer ${requests} of the origin\n`;
    setTimeout(() => {
        response.writeHead(200, {
            'Content-Type': 'text/plain', 'Content-Length': body.length, 'Cache-Control': 'max-age=600', 'Cache-Tag': `page-${name}`,
        }).end(body);
    }, FAR_MS);
});

server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
    console.log(`origin on 127.0.0.1:${server.address().port}`);
});
