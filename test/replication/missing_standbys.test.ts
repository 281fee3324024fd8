import { expect, it } from 'vitest';
import { MissingStandbys } from '../../src/replication/missing_standbys.js';

it('a wait is over when it is met, and not only when that is looked at', () => {
  const missing = new MissingStandbys();
  missing.tick(0, 0, 100);
  missing.tick(50, 0, 200);
  expect(missing.waitedAt(99)).toBe(50);
  expect(missing.waitedAt(100)).toBe(0);
  missing.tick(100, 100, 100);
  expect(missing.waitedAt(100)).toBe(0);
});
