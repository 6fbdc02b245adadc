// The shop: pages made from rows. Each says with Cache-Tag whose rows it shows. Needs nothing but Node and psql.
// Usage: node app.mjs [PORT], with PGHOST and so on for psql; prints `origin on 127.0.0.1:PORT`.
import { execFile } from 'node:child_process';
import http from 'node:http';
import { promisify } from 'node:util';

const run = promisify(execFile);
let queries = 0;

async function rows(sql) {
    queries += 1;
    const { stdout } = await run('psql', ['-X', '-A', '-t', '-F', '\t', '-c', sql]);
    return stdout.split('\n').filter(Boolean).map((line) => line.split('\t'));
}

// A page and its tags; null when there is none.
async function page(path) {
    const [, kind, name] = path.match(/^\/(product|category)\/([a-z0-9]{1,20})$/) ?? [];
    if (kind === 'product' && /^[0-9]{1,9}$/.test(name)) {
        const [row] = await rows(`SELECT name, price FROM product WHERE id = ${name}`);
        // Also a page that says "no such product" goes when the product comes.
        return { text: row ? `${row[0]}: ${row[1]} EUR` : 'no such product', tags: `product-${name}` };
    }
    if (kind === 'category') {
        const list = await rows(`SELECT name, price FROM product WHERE category = '${name}' ORDER BY id`);
        return { text: list.map((row) => `${row[0]}: ${row[1]} EUR`).join('\n'), tags: `category-${name}` };
    }
    return null;
}

const server = http.createServer(async (request, response) => {
    try {
        const found = await page(new URL(request.url, 'http://shop').pathname);
        if (!found) {
            response.writeHead(404, { 'Content-Type': 'text/plain' }).end('not here\n');
            return;
        }
        // The browser asks every time; the node may answer for a day, since it is told when a row changes.
        response.writeHead(200, {
            'Content-Type': 'text/plain; charset=utf-8', 'Cache-Control': 'no-cache', 'CDN-Cache-Control': 'max-age=86400',
            'Cache-Tag': found.tags, 'X-Queries': String(queries),
        }).end(`${found.text}\n`);
    } catch (error) {
        console.error(error.message);
        response.writeHead(503, { 'Content-Type': 'text/plain', 'Cache-Control': 'no-store' }).end('database away\n');
    }
});

server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
    console.log(`origin on 127.0.0.1:${server.address().port}`);
});
