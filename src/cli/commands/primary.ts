import { Command, Option } from 'commander';
import { Log } from '../../api/log.js';
import type { WhenMissing } from '../../api/policy_options.js';
import type { CommitLevel } from '../../replication/level.js';
import { withUsage } from '../failure.js';
import { type FeedTotals, feed } from '../feed.js';
import { openInput } from '../input.js';
import { type Address, shared, showAddress } from '../options.js';
import { addReferee, refereeOf, type TypedReferee } from '../referee.js';
import {
  addSecurity,
  membersOf,
  readSecurity,
  refuseForNothing,
  reloadOnHangup,
  type TypedSecurity,
} from '../security.js';
import { createSplitter, type InputFormat } from '../splitter.js';
import { StopSignals } from '../stop.js';
import { count, notice, plural, showProgress, size } from '../terminal.js';
import { narrate, untilStopped } from '../watch.js';

interface PrimaryOptions extends TypedSecurity, TypedReferee {
  readonly dir: readonly string[];
  readonly acceptMissing?: readonly string[];
  readonly mirrorQuorum?: number;
  readonly name?: string;
  readonly listen?: Address;
  readonly members?: readonly Address[];
  readonly openAlone?: true;
  readonly sync?: CommitLevel;
  readonly standbys?: string;
  readonly whenMissing?: WhenMissing;
  readonly syncTimeout?: number;
  readonly input: string;
  readonly format: InputFormat;
  readonly stay?: true;
  readonly json?: true;
  readonly verbose?: true;
}

export function primaryCommand(): Command {
  const command = new Command('primary')
    .summary('append records to a log, and feed its standbys')
    .description(
      'Appends each line (or frame) of the input as a record and commits it as it comes. At ' +
        'the end of the input it waits for the commit of all, prints a summary and ends; with ' +
        '--stay it goes on serving standbys until SIGTERM or SIGINT.',
    )
    .addOption(shared.dir())
    .addOption(shared.acceptMissing())
    .addOption(shared.mirrorQuorum())
    .addOption(shared.name())
    .addOption(shared.listen())
    .addOption(shared.members())
    .addOption(new Option('--open-alone', 'with --members: open although none of them answers'))
    .addOption(shared.sync())
    .addOption(shared.standbys())
    .addOption(shared.whenMissing())
    .addOption(shared.syncTimeout())
    .addOption(shared.input().default('-'))
    .addOption(shared.inputFormat())
    .addOption(new Option('--stay', 'go on serving after the end of the input'))
    .addOption(shared.json())
    .addOption(shared.verbose())
    .addHelpText(
      'after',
      `
Examples:
  $ seq 1000000 | walmirror primary --dir ./a
  $ walmirror primary --dir ./a --listen 127.0.0.1:7401 --standbys 'ANY 1 (*)' --stay`,
    )
    .action(runPrimary);
  return addReferee(addSecurity(command));
}

async function runPrimary(options: PrimaryOptions): Promise<void> {
  if (options.listen === undefined && options.members === undefined) {
    refuseForNothing(options, '--listen');
  }
  const stop = new StopSignals();
  const started = performance.now();
  const log = await withUsage(() => Log.open(openOptions(options, stop.signal)));
  const totals: FeedTotals = { records: 0, bytes: 0 };
  const stopReloading = reloadOnHangup(log, options);
  try {
    narrate(log, options.verbose === true);
    if (options.listen !== undefined) sayListening(log, options.verbose === true);
    const stopProgress = showProgress(() => progress(totals, started));
    try {
      await feed({
        log,
        input: openInput(options.input),
        splitter: createSplitter(options.format, log.maxRecordBytes),
        stop: stop.signal,
        stays: options.stay === true,
        totals,
      });
    } finally {
      stopProgress();
    }
    summarize(log, totals, (performance.now() - started) / 1000, options.json === true);
    if (options.stay === true) await untilStopped(log, stop.signal);
  } finally {
    await log.close();
    stopReloading();
    stop.dispose();
  }
}

function openOptions(options: PrimaryOptions, signal: AbortSignal) {
  const {
    dir,
    acceptMissing,
    mirrorQuorum,
    name,
    listen,
    members,
    openAlone,
    sync,
    standbys,
    whenMissing,
    syncTimeout,
  } = options;
  return {
    dir,
    signal,
    ...refereeOf(options, dir),
    ...(acceptMissing === undefined ? {} : { acceptMissing }),
    ...(mirrorQuorum === undefined ? {} : { mirrorQuorum }),
    ...(name === undefined ? {} : { name }),
    ...(listen === undefined ? {} : { listen: { ...listen, ...readSecurity(options) } }),
    ...(members === undefined ? {} : { members: membersOf(members, options) }),
    ...(openAlone === undefined ? {} : { openAlone }),
    ...(sync === undefined ? {} : { synchronousCommit: sync }),
    ...(standbys === undefined ? {} : { synchronousStandbys: standbys }),
    ...(whenMissing === undefined ? {} : { whenMissing }),
    ...(syncTimeout === undefined ? {} : { syncTimeout }),
  };
}

function sayListening(log: Log, verbose: boolean): void {
  const { listening } = log.status();
  if (listening === null) return;
  if (verbose || process.stderr.isTTY === true) notice(`listening on ${showAddress(listening)}`);
}

function progress(totals: FeedTotals, started: number): string {
  const seconds = (performance.now() - started) / 1000;
  const rate = size(totals.bytes / Math.max(seconds, 0.001));
  return `${plural(totals.records, 'record')}, ${size(totals.bytes)}, ${rate}/s`;
}

function summarize(log: Log, totals: FeedTotals, seconds: number, json: boolean): void {
  const { role, term, appendLsn, flushLsn, commitLsn } = log.status();
  const { records, bytes } = totals;
  if (json) {
    const row = { role, term, appendLsn, flushLsn, commitLsn, records, bytes, seconds };
    process.stdout.write(`${JSON.stringify(row)}\n`);
    return;
  }
  process.stdout.write(
    `${plural(records, 'record')}, ${size(bytes)} in ${seconds.toFixed(2)} s; ` +
      `committed up to LSN ${count(commitLsn)} (epoch ${term.epoch})\n`,
  );
}
