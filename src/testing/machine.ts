import type { Socket } from 'node:net';
import { type Log, openIn } from '../api/log.js';
import type { OpenOptions } from '../api/options.js';
import { loadBinding } from '../native/binding.js';
import type { NativeBinding, NativeLog, NativeOpenOptions } from '../native/native_log.js';
import type { Environment, Timer } from '../transport/environment.js';
import type { SmallFiles } from '../transport/small_files.js';
import type { EventQueue, SimulatedEvent } from './event_queue.js';
import type { Host, SimulatedNetwork, SimulatedServer } from './network.js';
import type { Random } from './random.js';
import { SimulatedFiles } from './simulated_files.js';
import { Due, type Loss, type NativeDisk, type SteppedLog } from './simulated_log.js';

/** What a machine needs of the simulation that it belongs to. */
export interface MachineHost {
  readonly now: number;
  readonly wallClock: number;
  readonly events: EventQueue;
  readonly network: SimulatedNetwork;
  note(what: string, detail: number): void;
  /** What comes after is the machine's doing. */
  enter(machine: Machine): void;
}

/** How fast a machine's disk is, in milliseconds. */
export interface DiskTimes {
  flush: number;
  /** Up to so much more, drawn for each call. */
  jitter: number;
}

interface OpenLog {
  readonly native: SteppedLog;
  /** Bits of steps that are on their way. */
  scheduled: number;
  housekeepingRest: number;
  /** It was told to cut its tail. */
  cuts: boolean;
}

/** How long the writer takes to notice, and the loop to be woken. */
const WAKE_MS = 0.02;
const IDLE_WATERMARK_MS = 50;
const SPACE_RETRY_MS = 100;

/**
 * A machine with a clock, a disk and a network of its own, that can be paused and go off. Logs that
 * are opened on it are `Log`s, whole, with all that they do decided by the simulation.
 */
export class Machine implements Host {
  readonly name: string;
  readonly address: string;
  readonly servers = new Map<number, SimulatedServer>();
  readonly diskTimes: DiskTimes = { flush: 0.15, jitter: 0.1 };
  life = 0;
  isOn = true;
  isPaused = false;
  /** Called when it has gone off in the middle of a change of its disk (`goOffIn`). */
  onOff: (() => void) | undefined;
  #disk: NativeDisk;
  #files = new SimulatedFiles();
  /** Of the disk: each look at it there is a call into the addon. */
  #clock: Float64Array;
  readonly #host: MachineHost;
  readonly #random: Random;
  readonly #logs = new Set<OpenLog>();
  #held: (() => void)[] = [];
  readonly #atEnd = new Set<() => void>();
  /** Of its wall clock against the simulation's. */
  clockOffset = 0;

  constructor(host: MachineHost, name: string, number: number, random: Random) {
    this.#host = host;
    this.name = name;
    this.address = `10.0.0.${number}`;
    this.#random = random;
    this.#disk = newDisk(random.next());
    this.#clock = this.#disk.clock;
  }

  // -- what an application uses --

  get disk(): NativeDisk {
    return this.#disk;
  }

  /** What lies on it beside the logs, in their directories. */
  get files(): SimulatedFiles {
    return this.#files;
  }

  /** Monotone milliseconds. */
  get now(): number {
    return this.#host.now;
  }

  /** `Log.open` on this machine. Its `dir` is on the machine's disk; hosts are machines' names. */
  open(options: OpenOptions): Promise<Log> {
    this.#host.enter(this);
    return openIn(this.environment(), options);
  }

  /** Resolves after so many simulated milliseconds; never, if the machine goes off before. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  after(ms: number, run: () => void): void {
    this.schedule(ms, run);
  }

  /** The same, to be called off. */
  schedule(ms: number, run: () => void): Planned {
    return new Planned(this, this.#host, ms, run);
  }

  // -- faults --

  /** Nothing happens on it any more: no timer, no message, no step of its disk. */
  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    const held = this.#held;
    this.#held = [];
    for (const run of held) this.after(0, run);
  }

