/**
 * PostgreSQL servers of a test's own: loopback, no fsync, everybody trusted, gone with the test.
 *
 *   startPostgres({args}) -> Promise<Postgres>     args: settings, e.g. ['max_connections=5']
 *   pg.url, .port, .pid                    postgres://postgres@127.0.0.1:port/postgres
 *   pg.query(sql, {database}) -> Promise<string>   through psql -At: a row each line, columns by |; an error throws
 *   pg.psql(file, {database}) -> Promise<string>   a file of SQL
 *   pg.session() -> Promise<Session>       one connection kept open: session.query(sql) -> string, session.close();
 *                                          for open transactions, LISTEN, and many statements (a psql each costs 30 ms)
 *   pg.stop()                              ends it and removes its folder; always the last call
 *   pg.kill()                              SIGKILL, as a crash; restart() recovers
 *   pg.restart()                           again on the same port, what was committed is there
 *   pg.pause() / pg.resume()               SIGSTOP, SIGCONT of all its processes
 *
 * PostgreSQL refuses root, so as root it runs as the user the package makes. The first start of a version makes an empty
 * database cluster (a second) in build/postgres-*; every later one copies it. An IPC namespace of its own (as root) sees to
 * it that a killed server leaves no shared memory behind.
 */
import { execFile, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { find, freePort, LEASH, Server, until } from './server.mjs';

const BUILD = fileURLToPath(new URL('../../../build', import.meta.url));
const INITDB = ['--no-sync', '--no-instructions', '--auth=trust', '--username=postgres', '--encoding=UTF8', '--no-locale',
    '--wal-segsize=1'];
const SETTINGS = ['listen_addresses=127.0.0.1', 'unix_socket_directories=', 'fsync=off', 'full_page_writes=off',
    'shared_buffers=16MB', 'dynamic_shared_memory_type=mmap', 'max_wal_size=64MB', 'log_min_messages=warning',
    'max_connections=40', 'logging_collector=off', 'jit=off'];

const isRoot = process.getuid() === 0;

/** Debian's newest version; what is first on PATH may be anything. */
function bin(name) {
    const root = '/usr/lib/postgresql';
    const versions = fs.existsSync(root) ? fs.readdirSync(root).filter((entry) => /^\d+$/.test(entry)) : [];
    versions.sort((a, b) => b - a);
    return find(name, 'package postgresql', ...versions.map((version) => path.join(root, version, 'bin')));
}

let user;
let canUnshare;

/** Who runs it: ourselves, or for root the package's user. */
function owner() {
    if (!isRoot) {
        return { uid: process.getuid(), gid: process.getgid() };
    }
    if (!user) {
        const line = fs.readFileSync('/etc/passwd', 'utf8').split('\n').find((entry) => entry.startsWith('postgres:'));
        if (!line) {
            throw new Error('PostgreSQL does not run as root, and there is no user postgres: install Debian\'s package '
                + 'postgresql (tools/install-deps check), or run the tests as another user');
        }
        const [, , uid, gid] = line.split(':').map(Number);
        user = { uid, gid };
    }
    return user;
}

/** The prefix that makes a command the owner's. setpriv sets the leash last: changing users would clear it. */
function as({ private: namespace = false } = {}) {
    const { uid, gid } = owner();
    if (!isRoot) {
        return LEASH;
    }
    canUnshare ??= spawnSync('unshare', ['--ipc', 'true']).status === 0; // not in every container
    return [...(namespace && canUnshare ? ['unshare', '--ipc'] : []), ...LEASH, `--reuid=${uid}`, `--regid=${gid}`,
        '--clear-groups'];
}

/** A folder the owner may use. What tests left that were killed goes first: 30 MB each. */
function newFolder() {
    const prefix = path.join(os.tmpdir(), 'doorstep-postgres-');
    for (const name of fs.readdirSync(os.tmpdir())) {
        const pid = /^doorstep-postgres-(\d+)-/.exec(name)?.[1];
        if (pid && !fs.existsSync(`/proc/${pid}`)) {
            fs.rmSync(path.join(os.tmpdir(), name), { recursive: true, force: true });
        }
    }
    const folder = fs.mkdtempSync(`${prefix}${process.pid}-`);
    fs.chownSync(folder, owner().uid, owner().gid);
    return folder;
}

/** Copies an empty database cluster to `data`, made first where no run before this one has. */
function newCluster(data) {
    const version = execFileSync(bin('postgres'), ['--version'], { encoding: 'utf8' }).trim().split(' ')[2];
    const template = path.join(BUILD, `postgres-${version}-${owner().uid}`);
    if (!fs.existsSync(template)) {
        const [command, ...args] = [...as(), bin('initdb'), ...INITDB, '-D', data];
        execFileSync(command, args, { cwd: path.dirname(data), stdio: ['ignore', 'ignore', 'pipe'],
            env: { ...process.env, LC_ALL: 'C' } });
        keep(data, template);
        return;
    }
    execFileSync('cp', ['-a', '--reflink=auto', template, data]);
}

/** Renamed into place, so that two tests at once do no harm. Without a place to keep it every server makes its own. */
function keep(data, template) {
    const mine = `${template}.${process.pid}`;
    try {
        fs.mkdirSync(BUILD, { recursive: true });
        execFileSync('cp', ['-a', data, mine], { stdio: 'ignore' });
        fs.renameSync(mine, template);
    } catch {
        fs.rmSync(mine, { recursive: true, force: true });
    }
}

function childrenOf(pid) {
    try {
        return fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);
    } catch {
        return [];
    }
}

