/** More than a group has nodes, and as many as one message tells. */
export const maxSlots = 64;
export const maxSlotNameBytes = 63;
/** Milliseconds since 1970 of the last moment that a Date can tell. */
export const latestTime = 8.64e15;

/** A standby's claim on the log, as it is stored and told to standbys. */
export interface StoredSlot {
  /** Of the standby. */
  readonly name: string;
  /** Of the node that used it last; null: none has. */
  readonly nodeId: string | null;
  /** What it has flushed: the log is kept from there on. */
  readonly position: number;
  readonly lsn: number;
  /** Milliseconds since 1970, for people. */
  readonly createdAt: number;
  readonly lastSeenAt: number | null;
  /** Milliseconds that it was away by clocks that do not jump, while there was a primary. */
  readonly awayMs: number;
  /** It holds nothing any more. */
  readonly lost: boolean;
}

/** A slot, as a primary tells its standbys of it. */
export interface ToldSlot extends StoredSlot {
  /** Its standby is connected. */
  readonly isActive: boolean;
}

/** As nodes are named. */
export function isSlotName(name: string): boolean {
  return /^[\w.-]+$/.test(name) && name.length <= maxSlotNameBytes;
}
