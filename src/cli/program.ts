import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { dumpCommand } from './commands/dump.js';
import { initStandbyCommand } from './commands/init_standby.js';
import { pauseCommand, resumeCommand } from './commands/pause.js';
import { policyCommand } from './commands/policy.js';
import { primaryCommand } from './commands/primary.js';
import { promoteCommand } from './commands/promote.js';
import { repairCommand } from './commands/repair.js';
import { scrubCommand } from './commands/scrub.js';
import { slotsCommand } from './commands/slots.js';
import { standbyCommand } from './commands/standby.js';
import { statusCommand } from './commands/status.js';
import { demoteCommand, switchoverCommand } from './commands/switchover.js';
import { verifyCommand } from './commands/verify.js';
import { report } from './failure.js';
import { checkRequired } from './options.js';

/** Runs one command line and returns its exit code: 0 done, 1 failed, 2 bad usage. */
export async function run(argv: readonly string[]): Promise<number> {
  const json = argv.includes('--json');
  try {
    await createProgram(json).parseAsync(argv);
    return 0;
  } catch (error) {
    return report(error, json);
  }
}

function createProgram(json: boolean): Command {
  const program = new Command('walmirror')
    .description('A write-ahead log and its standbys, from the command line.')
    .version(packageVersion(), '--version', 'print the version')
    .addHelpText(
      'after',
      `
Example:
  $ seq 10 | walmirror primary --dir ./a && walmirror dump --dir ./a

Exit codes: 0 done, 1 failed (stderr says why), 2 bad usage.`,
    );
  const commands = [
    primaryCommand(),
    standbyCommand(),
    initStandbyCommand(),
    promoteCommand(),
    switchoverCommand(),
    demoteCommand(),
    policyCommand(),
    pauseCommand(),
    resumeCommand(),
    slotsCommand(),
    dumpCommand(),
    verifyCommand(),
    scrubCommand(),
    repairCommand(),
    statusCommand(),
  ];
  for (const command of commands) program.addCommand(command);
  for (const command of [program, ...commands]) {
    // Throws instead of ending the process, so that output is written out and the exit code is
    // ours.
    command.exitOverride().helpOption('--help', 'show this help').allowExcessArguments(false);
    command.helpCommand(false);
    if (json) command.configureOutput({ outputError: () => {} });
    if (command !== program) command.hook('preAction', (_, chosen) => checkRequired(chosen));
  }
  return program;
}

function packageVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
