import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatRecord, parseRecord, type Records, recordNames } from '../../src/referee/records.js';
import { asyncRule, logId, nodeId, syncRule } from './claims.js';

const good: Records = {
  leader: { logId, epoch: 1, nodeId: nodeId('a'), name: 'Zürich "1"' },
  holder: { nodeId: nodeId('a'), reserved: false },
  rule: { epoch: 1, number: 1, primary: nodeId('a'), rule: syncRule('b', 'c') },
  progress: { epoch: 1, number: 1, lsn: Number.MAX_SAFE_INTEGER },
  pause: { by: 'me', reason: 'why', at: 1 },
};

describe('records', () => {
  it.each(recordNames)('%s is read as it was written', (name) => {
    expect(parseRecord(name, formatRecord(name, good[name]))).toEqual(good[name]);
  });

  it('has room for the largest rule', () => {
    const members = Array.from({ length: 64 }, (_, i) => `${i}`.padStart(32, 'f'));
    const rule = { ...syncRule(), members };
    expect(() => formatRecord('rule', { ...good.rule, rule })).not.toThrow();
  });

  it('that others have written, or that lack something, are refused by name', () => {
    for (const name of recordNames) {
      const bad = [
        '',
        '[]',
        'null',
        '1',
        '{}',
        ...Object.keys(good[name]).map((key) => JSON.stringify({ ...good[name], [key]: -1 })),
      ];
      for (const text of bad) {
        expect(() => parseRecord(name, text)).toThrow(
          expect.objectContaining({
            code: 'WAL_REFEREE_REFUSED',
            message: expect.stringContaining(name),
          }),
        );
      }
    }
  });

  it('with a rule that is none are refused', () => {
    const bad = [
      { ...syncRule('b', 'b') },
      { ...syncRule('b'), synchronousStandbys: 'nonsense' },
      { ...syncRule('b'), synchronousCommit: 'sometimes' },
      { ...asyncRule, degraded: true },
      { ...syncRule(), members: Array.from({ length: 65 }, (_, i) => `n${i}`) },
    ];
    for (const rule of bad) {
      const text = JSON.stringify({ ...good.rule, rule });
      expect(() => parseRecord('rule', text)).toThrow(/what the referee holds as rule/);
    }
  });

  it('of any bytes are read or refused', () => {
    fc.assert(
      fc.property(fc.constantFrom(...recordNames), fc.json(), (name, text) => {
        try {
          const record = parseRecord(name, text);
          expect(formatRecord(name, record)).toBeDefined();
        } catch (error) {
          expect(error).toMatchObject({ code: 'WAL_REFEREE_REFUSED' });
        }
      }),
    );
  });

  it('that are no one line, or too long, are neither written nor read', () => {
    for (const name of ['x'.repeat(256), 'two\nlines', '\u001b[2J', 'a\u2028b', '\u202e']) {
      expect(() => formatRecord('leader', { ...good.leader, name })).toThrow(RangeError);
      const text = JSON.stringify({ ...good.leader, name });
      expect(() => parseRecord('leader', text)).toThrow(/holds as leader/);
    }
  });
});
