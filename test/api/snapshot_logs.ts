import { openLog, small } from './helpers.js';
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
