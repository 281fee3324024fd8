import type { EtcdOptions } from './etcd_options.js';
import { etcdReferee } from './etcd_referee.js';
import { type FileRefereeOptions, fileReferee } from './file_referee.js';
import type { Referee } from './referee.js';

/** Plain values from which another thread makes a referee like the one that they are of. */
export type RefereeSpec =
  | { readonly kind: 'etcd'; readonly options: EtcdOptions }
  | { readonly kind: 'file'; readonly options: FileRefereeOptions };

export function refereeBy(spec: RefereeSpec): Referee {
  return spec.kind === 'etcd' ? etcdReferee(spec.options) : fileReferee(spec.options);
}