  /**
   * It goes off; of what was written and not flushed `loss` says what is lost. With `nothing` it is
   * a process that is killed: the system goes on, and ends its connections.
   */
  goOff(loss: Loss): void {
    if (!this.isOn) return;
    this.isOn = false;
    this.life += 1;
    this.isPaused = false;
    this.#held = [];
    this.servers.clear();
    for (const run of this.#atEnd) run();
    this.#atEnd.clear();
    this.disk.goOff();
    this.#host.network.left(this, loss === 'nothing');
    const logs = [...this.#logs];
    this.#logs.clear();
    for (const { native } of logs) native.abandon();
    this.disk.comeBack(loss, this.#random.next());
    this.#files.goOff(loss === 'all');
  }

  /** It goes off in the n-th change of its disk from now on, which is 1 for the next. */
  goOffIn(changes: number, after: boolean): void {
    this.disk.dieIn(changes, after);
  }

  goOn(): void {
    this.isOn = true;
  }

  /** An empty disk in place of the one it had. It has to be off. */
  wipe(): void {
    if (this.isOn) throw new Error('a disk is changed while the machine is off');
    this.#disk = newDisk(this.#random.next());
    this.#files = new SimulatedFiles();
    this.#clock = this.#disk.clock;
  }

  // -- inside --

  /** The engine of each log that is open on it. */
  get engines(): NativeLog[] {
    return [...this.#logs].map(({ native }) => native);
  }

  environment(): Environment {
    return new MachineEnvironment(this, this.#host, this.#random);
  }

  /** The steps of its logs that are to come, and whether its disk has died. */
  poll(): void {
    if (!this.isOn) return;
    if (this.disk.dead) {
      this.onOff?.();
      return;
    }
    if (this.isPaused) return;
    for (const log of this.#logs) this.#schedule(log);
  }

  /** Runs it when it goes off the next time; what it gives back calls that off. */
  atEnd(run: () => void): () => void {
    this.#atEnd.add(run);
    return () => this.#atEnd.delete(run);
  }

  openNative(options: NativeOpenOptions): Promise<NativeLog> {
    return new Promise((resolve, reject) => {
      this.after(this.#diskDelay(4), () => {
        try {
          const native = this.disk.open(options);
          this.#logs.add(watched(native));
          resolve(native);
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  /** Runs what was planned in this life of it, now or when it is resumed. */
  perform(life: number, run: () => void): void {
    if (life !== this.life || !this.isOn) return;
    if (this.isPaused) {
      this.#held.push(run);
      return;
    }
    this.#host.enter(this);
    run();
  }

  setClock(): void {
    this.#clock[0] = this.#host.now;
    this.#clock[1] = this.#host.wallClock + this.clockOffset;
  }

  #diskDelay(calls: number): number {
    const { flush, jitter } = this.diskTimes;
    return calls * flush + this.#random.fraction() * jitter;
  }

  #schedule(log: OpenLog): void {
    this.setClock();
    const due = log.native.due();
    if ((due & ~log.scheduled & ~Due.CLOSED) === 0) {
      if (due === Due.CLOSED) this.#logs.delete(log);
      return;
    }
    const wake = (): number => WAKE_MS * this.#random.fraction();
    this.#plan(log, due, Due.FLUSH_BEGINS, wake);
    this.#plan(log, due, Due.FLUSH_ENDS, () => this.#diskDelay(1));
    this.#plan(log, due, Due.TASK, () => this.#diskDelay(2));
    this.#plan(log, due, Due.NEWS, wake);
    this.#plan(log, due, Due.HOUSEKEEPING, () => this.#diskDelay(2) + log.housekeepingRest);
    // One event serves both, so that an idle log costs none.
    const isIdle = (due & (Due.WATERMARK | Due.HOUSEKEEPING)) === Due.WATERMARK;
    if (isIdle) this.#plan(log, due, Due.WATERMARK, () => IDLE_WATERMARK_MS);
  }

  #plan(log: OpenLog, due: number, bit: number, delay: () => number): void {
    if ((due & bit) === 0 || (log.scheduled & bit) !== 0) return;
    log.scheduled |= bit;
    this.after(delay(), () => {
      log.scheduled &= ~bit;
      const { native } = log;
      if (bit === Due.WATERMARK) return; // What it is due for is seen by the next look.
      const isDone = !native.step(bit);
      // One that finds no space tries again later.
      if (bit === Due.HOUSEKEEPING) log.housekeepingRest = isDone ? SPACE_RETRY_MS : 0;
      if (bit === Due.TASK && log.cuts) this.disk.forget();
      this.#host.note(`${this.name} step`, bit);
    });
  }
}

function watched(native: SteppedLog): OpenLog {
  const log: OpenLog = { native, scheduled: 0, housekeepingRest: 0, cuts: false };
  const truncate = native.truncate.bind(native);
  const value: NativeLog['truncate'] = (...how) => {
    log.cuts = true;
    return truncate(...how);
  };
  Object.defineProperty(native, 'truncate', { value });
  return log;
}

function newDisk(seed: number): NativeDisk {
  const binding = loadBinding() as NativeBinding & {
    readonly SimulatedDisk: new (seed: number) => NativeDisk;
  };
  return new binding.SimulatedDisk(seed);
}

/** Something that is to happen on a machine, unless that goes off before. */
class Planned {
  #run: (() => void) | undefined;
  readonly #event: SimulatedEvent;

  constructor(machine: Machine, { events, now }: MachineHost, ms: number, run: () => void) {
    const { life } = machine;
    this.#run = run;
    this.#event = events.add(now + Math.max(0, ms), () => {
      machine.perform(life, () => this.#run?.());
    });
  }

  cancel(): void {
    this.#run = undefined;
    this.#event.run = undefined;
  }
}

class SimulatedTimer implements Timer {
  readonly #machine: Machine;
  readonly #callback: () => void;
  readonly #ms: number;
  readonly #repeats: boolean;
  #planned: Planned | undefined;

  constructor(machine: Machine, callback: () => void, ms: number, repeats: boolean) {
    this.#machine = machine;
    this.#callback = callback;
    this.#ms = Math.max(1, ms);
    this.#repeats = repeats;
    this.refresh();
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  refresh(): this {
    this.clear();
    this.#planned = this.#machine.schedule(this.#ms, () => {
      this.#planned = undefined;
      if (this.#repeats) this.refresh();
      this.#callback();
    });
    return this;
  }

  clear(): void {
    this.#planned?.cancel();
    this.#planned = undefined;
  }
}

/** Of one life of a machine: what still runs of an earlier one reaches nothing. */
class MachineEnvironment implements Environment {
  readonly ownsProcess = false;
  readonly #machine: Machine;
  readonly #host: MachineHost;
  readonly #random: Random;
  readonly #life: number;

  constructor(machine: Machine, host: MachineHost, random: Random) {
    this.#machine = machine;
    this.#host = host;
    this.#random = random;
    this.#life = machine.life;
  }

  get #isOver(): boolean {
    return this.#machine.life !== this.#life || !this.#machine.isOn;
  }

  now(): number {
    return this.#host.now;
  }

  /** It goes on while the machine is paused. */
  bootTime(): number {
    return this.#host.now;
  }

  wallClock(): number {
    return Math.floor(this.#host.wallClock + this.#machine.clockOffset);
  }

  random(): number {
    return this.#isOver ? 0.5 : this.#random.fraction();
  }

  setTimeout(callback: () => void, ms: number): Timer {
    return this.#isOver ? noTimer : new SimulatedTimer(this.#machine, callback, ms, false);
  }

  setInterval(callback: () => void, ms: number): Timer {
    return this.#isOver ? noTimer : new SimulatedTimer(this.#machine, callback, ms, true);
  }

  clearTimer(timer: Timer | undefined): void {
    if (timer instanceof SimulatedTimer) timer.clear();
  }

  setImmediate(callback: () => void): void {
    if (!this.#isOver) this.#machine.after(0, callback);
  }

  connect: Environment['connect'] = (options) =>
    this.#host.network.connect(this.#machine, options, this.#life);

  createServer: Environment['createServer'] = (_, onConnection: (socket: Socket) => void) =>
    this.#host.network.listen(this.#machine, onConnection, this.#life);

  async lookup(host: string): Promise<string> {
    return host === this.#machine.name ? this.#machine.address : host;
  }

  get files(): SmallFiles {
    const { files } = this.#machine;
    const step =
      <A extends unknown[], R>(run: (...args: A) => Promise<R>) =>
      async (...args: A): Promise<R> => {
        await this.#diskStep();
        return run(...args);
      };
    return {
      read: step(files.read),
      write: step(files.write),
      rename: step(files.rename),
      flushDirectory: step(files.flushDirectory),
    };
  }

  /** Never, once the machine has gone off. */
  #diskStep(): Promise<void> {
    if (this.#isOver) return new Promise(() => undefined);
    return new Promise((resolve) => this.#machine.after(this.#machine.diskTimes.flush, resolve));
  }

  binding(): NativeBinding {
    const binding = loadBinding();
    return {
      ...binding,
      open: (options) =>
        this.#isOver ? new Promise(() => undefined) : this.#machine.openNative(options),
      allocateAligned: (bytes) => binding.allocateAligned(bytes),
    };
  }
}

const noTimer: Timer = {
  ref: () => undefined,
  unref: () => undefined,
  refresh: () => undefined,
};
