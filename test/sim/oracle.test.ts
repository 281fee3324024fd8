import { describe, expect, it } from 'vitest';
import { Oracle } from '../../sim/oracle.js';

describe('an epoch', () => {
  it('is of one node that acknowledges', () => {
    const oracle = new Oracle();
    oracle.acknowledgedIn(2, 'a', false);
    oracle.acknowledgedIn(2, 'a', true);
    oracle.acknowledgedIn(3, 'b', false);
    expect(() => oracle.acknowledgedIn(2, 'b', false)).toThrow(/a and b acknowledge/);
  });

  it('is of one more that has no standby, once for each time that the referee forgets it', () => {
    const oracle = new Oracle();
    oracle.acknowledgedIn(1, 'a', false);
    oracle.acknowledgedIn(3, 'b', true);
    oracle.forgets(1, 3);
    oracle.acknowledgedIn(3, 'a', false);
    expect(() => oracle.acknowledgedIn(3, 'a', true)).toThrow(/standbys confirm/);
    expect(() => oracle.acknowledgedIn(3, 'c', false)).toThrow(/granted 2 times/);
    expect(() => oracle.acknowledgedIn(1, 'c', false)).toThrow(/granted 1 times/);
    oracle.acknowledgedIn(4, 'a', false);
    expect(() => oracle.acknowledgedIn(4, 'b', false)).toThrow(/a and b acknowledge/);
  });

  it('that was forgotten excuses who was granted it again, and nobody else', () => {
    const oracle = new Oracle();
    oracle.appendedAs('one', 1, 2, 'b');
    oracle.settled('one', 'acknowledged', true, 2);
    expect(oracle.mayLack(1, 'a')).toBe(true);
    expect(oracle.mayLack(2, 'a')).toBe(false);
    expect(() => oracle.appendedAs('other', 1, 2, 'a')).toThrow(/is acknowledged already/);
    oracle.forgets(1, 2);
    expect(oracle.mayLack(2, 'a')).toBe(true);
    expect(oracle.mayLack(2, 'b')).toBe(false);
    expect(oracle.mayLack(3, 'a')).toBe(false);
    oracle.appendedAs('another', 1, 2, 'a');
    expect(() => oracle.settled('another', 'acknowledged', true, 2)).toThrow(
      /where one was before/,
    );
  });
});
