import { Command, Option } from 'commander';
import { WalError } from '../../api/errors.js';
import { openNewest } from '../../api/newest_copy.js';
import { UsageError } from '../failure.js';
import { type OutputFormat, recordWriters } from '../formats.js';
import { parseLsn, shared } from '../options.js';
import { Output } from '../output.js';
import { scanBatches } from '../scan.js';

interface DumpOptions {
  readonly dir: readonly string[];
  readonly from?: number;
  readonly to?: number;
  readonly format: OutputFormat;
}

export function dumpCommand(): Command {
  return new Command('dump')
    .summary('print the records of a log')
    .description(
      'Prints the records that are on disk, committed or not. Never changes a byte and does ' +
        'not need the lock, so that it works beside the process that has the log open.',
    )
    .addOption(shared.dir())
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

Example:
  $ walmirror dump --dir ./a --from 10 --to 20 --format json`,
    )
    .action(runDump);
}

async function runDump({ dir, from, to, format }: DumpOptions): Promise<void> {
  if (from !== undefined && to !== undefined && from > to) {
    throw new UsageError(`--from ${from} is after --to ${to}`);
  }
  const output = Output.open('-');
  const write = recordWriters[format];
  const { reader } = await openNewest(dir);
  try {
    for await (const batch of scanBatches(reader, from, to)) {
      for (const record of batch) write(output, record, batch);
      if (output.full) await output.flush();
    }
  } catch (error) {
    // What verified before the bad place is printed, so that it can be saved.
    await output.flush();
    throw WalError.from(error);
  } finally {
    reader.close();
  }
  await output.close();
}
