import {
  type Channel,
  channel,
  type TracingChannel,
  tracingChannel,
} from 'node:diagnostics_channel';
import { State, type Term } from '../native/native_log.js';
import type { CommitResult } from '../replication/commit_waiters.js';
import type { CommitLevel } from '../replication/level.js';
import type { StandbyStatus as HubStandby } from '../transport/primary_hub.js';
import type { LogEmitter, RoleReason } from './events.js';

/** The log that a message is about. */
export interface DiagnosticsLog {
  /** `name` of the log. */
  readonly log: string;
  readonly dir: string;
}

/** `walmirror:append`: a batch was closed. One message a batch, never one a record. */
export interface AppendMessage extends DiagnosticsLog {
  readonly firstLsn: number;
  readonly lastLsn: number;
  /** Log bytes: records and what frames them, ends of segments too. */
  readonly bytes: number;
}

/** `walmirror:flush`: records are on stable storage here, by one flush or a few. */
export interface FlushMessage extends DiagnosticsLog {
  readonly lsn: number;
  readonly bytes: number;
  readonly flushes: number;
  /** How long they took, all together. */
  readonly milliseconds: number;
}

/** `walmirror:replicate`: a standby acknowledged more. */
export interface ReplicateMessage extends DiagnosticsLog {
  readonly standby: string;
  readonly nodeId: string;
  readonly sentLsn: number;
  readonly writeLsn: number;
  readonly flushLsn: number;
  readonly applyLsn: number;
}

/** `walmirror:role`: the log has another role. */
export interface RoleMessage extends DiagnosticsLog {
  readonly role: 'primary' | 'standby' | 'fenced';
  readonly term: Term;
  readonly reason: RoleReason;
}

/** `tracing:walmirror:commit:*`: the wait of one commit, or of those that share its promise. */
export interface CommitTrace extends DiagnosticsLog {
  /** What the first of them asked for. */
  readonly lsn: number;
  readonly level: CommitLevel;
  result?: CommitResult;
  error?: unknown;
}

/** `tracing:walmirror:failover:*`: a promotion. */
export interface FailoverTrace extends DiagnosticsLog {
  readonly action: 'promote' | 'switchover';
  result?: unknown;
  error?: unknown;
}

/** Held here, since a channel that nobody holds is forgotten. */
export const channels = {
  append: channel('walmirror:append'),
  flush: channel('walmirror:flush'),
  replicate: channel('walmirror:replicate'),
  role: channel('walmirror:role'),
  commit: tracingChannel<unknown, CommitTrace>('walmirror:commit'),
  failover: tracingChannel<unknown, FailoverTrace>('walmirror:failover'),
};

interface Trace {
  result?: unknown;
  error?: unknown;
}

/**
 * What `TracingChannel.tracePromise` does, but that it returns the very promise of `begin`: one
 * around it would resolve some microtasks later (docs/adr/0003-one-promise-a-batch.md).
 */
export function trace<C extends Trace & object, T>(
  traced: TracingChannel<unknown, C>,
  context: C,
  begin: () => Promise<T>,
): Promise<T> {
  return traced.start.runStores(context, () => {
    let promise: Promise<T>;
    try {
      promise = begin();
    } catch (error) {
      context.error = error;
      traced.error.publish(context);
      throw error;
    } finally {
      traced.end.publish(context);
    }
    promise.then(
      (result) => {
        context.result = result;
        ended(traced, context);
      },
      (error: unknown) => {
        context.error = error;
        traced.error.publish(context);
        ended(traced, context);
      },
    );
    return promise;
  });
}

function ended<C extends object>(traced: TracingChannel<unknown, C>, context: C): void {
  traced.asyncStart.runStores(context, () => traced.asyncEnd.publish(context));
}

/**
 * Behind the call that it is about: a subscriber that uses the log must not do so in the middle of
 * what the log does.
 */
function tellSoon<T>(to: Channel<unknown, T>, message: T): void {
  process.nextTick(() => to.publish(message));
}

/** Tells of batches that were closed here. Costs two comparisons a batch while nobody listens. */
export class AppendChannel {
  readonly #log: DiagnosticsLog;
  readonly #state: Float64Array;
  #lsn = 0;
  #position = 0;

  constructor(log: DiagnosticsLog, state: Float64Array) {
    this.#log = log;
    this.#state = state;
    this.restart();
  }

  /** What is there by now was not closed here, or opened the term. */
  restart(): void {
    this.#lsn = this.#state[State.CLOSED_LSN]!;
    this.#position = this.#state[State.CLOSED_POSITION]!;
  }

  closed(): void {
    if (channels.append.hasSubscribers) this.#tell();
    this.restart();
  }

  #tell(): void {
    const lastLsn = this.#state[State.CLOSED_LSN]!;
    if (lastLsn === this.#lsn) return;
    const bytes = this.#state[State.CLOSED_POSITION]! - this.#position;
    const message = { ...this.#log, firstLsn: this.#lsn + 1, lastLsn, bytes };
    tellSoon(channels.append, message satisfies AppendMessage);
  }
}

/** Tells of what was flushed here, on a standby too. */
export class FlushChannel {
  readonly #log: DiagnosticsLog;
  readonly #state: Float64Array;
  #position = 0;
  #flushes = 0;
  #milliseconds = 0;

  constructor(log: DiagnosticsLog, state: Float64Array) {
    this.#log = log;
    this.#state = state;
    this.restart();
  }

  /** What is flushed by now opened the term, or was there before. */
  restart(): void {
    this.#position = this.#state[State.FLUSH_POSITION]!;
    this.#flushes = this.#state[State.FLUSHES]!;
    this.#milliseconds = this.#state[State.FLUSH_MS]!;
  }

  progressed(): void {
    const state = this.#state;
    const position = state[State.FLUSH_POSITION]!;
    const flushes = state[State.FLUSHES]!;
    const milliseconds = state[State.FLUSH_MS]!;
    if (channels.flush.hasSubscribers && position > this.#position) {
      tellSoon(channels.flush, {
        ...this.#log,
        lsn: state[State.FLUSH_LSN]!,
        bytes: position - this.#position,
        flushes: flushes - this.#flushes,
        milliseconds: milliseconds - this.#milliseconds,
      } satisfies FlushMessage);
    }
    // Also after a cut, which takes the flushed end back.
    this.restart();
  }
}

/** Tells what each standby acknowledges, as often as that moves. */
export class ReplicateChannel {
  readonly #log: DiagnosticsLog;
  #told = new Map<string, string>();

  constructor(log: DiagnosticsLog) {
    this.#log = log;
  }

  tell(standbys: readonly HubStandby[]): void {
    const told = new Map<string, string>();
    for (const { name, nodeId, sentLsn, write, flush, applyLsn } of standbys) {
      const progress = `${write.lsn} ${flush.lsn} ${applyLsn}`;
      told.set(nodeId, progress);
      if (this.#told.get(nodeId) === progress) continue;
      const lsns = { sentLsn, writeLsn: write.lsn, flushLsn: flush.lsn, applyLsn };
      const message = { ...this.#log, standby: name, nodeId, ...lsns };
      tellSoon(channels.replicate, message satisfies ReplicateMessage);
    }
    this.#told = told;
  }
}

export function tellRoles(log: DiagnosticsLog, events: LogEmitter): void {
  events.on('role', ({ role, term, reason }) => {
    channels.role.publish({ ...log, role, term, reason } satisfies RoleMessage);
  });
}
