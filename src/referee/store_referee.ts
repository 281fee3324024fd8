import { WalError } from '../api/errors.js';
import { type NumberedRule, sameRule } from '../replication/rule.js';
import { type Environment, processEnvironment } from '../transport/environment.js';
import { refusalOf } from './eligibility.js';
import { deadlineOf } from './lease.js';
import type { RefereeMemory } from './memory.js';
import {
  formatRecord,
  type ProgressRecord,
  parseRecord,
  type RecordName,
  recordNames,
} from './records.js';
import type {
  Answer,
  CallOptions,
  Claim,
  Grant,
  GroupView,
  Referee,
  Renewal,
  Sight,
} from './referee.js';
import { decidesAlike, laterSeen, pastFault, type Seen, seenIn } from './seen.js';
import type { RefereeSpec } from './spec.js';
import {
  absent,
  type Expected,
  type RefereeStore,
  type Snapshot,
  versionOf,
  type Write,
} from './store.js';
import type { RefereeTiming } from './timing.js';
import { watchStore } from './watch_store.js';

/** What a compare-and-swap is tried anew after others have written, before it is given up. */
const mostAttempts = 8;

interface Looked {
  readonly snapshot: Snapshot;
  readonly view: GroupView;
}

export interface StoreRefereeOptions {
  readonly store: RefereeStore;
  readonly timing: RefereeTiming;
  readonly memory: RefereeMemory;
  /** Clocks of the node that asks, the ones of its log. Default: those of the process. */
  readonly environment?: Pick<Environment, 'bootTime' | 'wallClock'>;
  /** From which another thread makes the same one; none: it is for this thread alone. */
  readonly spec?: RefereeSpec;
}

/** The referee over a store of records: the same rules, whatever the store is. */
export class StoreReferee implements Referee {
  readonly timing: RefereeTiming;
  readonly #store: RefereeStore;
  readonly #memory: RefereeMemory;
  readonly #environment: Pick<Environment, 'bootTime' | 'wallClock'>;
  readonly #closing = new AbortController();
  #seen: Seen | undefined;
  #loaded: Promise<void> | undefined;
  /** Of what was stored last; stores follow each other. */
  #stored: Seen | undefined;
  #storing: Promise<void> = Promise.resolve();
  #past: string | undefined;
  readonly #spec: RefereeSpec | undefined;
  #standIn: Pick<Referee, 'forget'> | undefined;

  constructor({
    store,
    timing,
    memory,
    spec,
    environment = processEnvironment,
  }: StoreRefereeOptions) {
    this.#spec = spec;
    this.#store = store;
    this.timing = timing;
    this.#memory = memory;
    this.#environment = environment;
  }

  /** @internal No property of the object: it may hold a password. */
  get spec(): RefereeSpec | undefined {
    return this.#spec;
  }

  /** @internal Another thread has made one of `spec`, which is asked in this one's place. */
  set standIn(standIn: Pick<Referee, 'forget'> | undefined) {
    this.#standIn = standIn;
  }

