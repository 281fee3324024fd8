import { EventQueue } from './event_queue.js';
import { Machine, type MachineHost } from './machine.js';
import { type NetworkHost, SimulatedNetwork } from './network.js';
import { Random } from './random.js';
import { SimulatedReferee, type SimulatedRefereeOptions } from './simulated_referee.js';

/** 2020-09-13T12:26:40Z, at the start of each simulation. */
const EPOCH_MS = 1_600_000_000_000;

/**
 * Machines, their network and their time, all decided by one seed: the same seed and the same calls
 * give the same events. Time stands still but in `until` and `run`, which step it from event to
 * event; it costs nothing where nothing happens.
 */
export class Simulation implements MachineHost, NetworkHost {
  readonly random: Random;
  readonly network: SimulatedNetwork;
  readonly events = new EventQueue();
  readonly machines = new Map<string, Machine>();
  now = 0;
  #hash = 0x811c9dc5;
  #steps = 0;
  /** What may have something new to do. */
  readonly #touched = new Set<Machine>();
  /** Called after each event, when all that it set off has run. */
  onEvent: (() => void) | undefined;

  constructor(options: { readonly seed: number }) {
    this.random = new Random(options.seed);
    this.network = new SimulatedNetwork(this);
  }

  get wallClock(): number {
    return EPOCH_MS + this.now;
  }

  /** Of all that has happened: simulations that went the same way have the same. */
  get hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, '0');
  }

  /** Events so far. */
  get steps(): number {
    return this.#steps;
  }

  /** A new machine, which is on. Its name is its host name. */
  machine(name: string): Machine {
    if (this.machines.has(name)) throw new Error(`there is a machine ${name} already`);
    const machine = new Machine(this, name, this.machines.size + 1, this.random.fork());
    this.machines.set(name, machine);
    return machine;
  }

  /**
   * A referee of a group, reached over the network under this name: `referee.of(machine)` is the
   * option `referee` of a log on that machine.
   */
  referee(name = 'referee', options: SimulatedRefereeOptions = {}): SimulatedReferee {
    return new SimulatedReferee(this, name, options);
  }

  /** Steps until the promise settles, and gives what it gives. Throws after `within` ms. */
  async until<T>(promise: Promise<T>, within = Number.POSITIVE_INFINITY): Promise<T> {
    let isSettled = false;
    const settled = (): void => {
      isSettled = true;
    };
    promise.then(settled, settled);
    this.#touchAll();
    const end = this.now + within;
    await turn();
    while (!isSettled) {
      const { next } = this.#polled();
      if (next === undefined || next.at > end) {
        const why = next === undefined ? 'nothing happens any more' : `${within} ms are over`;
        throw new Error(`simulation: what was waited for does not come: ${why}`);
      }
      await this.#step();
    }
    return promise;
  }

  /** Steps for so many simulated milliseconds. */
  async run(ms: number): Promise<void> {
    const end = this.now + ms;
    this.#touchAll();
    await turn();
    for (;;) {
      const { next } = this.#polled();
      if (next === undefined || next.at > end) break;
      await this.#step();
    }
    this.now = end;
  }

  /** Resolves after so many simulated milliseconds, for who runs beside others. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  after(ms: number, run: () => void): void {
    this.events.add(this.now + Math.max(0, ms), () => {
      this.#touchAll();
      run();
    });
  }

  /** Makes what happened a part of the hash. */
  note(what: string, detail: number): void {
    let hash = Math.imul(this.#hash ^ detail, 0x01000193);
    hash = Math.imul(hash ^ (this.now * 1e4), 0x01000193);
    for (let i = 0; i < what.length; i++) hash = Math.imul(hash ^ what.charCodeAt(i), 0x01000193);
    this.#hash = hash;
  }

  hostOf(nameOrAddress: string): Machine | undefined {
    const named = this.machines.get(nameOrAddress);
    if (named !== undefined) return named;
    for (const machine of this.machines.values()) {
      if (machine.address === nameOrAddress) return machine;
    }
    return undefined;
  }

  enter(machine: Machine): void {
    machine.setClock();
    this.#touched.add(machine);
  }

  /** What is done outside of the events of a machine may be done to any. */
  #touchAll(): void {
    for (const machine of this.machines.values()) this.#touched.add(machine);
  }

  #polled(): EventQueue {
    for (const machine of this.#touched) machine.poll();
    this.#touched.clear();
    return this.events;
  }

  async #step(): Promise<void> {
    const event = this.events.take();
    if (event?.run === undefined) return;
    this.#steps += 1;
    this.now = Math.max(this.now, event.at);
    event.run();
    // Microtasks and what waits for the next tick run before the next event.
    await turn();
    this.onEvent?.();
  }
}

/** Lets all run that is due now in the real event loop. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
