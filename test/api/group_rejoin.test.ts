import { describe, expect, it } from 'vitest';
import { fenceFor, Group, stopped, textsOf } from './group_nodes.js';
import { openLog, until, walError } from './helpers.js';

/** `b` was promoted while `a` ran, which is fenced; all three have the same records. */
async function replaced() {
  const group = await Group.make();
  const { a, b, c } = await group.started();
  const fenced = new Promise((resolve) => a.on('role', resolve));
  await b.promote(stopped);
  await fenced;
  await c.waitFor(1);
  await until(() => c.status().upstream?.primary === 'b', 'c follows b');
  return { group, a, b, c };
}

describe('a primary that its group has fenced', () => {
  it('is the primary again by force, on the same object, and the group follows it', async () => {
    const { group, a, b, c } = await replaced();
    expect((await walError(() => a.promote(stopped))).code).toBe('WAL_NOT_STANDBY');
    const fenced = new Promise((resolve) => b.on('role', resolve));
    const promoted = await a.promote({ ...stopped, force: true });
    expect(promoted.forced).toMatch(/its own history.*b is the primary, of epoch 2/);
    expect(promoted.term.epoch).toBe(3);
    expect(await fenced).toMatchObject({ role: 'fenced', term: { epoch: 3 } });
    a.append('of a');
    await until(() => c.status().flushLsn === 2, 'c follows a');
    // Any member knows where the primary is.
    await b.rejoin({ follow: { port: group.ports.c } });
    await until(() => b.status().flushLsn === 2, 'b follows a');
    expect(b.status()).toMatchObject({ role: 'standby', upstream: { primary: 'a' } });
    await a.commit();
    for (const log of [a, b, c]) {
      await log.waitFor(2);
      expect(await textsOf(log)).toEqual(['one', 'of a']);
    }
  });

  it('rejoins on the same object, and is promoted in its turn', async () => {
    const { group, a, b, c } = await replaced();
    await a.rejoin({ follow: { port: group.ports.b } });
    await until(() => a.status().role === 'standby', 'a has rejoined');
    await b.appendAndCommit('of b');
    await until(() => a.status().flushLsn === 2, 'a follows b');
    // By the rule of b, which waits for nobody, it is judged then.
    for (const log of [a, c]) {
      await until(() => log.status().upstream?.rule?.members.length === 0, 'the rule is known');
    }
    await b.close();
    expect(await a.promote(stopped)).toMatchObject({ lsn: 2, forced: null, term: { epoch: 3 } });
    await a.appendAndCommit('of a');
    await c.waitFor(3);
    expect(await textsOf(c)).toEqual(['one', 'of b', 'of a']);
    expect(await textsOf(a)).toEqual(await textsOf(c));
  });

  it('for another candidate of that epoch follows when that one does', async () => {
    const group = await Group.make();
    const { a, b, c } = await group.started();
    await fenceFor(c, group.ports.a, 2);
    await a.close();
    expect((await b.promote(stopped)).term.epoch).toBe(2);
    await until(() => c.status().upstream?.connected === true, 'c follows b');
    await c.close();
    const back = await openLog(group.of('a'));
    await until(() => back.status().members.some(({ role }) => role === 'primary'), 'a asks b');
    // Also when b has told that it has opened the epoch.
    const refused = await new Promise<{ reason: string }>((resolve) => {
      back.on('disconnected', resolve);
    });
    expect(refused.reason).toMatch(/^b is of term 2.1 of .*, this standby knows 2.0 of/);
    const again = await openLog(group.of('c'));
    await Promise.all([again.connected(), back.connected()]);
    expect(back.status()).toMatchObject({ role: 'standby', upstream: { primary: 'b' } });
    await b.appendAndCommit('of b');
    await back.waitFor(2);
    expect(await textsOf(back)).toEqual(['one', 'of b']);
  }, 30_000);
});
