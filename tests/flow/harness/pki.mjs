/**
 * Certificates for servers of a test, made with openssl once for each test file and removed at its end.
 *
 *   certificates() -> { ca, cert, key }    paths; the certificate is for localhost and 127.0.0.1, signed by ca
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { scratch } from './node.mjs';

let made;

export function certificates() {
    made ??= make();
    return made;
}

function make() {
    const folder = scratch();
    process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
    const at = (name) => path.join(folder, name);
    const openssl = (...args) => execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'ignore'] });
    const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    openssl('req', '-x509', ...newKey, '-keyout', at('ca.key'), '-out', at('ca.pem'), '-days', '2', '-subj', '/CN=Test CA');
    openssl('req', ...newKey, '-keyout', at('server.key'), '-out', at('server.csr'), '-subj', '/CN=localhost');
    fs.writeFileSync(at('server.ext'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
    openssl('x509', '-req', '-in', at('server.csr'), '-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial',
        '-days', '2', '-extfile', at('server.ext'), '-out', at('server.pem'));
    return { ca: at('ca.pem'), cert: at('server.pem'), key: at('server.key') };
}
