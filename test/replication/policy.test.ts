import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  admits,
  formatStandbys,
  parseStandbys,
  priorityOf,
  refuseUnmeetable,
} from '../../src/replication/policy.js';

function messageOf(text: string): string {
  try {
    parseStandbys(text);
  } catch (error) {
    expect(error).toBeInstanceOf(TypeError);
    return (error as Error).message;
  }
  throw new Error(`it was accepted: ${text}`);
}

/** The character that the message's pointer stands under. */
function pointsAt(text: string): number {
  return messageOf(text).split('\n')[2]!.indexOf('^') - 2;
}

describe('parseStandbys', () => {
  it.each([
    ['ANY 1 (*)', 1, ['*']],
    ['any 2 (a, b,c)', 2, ['a', 'b', 'c']],
    ['  ANY   3(  "with space" , "a""b", "ANY" )  ', 3, ['with space', 'a"b', 'ANY']],
    ['ANY 1 (7)', 1, ['7']],
    ['ANY 01 (_x$1, Ünder)', 1, ['_x$1', 'Ünder']],
    ['ANY 2 (a)', 2, ['a']],
  ])('reads %s', (text, count, names) => {
    expect(parseStandbys(text)).toEqual({ method: 'any', count, names });
  });

  it.each([
    ['FIRST 2 (a, "b c", *)', 2, ['a', 'b c', '*']],
    ['first 1 (*)', 1, ['*']],
    ['2 (a, b)', 2, ['a', 'b']],
    [' 3(7, 8)', 3, ['7', '8']],
    ['a, b', 1, ['a', 'b']],
    ['*', 1, ['*']],
    ['"a"', 1, ['a']],
    ['"FIRST", "any"', 1, ['FIRST', 'any']],
    ['2', 1, ['2']],
    ['2, b', 1, ['2', 'b']],
  ])('reads %s as FIRST', (text, count, names) => {
    expect(parseStandbys(text)).toEqual({ method: 'first', count, names });
  });

  it.each([
    ['', 0],
    ['ANY', 3],
    ['ANY x (*)', 4],
    ['ANY 0 (*)', 4],
    ['ANY 1001 (*)', 4],
    ['ANY 1 *', 6],
    ['ANY 1 ()', 7],
    ['ANY 1 (a b)', 9],
    ['ANY 1 (a,)', 9],
    ['ANY 1 (a', 8],
    ['ANY 1 (a) x', 10],
    ['ANY 1 (a-b)', 8],
    ['ANY 1 ("a)', 7],
    ['ANY 1 ("")', 7],
    ['ANY 1 (any)', 7],
    ['(a)', 0],
    [', a', 0],
    ['FIRST', 5],
    ['FIRST (a)', 6],
    ['FIRST 0 (a)', 6],
    ['first 1 (a, first)', 12],
    ['FIRST 1 (a), b', 11],
    ['0 (a)', 0],
    ['2 (a', 4],
    ['2 (a) b', 6],
    ['2 a', 2],
    ['a b', 2],
    ['a,', 2],
    ['a (b)', 2],
    ['a, any', 3],
    ['a, b; c', 4],
  ])('points at what is wrong in %j', (text, at) => {
    expect(pointsAt(text)).toBe(at);
  });

  it.each(['ANY -1 (a)', 'ANY 1.5 (a)', 'FIRST 2x (a)', 'any x (a)', 'ANY'])(
    'says of %j that it takes a number',
    (text) => {
      expect(messageOf(text)).toContain('expected how many standbys to wait for, a whole number');
    },
  );

  it('points by what is seen: white space as blanks, and characters as they are counted', () => {
    expect(messageOf('ANY 1\n\t(a,\r\n\u{1f600} b)')).toBe(
      "synchronousStandbys, at character 15: expected ',' or ')'; " +
        "write for example 'ANY 1 (*)' or 'FIRST 2 (a, b, c)'\n" +
        '  ANY 1  (a,  \u{1f600} b)\n                ^',
    );
  });

  it('says what to write instead', () => {
    expect(messageOf('ANY 1')).toContain("write for example 'ANY 1 (*)'");
  });

  it('says what was expected where the pointer stands', () => {
    expect(messageOf('a b')).toBe(
      "synchronousStandbys, at character 3: expected ',' or the end; " +
        "write for example 'ANY 1 (*)' or 'FIRST 2 (a, b, c)'\n  a b\n    ^",
    );
    expect(messageOf('FIRST 1 (a')).toContain("at the end: expected ',' or ')'");
    expect(messageOf('FIRST x (a)')).toContain('expected how many standbys to wait for');
  });

  it('reads back what formatStandbys writes', () => {
    const name = fc.string({ minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(
        fc.constantFrom('any' as const, 'first' as const),
        fc.integer({ min: 1, max: 1000 }),
        fc.array(name, { minLength: 1, maxLength: 5 }),
        (method, count, names) => {
          const standbys = { method, count, names };
          expect(parseStandbys(formatStandbys(standbys))).toEqual(standbys);
        },
      ),
    );
  });

  it('throws nothing but its own errors on any text', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...'ANYFIRST 12(),*"aé_-\n', 'ANY ', 'FIRST ') }),
        (text) => {
          try {
            parseStandbys(text);
          } catch (error) {
            expect(error).toBeInstanceOf(TypeError);
            expect((error as Error).message).toContain('synchronousStandbys');
          }
        },
      ),
    );
  });
});

describe('refuseUnmeetable', () => {
  it.each(['ANY 2 (a, b)', 'ANY 1 (a, b)', 'ANY 9 (*)', 'ANY 9 (a, *)', 'ANY 2 ("a", "a ")'])(
    'lets %s pass',
    (text) => refuseUnmeetable(parseStandbys(text), text),
  );

  it.each([
    ['ANY 3 (a, b)', /ANY 3 \(a, b\) waits for 3 standbys and names 2/],
    ['ANY 2 (a)', /waits for 2 standbys and names 1/],
    ['ANY 2 (a, b, A)', /the name 'A' is there twice/],
    ['ANY 1 (*, *)', /the name '\*' is there twice/],
  ])('refuses %s', (text, message) => {
    expect(() => refuseUnmeetable(parseStandbys(text), text)).toThrow(RangeError);
    expect(() => refuseUnmeetable(parseStandbys(text), text)).toThrow(message);
  });
});

describe('admits', () => {
  it('compares names without regard to case, and * admits all', () => {
    const some = parseStandbys('ANY 1 (Paris, "Rome")');
    expect(admits(some, 'paris')).toBe(true);
    expect(admits(some, 'ROME')).toBe(true);
    expect(admits(some, 'oslo')).toBe(false);
    expect(admits(parseStandbys('ANY 1 (*)'), 'oslo')).toBe(true);
  });
});

describe('priorityOf', () => {
  it('is the place of the first name that admits it', () => {
    const some = parseStandbys('FIRST 2 (Paris, *, oslo)');
    expect(['paris', 'oslo', 'rome'].map((name) => priorityOf(some, name))).toEqual([0, 1, 1]);
    expect(priorityOf(parseStandbys('a'), 'b')).toBe(-1);
  });
});