  async view({ signal }: CallOptions = {}): Promise<GroupView> {
    return (await this.#look(signal)).view;
  }

  async acquire(claim: Claim, { signal }: CallOptions = {}): Promise<Answer> {
    const { snapshot, view } = await this.#look(signal);
    const refusal = refusalOf(claim, view);
    if (refusal !== undefined) return { refusal, view };
    const { logId, nodeId, name, place } = claim;
    const epoch = Math.max(view.leader?.epoch ?? 0, claim.epoch) + 1;
    const leader = formatRecord('leader', { logId, epoch, nodeId, name });
    const sentMs = this.#environment.bootTime();
    const lease = await this.#store.grant(this.timing.ttlMs, signal);
    // Whatever the refusal was decided by must be there still, or not there still.
    const expected = versions(snapshot, ...recordNames);
    const taken = await this.#takeWith(lease.id, expected, { leader }, claim, signal);
    if (taken.snapshot.entries.get('holder')?.lease !== lease.id) {
      await this.#drop(lease.id);
      const message = 'another was faster, or what decides has changed';
      return { refusal: { reason: 'raced', message }, view: taken.view };
    }
    const deadlineMs = deadlineOf(sentMs, lease.ttlMs, this.timing);
    const leaderVersion = versionOf(taken.snapshot, 'leader');
    const { rule } = view;
    return { grant: { epoch, nodeId, place, deadlineMs, lease: lease.id, leaderVersion, rule } };
  }

  async regain(grant: Grant, { signal }: CallOptions = {}): Promise<Grant | undefined> {
    const { leaderVersion } = grant;
    const looked = await this.#look(signal);
    if (isOthers(grant, looked)) return undefined;
    if (looked.view.holder !== undefined) throw ownLease();
    const sentMs = this.#environment.bootTime();
    const lease = await this.#store.grant(this.timing.ttlMs, signal);
    const expected: Expected = { leader: leaderVersion, holder: absent };
    const taken = await this.#takeWith(lease.id, expected, {}, grant, signal);
    if (taken.snapshot.entries.get('holder')?.lease !== lease.id) {
      await this.#drop(lease.id);
      if (isOthers(grant, taken)) return undefined;
      throw ownLease();
    }
    const deadlineMs = deadlineOf(sentMs, lease.ttlMs, this.timing);
    return { ...grant, deadlineMs, lease: lease.id };
  }

  async renew(grant: Grant, { signal }: CallOptions = {}): Promise<Renewal | undefined> {
    const before = await this.#before();
    const sentMs = this.#environment.bootTime();
    const renewed = await this.#store.renew(grant.lease, signal);
    if (renewed === undefined) return undefined;
    const { view } = await this.#take(before, renewed.snapshot);
    if (!isHeldBy(grant, renewed.snapshot)) return undefined;
    return { deadlineMs: deadlineOf(sentMs, renewed.ttlMs, this.timing), view };
  }

  async release(grant: Grant, successor?: string, options: CallOptions = {}): Promise<boolean> {
    const { signal } = options;
    if (successor === undefined) {
      const { snapshot } = await this.#look(signal);
      const isHeld = isHeldBy(grant, snapshot);
      if (isHeld) await this.#store.revoke(grant.lease, signal);
      return isHeld;
    }
    // It is kept for one time to live from here on.
    const renewal = await this.renew(grant, options);
    if (renewal === undefined) return false;
    const value = formatRecord('holder', { nodeId: successor, reserved: true });
    return await this.#asHolder(grant, signal, () => ({ holder: { value, lease: grant.lease } }));
  }

  recordRule(grant: Grant, numbered: NumberedRule, options: CallOptions = {}): Promise<boolean> {
    const { number, rule } = numbered;
    const { epoch, nodeId } = grant;
    const value = formatRecord('rule', { epoch, number, primary: nodeId, rule });
    return this.#asHolder(grant, options.signal, ({ rule: known }) => {
      if (known?.epoch !== epoch || known.number < number) return { rule: { value } };
      if (known.number === number && sameRule(known.rule, rule)) return undefined;
      throw new RangeError(`rule ${known.number} of this epoch is recorded: not ${number} again`);
    });
  }

  recordProgress(
    grant: Grant,
    { number, lsn }: Pick<ProgressRecord, 'number' | 'lsn'>,
    options: CallOptions = {},
  ): Promise<boolean> {
    const { epoch } = grant;
    const value = formatRecord('progress', { epoch, number, lsn });
    return this.#asHolder(grant, options.signal, ({ progress: known }) => {
      const isNews = known?.epoch !== epoch || known.number < number || known.lsn < lsn;
      return isNews ? { progress: { value } } : undefined;
    });
  }

  async pause(by: string, reason: string, { signal }: CallOptions = {}): Promise<void> {
    const value = formatRecord('pause', { by, reason, at: this.#environment.wallClock() });
    await this.#swap(['pause'], signal, ({ view: { pause } }) =>
      pause?.by === by && pause.reason === reason ? undefined : { pause: { value } },
    );
  }

  async resume({ signal }: CallOptions = {}): Promise<void> {
    await this.#swap(['pause'], signal, ({ view }) =>
      view.pause === undefined ? undefined : { pause: null },
    );
  }

  watch({ signal }: { readonly signal: AbortSignal }): AsyncIterable<Sight> {
    const ends = AbortSignal.any([signal, this.#closing.signal]);
    return watchStore(this.#store, this.timing.renewEveryMs, () => this.#look(ends), ends);
  }

  async forget(): Promise<void> {
    if (this.#standIn !== undefined) return this.#standIn.forget();
    // After what is being stored, which would be there again; and before what comes.
    const cleared = this.#storing.then(async () => {
      await this.#memory.clear();
      this.#seen = undefined;
      this.#stored = undefined;
      this.#past = undefined;
      this.#loaded = Promise.resolve();
    });
    this.#storing = cleared.catch(() => undefined);
    await cleared;
  }

  close(): void {
    this.#closing.abort();
    this.#store.close();
  }

  /** Takes the lease and what goes with it, if nothing else was written meanwhile. */
  async #takeWith(
    lease: string,
    expected: Expected,
    stay: { readonly leader?: string },
    { nodeId, place }: Pick<Claim, 'nodeId' | 'place'>,
    signal: AbortSignal | undefined,
  ): Promise<Looked> {
    const holder = { value: formatRecord('holder', { nodeId, reserved: false, place }), lease };
    const leader = stay.leader === undefined ? {} : { leader: { value: stay.leader } };
    const before = await this.#before();
    try {
      const { snapshot } = await this.#store.commit(expected, { ...leader, holder }, signal);
      return await this.#take(before, snapshot);
    } catch (error) {
      // It may have been taken: nobody is to wait for it longer than needed.
      await this.#drop(lease);
      throw error;
    }
  }

  /** Writes while this grant holds, until it is written; false: it holds no more. */
  async #asHolder(
    grant: Grant,
    signal: AbortSignal | undefined,
    change: (view: GroupView) => Partial<Record<RecordName, Write>> | undefined,
  ): Promise<boolean> {
    let isHeld = true;
    await this.#swap(['leader', 'holder', 'rule', 'progress'], signal, ({ snapshot, view }) => {
      isHeld = isHeldBy(grant, snapshot);
      return isHeld ? change(view) : undefined;
    });
    return isHeld;
  }

  /**
   * Decides by what is there, and writes if that is so still; as often as others write in between.
   * An answer that was lost shows as a change that is there already.
   */
  async #swap(
    names: readonly RecordName[],
    signal: AbortSignal | undefined,
    change: (looked: Looked) => Partial<Record<RecordName, Write>> | undefined,
  ): Promise<void> {
    let looked = await this.#look(signal);
    for (let attempt = 0; attempt < mostAttempts; attempt += 1) {
      const writes = change(looked);
      if (writes === undefined) return;
      const before = await this.#before();
      const expected = versions(looked.snapshot, ...names);
      const { applied, snapshot } = await this.#store.commit(expected, writes, signal);
      looked = await this.#take(before, snapshot);
      if (applied) return;
    }
    throw new WalError('WAL_REFEREE_AWAY', `others wrote ${mostAttempts} times in between`);
  }

  async #look(signal: AbortSignal | undefined): Promise<Looked> {
    const before = await this.#before();
    return await this.#take(before, await this.#store.read(signal));
  }

  /** What had been seen when a question is asked: its answer must not be older. */
  async #before(): Promise<Seen | undefined> {
    this.#loaded ??= this.#load();
    await this.#loaded;
    if (this.#past !== undefined) throw pastError(this.#past);
    return this.#seen;
  }

  async #load(): Promise<void> {
    try {
      this.#seen = await this.#memory.load();
      this.#stored = this.#seen;
    } catch (error) {
      this.#loaded = undefined;
      throw error;
    }
  }

  /** Takes an answer, or finds it to be of the past. */
  async #take(before: Seen | undefined, snapshot: Snapshot): Promise<Looked> {
    const view = viewOf(snapshot);
    const now = seenIn(snapshot, view.leader);
    const fault = before === undefined ? undefined : pastFault(before, now);
    if (fault !== undefined) {
      this.#past ??= fault;
      throw pastError(this.#past);
    }
    this.#seen = laterSeen(this.#seen, now);
    await this.#remember();
    return { snapshot, view };
  }

  /** Before anybody acts by it: what decides who is promoted is remembered here. */
  #remember(): Promise<void> {
    const stored = this.#storing.then(async () => {
      const seen = this.#seen;
      if (seen === undefined || decidesAlike(this.#stored, seen)) return;
      await this.#memory.store(seen);
      this.#stored = seen;
    });
    this.#storing = stored.catch(() => undefined);
    return stored;
  }

  /** As well as it can be: a lease that stays ends by itself. */
  async #drop(lease: string): Promise<void> {
    await this.#store.revoke(lease).catch(() => undefined);
  }
}

