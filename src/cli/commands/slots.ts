import { Argument, Command } from 'commander';
import { WalError } from '../../api/errors.js';
import { isNodeName, nodeNameRule } from '../../api/node_name.js';
import type { SlotStatus } from '../../api/slots.js';
import type { LogStatus } from '../../api/status.js';
import type { ControlRequest } from '../../control/client.js';
import { askAny } from '../ask.js';
import { UsageError } from '../failure.js';
import { shared, showDirs } from '../options.js';
import { count, notice, size } from '../terminal.js';

interface SlotsOptions {
  readonly dir: readonly string[];
  readonly json?: true;
}

const actions = ['list', 'create', 'drop'] as const;

export function slotsCommand(): Command {
  return new Command('slots')
    .summary('durable claims of standbys on the log')
    .description(
      'Asks the process that has the log open: `list` shows its slots, `create` makes one for ' +
        'the standby of that name, `drop` lets go of one. What a standby with a slot has not ' +
        'flushed is kept for it, connected or not.',
    )
    .addArgument(new Argument('<action>', 'what to do').choices(actions))
    .addArgument(new Argument('[name]', 'of the standby'))
    .addOption(shared.dir())
    .addOption(shared.json())
    .addHelpText(
      'after',
      `
Examples:
  $ walmirror slots --dir ./a list
  $ walmirror slots --dir ./a create b
  $ walmirror slots --dir ./a drop b`,
    )
    .action(runSlots);
}

async function runSlots(
  action: (typeof actions)[number],
  name: string | undefined,
  { dir, json }: SlotsOptions,
): Promise<void> {
  if (action === 'list') {
    if (name !== undefined) throw new UsageError('slots list takes no name');
    const { slots, slotsFault } = (await ask(dir, { cmd: 'status' })) as LogStatus;
    if (slotsFault !== null) notice(slotsFault);
    process.stdout.write(json === true ? `${JSON.stringify(slots)}\n` : describeSlots(slots));
    return;
  }
  if (name === undefined) throw new UsageError(`slots ${action} takes the name of a standby`);
  if (!isNodeName(name)) throw new UsageError(`a slot has the name of a standby: ${nodeNameRule}`);
  if (action === 'create') {
    const slot = (await ask(dir, { cmd: 'createSlot', name })) as SlotStatus;
    process.stdout.write(json === true ? `${JSON.stringify(slot)}\n` : describeSlots([slot]));
    return;
  }
  const dropped = (await ask(dir, { cmd: 'dropSlot', name })) as boolean;
  const text = dropped ? `slot ${name} is dropped` : `there is no slot ${name}`;
  process.stdout.write(json === true ? `${JSON.stringify({ name, dropped })}\n` : `${text}\n`);
}

async function ask(dir: readonly string[], request: ControlRequest): Promise<unknown> {
  const reply = await askAny(dir, request, {});
  if (reply.listening) return reply.result;
  throw new WalError('WAL_CONTROL', `no process has ${showDirs(dir)} open`, {
    hint: 'Ask the primary while it runs.',
  });
}

const heads = ['NAME', 'STATE', 'FLUSHED', 'HELD', 'LAST SEEN'] as const;

/** In columns, for a terminal. */
export function describeSlots(slots: readonly SlotStatus[]): string {
  if (slots.length === 0) return 'no slots\n';
  const rows = slots.map(({ name, state, flushLsn, heldBytes, lastSeenAt }) => {
    const seen = state === 'active' ? '-' : (lastSeenAt ?? 'never');
    return [name, state, `LSN ${count(flushLsn)}`, size(heldBytes), seen];
  });
  const widths = heads.map((head, i) =>
    Math.max(head.length, ...rows.map((row) => row[i]!.length)),
  );
  return [heads, ...rows]
    .map(
      (row) =>
        `${row
          .map((text, i) => text.padEnd(widths[i]!))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}
