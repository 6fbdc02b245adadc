/**
 * The library that is preloaded into a node to make its system calls fail (tests/fault/shim*.c).
 *
 *   shim() -> string                       its path; compiled once for each test file, which needs 200 ms
 *   shimFile(name) -> string               a path beside it, for what the library reads; all removed at the end
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { scratch } from './node.mjs';

const SOURCES = ['shim.c', 'shim_disk.c'].map((name) => fileURLToPath(new URL(`../../fault/${name}`, import.meta.url)));

let folder;
let library;
let files = 0;

function place(name) {
    if (!folder) {
        folder = scratch();
        process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
    }
    return path.join(folder, name);
}

export function shimFile(name) {
    return place(`${name}-${++files}`);
}

export function shim() {
    if (!library) {
        library = place('shim.so');
        execFileSync('cc', ['-std=gnu17', '-O1', '-Wall', '-Wextra', '-D_GNU_SOURCE', '-shared', '-fPIC', '-o', library,
            ...SOURCES], { stdio: ['ignore', 'inherit', 'inherit'] });
    }
    return library;
}