function viewOf({ entries }: Snapshot): GroupView {
  const view: { -readonly [Name in RecordName]?: unknown } = {};
  for (const name of recordNames) {
    const entry = entries.get(name);
    if (entry !== undefined) view[name] = parseRecord(name, entry.value);
  }
  return view as GroupView;
}

function isHeldBy(grant: Grant, snapshot: Snapshot): boolean {
  const holder = snapshot.entries.get('holder');
  if (holder?.lease !== grant.lease) return false;
  if (versionOf(snapshot, 'leader') !== grant.leaderVersion) return false;
  return !parseRecord('holder', holder.value).reserved;
}

/** Whether another was granted the group since, or may take it: this grant is lost for good. */
function isOthers({ nodeId, leaderVersion }: Grant, { snapshot, view }: Looked): boolean {
  if (versionOf(snapshot, 'leader') !== leaderVersion) return true;
  return view.holder !== undefined && (view.holder.nodeId !== nodeId || view.holder.reserved);
}

/**
 * The group is this grant's, and a lease of it that cannot be used lives yet: one whose renewal was
 * answered wrongly, or one that was taken by a swap whose answer was lost. It is renewed, or ends.
 */
function ownLease(): WalError {
  return new WalError('WAL_REFEREE_AWAY', 'a lease of this very grant has yet to end');
}

function versions(snapshot: Snapshot, ...names: readonly RecordName[]): Expected {
  return Object.fromEntries(names.map((name) => [name, versionOf(snapshot, name)]));
}

function pastError(fault: string): WalError {
  return new WalError(
    'WAL_REFEREE_PAST',
    `the referee does not know what it knew before: ${fault}; nothing is decided by it`,
  );
}
