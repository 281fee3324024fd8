import { cpSync } from 'node:fs';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Log, WalError } from '../../src/index.js';
import { loadBinding } from '../../src/native/binding.js';
import { freshDir } from '../helpers/temp.js';
import { isPrimary, RefereedGroup } from './failover_nodes.js';
import { anyOne, stopped, textsOf } from './group_nodes.js';
import { until, walError } from './helpers.js';

const takeoverMs = 20_000;

describe('a group with a referee', () => {
  it('goes on by itself when its primary is gone, with all that was acknowledged', async () => {
    const nodes = await RefereedGroup.make(2);
    const { a, b } = await nodes.pair(anyOne);
    for (let i = 0; i < 20; i += 1) await a.appendAndCommit(`record ${i}`);
    await a.close();
    await until(() => isPrimary(b), 'b takes over', takeoverMs);
    expect(b.status().term.epoch).toBe(2);
    expect(await textsOf(b)).toHaveLength(21);
    // The old primary comes back as a standby: nobody says so to it.
    const again = await nodes.open('a', anyOne);
    expect(again.status().role).not.toBe('primary');
    await b.appendAndCommit('of the new primary');
    await until(() => again.status().flushLsn === 22, 'a follows', takeoverMs);
    expect(again.status().role).toBe('standby');
  });

  it('acknowledges nothing once its lease has ended, and comes back as a standby', async () => {
    const nodes = await RefereedGroup.make(2);
    const { a, b } = await nodes.pair();
    nodes.cut.add('a');
    const states: string[] = [];
    a.on('lease', ({ state }) => states.push(state));
    await until(() => states.includes('expired'), 'the lease ends', takeoverMs);
    const late = a.appendAndCommit('after the lease').catch((error: unknown) => error);
    await until(() => isPrimary(b), 'b takes over', takeoverMs);
    nodes.cut.delete('a');
    expect(await late).toMatchObject({ code: 'WAL_FENCED', outcome: 'unknown' });
    await b.appendAndCommit('of b');
    await until(() => a.status().role === 'standby', 'a has rejoined', takeoverMs);
    await until(() => a.status().flushLsn === b.status().flushLsn, 'a has all', takeoverMs);
    expect(await textsOf(a)).toEqual(await textsOf(b));
  });

  it('acknowledges nothing by an old lease after its event loop was blocked', async () => {
    const nodes = await RefereedGroup.make(1);
    const a = await nodes.open('a', { openAlone: true });
    await a.appendAndCommit('one');
    nodes.cut.add('a');
    const lsn = a.append('blocked');
    const ends = performance.now() + 1600;
    while (performance.now() < ends);
    const commit = a.commit(lsn);
    let isMet = false;
    void commit.then(
      () => {
        isMet = true;
      },
      () => undefined,
    );
    await until(() => a.status().flushLsn === lsn, 'it is flushed');
    expect(a.status().policy?.waitingFor).toBe('the referee');
    expect(a.status().commitLsn).toBe(1);
    expect(isMet).toBe(false);
    nodes.cut.delete('a');
    await commit;
  });

  it('never puts a standby in the place of a primary that went on alone', async () => {
    const nodes = await RefereedGroup.make(2);
    const degrade = { ...anyOne, whenMissing: 'degrade', syncTimeout: 200 } as const;
    const { a, b } = await nodes.pair(degrade);
    await b.close();
    await a.appendAndCommit('alone');
    expect(a.status().policy?.degraded).not.toBeNull();
    await a.close();
    const again = await nodes.open('b', degrade);
    await until(
      () => again.status().referee?.reason?.includes('went on alone') === true,
      'why not',
    );
    expect(again.status().role).toBe('standby');
    const back = await nodes.open('a', degrade);
    expect(back.status().role).toBe('primary');
    await until(() => again.status().flushLsn === 2, 'b follows', takeoverMs);
  });

  it('leaves everything as it is while it is paused', async () => {
    const nodes = await RefereedGroup.make(2);
    const { a, b } = await nodes.pair(anyOne);
    expect((await walError(() => b.promote(stopped))).code).toBe('WAL_NOT_GRANTED');
    const forced = { ...stopped, force: true } as const;
    expect((await walError(() => b.promote(forced))).code).toBe('WAL_NOT_GRANTED');
    await b.pauseFailover('maintenance');
    await a.close();
    const why = (): string => b.status().referee?.reason ?? '';
    await until(() => why().includes('maintenance'), 'b is told');
    expect(b.status().role).toBe('standby');
    await b.resumeFailover();
    await until(() => isPrimary(b), 'b takes over', takeoverMs);
  });

  it('is promoted by force while it is paused, and records that', async () => {
    const nodes = await RefereedGroup.make(2);
    const degrade = { ...anyOne, whenMissing: 'degrade', syncTimeout: 200 } as const;
    const { a, b } = await nodes.pair(degrade);
    await b.close();
    await a.appendAndCommit('alone');
    await a.close();
    const again = await nodes.open('b', degrade);
    await again.pauseFailover('the machine of a is lost');
    const promoted = await again.promote({ force: true });
    expect(promoted.forced).toContain('went on alone');
    expect(promoted.term.epoch).toBe(2);
    await until(() => again.status().referee?.lease === 'held', 'the lease');
    await until(() => again.status().referee?.leader?.name === 'b', 'a renewal');
    expect(again.status().referee).toMatchObject({ leader: { name: 'b', epoch: 2 }, held: true });
    await again.resumeFailover();
  });

  it('where commits wait for nobody, takes over only with what may be lacking', async () => {
    const nodes = await RefereedGroup.make(2);
    const { a, b } = await nodes.pair();
    await b.close();
    for (let i = 0; i < 5; i += 1) await a.appendAndCommit(`b lacks ${i}`);
    await a.close();
    const strict = await nodes.open('b', { maximumLag: 4 });
    const why = (): string => strict.status().referee?.reason ?? '';
    await until(() => why().includes('it lacks 5 records'), 'why not', takeoverMs);
    await strict.close();
    const lax = await nodes.open('b', { maximumLag: 5 });
    await until(() => isPrimary(lax), 'b takes over', takeoverMs);
    expect(await textsOf(lax)).toEqual(['one']);
    // What went may have been seen: the old primary asks before.
    const back = await nodes.open('a');
    await until(() => back.status().rejoin?.state === 'asks', 'a asks', takeoverMs);
    expect(back.status().rejoin).toMatchObject({ firstLsn: 2, lastLsn: 6, records: 5 });
  });

  it('comes back unasked with what it took after its lease and never acknowledged', async () => {
    const nodes = await RefereedGroup.make(2);
    const { a, b } = await nodes.pair();
    await b.close();
    nodes.cut.add('a');
    const states: string[] = [];
    a.on('lease', ({ state }) => states.push(state));
    await until(() => states.includes('expired'), 'the lease ends', takeoverMs);
    const late = a.appendAndCommit('late').catch((error: unknown) => error);
    await until(() => a.status().flushLsn === 2, 'it is flushed');
    // It does not reach a: nothing of that record comes to it.
    const newer = await nodes.open('b', { members: [{ port: nodes.group.ports.b }] });
    await until(() => isPrimary(newer), 'b takes over', takeoverMs);
    nodes.cut.delete('a');
    expect(await late).toMatchObject({ code: 'WAL_FENCED', outcome: 'unknown' });
    await newer.appendAndCommit('instead');
    await until(() => a.status().role === 'standby', 'a has rejoined', takeoverMs);
    expect(a.status().rejoin).toMatchObject({ state: 'done', records: 1, seenLsn: 0 });
    await until(() => a.status().flushLsn === 2 && a.status().commitLsn === 2, 'a follows');
    expect(await textsOf(a)).toEqual(['one', 'instead']);
  });

  it('that asks is answered on the same object, and is a candidate again', async () => {
    const nodes = await RefereedGroup.make(2);
    const { a, b } = await nodes.pair();
    await b.close();
    for (let i = 0; i < 3; i += 1) await a.appendAndCommit(`b lacks ${i}`);
    await until(() => a.status().referee?.lease === 'held', 'the lease');
    nodes.cut.add('a');
    const newer = await nodes.open('b', {
      ...{ members: [{ port: nodes.group.ports.b }], maximumLag: 3 },
    });
    await until(() => isPrimary(newer), 'b takes over', takeoverMs);
    await newer.appendAndCommit('instead');
    nodes.cut.delete('a');
    await until(() => a.status().rejoin?.state === 'asks', 'a asks', takeoverMs);
    expect(a.status()).toMatchObject({ role: 'fenced', rejoin: { firstLsn: 2, seenLsn: 4 } });
    await a.rejoin({ follow: { port: nodes.group.ports.b }, rejoin: 'auto' });
    await until(() => a.status().role === 'standby', 'a has rejoined', takeoverMs);
    await until(() => a.status().commitLsn === 2, 'a has all');
    await newer.close();
    await until(() => isPrimary(a), 'a takes over', takeoverMs);
    expect(await textsOf(a)).toEqual(['one', 'instead']);
  });

  it('is free again after a promotion that was refused, and a standby that is closed', async () => {
    const nodes = await RefereedGroup.make(3);
    const { a, b } = await nodes.pair(anyOne);
    const c = await nodes.open('c', anyOne);
    const members = (): number | undefined => b.status().upstream?.rule?.members.length;
    await until(() => members() === 2 && a.status().policy?.inForce === true, 'both count');
    await c.close();
    await a.close();
    const tells = (log: Log) => (): boolean =>
      log.status().events.some(({ message }) => /not promoted: .* 2 are needed/.test(message));
    await until(tells(b), 'b is refused', takeoverMs);
    await b.close();
    const again = await nodes.open('c', anyOne);
    await until(tells(again), 'c was granted it, and is refused', takeoverMs);
    const back = await nodes.open('b', anyOne);
    await until(() => isPrimary(back) || isPrimary(again), 'one takes over', takeoverMs);
  });

  it('takes its own lease back at once, in the directory that it was held from', async () => {
    const nodes = await RefereedGroup.make(2);
    const { a } = await nodes.pair({ referee: nodes.referee('a') });
    nodes.cut.add('a');
    await a.close();
    nodes.cut.delete('a');
    nodes.stopClock();
    expect(nodes.store.leases).toBe(1);
    const again = await nodes.open('a');
    expect(isPrimary(again)).toBe(true);
  });

  it('claims again where what decides has changed meanwhile: no standby for that', async () => {
    const nodes = await RefereedGroup.make(2);
    let races = 2;
    const raced = { reason: 'raced', message: 'another was faster' } as const;
    const referee = new Proxy(nodes.referee('a'), {
      get(target, key) {
        if (key === 'acquire' && races-- > 0) return async () => ({ refusal: raced, view: {} });
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const a = await nodes.open('a', { openAlone: true, referee });
    expect(isPrimary(a)).toBe(true);
    expect(races).toBeLessThan(0);
  });

  it('claims again where a candidate was granted what only the last primary may have', async () => {
    const nodes = await RefereedGroup.make(2);
    const first = await nodes.open('a', { openAlone: true });
    await first.appendAndCommit('one');
    const { nodeId } = first.status();
    await first.close();
    let refusals = 2;
    const held = { reason: 'held', message: 'b holds it' } as const;
    const view = { rule: { primary: nodeId }, holder: { nodeId: 'b'.repeat(32) } };
    const referee = new Proxy(nodes.referee('a'), {
      get(target, key) {
        if (key === 'acquire' && refusals-- > 0) return async () => ({ refusal: held, view });
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const a = await nodes.open('a', { referee });
    expect(isPrimary(a)).toBe(true);
    expect(refusals).toBeLessThan(0);
  });

  it('takes no lease of a process with a copy of its directory, nor by an old copy', async () => {
    const nodes = await RefereedGroup.make(2);
    const { a, b } = await nodes.pair();
    await b.close();
    const copy = freshDir();
    cpSync(a.dir, copy, { recursive: true, filter: (path) => !path.endsWith('.sock') });
    const changes: string[] = [];
    a.on('lease', ({ state }) => changes.push(state));
    const elsewhere = { dir: copy, listen: { port: 0 } };
    const twice = await walError(() => nodes.open('a', elsewhere));
    expect(twice).toMatchObject({ code: 'WAL_LOCKED' });
    expect(twice.message).toMatch(/another process is the primary with a copy of/);
    // It has acknowledged all the while.
    expect(a.status().referee?.lease).toBe('held');
    expect(changes).toEqual([]);

    await a.close();
    const again = await nodes.open('a');
    await again.appendAndCommit('the copy lacks this');
    await again.close();
    const old = await nodes.open('a', { dir: copy });
    const { role, events } = old.status();
    expect(role).toBe('fenced');
    expect(events.map(({ message }) => message).join()).toMatch(/directory is an older copy/);
  });

  it('is no primary with a copy that lacks what a member knows is committed', async () => {
    const nodes = await RefereedGroup.make(2);
    const { a, b } = await nodes.pair(anyOne);
    const copy = freshDir();
    cpSync(a.dir, copy, { recursive: true, filter: (path) => !path.endsWith('.sock') });
    await a.appendAndCommit('the copy lacks this');
    await until(() => b.status().commitLsn === 2, 'b knows of it');
    await b.pauseFailover('so that the copy is asked first');
    await a.close();
    const old = await nodes.open('a', { dir: copy, ...anyOne });
    const { role, events } = old.status();
    expect(role).toBe('fenced');
    expect(events.map(({ message }) => message).join()).toMatch(/knows of commits .* lacks/);
    // Nor later by itself, when nobody can tell it any more.
    await b.close();
    await old.resumeFailover();
    await new Promise((resolve) => setTimeout(resolve, 3000));
    expect(old.status().role).toBe('fenced');
    const again = await nodes.open('b', anyOne);
    await until(() => isPrimary(again), 'b takes over', takeoverMs);
    expect(await textsOf(again)).toHaveLength(2);
  });

  it('is given back by who cannot open its epoch, and follows again', async () => {
    const nodes = await RefereedGroup.make(2);
    const binding = loadBinding();
    const open = binding.open.bind(binding);
    let failures = 2;
    vi.spyOn(binding, 'open').mockImplementation(async (options) => {
      const native = await open(options);
      if (options.name !== 'b') return native;
      const openTerm = native.openTerm.bind(native);
      const failing = async (...args: Parameters<typeof openTerm>): Promise<void> => {
        if (failures-- > 0) throw new WalError('WAL_IO', 'the test wants it');
        await openTerm(...args);
      };
      return Object.defineProperty(native, 'openTerm', { value: failing });
    });
    onTestFinished(() => void vi.restoreAllMocks());
    const { a, b } = await nodes.pair(anyOne);
    const held: boolean[] = [];
    const watching = new AbortController();
    const seen = (async () => {
      for await (const sight of nodes.referee('a').watch({ signal: watching.signal })) {
        if ('view' in sight) held.push(sight.view.holder?.nodeId === b.status().nodeId);
      }
    })();
    await a.close();
    await until(() => isPrimary(b), 'b takes over', takeoverMs);
    await until(() => held.at(-1) === true, 'b holds it');
    watching.abort();
    await seen;
    // Taken, and given back, before it was kept.
    expect(held.join()).toMatch(/true.*false.*true$/);
    const told = b
      .status()
      .events.filter(({ message }) => /not promoted: .*wants it/.test(message));
    expect(told.length).toBe(2);
    expect(b.status().events.map(({ event }) => event)).toContain('disconnected');
    expect(b.status().term.epoch).toBe(4);
    expect(nodes.store.leases).toBe(1);
    const again = await nodes.open('a', anyOne);
    await b.appendAndCommit('of the new primary');
    await until(() => again.status().flushLsn === 2, 'a follows', takeoverMs);
  });

  it('says why it is not promoted though nobody holds the group, once, and is later', async () => {
    const nodes = await RefereedGroup.make(3);
    const { a, b } = await nodes.pair(anyOne);
    const c = await nodes.open('c', anyOne);
    const all = (log: Log): boolean => log.status().upstream?.rule?.members.length === 2;
    await until(() => all(b) && all(c), 'both count', takeoverMs);
    await Promise.all([a.close(), b.close(), c.close()]);
    const lines: string[] = [];
    const line = (_: unknown, text: string): void => void lines.push(text);
    const logger = { debug: line, info: line, warn: line, error: line };
    const again = await nodes.open('b', { ...anyOne, logger });
    // It is granted the group, asks the members, gives it back, and so on: each time a new epoch.
    const reason = (): string | null | undefined => again.status().referee?.reason;
    await until(() => reason()?.includes('1 of the 2 nodes answer') === true, 'why', takeoverMs);
    const epoch = (): number => again.status().referee?.leader?.epoch ?? 0;
    const first = epoch();
    await until(() => epoch() >= first + 3, 'it tries again', takeoverMs);
    expect(lines.filter((text) => text.startsWith('not promoted'))).toHaveLength(1);
    expect(reason()).toContain('1 of the 2 nodes answer');
    expect(again.status().role).toBe('standby');
    const other = await nodes.open('c', anyOne);
    await until(() => isPrimary(again) || isPrimary(other), 'one is', takeoverMs);
    expect(await textsOf(isPrimary(again) ? again : other)).toEqual(['one']);
  });

  it('of two candidates has one winner, which the other follows', async () => {
    const nodes = await RefereedGroup.make(3);
    const { a, b } = await nodes.pair({ synchronousStandbys: 'ANY 1 (*)' });
    const c = await nodes.open('c', anyOne);
    await c.connected();
    await a.appendAndCommit('two');
    await until(() => c.status().flushLsn === 2, 'c has all');
    await until(() => a.status().policy?.inForce === true, 'the rule');
    await until(() => c.status().upstream?.rule?.members.length === 2, 'c is a member');
    await a.close();
    await until(() => isPrimary(b) || isPrimary(c), 'one takes over', takeoverMs);
    const [primary, other] = isPrimary(b) ? [b, c] : [c, b];
    await primary.appendAndCommit('three');
    await until(() => other.status().flushLsn === 3, 'the other follows', takeoverMs);
    expect(other.status().role).toBe('standby');
  });
});
