import { Command } from 'commander';
import type { ScrubStatus } from '../../api/scrub.js';
import type { LogStatus } from '../../api/status.js';
import { loadBinding } from '../../native/binding.js';
import type { DamagedRange } from '../../native/native_log.js';
import { askAny } from '../ask.js';
import { describeRange, progressBar } from '../damage.js';
import { Reported } from '../failure.js';
import { shared } from '../options.js';
import { StopSignals } from '../stop.js';
import { plural, showProgress, size } from '../terminal.js';

interface ScrubCommandOptions {
  readonly dir: readonly string[];
  readonly json?: true;
}

/** What a scrub found; how much of the log it read, for a person. */
interface Outcome {
  readonly damage: readonly DamagedRange[];
  readonly extent: string;
  readonly row: object;
}

const ASK_MS = 500;

export function scrubCommand(): Command {
  return new Command('scrub')
    .summary('find all damage of a log')
    .description(
      'Reads a closed log whole, or has the process that has it open read its sealed segments, ' +
        'and tells every damaged range with file, offset and LSNs; exits 1 if there is one. ' +
        'Never changes a byte of a closed log.',
    )
    .addOption(shared.dir())
    .addOption(shared.json())
    .addHelpText(
      'after',
      '\nExamples:\n  $ walmirror scrub --dir ./a\n  $ walmirror scrub --dir ./a --dir ./a2',
    )
    .action(runScrub);
}

async function runScrub({ dir: dirs, json }: ScrubCommandOptions): Promise<void> {
  let ok = true;
  // A process that has the log open reads all its directories.
  const open = await scrubOpen(dirs);
  if (open !== undefined) {
    ok = tell(dirs.join(', '), open, json === true);
  } else {
    for (const dir of dirs) ok = tell(dir, await scrubClosed(dir), json === true) && ok;
  }
  if (!ok) throw new Reported('the log is damaged');
}

function tell(where: string, { damage, extent, row }: Outcome, json: boolean): boolean {
  const ok = damage.length === 0;
  if (json) {
    process.stdout.write(`${JSON.stringify({ ok, ...row })}\n`);
  } else if (ok) {
    process.stdout.write(`${where}: ok: ${extent}\n`);
  } else {
    for (const range of damage) {
      process.stdout.write(`${where}: damaged: ${describeRange(range)}: ${range.reason}\n`);
    }
    process.stdout.write(`${where}: ${plural(damage.length, 'damaged range')}\n`);
  }
  return ok;
}

async function scrubClosed(dir: string): Promise<Outcome> {
  let done = 0;
  let of = 0;
  const stop = showProgress(() => progressBar(done, of));
  try {
    const result = await loadBinding().scrub(dir, (position, end) => {
      [done, of] = [position, end];
    });
    const { records, batches, damage } = result;
    const extent = `${plural(records, 'record')} in ${plural(batches, 'batch', 'batches')}`;
    return { damage, extent, row: result };
  } finally {
    stop();
  }
}

/** undefined: no process has the log open. */
async function scrubOpen(dirs: readonly string[]): Promise<Outcome | undefined> {
  const stop = new StopSignals();
  let last: ScrubStatus | undefined;
  const ask = setInterval(() => {
    askAny(dirs, { cmd: 'status' }, { signal: stop.signal }).then(
      (reply) => {
        if (reply.listening) last = (reply.result as LogStatus).scrub;
      },
      () => undefined,
    );
  }, ASK_MS).unref();
  const hide = showProgress(() => progressBar(last?.done ?? 0, last?.of ?? 0));
  try {
    const reply = await askAny(dirs, { cmd: 'scrub' }, { signal: stop.signal });
    if (!reply.listening) return undefined;
    const status = reply.result as ScrubStatus;
    const extent = `the sealed segments, ${size(status.of)}`;
    return { damage: status.damage, extent, row: status };
  } finally {
    hide();
    clearInterval(ask);
    stop.dispose();
  }
}
