import { readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { Log, type OpenOptions } from '../../src/index.js';
import { freshDir } from '../helpers/temp.js';
import { codeOf, openLog, reopen, small, until, walError } from './helpers.js';
import { Ledger, names, snapshotsOf } from './snapshot_ledger.js';

describe('a snapshot', () => {
  it('is loaded at the next opening, and only the rest is applied', async () => {
    const ledger = new Ledger();
    const log = await openLog({ ...small, snapshot: ledger.snapshot });
    await ledger.write(log, 10);
    const taken = await log.snapshot({ lsn: 10 });
    expect(taken).toMatchObject({ lsn: 10, bytes: ledger.saved.at(-1)!.length });
    await ledger.write(log, 5);
    const after = new Ledger();
    const again = await reopen(log, { snapshot: after.snapshot });
    expect(after.loads).toEqual([10]);
    expect(again.loadedSnapshot).toEqual(taken);
    again.apply({}, after.apply);
    await again.waitFor(15);
    expect(after.applied).toEqual([11, 12, 13, 14, 15]);
    expect(after.lines).toEqual(ledger.lines);
  });

  it('is of a batch boundary where an applier runs, which is held up meanwhile', async () => {
    const ledger = new Ledger();
    const states: [number, number][] = [];
    const save = (lsn: number) => {
      states.push([lsn, ledger.lines.length]);
      return ledger.snapshot.save(lsn, { signal: new AbortController().signal });
    };
    const log = await openLog({ ...small, snapshot: { ...ledger.snapshot, save } });
    log.apply({}, async (batch) => {
      for (const record of batch) {
        // So long that it is asked for in the middle.
        await new Promise((resolve) => setTimeout(resolve, 1));
        ledger.applyOne(record);
      }
    });
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 30; i++) log.append(`${round}.${i}`);
      await log.commit();
      await until(() => ledger.applied.length > round * 30, 'it is at it');
      const { lsn } = await log.snapshot();
      expect(ledger.applied.at(-1)).toBeGreaterThanOrEqual(lsn);
      expect(ledger.saved.at(-1)!.split('\n').length).toBe(lsn);
    }
    expect(states.length).toBeGreaterThan(10);
    // Nothing of a batch that was being applied was in the state.
    for (const [lsn, length] of states) expect(length).toBe(lsn);
  });

  it('holds up the applier until the first piece is there', async () => {
    const ledger = new Ledger();
    const states: [number, number][] = [];
    const save = async function* (lsn: number) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      states.push([lsn, ledger.applied.length]);
      yield 'state';
    };
    const log = await openLog({ ...small, snapshot: { ...ledger.snapshot, save } });
    log.apply({}, ledger.apply);
    await log.appendAndCommit('one');
    await log.waitFor(1);
    const taking = log.snapshot();
    await Promise.all([log.appendAndCommit('two'), taking]);
    await log.waitFor(2);
    expect(states).toEqual([[1, 1]]);
  });

  it('that hangs in `save` holds up the applier until it is given up', async () => {
    const ledger = new Ledger();
    let asked = 0;
    const save = (): Promise<never> => {
      asked += 1;
      return new Promise(() => undefined);
    };
    const log = await openLog({ ...small, snapshot: { ...ledger.snapshot, save } });
    log.apply({}, ledger.apply);
    await log.appendAndCommit('one');
    await log.waitFor(1);
    const cancel = new AbortController();
    const taking = log.snapshot({ signal: cancel.signal });
    await until(() => asked === 1, 'it is asked');
    await expect(log.snapshot()).rejects.toThrow(/being taken or loaded/);
    await log.appendAndCommit('two');
    expect(ledger.applied).toEqual([1]);
    const reason = new Error('enough');
    cancel.abort(reason);
    await expect(taking).rejects.toBe(reason);
    await log.waitFor(2);
    const cutShort = codeOf(() => log.snapshot());
    await until(() => asked === 2, 'it is asked again');
    await log.close();
    expect(await cutShort).toBe('WAL_CLOSED');
    expect(names(log)).toEqual([]);
  });

  it('counts only once the commit position has passed its LSN', async () => {
    const ledger = new Ledger();
    const log = await openLog({
      ...small,
      snapshot: ledger.snapshot,
      listen: { port: 0 },
      synchronousStandbys: 'ANY 1 (*)',
    });
    const lsn = log.append('one');
    ledger.lines.push('one');
    let isTaken = false;
    const taking = log.snapshot({ lsn }).then(() => {
      isTaken = true;
    });
    await until(() => log.status().flushLsn === lsn, 'it is flushed');
    await until(() => names(log).some((name) => name.endsWith('.part')), 'it is written');
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(isTaken).toBe(false);
    expect(snapshotsOf(log)).toEqual([]);
    const port = log.status().listening!.port;
    await openLog({ name: 's', follow: { port } });
    await taking;
    expect(log.status().commitLsn).toBe(lsn);
    expect(snapshotsOf(log)).toHaveLength(1);
  });

  it('is kept until there are two newer ones, which hold the log', async () => {
    const ledger = new Ledger();
    const log = await openLog({ ...small, snapshot: ledger.snapshot });
    const fill = async () => {
      for (let i = 0; i < 30; i++) await ledger.write(log, 1, 30_000);
      return log.snapshot({ lsn: ledger.lines.length });
    };
    await fill();
    await log.trim(31);
    expect(log.status().firstLsn).toBe(1);
    const second = await fill();
    await log.trim(61);
    // Nothing above the older one is let go of.
    const { firstLsn } = log.status();
    expect(firstLsn).toBeGreaterThan(1);
    expect(firstLsn).toBeLessThanOrEqual(31);
    const third = await fill();
    expect(snapshotsOf(log).map(({ lsn }) => lsn)).toEqual([third.lsn, second.lsn]);
    expect(names(log)).toHaveLength(2);
    await log.trim(91);
    expect(log.status().firstLsn).toBeGreaterThan(31);
    expect(log.status().firstLsn).toBeLessThanOrEqual(61);
  });

  it('may be one of a standby, which goes on from it', async () => {
    const primary = await openLog({ ...small, name: 'p', listen: { port: 0 } });
    const follow = { port: primary.status().listening!.port };
    const ledger = new Ledger();
    const standby = await openLog({ name: 's', follow, snapshot: ledger.snapshot });
    standby.apply({}, ledger.apply);
    for (let i = 1; i <= 20; i++) await primary.appendAndCommit(`${i}`);
    await standby.waitFor(20);
    await standby.snapshot();
    const after = new Ledger();
    const again = await reopen(standby, { name: 's', follow, snapshot: after.snapshot });
    again.apply({}, after.apply);
    await primary.appendAndCommit('21');
    await again.waitFor(21);
    expect(after.loads).toEqual([20]);
    expect(after.applied).toEqual([21]);
    expect(after.lines).toHaveLength(21);
  });

  it('of the same record is not taken twice', async () => {
    const ledger = new Ledger();
    const log = await openLog({ ...small, snapshot: ledger.snapshot });
    await ledger.write(log, 3);
    const taken = await log.snapshot({ lsn: 3 });
    expect(await log.snapshot({ lsn: 3 })).toEqual(taken);
    expect(ledger.saved).toHaveLength(1);
  });

  it('that is cancelled leaves nothing behind', async () => {
    const ledger = new Ledger();
    let isLetGo = false;
    const save = async function* (_: number, { signal }: { signal: AbortSignal }) {
      try {
        yield 'the beginning';
        await new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason));
        });
      } finally {
        isLetGo = true;
      }
    };
    const log = await openLog({ ...small, snapshot: { ...ledger.snapshot, save } });
    await ledger.write(log, 3);
    const cancel = new AbortController();
    const taking = log.snapshot({ lsn: 3, signal: cancel.signal });
    await until(() => names(log).length === 1, 'it has begun');
    const reason = new Error('enough');
    cancel.abort(reason);
    await expect(taking).rejects.toBe(reason);
    expect(names(log)).toEqual([]);
    await until(() => isLetGo, 'the generator has ended');
    const closed = log.snapshot({ lsn: 3 });
    await until(() => names(log).length === 1, 'it has begun again');
    const [ended] = await Promise.allSettled([closed, log.close()]);
    expect(ended).toMatchObject({ status: 'rejected', reason: { code: 'WAL_CLOSED' } });
    expect(names(log)).toEqual([]);
  });

  it('whose stream fails, or gives what are no bytes, is none', async () => {
    const ledger = new Ledger();
    const failing: OpenOptions['snapshot'] = {
      ...ledger.snapshot,
      save: (lsn) =>
        lsn === 1
          ? Readable.from(
              (async function* () {
                yield 'some';
                throw new Error('no more');
              })(),
            )
          : lsn === 2
            ? Readable.from([1, 2])
            : (42 as never),
    };
    const log = await openLog({ ...small, snapshot: failing });
    await ledger.write(log, 3);
    await expect(log.snapshot({ lsn: 1 })).rejects.toThrow('no more');
    await expect(log.snapshot({ lsn: 2 })).rejects.toThrow(/bytes or text, got 1/);
    await expect(log.snapshot({ lsn: 3 })).rejects.toThrow(
      /a stream, or an async generator; got 42/,
    );
    expect(names(log)).toEqual([]);
  });

  it('is refused where nobody can say of which record it is', async () => {
    const ledger = new Ledger();
    const log = await openLog({ ...small, snapshot: ledger.snapshot });
    await ledger.write(log, 3);
    await expect(log.snapshot()).rejects.toThrow(/pass lsn, or run an applier/);
    await expect(log.snapshot({ lsn: 4 })).rejects.toThrow(RangeError);
    await expect(log.snapshot({ lsn: 0 })).rejects.toThrow(RangeError);
    const applier = log.apply({ from: 4 }, () => undefined);
    await expect(log.snapshot({ lsn: 3 })).rejects.toThrow(/leave it out/);
    await applier.stop();
    const plain = await openLog(small);
    await expect(plain.snapshot()).rejects.toThrow(/pass snapshot: { save, load } to Log.open/);
    expect(plain.status().snapshots).toBeNull();
    const worker = { dir: freshDir(), replicationThread: 'worker', snapshot: ledger.snapshot };
    expect(await codeOf(() => Log.open(worker as never))).toBe('WAL_UNSUPPORTED');
  });

  it('has a file that only its user reads, and leaves others alone', async () => {
    const ledger = new Ledger();
    const log = await openLog({ ...small, snapshot: ledger.snapshot });
    await ledger.write(log, 2);
    await log.snapshot({ lsn: 2 });
    const directory = join(log.dir, 'snapshots');
    const [name = ''] = names(log);
    expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    const left = `${'0'.repeat(15)}9-1-1.snapshot.part`;
    for (const other of [left, 'notes.part', 'x.snapshot']) {
      writeFileSync(join(directory, other), 'mine');
    }
    await reopen(log, { snapshot: ledger.snapshot });
    expect(names(log).sort()).toEqual([name, 'notes.part', 'x.snapshot'].sort());
  });

  it('is not read through a link', async () => {
    const ledger = new Ledger();
    const log = await openLog({ ...small, snapshot: ledger.snapshot });
    await ledger.write(log, 2);
    await log.snapshot({ lsn: 2 });
    const [name = ''] = names(log);
    const path = join(log.dir, 'snapshots', name);
    const aside = join(freshDir('aside'), '..', 'copy');
    writeFileSync(aside, readFileSync(path));
    await log.close();
    const { rmSync } = await import('node:fs');
    rmSync(path);
    symlinkSync(aside, path);
    const again = await reopen(log, { snapshot: ledger.snapshot });
    expect(again.loadedSnapshot).toBeNull();
    expect(snapshotsOf(again)).toMatchObject([{ state: 'damaged' }]);
    await again.close();
    rmSync(join(log.dir, 'snapshots'), { recursive: true });
    symlinkSync(join(aside, '..'), join(log.dir, 'snapshots'));
    const error = await walError(() => Log.open({ dir: log.dir, snapshot: ledger.snapshot }));
    expect(error).toMatchObject({ code: 'WAL_IO', message: /is no directory/ });
  });
});

