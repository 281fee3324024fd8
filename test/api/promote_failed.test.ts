import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { closeLog } from '../../src/api/close.js';
import type { LogCore } from '../../src/api/core.js';
import { logStatus } from '../../src/api/log_status.js';
import { openLog as openCore } from '../../src/api/open.js';
import type { OpenOptions } from '../../src/api/options.js';
import { promote } from '../../src/api/promote.js';
import type { StandbyDriver } from '../../src/api/standby_driver.js';
import { fence, survey } from '../../src/transport/ask_member.js';
import { anyOne, fenceFor, Group, stopped } from './group_nodes.js';
import { codeOf, until } from './helpers.js';

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function core(options: OpenOptions): Promise<LogCore> {
  const opened = await openCore(options);
  onTestFinished(() => closeLog(opened).catch(() => undefined));
  return opened;
}

/** `b` of a group of which all know the rule and the first record; `a` is still there. */
async function following(group: Group, options: object = {}): Promise<LogCore> {
  const b = await core({ ...group.of('b'), ...anyOne, ...options });
  await until(() => logStatus(b).upstream?.connected === true, 'b follows');
  return b;
}

/** The next opening finds no space. */
function failOnce({ native }: LogCore): void {
  const noSpace = Object.assign(new Error('no space'), { code: 'WAL_NO_SPACE' });
  vi.spyOn(native, 'openTerm').mockRejectedValueOnce(noSpace);
}

/** What this one tells, asked at that port. */
function standingAt({ info, environment }: LogCore, port: number) {
  const { logId, salt } = info;
  const sender = { logId, salt, nodeId: 'd'.repeat(32) };
  const at = { host: '127.0.0.1', port, plaintext: false, name: 'd', sender, environment };
  return survey({ ...at, deadlineMs: 2000 });
}

describe('a promotion that failed when nothing was followed any more', () => {
  it('leaves a standby that follows, answers members and takes the next call', async () => {
    const group = await Group.make();
    const { a, b, c } = await group.started();
    await Promise.all([a.close(), b.close()]);
    const again = await core({ ...group.of('b'), ...anyOne });
    failOnce(again);
    expect(await codeOf(() => promote(again, stopped))).toBe('WAL_NO_SPACE');
    expect(await standingAt(again, group.ports.b)).toMatchObject({ name: 'b', role: 'standby' });
    const promoted = await promote(again, stopped);
    expect(promoted.forced).toBeNull();
    await until(() => c.status().upstream?.connected === true, 'c follows it');
  });

  it('where no members are known, too', async () => {
    const group = await Group.make();
    const a = await group.primary('a', {});
    const { members: _, ...alone } = group.of('b');
    const b = await core({ ...alone, follow: { port: group.ports.a } });
    await a.appendAndCommit('one');
    await until(() => logStatus(b).flushLsn === 1, 'b has it');
    failOnce(b);
    expect(await codeOf(() => promote(b, stopped))).toBe('WAL_NO_SPACE');
    await a.appendAndCommit('two');
    await until(() => logStatus(b).flushLsn === 2, 'b follows');
  });

  it('leaves a fenced log that answers members', async () => {
    const group = await Group.make(2);
    const a = await core({ ...group.of('a'), openAlone: true });
    const b = await group.standby('b', 'a');
    await fenceFor(b, group.ports.a, 2);
    await until(() => logStatus(a).role === 'fenced', 'a is fenced');
    failOnce(a);
    const force = { ...stopped, force: true };
    expect(await codeOf(() => promote(a, force))).toBe('WAL_NO_SPACE');
    expect(await standingAt(a, group.ports.a)).toMatchObject({ name: 'a', role: 'fenced' });
    await promote(a, force);
    expect(logStatus(a).role).toBe('primary');
  });

  it('at another place leaves the node where it was', async () => {
    const group = await Group.make();
    await group.primary('a', {});
    const b = await following(group);
    failOnce(b);
    const listen = { port: group.ports.d };
    expect(await codeOf(() => promote(b, { ...stopped, force: true, listen }))).toBe(
      'WAL_NO_SPACE',
    );
    expect(await standingAt(b, group.ports.b)).toMatchObject({ name: 'b' });
    expect(await codeOf(() => standingAt(b, group.ports.d))).toBe('WAL_IO');
    await promote(b, { ...stopped, force: true, listen });
    expect(await standingAt(b, group.ports.d)).toMatchObject({ name: 'b', role: 'primary' });
    expect(await codeOf(() => standingAt(b, group.ports.b))).toBe('WAL_IO');
  });
});

describe('a promotion', () => {
  it('at another place is not held up by a fence that waits for it', async () => {
    const group = await Group.make();
    const { a, b, c } = await group.started();
    await Promise.all([a.close(), b.close()]);
    const again = await core({ ...group.of('b'), ...anyOne });
    const standby = again.driver as StandbyDriver;
    const stop = standby.stop.bind(standby);
    let fencing: Promise<unknown> | undefined;
    vi.spyOn(standby, 'stop').mockImplementationOnce(async (how) => {
      fencing = fenceFor(c, group.ports.b, 9).catch((error: Error) => error);
      await pause(300);
      return stop(how);
    });
    const late = pause(4000).then(() => 'late');
    const promotion = promote(again, { ...stopped, listen: { port: group.ports.d } });
    expect(await Promise.race([promotion, late])).not.toBe('late');
    // Whoever asked there asks again elsewhere.
    expect(await fencing).toBeInstanceOf(Error);
    expect(logStatus(again).role).toBe('primary');
  });

  it('that waits for room for what a member has ends with its signal', async () => {
    const group = await Group.make();
    const { a, b } = await group.started();
    await b.close();
    await a.appendAndCommit('two');
    await a.close();
    const again = await core({ ...group.of('b'), ...anyOne });
    const full = vi.spyOn(again.native, 'ingest').mockImplementation(() => 0);
    const call = new AbortController();
    const promotion = promote(again, { ...stopped, signal: call.signal });
    promotion.catch(() => undefined);
    await until(() => full.mock.calls.length > 0, 'it waits for room');
    call.abort(new Error('not now'));
    await expect(promotion).rejects.toThrow('not now');
    const next = promote(again, stopped);
    next.catch(() => undefined);
    const calls = full.mock.calls.length;
    await until(() => full.mock.calls.length > calls, 'it waits again');
    // And with the log.
    await closeLog(again);
    await expect(next).rejects.toMatchObject({ code: 'WAL_CLOSED' });
  });

  it('tells of the old primary, and not of the candidate', async () => {
    const group = await Group.make();
    const { a, b } = await group.started();
    await a.close();
    const { oldPrimary } = await b.promote({ ...stopped, ...anyOne });
    expect(oldPrimary).toMatchObject({ name: 'a', connected: false, rule: { inForce: true } });
  });
});

describe('a fence', () => {
  it('whose candidate went before its turn is not done', async () => {
    const group = await Group.make();
    const { b } = await group.started();
    await b.close();
    const again = await following(group);
    let goOn = (): void => undefined;
    const busy = again.desk.exclusively(
      () =>
        new Promise<void>((resolve) => {
          goOn = resolve;
        }),
    );
    const { logId, salt } = again.info;

    const sender = { logId, salt, nodeId: 'd'.repeat(32) };
    const at = { host: '127.0.0.1', port: group.ports.b, plaintext: false, name: 'd', sender };
    await expect(fence({ ...at, deadlineMs: 300 }, 7)).rejects.toThrow('in time');
    await pause(100);
    goOn();
    await busy;
    await again.desk.exclusively(async () => undefined);
    expect(again.native.info().term.epoch).toBe(1);
  });
});
