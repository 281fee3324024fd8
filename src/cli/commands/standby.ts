import { Command, Option } from 'commander';
import type { WalError } from '../../api/errors.js';
import { Log } from '../../api/log.js';
import type { RejoinMode } from '../../api/options.js';
import { UsageError, withUsage } from '../failure.js';
import { feed } from '../feed.js';
import { recordWriters } from '../formats.js';
import { openInput } from '../input.js';
import {
  type Address,
  parseAddress,
  parseLsn,
  parsePath,
  RequiredOption,
  shared,
  showAddress,
} from '../options.js';
import { Output } from '../output.js';
import { addReferee, refereeOf, type TypedReferee } from '../referee.js';
import { untilPrimary } from '../roles.js';
import {
  addSecurity,
  membersOf,
  readSecurity,
  reloadOnHangup,
  type TypedSecurity,
} from '../security.js';
import { createSplitter, type InputFormat } from '../splitter.js';
import { StopSignals } from '../stop.js';
import { notice, plural } from '../terminal.js';
import { narrate, untilStopped } from '../watch.js';
import { cutTornRecord, holdsBytes } from '../whole_records.js';

interface StandbyOptions extends TypedSecurity, TypedReferee {
  readonly dir: readonly string[];
  readonly acceptMissing?: readonly string[];
  readonly mirrorQuorum?: number;
  readonly follow: Address;
  readonly rejoin: RejoinMode;
  readonly name?: string;
  readonly listen?: Address;
  readonly members?: readonly Address[];
  readonly input?: string;
  readonly output: string;
  readonly from?: number;
  readonly format: InputFormat;
  readonly verbose?: true;
}

const SAY_WAITING_MS = 1_000;

export function standbyCommand(): Command {
  const command = new Command('standby')
    .summary('hold a copy of a log, and apply its records to an output')
    .description(
      'Follows a primary and writes each record, once it is committed, to the output, until ' +
        'SIGTERM or SIGINT. Once promoted (walmirror promote) it goes on as a primary: it ' +
        'feeds standbys on --listen and appends what comes from --input.',
    )
    .addOption(shared.dir())
    .addOption(shared.acceptMissing())
    .addOption(shared.mirrorQuorum())
    .addOption(
      new RequiredOption('--follow <host:port>', 'where the primary listens').argParser(
        parseAddress,
      ),
    )
    .addOption(shared.rejoin())
    .addOption(shared.name())
    .addOption(shared.listen())
    .addOption(shared.members())
    .addOption(shared.input('once promoted: records to append, - for the standard input'))
    .addOption(
      new Option('--output <file>', 'where records go, - for the standard output')
        .argParser(parsePath)
        .default('-'),
    )
    .addOption(
      new Option(
        '--from <lsn>',
        'first record to write; an output file is then added to',
      ).argParser(parseLsn),
    )
    .addOption(shared.inputFormat())
    .addOption(shared.verbose())
    .addHelpText(
      'after',
      `
Without --from, an output file is written anew from the first record that the log holds; it is
refused where the log was trimmed, since the file would lose the records before. With --from it is
added to, and the part of a record that a killed process left at its end is cut off first. Pass
the LSN after the last whole record there: the standby says it when it is stopped, and after a
kill it is one more than the number of records in a file that begins with LSN 1. From an earlier
one records come twice, in order, and from a later one some are missing.

Lines tell records apart only where no record holds a newline itself; --format frames always does.
The output is not flushed to the disk as the log is: after a power loss write it anew.

Example:
  $ walmirror standby --dir ./b --follow 127.0.0.1:7401 --output ./b.txt`,
    )
    .action(runStandby);
  return addReferee(addSecurity(command));
}

async function runStandby(options: StandbyOptions): Promise<void> {
  const stop = new StopSignals();
  const log = await openUnlessStopped(options, stop.signal);
  if (log === undefined) return;
  let output: Output | undefined;
  const stopReloading = reloadOnHangup(log, options);
  try {
    if (!(await hasRejoined(log, stop.signal))) return;
    output = await openOutput(log, options);
    narrate(log, options.verbose === true);
    const last = await serve(log, output, options, stop.signal);
    await output.close();
    sayWhereItEnds(options.output, last);
  } finally {
    output?.destroy();
    await log.close();
    stopReloading();
    stop.dispose();
  }
}

