import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Log } from '../api/log.js';
import type { SecurityOptions } from '../api/security_options.js';
import { asTyped, UsageError } from './failure.js';
import { parsePath } from './options.js';
import { readNamedFile, readPrivateFile, readSecret, readTrustedFile } from './private_file.js';
import { notice } from './terminal.js';

/** What was typed of the options that keep strangers out. */
export interface TypedSecurity {
  readonly plaintext?: true;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsCa?: string;
  readonly tlsCrl?: string;
  readonly tlsAllow?: readonly string[];
  readonly secretFile?: string;
}

export function addSecurity(command: Command): Command {
  const file = (flags: string, what: string) => new Option(flags, what).argParser(parsePath);
  return command
    .addOption(file('--tls-cert <file>', "TLS: this node's certificate, which holds its name"))
    .addOption(file('--tls-key <file>', 'TLS: its private key, which only its owner may read'))
    .addOption(
      file('--tls-ca <file>', 'TLS: whose certificates are accepted; only its owner may write it'),
    )
    .addOption(file('--tls-crl <file>', 'TLS: which certificates the CA has revoked'))
    .addOption(
      new Option(
        '--tls-allow <names>',
        "TLS: the other nodes, such as b,c; '*' for all that the CA vouches for",
      ).argParser(parseNames),
    )
    .addOption(
      file('--secret-file <file>', 'a secret that all nodes share, which only its owner may read'),
    )
    .addOption(new Option('--plaintext', 'allow replication without TLS off this machine'));
}

function parseNames(text: string, before?: readonly string[]): readonly string[] {
  const names = text.split(',').map((name) => name.trim());
  if (names.includes('')) throw new InvalidArgumentError("Say names, such as b,c; or '*'.");
  return [...(before ?? []), ...names];
}

/** What keeps strangers out is of no use where nothing leaves the process. */
export function refuseForNothing(typed: TypedSecurity, missing: string): void {
  const { plaintext, tlsCert, tlsKey, tlsCa, tlsCrl, tlsAllow, secretFile } = typed;
  const given = {
    '--plaintext': plaintext,
    '--tls-cert': tlsCert,
    '--tls-key': tlsKey,
    '--tls-ca': tlsCa,
    '--tls-crl': tlsCrl,
    '--tls-allow': tlsAllow,
    '--secret-file': secretFile,
  };
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    throw new UsageError(`${name} needs ${missing}: without it nothing leaves this process`);
  }
}

/** Reads the files. */
export function readSecurity(typed: TypedSecurity): SecurityOptions {
  const tls = readTls(typed);
  const { secretFile } = typed;
  return {
    plaintext: typed.plaintext === true,
    ...(tls === undefined ? {} : { tls }),
    ...(secretFile === undefined ? {} : { secret: readSecret('--secret-file', secretFile) }),
  };
}

/** Each with what was typed of security. */
export function membersOf<A extends object>(members: readonly A[], typed: TypedSecurity) {
  const security = readSecurity(typed);
  return members.map((each) => ({ ...each, ...security }));
}

function readTls(typed: TypedSecurity): SecurityOptions['tls'] {
  const { tlsCert, tlsKey, tlsCa, tlsCrl, tlsAllow } = typed;
  const all = { '--tls-cert': tlsCert, '--tls-key': tlsKey, '--tls-ca': tlsCa };
  const given = Object.entries({ ...all, '--tls-allow': tlsAllow });
  const missing = given.filter(([, value]) => value === undefined).map(([name]) => name);
  if (missing.length === given.length && tlsCrl === undefined) return undefined;
  if (missing.length > 0) throw new UsageError(`TLS needs ${missing.join(' and ')} too`);
  return {
    cert: readNamedFile('--tls-cert', tlsCert!),
    key: readPrivateFile('--tls-key', tlsKey!),
    ca: readTrustedFile('--tls-ca', tlsCa!),
    ...(tlsCrl === undefined ? {} : { crl: readTrustedFile('--tls-crl', tlsCrl) }),
    allow: tlsAllow!.includes('*') ? '*' : tlsAllow!,
  };
}

/**
 * With TLS, SIGHUP reads the files again, for the connections from then on; without, it ends the
 * process as ever. Returns what undoes this.
 */
export function reloadOnHangup(log: Log, typed: TypedSecurity): () => void {
  if (typed.tlsCert === undefined) return () => undefined;
  const reload = async (): Promise<void> => {
    try {
      const { tls } = readSecurity(typed);
      if (tls !== undefined) await log.reloadTls(tls);
      notice('the certificates were read again');
    } catch (error) {
      notice(`the certificates stay as they are: ${asTyped((error as Error).message)}`);
    }
  };
  const handler = (): void => void reload();
  process.on('SIGHUP', handler);
  return () => void process.removeListener('SIGHUP', handler);
}
