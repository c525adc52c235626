/** Certificates and keys for copies over TLS, as QEMU and libvirt want them, made for the occasion. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Why none can be made; undefined when they can. */
export function whyNoCredentials(): string | undefined {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'openssl is not installed';
  }
}

/** A certificate authority of its own, and a key that is good at both ends for 127.0.0.1. */
export function makeCredentials(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl(
    'req',
    '-x509',
    '-days',
    '2',
    ...key,
    '-subj',
    '/CN=test authority',
    '-keyout',
    'ca-key.pem',
    '-out',
    'ca-cert.pem',
  );
  openssl('req', ...key, '-subj', '/CN=host', '-keyout', 'server-key.pem', '-out', 'host.csr');
  writeFileSync(join(folder, 'ext'), 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n');
  const signed = ['-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial', '-days', '2', '-extfile', 'ext'];
  openssl('x509', '-req', '-in', 'host.csr', ...signed, '-out', 'server-cert.pem');
  for (const what of ['cert', 'key'])
    copyFileSync(join(folder, `server-${what}.pem`), join(folder, `client-${what}.pem`));
}
