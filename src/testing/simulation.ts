import { EventQueue } from './event_queue.js';
import { Machine, type MachineHost } from './machine.js';
import { type NetworkHost, SimulatedNetwork } from './network.js';
import { Random } from './random.js';
import { SimulatedReferee, type SimulatedRefereeOptions } from './simulated_referee.js';

/** 2020-09-13T12:26:40Z, at the start of each simulation. */
const EPOCH_MS = 1_600_000_000_000;
/** Events in one turn of the real event loop. */
const STEPS_A_TURN = 32;

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
  /** An event has run, and what it set off may still. */
  #isRunning = false;
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
    const isOver = await this.#advance(this.now + within, () => isSettled);
    if (!isOver) {
      const why = this.events.size === 0 ? 'nothing happens any more' : `${within} ms are over`;
      throw new Error(`simulation: what was waited for does not come: ${why}`);
    }
    return promise;
  }

  /** Steps for so many simulated milliseconds. */
  async run(ms: number): Promise<void> {
    const end = this.now + ms;
    this.#touchAll();
    await this.#advance(end, () => false);
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

  /**
   * Steps until it is over, which is true, or until nothing is left that happens before `end`. An
   * event runs when all that the one before it has set off has run, microtasks and what waits for
   * the next tick: so Node does it between two immediates, of which a few a turn of its loop cost
   * less than a turn each.
   */
  #advance(end: number, isOver: () => boolean): Promise<boolean> {
    return new Promise((resolve, reject) => {
      let left = 0;
      let isDone = false;
      const step = (): void => {
        if (isDone) return;
        try {
          const answer = this.#step(end, isOver);
          if (answer === undefined) return;
          isDone = true;
          resolve(answer);
        } catch (error) {
          isDone = true;
          reject(error);
        }
      };
      const immediate = (): void => {
        left -= 1;
        if (isDone) return;
        // An event is a microtask, as what follows it is.
        void nothing.then(step);
        if (left === 0) more();
      };
      const more = (): void => {
        left = STEPS_A_TURN;
        for (let i = 0; i < STEPS_A_TURN; i++) setImmediate(immediate);
      };
      more();
    });
  }

  /** One event; whether it is over where none is left to run. */
  #step(end: number, isOver: () => boolean): boolean | undefined {
    if (this.#isRunning) {
      this.#isRunning = false;
      this.onEvent?.();
    }
    for (;;) {
      if (isOver()) return true;
      const { next } = this.#polled();
      if (next === undefined || next.at > end) return false;
      const event = this.events.take();
      if (event?.run === undefined) continue;
      this.#steps += 1;
      this.now = Math.max(this.now, event.at);
      event.run();
      this.#isRunning = true;
      return undefined;
    }
  }
}

const nothing = Promise.resolve();
