import { Command, Option } from 'commander';
import { describeOldPrimary } from '../../api/old_primary.js';
import type { Promoted } from '../../api/promote.js';
import { promoteDirectory } from '../../api/promote_directory.js';
import { askAny } from '../ask.js';
import { shared, showDirs } from '../options.js';
import { StopSignals } from '../stop.js';
import { count, notice } from '../terminal.js';

interface PromoteOptions {
  readonly dir: readonly string[];
  readonly acceptMissing?: readonly string[];
  readonly primaryStopped?: true;
  readonly force?: true;
  readonly json?: true;
}

const SAY_WAITING_MS = 1_000;

export function promoteCommand(): Command {
  return new Command('promote')
    .summary('make a standby the primary')
    .description(
      'Makes a standby the primary, in a new epoch: the process that has it open, or the closed ' +
        'directory. All that was received is kept.',
    )
    .addOption(shared.dir())
    .addOption(shared.acceptMissing())
    .addOption(
      new Option('--primary-stopped', 'say that the old primary is stopped: nothing else can tell'),
    )
    .addOption(
      new Option('--force', 'promote although acknowledged records are lost by it, or may be'),
    )
    .addOption(shared.json())
    .addHelpText('after', '\nExample:\n  $ walmirror promote --dir ./b --primary-stopped')
    .action(runPromote);
}

async function runPromote(options: PromoteOptions): Promise<void> {
  const { dir, acceptMissing, primaryStopped, force, json } = options;
  const stop = new StopSignals();
  const waiting = setTimeout(() => {
    notice('waiting: the standby applies what it received before it answers');
  }, SAY_WAITING_MS).unref();
  try {
    const stopped = {
      ...(primaryStopped === true ? { primaryStopped } : {}),
      ...(force === true ? { force } : {}),
    };
    const accepted = acceptMissing === undefined ? {} : { acceptMissing };
    const request = { cmd: 'promote', ...stopped } as const;
    const reply = await askAny(dir, request, { signal: stop.signal });
    const promoted = reply.listening
      ? (reply.result as Promoted)
      : await promoteDirectory({ dir, ...stopped, ...accepted });
    process.stdout.write(json === true ? `${JSON.stringify(promoted)}\n` : describe(dir, promoted));
  } finally {
    clearTimeout(waiting);
    stop.dispose();
  }
}

function describe(dir: readonly string[], { term, lsn, oldPrimary, forced }: Promoted): string {
  const now = `${showDirs(dir)} is the primary now, epoch ${term.epoch}, after LSN ${count(lsn)}`;
  const force = forced === null ? [] : [`forced: ${forced}`];
  return `${[now, ...describeOldPrimary(oldPrimary), ...force].join('\n')}\n`;
}
