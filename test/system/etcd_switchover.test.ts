import { join } from 'node:path';
import { afterAll, beforeAll, describe } from 'vitest';
import { etcdReferee } from '../../src/referee/index.js';
import {
  switchoversWith,
  switchoverTestMs,
  switchoverTiming as timing,
} from '../api/refereed_switchover.js';
import { missing } from '../global/requirements.js';
import { EtcdCluster } from '../helpers/etcd.js';
import { freshDir } from '../helpers/temp.js';

const reason = missing({ programs: ['etcd', 'etcdctl'] });

describe.skipIf(reason)('a switchover with etcd', { timeout: switchoverTestMs }, () => {
  let etcd: EtcdCluster;
  let groups = 0;
  beforeAll(async () => {
    etcd = await EtcdCluster.start(1);
  }, 120_000);
  afterAll(() => etcd?.close());

  switchoversWith(async () => {
    groups += 1;
    const group = `g${groups}`;
    const { endpoints } = etcd;
    const memories = freshDir('memories');
    return (name) =>
      etcdReferee({ endpoints, plaintext: true, group, timing, memory: join(memories, name) });
  });
});