function signalAll(pids, signal) {
    for (const pid of pids) {
        try {
            process.kill(pid, signal);
        } catch (error) {
            if (error.code !== 'ESRCH') {
                throw error;
            }
        }
    }
}

/** Dead, whether or not somebody has asked for its exit code yet. */
function isGone(pid) {
    try {
        return /\) [ZX] /.test(fs.readFileSync(`/proc/${pid}/stat`, 'latin1'));
    } catch {
        return true;
    }
}

/** One psql that stays. */
class Session {
    #out = '';
    #wake = () => {};

    constructor(url) {
        this.child = spawn(LEASH[0], [...LEASH.slice(1), bin('psql'), '-XAtq', url], { stdio: ['pipe', 'pipe', 'pipe'] });
        this.child.stdin.on('error', () => {});
        const hear = (data) => { this.#out += data; this.#wake(); };
        this.child.stdout.on('data', hear);
        this.child.stderr.on('data', hear);
        this.ended = once(this.child, 'close').then(() => { this.over = true; this.#wake(); });
    }

    /** What psql printed for it; an error throws. One at a time. */
    async query(sql) {
        this.#out = '';
        this.child.stdin.write(`${sql.trim().replace(/;*$/, ';')}\n\\warn :SQLSTATE\n\\echo --done--\n`);
        while (!/(^|\n)--done--\n/.test(this.#out) || !/(^|\n)[0-9A-Z]{5}\n/.test(this.#out)) {
            if (this.over) {
                throw new Error(`psql ended: ${this.#out}`);
            }
            await new Promise((resolve) => { this.#wake = resolve; });
        }
        const state = /(?:^|\n)([0-9A-Z]{5})\n/.exec(this.#out)[1];
        const said = this.#out.replace(/(^|\n)--done--\n/, '$1').replace(/(^|\n)[0-9A-Z]{5}\n/, '$1').replace(/\n$/, '');
        if (state !== '00000') {
            throw new Error(said);
        }
        return said;
    }

    async close() {
        this.child.stdin.end('\\q\n');
        await this.ended;
    }
}

export class Postgres {
    #server = null;
    #sessions = [];
    #args;

    constructor(args) {
        this.#args = args;
        this.folder = newFolder();
        this.data = path.join(this.folder, 'data');
    }

    get url() { return this.urlOf('postgres'); }
    get pid() { return this.#server.pid; }
    get said() { return this.#server.said; }

    urlOf(database) {
        return `postgres://postgres@127.0.0.1:${this.port}/${database}`;
    }

    async start() {
        for (let tries = 0; !this.#server?.alive; tries++) {
            const fixed = this.port !== undefined;
            this.port ??= await freePort();
            const settings = [...SETTINGS, `port=${this.port}`, ...this.#args].flatMap((setting) => ['-c', setting]);
            this.#server = new Server([...as({ private: true }), bin('postgres'), '-D', this.data, ...settings],
                { cwd: this.folder });
            if (await this.#ready()) {
                return;
            }
            await this.#server.ended();
            if (fixed || tries === 5 || !/in use/i.test(this.#server.said)) {
                throw new Error(`postgres did not start:\n${this.#server.said}`);
            }
            this.port = undefined;
        }
    }

    /** Its own pid file says when connections are taken: the last line, PM_STATUS. */
    async #ready() {
        const file = path.join(this.data, 'postmaster.pid');
        await until(() => {
            const lines = fs.existsSync(file) ? fs.readFileSync(file, 'latin1').split('\n') : [];
            return !this.#server.alive || (Number(lines[0]) === this.#server.pid && /^ready/.test(lines[7] ?? ''));
        }, 'postgres');
        return this.#server.alive;
    }

    async #psql(args, database = 'postgres') {
        const command = ['-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', this.urlOf(database), ...args];
        const { stdout } = await promisify(execFile)(bin('psql'), command, { maxBuffer: 1 << 26 });
        return stdout.replace(/\n$/, '');
    }

    query(sql, { database } = {}) {
        return this.#psql(['-c', sql], database);
    }

    psql(file, { database } = {}) {
        return this.#psql(['-f', file], database);
    }

    async session(database = 'postgres') {
        const session = new Session(this.urlOf(database));
        this.#sessions.push(session);
        await session.query('SELECT 1');
        return session;
    }

    #all() {
        return this.#server.alive ? [this.#server.pid, ...childrenOf(this.#server.pid)] : [];
    }

    pause() {
        signalAll(this.#all(), 'SIGSTOP');
    }

    resume() {
        signalAll(this.#all(), 'SIGCONT');
    }

    /** The children notice a dead postmaster by themselves, but later than a restart may come. */
    async kill() {
        const all = this.#all();
        signalAll(all, 'SIGKILL');
        await this.#server.ended();
        await until(() => all.every(isGone), 'the end of the children of postgres');
    }

    /** SIGINT: sessions are ended, nothing is lost. */
    async #end() {
        this.resume();
        await this.#server.kill('SIGINT');
    }

    async restart() {
        await this.#end();
        await this.start();
    }

    async stop() {
        const ends = this.#sessions.map((session) => session.close());
        await this.#end();
        await Promise.all(ends);
        fs.rmSync(this.folder, { recursive: true, force: true });
    }
}

export async function startPostgres({ args = [] } = {}) {
    const postgres = new Postgres(args);
    try {
        newCluster(postgres.data);
        await postgres.start();
    } catch (error) {
        fs.rmSync(postgres.folder, { recursive: true, force: true });
        throw error;
    }
    return postgres;
}
