import { Command, Option } from 'commander';
import { WalError } from '../../api/errors.js';
import type { SwitchedOver } from '../../api/switchover.js';
import { askAny } from '../ask.js';
import { parseDuration, RequiredOption, shared, showDirs } from '../options.js';
import { count } from '../terminal.js';

interface SwitchoverOptions {
  readonly dir: readonly string[];
  readonly to: string;
  readonly timeout?: number;
  readonly json?: true;
}

type DemoteOptions = Omit<SwitchoverOptions, 'to'>;

export function switchoverCommand(): Command {
  return new Command('switchover')
    .summary('hand over to a standby')
    .description(
      'Makes a standby the primary, and the primary that the process has open its standby, ' +
        'without the loss of a record: appends stop until the other has all of them.',
    )
    .addOption(shared.dir())
    .addOption(new RequiredOption('--to <name>', 'name of the member that takes over'))
    .addOption(
      new Option(
        '--timeout <time>',
        'how long it may take before it goes on as the primary (default: 10s)',
      ).argParser(parseDuration),
    )
    .addOption(shared.json())
    .addHelpText('after', '\nExample:\n  $ walmirror switchover --dir ./a --to b')
    .action(runSwitchover);
}

export function demoteCommand(): Command {
  return new Command('demote')
    .summary('make the primary a standby')
    .description(
      'Stops appends, flushes, and makes the primary that the process has open a standby, of ' +
        'whichever node is promoted next: by hand, or by the referee, which it gives its lease ' +
        'back to.',
    )
    .addOption(shared.dir())
    .addOption(
      new Option(
        '--timeout <time>',
        'how long commits may wait for standbys before (default: 2s)',
      ).argParser(parseDuration),
    )
    .addOption(shared.json())
    .addHelpText('after', '\nExample:\n  $ walmirror demote --dir ./a')
    .action(runDemote);
}

async function runSwitchover({ dir, to, timeout, json }: SwitchoverOptions): Promise<void> {
  const request = { cmd: 'switchover', to, ...(timeout === undefined ? {} : { timeout }) } as const;
  const done = (await ask(dir, request)) as SwitchedOver;
  const { term, lsn, pauseMs } = done;
  const text =
    `${to} is the primary now, epoch ${term.epoch}, after LSN ${count(lsn)}; ` +
    `no appends were taken for ${pauseMs.toFixed(0)} ms`;
  process.stdout.write(`${json === true ? JSON.stringify(done) : text}\n`);
}

async function runDemote({ dir, timeout, json }: DemoteOptions): Promise<void> {
  const request = { cmd: 'demote', ...(timeout === undefined ? {} : { timeout }) } as const;
  await ask(dir, request);
  const text = `${showDirs(dir)} is a standby now: promote it, or another member`;
  process.stdout.write(`${json === true ? JSON.stringify({ role: 'standby' }) : text}\n`);
}

async function ask(
  dir: readonly string[],
  request: { readonly cmd: 'switchover' | 'demote' },
): Promise<unknown> {
  const reply = await askAny(dir, request, {});
  if (reply.listening) return reply.result;
  throw new WalError('WAL_CONTROL', `no process has ${showDirs(dir)} open`, {
    hint: 'A primary that does not run needs no successor: promote one of its standbys.',
  });
}
