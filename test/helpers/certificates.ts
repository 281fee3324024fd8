import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeTempDir } from '../global/temp.js';

export interface Issued {
  readonly key: string;
  readonly cert: string;
}

export interface Wanted {
  /** '': it has none. */
  readonly commonName?: string;
  readonly dns?: readonly string[];
  /** As `openssl ca` has it: YYYYMMDDHHMMSSZ. */
  readonly from?: string;
  readonly to?: string;
  /** Such as `extendedKeyUsage=serverAuth`. */
  readonly extension?: string;
  /** Who signs it. Default: the authority itself. */
  readonly by?: Issued;
}

const config = `
[ca]
default_ca = d
[d]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
default_days = 30
default_crl_days = 30
policy = p
unique_subject = no
rand_serial = yes
copy_extensions = copy
[p]
commonName = optional
[req]
distinguished_name = n
[n]
`;

/** A certificate authority in a directory of its own: real certificates, by the openssl program. */
export class Authority {
  readonly #dir = makeTempDir('ca');
  #count = 0;

  constructor(commonName = 'test ca') {
    writeFileSync(join(this.#dir, 'config'), config);
    writeFileSync(join(this.#dir, 'index'), '');
    const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    const extension = ['-addext', 'basicConstraints=critical,CA:TRUE'];
    const out = ['-keyout', 'ca.key', '-out', 'ca.pem', '-days', '30'];
    this.#openssl('req', '-x509', ...newKey, '-subj', `/CN=${commonName}`, ...extension, ...out);
  }

  get cert(): string {
    return this.#read('ca.pem');
  }

  remove(): void {
    rmSync(this.#dir, { recursive: true });
  }

  issue({ commonName = 'node', dns = [], from, to, extension, by: signer }: Wanted): Issued {
    this.#count += 1;
    const name = `${this.#count}`;
    const names = dns.map((each) => `DNS:${each}`).join(',');
    const alternative = dns.length === 0 ? [] : ['-addext', `subjectAltName=${names}`];
    const further = extension === undefined ? [] : ['-addext', extension];
    const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    const out = ['-keyout', `${name}.key`, '-out', `${name}.csr`];
    this.#openssl(
      'req',
      ...newKey,
      '-subj',
      commonName === '' ? '/' : `/CN=${commonName}`,
      ...alternative,
      ...further,
      ...out,
    );
    if (signer !== undefined) {
      writeFileSync(join(this.#dir, 'by.pem'), signer.cert);
      writeFileSync(join(this.#dir, 'by.key'), signer.key);
    }
    const whose = signer === undefined ? 'ca' : 'by';
    const by = ['-cert', `${whose}.pem`, '-keyfile', `${whose}.key`, '-in', `${name}.csr`];
    const time = [...(from ? ['-startdate', from] : []), ...(to ? ['-enddate', to] : [])];
    this.#openssl('ca', '-batch', '-notext', ...by, '-out', `${name}.pem`, ...time);
    return { key: this.#read(`${name}.key`), cert: this.#read(`${name}.pem`) };
  }

  revoke({ cert }: Issued): void {
    writeFileSync(join(this.#dir, 'revoked.pem'), cert);
    this.#openssl('ca', '-revoke', 'revoked.pem', '-cert', 'ca.pem', '-keyfile', 'ca.key');
  }

  /** The list of what was revoked so far. `to`: when it runs out, as for a certificate. */
  crl(to?: string): string {
    const time =
      to === undefined ? [] : ['-crl_lastupdate', '20200101000000Z', '-crl_nextupdate', to];
    const out = ['-out', 'crl.pem'];
    this.#openssl('ca', '-gencrl', '-cert', 'ca.pem', '-keyfile', 'ca.key', ...out, ...time);
    return this.#read('crl.pem');
  }

  #read(name: string): string {
    return readFileSync(join(this.#dir, name), 'utf8');
  }

  #openssl(command: string, ...args: readonly string[]): void {
    const env = { ...process.env, OPENSSL_CONF: join(this.#dir, 'config') };
    execFileSync('openssl', [command, ...args], { cwd: this.#dir, env, stdio: 'pipe' });
  }
}

/** What a node of this name is given for TLS: its certificate by `authority`. */
export function tlsOf(authority: Authority, name: string, allow: readonly string[] | '*' = '*') {
  return { ...authority.issue({ dns: [name] }), ca: authority.cert, allow };
}
