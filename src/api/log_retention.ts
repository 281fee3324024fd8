import { State } from '../native/native_log.js';
import type { Environment, Timer } from '../transport/environment.js';
import { AgeMarks } from './age_marks.js';
import type { LogCore } from './core.js';
import type { WalError } from './errors.js';
import { readSlots } from './slot_file.js';
import { Slots } from './slots.js';

/** How often slots are looked at, and what is kept. */
const lookMs = 1000;

/**
 * What a log keeps by itself and what it lets go of: its slots and the option `retention`. Looks
 * from time to time, and whenever a segment is full; not at all where there is neither.
 */
export class LogRetention {
  readonly slots: Slots;
  readonly #core: LogCore;
  readonly #ages: AgeMarks | undefined;
  readonly #segmentBytes: number;
  #timer: Timer | undefined;
  #looking: Promise<void> | undefined;
  #segment = 0;
  /** Where the records begin that are kept, when the log last began a segment. */
  #records = { segment: -1, position: 0 };
  #isClosed = false;

  /** Reads what is stored; before anything is let go of. */
  static async open(core: LogCore): Promise<LogRetention> {
    const { native, environment, options } = core;
    const dirs = directoriesOf(core);
    const { logId } = native.info();
    const found = await readSlots(environment.files, dirs, logId);
    const ageMs = options.retention?.age;
    const ages =
      ageMs === undefined
        ? undefined
        : new AgeMarks(ageMs, found.content?.ages ?? [], environment.now());
    const slots = new Slots(
      {
        ...{ native, logId, files: environment.files, dirs: () => directoriesOf(core) },
        ...{ nodeId: native.info().nodeId, name: options.name, ages },
        maxSlotBytes: options.maxSlotBytes ?? Number.POSITIVE_INFINITY,
        maxSlotAge: options.maxSlotAge ?? Number.POSITIVE_INFINITY,
        now: () => environment.now(),
        wallClock: () => environment.wallClock(),
        within: (work, ms, text) => within(environment, work, ms, text),
        isPrimary: () => core.isPrimary,
        changed: (change) => core.events.emit('slot', change),
        fault: (text) => tellFault(core, text),
      },
      found,
    );
    if (slots.fault !== null) tellFault(core, slots.fault);
    else for (const text of found.damaged) core.news.tell('warn', 'slot', `${text}: written anew`);
    return new LogRetention(core, slots, ages);
  }

  private constructor(core: LogCore, slots: Slots, ages: AgeMarks | undefined) {
    this.#core = core;
    this.slots = slots;
    this.#ages = ages;
    this.#segmentBytes = core.info.segmentBytes;
    this.#wake();
  }

