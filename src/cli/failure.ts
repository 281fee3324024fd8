import { CommanderError } from 'commander';
import { WalError, type WalErrorCode } from '../api/errors.js';
import { red } from './terminal.js';

export const EXIT_FAILURE = 1;
export const EXIT_USAGE = 2;

/** Where the library's hint names options of its own, that of the command line. */
const ownHints: Readonly<Partial<Record<WalErrorCode, string>>> = {
  WAL_CLOSED: 'Start the command again.',
  WAL_FAILED: 'Mend that; then start the command again, which recovers the log.',
  WAL_FLUSH_FAILED: 'Look at the disk and at the memory; then start the command again.',
  WAL_NOT_FOUND: 'Look at the path; `walmirror primary` creates a log.',
  WAL_COPY_MISSING: 'Give --dir for every copy; for one that is gone for good, --accept-missing.',
  WAL_LSN_GONE: 'Pass --from with the first LSN that is kept; `walmirror status` says which it is.',
  WAL_SYNC_TIMEOUT: 'The record stays in the log; see with `walmirror status` who is connected.',
  WAL_PRIMARY_REACHABLE: 'Stop the old primary, then promote with --primary-stopped.',
  WAL_PROMOTION_REFUSED:
    'Bring back those that are missing, or promote the node that has more; or pass --force.',
  WAL_MEMBERS_AWAY: 'Start other members first; or pass --open-alone where none was promoted.',
  WAL_PLAINTEXT:
    'Pass --tls-cert, --tls-key, --tls-ca and --tls-allow or, on a network that you trust, ' +
    '--plaintext.',
  WAL_NO_STANDBYS: "Pass --standbys 'ANY 1 (*)', or another --sync level.",
  WAL_IS_STANDBY:
    'Make it the primary with `walmirror promote`, or follow with `walmirror standby`.',
  WAL_FENCED: 'Append there; here, follow it with `walmirror standby`: the log rejoins.',
  WAL_SWITCHING: 'See with `walmirror status --members` who the primary is, and append there.',
  WAL_DEMOTED:
    'See `walmirror status --members`: where no node is the primary, promote the successor or ' +
    'this one with `walmirror promote --primary-stopped`.',
  WAL_SPLIT:
    'Choose one, and promote it with --primary-stopped --force; the other rejoins it with ' +
    '`walmirror standby`.',
  WAL_REBUILD: 'Write the output anew: without --from, or from a record before that one.',
};

/** The library's names of what was typed, and how it is typed. */
const typed: readonly (readonly [RegExp, string])[] = [
  [/`rejoin: '?(\w+)'?`/g, '--rejoin $1'],
  [/`force: true`/g, '--force'],
  [/`log\.status\(\)\.role` before the call/g, 'its role with `walmirror status`'],
  [/\bwhenMissing: '(\w+)'/g, '--when-missing $1'],
  [/\bwhenMissing\b/g, '--when-missing'],
  [/\bmirrorQuorum\b/g, '--mirror-quorum'],
  [/: dir: \['\.\/a', '\.\/b'\]/, ': --dir ./a --dir ./b'],
  [/\bsyncTimeout\b/g, '--sync-timeout'],
  [/\bsynchronousStandbys\b/g, '--standbys'],
  [/\bsynchronousCommit\b/g, '--sync'],
  [/\b(listen|follow)\.(host|port)\b/g, '--$1: the $2'],
  [/\b((listen|follow|from)\.tls|reloadTls)\.(key|cert|ca|crl|allow)\b/g, '--tls-$3'],
  [/\b((listen|follow|from)\.tls|reloadTls): these\b/g, 'TLS: these'],
  [/\b(listen|follow|from)\.secret\b/g, '--secret-file:'],
  [/\b(listen|follow|from) takes tls or plaintext: true/g, 'pass the --tls options or --plaintext'],
  [/\betcdReferee\.token\b/g, '--etcd-token-file:'],
  [/\betcdReferee\.tls\.(ca|cert|key)\b/g, '--etcd-$1'],
  [/\betcdReferee\.endpoints\b/g, '--etcd'],
  [/^(name|dir)\b/, '--$1'],
];

/** A message of the library about its options, in the words of the command line. */
export function asTyped(message: string): string {
  return typed.reduce((text, [name, option]) => text.replace(name, option), message);
}

/** What was typed makes no sense together; exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The command ran, and what it printed already says what is wrong; exit code 1. */
export class Reported extends Error {
  override readonly name = 'Reported';
}

function ownHint(error: unknown): string | undefined {
  return error instanceof WalError ? ownHints[error.code] : undefined;
}

/** What to do about it, in the words of the command line. */
export function hintFor(error: WalError): string {
  return ownHint(error) ?? asTyped(error.hint);
}

/** Says on stderr what went wrong, and returns the exit code. */
export function report(raised: unknown, json: boolean): number {
  const error = WalError.from(raised);
  // Whoever read our output has seen enough.
  if (isErrno(error, 'EPIPE')) return 0;
  if (error instanceof Reported) return EXIT_FAILURE;
  // Code 0: --help and --version.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : badUsage(error, json);
  const own = ownHint(error);
  const text = error instanceof Error ? error.message : String(error);
  const message = own === undefined ? text : asTyped(text);
  const hint = error instanceof WalError ? hintFor(error) : '';
  if (json) {
    const { code = null, oldPrimary } = error instanceof WalError ? error : {};
    process.stderr.write(`${JSON.stringify({ error: { code, message, hint, oldPrimary } })}\n`);
  } else {
    process.stderr.write(`${red('error:')} ${message}\n`);
    if (hint !== '') process.stderr.write(`hint: ${hint}\n`);
    if (unexpected(error)) process.stderr.write(`${error.stack}\n`);
  }
  return isUsage(error) ? EXIT_USAGE : EXIT_FAILURE;
}

/** Printed by then, but not as JSON. */
function badUsage({ message }: CommanderError, json: boolean): number {
  if (json) {
    const error = { code: null, message: message.replace(/^error: /, ''), hint: '' };
    process.stderr.write(`${JSON.stringify({ error })}\n`);
  }
  return EXIT_USAGE;
}

/** Wrong options that the library refuses are bad usage of the command. */
export async function withUsage<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) {
      throw new UsageError(asTyped(error.message), { cause: error });
    }
    throw error;
  }
}

/** A --sync level that waits for standbys where --standbys names none is one too. */
function isUsage(error: unknown): boolean {
  return (
    error instanceof UsageError || (error instanceof WalError && error.code === 'WAL_NO_STANDBYS')
  );
}

/** A mistake of ours, and not of the world: the stack is what helps then. */
function unexpected(error: unknown): error is Error {
  return error instanceof TypeError || error instanceof ReferenceError;
}

export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === code;
}
