import { WalError } from '../api/errors.js';
import { CallSignal } from './call_signal.js';
import { type EtcdClient, EtcdError, type Json } from './etcd_client.js';
import { EtcdWatch } from './etcd_watch.js';
import { type RecordName, recordNames } from './records.js';
import type { Entry, Expected, RefereeStore, Snapshot, StoreLease, Write } from './store.js';

/** Which member answered, and what its raft had applied by then. */
interface Place {
  readonly member: string;
  readonly term: string;
}

interface Renewed {
  readonly ttlMs: number;
  readonly snapshot: Snapshot;
}

interface Read {
  readonly place: Place;
  readonly snapshot: Snapshot;
}

const renewAttempts = 3;

/**
 * Records as keys of etcd, all with one prefix. Reads are linearizable, writes are transactions.
 * Keys and values are base64, and numbers of 64 bits strings, which are only compared.
 */
export class EtcdStore implements RefereeStore {
  readonly #client: EtcdClient;
  readonly #prefix: string;
  readonly #all: Json;
  readonly #watch: EtcdWatch;
  #place: Place | undefined;

  /** `prefix` ends in a slash. */
  constructor(client: EtcdClient, prefix: string) {
    this.#client = client;
    this.#prefix = prefix;
    // '0' follows '/': up to the end of what begins with the prefix.
    const end = `${prefix.slice(0, -1)}0`;
    this.#all = { key: toBase64(prefix), range_end: toBase64(end) };
    this.#watch = new EtcdWatch(client, this.#all);
  }

  async read(signal?: AbortSignal): Promise<Snapshot> {
    return (await this.#readAt(signal)).snapshot;
  }

  async commit(
    expected: Expected,
    writes: Partial<Record<RecordName, Write>>,
    signal?: AbortSignal,
  ): Promise<{ readonly applied: boolean; readonly snapshot: Snapshot }> {
    const compare = Object.entries(expected).map(([name, version]) => {
      const key = this.#key(name);
      return { key, target: 'MOD', result: 'EQUAL', mod_revision: version };
    });
    const success = Object.entries(writes).map(([name, write]) => this.#write(name, write));
    const look = { request_range: this.#all };
    const question = { compare, success: [...success, look], failure: [look] };
    const options = { signal, tellsNotFound: true };
    try {
      const read = (answer: Json) => this.#committed(answer);
      const { applied, place, snapshot } = await this.#client.call(
        '/v3/kv/txn',
        question,
        read,
        options,
      );
      this.#place = place;
      return { applied, snapshot };
    } catch (error) {
      // The lease that it was to be written under has ended meanwhile: nothing was written.
      if (!(error instanceof EtcdError && error.isNotFound)) throw error;
      return { applied: false, snapshot: await this.read(signal) };
    }
  }

  async grant(ttlMs: number, signal?: AbortSignal): Promise<StoreLease> {
    const question = { TTL: `${ttlMs / 1000}` };
    const read = (answer: Json): StoreLease => {
      const id = text(answer.ID);
      const seconds = Number(text(answer.TTL));
      if (id === '' || id === '0' || !(seconds > 0)) throw EtcdError.strange('granted no lease');
      return { id, ttlMs: seconds * 1000 };
    };
    return await this.#client.call('/v3/lease/grant', question, read, { signal });
  }

  /**
   * A member answers for leases while it takes itself for the leader, which it may be no more: then
   * the true leader's lease runs out meanwhile (etcd #15247, mended in 3.4.31 and 3.5.13). So a
   * renewal counts only between two linearizable reads at the same member that found the same raft
   * term: the leader of that term was in charge all the while, and this member knew it. The second
   * read also finds a lease that was revoked as it was renewed (etcd #20547).
   */
  async renew(lease: string, signal?: AbortSignal): Promise<Renewed | undefined> {
    // All of it in the time of one question: by that the times of a lease are checked.
    const call = new CallSignal([signal], this.#client.callTimeoutMs);
    try {
      return await this.#renew(lease, call.signal);
    } catch (error) {
      signal?.throwIfAborted();
      if (!call.signal.aborted || error instanceof WalError) throw error;
      const { message } = call.signal.reason as Error;
      throw new WalError('WAL_REFEREE_AWAY', `etcd did not renew the lease: ${message}`);
    } finally {
      call.done();
    }
  }

  async #renew(lease: string, signal: AbortSignal): Promise<Renewed | undefined> {
    for (let attempt = 0; attempt < renewAttempts; attempt += 1) {
      const before = this.#place ?? (await this.#readAt(signal)).place;
      const question = { ID: lease };
      const { asked, seconds } = await this.#client.call('/v3/lease/keepalive', question, keptBy, {
        signal,
      });
      if (!(seconds > 0)) return undefined;
      const { place, snapshot } = await this.#readAt(signal);
      const isConfirmed = isSame(before, place) && asked.member === place.member;
      if (isConfirmed) return { ttlMs: seconds * 1000, snapshot };
    }
    throw new WalError('WAL_REFEREE_AWAY', 'etcd did not confirm that the lease was renewed', {
      hint: 'Its leader changes, or a load balancer is in between: name each member by itself.',
    });
  }

