import { Command, Option } from 'commander';
import type { Batch } from '../../api/batch.js';
import { WalError } from '../../api/errors.js';
import { openNewest } from '../../api/newest_copy.js';
import { UsageError } from '../failure.js';
import { type OutputFormat, recordWriters } from '../formats.js';
import { parseLsn, parsePath, parsePaths } from '../options.js';
import { Output } from '../output.js';
import { scanBatches } from '../scan.js';
import { scanTail } from '../tail_file.js';

interface DumpOptions {
  readonly dir?: readonly string[];
  readonly tail?: string;
  readonly from?: number;
  readonly to?: number;
  readonly format: OutputFormat;
}

export function dumpCommand(): Command {
  return new Command('dump')
    .summary('print the records of a log')
    .description(
      'Prints the records that are on disk, committed or not. Never changes a byte and does ' +
        'not need the lock, so that it works beside the process that has the log open. Or those ' +
        'of a tail that was set aside when a log was cut, since its new primary went another way.',
    )
    .addOption(
      new Option(
        '--dir <path>',
        'directory of the log; once for each, where it has several',
      ).argParser(parsePaths),
    )
    .addOption(
      new Option('--tail <file>', 'instead: a .diverged file of a log directory').argParser(
        parsePath,
      ),
    )
    .addOption(
      new Option('--from <lsn>', 'first record (default: the first one kept)').argParser(parseLsn),
    )
    .addOption(
      new Option('--to <lsn>', 'last record (default: the last one on disk)').argParser(parseLsn),
    )
    .addOption(
      new Option(
        '--format <format>',
        'a record a line, u32le length and bytes, or a JSON object a line',
      )
        .choices(['lines', 'frames', 'json'])
        .default('lines'),
    )
    .addHelpText(
      'after',
      `
With json a line holds lsn, term, timestamp, encoding (utf8, or base64 for other bytes) and data.

Examples:
  $ walmirror dump --dir ./a --from 10 --to 20 --format json
  $ walmirror dump --tail ./a/0000000000004a80-2-1.diverged`,
    )
    .action(runDump);
}

async function runDump({ dir, tail, from, to, format }: DumpOptions): Promise<void> {
  if (from !== undefined && to !== undefined && from > to) {
    throw new UsageError(`--from ${from} is after --to ${to}`);
  }
  const output = Output.open('-');
  const write = recordWriters[format];
  try {
    for await (const batch of batchesOf(dir, tail, from, to)) {
      for (const record of batch) write(output, record, batch);
      if (output.full) await output.flush();
    }
  } catch (error) {
    // What verified before the bad place is printed, so that it can be saved.
    await output.flush();
    throw WalError.from(error);
  }
  await output.close();
}

function batchesOf(
  dir: readonly string[] | undefined,
  tail: string | undefined,
  from: number | undefined,
  to: number | undefined,
): AsyncGenerator<Batch> {
  if (dir !== undefined && tail !== undefined) {
    throw new UsageError('--dir and --tail: say one of them');
  }
  if (tail !== undefined) return scanTail(tail, from, to);
  if (dir !== undefined) return batchesOfLog(dir, from, to);
  throw new UsageError("required option '--dir <path>' not specified, nor '--tail <file>'");
}

async function* batchesOfLog(
  dir: readonly string[],
  from: number | undefined,
  to: number | undefined,
): AsyncGenerator<Batch> {
  const { reader } = await openNewest(dir);
  try {
    yield* scanBatches(reader, from, to);
  } finally {
    reader.close();
  }
}
