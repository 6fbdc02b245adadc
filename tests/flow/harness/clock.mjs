/**
 * A wall clock of its own for a node: two nodes with clocks apart, a clock that jumps while the node runs. Timers and
 * everything else that asks the monotonic clock go on as ever.
 *
 *   new Clock(ms = 0)                      ms: what is added to the real time, may be negative
 *   clock.env                              for flow()'s, startNode()'s or startNodes()' env
 *   clock.set(ms), clock.offset            changes it under the running node
 *   clock.now()                            what the node takes for Date.now()
 */
import fs from 'node:fs';
import { shim, shimFile } from './shim.mjs';

export class Clock {
    constructor(ms = 0) {
        this.file = shimFile('clock');
        fs.writeFileSync(this.file, Buffer.alloc(8));
        this.set(ms);
    }

    get env() {
        return { LD_PRELOAD: shim(), FAULT_CLOCK_FILE: this.file };
    }

    set(ms) {
        this.offset = ms;
        const bytes = Buffer.alloc(8);
        bytes.writeBigInt64LE(BigInt(ms));
        const fd = fs.openSync(this.file, 'r+'); // in place: the node has the file mapped
        fs.writeSync(fd, bytes, 0, 8, 0);
        fs.closeSync(fd);
    }

    now() {
        return Date.now() + this.offset;
    }
}
