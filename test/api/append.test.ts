import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { closeLog } from '../../src/api/close.js';
import { openLog as openCore } from '../../src/api/open.js';
import { Log } from '../../src/index.js';
import { freshDir } from '../helpers/temp.js';
import { block, codeOf, openLog, records, small, texts, turn, until, walError } from './helpers.js';

describe.each([{ sharedMemory: true }, { sharedMemory: false }])('append %o', (memory) => {
  const open = () => openLog({ ...small, ...memory });

  it('numbers records 1, 2, 3 and keeps their bytes', async () => {
    const log = await open();
    expect([log.append('a'), log.append('bc'), log.append('')]).toEqual([1, 2, 3]);
    expect((await records(log)).map(({ lsn, data }) => [lsn, data.toString()])).toEqual([
      [1, 'a'],
      [2, 'bc'],
      [3, ''],
    ]);
  });

  it('takes Uint8Array, Buffer, ArrayBuffer, DataView, and views into a buffer', async () => {
    const log = await open();
    const bytes = Uint8Array.from([1, 2, 3, 4, 5, 6, 7]);
    log.append(bytes);
    log.append(Buffer.from(bytes));
    log.append(bytes.buffer);
    log.append(new DataView(bytes.buffer, 2, 3));
    log.append(bytes.subarray(1, 3));
    log.append(Buffer.from('pooled'));
    expect((await records(log)).map(({ data }) => [...data])).toEqual([
      [1, 2, 3, 4, 5, 6, 7],
      [1, 2, 3, 4, 5, 6, 7],
      [1, 2, 3, 4, 5, 6, 7],
      [3, 4, 5],
      [2, 3],
      [...Buffer.from('pooled')],
    ]);
  });

  it('keeps records of every size around the limits of its copy loops', async () => {
    const log = await open();
    const made: Buffer[] = [];
    for (let size = 0; size <= 140; size++) made.push(Buffer.alloc(size, size + 1));
    for (const size of [4093, 4096, 65535, 65536]) made.push(Buffer.alloc(size, size % 251));
    for (const each of made) log.append(each);
    const found = await records(log);
    expect(found.map(({ data }) => data.length)).toEqual(made.map((each) => each.length));
    expect(found.every(({ data }, i) => data.equals(made[i]!))).toBe(true);
  });

  it('stores strings as UTF-8, of every width and length', async () => {
    const log = await open();
    const made = ['', 'x', 'é', '€uro', '😀', 'a😀b', '\u0000\u007f', '\ud800', 'ü'.repeat(9000)];
    for (let length = 0; length < 40; length++) made.push('abcdefghij'.repeat(4).slice(0, length));
    made.push('ascii that is long enough, but ends é');
    for (const each of made) log.append(each);
    const found = await records(log);
    const expected = made.map((each) => Buffer.from(each).toString('hex'));
    expect(found.map(({ data }) => data.toString('hex'))).toEqual(expected);
  });

  it('has copied the bytes when it returns', async () => {
    const log = await open();
    const reused = Buffer.from('one');
    log.append(reused);
    reused.write('two');
    log.append(reused);
    reused.fill(0);
    expect(await texts(log)).toEqual(['one', 'two']);
  });

  it('leaves no byte of what lay in memory before behind a shorter record', async () => {
    const log = await open();
    // Around the ring several times, so that old bytes lie everywhere.
    for (let i = 0; i < 100; i++) {
      await log.drain(60_000);
      log.append(Buffer.alloc(60_000, 0xff));
    }
    for (let size = 0; size < 12; size++) log.append(Buffer.alloc(size, 1));
    const found = await records(log, 101);
    expect(found.map(({ data }) => [...data])).toEqual(
      Array.from({ length: 12 }, (_, size) => new Array<number>(size).fill(1)),
    );
  });

  it.each([undefined, null, 7, 7n, true, {}, [1], Symbol('s'), () => 1, new Uint16Array(2)])(
    'refuses %s with a TypeError that says what to pass',
    async (wrong) => {
      const log = await open();
      expect(() => log.append(wrong as unknown as string)).toThrow(TypeError);
      expect(() => log.append(wrong as unknown as string)).toThrow(/Uint8Array.*string/);
      expect(log.append('next')).toBe(1);
    },
  );

  it('refuses a detached buffer instead of appending nothing', async () => {
    const log = await open();
    const bytes = new Uint8Array(16);
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    expect(() => log.append(bytes)).toThrow(/detached/);
    expect(() => log.append(bytes.buffer)).toThrow(/detached/);
    expect(log.status().appendLsn).toBe(0);
  });

  it('refuses a record over maxRecordBytes with a RangeError, and takes the largest', async () => {
    const log = await open();
    const max = log.maxRecordBytes;
    expect(() => log.append(Buffer.alloc(max + 1))).toThrow(RangeError);
    expect(() => log.append('x'.repeat(max + 1))).toThrow(/at most 65536 bytes/);
    expect(() => log.append('é'.repeat(max / 2 + 1))).toThrow(RangeError);
    expect(log.append(Buffer.alloc(max, 3))).toBe(1);
    expect(log.append('é'.repeat(max / 2))).toBe(2);
    expect((await records(log)).map(({ data }) => data.length)).toEqual([max, max]);
  });

  it('says WAL_RING_FULL, takes nothing, and goes on after drain', async () => {
    const log = await open();
    const data = Buffer.alloc(50_000, 1);
    let taken = 0;
    const error = await walError(() => {
      for (;;) {
        log.append(data);
        taken += 1;
      }
    });
    expect(error.code).toBe('WAL_RING_FULL');
    expect(error.outcome).toBe('refused');
    expect(error.hint).toMatch(/drain/);
    expect(log.status().appendLsn).toBe(taken);
    await log.drain();
    expect(log.append('after')).toBe(taken + 1);
    await log.commit();
    expect(log.status().flushLsn).toBe(taken + 1);
  });

  it('writes 200,000 records of a loop that only drains, in order', async () => {
    const log = await open();
    const data = Buffer.alloc(40);
    for (let i = 1; i <= 200_000; i++) {
      if (log.needsDrain) await log.drain();
      data.writeUInt32LE(i);
      try {
        log.append(data);
      } catch (error) {
        expect((error as { code?: string }).code).toBe('WAL_RING_FULL');
        await log.drain();
        log.append(data);
      }
    }
    await log.commit();
    let next = 1;
    for await (const batch of log.read({ live: false })) {
      for (const { lsn, data: bytes } of batch) {
        if (lsn !== next || bytes.readUInt32LE() !== next) throw new Error(`wrong at ${next}`);
        next += 1;
      }
    }
    expect(next).toBe(200_001);
  });
});