/**
 * What an old primary wrote last may go: nothing is written to the output before. False: it was
 * stopped.
 */
async function hasRejoined(log: Log, signal: AbortSignal): Promise<boolean> {
  if (log.status().rejoin === null) return true;
  try {
    await log.connected({ signal });
    return true;
  } catch (error) {
    if (signal.aborted) return false;
    throw error;
  }
}

async function openOutput(log: Log, options: StandbyOptions): Promise<Output> {
  const { output: path, from, format } = options;
  if (from === undefined) {
    refuseToLoseRecords(path, log.status().firstLsn);
    return Output.open(path, 'new');
  }
  const cut = await cutTornRecord(path, format, log.maxRecordBytes);
  if (cut > 0) notice(`${path} ended inside a record: its ${plural(cut, 'byte')} were cut off`);
  return Output.open(path, 'append');
}

/** What a file holds of records that the log has let go of cannot be written again. */
function refuseToLoseRecords(path: string, firstLsn: number): void {
  if (firstLsn === 1 || !holdsBytes(path)) return;
  throw new UsageError(
    `--output: ${path} is not empty, and the log begins at LSN ${firstLsn}: written anew, the ` +
      'file would lose the records before; pass --from with the LSN after its last record, or ' +
      'name another file',
  );
}

function sayWhereItEnds(path: string, last: number): void {
  if (path === '-') return;
  notice(`${path} ends with LSN ${last}: go on with --from ${last + 1}`);
}

/** A fresh standby waits here for its primary; to be stopped meanwhile is no failure. */
async function openUnlessStopped(
  options: StandbyOptions,
  signal: AbortSignal,
): Promise<Log | undefined> {
  const started = performance.now();
  let reason = '';
  const say = (): void => {
    notice(`waiting for the primary at ${showAddress(options.follow)}${reason}`);
  };
  const timer = setTimeout(say, SAY_WAITING_MS).unref();
  const onWaiting = ({ message }: WalError): void => {
    const isNew = reason !== `: ${message}`;
    reason = `: ${message}`;
    if (isNew && performance.now() - started >= SAY_WAITING_MS) say();
  };
  try {
    return await withUsage(() => Log.open({ ...openOptions(options, signal), onWaiting }));
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** Returns the LSN of the last record that was written. */
async function serve(
  log: Log,
  output: Output,
  options: StandbyOptions,
  stop: AbortSignal,
): Promise<number> {
  const write = recordWriters[options.format];
  const over = new AbortController();
  const end = AbortSignal.any([stop, over.signal]);
  const applier = log.apply({ from: options.from ?? log.status().firstLsn }, async (batch) => {
    for (const record of batch) write(output, record, batch);
    await output.flush();
  });
  const stopped = untilStopped(log, end);
  const parts = Promise.all([applier.done, stopped, appendOncePrimary(log, options, end)]);
  try {
    await Promise.race([stopped, parts]);
  } finally {
    over.abort();
    await applier.stop();
  }
  // Commits that a stop cut short fail the command: their outcome is unknown.
  await parts;
  return applier.appliedLsn;
}

/** From the promotion on, if there is one, the input is appended. */
async function appendOncePrimary(
  log: Log,
  { input, format }: StandbyOptions,
  stop: AbortSignal,
): Promise<void> {
  if (input === undefined) return;
  await untilPrimary(log, stop);
  if (stop.aborted) return;
  const totals = { records: 0, bytes: 0 };
  await feed({
    log,
    input: openInput(input),
    splitter: createSplitter(format, log.maxRecordBytes),
    stop,
    stays: true,
    totals,
  });
}

function openOptions(options: StandbyOptions, signal: AbortSignal) {
  const { dir, acceptMissing, mirrorQuorum, name, listen, members, follow } = options;
  const security = readSecurity(options);
  return {
    dir,
    signal,
    ...refereeOf(options, dir),
    follow: { ...follow, ...security },
    rejoin: options.rejoin,
    ...(acceptMissing === undefined ? {} : { acceptMissing }),
    ...(mirrorQuorum === undefined ? {} : { mirrorQuorum }),
    ...(name === undefined ? {} : { name }),
    ...(listen === undefined ? {} : { listen: { ...listen, ...security } }),
    ...(members === undefined ? {} : { members: membersOf(members, options) }),
  };
}
