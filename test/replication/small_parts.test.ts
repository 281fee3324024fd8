import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Backoff } from '../../src/replication/backoff.js';
import { BatchEnds } from '../../src/replication/batch_ends.js';
import { Heartbeat } from '../../src/replication/heartbeat.js';
import { KnownCommit } from '../../src/replication/known_commit.js';
import { SentEnds } from '../../src/replication/sent_ends.js';

describe('a heartbeat', () => {
  const timing = { intervalMs: 1000, deadMs: 5000 };

  it('is due when nothing was said for half an interval', () => {
    const link = new Heartbeat(timing, 0);
    link.heard(400);
    expect(link.tick(400)).toBe('quiet');
    expect(link.tick(500)).toBe('speak');
    link.spoke(500);
    expect(link.tick(900)).toBe('quiet');
  });

  it('gives a silent peer up at the deadline', () => {
    const link = new Heartbeat(timing, 0);
    for (let now = 500; now < 5000; now += 500) expect(link.tick(now)).not.toBe('dead');
    expect(link.silence(4500)).toBe(4500);
    expect(link.tick(5000)).toBe('dead');
  });

  it('does not hold its own sleep against the peer', () => {
    const link = new Heartbeat(timing, 0);
    expect(link.tick(500)).toBe('speak');
    expect(link.tick(60_000)).toBe('speak');
    for (let now = 60_500; now < 63_500; now += 500) expect(link.tick(now)).not.toBe('dead');
    expect(link.tick(66_000)).toBe('dead');
  });
});

describe('the back-off', () => {
  it('doubles up to its most, with jitter over the upper half', () => {
    const delays = (random: number): number[] => {
      const backoff = new Backoff({ firstMs: 100, mostMs: 1000 }, () => random);
      return Array.from({ length: 6 }, () => backoff.next());
    };
    expect(delays(0)).toEqual([50, 100, 200, 400, 500, 500]);
    expect(delays(0.5)).toEqual([75, 150, 300, 600, 750, 750]);
  });

  it('starts over after a success, and stays finite for ever', () => {
    const backoff = new Backoff({ firstMs: 100, mostMs: 1000 }, () => 0);
    for (let i = 0; i < 2000; i += 1) expect(backoff.next()).toBeLessThanOrEqual(1000);
    backoff.reset();
    expect(backoff.next()).toBe(50);
  });
});