describe('when a batch is closed', () => {
  it('at the end of the turn, without a commit', async () => {
    const log = await openLog(small);
    log.append('a');
    expect(log.status().closedLsn).toBe(0);
    await turn();
    expect(log.status().closedLsn).toBe(1);
    await until(() => log.status().flushLsn === 1, 'the flush');
  });

  it('once for all commits of a turn', async () => {
    const log = await openLog({ ...small, maxBatchDelay: 1000 });
    const commits = Array.from({ length: 100 }, (_, i) => log.commit(log.append(`${i}`)));
    const results = await Promise.all(commits);
    expect(results.every((each) => each.lsn === 100)).toBe(true);
    const batches: number[] = [];
    for await (const batch of log.read({ live: false })) batches.push(batch.count);
    expect(batches).toEqual([100]);
  });

  it('at the size limit', async () => {
    const log = await openLog({ ...small, maxBatchBytes: 4096 });
    for (let i = 0; i < 10; i++) log.append(Buffer.alloc(1020));
    // Each takes 1,024 bytes: four a batch, and the last batch is open still.
    expect(log.status().closedLsn).toBe(8);
  });

  it.each([4096, 4097, 4098, 4099])('at %i bytes, padding and all', async (maxBatchBytes) => {
    const log = await openLog({ ...small, maxBatchBytes });
    const made: string[] = [];
    for (let first = 0; first < 12; first++) {
      const left = maxBatchBytes - (4 + first * 4) - 4;
      // Bytes, and text of three bytes a character: each as long as fits without its padding.
      for (const second of ['b'.repeat(left), '\u20ac'.repeat(Math.floor(left / 3))]) {
        made.push('a'.repeat(first * 4), second);
        log.append(Buffer.alloc(first * 4, 'a'));
        const lsn = log.append(second.startsWith('b') ? Buffer.from(second) : second);
        expect((await log.commit(lsn)).lsn).toBe(made.length);
      }
    }
    expect(await texts(log)).toEqual(made);
    expect(log.status().state).toBe('open');
  });

  it('within milliseconds of a loop that never yields', async () => {
    const log = await openLog({ ...small, maxBatchDelay: 1 });
    const start = performance.now();
    let sawFlush = false;
    // Far too few records for the size limit; progress callbacks would need the loop.
    while (performance.now() - start < 2000 && !sawFlush) {
      log.append('x');
      block(0.2);
      sawFlush = log.status().flushLsn > 0;
    }
    expect(sawFlush).toBe(true);
    expect(performance.now() - start).toBeLessThan(1000);
  });

  it('commits of a blocked event loop are met when it comes back', async () => {
    const log = await openLog(small);
    const commit = log.commit(log.append('a'));
    block(200);
    expect((await commit).lsn).toBe(1);
  });
});

describe('append after the end', () => {
  it('says WAL_CLOSED', async () => {
    const log = await openLog(small);
    log.append('a');
    await log.close();
    for (const work of [
      () => log.append('b'),
      () => log.append(Buffer.alloc(1)),
      () => log.appendMany(['b']),
      () => log.appendInto(1, () => 0),
      () => log.appendAndCommit('b'),
    ]) {
      const error = await walError(work);
      expect([error.code, error.outcome]).toEqual(['WAL_CLOSED', 'refused']);
    }
    expect(await codeOf(() => log.commit())).toBe('WAL_CLOSED');
  });
});

it('without shared memory says with a code that the log has failed meanwhile', async () => {
  const core = await openCore({ ...small, dir: freshDir(), sharedMemory: false });
  onTestFinished(() => closeLog(core).catch(() => undefined));
  const log = Log.over(core);
  log.append('a');
  vi.spyOn(core.native, 'put').mockImplementation(() => {
    throw Object.assign(new Error('pwritev2: Input/output error'), { code: 'WAL_IO' });
  });
  const error = await walError(() => log.append('b'));
  expect(error).toMatchObject({ code: 'WAL_IO', outcome: 'refused' });
});
