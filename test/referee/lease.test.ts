import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deadlineOf, Lease } from '../../src/referee/lease.js';
import { etcdTiming } from '../../src/referee/timing.js';

describe('a lease', () => {
  it('is counted from the sending, and no longer than was asked for', () => {
    expect(deadlineOf(1000, 5000, etcdTiming)).toBe(5500);
    expect(deadlineOf(1000, 60_000, etcdTiming)).toBe(5500);
    expect(deadlineOf(1000, 3000, etcdTiming)).toBe(3500);
  });

  it('holds before its deadline, and not at it', () => {
    const lease = new Lease(100);
    expect([lease.holds(99.9), lease.holds(100), lease.holds(101)]).toEqual([true, false, false]);
  });

  it('does not hold on a clock that gives no number', () => {
    expect(new Lease(Number.POSITIVE_INFINITY).holds(Number.NaN)).toBe(false);
  });

  it('does not go back by an answer that comes late', () => {
    const lease = new Lease(100);
    lease.renewed(300);
    lease.renewed(200);
    expect(lease.deadlineMs).toBe(300);
  });

  it('ends when the referee says so, and is back when it is renewed; lost, it stays lost', () => {
    const lease = new Lease(100);
    lease.ended();
    expect(lease.holds(0)).toBe(false);
    lease.renewed(200);
    expect(lease.holds(150)).toBe(true);
    lease.lost();
    lease.renewed(300);
    expect(lease.holds(150)).toBe(false);
  });

  it('never outlives what the referee keeps, whatever is late or lost on the way', () => {
    /** A renewal: how long until it is sent, until the referee has it, until the answer is here. */
    const renewal = fc.record({
      waitMs: fc.integer({ min: 0, max: 6000 }),
      thereMs: fc.integer({ min: 0, max: 3000 }),
      backMs: fc.integer({ min: 0, max: 3000 }),
      isLost: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(renewal, { maxLength: 12 }), (renewals) => {
        const { ttlMs } = etcdTiming;
        let now = 0;
        let endsMs = ttlMs;
        const lease = new Lease(deadlineOf(0, ttlMs, etcdTiming));
        for (const { waitMs, thereMs, backMs, isLost } of renewals) {
          now += waitMs;
          const sentMs = now;
          now += thereMs;
          // The referee has let go of it: who holds it now is somebody else.
          if (now >= endsMs) {
            expect(lease.holds(now)).toBe(false);
            return;
          }
          endsMs = now + ttlMs;
          now += backMs;
          if (!isLost) lease.renewed(deadlineOf(sentMs, ttlMs, etcdTiming));
          expect(lease.deadlineMs).toBeLessThanOrEqual(endsMs - etcdTiming.marginMs);
        }
      }),
    );
  });
});
