/* The node between real peers: nginx as the origin, Chromium, curl and undici as clients. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';
import { Client as Undici, request as fetchOnce, WebSocket } from 'undici';
import { cacheStatus, Node, scratch, siteConfig } from '../flow/harness/flow.mjs';

const exec = promisify(execFile);
const ASSETS = 40;
const LIMIT = { timeout: 90_000 };

let folder;
let nginx;
let node;
let base;

/** A page with 40 assets of the usual kinds. */
function writeSite(root) {
    fs.mkdirSync(path.join(root, 'assets'), { recursive: true });
    const tags = [];
    for (let i = 0; i < ASSETS; i++) {
        const [name, text, tag] = [
            () => [`s${i}.css`, `.c${i} { color: rgb(${i}, 0, 0) } /* ${'.'.repeat(i * 500)} */`,
                (file) => `<link rel="stylesheet" href="/assets/${file}">`],
            () => [`j${i}.js`, `window.loaded = (window.loaded || 0) + 1; // ${'.'.repeat(i * 500)}`,
                (file) => `<script src="/assets/${file}"></script>`],
            () => [`i${i}.svg`, `<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="${i}" height="9"/></svg>`,
                (file) => `<img src="/assets/${file}" alt="">`],
            () => [`d${i}.json`, JSON.stringify({ i, pad: '.'.repeat(i * 900) }),
                (file) => `<script>waits.push(fetch('/assets/${file}').then((r) => r.json()))</script>`],
        ][i % 4]();
        fs.writeFileSync(path.join(root, 'assets', name), text);
        tags.push(tag(name));
    }
    fs.writeFileSync(path.join(root, 'index.html'), `<!doctype html><meta charset="utf-8"><title>assets</title>
<link rel="icon" href="data:,"><script>window.waits = []</script>${tags.join('\n')}
<script>addEventListener('load', () => Promise.all(waits).then(() => { document.title = 'done ' + window.loaded }))</script>`);
    fs.writeFileSync(path.join(root, 'assets', 'large.bin'), Buffer.alloc(3_000_000, 'doorstep'));
}

/** A free port: nginx cannot be asked which one it took. */
async function freePort() {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    server.close();
    await once(server, 'close');
    return port;
}

async function startNginx(root) {
    const port = await freePort();
    fs.writeFileSync(path.join(folder, 'nginx.conf'), `
daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log stderr crit;
events { worker_connections 256; }
http {
    include /etc/nginx/mime.types; default_type application/octet-stream;
    access_log off; sendfile on; gzip on; gzip_min_length 200; gzip_types text/css application/javascript application/json;
    gzip_vary on; gzip_proxied any;
    client_body_temp_path ${folder}/t1; proxy_temp_path ${folder}/t2; fastcgi_temp_path ${folder}/t3;
    uwsgi_temp_path ${folder}/t4; scgi_temp_path ${folder}/t5;
    server {
        listen 127.0.0.1:${port}; root ${root};
        location /assets/ { add_header Cache-Control "public, max-age=3600"; }
        location / { add_header Cache-Control "no-cache"; }
    }
}`);
    const child = spawn('nginx', ['-c', path.join(folder, 'nginx.conf'), '-p', folder, '-e', 'stderr'], { stdio: 'inherit' });
    child.port = port;
    for (let failed = true; failed;) { // nginx says nothing when it is ready
        const socket = net.connect(port, '127.0.0.1');
        failed = await new Promise((resolve) => { socket.on('connect', () => resolve(false)); socket.on('error', () => resolve(true)); });
        socket.destroy();
        assert.equal(child.exitCode, null, 'nginx ended');
    }
    return child;
}

before(async () => {
    folder = scratch();
    const root = path.join(folder, 'www');
    writeSite(root);
    fs.chmodSync(folder, 0o755); // nginx's worker may be another user
    nginx = await startNginx(root);
    node = await Node.start({ config: siteConfig([`http://127.0.0.1:${nginx.port}`]) });
    base = `http://127.0.0.1:${node.port}`;
}, LIMIT);

