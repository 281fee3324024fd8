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
  const { timing } = resolved;
  const spec = { kind: 'etcd', options: sendable(options) } as const;
  return new StoreReferee({ store, timing, memory, spec });
}

/** A copy in which PEM is text: a Buffer is none any more in another thread. */
function sendable(options: EtcdOptions): EtcdOptions {
  const { tls, ...plain } = options;
  if (tls === undefined) return plain;
  const { ca, cert, key, ...others } = tls;
  return {
    ...plain,
    tls: {
      ...others,
      ...(ca === undefined ? {} : { ca: [ca].flat().map(String) }),
      ...(cert === undefined ? {} : { cert: String(cert) }),
      ...(key === undefined ? {} : { key: String(key) }),
    },
  };
}
