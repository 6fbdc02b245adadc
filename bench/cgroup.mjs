/**
 * A memory cgroup for one server: its own memory and the page cache of the files it reads and writes count against one limit.
 * Version 2 where its memory controller is there, else version 1; needs root.
 */
import fs from 'node:fs';
import path from 'node:path';

const V1 = '/sys/fs/cgroup/memory';
const V2 = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'];
let serial = 0;

function layout() {
    for (const root of V2) {
        try {
            if (fs.readFileSync(`${root}/cgroup.controllers`, 'utf8').split(/\s/).includes('memory')) {
                return { root, limit: 'memory.max', peak: 'memory.peak', before: () => {
                    fs.writeFileSync(`${root}/cgroup.subtree_control`, '+memory');
                } };
            }
        } catch { /* not mounted */ }
    }
    return fs.existsSync(`${V1}/memory.limit_in_bytes`)
        ? { root: V1, limit: 'memory.limit_in_bytes', peak: 'memory.max_usage_in_bytes', before: () => {} } : null;
}

/**
 * @returns {{prefix: string[], how: string, peak(): number, remove(): void}} `prefix` starts a command inside; without
 *     permission it is empty and `how` says so.
 */
export function memoryCgroup(bytes) {
    const found = layout();
    if (found) {
        const dir = path.join(found.root, `doorstep-bench-${process.pid}-${serial++}`);
        try {
            found.before();
            fs.mkdirSync(dir);
            fs.writeFileSync(path.join(dir, found.limit), String(bytes));
            const remove = () => { try { fs.rmdirSync(dir); } catch { /* gone, or somebody is still in it */ } };
            process.on('exit', remove);
            return {
                prefix: ['sh', '-c', `echo $$ > ${dir}/cgroup.procs && exec "$@"`, 'sh'],
                how: `in a memory cgroup of ${(bytes / 1e6).toFixed(0)} MB, page cache included`,
                peak: () => Number(fs.readFileSync(path.join(dir, found.peak), 'utf8')),
                remove,
            };
        } catch {
            try { fs.rmdirSync(dir); } catch { /* it was not made */ }
        }
    }
    return {
        prefix: [],
        how: '**no memory cgroup could be made here: the page cache is not limited, only dropped before each round**',
        peak: () => NaN, remove: () => {},
    };
}

/** Empties the page cache; false without the permission. */
export function dropPageCache() {
    try {
        fs.writeFileSync('/proc/sys/vm/drop_caches', '3');
        return true;
    } catch {
        return false;
    }
}