describe('the ends of batches', () => {
  it('are found like in a sorted list of the latest', () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 60 });
    fc.assert(
      fc.property(lengths, fc.nat({ max: 400 }), fc.nat({ max: 60 }), (batches, from, budget) => {
        const ends = new BatchEnds(16);
        const kept: number[] = [];
        let end = 0;
        for (const length of batches) {
          end += length;
          ends.push(end, kept.length + 1);
          kept.push(end);
        }
        const known = kept.slice(-16);
        const expected = known.filter((each) => each > from && each <= from + budget).at(-1);
        const found = ends.lastWithin(from, from + budget);
        // One end fewer may be known than is held: nothing may be found that is not an end.
        if (found !== undefined) {
          expect(found).toEqual({ position: expected, lsn: kept.indexOf(found.position) + 1 });
        } else if (expected !== undefined)
          expect(kept.length > 16 && expected === known[0]).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});

describe('the ends of batches of a log that is cut', () => {
  it('are those of what it has now', () => {
    const ends = new BatchEnds(4);
    for (const end of [100, 200, 300, 400, 500, 600]) ends.push(end, end / 100);
    ends.cut(600);
    expect(ends.lastWithin(500, 600)).toEqual({ position: 600, lsn: 6 });
    ends.cut(250);
    ends.push(250, 2);
    ends.push(700, 3);
    expect(ends.lastWithin(250, 650)).toBeUndefined();
    expect(ends.lastWithin(250, 700)).toEqual({ position: 700, lsn: 3 });
  });
});

describe('the ends that were sent', () => {
  const at = (n: number): [number, number] => [n * 100, n];

  it('are bounded, give true places only, and a standby that acknowledges late still moves', () => {
    const lags = fc.record({ sends: fc.nat({ max: 40 }), lag: fc.nat({ max: 300 }) });
    fc.assert(
      fc.property(fc.array(lags, { maxLength: 40 }), (steps) => {
        const ends = new SentEnds(16);
        let [sent, acknowledged, most] = [0, 0, 0];
        for (const { sends, lag } of steps) {
          for (let i = 0; i < sends; i += 1) {
            sent += 1;
            ends.push(...at(sent));
          }
          most = Math.max(most, sent - acknowledged);
          acknowledged = Math.max(acknowledged, sent - lag);
          expect(ends.agrees(...at(acknowledged))).toBe(sent > 0);
          const found = ends.find(acknowledged * 100);
          if (found < 0) continue;
          const position = ends.positionAt(found);
          expect(ends.lsnAt(found)).toBe(position / 100);
          expect(position).toBeLessThanOrEqual(acknowledged * 100);
          expect(acknowledged - position / 100).toBeLessThanOrEqual(most / 2);
          ends.forgetBelow(found);
        }
        if (sent > 0) expect(ends.positionAt(ends.find(sent * 100))).toBe(sent * 100);
      }),
      { numRuns: 500 },
    );
  });

  it('tell those of a standby well that is always far behind, and exactly once it is not', () => {
    const ends = new SentEnds();
    const acknowledged = (n: number): number => {
      const found = ends.find(n * 100);
      if (found < 0) return 0;
      ends.forgetBelow(found);
      return ends.positionAt(found) / 100;
    };
    let worst = 0;
    for (let sent = 1; sent <= 200_000; sent += 1) {
      ends.push(...at(sent));
      const lag = sent - 20_000;
      if (sent % 100 === 0 && lag > 100) worst = Math.max(worst, lag - acknowledged(lag));
    }
    expect(worst).toBeLessThan(100);
    expect(acknowledged(200_000)).toBe(200_000);
    for (let sent = 200_001; sent <= 201_000; sent += 1) ends.push(...at(sent));
    for (let n = 200_900; n <= 201_000; n += 1) expect(acknowledged(n)).toBe(n);
  });

  it('do not agree with another LSN, also where an end was forgotten', () => {
    const ends = new SentEnds(16);
    for (let n = 10; n <= 100; n += 1) ends.push(...at(n));
    expect(ends.agrees(10_000, 100)).toBe(true);
    expect(ends.agrees(10_000, 99)).toBe(false);
    expect(ends.agrees(10_100, 101)).toBe(false);
    for (let n = 30; n <= 100; n += 1) {
      expect(ends.agrees(n * 100, n)).toBe(true);
      expect(ends.agrees(n * 100, n + 16)).toBe(false);
      expect(ends.agrees(n * 100, n - 16)).toBe(false);
    }
  });
});

describe('a known commit place', () => {
  it('is cut to the own log, and rises with it', () => {
    const known = new KnownCommit({ position: 0, lsn: 0 });
    expect(known.tell(1000, 10)).toBe(true);
    expect(known.within({ position: 600, lsn: 6 })).toEqual({ position: 600, lsn: 6 });
    expect(known.within({ position: 2000, lsn: 20 })).toEqual({ position: 1000, lsn: 10 });
  });

  it('never falls within a session', () => {
    const known = new KnownCommit({ position: 1000, lsn: 10 });
    expect(known.tell(900, 9)).toBe(false);
    expect(known.tell(1000, 10)).toBe(false);
    expect(known.tell(1100, 9)).toBe(false);
    expect(known.told).toEqual({ position: 1000, lsn: 10 });
  });

  it('of an earlier session says nothing about what comes after its log', () => {
    const known = new KnownCommit({ position: 1000, lsn: 10 });
    known.sessionFrom({ position: 600, lsn: 6 });
    expect(known.within({ position: 5000, lsn: 50 })).toEqual({ position: 600, lsn: 6 });
  });
});
