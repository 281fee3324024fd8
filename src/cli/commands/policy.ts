import { Command } from 'commander';
import { WalError } from '../../api/errors.js';
import type { LogStatus, PolicyStatus } from '../../api/status.js';
import type { CommitLevel } from '../../replication/level.js';
import { askAny } from '../ask.js';
import { asTyped, UsageError } from '../failure.js';
import { shared, showDirs } from '../options.js';
import { StopSignals } from '../stop.js';
import { notice } from '../terminal.js';

interface PolicyCommandOptions {
  readonly dir: readonly string[];
  readonly sync?: CommitLevel;
  readonly standbys?: string;
  readonly whenMissing?: string;
  readonly syncTimeout?: number;
  readonly json?: true;
}

const SAY_WAITING_MS = 1_000;
const ANSWER_MS = 5_000;

export function policyCommand(): Command {
  return new Command('policy')
    .summary('change what the commits of a running primary wait for')
    .description(
      'Tells the process that has the primary open; what is left out stays as it is. Ends when ' +
        'the new policy is recorded and counts alone: until then commits meet the old one too. ' +
        'It stays set where the wait is cut short, and is forgotten when the log is closed.',
    )
    .addOption(shared.dir())
    .addOption(shared.sync())
    .addOption(shared.standbys("the standbys that count; '' for nobody"))
    .addOption(shared.whenMissing())
    .addOption(shared.syncTimeout())
    .addOption(shared.json())
    .addHelpText(
      'after',
      `
Examples:
  $ walmirror policy --dir ./a --standbys 'FIRST 1 (b, c)' --when-missing degrade
  $ walmirror policy --dir ./a --sync local`,
    )
    .action(runPolicy);
}

async function runPolicy(options: PolicyCommandOptions): Promise<void> {
  const { dir, sync, standbys, whenMissing, syncTimeout, json } = options;
  const changes = {
    ...(sync === undefined ? {} : { synchronousCommit: sync }),
    ...(standbys === undefined ? {} : { synchronousStandbys: standbys }),
    ...(whenMissing === undefined ? {} : { whenMissing }),
    ...(syncTimeout === undefined ? {} : { syncTimeout }),
  };
  if (Object.keys(changes).length === 0) {
    throw new UsageError('nothing to change: say --sync, --standbys or --when-missing');
  }
  const stop = new StopSignals();
  const waiting = setTimeout(() => void sayWaiting(dir), SAY_WAITING_MS).unref();
  try {
    const request = { cmd: 'policy', ...changes } as const;
    const reply = await askAny(dir, request, { signal: stop.signal }).catch(inTypedWords);
    if (!reply.listening) {
      throw new WalError('WAL_CONTROL', `no process has ${showDirs(dir)} open`, {
        hint: 'Start it with the policy: walmirror primary --standbys ...',
      });
    }
    const policy = reply.result as PolicyStatus;
    process.stdout.write(`${json === true ? JSON.stringify(policy) : describePolicy(policy)}\n`);
  } finally {
    clearTimeout(waiting);
    stop.dispose();
  }
}

/** What the process found wrong with the options. */
function inTypedWords(error: unknown): never {
  if (!(error instanceof WalError) || error.code !== 'WAL_CONTROL') throw error;
  throw new WalError(error.code, asTyped(error.message), { hint: error.hint, cause: error });
}

async function sayWaiting(dir: readonly string[]): Promise<void> {
  const reply = await askAny(dir, { cmd: 'status' }, { timeoutMs: ANSWER_MS }).catch(
    () => undefined,
  );
  if (reply === undefined || !reply.listening) return;
  const lacks = (reply.result as LogStatus).policy?.waitingFor ?? 'it to be recorded';
  notice(`the policy is set; waiting for ${lacks}`);
}

/** In one line, as `status` shows it. */
export function describePolicy(policy: PolicyStatus): string {
  const { synchronousCommit, synchronousStandbys, whenMissing, syncTimeout } = policy;
  const level = `${synchronousCommit} ${synchronousStandbys ?? ''}`.trim();
  const until = whenMissing === 'block' ? '' : ` after ${syncTimeout} ms`;
  const missing = synchronousStandbys === null ? '' : `, when missing ${whenMissing}${until}`;
  return `${level}${missing}${policy.inForce ? '' : ', not in force yet'}`;
}
