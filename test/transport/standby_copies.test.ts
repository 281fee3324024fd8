import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { parseStandbys } from '../../src/replication/policy.js';
import { freshDir } from '../helpers/temp.js';
import { payload } from '../native/native.js';
import { PrimaryNode, StandbyNode, until } from './nodes.js';

const hub = {
  policy: { synchronousCommit: 'remote_flush', standbys: parseStandbys('ANY 1 (*)') },
} as const;
const open: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close().catch(() => undefined);
});

/** The bytes of the segments of a log up to a position, by name. */
function bytesOf(dir: string, end: number): Map<string, string> {
  const names = readdirSync(dir).filter((name) => name.endsWith('.wal'));
  return new Map(
    names.sort().map((name) => {
      const start = Number.parseInt(name.slice(17, 33), 16);
      const bytes = readFileSync(join(dir, name), 'latin1');
      return [name, bytes.slice(0, Math.max(0, end - start))];
    }),
  );
}

it.each([0, 1])(
  'a standby goes on when directory %i is lost, and fills it again',
  async (lost) => {
    const dirs = [freshDir('b'), freshDir('c')] as const;
    const [gone, left] = [dirs[lost] ?? '', dirs[1 - lost] ?? ''];
    const dir = freshDir('a');
    const primary = await PrimaryNode.open({ dir }, hub);
    open.push(() => primary.close());
    const standby = await StandbyNode.open(primary.log.native, primary.port, {
      dir: dirs[0],
      mirrors: [dirs[1]],
    });
    open.push(() => standby.close());
    await standby.follower.connected();
    let count = 0;
    /** Committed where the standby has flushed it. */
    const commit = async (batches: number): Promise<number> => {
      for (let i = 0; i < batches; i++) {
        count += 1;
        await primary.batch(payload(count, 2000));
      }
      const { position } = await primary.log.settled();
      await until(
        () => primary.hub.commit.position === position,
        () => [standby.heard, primary.hub.status()],
      );
      return position;
    };
    const stateOf = (path: string) =>
      standby.log.native.info().copies.find((copy) => copy.dir === path);
    const expectEqual = (copies: readonly string[], end: number): void => {
      const wanted = bytesOf(dir, end);
      for (const copy of copies) expect(bytesOf(copy, end)).toEqual(wanted);
    };

    expectEqual(dirs, await commit(100));
    rmSync(gone, { recursive: true });
    expectEqual([left], await commit(100));
    await until(
      () => stateOf(gone)?.state === 'dropped',
      () => stateOf(gone),
    );
    expectEqual([left], await commit(100));
    mkdirSync(gone, { mode: 0o700 });
    await until(
      () => stateOf(gone)?.state === 'in',
      () => stateOf(gone),
      20_000,
    );
    expectEqual(dirs, await commit(100));
    expect(standby.heard.filter((said) => said.startsWith('failed'))).toEqual([]);
    expect(standby.heard.filter((said) => said.startsWith('disconnected'))).toEqual([]);
  },
  60_000,
);
