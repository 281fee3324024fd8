import { Command, InvalidArgumentError, Option } from 'commander';
import { WalError } from '../../api/errors.js';
import { askAny } from '../ask.js';
import { shared, showDirs } from '../options.js';

interface PauseOptions {
  readonly dir: readonly string[];
  readonly reason?: string;
}

export function pauseCommand(): Command {
  return new Command('pause')
    .summary('stop failover by itself')
    .description(
      'Tells the referee, through the process that has the log open, that no standby is to be ' +
        'promoted by itself until `walmirror resume`, whatever happens to the primary.',
    )
    .addOption(shared.dir())
    .addOption(
      new Option('--reason <text>', 'why, for who looks at the status').argParser(parseReason),
    )
    .addHelpText(
      'after',
      "\nExample:\n  $ walmirror pause --dir ./a --reason 'the switch is replaced'",
    )
    .action(({ dir, reason }: PauseOptions) =>
      ask(dir, { cmd: 'pause', reason: reason ?? 'by hand' }, 'paused'),
    );
}

export function resumeCommand(): Command {
  return new Command('resume')
    .summary('let failover go on by itself')
    .description('Takes back what `walmirror pause` has told the referee.')
    .addOption(shared.dir())
    .addHelpText('after', '\nExample:\n  $ walmirror resume --dir ./a')
    .action(({ dir }: PauseOptions) => ask(dir, { cmd: 'resume' }, 'resumed'));
}

function parseReason(text: string): string {
  if (text.trim() === '') throw new InvalidArgumentError('Say why.');
  return text;
}

async function ask(
  dir: readonly string[],
  request: { readonly cmd: 'pause'; readonly reason: string } | { readonly cmd: 'resume' },
  done: string,
): Promise<void> {
  const reply = await askAny(dir, request, {});
  if (!reply.listening) {
    throw new WalError('WAL_CONTROL', `no process has ${showDirs(dir)} open`, {
      hint: 'Ask any node of the group that runs.',
    });
  }
  process.stdout.write(`failover by itself is ${done}\n`);
}
