import { resolve } from 'node:path';
import * as check from '../api/validate.js';
import { FileStore } from './file_store.js';
import { FileMemory } from './memory.js';
import type { Referee } from './referee.js';
import { StoreReferee } from './store_referee.js';
import { fileTiming, type RefereeTiming, resolveTiming } from './timing.js';

export interface FileRefereeOptions {
  /**
   * Directory that all nodes of the group use, on a file system of this machine; created with mode
   * 0700. One a log.
   */
  readonly directory: string;
  readonly timing?: Partial<RefereeTiming>;
  /** File in which this node keeps what it saw of the referee; not shared with other nodes. */
  readonly memory: string;
}

/**
 * A referee over a locked file, for nodes that all run on one machine, and for tests. It is as
 * lasting as that machine's disk, and no more.
 */
export function fileReferee(options: FileRefereeOptions): Referee {
  const what = 'fileReferee';
  const raw = check.optionsObject(options, what, ['directory', 'timing', 'memory']);
  const directory = check.string(raw.directory, `${what}.directory`);
  const memory = check.string(raw.memory, `${what}.memory`);
  if (directory === '') throw new RangeError(`${what}.directory takes the path of a directory`);
  if (memory === '') throw new RangeError(`${what}.memory takes the path of a file`);
  const timing = resolveTiming(raw.timing, `${what}.timing`, fileTiming, 'file');
  const paths = { directory: resolve(directory), memory: resolve(memory) };
  const store = new FileStore(paths.directory, timing.callTimeoutMs);
  const spec = { kind: 'file', options: { ...paths, timing } } as const;
  return new StoreReferee({ store, timing, memory: new FileMemory(paths.memory), spec });
}