after(async () => {
    await node?.stop();
    if (nginx) {
        nginx.kill('SIGTERM');
        await once(nginx, 'exit');
    }
    fs.rmSync(folder, { recursive: true, force: true });
});

/** Loads the page in a browser that has nothing cached; returns url -> response headers. */
async function load() {
    const profile = scratch();
    const context = await chromium.launchPersistentContext(profile, {
        executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
        headless: true,
        args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
            '--disable-component-update', '--disable-sync'],
    });
    try {
        const page = await context.newPage();
        const seen = new Map();
        const heads = [];
        const open = new Set();
        page.on('request', (request) => open.add(request.url()));
        page.on('requestfinished', (request) => open.delete(request.url()));
        page.on('response', (response) => heads.push(response.allHeaders().then((headers) =>
            seen.set(new URL(response.url()).pathname, { status: response.status(), headers }))));
        const document = await page.goto(`${base}/`);
        assert.equal(document.status(), 200, JSON.stringify(await document.allHeaders()));
        await page.waitForFunction(() => document.title.startsWith('done'), null, { timeout: 20_000 })
            .catch((error) => { throw new Error(`${error.message} Unfinished: ${[...open].join(' ') || 'nothing'}`); });
        await Promise.all(heads);
        assert.equal(await page.title(), `done ${ASSETS / 4}`);
        return seen;
    } finally {
        await context.close();
        fs.rmSync(profile, { recursive: true, force: true });
    }
}

test('a page with 40 assets loads in Chromium through the node, the second time all from memory', LIMIT, async () => {
    const first = await load();
    assert.equal([...first.keys()].filter((name) => name.startsWith('/assets/')).length, ASSETS);
    const second = await load();
    let hits = 0;
    for (const [name, { status, headers }] of second) {
        assert.equal(status, 200, name);
        if (name.startsWith('/assets/')) {
            assert.match(headers['cache-status'], /"?test-1"?; *hit/, `${name}: ${headers['cache-status']}`);
            assert.ok(headers.age !== undefined && headers['server-timing'] !== undefined, name);
            hits++;
        }
    }
    assert.equal(hits, ASSETS);
});

const curl = async (...args) => (await exec('curl', ['-sS', '--max-time', '20', ...args], { encoding: 'buffer', maxBuffer: 1e8 })).stdout;

test('curl: keep-alive, compression, conditional, range and HTTP/1.0', LIMIT, async () => {
    const large = fs.readFileSync(path.join(folder, 'www/assets/large.bin'));
    const url = `${base}/assets/large.bin`;
    assert.ok((await curl(url)).equals(large));
    assert.ok((await curl(url)).equals(large));
    assert.ok((await curl('-r', '100-199', url)).equals(large.subarray(100, 200)));
    assert.ok((await curl('-r', '-50', url)).equals(large.subarray(-50)));
    assert.match((await curl('-r', '0-1,2000000-2000001', url)).toString('latin1'), /content-range: bytes 2000000-2000001\/3000000/i);
    assert.ok((await curl('-0', url)).equals(large));
    const head = (await curl('-I', url)).toString();
    assert.match(head, /^HTTP\/1\.1 200/);
    assert.match(head, /cache-status: .*hit/i);
    const etag = /etag: (.*)\r/i.exec(head)[1];
    assert.equal((await curl('-o', '/dev/null', '-w', '%{http_code}', '-H', `If-None-Match: ${etag}`, url)).toString(), '304');
    const plain = await curl(`${base}/assets/j37.js`);
    assert.ok((await curl('--compressed', `${base}/assets/j37.js`)).equals(plain), 'gzip and plain are two variants');
    assert.ok((await curl(`${base}/assets/j37.js`)).equals(plain));
    const connects = (await curl('-o', '/dev/null', '-o', '/dev/null', '-o', '/dev/null', '-w', '%{num_connects} ',
        url, `${base}/assets/s4.css`, `${base}/`)).toString();
    assert.equal(connects.trim(), '1 0 0');
    assert.ok(plain.equals(fs.readFileSync(path.join(folder, 'www/assets/j37.js'))));
});

