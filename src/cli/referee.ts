import { dirname, join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { etcdReferee } from '../referee/etcd_referee.js';
import { fileReferee } from '../referee/file_referee.js';
import type { Referee } from '../referee/referee.js';
import { UsageError } from './failure.js';
import { parsePath } from './options.js';
import { readNamedFile, readPrivateFile, readSecret, readTrustedFile } from './private_file.js';

/** What was typed of the referee. */
export interface TypedReferee {
  readonly etcd?: readonly string[];
  readonly etcdGroup?: string;
  readonly etcdUser?: string;
  readonly etcdPasswordFile?: string;
  readonly etcdTokenFile?: string;
  readonly etcdCa?: string;
  readonly etcdCert?: string;
  readonly etcdKey?: string;
  readonly refereeFile?: string;
  readonly maximumLag?: number;
  readonly plaintext?: true;
}

export function addReferee(command: Command): Command {
  const file = (flags: string, what: string) => new Option(flags, what).argParser(parsePath);
  return command
    .addOption(
      new Option(
        '--etcd <urls>',
        'failover by itself: etcd decides who is the primary; the client URL of each member',
      ).argParser(parseUrls),
    )
    .addOption(
      new Option('--etcd-group <name>', 'with --etcd: what the group is called there').argParser(
        parseGroup,
      ),
    )
    .addOption(
      new Option('--etcd-user <name>', 'who this is to etcd, where it asks for that').argParser(
        parseUser,
      ),
    )
    .addOption(file('--etcd-password-file <file>', 'its password, which only its owner may read'))
    .addOption(
      file('--etcd-token-file <file>', 'instead of both: a token, such as a JWT, in such a file'),
    )
    .addOption(file('--etcd-ca <file>', 'TLS to etcd: whose certificates are accepted'))
    .addOption(file('--etcd-cert <file>', 'TLS to etcd: the certificate of this client'))
    .addOption(file('--etcd-key <file>', 'TLS to etcd: its key, which only its owner may read'))
    .addOption(
      file('--referee-file <dir>', 'the same by a directory, where all nodes run on one machine'),
    )
    .addOption(
      new Option(
        '--maximum-lag <count>',
        'where commits wait for no standby: how many records a new primary may lack (default: 0)',
      ).argParser(parseLag),
    );
}

function parseUrls(text: string, before?: readonly string[]): readonly string[] {
  const urls = text.split(',').map((url) => url.trim());
  if (!urls.every((url) => /^https?:\/\/[^/]/.test(url))) {
    throw new InvalidArgumentError('Say URLs, such as http://127.0.0.1:2379.');
  }
  return [...(before ?? []), ...urls];
}

function parseGroup(text: string): string {
  if (!/^[\w.-]{1,100}$/.test(text)) {
    throw new InvalidArgumentError("Say a name: letters, digits, '.', '_', '-'.");
  }
  return text;
}

function parseUser(text: string): string {
  if (text === '') throw new InvalidArgumentError('Say a name.');
  return text;
}

function parseLag(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(count)) {
    throw new InvalidArgumentError('Say a number of records.');
  }
  return count;
}

/** Options of `Log.open`. What is seen of the referee is kept in a file beside the directory. */
export function refereeOf(
  typed: TypedReferee,
  [dir = '.']: readonly string[],
): { readonly referee?: Referee; readonly maximumLag?: number } {
  const { etcd, refereeFile, maximumLag } = typed;
  const memory = join(dirname(dir), `${dir.split('/').filter(Boolean).at(-1) ?? 'log'}.referee`);
  if (etcd !== undefined && refereeFile !== undefined) {
    throw new UsageError('--etcd and --referee-file: one of them decides, not both');
  }
  const lag = maximumLag === undefined ? {} : { maximumLag };
  if (refereeFile !== undefined) {
    return { referee: fileReferee({ directory: refereeFile, memory }), ...lag };
  }
  if (etcd !== undefined) return { referee: etcdOf(typed, etcd, memory), ...lag };
  if (maximumLag !== undefined) throw needsReferee('--maximum-lag');
  for (const [name, value] of Object.entries(ofEtcd(typed))) {
    if (value !== undefined) throw needsReferee(name);
  }
  return {};
}

function needsReferee(name: string): UsageError {
  return new UsageError(`${name} needs --etcd or --referee-file`);
}

function ofEtcd(typed: TypedReferee): Record<string, unknown> {
  return {
    '--etcd-group': typed.etcdGroup,
    '--etcd-user': typed.etcdUser,
    '--etcd-password-file': typed.etcdPasswordFile,
    '--etcd-token-file': typed.etcdTokenFile,
    '--etcd-ca': typed.etcdCa,
    '--etcd-cert': typed.etcdCert,
    '--etcd-key': typed.etcdKey,
  };
}

function etcdOf(typed: TypedReferee, endpoints: readonly string[], memory: string): Referee {
  const { etcdGroup: group, etcdCa, etcdCert, etcdKey, plaintext } = typed;
  if (group === undefined) throw new UsageError('--etcd needs --etcd-group too');
  const tls = {
    ...(etcdCa === undefined ? {} : { ca: readTrustedFile('--etcd-ca', etcdCa) }),
    ...(etcdCert === undefined ? {} : { cert: readNamedFile('--etcd-cert', etcdCert) }),
    ...(etcdKey === undefined ? {} : { key: readPrivateFile('--etcd-key', etcdKey) }),
  };
  return etcdReferee({
    endpoints,
    group,
    memory,
    plaintext: plaintext === true,
    ...credentialsOf(typed),
    ...(Object.keys(tls).length === 0 ? {} : { tls }),
  });
}

function credentialsOf({ etcdUser, etcdPasswordFile, etcdTokenFile }: TypedReferee) {
  if ((etcdUser === undefined) !== (etcdPasswordFile === undefined)) {
    throw new UsageError('--etcd-user and --etcd-password-file go together');
  }
  if (etcdTokenFile !== undefined) {
    if (etcdUser !== undefined) {
      throw new UsageError('--etcd-token-file is instead of --etcd-user and --etcd-password-file');
    }
    return { token: readSecret('--etcd-token-file', etcdTokenFile).toString('utf8') };
  }
  if (etcdUser === undefined) return {};
  const password = readSecret('--etcd-password-file', etcdPasswordFile!).toString('utf8');
  return { username: etcdUser, password };
}
