import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  etcdExpiryMs,
  etcdTiming,
  fileTiming,
  type RefereeTiming,
  resolveTiming,
  takeoverTime,
  timingFault,
} from '../../src/referee/timing.js';

describe('the times of a lease', () => {
  it.each([etcdTiming, fileTiming])('are consistent by default: %o', (timing) => {
    expect(timingFault(timing)).toBeUndefined();
  });

  it('are those of docs/referee.md', () => {
    expect(takeoverTime(etcdTiming, etcdExpiryMs)).toEqual({ leastMs: 3000, mostMs: 8500 });
    expect(etcdTiming).toEqual({
      ttlMs: 5000,
      marginMs: 500,
      renewEveryMs: 1000,
      callTimeoutMs: 1000,
    });
  });

  it('let one renewal fail in its whole time, and the next be in time', () => {
    const some = fc.record({
      ttlMs: fc.integer({ min: 1, max: 20_000 }),
      marginMs: fc.integer({ min: 1, max: 2000 }),
      renewEveryMs: fc.integer({ min: 1, max: 4000 }),
      callTimeoutMs: fc.integer({ min: 1, max: 4000 }),
    });
    fc.assert(
      fc.property(some, (timing: RefereeTiming) => {
        if (timingFault(timing) !== undefined) return;
        const { ttlMs, marginMs, renewEveryMs, callTimeoutMs } = timing;
        // Sent at 0 and granted; sent again in time, in vain; then at once, and answered late.
        const answeredAt = renewEveryMs + callTimeoutMs + callTimeoutMs;
        expect(answeredAt).toBeLessThanOrEqual(ttlMs - marginMs);
        // The clock of the referee runs a hundredth faster.
        expect((ttlMs - marginMs) * 1.01).toBeLessThanOrEqual(ttlMs);
      }),
    );
  });

  it('that do not go together are refused with the figure that is needed', () => {
    const bad: [object, 'etcd' | 'file', RegExp][] = [
      [{ ttlMs: 3000 }, 'etcd', /ttlMs is 3000 and has to be 3500 or more, renewEveryMs \+ 2/],
      [{ ttlMs: 5500 }, 'etcd', /takes whole seconds, 2000 or more.*got 5500/],
      [{ ttlMs: 1000 }, 'etcd', /takes whole seconds, 2000 or more.*got 1000/],
      [{ marginMs: 49 }, 'etcd', /marginMs is 49 and has to be 50 or more: a hundredth/],
      [{ marginMs: 19 }, 'file', /marginMs is 19 and has to be 20 or more/],
      [{ renewEveryMs: 0 }, 'file', /renewEveryMs takes a whole number, 1 to 600000; got 0/],
      [{ ttl: 1 }, 'file', /knows no option "ttl"; did you mean ttlMs\?/],
    ];
    for (const [timing, kind, message] of bad) {
      const defaults = kind === 'etcd' ? etcdTiming : fileTiming;
      expect(() => resolveTiming(timing, 'timing', defaults, kind)).toThrow(message);
    }
    expect(resolveTiming(undefined, 'timing', etcdTiming, 'etcd')).toEqual(etcdTiming);
    expect(
      resolveTiming(
        { ttlMs: 2000, renewEveryMs: 300, callTimeoutMs: 500 },
        't',
        etcdTiming,
        'etcd',
      ),
    ).toMatchObject({ ttlMs: 2000, marginMs: 500 });
  });
});
