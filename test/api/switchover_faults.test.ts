import { describe, expect, it } from 'vitest';
import type { Log } from '../../src/index.js';
import { loadBinding } from '../../src/native/binding.js';
import { State } from '../../src/native/native_log.js';
import { handOver } from '../../src/transport/ask_member.js';
import { imageOf, stopped, textsOf } from './group_nodes.js';
import { codeOf, openLog, until, walError } from './helpers.js';
import { SteppingGroup } from './switchover_nodes.js';

const primaries = (...logs: Log[]): string[] =>
  logs.filter((log) => log.status().role === 'primary').map(({ name }) => name);

/** It is the primary, as if nothing had been. */
async function isPrimaryStill(log: Log): Promise<void> {
  expect(log.status()).toMatchObject({ role: 'primary', term: { epoch: 1 } });
  await log.appendAndCommit('goes on', { level: 'local' });
}

describe('a switchover that is given up before the demotion', () => {
  it('for its name', async () => {
    const group = await SteppingGroup.make(3);
    const { a, b } = await group.started(['b', 'c']);
    for (const to of ['x', 'a']) {
      expect(await codeOf(() => a.switchover({ to }))).toBe('WAL_SWITCHOVER_REFUSED');
    }
    expect(await codeOf(() => b.switchover({ to: 'a' }))).toBe('WAL_IS_STANDBY');
    await isPrimaryStill(a);
  });

  it('without members', async () => {
    const log = await openLog({ listen: { port: 0 }, name: 'a' });
    expect(await codeOf(() => log.switchover({ to: 'b' }))).toBe('WAL_UNSUPPORTED');
    expect(await codeOf(() => log.demote())).toBe('WAL_UNSUPPORTED');
    expect(log.append('x')).toBe(1);
  });

  it('to a standby that is no member, or not synchronous', async () => {
    const group = await SteppingGroup.make(2);
    const { a } = await group.started(['b', 'c']);
    const error = await walError(() => a.switchover({ to: 'c' }));
    expect(error.code).toBe('WAL_SWITCHOVER_REFUSED');
    expect(error.message).toContain('members');
    await a.setPolicy({ synchronousStandbys: 'ANY 1 (c)' });
    const other = await walError(() => a.switchover({ to: 'b' }));
    expect(other.message).toContain('not synchronous');
    await isPrimaryStill(a);
  });

  it('for the time, the signal, or a standby that is lost: it takes appends again', async () => {
    const group = await SteppingGroup.make(3);
    const { a, b } = await group.started(['b', 'c']);
    const { steps } = group;
    steps.b.isStuck = true;
    // c acknowledges, and b gets nothing.
    await a.appendAndCommit('two');
    const late = a.switchover({ to: 'b', timeout: 300 });
    await until(() => codeNow(() => a.append('x')) === 'WAL_SWITCHING', 'appends stop');
    const error = await walError(() => a.append('x'));
    expect(error).toMatchObject({ code: 'WAL_SWITCHING', outcome: 'refused' });
    let drained = false;
    const drain = a.drain().then(() => {
      drained = true;
    });
    expect(await codeOf(() => a.switchover({ to: 'c' }))).toBe('WAL_SWITCHOVER_REFUSED');
    expect(drained).toBe(false);
    expect(await codeOf(() => late)).toBe('WAL_SWITCHOVER_REFUSED');
    await drain;
    await isPrimaryStill(a);

    const cancel = new AbortController();
    const cancelled = a.switchover({ to: 'b', signal: cancel.signal });
    await until(() => codeNow(() => a.append('x')) === 'WAL_SWITCHING', 'appends stop again');
    cancel.abort(new Error('enough'));
    await expect(cancelled).rejects.toThrow('enough');
    await isPrimaryStill(a);

    const lost = a.switchover({ to: 'b' });
    await until(() => codeNow(() => a.append('x')) === 'WAL_SWITCHING', 'appends stop thrice');
    await Promise.all([b.close(), expect(lost).rejects.toThrow('not connected any more')]);
    await isPrimaryStill(a);

    const done = await a.switchover({ to: 'c' });
    expect(done.term.epoch).toBe(2);
  });

  it('for a commit that is not met: that is not cut short', async () => {
    const group = await SteppingGroup.make(3);
    const { a } = await group.started(['b', 'c']);
    await a.setPolicy({ synchronousStandbys: 'ANY 2 (*)' });
    group.steps.c.isStuck = true;
    const commit = a.appendAndCommit('two');
    const late = await walError(() => a.switchover({ to: 'b', timeout: 300 }));
    expect(late.code).toBe('WAL_SWITCHOVER_REFUSED');
    group.steps.c.isStuck = false;
    for (const socket of group.steps.c.sockets) socket.destroy();
    expect((await commit).lsn).toBe(2);
    await a.switchover({ to: 'b' });
  });

  it('for a close in the middle', async () => {
    const group = await SteppingGroup.make(2);
    const { a, b } = await group.started();
    group.steps.b.isStuck = true;
    const commit = a.appendAndCommit('two');
    commit.catch(() => undefined);
    const given = a.switchover({ to: 'b' });
    await until(() => codeNow(() => a.append('x')) === 'WAL_SWITCHING', 'appends stop');
    await Promise.all([a.close(), expect(given).rejects.toMatchObject({ code: 'WAL_CLOSED' })]);
    expect(await codeOf(() => commit)).toBe('WAL_CLOSED');
    expect(primaries(b)).toEqual([]);
    const again = await openLog({ ...group.group.of('a'), openAlone: true });
    expect(again.status().role).toBe('primary');
    expect((await textsOf(again)).slice(0, 2)).toEqual(['one', 'two']);
  });

  it('for a newer primary that is heard of', async () => {
    const group = await SteppingGroup.make(3);
    const { a, b, c } = await group.started(['b', 'c']);
    group.steps.b.isStuck = true;
    await a.appendAndCommit('two');
    const given = a.switchover({ to: 'b' });
    await until(() => codeNow(() => a.append('x')) === 'WAL_SWITCHING', 'appends stop');
    group.steps.b.isStuck = false;
    // What b has by then may be all: then it was not given up.
    const outcomes = await Promise.allSettled([given, c.promote(stopped)]);
    await until(() => primaries(a, b, c).length === 1, 'one primary', 20_000);
    expect(outcomes.some(({ status }) => status === 'fulfilled')).toBe(true);
    expect(a.status().role).not.toBe('primary');
  });
});

