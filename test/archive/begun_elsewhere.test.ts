import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { until } from '../api/helpers.js';
import {
  grow,
  hasAll,
  portOf,
  reopened,
  seededStandby,
  trimmedPrimary,
} from '../api/seed_nodes.js';
import { TcpProxy } from '../helpers/proxy.js';
import { freshDir } from '../helpers/temp.js';

it('the archive of a standby that is seeded anew goes on where its log begins', async () => {
  const archive = freshDir('archive');
  const a = await trimmedPrimary();
  const proxy = await TcpProxy.open(portOf(a.log));
  const b = await seededStandby(proxy.port, {
    archive,
    reseed: 'auto',
    onRebuild: async () => {
      await b.applier.done.catch(() => undefined);
      await b.log.loadSnapshot();
      b.log.apply({}, b.ledger.apply);
    },
  });
  await hasAll(b, a.ledger);
  const archived = (): number => b.log.status().archive?.archivedLsn ?? 0;
  await a.ledger.write(a.log, 100, 4000);
  await until(() => archived() > 180, 'the first log is archived');
  proxy.target = 1;
  proxy.cut();
  await until(() => b.log.status().upstream?.connected === false, 'it is away');
  const again = await reopened(a);
  await grow(again, a.ledger);
  proxy.target = portOf(again);
  await hasAll(b, a.ledger);
  const first = b.log.status().firstLsn;
  await a.ledger.write(again, 150, 4000);
  await until(() => archived() > first + 100, 'the second one is archived');
  expect(b.log.status().archive).toMatchObject({ state: 'working', error: null });
  expect(b.log.status().archive?.gap).not.toBeNull();
  expect(b.log.status().archive?.firstLsn).toBe(first);
  const [log] = readdirSync(archive);
  expect(readdirSync(join(archive, log!)).length).toBeGreaterThan(3);
  await b.log.close();
  await again.close();
  await proxy.close();
});
