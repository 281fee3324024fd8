import { type ArchiveChange, describeArchive } from '../archive/archive_status.js';
import type { LogEmitter } from './events.js';
import type { Logger, LogLevel } from './logger.js';
import { describeChange, type SlotChange } from './slots.js';
import type { RecentEvent } from './status.js';

/** How many the status remembers. */
const MAX_RECENT = 32;
const MAX_MESSAGE = 500;
/** Strangers that are turned away: whatever their number, one line of it in this time. */
const REFUSED_MS = 10_000;

type Fields = Readonly<Record<string, unknown>>;

/** What names a log in the lines about it. */
export interface NarratorLog {
  readonly name: string;
  readonly dir: string;
}

/**
 * Says in words what happens to a log: to the logger of the application, and to the status, which
 * remembers the last of it.
 */
export class Narrator {
  readonly #log: NarratorLog;
  readonly #logger: Logger | undefined;
  readonly #now: () => Date;
  readonly #recent: RecentEvent[] = [];
  #lastReason = '';
  #refusedAt = Number.NEGATIVE_INFINITY;

  constructor(log: NarratorLog, events: LogEmitter, logger: Logger | undefined, now = newDate) {
    this.#log = { name: log.name, dir: log.dir };
    this.#logger = logger;
    this.#now = now;
    this.#followRole(events);
    this.#followRebuild(events);
    this.#followStandbys(events);
    this.#followDisks(events);
    events.on('archive', (change) => this.#archiveChanged(change));
    events.on('slot', (change) => this.#slotChanged(change));
  }

  /** The last events, oldest first. */
  get recent(): readonly RecentEvent[] {
    return [...this.#recent];
  }

  tell(level: LogLevel, event: string, message: string, fields: Fields = {}): void {
    const text = oneLine(message);
    // One that comes again at every attempt would push out all others.
    if (level !== 'debug') {
      this.#recent.push({ at: this.#now().toISOString(), level, event, message: text });
      if (this.#recent.length > MAX_RECENT) this.#recent.shift();
    }
    if (this.#logger === undefined) return;
    try {
      const line = { event, log: this.#log.name, dir: this.#log.dir, ...fields };
      const written: unknown = this.#logger[level](line, text);
      if (written instanceof Promise) written.catch(() => undefined);
    } catch {
      // A line that cannot be written is no failure of the log.
    }
  }

  #followRole(events: LogEmitter): void {
    events.on('role', ({ role, term, reason }) => {
      const level = role === 'fenced' ? 'error' : 'info';
      const why = role === 'fenced' ? 'a newer primary exists' : reason;
      this.tell(level, 'role', `${role} now, epoch ${term.epoch}: ${why}`, { role, term, reason });
    });
    events.on('lease', ({ state, reason }) => {
      const text = state === 'held' ? 'may acknowledge commits' : 'acknowledges nothing';
      const why = reason === null ? '' : `: ${reason}`;
      const level = state === 'held' ? 'info' : 'warn';
      this.tell(level, 'lease', `the lease is ${state}: ${text}${why}`, { state, reason });
    });
    events.on('failed', ({ code, message }) => {
      this.tell('error', 'failed', `the log has failed: ${message}`, { code });
    });
    events.on('connected', ({ primary, term }) => {
      this.#lastReason = '';
      this.tell('info', 'connected', `connected to primary ${primary}`, { primary, term });
    });
    events.on('disconnected', ({ reason, final }) => {
      // Told at every attempt to come back: once is enough.
      const level = reason === this.#lastReason ? 'debug' : final ? 'error' : 'warn';
      this.#lastReason = reason;
      this.tell(level, 'disconnected', `no link to the primary: ${reason}`, { reason, final });
    });
  }

  #followRebuild(events: LogEmitter): void {
    events.on('rebuild', ({ from, to, file }) => {
      const text = `LSN ${from} to ${to} were removed: state has to be rebuilt from LSN ${from} on`;
      this.tell('warn', 'rebuild', text, { from, to, file });
    });
  }

  #followStandbys(events: LogEmitter): void {
    events.on('standby', ({ name, nodeId, connected, reason }) => {
      const fields = { standby: name, nodeId, connected, reason };
      if (connected) this.tell('info', 'standby', `standby ${name} connected`, fields);
      else this.tell('warn', 'standby', `standby ${name} left: ${reason}`, fields);
    });
    events.on('refused', ({ address, reason }) => {
      const now = this.#now().getTime();
      const level = Math.abs(now - this.#refusedAt) < REFUSED_MS ? 'debug' : 'warn';
      if (level === 'warn') this.#refusedAt = now;
      this.tell(level, 'refused', `${address} was turned away: ${reason}`, { address, reason });
    });
    events.on('degraded', ({ reason }) => {
      const text = `goes on alone, commits wait for its own disk only: ${reason}`;
      this.tell('warn', 'degraded', text, { reason });
    });
    events.on('restored', ({ degradedSince }) => {
      const text = `commits wait for standbys again; it went on alone since ${degradedSince}`;
      this.tell('info', 'restored', text, { degradedSince });
    });
  }

  #slotChanged(change: SlotChange): void {
    const urgency = { warning: 'warn', lost: 'error' } as const;
    const level = urgency[change.change as keyof typeof urgency] ?? 'info';
    const { name, heldBytes, awayMs } = change;
    this.tell(level, 'slot', describeChange(change), {
      ...{ slot: name, change: change.change, heldBytes, awayMs },
    });
  }

  #archiveChanged(change: ArchiveChange): void {
    const urgency = { working: 'info', behind: 'warn', failing: 'warn' } as const;
    const level = urgency[change.change as keyof typeof urgency] ?? 'error';
    this.tell(level, 'archive', describeArchive(change), { ...change });
  }

  #followDisks(events: LogEmitter): void {
    events.on('slowFlush', ({ milliseconds }) => {
      const text = `a flush took ${(milliseconds / 1000).toFixed(1)} s`;
      this.tell('warn', 'slowFlush', text, { milliseconds });
    });
    events.on('copyDropped', ({ dir, reason }) => {
      this.tell('error', 'copyDropped', `goes on without ${dir}: ${reason}`, { copy: dir, reason });
    });
    events.on('copyRestored', ({ dir }) => {
      this.tell('info', 'copyRestored', `${dir} holds all of the log again`, { copy: dir });
    });
    events.on('damage', ({ damage, damagedRanges }) => {
      const { file = '', offset = 0, reason = '' } = damage[0] ?? {};
      const more = damagedRanges > 1 ? `, and ${damagedRanges - 1} more` : '';
      const text = `damaged on the disk: ${file}, offset ${offset}: ${reason}${more}`;
      this.tell('error', 'damage', text, { file, offset, reason, damagedRanges });
    });
    events.on('repaired', ({ repaired, damagedRanges }) => {
      const text = `damaged ranges repaired since the log was opened: ${repaired}`;
      this.tell('info', 'repaired', text, { repaired, damagedRanges });
    });
  }
}

function newDate(): Date {
  return new Date();
}

/** Reasons come from peers too: a line of theirs must not look like two of ours. */
function oneLine(text: string): string {
  const flat = text.replace(/[\p{Cc}\u2028\u2029]+/gu, ' ');
  return flat.length <= MAX_MESSAGE ? flat : `${flat.slice(0, MAX_MESSAGE - 1)}…`;
}
