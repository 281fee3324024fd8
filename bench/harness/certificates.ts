/** TLS for the measured processes: a certificate that is its own authority, and that of both. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { TlsOptions } from 'walmirror';

/** `names`: of the nodes. Made by the openssl program. */
export async function makeTls(dir: string, names: readonly string[]): Promise<TlsOptions> {
  const [keyFile, certFile] = [join(dir, 'tls.key'), join(dir, 'tls.pem')];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const alternative = `subjectAltName=${names.map((name) => `DNS:${name}`).join(',')}`;
  const subject = ['-subj', '/CN=walmirror bench', '-addext', alternative];
  const out = ['-keyout', keyFile, '-out', certFile];
  await promisify(execFile)('openssl', ['req', '-x509', ...kind, ...subject, ...out]);
  const [key, cert] = await Promise.all([readFile(keyFile, 'utf8'), readFile(certFile, 'utf8')]);
  return { key, cert, ca: cert, allow: names };
}
