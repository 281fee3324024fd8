import { describe, expect, it } from 'vitest';
import type { Rebuild } from '../../src/index.js';
import { TcpProxy } from '../helpers/proxy.js';
import { codeOf, type openLog, until } from './helpers.js';
import { following, rejoin } from './rejoin_nodes.js';
import { Ledger, names, snapshotsOf } from './snapshot_ledger.js';
import { replaced } from './snapshot_logs.js';

const auto = { rejoin: 'auto' } as const;

describe('a snapshot above a cut', () => {
  it.each([
    ['shorter', ['two']],
    ['longer', ['two', 'three', 'four']],
  ])('is not loaded any more, where the new history is %s', async (_, its) => {
    const { dir, b } = await replaced(its, { last: 3, isLastTaken: true });
    const ledger = new Ledger();
    const told: Rebuild[] = [];
    const rebuilt: (number | undefined)[] = [];
    const onRebuild = async (rebuild: Rebuild) => {
      told.push(rebuild);
      if (told.length > 1) return;
      await until(() => a !== undefined, 'it is open');
      expect(a!.loadedSnapshot).toBeNull();
      expect(await codeOf(() => a!.snapshot({ lsn: 1 }))).toBe('WAL_REBUILD');
      rebuilt.push((await a!.loadSnapshot())?.lsn);
    };
    let a: Awaited<ReturnType<typeof openLog>> | undefined;
    // Not before it is open: a cut while a snapshot is loaded lets the one before be loaded.
    const way = await TcpProxy.open(1);
    const follow = { port: way.port };
    a = await rejoin(dir, b, { ...auto, onRebuild, snapshot: ledger.snapshot, follow });
    way.target = following(b).port;
    const last = its.length + 1;
    await until(() => a!.status().commitLsn === last, 'it follows');
    await until(() => a!.status().rebuild === null, 'it has rebuilt');
    expect(told.map(({ from, to }) => [from, to])).toEqual([[2, 3]]);
    expect(rebuilt).toEqual([1]);
    expect(snapshotsOf(a).map(({ lsn, state }) => [lsn, state])).toEqual([
      [3, 'foreign'],
      [1, 'good'],
    ]);
    a.apply({}, ledger.apply);
    await a.waitFor(last);
    expect(ledger.lines).toEqual(['1', ...its]);
    await a.close();
    await way.close();

    const after = new Ledger();
    const again = await rejoin(dir, b, { ...auto, snapshot: after.snapshot });
    expect(after.loads).toEqual([1]);
    // For good: a history forgets its oldest terms.
    expect(snapshotsOf(again).map(({ lsn }) => lsn)).toEqual([1]);
    expect(names(again).some((name) => /^0{15}3-.*\.snapshot\.foreign$/.test(name))).toBe(true);
    again.apply({}, after.apply);
    await again.waitFor(last);
    expect(after.lines).toEqual(['1', ...its]);
    // Another one, of the new history, counts beside that of LSN 1.
    expect((await again.snapshot()).lsn).toBe(last);
    expect(snapshotsOf(again).map(({ lsn }) => lsn)).toEqual([last, 1]);
  });
});
