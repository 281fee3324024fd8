import { expect, test } from 'vitest';
import { modes, parseOptions } from '../../demo/options.js';
import { seeded } from '../../demo/random.js';

test('all modes with seed 1, unless asked otherwise', () => {
  expect(parseOptions([])).toMatchObject({ seed: 1, modes, help: false });
  expect(parseOptions(['--seed', '42', '--mode', 'async'])).toMatchObject({
    seed: 42,
    modes: ['async'],
  });
});

test.each([
  [['--seed=-1'], '--seed takes a whole number'],
  [['--seed', '1.5'], '--seed takes a whole number'],
  [['--seed', ''], '--seed takes a whole number'],
  [['--rows', '10'], '--rows takes a whole number from 1000'],
  [['--mode', 'semi'], '--mode takes sync, async, planted, automatic'],
  [['--sead', '1'], "Unknown option '--sead'"],
])('%j is refused with what to type', (args, message) => {
  expect(() => parseOptions(args)).toThrow(message);
});

test('the same seed gives the same kill points', () => {
  const [a, b, c] = [seeded(7), seeded(7), seeded(8)];
  const drawn = [a(), a(), a()];
  expect([b(), b(), b()]).toEqual(drawn);
  expect([c(), c(), c()]).not.toEqual(drawn);
  expect(drawn.every((number) => number >= 0 && number < 1)).toBe(true);
});
