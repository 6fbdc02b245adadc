/**
 * A disk that fails a node, for the files below one folder; works without root and with files that are open already.
 *
 *   new DiskFaults(folder)                 no fault yet; folder: absolute, without symbolic links
 *   faults.env                             for flow()'s, startNode()'s or startNodes()' env (with a Clock: { ...clock.env,
 *                                          ...faults.env })
 *   faults.set({write, allocate, sync, open, tidy, read, after, every, torn, cold})
 *       what the node's calls meet from now on; what is not named goes well. The first six: 'EIO', 'ENOSPC', 'EROFS' ...
 *       (any of os.constants.errno), or 'CRASH': the node is killed in the middle of that call.
 *         write    write, pwrite, writev           open  open for writing, mkdir
 *         allocate fallocate                       tidy  rename, unlink, ftruncate, punching holes
 *         sync     fsync, fdatasync                read  read, pread, preadv, sendfile
 *       after: n     so many of the calls that are to fail go well first
 *       every: n     then one in n fails
 *       torn: true   a write that fails has moved its first half (CRASH always does)
 *       cold: true   preadv2(RWF_NOWAIT) finds nothing in the page cache
 *   faults.full(), faults.readOnly(), faults.broken(), faults.clear()      the usual ones: ENOSPC, EROFS, EIO everywhere
 *   faults.calls, faults.failed            since the last change: calls of the named kinds, and how many of them failed
 */
import fs from 'node:fs';
import os from 'node:os';
import { shim, shimFile } from './shim.mjs';

/** As in shim_disk.c: struct control. */
const KINDS = ['write', 'allocate', 'sync', 'open', 'tidy', 'read'];
const FIELDS = [...KINDS, 'after', 'every', 'torn', 'cold', 'calls', 'failed'];

function errorOf(name) {
    const number = name === undefined ? 0 : name === 'CRASH' ? -1 : os.constants.errno[name];
    if (number === undefined) {
        throw new Error(`no such error: ${name}`);
    }
    return number;
}

export class DiskFaults {
    constructor(folder) {
        this.folder = folder;
        this.file = shimFile('disk');
        fs.writeFileSync(this.file, Buffer.alloc(FIELDS.length * 4));
    }

    get env() {
        return { LD_PRELOAD: shim(), FAULT_DISK_DIR: this.folder, FAULT_DISK_FILE: this.file };
    }

    set(faults) {
        const unknown = Object.keys(faults).find((name) => !FIELDS.includes(name));
        if (unknown) {
            throw new Error(`no such fault: ${unknown}`);
        }
        const bytes = Buffer.alloc(FIELDS.length * 4);
        FIELDS.forEach((name, i) => {
            bytes.writeInt32LE(KINDS.includes(name) ? errorOf(faults[name]) : Number(faults[name] ?? 0), i * 4);
        });
        const fd = fs.openSync(this.file, 'r+'); // in place: the node has the file mapped
        fs.writeSync(fd, bytes, 0, bytes.length, 0);
        fs.closeSync(fd);
    }

    full() {
        this.set({ write: 'ENOSPC', allocate: 'ENOSPC', open: 'ENOSPC' });
    }

    readOnly() {
        this.set({ write: 'EROFS', allocate: 'EROFS', open: 'EROFS', tidy: 'EROFS' });
    }

    broken() {
        this.set(Object.fromEntries(KINDS.map((kind) => [kind, 'EIO'])));
    }

    clear() {
        this.set({});
    }

    #field(name) {
        return fs.readFileSync(this.file).readInt32LE(FIELDS.indexOf(name) * 4);
    }

    get calls() { return this.#field('calls'); }
    get failed() { return this.#field('failed'); }
}
