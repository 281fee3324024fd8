import { describe, expect, it } from 'vitest';
import { nearest } from '../../src/api/validate.js';
import { block, openLog, small, turn } from './helpers.js';

describe('status', () => {
  it('is plain data, the same after JSON', async () => {
    const log = await openLog({ ...small, name: 'n' });
    await log.appendAndCommit('a');
    const status = log.status();
    expect(JSON.parse(JSON.stringify(status))).toEqual(status);
    expect(status).toMatchObject({
      schema: 1,
      state: 'open',
      role: 'primary',
      name: 'n',
      dir: log.dir,
      firstLsn: 1,
      appendLsn: 1,
      closedLsn: 1,
      flushLsn: 1,
      commitLsn: 1,
      applyLsn: null,
      standbys: [],
      listening: null,
      upstream: null,
      failure: null,
      policy: { synchronousCommit: 'local', synchronousStandbys: null, waitingFor: null },
      segments: { bytes: small.segmentBytes },
    });
    expect(['direct', 'buffered']).toContain(status.io);
    expect(status.ring.bytes).toBe(small.ringBytes);
  });

  it('tells appended from closed, and closed from flushed', async () => {
    const log = await openLog(small);
    log.append('a');
    expect(log.status()).toMatchObject({ appendLsn: 1, closedLsn: 0, flushLsn: 0 });
    await turn();
    expect(log.status()).toMatchObject({ appendLsn: 1, closedLsn: 1 });
  });

  it('is cheap', async () => {
    const log = await openLog(small);
    for (let i = 0; i < 1000; i++) log.status();
    const before = process.cpuUsage();
    for (let i = 0; i < 1000; i++) log.status();
    const { user, system } = process.cpuUsage(before);
    // Some microseconds each; a hundred times that is no measurement, but a mistake.
    expect(user + system).toBeLessThan(1_000_000);
  });
});

describe('events', () => {
  it('are known by name, and there is none called error', async () => {
    const log = await openLog(small);
    expect(() => log.on('error' as 'failed', () => undefined)).toThrow(/has no event 'error'/);
    expect(() => log.on('failed', undefined as unknown as () => void)).toThrow(TypeError);
    const listener = () => undefined;
    expect(log.on('role', listener)).toBe(log);
    expect(log.off('role', listener)).toBe(log);
  });

  it('a blocked loop does not look like a slow flush', async () => {
    const log = await openLog(small);
    const slow: number[] = [];
    log.on('slowFlush', ({ milliseconds }) => slow.push(milliseconds));
    const commit = log.appendAndCommit('a');
    block(1100);
    await commit;
    expect(slow.every((each) => each >= 1000)).toBe(true);
  });
});

it('the nearest name is suggested for a slip, and none for something else', () => {
  const names = ['ringBytes', 'listen', 'follow'];
  expect(nearest('ringbytes', names)).toBe('ringBytes');
  expect(nearest('lisen', names)).toBe('listen');
  expect(nearest('folow', names)).toBe('follow');
  expect(nearest('compression', names)).toBeUndefined();
});
