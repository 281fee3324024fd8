import { realpathSync } from 'node:fs';
import { Command, Option } from 'commander';
import { repairDirectory } from '../../api/repair_directory.js';
import { resolveSecurity } from '../../api/security_options.js';
import type { RepairResult } from '../../native/native_log.js';
import { describeRange, progressBar } from '../damage.js';
import { Reported, UsageError, withUsage } from '../failure.js';
import { type Address, parseAddress, parsePath, shared } from '../options.js';
import { addSecurity, readSecurity, refuseForNothing, type TypedSecurity } from '../security.js';
import { plural, showProgress, size } from '../terminal.js';

interface RepairOptions extends TypedSecurity {
  readonly dir: readonly string[];
  readonly fromDir?: string;
  readonly from?: Address;
  readonly dryRun?: true;
  readonly json?: true;
}

export function repairCommand(): Command {
  const command = new Command('repair')
    .summary('write anew what is damaged in a closed log')
    .description(
      'Takes what is damaged from another copy of the log, verifies it, and writes it in its ' +
        'place. Lists what cannot be repaired, by LSN, and exits 1 if there is any. Without ' +
        'another copy it repairs what follows from the log itself: headers, and zeros.',
    )
    .addOption(shared.dir())
    .addOption(
      new Option(
        '--from-dir <path>',
        'directory of another copy, such as that of a standby; it is only read',
      ).argParser(parsePath),
    )
    .addOption(
      new Option('--from <host:port>', 'a primary of the log that listens there').argParser(
        parseAddress,
      ),
    )
    .addOption(new Option('--dry-run', 'say what would be done, and change nothing'))
    .addOption(shared.json())
    .addHelpText(
      'after',
      `
Examples:
  $ walmirror repair --dir ./a --from-dir ./b --dry-run
  $ walmirror repair --dir ./a --from-dir ./b
  $ walmirror repair --dir ./a --dir ./a2
  $ walmirror repair --dir ./b --from 127.0.0.1:7401`,
    )
    .action(runRepair);
  return addSecurity(command);
}

async function runRepair(options: RepairOptions): Promise<void> {
  const { dir: dirs, fromDir, from } = options;
  if (fromDir !== undefined && from !== undefined) {
    throw new UsageError('--from-dir and --from name two sources: pass one of them');
  }
  if (fromDir !== undefined && dirs.some((dir) => isSame(dir, fromDir))) {
    throw new UsageError('--from-dir is the log itself: name another copy of it');
  }
  if (from === undefined) refuseForNothing(options, '--from');
  let ok = true;
  for (const dir of dirs) {
    // Without another source, the directories of a log are repaired from each other.
    const others = dirs.filter((other) => other !== dir);
    const sources = fromDir === undefined && from === undefined ? others : [];
    ok = (await repairOne(dir, options, sources)) && ok;
  }
  if (!ok) throw new Reported('not all damage could be repaired');
}

/** Tries one source after the other while something is left, and tells what the last one did. */
async function repairOne(
  dir: string,
  options: RepairOptions,
  [source, ...more]: readonly string[],
): Promise<boolean> {
  const result = await repairFrom(dir, options, source ?? options.fromDir);
  const ok = result.damage.every((range) => range.repaired);
  if (!ok && more.length > 0) return repairOne(dir, options, more);
  const dryRun = options.dryRun === true;
  process.stdout.write(
    options.json === true
      ? `${JSON.stringify({ ok, dryRun, ...result })}\n`
      : describe(dir, result, dryRun),
  );
  return ok;
}

async function repairFrom(
  dir: string,
  options: RepairOptions,
  fromDir: string | undefined,
): Promise<RepairResult> {
  const { from, dryRun } = options;
  let done = 0;
  let of = 0;
  const hide = showProgress(() => progressBar(done, of));
  try {
    return await repairDirectory({
      dir,
      fromDir,
      from: from === undefined ? undefined : await withUsage(async () => peer(from, options)),
      dryRun: dryRun === true,
      progress: (position, end) => {
        [done, of] = [position, end];
      },
    });
  } finally {
    hide();
  }
}

function peer(from: Address, options: RepairOptions) {
  return { ...from, ...resolveSecurity({ ...readSecurity(options) }, 'from', undefined) };
}

function describe(dir: string, { damage, writtenBytes }: RepairResult, dryRun: boolean): string {
  if (damage.length === 0) return `${dir}: nothing is damaged\n`;
  const verb = dryRun ? 'can be repaired' : 'repaired';
  const lines = damage.map((range) =>
    range.repaired
      ? `${dir}: ${verb}: ${describeRange(range)}\n`
      : `${dir}: not repaired: ${describeRange(range)}: ${range.why}\n`,
  );
  const left = damage.filter((range) => !range.repaired).length;
  const ranges = plural(damage.length - left, 'range');
  const sum = dryRun ? `${ranges} can be repaired` : `${ranges} repaired`;
  const written = dryRun ? '' : `, ${size(writtenBytes)} written`;
  const rest = left === 0 ? '' : `; ${plural(left, 'range')} not`;
  return `${lines.join('')}${dir}: ${sum}${written}${rest}\n`;
}

function isSame(a: string, b: string): boolean {
  try {
    return realpathSync(a) === realpathSync(b);
  } catch {
    return false;
  }
}
