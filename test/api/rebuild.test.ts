import { describe, expect, it } from 'vitest';
import { promoteDirectory } from '../../src/api/promote_directory.js';
import { Log, type OpenOptions, type Rebuild } from '../../src/index.js';
import { fenceFor } from './group_nodes.js';
import { openLog, until, walError } from './helpers.js';
import {
  following,
  forked,
  pair,
  promoted,
  rejoin,
  shown,
  stopped,
  tails,
} from './rejoin_nodes.js';

const auto = { rejoin: 'auto' } as const;

/** An old primary's directory, of which LSN 2 and 3 were seen, and the new primary. */
async function replaced() {
  const both = await pair();
  await both.a.appendAndCommit('one');
  const b = await forked(both, ['seen', 'seen too'], ['two', 'three', 'four']);
  return { dir: both.a.dir, b };
}

/** A hook that says when it was called, and returns when it is let go. */
function gate() {
  const told: { rebuild: Rebuild; signal: AbortSignal }[] = [];
  let letGo = (): void => undefined;
  const open = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const onRebuild: OpenOptions['onRebuild'] = (rebuild, signal) => {
    told.push({ rebuild, signal });
    return open;
  };
  return { told, onRebuild, letGo };
}

describe('onRebuild', () => {
  it('is called before anything of the new history is shown', async () => {
    const { dir, b } = await replaced();
    const { told, onRebuild, letGo } = gate();
    const a = await rejoin(dir, b, { ...auto, onRebuild });
    const events: Rebuild[] = [];
    a.on('rebuild', (rebuild) => events.push(rebuild));
    await until(() => told.length === 1, 'the hook is called');
    const [file] = tails(dir as string);
    const rebuild = { from: 2, to: 3, file };
    expect(told[0]!.rebuild).toEqual(rebuild);
    await until(() => events.length === 1, 'the event');
    expect(events).toEqual([rebuild]);
    const read: string[] = [];
    const reader = a.read({ from: 1 });
    const reading = (async () => {
      for await (const batch of reader) for (const { data } of batch) read.push(data.toString());
    })();
    // All of it is here, and committed; what lies before can be read.
    await until(() => a.status().flushLsn === 4 && a.status().commitLsn === 4, 'the new history');
    await until(() => read.length === 1, 'the record before');
    await b.appendAndCommit('five');
    await until(() => a.status().flushLsn === 5, 'another one');
    expect(read).toEqual(['one']);
    expect(a.status().rebuild).toEqual({ from: 2, to: 3 });
    const early = a.waitFor(2, { signal: AbortSignal.timeout(20) });
    await expect(early).rejects.toThrow(/timeout/);
    const error = await walError(() => a.read({ from: 3 }).next());
    expect(error).toMatchObject({ code: 'WAL_REBUILD', lsn: 2 });

    letGo();
    await a.waitFor(5);
    await until(() => read.length === 5, 'the rest');
    expect(read).toEqual(['one', 'two', 'three', 'four', 'five']);
    expect(a.status().rebuild).toBeNull();
    expect(told).toHaveLength(1);
    await reader.return?.();
    await reading;
  });

  it('is called again after a restart, until it has returned', async () => {
    const { dir, b } = await replaced();
    const first = gate();
    const a = await rejoin(dir, b, { ...auto, onRebuild: first.onRebuild });
    await until(() => first.told.length === 1, 'the hook is called');
    await until(() => a.status().flushLsn === 4, 'the new history');
    await a.close();
    expect(first.told[0]!.signal.aborted).toBe(true);

    // The new primary is away, and what came from it is committed.
    const second = gate();
    const again = await rejoin(dir, b, { ...auto, onRebuild: second.onRebuild });
    await until(() => second.told.length === 1, 'it is called again');
    expect(second.told[0]!.rebuild).toEqual({ from: 2, to: 3, file: null });
    expect((await again.read({ live: false }).next()).value?.lastLsn).toBe(1);
    expect(again.status()).toMatchObject({ rejoin: null, rebuild: { from: 2, to: 3 } });
    await again.connected();
    second.letGo();
    expect(await shown(again, 4)).toEqual(['one', 'two', 'three', 'four']);
    await again.close();

    const third = gate();
    const last = await rejoin(dir, b, { ...auto, onRebuild: third.onRebuild });
    expect(await shown(last, 4)).toHaveLength(4);
    expect(third.told).toEqual([]);
  });

  it('fails the log where it fails, and is called again then', async () => {
    const { dir, b } = await replaced();
    const onRebuild = async () => {
      throw new Error('the snapshot is gone');
    };
    const a = await rejoin(dir, b, { ...auto, onRebuild });
    await until(() => a.status().state === 'failed', 'it fails');
    expect(a.status().failure?.message).toContain('the snapshot is gone');
    await a.close().catch(() => undefined);
    const { told, onRebuild: good, letGo } = gate();
    letGo();
    const again = await rejoin(dir, b, { ...auto, onRebuild: good });
    expect(await shown(again, 4)).toHaveLength(4);
    expect(told).toHaveLength(1);
  });

  it('waits for what is being applied of the old history', async () => {
    const { dir, b } = await replaced();
    const port = b.status().listening!.port;
    await b.close();
    const { told, onRebuild, letGo } = gate();
    letGo();
    const a = await openLog({ dir, name: 'a', follow: { port }, ...auto, onRebuild });
    let release = (): void => undefined;
    const busy = new Promise<void>((resolve) => {
      release = resolve;
    });
    const applied: string[] = [];
    const applier = a.apply({}, async (batch) => {
      for (const { data } of batch) applied.push(data.toString());
      if (batch.lastLsn > 1) await busy;
    });
    const ends = walError(() => applier.done);
    await until(() => applied.length >= 2, 'it applies what will go');
    await openLog({ dir: b.dir, name: 'b', listen: { port } });
    await a.connected();
    await until(() => a.status().flushLsn === 4, 'the new history');
    expect(told).toEqual([]);
    release();
    expect(await ends).toMatchObject({ code: 'WAL_REBUILD', lsn: 2 });
    await until(() => told.length === 1, 'the hook is called');
    const rest: string[] = [];
    a.apply({ from: told[0]!.rebuild.from }, (batch) => {
      for (const { data } of batch) rest.push(data.toString());
    });
    await until(() => rest.length === 3, 'the rest');
    expect(rest).toEqual(['two', 'three', 'four']);
  });

  it('holds up a promotion, whose wait can be cancelled', async () => {
    const { dir, b } = await replaced();
    const { told, onRebuild, letGo } = gate();
    const a = await rejoin(dir, b, { ...auto, onRebuild });
    await until(() => told.length === 1 && a.status().flushLsn === 4, 'it was cut');
    await b.close();
    const signal = AbortSignal.timeout(30);
    await expect(a.promote({ ...stopped, signal })).rejects.toThrow(/timeout/);
    expect(a.status().role).toBe('standby');
    const promotion = a.promote(stopped);
    letGo();
    expect((await promotion).term.epoch).toBe(3);
    expect(await a.appendAndCommit('five')).toMatchObject({ lsn: 5 });
  });

  it('keeps no other candidate waiting while it holds up a promotion', async () => {
    const { dir, b } = await replaced();
    const { told, onRebuild, letGo } = gate();
    const a = await rejoin(dir, b, { ...auto, onRebuild, listen: { port: 0 } });
    await until(() => told.length === 1 && a.status().flushLsn === 4, 'it was cut');
    const promotion = walError(() => a.promote(stopped));
    const grant = await fenceFor(b, a.status().listening?.port ?? 0, 9);
    expect(grant.term).toMatchObject({ epoch: 9, opener: b.status().nodeId });
    letGo();
    expect(await promotion).toMatchObject({ code: 'WAL_FENCED' });
    expect(a.status()).toMatchObject({ role: 'standby', term: { epoch: 9 } });
  });

  it('is called before a primary is open', async () => {
    const { dir, b } = await replaced();
    const first = gate();
    const a = await rejoin(dir, b, { ...auto, onRebuild: first.onRebuild });
    await until(() => first.told.length === 1 && a.status().flushLsn === 4, 'it was cut');
    await a.close();
    await promoteDirectory({ dir, ...stopped });
    const second = gate();
    let isOpen = false;
    const opening = Log.open({ dir, onRebuild: second.onRebuild }).then((log) => {
      isOpen = true;
      return log;
    });
    await until(() => second.told.length === 1, 'it is called');
    expect(second.told[0]!.rebuild).toEqual({ from: 2, to: 3, file: null });
    expect(isOpen).toBe(false);
    second.letGo();
    const log = await opening;
    const all: string[] = [];
    for await (const batch of log.read({ upTo: 'flush', live: false })) {
      for (const { data } of batch) all.push(data.toString());
    }
    expect(all).toEqual(['one', 'two', 'three', 'four']);
    await log.close();
  });

  it('is called on a standby for what an earlier process may have shown', async () => {
    // Three are asked for: nothing more is committed that anybody knows of.
    const { a, b } = await pair({ synchronousStandbys: 'ANY 3 (*)' });
    a.append('one');
    const c = await openLog({ name: 'c', follow: following(a) });
    await c.connected();
    await until(() => b.status().flushLsn === 1 && c.status().flushLsn === 1, 'all have it');
    const dirs = { b: b.dir, c: c.dir };
    await b.close();
    a.append('c alone has it');
    await until(() => c.status().flushLsn === 2, 'c has it');
    await c.close();
    await a.close();
    const newer = await promoted(dirs.b as string, 'b', ['instead']);
    const { told, onRebuild, letGo } = gate();
    letGo();
    const again = await openLog({ dir: dirs.c, name: 'c', follow: following(newer), onRebuild });
    expect(await shown(again, 2)).toEqual(['one', 'instead']);
    expect(told.map(({ rebuild }) => rebuild)).toMatchObject([{ from: 2, to: 2 }]);
  });

  it('without it the event says so, after a restart too, and the log goes on', async () => {
    const { dir, b } = await replaced();
    const { told, onRebuild } = gate();
    const a = await rejoin(dir, b, { ...auto, onRebuild });
    await until(() => told.length === 1, 'it was cut');
    await a.close();
    const again = await rejoin(dir, b, auto);
    const rebuild = await new Promise((resolve) => again.on('rebuild', resolve));
    expect(rebuild).toEqual({ from: 2, to: 3, file: null });
    expect(await shown(again, 4)).toEqual(['one', 'two', 'three', 'four']);
    expect(again.status().rebuild).toBeNull();
  });

  it('takes a function', async () => {
    const { a } = await pair();
    const wrong = { dir: a.dir, onRebuild: 'yes' as never };
    await expect(Log.open(wrong)).rejects.toThrow(/onRebuild/);
  });
});
