import { Command, Option } from 'commander';
import type { WalError } from '../../api/errors.js';
import { Log } from '../../api/log.js';
import { withUsage } from '../failure.js';
import { type Address, parseAddress, RequiredOption, shared, showAddress } from '../options.js';
import { addSecurity, readSecurity, type TypedSecurity } from '../security.js';
import { StopSignals } from '../stop.js';
import { count, notice, showProgress, size } from '../terminal.js';
import { Transfer } from '../transfer.js';

interface InitStandbyOptions extends TypedSecurity {
  readonly dir: readonly string[];
  readonly follow: Address;
  readonly name?: string;
  readonly reseed?: true;
  readonly json?: true;
}

/** What `--json` prints. */
interface Made {
  readonly dir: string;
  /** Of the snapshot that it begins with; null: the primary had the log from its beginning. */
  readonly snapshotLsn: number | null;
  readonly snapshotBytes: number;
  readonly firstLsn: number;
  readonly flushLsn: number;
  readonly milliseconds: number;
}

const LOOK_MS = 50;

export function initStandbyCommand(): Command {
  const command = new Command('init-standby')
    .summary('make the directory of a standby, from its running primary')
    .description(
      'Makes a copy of the log in a directory of its own and ends when that has all that the ' +
        'primary has. Where the beginning of the log is gone there, a snapshot of the ' +
        "application's state comes first; it is gone on from after a cut or a kill.",
    )
    .addOption(shared.dir())
    .addOption(
      new RequiredOption('--follow <host:port>', 'where the primary listens').argParser(
        parseAddress,
      ),
    )
    .addOption(shared.name())
    .addOption(new Option('--reseed', 'a log that is there and fell too far behind is replaced'))
    .addOption(shared.json())
    .addHelpText(
      'after',
      `
The application opens the directory then, with \`follow\` and, where its state comes from a
snapshot, with \`snapshot\`. The log is kept for it on the primary from the moment it was there,
until it comes or the primary is restarted; a slot of its name keeps it over restarts too.

Example:
  $ walmirror init-standby --dir ./b --follow 127.0.0.1:7401`,
    )
    .action(initStandby);
  return addSecurity(command);
}

async function initStandby(options: InitStandbyOptions): Promise<void> {
  const stop = new StopSignals();
  const began = performance.now();
  const transfer = new Transfer();
  const hide = showProgress(() => transfer.describe());
  let log: Log | undefined;
  try {
    log = await withUsage(() => open(options, stop.signal, transfer));
    await log.connected({ signal: stop.signal });
    await caughtUp(log, transfer, stop.signal);
    const { firstLsn, flushLsn, snapshots } = log.status();
    const given = log.loadedSnapshot;
    const made: Made = {
      dir: log.dir as string,
      snapshotLsn: given?.lsn ?? null,
      snapshotBytes: given === null ? 0 : (snapshots?.[0]?.bytes ?? 0),
      firstLsn,
      flushLsn,
      milliseconds: Math.round(performance.now() - began),
    };
    await log.close();
    hide();
    process.stdout.write(options.json === true ? `${JSON.stringify(made)}\n` : describe(made));
  } finally {
    hide();
    await log?.close().catch(() => undefined);
    stop.dispose();
  }
}

function open(options: InitStandbyOptions, signal: AbortSignal, transfer: Transfer): Promise<Log> {
  const { dir, follow, name } = options;
  let said = '';
  const onWaiting = ({ message }: WalError): void => {
    if (message === said) return;
    said = message;
    notice(`waiting for the primary at ${showAddress(follow)}: ${message}`);
  };
  return Log.open({
    dir,
    signal,
    follow: { ...follow, ...readSecurity(options) },
    ...(name === undefined ? {} : { name }),
    reseed: options.reseed === true ? 'auto' : 'never',
    // It is verified, and loaded by the application.
    snapshot: {
      save: () => {
        throw new Error('nobody asks for one here');
      },
      load: (stream) => void stream.destroy(),
    },
    onWaiting,
    onSeeding: ({ bytes, totalBytes }) => transfer.moved('snapshot', bytes, totalBytes),
  });
}

/** All that the primary had when it was asked last is flushed here. */
async function caughtUp(log: Log, transfer: Transfer, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    const { flushLsn, upstream, failure } = log.status();
    if (failure !== null) throw new Error(failure.message);
    const last = upstream?.primaryLsn ?? null;
    if (last !== null && flushLsn >= last) return;
    transfer.moved('records', flushLsn, last ?? 0);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

function describe({ dir, snapshotLsn, snapshotBytes, firstLsn, flushLsn }: Made): string {
  const begins =
    snapshotLsn === null
      ? ''
      : `the state of LSN ${count(snapshotLsn)} (${size(snapshotBytes)}) and `;
  const records =
    flushLsn < firstLsn ? 'no records yet' : `LSN ${count(firstLsn)} to ${count(flushLsn)}`;
  return `${dir}: ${begins}${records}\n`;
}
