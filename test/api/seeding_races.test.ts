import { describe, expect, it } from 'vitest';
import type { LogCore } from '../../src/api/core.js';
import { openLog as openCore } from '../../src/api/open.js';
import { promote } from '../../src/api/promote.js';
import { processDisk, type SnapshotDisk } from '../../src/api/snapshot_disk.js';
import { StandbyDriver } from '../../src/api/standby_driver.js';
import { Log, type OpenOptions } from '../../src/index.js';
import { processEnvironment } from '../../src/transport/environment.js';
import { freshDir } from '../helpers/temp.js';
import { codeOf, openLog, until } from './helpers.js';
import { stopped } from './rejoin_nodes.js';
import { grow, hasAll, portOf, reopened, seededStandby, trimmedPrimary } from './seed_nodes.js';
import { Ledger, names, snapshotsOf } from './snapshot_ledger.js';

async function standby(
  port: number,
  options: Partial<OpenOptions>,
  disk: SnapshotDisk = processDisk,
) {
  const ledger = new Ledger();
  const given = { name: 'b', follow: { port }, snapshot: ledger.snapshot, ...options };
  const core = await openCore(given, processEnvironment, disk);
  const log = Log.over(core);
  const applier = log.apply({}, ledger.apply);
  applier.done.catch(() => undefined);
  return { core, log, ledger, applier };
}

/** The directory of a standby that has all, of a primary that lets go of what comes next then. */
async function leftBehind(before: (b: Awaited<ReturnType<typeof standby>>) => Promise<void>) {
  const a = await trimmedPrimary();
  const b = await standby(portOf(a.log), { dir: freshDir() });
  await hasAll(b, a.ledger);
  await before(b);
  await a.ledger.write(a.log, 1, 4000);
  await hasAll(b, a.ledger);
  await b.log.close();
  const again = await reopened(a);
  await grow(again, a.ledger);
  return { dir: b.log.dir as string, again, ledger: a.ledger };
}

/** Just before the log of this node is replaced. */
function beforeItBegins(core: LogCore, then: () => unknown): void {
  const { native } = core;
  const begin = native.beginAt.bind(native);
  const value: typeof begin = async (...args) => {
    await then();
    await begin(...args);
  };
  Object.defineProperty(native, 'beginAt', { value });
}

const onRebuild = (of: () => Awaited<ReturnType<typeof standby>>) => async () => {
  const b = of();
  await b.applier.done.catch(() => undefined);
  await b.log.loadSnapshot();
  b.log.apply({}, b.ledger.apply).done.catch(() => undefined);
};

describe('while the log of a standby is replaced', () => {
  it('a promotion that has begun is refused, and it follows again', async () => {
    const { dir, again, ledger } = await leftBehind(async () => undefined);
    const options = { dir, reseed: 'auto', onRebuild: onRebuild(() => b) } as const;
    const b = await standby(portOf(again), options);
    let promoting: Promise<unknown> | undefined;
    beforeItBegins(b.core, () => {
      // It has all that its log holds, as yet; and this is not waited for.
      promoting ??= codeOf(() => promote(b.core, { ...stopped, force: true }));
    });
    await until(() => promoting !== undefined, 'it is promoted');
    expect(await promoting).toBe('WAL_SNAPSHOT_MISSING');
    expect(b.log.status().role).toBe('standby');
    await hasAll(b, ledger);
    await b.log.close();
    await again.close();
  });

  it('a snapshot that is taken then does not remove the one that it was given', async () => {
    const { dir, again, ledger } = await leftBehind(async (b) => {
      // Of those that are kept the oldest goes with the next.
      await b.log.snapshot();
    });
    const options = { dir, reseed: 'auto', onRebuild: onRebuild(() => b) } as const;
    const b = await standby(portOf(again), options);
    let taken: Promise<unknown> | undefined;
    beforeItBegins(b.core, async () => {
      taken ??= b.log.snapshot();
      await taken;
    });
    await until(() => taken !== undefined, 'one is taken');
    expect(await taken).toMatchObject({ lsn: 186 });
    await hasAll(b, ledger);
    expect(snapshotsOf(b.log)[0]).toMatchObject({ lsn: 366, state: 'good' });
    await b.log.close();
    await again.close();
  });
});

