import { State } from '../native/native_log.js';
import {
  type Answer,
  type Ask,
  type AttachedTo,
  sentError,
  sharedClock,
} from './attached_calls.js';
import type { LogCore } from './core.js';
import { cutShortByClose, isNoMemory } from './failure.js';
import { logStatus } from './log_status.js';
import * as check from './validate.js';

/** Between attempts to tell a thread what there was no memory for. */
const MEMORY_RETRY_MS = 10;

/** What `Log.attach` takes. A plain object: it can be sent to any thread of the process. */
export interface LogHandle {
  /** Names the open log; means nothing in another process, or after it was closed. */
  readonly id: string;
  readonly dir: string;
}

/**
 * Answers the threads that attached to a log, in the one that opened it. What they wait for is
 * waited for here, as if this thread had asked: so it is met, timed out, cut short and refused by
 * the same rules, and there is nothing of a policy, a fence or a failure that they could miss.
 */
export class Attachments {
  readonly handle: LogHandle;
  readonly #core: LogCore;
  /** Waits that end early when nobody waits for them any more, by who asked and its number. */
  readonly #waits = new Map<number, Map<number, AbortController>>();
  readonly #members = new Set<number>();
  #ended = false;

  constructor(core: LogCore) {
    this.#core = core;
    this.handle = Object.freeze({ id: core.native.handle(), dir: core.options.dir });
    core.native.onHeard((from, text) => this.#heard(from, text));
  }

  /** What was asked before the log is closed has been heard after that. */
  async heard(): Promise<void> {
    // The first may come before the loop has looked for what other threads have sent.
    for (let i = 0; i < 2; i++) await this.#turn();
  }

  /**
   * The log is about to be closed, or nobody waits for that any more: waits end. `flushed`: all
   * that was appended is. Who cannot be told that, for want of memory, does not know it then.
   */
  end(flushed: boolean): void {
    this.#ended = true;
    if (!flushed) return;
    for (const member of this.#members) this.#isTold(member, { id: 0 });
  }

  #heard(from: number, text: string | undefined): void {
    if (text === undefined) {
      for (const wait of this.#waits.get(from)?.values() ?? []) wait.abort();
      this.#waits.delete(from);
      this.#members.delete(from);
      this.#core.drains.refusedElsewhere.delete(from);
      return;
    }
    this.#members.add(from);
    const ask = JSON.parse(text) as Ask;
    if (ask.call === 'cancel') {
      this.#waits.get(from)?.get(ask.of)?.abort();
      return;
    }
    this.#answer(from, ask).then(
      (value) => this.#tell(from, { id: ask.id, value }),
      (error: unknown) => this.#tell(from, { id: ask.id, error: sentError(error) }),
    );
  }

  /** Without the memory for it now, it is told when there is some. */
  #tell(to: number, answer: Answer): void {
    if (this.#isTold(to, answer)) return;
    this.#core.environment.setTimeout(() => {
      if (this.#core.state !== 'closed') this.#tell(to, answer);
    }, MEMORY_RETRY_MS);
  }

  #turn(): Promise<void> {
    return new Promise((resolve) => this.#core.environment.setImmediate(resolve));
  }

  #isTold(to: number, answer: Answer): boolean {
    try {
      this.#core.native.tell(to, JSON.stringify(answer));
      return true;
    } catch (error) {
      if (isNoMemory(error)) return false;
      throw error;
    }
  }

  async #answer(from: number, ask: Ask): Promise<unknown> {
    const core = this.#core;
    if (ask.call === 'status') return logStatus(core);
    if (ask.call === 'flush') {
      await core.keepAlive.during(this.#flushed());
      return null;
    }
    // What was appended before the log is closed may still be met by the flush of that.
    const isMetYet = core.state === 'closing' && core.failure === undefined && !this.#ended;
    if (!(ask.call === 'commit' && isMetYet)) core.requireOpen();
    switch (ask.call) {
      case 'attach':
        core.appender.share();
        return this.#attachedTo();
      case 'commit':
        return this.#cancellable(from, ask.id, (signal) => this.#commit(ask, signal));
      case 'drain':
        await this.#cancellable(from, ask.id, (signal) =>
          core.keepAlive.during(core.drains.wait(ask.bytes, signal, () => ask.refused)),
        );
        return null;
      case 'refused':
        if (ask.sizes === undefined) core.drains.refusedElsewhere.delete(from);
        else {
          core.drains.refusedElsewhere.set(from, ask.sizes);
          core.appender.wantRing();
        }
        return null;
      default:
        throw new TypeError(`an attached log asks for ${ask.call}`);
    }
  }

  #attachedTo(): AttachedTo {
    const { info, options, appender } = this.#core;
    return {
      name: options.name,
      dir: options.dir,
      maxRecordBytes: info.maxRecordBytes,
      layout: appender.room.layout,
    };
  }

  async #commit(ask: Extract<Ask, { call: 'commit' }>, signal: AbortSignal) {
    const { lsn, level, since, appended = since } = ask;
    const { appender, driver } = this.#core;
    if (driver.commits === undefined) throw driver.refusal();
    appender.requireSameLife(Math.min(since, appended));
    check.integer(lsn, 'commit(lsn)', 0, appender.lsn);
    const sinceMs = this.#core.environment.now() - Math.max(0, sharedClock() - since);
    return driver.commits.commit(lsn, level, signal, sinceMs);
  }

  async #flushed(): Promise<void> {
    const core = this.#core;
    const last = core.appender.lsn;
    core.appender.close();
    const { state } = core.native;
    await core.flushes.until(() => {
      if (core.failure !== undefined) throw core.failure;
      if ((state[State.FLUSH_LSN] ?? 0) >= last) return true;
      // In another role by now, no batch is open that anybody could close.
      const closed = state[State.CLOSED_POSITION] ?? 0;
      if (!core.appender.isAccepting && (state[State.FLUSH_POSITION] ?? 0) >= closed) return true;
      if (this.#ended) throw cutShortByClose();
      return false;
    });
    // The commits that it meets are answered before this is, reported or not.
    await core.driver.admitting?.catch(() => undefined);
    if (core.state !== 'closed') core.driver.progressed();
    await this.#turn();
  }

  async #cancellable<T>(
    from: number,
    id: number,
    wait: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const controller = new AbortController();
    const waits = this.#waits.get(from) ?? new Map<number, AbortController>();
    this.#waits.set(from, waits.set(id, controller));
    try {
      return await wait(controller.signal);
    } finally {
      waits.delete(id);
      if (waits.size === 0 && this.#waits.get(from) === waits) this.#waits.delete(from);
    }
  }
}
