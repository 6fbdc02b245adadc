/**
 * A wall clock of its own for a node: two nodes with clocks apart, a clock that jumps while the node runs. Timers and
 * everything else that asks the monotonic clock go on as ever.
 *
 *   shim() -> string                       path of tests/fault/shim.c, compiled once for each test file
 *   new Clock(ms = 0)                      ms: what is added to the real time, may be negative
 *   clock.env                              for flow()'s, startNode()'s or startNodes()' env
 *   clock.set(ms), clock.offset            changes it under the running node
 *   clock.now()                            what the node takes for Date.now()
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { scratch } from './node.mjs';

const SOURCE = fileURLToPath(new URL('../../fault/shim.c', import.meta.url));

let folder;
let library;
let clocks = 0;

function place(name) {
    if (!folder) {
        folder = scratch();
        process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
    }
    return path.join(folder, name);
}

export function shim() {
    if (!library) {
        library = place('shim.so');
        execFileSync('cc', ['-std=gnu17', '-O1', '-Wall', '-Wextra', '-D_GNU_SOURCE', '-shared', '-fPIC', '-o', library, SOURCE],
            { stdio: ['ignore', 'inherit', 'inherit'] });
    }
    return library;
}

export class Clock {
    constructor(ms = 0) {
        this.file = place(`clock-${++clocks}`);
        this.set(ms);
    }

    get env() {
        return { LD_PRELOAD: shim(), FAULT_CLOCK_FILE: this.file };
    }

    set(ms) {
        this.offset = ms;
        const bytes = Buffer.alloc(8);
        bytes.writeBigInt64LE(BigInt(ms));
        // In place and in one write: the node has the file mapped.
        const fd = fs.openSync(this.file, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o644);
        fs.writeSync(fd, bytes, 0, 8, 0);
        fs.closeSync(fd);
    }

    now() {
        return Date.now() + this.offset;
    }
}
