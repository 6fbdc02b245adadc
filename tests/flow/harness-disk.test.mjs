/** The preloaded disk faults, tried on a program that writes and reads files as a tier does. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, test } from 'node:test';
import { DiskFaults } from './harness/disk.mjs';
import { scratch } from './harness/flow.mjs';

const folder = scratch();
const file = path.join(folder, 'inside', 'file');
const elsewhere = path.join(folder, 'inside-not');
fs.mkdirSync(path.dirname(file));
after(() => fs.rmSync(folder, { recursive: true }));

/** What each call gave, in order: 'ok' or the error. */
function play(faults) {
    const script = `
        const fs = require('node:fs');
        const said = [];
        const go = (f) => { try { f(); said.push('ok'); } catch (error) { said.push(error.code); } };
        const [file, elsewhere] = process.argv.slice(1);
        const fd = fs.openSync(file, 'r+');
        go(() => fs.writeSync(fd, Buffer.from('new bytes!'), 0, 10, 0));
        go(() => fs.fsyncSync(fd));
        go(() => fs.readSync(fd, Buffer.alloc(10), 0, 10, 0));
        go(() => fs.writevSync(fd, [Buffer.from('ab'), Buffer.from('cd')], 20));
        go(() => fs.closeSync(fs.openSync(file + '2', 'w')));
        go(() => fs.renameSync(file + '2', file + '3'));
        go(() => fs.unlinkSync(file + '3'));
        go(() => fs.writeFileSync(elsewhere, 'x'));
        console.log(said.join(' '));`;
    fs.writeFileSync(file, 'old bytes.');
    ['2', '3'].forEach((name) => fs.writeFileSync(file + name, ''));
    const { stdout, stderr, signal } = spawnSync(process.execPath, ['-e', script, file, elsewhere],
        { env: { ...process.env, ...faults.env }, encoding: 'utf8' });
    assert.equal(stderr, '');
    return signal ?? stdout.trim();
}

const faults = new DiskFaults(path.dirname(file));
const kept = () => fs.readFileSync(file, 'latin1').slice(0, 10);

for (const [what, set, expected, left] of [
    ['none', {}, 'ok ok ok ok ok ok ok ok', 'new bytes!'],
    ['writes', { write: 'EIO' }, 'EIO ok ok EIO ok ok ok ok', 'old bytes.'],
    ['torn writes', { write: 'ENOSPC', torn: true }, 'ENOSPC ok ok ENOSPC ok ok ok ok', 'new bytes.'],
    ['the second write', { write: 'EIO', after: 1 }, 'ok ok ok EIO ok ok ok ok', 'new bytes!'],
    ['every second call', { write: 'EIO', sync: 'EIO', read: 'EIO', after: 1, every: 2 },
        'ok EIO ok EIO ok ok ok ok', 'new bytes!'],
    ['syncs and reads', { sync: 'EIO', read: 'EIO' }, 'ok EIO EIO ok ok ok ok ok', 'new bytes!'],
    ['opening and tidying', { open: 'EROFS', tidy: 'EROFS' }, 'ok ok ok ok EROFS EROFS EROFS ok', 'new bytes!'],
]) {
    test(`faults: ${what}`, () => {
        // The file itself is opened for writing first; that goes well where only later opens shall fail.
        faults.set(set.open ? { ...set, after: 1 } : set);
        assert.equal(play(faults), expected);
        assert.equal(kept(), left);
        assert.equal(faults.failed, expected.split(' ').filter((word) => word !== 'ok').length);
    });
}

test('a full disk refuses to grow and lets go', () => {
    faults.set({ write: 'ENOSPC', allocate: 'ENOSPC', open: 'ENOSPC', after: 1 });
    assert.equal(play(faults), 'ENOSPC ok ok ENOSPC ENOSPC ok ok ok');
});

test('a crash in the middle of a write leaves half of it', () => {
    faults.set({ write: 'CRASH' });
    assert.equal(play(faults), 'SIGKILL');
    assert.equal(kept(), 'new bytes.');
});