describe('a standby that was given a snapshot, and was killed before its log reached it', () => {
  it('is given another one, where the primary has let go of what comes next', async () => {
    const a = await trimmedPrimary();
    const dir = freshDir();
    const ending = new AbortController();
    const logger = () => ({
      ...{ debug: () => undefined, info: () => undefined, error: () => undefined },
      warn: (text: unknown, more?: unknown) => {
        const isBegun = `${JSON.stringify(text)} ${more}`.includes('the log begins behind');
        if (isBegun) ending.abort(new Error('killed'));
      },
    });
    const opening = seededStandby(portOf(a.log), {
      ...{ dir, signal: ending.signal, logger: logger() },
    });
    await expect(opening).rejects.toThrow('killed');
    const again = await reopened(a);
    await grow(again, a.ledger);
    const b = await seededStandby(portOf(again), { dir });
    await hasAll(b, a.ledger);
    expect(b.ledger.loads.at(-1)).toBe(365);
    await b.log.close();
    await again.close();
  });
});

/** A disk whose writes wait until they are let through. */
function slowDisk() {
  let open = 0;
  let calls = 0;
  let most = 0;
  let letThrough = (): void => undefined;
  const isThrough = new Promise<void>((resolve) => {
    letThrough = resolve;
  });
  const wrap = (file: Awaited<ReturnType<SnapshotDisk['create']>>): typeof file => {
    open += 1;
    most = Math.max(most, open);
    return {
      ...file,
      write: async (bytes, position) => {
        calls += 1;
        await isThrough;
        await file.write(bytes, position);
      },
      close: async () => {
        open -= 1;
        await file.close();
      },
    };
  };
  const disk: SnapshotDisk = {
    ...processDisk,
    create: async (path) => wrap(await processDisk.create(path)),
    reopen: async (path) => wrap(await processDisk.reopen(path)),
  };
  const seen = () => ({ open, calls, most });
  return { disk, seen, letThrough };
}

describe('a seeding that is cut short while its disk takes its time', () => {
  it('is waited for by the end of the standby', async () => {
    const a = await trimmedPrimary();
    const { disk, seen, letThrough } = slowDisk();
    const ending = new AbortController();
    const options = { dir: freshDir(), signal: ending.signal };
    let isOver = false;
    const opening = standby(portOf(a.log), options, disk).finally(() => {
      isOver = true;
    });
    opening.catch(() => undefined);
    await until(() => seen().calls > 0, 'it writes');
    ending.abort(new Error('enough'));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(isOver).toBe(false);
    letThrough();
    await expect(opening).rejects.toThrow('enough');
    expect(seen().open).toBe(0);
    await a.log.close();
  });

  it('is over before another one begins', async () => {
    const { dir, again, ledger } = await leftBehind(async () => undefined);
    const { disk, seen, letThrough } = slowDisk();
    const options = { dir, reseed: 'auto', onRebuild: onRebuild(() => b) } as const;
    const b = await standby(portOf(again), options, disk);
    await until(() => seen().calls > 0, 'it writes');
    const { driver } = b.core;
    if (!(driver instanceof StandbyDriver)) throw new Error('it is no standby');
    driver.hold('for a moment')();
    await new Promise((resolve) => setTimeout(resolve, 200));
    letThrough();
    await hasAll(b, ledger);
    expect(seen().most).toBe(1);
    expect(names({ dir }).filter((name) => name.endsWith('.seed'))).toEqual([]);
    await b.log.close();
    await again.close();
  });
});

describe('an old primary of whose place in the log too little is left', () => {
  it('is given nothing that it could not begin with', async () => {
    const a = await trimmedPrimary();
    const b = await seededStandby(portOf(a.log));
    await hasAll(b, a.ledger);
    await a.log.close();
    await b.log.promote({ ...stopped, listen: { port: 0 } });
    b.ledger.lines = [...a.ledger.lines];
    await b.applier.stop();
    await grow(b.log, b.ledger);
    await grow(b.log, b.ledger);
    const told: unknown[] = [];
    const old = await openLog({
      ...{ dir: a.log.dir, name: 'a', follow: { port: portOf(b.log) } },
      ...{ snapshot: new Ledger().snapshot, reseed: 'auto', rejoin: 'auto' },
      onSeeding: (seeding) => told.push(seeding),
    });
    expect(await codeOf(() => old.connected())).toBe('WAL_LSN_GONE');
    expect(told).toEqual([]);
    await old.close();
    await b.log.close();
  });
});
