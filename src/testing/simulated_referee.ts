import * as check from '../api/validate.js';
import { MemoryStore } from '../referee/memory_store.js';
import { parseRecord } from '../referee/records.js';
import type { Referee } from '../referee/referee.js';
import { StoreReferee } from '../referee/store_referee.js';
import { fileTiming, type RefereeTiming, resolveTiming } from '../referee/timing.js';
import type { Machine, MachineHost } from './machine.js';
import { DiskMemory, RefereePath, type Way } from './referee_path.js';

export interface SimulatedRefereeOptions {
  /** Default: that of `fileReferee`. */
  readonly timing?: Partial<RefereeTiming>;
}

/** Whoever holds the group, as the referee itself knows it. */
export interface GroupHolder {
  readonly nodeId: string;
  /** Of the last grant. */
  readonly epoch: number;
  /** When its lease ends if it is not renewed, in simulated milliseconds. */
  readonly endsMs: number;
}

/**
 * A referee of its own machine, which never fails by itself. It is on the network under `name`:
 * `network.block('a', name)` keeps the questions of `a` from it, `network.block(name, 'a')` loses
 * its answers once it has done what was asked.
 */
export class SimulatedReferee {
  readonly name: string;
  readonly timing: RefereeTiming;
  /** Nothing reaches it, and it answers nobody. */
  isAway = false;
  /** Milliseconds that each message to and from it takes longer. */
  slowMs = 0;
  /** Whether it tells that something has changed; else nodes find out when they look. */
  tells = true;
  readonly #host: MachineHost;
  readonly #store: MemoryStore;
  readonly #memories = new Map<Machine, { readonly disk: unknown; readonly memory: DiskMemory }>();

  constructor(host: MachineHost, name: string, options: SimulatedRefereeOptions = {}) {
    const raw = check.optionsObject(options, 'referee', ['timing']);
    this.timing = resolveTiming(raw.timing, 'referee.timing', fileTiming, 'file');
    this.#host = host;
    this.name = name;
    this.#store = new MemoryStore(() => host.now);
  }

  /** For one log on this machine, in this life of it: `a.open({ referee: referee.of(a), … })`. */
  of(machine: Machine): Referee {
    const { timing } = this;
    return new StoreReferee({
      store: new RefereePath(machine, this.#way(machine), timing.callTimeoutMs),
      timing,
      memory: this.#memoryOf(machine),
      environment: machine.environment(),
    });
  }

  /** undefined: nobody holds the group now. */
  get holder(): GroupHolder | undefined {
    const { entries, leases } = this.#store.now;
    const [holder, leader] = [entries.get('holder'), entries.get('leader')];
    const lease = leases.get(holder?.lease ?? '');
    if (holder === undefined || leader === undefined || lease === undefined) return undefined;
    const { nodeId, reserved } = parseRecord('holder', holder.value);
    if (reserved || lease.endsMs <= this.#host.now) return undefined;
    return { nodeId, epoch: parseRecord('leader', leader.value).epoch, endsMs: lease.endsMs };
  }

  /** Of the last grant, whoever holds the group now; 0: there was none. */
  get epoch(): number {
    const leader = this.#store.now.entries.get('leader');
    return leader === undefined ? 0 : parseRecord('leader', leader.value).epoch;
  }

  /** All that it knows, for `restore`. */
  backup(): unknown {
    return this.#store.backup();
  }

  /** It knows only what it knew then: WAL_REFEREE_PAST for whoever has seen more. */
  restore(backup: unknown): void {
    this.#store.restore(backup);
  }

  #way(machine: Machine): Way {
    const host = this.#host;
    const { network } = host;
    const self = this;
    return {
      store: this.#store,
      get isReached() {
        return !self.isAway && !network.isBlocked(machine, self);
      },
      get isAnswered() {
        return !self.isAway && !network.isBlocked(self, machine);
      },
      get tells() {
        return self.tells;
      },
      delay: () => network.delay() + self.slowMs,
      there: (ms, run) => void host.events.add(host.now + ms, run),
      note: (what, detail) => host.note(what, detail),
    };
  }

  /** It goes with the disk. */
  #memoryOf(machine: Machine): DiskMemory {
    const { disk } = machine;
    const known = this.#memories.get(machine);
    if (known?.disk === disk) return known.memory;
    const memory = new DiskMemory(() => machine.sleep(machine.diskTimes.flush));
    this.#memories.set(machine, { disk, memory });
    return memory;
  }
}
