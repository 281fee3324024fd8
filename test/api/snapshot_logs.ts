import { openLog, small, until } from './helpers.js';
import { pair, promoted } from './rejoin_nodes.js';
import { Ledger } from './snapshot_ledger.js';

/** A closed log of `records`, with snapshots of these LSNs. */
export async function snapshotsAt(lsns: readonly number[], records: number, bytes = 0) {
  const ledger = new Ledger();
  const log = await openLog({ ...small, snapshot: ledger.snapshot });
  for (const lsn of lsns) {
    await ledger.write(log, lsn - ledger.lines.length, bytes);
    await log.snapshot({ lsn });
  }
  await ledger.write(log, records - ledger.lines.length, bytes);
  await log.close();
  return { dir: log.dir, lines: ledger.lines };
}

/**
 * The directory of an old primary of `last` records, of which only the first is in the log of the
 * new one, `b`, with `its` behind. It has a snapshot of LSN 1, and one of its last where asked for.
 */
export async function replaced(
  its: readonly string[],
  { last, isLastTaken }: { readonly last: number; readonly isLastTaken: boolean },
) {
  const ledger = new Ledger();
  const { a, b } = await pair({ snapshot: ledger.snapshot });
  await ledger.write(a, 1);
  await a.snapshot({ lsn: 1 });
  await until(() => b.status().flushLsn === 1, 'b has it');
  await b.close();
  await ledger.write(a, last - 1);
  if (isLastTaken) await a.snapshot({ lsn: last });
  await a.close();
  return { dir: a.dir, b: await promoted(b.dir, 'b', its) };
}
