import { type Command, InvalidArgumentError, Option } from 'commander';
import { type RejoinMode, rejoinModes } from '../api/options.js';
import { resolvePolicy, whenMissingChoices } from '../api/policy_options.js';
import { commitLevels } from '../replication/level.js';

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** HOST:PORT; an IPv6 address in brackets. */
export function parseAddress(text: string): Address {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65535) {
    throw new InvalidArgumentError('Say HOST:PORT, such as 127.0.0.1:7401 or [::1]:7401.');
  }
  return { host, port };
}

/** For an option that may be given several times. */
export function parseAddresses(text: string, before?: readonly Address[]): readonly Address[] {
  return [...(before ?? []), ...text.split(',').map((each) => parseAddress(each.trim()))];
}

export function parsePath(text: string): string {
  if (text === '') throw new InvalidArgumentError('Say a path.');
  return text;
}

/** For an option that may be given several times. */
export function parsePaths(text: string, before?: readonly string[]): readonly string[] {
  return [...(before ?? []), parsePath(text)];
}

/** How messages name a log with these directories. */
export function showDirs(dirs: readonly string[]): string {
  return dirs.join(', ');
}

export function parseCount(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || count < 1) throw new InvalidArgumentError('Say a number: 1 or more.');
  return count;
}

/** `ask`, `auto`, or the LSN that was told. */
export function parseRejoin(text: string): RejoinMode {
  const mode = rejoinModes.find((each) => each === text);
  if (mode !== undefined) return mode;
  if (!/^\d{1,15}$/.test(text)) {
    throw new InvalidArgumentError('Say ask, auto, or the LSN that was told.');
  }
  return Number(text);
}

export function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > 65535) {
    throw new InvalidArgumentError('Say a port, 0 to 65535.');
  }
  return port;
}

/** Left as it is; checked here, where the option has the name that was typed. */
export function parseRule(text: string): string {
  try {
    resolvePolicy({ synchronousStandbys: text });
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new InvalidArgumentError(error.message.replace(/^synchronousStandbys[,:] /, ''));
  }
  return text;
}

export function parseLsn(text: string): number {
  const lsn = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(lsn) || lsn < 1) {
    throw new InvalidArgumentError('Say the number of a record: 1 or more.');
  }
  return lsn;
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000 };

/** Milliseconds, of a time with its unit: `1` may be meant as a second by who types it. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(text);
  const value = Number(match?.[1]) * (UNITS[match?.[2] ?? ''] ?? Number.NaN);
  if (!(value > 0)) {
    throw new InvalidArgumentError('Say a time, such as 500ms or 10s, with its unit.');
  }
  return value;
}

const leastInterval = 50;

export function parseInterval(text: string): number {
  const value = parseDuration(text);
  if (value < leastInterval) {
    throw new InvalidArgumentError(`Say ${leastInterval}ms or more.`);
  }
  return value;
}

export function showAddress({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * An option that must be there. Checked by us and not by commander, which would complain of it
 * before it looks at unknown options, and so hide that `--dri` was meant to be it.
 */
export class RequiredOption extends Option {}

/** Ends with a usage error where a required option is missing. */
export function checkRequired(command: Command): void {
  for (const option of command.options) {
    if (!(option instanceof RequiredOption)) continue;
    if (command.getOptionValue(option.attributeName()) !== undefined) continue;
    command.error(`error: required option '${option.flags}' not specified`);
  }
}

/** Options that several commands share, in the same words. */
export const shared = {
  dir: () =>
    new RequiredOption(
      '--dir <path>',
      'directory of the log; once for each, where it has several',
    ).argParser(parsePaths),
  acceptMissing: () =>
    new Option(
      '--accept-missing <path>',
      'open without the copy that was in this directory: what it alone holds is lost',
    ).argParser(parsePaths),
  mirrorQuorum: () =>
    new Option(
      '--mirror-quorum <count>',
      'with several directories: in how many a commit is flushed (default: in all)',
    ).argParser(parseCount),
  rejoin: () =>
    new Option(
      '--rejoin <mode>',
      'what a new primary lacks: ask before it is set aside and removed, auto, or an LSN',
    )
      .argParser(parseRejoin)
      .default('ask' satisfies RejoinMode),
  members: () =>
    new Option(
      '--members <list>',
      'where the nodes of the group listen, this one or not: HOST:PORT,HOST:PORT',
    ).argParser(parseAddresses),
  name: () => new Option('--name <name>', "this node's name (default: the name of the directory)"),
  listen: (what = 'feed standbys and answer members here; port 0 takes any') =>
    new Option('--listen <host:port>', what).argParser(parseAddress),
  sync: () => new Option('--sync <level>', 'how safe a commit is').choices([...commitLevels]),
  standbys: (what = "the standbys that count, such as 'ANY 1 (*)' or 'FIRST 1 (b, c)'") =>
    new Option('--standbys <rule>', what).argParser(parseRule),
  whenMissing: () =>
    new Option(
      '--when-missing <what>',
      'while they are missing: wait, fail, or go on alone until they have caught up',
    ).choices([...whenMissingChoices]),
  syncTimeout: () =>
    new Option('--sync-timeout <time>', 'with fail or degrade: how long to wait').argParser(
      parseDuration,
    ),
  input: (what = 'records to append, - for the standard input') =>
    new Option('--input <file>', what).argParser(parsePath),
  inputFormat: () =>
    new Option('--format <format>', 'a record a line, or u32le length and bytes')
      .choices(['lines', 'frames'])
      .default('lines'),
  json: () => new Option('--json', 'print JSON, errors too'),
  verbose: () => new Option('--verbose', 'say what happens on stderr'),
} as const;
