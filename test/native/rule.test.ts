import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Rule } from '../../src/native/native_log.js';
import { decodeControl } from '../format/decode.js';
import { freshDir } from '../helpers/temp.js';
import { binding, TestLog } from './native.js';

const levels = ['off', 'local', 'remote_write', 'remote_flush', 'remote_apply'] as const;
const member = (n: number): string => n.toString(16).padStart(32, '0');

function stored(dir: string) {
  return decodeControl(readFileSync(join(dir, 'control'))).copies.map((copy) =>
    copy.ok ? copy.value : undefined,
  );
}

describe('the rule in the control file', () => {
  it.each(levels)('of level %s reads back, here and by the independent reader', async (level) => {
    const dir = freshDir();
    const log = await TestLog.open({ dir });
    expect(log.native.info().rule).toBeNull();
    const rule: Rule = {
      synchronousCommit: level,
      synchronousStandbys: level === 'off' ? null : 'ANY 2 ("ä", b)',
      members: level === 'off' ? [] : Array.from({ length: 64 }, (_, i) => member(i)),
      degraded: level === 'remote_write',
    };
    const { nodeId } = log.native.info();
    await log.native.openTerm({ epoch: 1, opener: nodeId, incarnation: 1 }, rule);
    expect(log.native.info().rule).toEqual(rule);
    const standbys = rule.synchronousStandbys ?? '';
    const expected = { rule: { level, standbys, members: rule.members, degraded: rule.degraded } };
    expect(stored(dir)).toMatchObject([expected, expected]);
    await log.close();
    const reader = await binding.openReader(dir);
    expect(reader.info().rule).toEqual(rule);
    reader.close();
  });

  it('is replaced, and forgotten with its term', async () => {
    const log = await TestLog.openPrimary({ dir: freshDir() });
    const rule: Rule = {
      synchronousCommit: 'remote_flush',
      synchronousStandbys: 'ANY 1 (*)',
      members: [],
      degraded: false,
    };
    await log.native.storeRule(rule);
    await log.native.storeRule({ ...rule, members: [member(1)] });
    expect(log.native.info().rule?.members).toEqual([member(1)]);
    const { term } = log.native.info();
    await log.native.openTerm({ ...term, incarnation: 2 });
    expect(log.native.info().rule).toBeNull();
    await log.close();
  });

  it('is refused where it would not fit, and the log goes on', async () => {
    const dir = freshDir();
    const log = await TestLog.openPrimary({ dir });
    const rule = {
      synchronousCommit: 'local',
      synchronousStandbys: 'x'.repeat(2047),
      members: Array.from({ length: 64 }, (_, i) => member(i)),
      degraded: false,
    } as const;
    await log.native.storeRule(rule);
    for (const wrong of [
      { ...rule, synchronousStandbys: 'x'.repeat(2048) },
      { ...rule, members: [...rule.members, member(64)] },
    ]) {
      await expect(log.native.storeRule(wrong)).rejects.toMatchObject({ code: 'WAL_UNSUPPORTED' });
    }
    for (const wrong of [
      { ...rule, synchronousCommit: 'remote' },
      { ...rule, members: ['x'] },
      { ...rule, members: {} },
      { ...rule, degraded: 1 },
      undefined,
    ]) {
      expect(() => log.native.storeRule(wrong as unknown as Rule)).toThrow(TypeError);
    }
    expect(log.native.info().rule).toEqual(rule);
    await log.batch('x');
    expect((await log.settled()).lsn).toBe(1);
    await log.close();
  });

  it('has the last contact beside it', async () => {
    const dir = freshDir();
    const log = await TestLog.open({ dir, role: 'standby' });
    expect(log.native.info().lastContact).toBeNull();
    const now = Date.now();
    await log.native.storeContact(now);
    expect(log.native.info().lastContact).toBe(now);
    await log.close();
    expect(stored(dir)).toMatchObject([{ lastContact: now * 1000 }, { lastContact: now * 1000 }]);
  });
});