  /** The log was flushed further: called for each flush. */
  progressed(): void {
    if (this.#timer === undefined) return;
    const flushed = this.#core.native.state[State.FLUSH_POSITION] ?? 0;
    const segment = Math.floor(flushed / this.#segmentBytes);
    if (segment === this.#segment) return;
    this.#segment = segment;
    void this.look();
  }

  /** There may be slots by now. */
  changed(): void {
    this.#wake();
  }

  /** Stores, moves and trims what is due; never rejects. One look at a time. */
  look(): Promise<void> {
    this.#looking ??= this.#look()
      .catch((error: unknown) => void this.#core.explain(error))
      .finally(() => {
        this.#looking = undefined;
      });
    return this.#looking;
  }

  /** Calls nothing of the engine any more when it resolves. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#core.environment.clearTimer(this.#timer);
    await Promise.allSettled([this.slots.close(), this.#looking]);
  }

  #wake(): void {
    if (this.#timer !== undefined || this.#isClosed) return;
    if (this.#core.options.retention === undefined && !this.slots.isNeeded) return;
    const { environment } = this.#core;
    this.#timer = environment.setInterval(() => void this.look(), lookMs);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    if (!this.#mayGoOn) return;
    const core = this.#core;
    this.#ages?.note(core.driver.commit.position, core.environment.now());
    await this.slots.tick();
    if (!this.#mayGoOn) return;
    // Which snapshot is good shows when one is loaded.
    if (core.snapshots?.isReady === false) return;
    // An old primary may have to go back to before what it has committed itself.
    if (core.driver.role === 'fenced') return;
    // What its primary keeps for others a standby hears while it follows.
    if (!core.isPrimary && !core.driver.upstream().connected) return;
    const keep = await this.#keepFrom();
    if (!this.#mayGoOn || !this.#isWorthIt(keep)) return;
    const bound = Math.min(keep, await this.#notApplied());
    if (!this.#mayGoOn || !this.#isWorthIt(bound)) return;
    const to = Math.min(bound, await this.#behindSnapshots());
    if (!this.#mayGoOn || !this.#isWorthIt(to)) return;
    await core.native.trim(to);
  }

  /** Whether there is a segment before it. */
  #isWorthIt(position: number): boolean {
    const start = this.#core.native.state[State.START_POSITION] ?? 0;
    return this.#segmentOf(position) > this.#segmentOf(start);
  }

  /**
   * What an applier has to apply begins there. It has read further, which is no claim: after a
   * crash it begins behind what it has applied. One that failed is to be begun anew.
   */
  async #notApplied(): Promise<number> {
    const { applier, native, driver } = this.#core;
    if (applier === undefined || (applier.ended && applier.error === undefined)) {
      return Number.POSITIVE_INFINITY;
    }
    const next = applier.appliedLsn + 1;
    if (next > driver.commit.lsn) return Number.POSITIVE_INFINITY;
    return next <= (native.state[State.START_LSN] ?? 0) + 1 ? 0 : native.locate(next);
  }

  /** What the older of the snapshots that are kept needs begins there. */
  async #behindSnapshots(): Promise<number> {
    const { snapshots, native } = this.#core;
    const from = snapshots?.trimmable(Number.MAX_SAFE_INTEGER) ?? Number.MAX_SAFE_INTEGER;
    if (from === Number.MAX_SAFE_INTEGER) return Number.POSITIVE_INFINITY;
    const start = (native.state[State.START_LSN] ?? 0) + 1;
    if (from <= start) return 0;
    return from > (native.state[State.CLOSED_LSN] ?? 0)
      ? Number.POSITIVE_INFINITY
      : native.locate(from);
  }

  get #mayGoOn(): boolean {
    const { state, failure, hasRole } = this.#core;
    return !this.#isClosed && state === 'open' && failure === undefined && hasRole;
  }

  /** What is kept: as much as each of the limits asks for. 0: all of it. */
  async #keepFrom(): Promise<number> {
    const { retention } = this.#core.options;
    if (retention === undefined) return 0;
    const { commit } = this.#core.driver;
    const limits: number[] = [];
    if (retention.bytes !== undefined) limits.push(commit.position - retention.bytes);
    if (this.#ages !== undefined) limits.push(this.#ages.old(this.#core.environment.now()));
    if (retention.records !== undefined && limits.every((each) => each > 0)) {
      limits.push(await this.#recordsFrom(commit.position, commit.lsn - retention.records + 1));
    }
    return Math.min(...limits);
  }

  /** It is looked up once a segment, which is what is let go of. */
  async #recordsFrom(commit: number, lsn: number): Promise<number> {
    const { native } = this.#core;
    const segment = this.#segmentOf(commit);
    if (lsn <= (native.state[State.START_LSN] ?? 0) + 1) return 0;
    if (segment !== this.#records.segment) {
      this.#records = { segment, position: await native.locate(lsn) };
    }
    return this.#records.position;
  }

  #segmentOf(position: number): number {
    return Math.floor(position / this.#segmentBytes);
  }
}

async function within<T>(
  environment: Environment,
  work: Promise<T>,
  ms: number,
  text: string,
): Promise<T> {
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = environment.setTimeout(() => reject(new Error(text)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    environment.clearTimer(timer);
  }
}

function directoriesOf({ native, options }: LogCore): readonly string[] {
  const { copies } = native.info();
  if (copies.length === 0) return [options.dir];
  return copies.filter(({ state }) => state === 'in').map(({ dir }) => dir);
}

function tellFault(core: LogCore, text: string | null): void {
  if (text === null) core.news.tell('info', 'slot', 'the slots are stored again');
  else {
    core.noteError({ code: 'WAL_IO' satisfies WalError['code'], message: text });
    core.news.tell('error', 'slot', `${text}; the log that they claim is kept`);
  }
}
