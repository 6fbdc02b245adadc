/**
 * How each server is set up. Every one has one worker on the server CPU, 512 MB of cache, keep-alive on both sides and no
 * limit on requests per connection. `/pass/` is never cached. Nobody follows a hop we would not: all listen on loopback.
 *
 * `lean`: no log file and no added field but Age. `full`: a combined-format line per request in a file, and what the
 * server says by default about itself and the cache.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { BUILD, freePort, Server } from './process.mjs';

function write(dir, name, text) {
    const file = path.join(dir, name);
    fs.writeFileSync(file, text);
    return file;
}

function nginxConf(dir, body) {
    return `
        user root;
        worker_processes 1;
        pid ${dir}/nginx.pid;
        error_log ${dir}/error.log crit;
        daemon off;
        events { worker_connections 16000; }
        http {
            client_body_temp_path ${dir}/b; proxy_temp_path ${dir}/p; fastcgi_temp_path ${dir}/f;
            uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s;
            keepalive_requests 1000000000;
            keepalive_timeout 600s;
            tcp_nodelay on;
            sendfile on;
            ${body}
        }`;
}

/** The origin of the request rows: static files, counted by stub_status. */
export async function startNginxOrigin(work, cpu) {
    const dir = path.join(work, 'origin');
    const port = await freePort();
    for (const sub of ['root', 'root/pass']) {
        fs.mkdirSync(path.join(dir, sub), { recursive: true });
        fs.writeFileSync(path.join(dir, sub, '1k'), 'x'.repeat(1024));
        fs.writeFileSync(path.join(dir, sub, '100k'), 'x'.repeat(100 * 1024));
    }
    const conf = write(dir, 'nginx.conf', nginxConf(dir, `
        access_log off;
        server {
            listen 127.0.0.1:${port} backlog=4096;
            root ${dir}/root;
            default_type application/octet-stream;
            open_file_cache max=100 inactive=600s;
            location / { add_header Cache-Control "max-age=86400"; }
            location /pass/ { add_header Cache-Control "no-store"; }
            location = /-/status { stub_status; }
        }`));
    const server = new Server('nginx origin', cpu, ['nginx', '-e', `${dir}/error.log`, '-c', conf], { log: `${dir}/stderr.log` });
    server.port = port;
    return server.ready(port, '/1k');
}

async function startNginx(dir, cpu, origin, full) {
    const port = await freePort();
    const conf = write(dir, 'nginx.conf', nginxConf(dir, `
        ${full ? `access_log ${dir}/access.log combined;` : 'access_log off;'}
        open_file_cache max=200000 inactive=600s;
        open_file_cache_valid 600s;
        proxy_cache_path ${dir}/cache levels=1:2 keys_zone=c:400m max_size=8g inactive=1d use_temp_path=off;
        upstream origin { server 127.0.0.1:${origin}; keepalive 256; keepalive_requests 1000000000; }
        server {
            listen 127.0.0.1:${port} backlog=4096;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_ignore_headers Set-Cookie;
            ${full ? 'add_header X-Cache-Status $upstream_cache_status always;' : ''}
            location / { proxy_pass http://origin; proxy_cache c; }
            location /pass/ { proxy_pass http://origin; proxy_cache off; }
        }`));
    const server = new Server('nginx', cpu, ['nginx', '-e', `${dir}/error.log`, '-c', conf], { log: path.join(dir, 'stderr.log') });
    server.port = port;
    return server.ready(port, '/1k');
}

async function startHaproxy(dir, cpu, origin, full) {
    const port = await freePort();
    const conf = write(dir, 'haproxy.cfg', `
global
    nbthread 1
    maxconn 8000
    ${full ? 'log stdout format raw local0 info' : ''}
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 60s
    timeout http-keep-alive 600s
    ${full ? 'log global\n    option httplog' : ''}
cache c
    total-max-size 512
    max-object-size 1048576
    max-age 86400
frontend f
    bind 127.0.0.1:${port} backlog 4096
    acl pass path_beg /pass/
    http-request cache-use c unless pass
    http-response cache-store c
    ${full ? 'http-response set-header X-Cache HIT if !{ srv_id -m found }\n' : ''}
    default_backend b
backend b
    http-reuse always
    server s 127.0.0.1:${origin} pool-max-conn 256
`);
    const server = new Server('HAProxy', cpu, ['haproxy', '-q', '-db', '-f', conf],
        { log: path.join(dir, full ? 'access.log' : 'stderr.log') });
    server.port = port;
    return server.ready(port, '/1k');
}

