/**
 * A small file system of a test's own, for disks that are full or read-only. Needs root; elsewhere the test is skipped.
 *
 *   noTmpfs() -> false | string            why there is none: for a test's `skip`
 *   mountTmpfs({size = '4m'}) -> Promise<Tmpfs>
 *   tmpfs.path                             where it is mounted, writable by everybody
 *   tmpfs.available                        bytes left
 *   tmpfs.fill(leave = 0), tmpfs.free()    a file takes all but `leave` bytes; removes it
 *   tmpfs.resize(size)                     e.g. '8m'; not below what is used
 *   tmpfs.remount('ro' | 'rw')             'ro' throws while a file is open for writing: the kernel says EBUSY
 *   tmpfs.unmount() -> Promise             also when files are open in it; happens by itself when the test dies
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** Stays until its input ends, which it does however the test ends. */
const GUARDIAN = 'mount -t tmpfs -o "size=$2,mode=1777" doorstep-test "$1" && echo mounted && read -r _; '
    + 'umount -l "$1"; rmdir "$1"';

let reason;

/** Tried out: root in a container may not mount either. */
function whyNot() {
    if (process.getuid() !== 0) {
        return 'mounting a tmpfs needs root';
    }
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'doorstep-tmpfs-'));
    const { status } = spawnSync('sh', ['-c', 'mount -t tmpfs doorstep-test "$1" && umount "$1"', 'sh', folder]);
    fs.rmdirSync(folder);
    return status === 0 ? '' : 'this machine does not let us mount';
}

export function noTmpfs() {
    reason ??= whyNot();
    return reason || false;
}

class Tmpfs {
    #guardian;

    constructor(folder, guardian) {
        this.path = folder;
        this.#guardian = guardian;
    }

    get available() {
        const { bavail, bsize } = fs.statfsSync(this.path);
        return bavail * bsize;
    }

    get #ballast() {
        return path.join(this.path, '.ballast');
    }

    fill(leave = 0) {
        this.free();
        fs.writeFileSync(this.#ballast, Buffer.alloc(Math.max(0, this.available - leave)));
    }

    free() {
        fs.rmSync(this.#ballast, { force: true });
    }

    #mount(options) {
        execFileSync('mount', ['-o', `remount,${options}`, this.path], { stdio: ['ignore', 'ignore', 'pipe'] });
    }

    resize(size) {
        this.#mount(`size=${size}`);
    }

    remount(mode) {
        this.#mount(mode);
    }

    async unmount() {
        if (this.#guardian.exitCode === null) {
            this.#guardian.ref();
            this.#guardian.stdin.end();
            await once(this.#guardian, 'exit');
        }
    }
}

export async function mountTmpfs({ size = '4m' } = {}) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'doorstep-tmpfs-'));
    const guardian = spawn('sh', ['-c', GUARDIAN, 'sh', folder, size], { detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
    let said = '';
    guardian.stderr.on('data', (data) => { said += data; });
    const [answer] = await Promise.race([once(guardian.stdout, 'data'), once(guardian, 'close')]);
    if (!/mounted/.test(String(answer))) {
        throw new Error(`no tmpfs at ${folder}: ${said}`);
    }
    [guardian, guardian.stdin, guardian.stdout, guardian.stderr].forEach((handle) => handle.unref());
    return new Tmpfs(folder, guardian);
}
