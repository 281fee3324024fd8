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

it('another rule begins with what is committed by then, and not with what was before', () => {
  const missing = new MissingStandbys();
  missing.tick(0, 10, 100);
  missing.tick(50, 10, 200);
  expect(missing.commitBefore).toBe(10);
  missing.ruleChanged(200);
  expect(missing.commitBefore).toBe(200);
  missing.tick(100, 300, 300);
  expect(missing.commitBefore).toBe(200);
});
