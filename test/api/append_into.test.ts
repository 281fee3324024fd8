import { describe, expect, it } from 'vitest';
import { codeOf, openLog, records, small, texts, walError } from './helpers.js';

describe.each([{ sharedMemory: true }, { sharedMemory: false }])('appendInto %o', (memory) => {
  const open = () => openLog({ ...small, ...memory });

  it('appends what the encoder wrote, up to the end that it returned', async () => {
    const log = await open();
    expect(log.appendInto(100, (buffer, at) => at + buffer.write('héllo', at))).toBe(1);
    expect(log.appendInto(0, (_, at) => at)).toBe(2);
    expect(log.appendInto(3, (buffer, at) => buffer.writeUInt16LE(513, at))).toBe(3);
    const found = await records(log);
    expect(found.map(({ data }) => data.toString('hex'))).toEqual([
      Buffer.from('héllo').toString('hex'),
      '',
      '0102',
    ]);
  });

  it('mixes with append, in order', async () => {
    const log = await open();
    for (let i = 0; i < 2000; i += 2) {
      log.append(`${i}`);
      log.appendInto(8, (buffer, at) => at + buffer.write(`${i + 1}`, at));
    }
    expect(await texts(log)).toEqual(Array.from({ length: 2000 }, (_, i) => `${i}`));
  });

  it('appends nothing when the encoder throws, and passes the error on', async () => {
    const log = await open();
    const scribble = (buffer: Buffer, at: number): number => {
      buffer.fill(0xee, at, at + 10);
      throw new Error('half way');
    };
    expect(() => log.appendInto(10, scribble)).toThrow('half way');
    expect(log.append('next')).toBe(1);
    expect(await texts(log)).toEqual(['next']);
  });

  it('leaves no byte that the encoder wrote past its end', async () => {
    const log = await open();
    log.appendInto(16, (buffer, at) => {
      buffer.fill(0xee, at, at + 16);
      return at + 1;
    });
    // The engine refuses a batch whose padding is not zero; the record is one byte.
    expect((await records(log)).map(({ data }) => [...data])).toEqual([[0xee]]);
  });

  it.each([
    ['before the start', (at: number) => at - 1],
    ['past maxBytes', (at: number) => at + 11],
    ['a fraction', (at: number) => at + 0.5],
    ['NaN', () => Number.NaN],
    ['Infinity', () => Number.POSITIVE_INFINITY],
  ])('refuses an end that is %s', async (_, end) => {
    const log = await open();
    expect(() => log.appendInto(10, (__, at) => end(at))).toThrow(RangeError);
    expect(log.append('next')).toBe(1);
  });

  it.each([undefined, '7', Promise.resolve(3)])('refuses the answer %s', async (answer) => {
    const log = await open();
    expect(() => log.appendInto(10, () => answer as unknown as number)).toThrow(TypeError);
    expect(log.status().appendLsn).toBe(0);
  });

  it.each([-1, 1.5, Number.NaN, '7', undefined, 65537])('refuses maxBytes %s', async (wrong) => {
    const log = await open();
    expect(() => log.appendInto(wrong as number, (_, at) => at)).toThrow(/appendInto/);
  });

  it('refuses a callback that is none', async () => {
    const log = await open();
    expect(() => log.appendInto(1, undefined as unknown as () => number)).toThrow(TypeError);
  });

  it('refuses every call of the log from inside, and works afterwards', async () => {
    const log = await open();
    log.append('first');
    const pending = log.commit();
    const inside: (() => unknown)[] = [
      () => log.append('x'),
      () => log.append(Buffer.alloc(3)),
      () => log.appendMany(['x']),
      () => log.appendInto(1, (_, at) => at),
      () => log.commit(),
      () => log.commit(1),
      () => log.appendAndCommit('x'),
      () => log.drain(),
      () => log.read(),
      () => log.apply({}, () => undefined),
      () => log.trim(1),
      () => log.status(),
      () => log.promote(),
      () => log.close(),
    ];
    const found: Promise<string>[] = [];
    log.appendInto(4, (buffer, at) => {
      for (const call of inside) found.push(codeOf(call));
      return at + buffer.write('ok', at);
    });
    expect(new Set(await Promise.all(found))).toEqual(new Set(['WAL_REENTRANT']));
    await pending;
    expect(await texts(log)).toEqual(['first', 'ok']);
  });

  it('says WAL_RING_FULL before it calls the encoder', async () => {
    const log = await open();
    let calls = 0;
    const error = await walError(() => {
      for (;;) {
        log.appendInto(60_000, (_, at) => {
          calls += 1;
          return at + 60_000;
        });
      }
    });
    expect(error.code).toBe('WAL_RING_FULL');
    expect(log.status().appendLsn).toBe(calls);
  });
});
