import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Log, OpenOptions } from '../../src/index.js';
import { openLog, small, until } from './helpers.js';
import { Ledger } from './snapshot_ledger.js';

/** A primary of which the beginning of the log is gone, and two snapshots are there. */
export async function trimmedPrimary(options: Partial<OpenOptions> = {}) {
  const ledger = new Ledger();
  const log = await openLog({
    ...{ ...small, name: 'a', listen: { port: 0 }, snapshot: ledger.snapshot },
    ...options,
  });
  await grow(log, ledger);
  return { log, ledger };
}

/** Three segments more; two snapshots in them, and nothing before the older one stays. */
export async function grow(log: Log, ledger: Ledger): Promise<void> {
  const before = log.status().firstLsn;
  for (let round = 0; round < 2; round += 1) {
    await ledger.write(log, 90, 4000);
    await log.snapshot({ lsn: ledger.lines.length });
  }
  await log.trim(ledger.lines.length);
  expect(log.status().firstLsn).toBeGreaterThan(before);
  await ledger.write(log, 5, 4000);
}

/** The same primary after a restart, with the rest of its log applied. */
export async function reopened({ log, ledger }: { log: Log; ledger: Ledger }) {
  await log.close();
  const again = await openLog({
    ...{ dir: log.dir, name: 'a', listen: { port: 0 }, snapshot: ledger.snapshot },
  });
  const from = (again.loadedSnapshot?.lsn ?? 0) + 1;
  for await (const batch of again.read({ from, upTo: 'flush', live: false })) ledger.apply(batch);
  return again;
}

export function portOf(log: Log): number {
  return log.status().listening!.port;
}

/** A standby that loads what it is given, and applies the rest. */
export async function seededStandby(port: number, options: Partial<OpenOptions> = {}) {
  const ledger = new Ledger();
  const log = await openLog({
    ...{ name: 'b', follow: { port }, snapshot: ledger.snapshot },
    ...options,
  });
  const applier = log.apply({}, ledger.apply);
  // Where the log is replaced it ends, and another one is begun.
  applier.done.catch(() => undefined);
  return { log, ledger, applier };
}

export async function hasAll(standby: { log: Log; ledger: Ledger }, of: Ledger): Promise<void> {
  await until(() => standby.ledger.lines.length >= of.lines.length, 'it has applied all');
  expect(standby.ledger.lines.map((line) => line.slice(0, 8))).toEqual(
    of.lines.map((line) => line.slice(0, 8)),
  );
}

/** The sealed segments of `b` are the same bytes on `a`. */
export function expectSameBytes(a: Log, b: Log): void {
  const mine = segments(b);
  expect(mine.length).toBeGreaterThan(0);
  for (const [name, bytes] of mine) {
    const its = readFileSync(join(a.dir as string, name));
    expect(its.equals(bytes), name).toBe(true);
  }
}

function segments({ dir }: Log): (readonly [string, Buffer])[] {
  const names = readdirSync(dir as string).filter((name) => name.endsWith('.wal'));
  return names
    .sort()
    .slice(0, -1)
    .map((name) => [name, readFileSync(join(dir as string, name))] as const);
}