async function startVarnish(dir, cpu, origin, full, { memory = '512m', cli } = {}) {
    const port = await freePort();
    const vcl = write(dir, 'default.vcl', `
vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "${origin}"; }
sub vcl_recv { if (req.url ~ "^/pass/") { return (pass); } return (hash); }
sub vcl_deliver { ${full ? '' : 'unset resp.http.Via; unset resp.http.X-Varnish;'} }
`);
    const server = new Server('Varnish', cpu, ['varnishd', '-F', '-j', 'none', '-n', path.join(dir, 'n'),
        ...(cli ? ['-T', `127.0.0.1:${cli}`, '-S', 'none'] : []), '-a', `127.0.0.1:${port}`, '-f', vcl, '-s', `malloc,${memory}`, '-p', 'thread_pools=1', '-p', 'thread_pool_min=100',
        '-p', 'thread_pool_max=5000', '-p', 'timeout_idle=600', '-p', 'listen_depth=4096'], { log: path.join(dir, 'log') });
    server.port = port;
    await server.ready(port, '/1k');
    if (full) {
        server.logger = new Server('varnishncsa', cpu, ['varnishncsa', '-n', path.join(dir, 'n'), '-w',
            path.join(dir, 'access.log')]);
        const own = server.cpu.bind(server);
        server.cpu = () => own() + server.logger.cpu();
        const stop = server.stop.bind(server);
        server.stop = () => Promise.all([server.logger.stop(), stop()]);
    }
    return server;
}

/**
 * Our configuration; JSON is YAML. `defaults`: what a node does that nobody configured, its log in a file. `more`: sections
 * that come on top, or that replace those of the same name; as a function, of the configuration so far.
 */
async function startDoorstep(dir, cpu, origin, mode, { memory = '512M', env = {}, prefix = [], more = {} } = {}) {
    const port = await freePort();
    const log = path.join(dir, 'access.log');
    const lean = { via: false, cache_status: false, server_timing: false, request_id: false, forwarded: 'none' };
    const full = { server_timing: false, request_id: false };
    const rule = { upstream: 'app', ...({ lean, full }[mode] ?? {}) };
    const site = {
        listen: [`127.0.0.1:${port}`],
        threads: 1,
        memory: { size: memory },
        admin: { enabled: false },
        access_log: mode === 'lean' ? { path: 'off' } : {
            path: log, ...(mode === 'full' ? { format: 'combined', query: true, addresses: 'full' } : {}),
        },
        limits: { requests_per_connection: 0, connections: 16000, connections_per_client: 0, idle_timeout: '10m' },
        upstreams: { app: { servers: [`http://127.0.0.1:${origin}`] } },
        routes: [{ match: '/pass/*', cache: false, ...rule }, { match: '/*', ...rule }],
    };
    const all = { ...site, ...(typeof more === 'function' ? more(site, dir) : more) };
    const conf = write(dir, 'site.yaml', JSON.stringify(all, null, 1));
    const server = new Server('Doorstep', cpu, [...prefix, path.join(BUILD, 'doorstep'), 'run', '-c', conf],
        { log: path.join(dir, 'log'), env });
    Object.assign(server, { port, dir, admin: Number(/:(\d+)$/.exec(all.admin.listen)?.[1]) });
    return server.ready(port, '/1k');
}

/** nginx with a cache on disk, written where `dir` is; everything else as above. */
export async function startNginxDisk(dir, cpu, origin, { keys, size }) {
    fs.mkdirSync(dir, { recursive: true });
    const port = await freePort();
    const conf = write(dir, 'nginx.conf', nginxConf(dir, `
        access_log off;
        proxy_cache_path ${dir}/cache levels=1:2 keys_zone=c:${keys}m max_size=${size}m inactive=1d
            use_temp_path=off loader_files=1000;
        upstream origin { server 127.0.0.1:${origin}; keepalive 256; keepalive_requests 1000000000; }
        server {
            listen 127.0.0.1:${port} backlog=4096;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            location / { proxy_pass http://origin; proxy_cache c; }
        }`));
    const server = new Server('nginx', cpu, ['nginx', '-e', `${dir}/error.log`, '-c', conf], { log: path.join(dir, 'stderr.log') });
    Object.assign(server, { port, dir, kind: 'nginx' });
    return server.ready(port, '/1k');
}

