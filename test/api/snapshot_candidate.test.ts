import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Logger, LogLine } from '../../src/api/logger.js';
import type { SnapshotOptions } from '../../src/index.js';
import { isPrimary, RefereedGroup } from './failover_nodes.js';
import { anyOne } from './group_nodes.js';
import { until } from './helpers.js';
import { Ledger } from './snapshot_ledger.js';

const ttlMs = 1500;

/** `b` has a snapshot, is opened again, and loads it until it is let; `a` is gone. */
async function loading() {
  const nodes = await RefereedGroup.make(2);
  const ledger = new Ledger();
  const a = await nodes.open('a', { openAlone: true, ...anyOne });
  const first = await nodes.open('b', { ...anyOne, snapshot: ledger.snapshot });
  await first.connected();
  await a.appendAndCommit('one');
  await until(() => a.status().policy?.inForce === true, 'the rule');
  await until(() => first.status().commitLsn === 1, 'b has the first record');
  ledger.lines = ['one'];
  await first.snapshot({ lsn: 1 });
  await first.close();
  let end = (_: Error | undefined): void => undefined;
  let isLoading = false;
  const ends = new Promise<void>((resolve, reject) => {
    end = (error) => (error === undefined ? resolve() : reject(error));
  });
  const load: SnapshotOptions['load'] = () => {
    isLoading = true;
    return ends;
  };
  const roles: string[] = [];
  const hear: LogLine = ({ event }, message) => {
    if (event === 'role') roles.push(message);
  };
  const logger: Logger = { debug: hear, info: hear, warn: hear, error: hear };
  const opening = nodes.open('b', { ...anyOne, snapshot: { ...ledger.snapshot, load }, logger });
  opening.catch(() => undefined);
  await until(() => isLoading, 'it loads');
  await sleep(500);
  await a.close();
  nodes.cut.add('a');
  return { nodes, opening, roles, end };
}

it('a standby is no candidate before its state is loaded', async () => {
  const { opening, roles, end } = await loading();
  await sleep(2 * ttlMs);
  expect(roles).toEqual([]);
  end(undefined);
  const b = await opening;
  await until(() => isPrimary(b), 'it takes the place of a');
});

it('an opening whose load fails beside a group that goes on leaves nothing open', async () => {
  const { nodes, opening, end } = await loading();
  await sleep(ttlMs);
  end(new Error('broken'));
  await expect(opening).rejects.toThrow('broken');
  const b = await nodes.open('b', anyOne);
  await until(() => isPrimary(b), 'it takes the place of a');
});
