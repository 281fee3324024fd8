/** Milliseconds, all of them. */
export interface ReplicationTiming {
  /** Each side speaks at least this often. */
  readonly heartbeat: number;
  /** A peer that is silent for this long is given up. */
  readonly dead: number;
  /** From the connection to the end of the handshake. */
  readonly handshake: number;
  /** How long a member waits for its answer: storing an epoch takes as long as the disk takes. */
  readonly answer: number;
  /** A standby that makes no progress for this long while the log's memory is wanted is dropped. */
  readonly stall: number;
  /** How long an orderly close waits for what was sent to leave. */
  readonly close: number;
  /** First and longest delay between attempts to connect. */
  readonly retryFirst: number;
  readonly retryMost: number;
}

export const defaultTiming: ReplicationTiming = {
  heartbeat: 1000,
  dead: 5000,
  handshake: 5000,
  answer: 10_000,
  stall: 100,
  close: 1000,
  retryFirst: 50,
  retryMost: 5000,
};

export function withDefaults(timing: Partial<ReplicationTiming> = {}): ReplicationTiming {
  return { ...defaultTiming, ...timing };
}

export interface ListenLimits {
  /** Connections whose handshake is not through. */
  readonly halfOpen: number;
  /** Connections in all. */
  readonly connections: number;
}

export const defaultLimits: ListenLimits = { halfOpen: 32, connections: 80 };
/** The engine has 64 pins on its memory; each standby uses at most one. */
export const maxStandbys = 48;
/** Repairs of other copies that are served at once; each takes a buffer for a moment. */
export const maxFetches = 4;
/** Standbys that are given a snapshot at once. */
export const maxSeeds = 2;
