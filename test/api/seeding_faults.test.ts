import { rmSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openLog as openCore } from '../../src/api/open.js';
import { Log, type SeedingStatus } from '../../src/index.js';
import { processEnvironment } from '../../src/transport/environment.js';
import { MessageType } from '../../src/wire/message_type.js';
import { TcpProxy } from '../helpers/proxy.js';
import { freshDir } from '../helpers/temp.js';
import { until } from './helpers.js';
import { hasAll, portOf, seededStandby, trimmedPrimary } from './seed_nodes.js';
import { FaultyDisk, faults } from './snapshot_disks.js';
import { Ledger, names } from './snapshot_ledger.js';

const seeds = [MessageType.SEED_OFFER, MessageType.SEED_PIECE] as readonly number[];

describe('a seeding whose connection is cut', () => {
  it('at any message, before it, in it and behind it, goes on and comes to its end', async () => {
    const a = await trimmedPrimary();
    const proxy = await TcpProxy.open(portOf(a.log));
    const seen = new Set<string>();
    let resumed = 0;
    for (let place = 0; ; place += 1) {
      // Each connection is cut there, and the next one further on.
      const messages = Math.floor(place / 3);
      const bytes = [0, 7, 5000][place % 3]!;
      const cutsBefore = proxy.cuts.length;
      proxy.toStandby.cutAt = { messages, bytes };
      const dir = freshDir();
      let isOpen = false;
      const told: number[] = [];
      const onSeeding = ({ bytes }: SeedingStatus) => told.push(bytes);
      const opening = seededStandby(proxy.port, { dir, onSeeding });
      opening.then(
        () => (isOpen = true),
        () => undefined,
      );
      const isCutAsSeed = (): boolean =>
        proxy.cuts.slice(cutsBefore).some((cut) => cut.some(({ type }) => seeds.includes(type)));
      const isCut = (): boolean => proxy.cuts.length > cutsBefore + 3;
      await until(() => isCut() || isCutAsSeed() || isOpen, 'it is cut');
      proxy.toStandby.cutAt = undefined;
      const b = await opening;
      await hasAll(b, a.ledger);
      // What was stored is where the next one begins.
      resumed += told.filter((bytes, i) => i > 0 && bytes > 0 && bytes === told[i - 1]).length;
      for (const cut of proxy.cuts.slice(cutsBefore)) {
        const last = cut.at(-1);
        if (last !== undefined && seeds.includes(last.type)) seen.add(`${last.type} ${bytes}`);
      }
      expect(names({ dir }).filter((name) => name.endsWith('.seed'))).toEqual([]);
      await b.log.close();
      rmSync(dir, { recursive: true });
      if (messages > 4) break;
    }
    // Before a piece, in it, and behind the last one.
    for (const place of ['27 0', '27 7', '27 5000']) {
      expect(seen.has(place), `cut at ${place}`).toBe(true);
    }
    expect(resumed).toBeGreaterThan(0);
    await proxy.close();
    await a.log.close();
  }, 60_000);

  it('with any of its bytes changed on the way is never taken for whole', async () => {
    const a = await trimmedPrimary();
    const proxy = await TcpProxy.open(portOf(a.log));
    // In the offer and in what the log begins with, and in the header, the state and the trailer.
    for (const at of [200, 230, 260, 300, 400, 5_000, 300_000, 720_300]) {
      proxy.toStandby.flipAt = at;
      const dir = freshDir();
      const told: string[] = [];
      const opening = seededStandby(proxy.port, {
        dir,
        onWaiting: (error) => told.push(error.code),
      });
      opening.catch(() => undefined);
      const before = proxy.connections;
      await until(() => proxy.connections > before + 3, 'it has tried');
      proxy.toStandby.flipAt = Number.POSITIVE_INFINITY;
      const b = await opening.catch(() => seededStandby(proxy.port, { dir }));
      await hasAll(b, a.ledger);
      await b.log.close();
      rmSync(dir, { recursive: true, force: true });
    }
    await proxy.close();
    await a.log.close();
  }, 60_000);
});

describe('a standby whose disk fails, or that is killed, while it is seeded', () => {
  async function open(port: number, dir: string, disk: FaultyDisk, signal?: AbortSignal) {
    const ledger = new Ledger();
    const options = { dir, name: 'b', follow: { port }, snapshot: ledger.snapshot, signal };
    return Log.over(await openCore(options, processEnvironment, disk));
  }

  async function stepsOf(port: number): Promise<readonly string[]> {
    const disk = new FaultyDisk();
    const log = await open(port, freshDir(), disk);
    await log.close();
    return disk.calls;
  }

  it('takes so many steps', async () => {
    const a = await trimmedPrimary();
    const steps = await stepsOf(portOf(a.log));
    await a.log.close();
    const before = steps.slice(0, steps.indexOf('rename') + 2);
    expect(before.filter((step) => step !== 'write')).toEqual([
      ...['prepare', 'create', 'sync', 'close', 'open', 'read', 'read', 'close'],
      ...['rename', 'syncDirectory'],
    ]);
  });

  it.each(faults)(
    'at each of them begins anew or goes on, and never with half of it: %s',
    async (fault) => {
      const a = await trimmedPrimary();
      const port = portOf(a.log);
      const steps = await stepsOf(port);
      for (let at = 0; at < steps.length; at += 1) {
        const dir = freshDir();
        const disk = new FaultyDisk(at, fault);
        const ending = new AbortController();
        const opening = open(port, dir, disk, ending.signal);
        opening.catch(() => undefined);
        await until(() => disk.happened, `step ${at}, ${steps[at]}`);
        // What fails once is tried again.
        if (fault === 'fail') await opening.catch(() => undefined);
        ending.abort(new Error('enough'));
        const log = await opening.catch(() => undefined);
        await log?.close();
        disk.losePower();
        const b = await seededStandby(port, { dir });
        await hasAll(b, a.ledger);
        expect(b.ledger.loads).toEqual([180]);
        expect(names({ dir }).filter((name) => name.endsWith('.seed'))).toEqual([]);
        await b.log.close();
      }
      await a.log.close();
    },
    60_000,
  );
});