describe('a switchover whose old primary is demoted', () => {
  it('and whose control file fails: it is no primary, and nothing is lost', async () => {
    const group = await SteppingGroup.make(2);
    const { a, b } = await group.started();
    group.steps.a.beforeRole = () => {
      throw Object.assign(new Error('No space left on device'), { code: 'WAL_NO_SPACE' });
    };
    const commit = a.appendAndCommit('two');
    expect(await codeOf(() => a.switchover({ to: 'b' }))).toBe('WAL_NO_SPACE');
    expect(a.status().state).toBe('failed');
    expect((await commit).lsn).toBe(2);
    expect(primaries(b)).toEqual([]);
    await a.close().catch(() => undefined);
    await b.promote(stopped);
    expect(await textsOf(b)).toEqual(['one', 'two']);
  });

  it('records it, with the successor, before it sends anything: no primary then', async () => {
    const group = await SteppingGroup.make(2);
    const { a, b } = await group.started();
    const { nodeId } = b.status();
    const images: string[] = [];
    group.steps.a.beforeRole = () => {
      expect(b.status().role).toBe('standby');
    };
    group.steps.a.afterRole = () => images.push(imageOf(a));
    group.steps.b.beforeOpening = () => images.push(imageOf(b));
    await a.appendAndCommit('two');
    await a.switchover({ to: 'b' });
    await Promise.all([a.close(), b.close()]);
    const [dirA, dirB] = images as [string, string];
    const { of } = { of: group.group.of.bind(group.group) };
    const again = await openLog({ ...of('a'), dir: dirA });
    const other = await openLog({ ...of('b'), dir: dirB });
    expect(primaries(again, other)).toEqual([]);
    expect(again.status().term).toMatchObject({ epoch: 2, opener: nodeId, incarnation: 0 });
    expect(again.status().upstream?.primary).toBe('b');
    // By hand, without force: all that was acknowledged is here, and b answers that it is none.
    const promoted = await again.promote(stopped);
    expect(promoted).toMatchObject({ forced: null, term: { epoch: 3 }, lsn: 2 });
    await until(() => other.status().upstream?.connected === true, 'b follows');
    expect(await textsOf(again)).toEqual(['one', 'two']);
  });

  it('stays a standby while its successor is away, and says so', async () => {
    const group = await SteppingGroup.make(2);
    const { a, b } = await group.started();
    group.steps.a.afterRole = () => b.close();
    const error = await walError(() => a.switchover({ to: 'b' }));
    expect(error).toMatchObject({ code: 'WAL_DEMOTED', lsn: 1 });
    expect(a.status()).toMatchObject({ role: 'standby', roleReason: 'switchover' });
    expect(() => a.append('x')).toThrow(/standby of b/);
    // It may be the primary: only force knows better.
    const refused = await walError(() => a.promote(stopped));
    expect(refused.code).toBe('WAL_PROMOTION_REFUSED');
    expect(refused.message).toContain('handed over to b');
    const again = await openLog({ ...group.group.of('b'), follow: { port: group.group.ports.a } });
    const { forced } = await a.promote(stopped);
    expect(forced).toBeNull();
    a.append('two');
    await until(() => again.status().flushLsn === 2, 'b follows a again');
  });

  it('and whose successor cannot open: either is promoted by hand', async () => {
    const group = await SteppingGroup.make(2);
    const { a, b } = await group.started();
    group.steps.b.beforeOpening = () => {
      throw Object.assign(new Error('No space left on device'), { code: 'WAL_NO_SPACE' });
    };
    const error = await walError(() => a.switchover({ to: 'b' }));
    expect(error.code).toBe('WAL_DEMOTED');
    expect(error.message).toContain('No space left');
    expect(primaries(a, b)).toEqual([]);
    delete group.steps.b.beforeOpening;
    await b.promote(stopped);
    await until(() => a.status().upstream?.connected === true, 'a follows b');
  });

  it('finds out where the answer is lost', async () => {
    const group = await SteppingGroup.make(2);
    const { a, b } = await group.started();
    group.steps.b.afterOpening = () => {
      for (const socket of group.steps.a.sockets) socket.destroy();
    };
    const done = await a.switchover({ to: 'b' });
    expect(done).toMatchObject({ lsn: 1, term: { epoch: 2, opener: b.status().nodeId } });
    expect(primaries(a, b)).toEqual(['b']);
  });

  it('and dies before the answer: its successor goes on, and it is a standby again', async () => {
    const group = await SteppingGroup.make(2);
    const { a, b } = await group.started();
    let image = '';
    group.steps.b.afterOpening = async () => {
      image = imageOf(a);
      for (const socket of group.steps.a.sockets) socket.destroy();
    };
    await a.switchover({ to: 'b' });
    await a.close();
    b.append('two');
    const again = await openLog({ ...group.group.of('a'), dir: image });
    await until(() => again.status().flushLsn === 2, 'it follows');
    expect(primaries(again, b)).toEqual(['b']);
  });
});