test('curl: a transfer resumed where it stopped', LIMIT, async () => {
    const file = path.join(folder, 'resumed');
    const large = fs.readFileSync(path.join(folder, 'www/assets/large.bin'));
    fs.writeFileSync(file, large.subarray(0, 1_000_000));
    await curl('-C', '-', '-o', file, `${base}/assets/large.bin`);
    assert.ok(fs.readFileSync(file).equals(large));
});

test('curl: uploads reach nginx and are refused by it, with Expect and without', LIMIT, async () => {
    const file = path.join(folder, 'www/assets/large.bin');
    for (const expect of ['Expect: 100-continue', 'Expect:']) {
        const code = (await curl('-o', '/dev/null', '-w', '%{http_code}', '-H', expect, '--data-binary', `@${file}`,
            `${base}/assets/s0.css`)).toString();
        assert.match(code, /^(405|413)$/);
    }
});

test('undici: pipelining on one connection, answers in order', LIMIT, async () => {
    const client = new Undici(base, { pipelining: 10 });
    const names = fs.readdirSync(path.join(folder, 'www/assets')).filter((name) => name !== 'large.bin');
    const bodies = await Promise.all(names.map(async (name) => {
        const { body, statusCode } = await client.request({ path: `/assets/${name}`, method: 'GET' });
        assert.equal(statusCode, 200);
        return Buffer.from(await body.arrayBuffer());
    }));
    for (const [i, name] of names.entries()) {
        assert.ok(bodies[i].equals(fs.readFileSync(path.join(folder, 'www/assets', name))), name);
    }
    await client.close();
});

/** An echo server that speaks just enough WebSocket (RFC 6455) for one short text frame at a time. */
function startEcho() {
    const server = http.createServer((request, response) => response.writeHead(426).end());
    server.on('upgrade', (request, socket) => {
        const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
            .digest('base64');
        socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n`
            + `Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
        socket.on('error', () => {});
        socket.on('data', (frame) => {
            const length = frame[1] & 127;
            if ((frame[0] & 15) === 8) {
                socket.end(Buffer.from([0x88, 2, frame[6] ^ frame[2], frame[7] ^ frame[3]]));
                return;
            }
            const text = Buffer.from(frame.subarray(6, 6 + length).map((byte, i) => byte ^ frame[2 + (i & 3)]));
            socket.write(Buffer.concat([Buffer.from([0x81, length]), text]));
        });
    });
    return server;
}

test('WebSocket: a real client talks through the node and closes cleanly', LIMIT, async () => {
    const echo = startEcho().listen(0, '127.0.0.1');
    await once(echo, 'listening');
    const front = await Node.start({ config: siteConfig([`http://127.0.0.1:${echo.address().port}`]) });
    try {
        const socket = new WebSocket(`ws://127.0.0.1:${front.port}/chat`);
        await once(socket, 'open');
        for (const text of ['hello', 'again', 'grüezi']) {
            socket.send(text);
            const [message] = await once(socket, 'message');
            assert.equal(message.data, text);
        }
        socket.close(1000);
        const [end] = await once(socket, 'close');
        assert.equal(end.code, 1000);
    } finally {
        await front.stop();
        echo.close();
    }
});

test('undici: conditional requests and Cache-Status', LIMIT, async () => {
    const url = `${base}/assets/i2.svg`;
    const first = await fetchOnce(url);
    await first.body.dump();
    const second = await fetchOnce(url, { headers: { 'if-none-match': first.headers.etag } });
    await second.body.dump();
    assert.equal(second.statusCode, 304);
    assert.equal(cacheStatus({ header: (name) => second.headers[name] }).hit, true);
});

test('the page itself is revalidated with nginx each time', LIMIT, async () => {
    const first = await fetchOnce(`${base}/`);
    await first.body.dump();
    const second = await fetchOnce(`${base}/`);
    await second.body.dump();
    assert.match(String(second.headers['cache-status']), /fwd=stale.*fwd-status=304/);
    assert.equal(second.statusCode, 200);
});
