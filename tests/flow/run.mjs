/**
 * Runs test files with Node's runner: every failure is printed with its reason, the rest in one line per file; then one
 * line to be counted: "flow: N passed, N failed". With --verbose every test is named. FLOW_LABEL replaces "flow".
 */
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { run } from 'node:test';
import { inspect } from 'node:util';
import { fileURLToPath } from 'node:url';
import { BINARY } from './harness/node.mjs';

const args = process.argv.slice(2);
const verbose = args.includes('--verbose');
const wanted = args.filter((arg) => !arg.startsWith('--'));
const folder = fileURLToPath(new URL('.', import.meta.url));
const tests = fs.readdirSync(folder).filter((name) => name.endsWith('.test.mjs')).sort();
const files = wanted.length === 0 ? tests.map((name) => path.join(folder, name))
    : wanted.flatMap((word) => (fs.existsSync(word) ? [path.resolve(word)]
        : tests.filter((name) => name.startsWith(word)).map((name) => path.join(folder, name))));

if (files.length === 0 || !fs.existsSync(BINARY)) {
    console.error(files.length ? `run-flow: ${BINARY} does not exist; run make first` : 'run-flow: no such test file');
    process.exit(2);
}

/** Prints a failed test, its reason below it. */
function complain(label, data) {
    const cause = data.details.error?.cause ?? data.details.error;
    const said = cause?.stack ?? (typeof cause === 'string' ? cause : inspect(cause));
    console.log(`FAIL ${label}: ${data.name}\n${said.replace(/^/gm, '     ')}`);
}

/** Runs one file; counts its tests. */
async function runFile(file) {
    const label = path.basename(file, '.test.mjs');
    const count = { passed: 0, failed: 0, skipped: 0 };
    const stream = run({ files: [file] });
    stream.on('test:pass', (data) => {
        if (data.name === file) {
            return; // the file itself
        }
        count[data.skip ? 'skipped' : 'passed']++;
        if (verbose) {
            console.log(`${data.skip ? 'skip' : 'ok  '} ${label}: ${data.name} (${Math.round(data.details.duration_ms)} ms)`);
        }
    });
    stream.on('test:fail', (data) => {
        if (data.name === file && count.failed > 0) {
            return; // fails because a test in it did
        }
        count.failed++;
        complain(label, data);
    });
    stream.on('test:stderr', (data) => process.stderr.write(data.message));
    stream.resume();
    await once(stream, 'end');
    const skipped = count.skipped ? `, ${count.skipped} skipped` : '';
    console.log(`${label}: ${count.passed} passed, ${count.failed} failed${skipped}`);
    return count;
}

const counts = [];
const queue = [...files];
await Promise.all(Array.from({ length: Math.min(2, files.length) }, async () => {
    for (let file = queue.shift(); file; file = queue.shift()) {
        counts.push(await runFile(file));
    }
}));
const sum = (what) => counts.reduce((total, count) => total + count[what], 0);
console.log(`${process.env.FLOW_LABEL ?? 'flow'}: ${sum('passed')} passed, ${sum('failed')} failed`);
process.exitCode = sum('failed') || !sum('passed') ? 1 : 0;
