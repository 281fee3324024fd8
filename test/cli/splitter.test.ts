import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameSplitter } from '../../src/api/frames.js';
import { createSplitter, InputError, LineSplitter, type Splitter } from '../../src/cli/splitter.js';

function cut(splitter: Splitter, chunks: readonly Buffer[]): Buffer[] {
  const records: Buffer[] = [];
  for (const chunk of chunks) {
    splitter.feed(chunk);
    for (let r = splitter.next(); r !== undefined; r = splitter.next())
      records.push(Buffer.from(r));
  }
  const last = splitter.end();
  if (last !== undefined) records.push(Buffer.from(last));
  return records;
}

function lines(text: string, max = 100): string[] {
  return cut(new LineSplitter(max), [Buffer.from(text)]).map(String);
}

/** The same bytes, cut into chunks at these places. */
function chunked(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [...cuts.map((n) => n % (bytes.length + 1)), 0, bytes.length];
  places.sort((a, b) => a - b);
  return places.slice(1).map((end, i) => bytes.subarray(places[i] ?? 0, end));
}

function frame(data: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(data.length);
  return Buffer.concat([length, data]);
}

describe('lines', () => {
  it.each([
    ['', []],
    ['\n', ['']],
    ['\n\n', ['', '']],
    ['a', ['a']],
    ['a\n', ['a']],
    ['a\nb', ['a', 'b']],
    ['a\r\nb\r\n', ['a\r', 'b\r']],
    ['\na\n\n', ['', 'a', '']],
    ['ä\u0000ö\n', ['ä\u0000ö']],
  ])('%j becomes %j', (text, expected) => {
    expect(lines(text)).toEqual(expected);
  });

  it('takes a line of just the limit and names the number of a longer one', () => {
    expect(lines('abcde\nabcde', 5)).toEqual(['abcde', 'abcde']);
    expect(() => lines('a\nb\nabcdef\n', 5)).toThrow('line 3 is longer than 5 bytes');
    expect(() => lines('a\nabcdef', 5)).toThrow('line 2 is longer than 5 bytes');
  });

  it('notices an over-long line before its end has come', () => {
    const splitter = new LineSplitter(5);
    splitter.feed(Buffer.from('abc'));
    expect(splitter.next()).toBeUndefined();
    splitter.feed(Buffer.from('def'));
    expect(() => splitter.next()).toThrow(InputError);
  });

  it('does not care how the bytes are cut into chunks', () => {
    const anyText = fc.array(fc.constantFrom(10, 13, 97, 255), { maxLength: 60 });
    fc.assert(
      fc.property(anyText, fc.array(fc.nat(60)), (text, cuts) => {
        const bytes = Buffer.from(text);
        const records = cut(new LineSplitter(60), chunked(bytes, cuts));
        const whole = cut(new LineSplitter(60), [bytes]);
        expect(records).toEqual(whole);
        const joined = Buffer.concat(whole.flatMap((r) => [r, Buffer.from('\n')]));
        expect(joined.subarray(0, bytes.length)).toEqual(bytes);
      }),
    );
  });
});

describe('frames', () => {
  it('refuses a length past the limit before it has the bytes', () => {
    const splitter = new FrameSplitter(8);
    splitter.feed(Buffer.concat([frame(Buffer.alloc(8)), Buffer.from([9, 0, 0, 0])]));
    expect(splitter.next()).toHaveLength(8);
    expect(() => splitter.next()).toThrow('frame 2 says 9 bytes, and a record has at most 8');
    splitter.feed(Buffer.from([255, 255, 255, 255]));
    expect(() => new FrameSplitter(8).end()).not.toThrow();
  });

  it.each([1, 3, 4, 6])('refuses an input that ends after %i bytes of a frame', (bytes) => {
    const splitter = new FrameSplitter(8);
    splitter.feed(frame(Buffer.from('abc')).subarray(0, bytes));
    expect(splitter.next()).toBeUndefined();
    expect(() => splitter.end()).toThrow('the input ends inside frame 1');
  });

  it('does not care how the bytes are cut into chunks', () => {
    const records = fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 8 });
    fc.assert(
      fc.property(records, fc.array(fc.nat(200)), (data, cuts) => {
        const bytes = Buffer.concat(data.map(frame));
        const found = cut(createSplitter('frames', 20), chunked(bytes, cuts));
        expect(found).toEqual(data.map((r) => Buffer.from(r)));
      }),
    );
  });
});
