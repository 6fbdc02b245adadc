/** Runs the fault tests with the flow tests' runner; ends with "fault: N passed, N failed". */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('.', import.meta.url));
const args = process.argv.slice(2);
const wanted = args.filter((arg) => !arg.startsWith('--'));
const tests = fs.readdirSync(folder).filter((name) => name.endsWith('.test.mjs')).sort();

process.env.FLOW_LABEL ??= 'fault';
const files = wanted.length === 0 ? tests.map((name) => path.join(folder, name))
    : wanted.flatMap((word) => (fs.existsSync(word) ? [path.resolve(word)]
        : tests.filter((name) => name.startsWith(word)).map((name) => path.join(folder, name))));
process.argv.splice(2, Infinity, ...args.filter((arg) => arg.startsWith('--')), ...files);
await import('../flow/run.mjs');
