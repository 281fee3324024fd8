import { describe, expect, it } from 'vitest';
import { ClosedTimes } from '../../src/replication/closed_times.js';

describe('the time of a lag', () => {
  it('is the age of the first record that is missing', () => {
    const times = new ClosedTimes(64, 0, 0);
    times.closed(100, 1, 1000);
    times.closed(200, 5, 2000);
    times.closed(300, 6, 3000);
    expect(times.age(0, 4000)).toBe(3000);
    expect(times.age(1, 4000)).toBe(2000);
    expect(times.age(4, 4000)).toBe(2000);
    expect(times.age(5, 4000)).toBe(1000);
  });

  it('is nothing while nothing is missing, however long that lasts, and grows while it is', () => {
    const times = new ClosedTimes(64, 0, 0);
    expect(times.age(0, 1e9)).toBe(0);
    times.closed(100, 1, 1000);
    expect(times.age(1, 1e9)).toBe(0);
    expect(times.age(0, 1e9)).toBe(1e9 - 1000);
  });

  it('counts what was there before from then on, at least', () => {
    const times = new ClosedTimes(10_000, 50, 500);
    expect(times.age(50, 2500)).toBe(0);
    expect(times.age(20, 2500)).toBe(2000);
    expect(times.positionOf(20)).toBe(0);
    expect(times.positionOf(50)).toBe(10_000);
  });

  it('batches of one moment share a sample, and the first one gives the time', () => {
    const times = new ClosedTimes(64, 0, 0);
    for (let lsn = 1; lsn <= 1000; lsn++) times.closed(64 + lsn * 8, lsn, 100 + lsn / 1000);
    expect(times.size).toBe(2);
    expect(times.age(999, 200)).toBeCloseTo(99.999, 2);
  });

  it('takes bounded memory for a month, and is right to a sixteenth all the time', () => {
    const times = new ClosedTimes(64, 0, 0);
    const month = 30 * 86_400_000;
    let now = 0;
    let lsn = 0;
    let largest = 0;
    const at: number[] = [];
    // Steps that grow: from 1 ms to a tenth of the time that has passed.
    while (now < month) {
      now += Math.max(1, now / 2000);
      at.push(now);
      lsn += 1;
      times.closed(64 + lsn * 8, lsn, now);
      largest = Math.max(largest, times.size);
    }
    expect(largest).toBeLessThanOrEqual(512);
    for (let missing = 1; missing <= lsn; missing += 97) {
      const real = now - at[missing - 1]!;
      const told = times.age(missing - 1, now);
      expect(told).toBeGreaterThanOrEqual(real);
      expect(told).toBeLessThanOrEqual(real * (1 + 1 / 8) + 10);
      expect(times.positionOf(missing)).toBeLessThanOrEqual(64 + missing * 8);
    }
  });

  it('recent records keep their resolution beside old ones', () => {
    const times = new ClosedTimes(64, 0, 0);
    for (let lsn = 1; lsn <= 100_000; lsn++) times.closed(64 + lsn * 8, lsn, lsn * 20);
    const now = 100_000 * 20;
    expect(times.size).toBeLessThanOrEqual(512);
    expect(times.age(99_990, now)).toBeLessThanOrEqual(200 * (1 + 1 / 8) + 10);
    expect(times.age(99_990, now)).toBeGreaterThanOrEqual(180);
  });

  it('a clock that stands still or jumps does not make it grow', () => {
    const times = new ClosedTimes(64, 0, 0);
    for (let lsn = 1; lsn <= 5000; lsn++) times.closed(64 + lsn * 8, lsn, (lsn % 2) * 1e6);
    expect(times.size).toBeLessThanOrEqual(512);
  });
});
