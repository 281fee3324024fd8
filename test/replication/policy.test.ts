import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WalError } from '../../src/api/errors.js';
import { admits, formatStandbys, parseStandbys } from '../../src/replication/policy.js';

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
  ])('points at what is wrong in %j', (text, at) => {
    expect(pointsAt(text)).toBe(at);
  });

  it('says what to write instead', () => {
    expect(messageOf('ANY 1')).toContain("write for example 'ANY 1 (*)'");
  });

  it.each(['FIRST 1 (a, b)', 'first 2 (*)', '2 (a, b)', 'a, b', '"a"'])(
    'names FIRST as coming later for %s',
    (text) => {
      expect(() => parseStandbys(text)).toThrow(WalError);
      expect(() => parseStandbys(text)).toThrow(/FIRST .* later release/);
    },
  );

  it('reads back what formatStandbys writes', () => {
    const name = fc.string({ minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1000 }),
        fc.array(name, { minLength: 1, maxLength: 5 }),
        (count, names) => {
          const standbys = { method: 'any', count, names } as const;
          expect(parseStandbys(formatStandbys(standbys))).toEqual(standbys);
        },
      ),
    );
  });

  it('throws nothing but its own errors on any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'ANYFIRST 12(),*"aé_-\n') }), (text) => {
        try {
          parseStandbys(text);
        } catch (error) {
          expect(error instanceof TypeError || error instanceof WalError).toBe(true);
          expect((error as Error).message).toContain('synchronousStandbys');
        }
      }),
    );
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