describe('a trimmed log', () => {
  it('opens with a good snapshot only, unless it need not', async () => {
    const ledger = new Ledger();
    const log = await openLog({ ...small, snapshot: ledger.snapshot });
    for (let i = 0; i < 2; i++) {
      for (let n = 0; n < 30; n++) await ledger.write(log, 1, 30_000);
      await log.snapshot({ lsn: ledger.lines.length });
    }
    await log.trim(61);
    const { firstLsn } = log.status();
    expect(firstLsn).toBeGreaterThan(1);
    await log.close();
    const directory = join(log.dir, 'snapshots');
    for (const name of readdirSync(directory)) writeFileSync(join(directory, name), 'gone');
    const options = { dir: log.dir, snapshot: new Ledger().snapshot };
    const error = await walError(() => Log.open(options));
    expect(error).toMatchObject({ code: 'WAL_SNAPSHOT_MISSING', lsn: firstLsn });
    expect(error.message).toMatch(/LSN 60: .*it has 4 bytes; that of LSN 30: .*it has 4 bytes/);
    const snapshot = { ...options.snapshot, required: false };
    const again = await openLog({ ...options, snapshot });
    expect(again.loadedSnapshot).toBeNull();
  });
});

it('gives `load` a stream that may be left unread, and passes on what it throws', async () => {
  const ledger = new Ledger();
  const log = await openLog({ ...small, snapshot: ledger.snapshot });
  await ledger.write(log, 2);
  await log.snapshot({ lsn: 2 });
  await log.close();
  const refused = new Error('of another version');
  const load = () => Promise.reject(refused);
  const failing = { dir: log.dir, snapshot: { ...ledger.snapshot, load } };
  await expect(Log.open(failing)).rejects.toBe(refused);
  const unread = { ...ledger.snapshot, load: () => undefined };
  const again = await openLog({ dir: log.dir, snapshot: unread });
  expect(again.loadedSnapshot).toMatchObject({ lsn: 2 });
  expect(await text(Readable.from(['x']))).toBe('x');
});