  async revoke(lease: string, signal?: AbortSignal): Promise<void> {
    try {
      const options = { signal, tellsNotFound: true };
      await this.#client.call('/v3/lease/revoke', { ID: lease }, headerOf, options);
    } catch (error) {
      if (!(error instanceof EtcdError && error.isNotFound)) throw error;
    }
  }

  changed(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    return this.#watch.changed(timeoutMs, signal);
  }

  close(): void {
    this.#watch.close();
    this.#client.close();
  }

  async #readAt(signal: AbortSignal | undefined): Promise<Read> {
    const look = (answer: Json) => this.#snapshot(answer, answer);
    const read = await this.#client.call('/v3/kv/range', this.#all, look, { signal });
    this.#place = read.place;
    return read;
  }

  #committed(answer: Json): Read & { readonly applied: boolean } {
    const { responses, succeeded } = answer;
    const last = Array.isArray(responses) ? (responses.at(-1) as Json | undefined) : undefined;
    const read = this.#snapshot(answer, last?.response_range as Json | undefined);
    return { ...read, applied: succeeded === true };
  }

  #key(name: string): string {
    return toBase64(`${this.#prefix}${name}`);
  }

  #write(name: string, write: Write): Json {
    const key = this.#key(name);
    if (write === null) return { request_delete_range: { key } };
    const value = toBase64(write.value);
    const lease = write.lease === undefined ? {} : { lease: write.lease };
    return { request_put: { key, value, ...lease } };
  }

  #snapshot(answer: Json, range: Json | undefined): Read {
    const header = headerOf(answer);
    const revision = text(header.revision);
    const origin = text(header.cluster_id);
    if (!/^\d+$/.test(revision) || range === undefined) throw EtcdError.strange('gave no revision');
    const entries = new Map<RecordName, Entry>();
    for (const kv of (range.kvs ?? []) as readonly Json[]) {
      const name = fromBase64(text(kv.key)).slice(this.#prefix.length) as RecordName;
      if (!recordNames.includes(name)) continue;
      const version = text(kv.mod_revision);
      if (!/^[1-9]\d*$/.test(version)) throw EtcdError.strange('gave no version of a key');
      const lease = text(kv.lease);
      entries.set(name, {
        value: fromBase64(text(kv.value)),
        version,
        lease: lease === '0' ? '' : lease,
      });
    }
    const snapshot = { origin, revision: BigInt(revision), entries };
    return { place: placeOf(header), snapshot };
  }
}

/** What every answer of etcd begins with. */
function headerOf(answer: Json | undefined): Json {
  const header = answer?.header as Json | undefined;
  if (text(header?.cluster_id) === '') throw EtcdError.strange('gave no header');
  return header!;
}

function placeOf(header: Json): Place {
  return { member: text(header.member_id), term: text(header.raft_term) };
}

/** 0 seconds: the lease has ended. */
function keptBy({ result }: Json): { readonly asked: Place; readonly seconds: number } {
  const kept = result as Json | undefined;
  return { asked: placeOf(headerOf(kept)), seconds: Number(text(kept?.TTL) || '0') };
}

function isSame(one: Place, other: Place): boolean {
  return one.member === other.member && one.term === other.term && one.term !== '';
}

/** A field that protobuf leaves out where it is 0 or empty; some releases write numbers. */
function text(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? `${value}` : '';
}

function toBase64(value: string): string {
  return Buffer.from(value, 'utf8').toString('base64');
}

function fromBase64(value: string): string {
  return Buffer.from(value, 'base64').toString('utf8');
}