/**
 * Three upstreams behind `/a/`, `/b/` and `/c/`, nothing cached, two seconds for an answer.
 * @param {'nginx'|'haproxy'|'doorstep'|'doorstep, breaker off'} kind @param {number[]} origins their ports
 */
export async function startThree(kind, work, cpu, origins) {
    const dir = path.join(work, `${kind}-${serial++}`);
    fs.mkdirSync(dir, { recursive: true });
    const port = await freePort();
    const named = ['a', 'b', 'c'].map((name, i) => [name, origins[i]]);
    let server;
    if (kind === 'nginx') {
        const conf = write(dir, 'nginx.conf', nginxConf(dir, `
            access_log off;
            ${named.map(([name, to]) => `upstream ${name} { server 127.0.0.1:${to}; keepalive 256;
                keepalive_requests 1000000000; }`).join('\n')}
            server {
                listen 127.0.0.1:${port} backlog=4096;
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_read_timeout 2s;
                proxy_next_upstream off;
                ${named.map(([name]) => `location /${name}/ { proxy_pass http://${name}; }`).join('\n')}
            }`));
        server = new Server('nginx', cpu, ['nginx', '-e', `${dir}/error.log`, '-c', conf], { log: path.join(dir, 'stderr.log') });
    } else if (kind === 'haproxy') {
        const conf = write(dir, 'haproxy.cfg', `
global
    nbthread 1
    maxconn 8000
defaults
    mode http
    timeout connect 2s
    timeout client 600s
    timeout server 2s
    retries 0
    http-reuse always
frontend f
    bind 127.0.0.1:${port} backlog 4096
${named.map(([name]) => `    use_backend ${name} if { path_beg /${name}/ }`).join('\n')}
${named.map(([name, to]) => `backend ${name}\n    server s 127.0.0.1:${to} pool-max-conn 256`).join('\n')}
`);
        server = new Server('HAProxy', cpu, ['haproxy', '-q', '-db', '-f', conf], { log: path.join(dir, 'stderr.log') });
    } else {
        const lean = { via: false, cache_status: false, server_timing: false, request_id: false, forwarded: 'none' };
        const conf = write(dir, 'site.yaml', JSON.stringify({
            listen: [`127.0.0.1:${port}`], threads: 1, admin: { enabled: false },
            limits: { requests_per_connection: 0, connections_per_client: 0 },
            upstreams: Object.fromEntries(named.map(([name, to]) => [name, {
                servers: [`http://127.0.0.1:${to}`], max_connections: 0, retries: 0, connect_timeout: '2s',
                first_byte_timeout: '2s', breaker: { enabled: kind === 'doorstep' },
            }])),
            routes: named.map(([name]) => ({ match: `/${name}/*`, upstream: name, cache: false, ...lean })),
        }, null, 1));
        server = new Server('Doorstep', cpu, [path.join(BUILD, 'doorstep'), 'run', '-c', conf], { log: path.join(dir, 'log') });
    }
    server.port = port;
    return server.ready(port, '/a/x');
}

async function startBare(dir, cpu, size) {
    const port = await freePort();
    const server = new Server('bare responder', cpu, [path.join(BUILD, 'bench/bare_responder'), String(port), String(size)]);
    server.port = port;
    return server.ready(port, '/1k');
}

const starters = { nginx: startNginx, haproxy: startHaproxy, varnish: startVarnish, doorstep: startDoorstep };
let serial = 0;

/** @param {'nginx'|'haproxy'|'varnish'|'doorstep'|'bare'} kind */
export async function start(kind, work, cpu, originPort, options = {}) {
    const dir = path.join(work, `${kind}-${serial++}`);
    fs.mkdirSync(dir, { recursive: true });
    if (kind === 'bare') {
        return startBare(dir, cpu, options.size);
    }
    const mode = options.mode ?? 'lean';
    return starters[kind](dir, cpu, originPort, kind === 'doorstep' ? mode : mode === 'full', options);
}

export function versions() {
    const first = (command, ...args) => {
        try {
            const output = execFileSync('sh', ['-c', `${command} ${args.join(' ')} 2>&1`], { encoding: 'utf8' });
            return output.split('\n').find((line) => /version|varnish-|\d+\.\d+/i.test(line)).trim();
        } catch {
            return `${command}: unknown`;
        }
    };
    return [first('nginx', '-v'), first('haproxy', '-v'), first('varnishd', '-V'), first(`${BUILD}/doorstep`, 'version')];
}
