import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { HistoryEntry, Place } from '../../src/native/native_log.js';
import {
  compareTerms,
  firstPosition,
  forkPoint,
  isHistory,
  type Lineage,
} from '../../src/replication/history.js';

const a = 'a'.repeat(32);
const b = 'b'.repeat(32);

function term(epoch: number, opener = a, incarnation = 1) {
  return { epoch, opener, incarnation };
}

describe('compareTerms', () => {
  it.each([
    [term(1), term(2), 'older'],
    [term(3), term(2), 'newer'],
    [term(2), term(2), 'same'],
    [term(2, a, 1), term(2, a, 2), 'older'],
    [term(2, a, 3), term(2, a, 2), 'newer'],
    [term(2, a), term(2, b), 'split'],
    [term(1, a, 9), term(2, b, 1), 'older'],
  ])('%o against %o', (one, other, order) => {
    expect(compareTerms(one, other)).toBe(order);
  });
});

/** A log of one byte batches: each names the term that wrote it and a number no other has. */
interface ModelLog {
  readonly batches: { readonly term: HistoryEntry; readonly id: number }[];
}

/** Each batch is one record; the positions and LSNs differ by a constant. */
function place(batches: number): Place {
  return { position: firstPosition + batches, lsn: batches };
}

function lineage(log: ModelLog): Lineage {
  const history: HistoryEntry[] = [];
  for (const { term: entry } of log.batches) if (!history.includes(entry)) history.push(entry);
  return { history, end: place(log.batches.length) };
}

/** How many batches two logs really share. */
function shared(one: ModelLog, other: ModelLog): number {
  let i = 0;
  while (one.batches[i] !== undefined && one.batches[i]?.id === other.batches[i]?.id) i += 1;
  return i;
}

/**
 * Two nodes through a random life: whoever is primary writes, restarts (a new incarnation), loses
 * its unreplicated tail, or sends some of its log to the other; or the other is promoted.
 */
function live(steps: readonly { what: number; amount: number }[]): [ModelLog, ModelLog] {
  const logs: [ModelLog, ModelLog] = [{ batches: [] }, { batches: [] }];
  let [primary, epoch, incarnation, id] = [0, 1, 1, 0];
  const write = (entry: HistoryEntry): void => {
    id += 1;
    logs[primary]!.batches.push({ term: entry, id });
  };
  const open = (): HistoryEntry => {
    const { batches } = logs[primary]!;
    const opener = primary === 0 ? a : b;
    const entry = { epoch, opener, incarnation, ...place(batches.length) };
    write(entry);
    return entry;
  };
  let current = open();
  for (const { what, amount } of steps) {
    const own = logs[primary]!.batches;
    const other = logs[1 - primary]!.batches;
    const common = shared(logs[0], logs[1]);
    if (what === 0) for (let i = 0; i < amount; i += 1) write(current);
    if (what === 1) {
      // Only a log that is a prefix takes more.
      if (common === other.length) other.push(...own.slice(common, common + amount));
    }
    if (what === 2) {
      incarnation += 1;
      own.splice(Math.max(0, own.length - amount));
      current = open();
    }
    if (what === 3) {
      primary = 1 - primary;
      epoch += 1;
      incarnation = 1;
      current = open();
    }
    if (what === 4) other.splice(common); // A rejoin: the tail goes.
  }
  return logs;
}

const steps = fc.array(
  fc.record({ what: fc.nat({ max: 4 }), amount: fc.integer({ min: 1, max: 4 }) }),
  { maxLength: 40 },
);

describe('forkPoint', () => {
  it('is where the logs differ, whatever life they had', () => {
    fc.assert(
      fc.property(steps, (life) => {
        const [one, other] = live(life);
        const fork = place(shared(one, other));
        expect(forkPoint(lineage(one), lineage(other))).toEqual(fork);
        expect(forkPoint(lineage(other), lineage(one))).toEqual(fork);
      }),
      { numRuns: 1000 },
    );
  });

  it('is found by what is left when the oldest terms were dropped, or not at all', () => {
    fc.assert(
      fc.property(steps, fc.nat({ max: 8 }), fc.nat({ max: 8 }), (life, n, m) => {
        const [one, other] = live(life).map(lineage) as [Lineage, Lineage];
        const cutOne = { ...one, history: one.history.slice(Math.min(n, one.history.length - 1)) };
        const cutOther = {
          ...other,
          history: other.history.slice(Math.min(m, Math.max(0, other.history.length - 1))),
        };
        const found = forkPoint(cutOne, cutOther);
        if (found !== undefined && cutOther.history.length > 0) {
          expect(found).toEqual(forkPoint(one, other));
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('of a fast double failover goes by the whole history (KIP-279)', () => {
    // a wrote 1..10 in epoch 1; b took 5 of it, opened epoch 2 and wrote nothing; a opened 3.
    const at = (position: number, lsn: number): Place => ({ position, lsn });
    const first = { ...term(1), position: 4096, lsn: 0 };
    const ofA = { history: [first, { ...term(3), position: 5000, lsn: 10 }], end: at(5200, 11) };
    const ofB = { history: [first, { ...term(2, b), position: 4600, lsn: 5 }], end: at(4700, 5) };
    expect(forkPoint(ofA, ofB)).toEqual(at(4600, 5));
  });

  it('of an empty log is its beginning', () => {
    const first = { ...term(1), position: 4096, lsn: 0 };
    const start = { position: 4096, lsn: 0 };
    const empty = { history: [], end: start };
    expect(forkPoint({ history: [first], end: { position: 9000, lsn: 9 } }, empty)).toEqual(start);
    expect(forkPoint(empty, empty)).toEqual(start);
  });
});

describe('isHistory', () => {
  const entry = (epoch: number, position: number, lsn: number) => ({
    ...term(epoch),
    position,
    lsn,
  });

  it.each([
    [[], true],
    [[entry(1, 4096, 0), entry(2, 5000, 3)], true],
    [[entry(2, 4096, 0), entry(1, 5000, 3)], false],
    [[entry(1, 4096, 0), entry(1, 5000, 3)], false],
    [[entry(1, 5000, 0), entry(2, 5000, 3)], false],
    [[entry(1, 4096, 4), entry(2, 5000, 3)], false],
    [[entry(1, 0, 0)], false],
    [[entry(1, 4096, 0), { ...term(1, b, 2), position: 5000, lsn: 3 }], false],
  ])('%o: %s', (history, expected) => {
    expect(isHistory(history)).toBe(expected);
  });
});
