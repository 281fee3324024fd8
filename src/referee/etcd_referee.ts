import { EtcdClient } from './etcd_client.js';
import { type EtcdOptions, resolveEtcd } from './etcd_options.js';
import { EtcdStore } from './etcd_store.js';
import { FileMemory } from './memory.js';
import type { Referee } from './referee.js';
import { StoreReferee } from './store_referee.js';

/**
 * A referee in etcd 3.4 or later, over its JSON gateway. Connects at the first call. Throws
 * TypeError, RangeError and WAL_PLAINTEXT for options that cannot be.
 */
export function etcdReferee(options: EtcdOptions): Referee {
  const resolved = resolveEtcd(options);
  const store = new EtcdStore(new EtcdClient(resolved), resolved.keys);
  const memory = new FileMemory(resolved.memory);
  return new StoreReferee({ store, timing: resolved.timing, memory });
}
