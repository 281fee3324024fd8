import { Command, Option } from 'commander';
import { WalError } from '../../api/errors.js';
import { loadBinding } from '../../native/binding.js';
import type { NativeInfo, VerifyResult } from '../../native/native_log.js';
import { type Comparison as Compared, compareLogs } from '../compare.js';
import { Reported, UsageError } from '../failure.js';
import { parsePath, shared } from '../options.js';
import { count, plural, size } from '../terminal.js';

interface VerifyOptions {
  readonly dir: readonly string[];
  readonly against?: string;
  readonly json?: true;
}

export function verifyCommand(): Command {
  return new Command('verify')
    .summary('read a whole log and check every byte')
    .description(
      'Reads every batch and checks it. Reports the first damage with file, offset and LSN, ' +
        'and exits 1. Never changes a byte and does not need the lock. With --against it also ' +
        'compares two copies of one log byte for byte, up to the end of the shorter one, or to ' +
        'the first damage in one of them.',
    )
    .addOption(shared.dir())
    .addOption(new Option('--against <path>', 'directory of the other copy').argParser(parsePath))
    .addOption(shared.json())
    .addHelpText(
      'after',
      `
Examples:
  $ walmirror verify --dir ./a
  $ walmirror verify --dir ./a --against ./b`,
    )
    .action(runVerify);
}

interface Comparison extends Compared {
  /** Last record that was compared. */
  readonly toLsn: number;
  /** Directories that are damaged: none is compared beyond its damage. Empty: all was compared. */
  readonly damaged: readonly string[];
}

interface Verified {
  readonly info: NativeInfo;
  readonly result: VerifyResult;
}

async function runVerify(options: VerifyOptions): Promise<void> {
  const { dir: dirs, against } = options;
  const [dir] = dirs;
  if (dir === undefined || dirs.length > 1) return verifyCopies(options);
  const first = await verifyOne(dir);
  const second = against === undefined ? undefined : await verifyOne(against);
  let comparison: Comparison | undefined;
  if (against !== undefined && second !== undefined) {
    comparison = compare(dir, first, against, second);
  }
  const damaged = [first, second].some((one) => one?.result.damage !== undefined);
  const ok = !damaged && comparison?.difference === undefined;
  if (options.json === true) {
    const row = { ok, ...first.result, against: second?.result, comparison };
    process.stdout.write(`${JSON.stringify(row)}\n`);
  } else {
    process.stdout.write(describe(dir, first.result));
    if (against !== undefined && second !== undefined) {
      process.stdout.write(describe(against, second.result));
    }
    if (comparison !== undefined) process.stdout.write(describeComparison(comparison));
  }
  if (!ok) throw new Reported('the log does not verify');
}

/** Each directory of a log that has several; one that is damaged fails the command. */
async function verifyCopies({ dir: dirs, against, json }: VerifyOptions): Promise<void> {
  if (against !== undefined) {
    throw new UsageError('--against compares two copies: say --dir once');
  }
  const copies = [];
  for (const dir of dirs) copies.push({ dir, ...(await verifyOne(dir)).result });
  const ok = copies.every(({ damage }) => damage === undefined);
  if (json === true) {
    process.stdout.write(`${JSON.stringify({ ok, copies })}\n`);
  } else {
    for (const { dir, ...result } of copies) process.stdout.write(describe(dir, result));
  }
  if (!ok) throw new Reported('the log does not verify');
}

async function verifyOne(dir: string): Promise<Verified> {
  const reader = await loadBinding().openReader(dir);
  try {
    return { info: reader.info(), result: await reader.verify() };
  } finally {
    reader.close();
  }
}

function compare(dir: string, a: Verified, against: string, b: Verified): Comparison {
  if (a.info.logId !== b.info.logId || a.info.salt !== b.info.salt) {
    throw new WalError('WAL_NOT_A_LOG', `${dir} and ${against} hold different logs`, {
      hint: 'Compare copies of one log, such as a primary and its standby.',
    });
  }
  const end = a.result.end.position < b.result.end.position ? a.result.end : b.result.end;
  const damaged = [];
  if (a.result.damage !== undefined) damaged.push(dir);
  if (b.result.damage !== undefined) damaged.push(against);
  return { ...compareLogs(dir, against, end.position), toLsn: end.lsn, damaged };
}

function describe(
  dir: string,
  { start, end, batches, records, bytes, damage }: VerifyResult,
): string {
  if (damage !== undefined) {
    const { file, offset, lsn, reason } = damage;
    return `${dir}: damaged: ${file}, offset ${offset}, LSN ${lsn}: ${reason}\n`;
  }
  const range = end.lsn > start.lsn ? `LSN ${count(start.lsn + 1)} to ${count(end.lsn)}, ` : '';
  const what = `${plural(records, 'record')} in ${plural(batches, 'batch', 'batches')}`;
  return `${dir}: ok: ${range}${what}, ${size(bytes)}\n`;
}

function describeComparison({ from, to, toLsn, damaged, difference }: Comparison): string {
  if (difference === undefined) {
    const compared = `${size(to - from)} compared, no difference`;
    if (damaged.length === 0) return `equal: ${compared}\n`;
    const end = `up to LSN ${count(toLsn)}, position ${to}`;
    const why = `${damaged.join(' and ')} ${damaged.length === 1 ? 'is' : 'are'} damaged`;
    return `compared in part: ${compared} ${end}; the rest was not compared: ${why}\n`;
  }
  const { position, file, otherFile, offset } = difference;
  return `different: position ${position}: ${file} and ${otherFile}, offset ${offset}\n`;
}
