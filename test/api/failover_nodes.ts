import { type Log, type OpenOptions, WalError } from '../../src/index.js';
import { memoryReferee } from '../../src/referee/memory_referee.js';
import { MemoryStore } from '../../src/referee/memory_store.js';
import type { Referee } from '../../src/referee/referee.js';
import type { RefereeTiming } from '../../src/referee/timing.js';
import { Group, type Name } from './group_nodes.js';
import { openLog, until } from './helpers.js';

/** As short as a loaded machine lets them be. */
const timing: RefereeTiming = {
  ttlMs: 1500,
  marginMs: 150,
  renewEveryMs: 200,
  callTimeoutMs: 500,
};

/** A group whose members know each other and one referee, which the test can take away from one. */
export class RefereedGroup {
  readonly group: Group;
  readonly store = new MemoryStore(() => this.#stoppedMs ?? performance.now());
  #stoppedMs: number | undefined;
  readonly cut = new Set<Name>();

  private constructor(group: Group) {
    this.group = group;
  }

  static async make(count: number): Promise<RefereedGroup> {
    return new RefereedGroup(await Group.make(count));
  }

  /** From now on no lease ends. */
  stopClock(): void {
    this.#stoppedMs = performance.now();
  }

  referee(name: Name): Referee {
    const { store, cut } = this;
    const connection = new Proxy(store, {
      get(target, key) {
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== 'function') return value;
        if (key === 'changed') return value.bind(target);
        return (...args: unknown[]) => {
          if (cut.has(name)) throw new WalError('WAL_REFEREE_AWAY', 'the test has cut it off');
          return value.apply(target, args);
        };
      },
    });
    return memoryReferee({ store: connection, timing });
  }

  open(name: Name, options: Partial<OpenOptions> = {}): Promise<Log> {
    const referee = this.referee(name);
    return openLog({ ...this.group.of(name), referee, ...options });
  }

  /** `a` the primary, `b` its standby, both with all that was committed. */
  async pair(options: Partial<OpenOptions> = {}): Promise<{ a: Log; b: Log }> {
    const a = await this.open('a', { openAlone: true, ...options });
    const b = await this.open('b', options);
    await b.connected();
    await a.appendAndCommit('one');
    await until(() => a.status().policy?.inForce === true, 'the rule');
    await until(() => b.status().flushLsn === 1, 'b has the first record');
    return { a, b };
  }
}

export function isPrimary(log: Log): boolean {
  return log.status().role === 'primary';
}