describe('a hand-over', () => {
  it('of a primary that is none the less, or of a stranger, is refused', async () => {
    const group = await SteppingGroup.make(2);
    const { a, b } = await group.started();
    const { logId, salt } = loadBinding().identify(a.dir);
    const { nodeId, term } = a.status();
    const at = { host: '127.0.0.1', port: group.group.ports.b, plaintext: false };
    const sender = { logId, salt, nodeId };
    const to = b.status().nodeId;
    // All of it is so, but that a is demoted.
    const { state } = group.steps.a.native!;
    const end = { position: state[State.CLOSED_POSITION]!, lsn: 1 };
    const exact = { term, epoch: 2, end, crc: state[State.LAST_CRC]! };
    const ask = (what: object) =>
      handOver(
        { ...at, name: 'a', sender, deadlineMs: 5000 },
        { logId, salt, ...exact, ...what },
        to,
      );
    await expect(ask({})).rejects.toThrow('it has not handed over');
    const wrong = [
      { term: { ...term, opener: to } },
      { term: { ...term, epoch: 0 } },
      { end: { ...end, lsn: 2 } },
      { end: { ...end, position: end.position + 8 } },
      { crc: exact.crc ^ 1 },
    ];
    for (const what of wrong) {
      const refused = { code: 'WAL_PEER_REFUSED' };
      await expect(ask(what)).rejects.toMatchObject(refused);
      await expect(ask(what)).rejects.not.toThrow('it has not handed over');
    }
    await expect(ask({ salt: '0'.repeat(16) })).rejects.toMatchObject({ code: 'WAL_NOT_A_LOG' });
    expect(primaries(a, b)).toEqual(['a']);
    await isPrimaryStill(a);
  });
});

function codeNow(work: () => unknown): string {
  try {
    work();
    return '';
  } catch (error) {
    return (error as { code?: string }).code ?? '';
  }
}
