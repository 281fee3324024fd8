import type { NativeLog, Place } from '../native/native_log.js';
import type { ToldSlot } from '../replication/slot.js';

interface Claim {
  readonly id: number;
  position: number;
  connected: boolean;
  /** Since when it is away, by the monotone clock. */
  since: number;
}

/** Durable claims, by the names of standbys. */
export interface SlotKeeper {
  /** It is let in, and gets the log from there on. */
  came(name: string, nodeId: string, place: Place): void;
  /** It has flushed so much. */
  moved(name: string, nodeId: string, place: Place): void;
  /** Whether there is one of this name, which keeps the log for it from now on. */
  away(name: string, nodeId: string): boolean;
  /** What standbys are told. */
  readonly toTell: readonly ToldSlot[] | undefined;
  /** What a standby that is away may hold: bytes, and milliseconds. */
  readonly maxSlotBytes: number;
  readonly maxSlotAge: number;
}

/** A claim follows a standby's flush in steps, since each is a native call under a lock. */
const stepBytes = 1024 * 1024;
/** Standbys that are away and whose log is kept; the one away longest is forgotten first. */
const maxAway = 16;

/**
 * Keeps the segments that standbys need next: those connected, and those seen in this run. By
 * node id.
 */
export class Retention {
  readonly #native: NativeLog;
  /** In the order in which standbys were last seen to go. */
  readonly #claims = new Map<string, Claim>();

  constructor(native: NativeLog) {
    this.#native = native;
  }

  /** The standby is let in; the log reaches back to `position`. */
  claim(nodeId: string, position: number): void {
    this.#release(nodeId);
    const id = this.#native.retain(position);
    this.#claims.set(nodeId, { id, position, connected: true, since: 0 });
  }

  /** The standby has flushed up to here. */
  moved(nodeId: string, position: number): void {
    const claim = this.#claims.get(nodeId);
    if (claim === undefined || position < claim.position + stepBytes) return;
    claim.position = position;
    this.#native.moveRetain(claim.id, position);
  }

  away(nodeId: string, now: number): void {
    const claim = this.#claims.get(nodeId);
    if (claim === undefined) return;
    this.#claims.delete(nodeId);
    claim.connected = false;
    claim.since = now;
    this.#claims.set(nodeId, claim);
    const away = [...this.#claims].filter(([, each]) => !each.connected);
    for (const [id] of away.slice(0, -maxAway)) this.#release(id);
  }

  /** Those that are away hold nothing before `position`, and none that went before `since`. */
  bound(position: number, since: number): void {
    for (const [nodeId, claim] of [...this.#claims]) {
      if (claim.connected) continue;
      if (claim.position < position || claim.since < since) this.#release(nodeId);
    }
  }

  /** It does not follow this primary. */
  forget(nodeId: string): void {
    this.#release(nodeId);
  }

  releaseAll(): void {
    for (const nodeId of [...this.#claims.keys()]) this.#release(nodeId);
  }

  #release(nodeId: string): void {
    const claim = this.#claims.get(nodeId);
    if (claim === undefined) return;
    this.#native.release(claim.id);
    this.#claims.delete(nodeId);
  }
}
