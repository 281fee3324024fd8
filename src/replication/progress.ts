import type { Place } from '../native/native_log.js';
import { SentEnds } from './sent_ends.js';

/**
 * Where a standby's connection is.
 *
 *   handshake --accepted--> catchup --at the end of the log--> live
 *                              ^------- fell too far behind -----'
 *
 * `catchup` is fed from copies (the ring's or the segments'), `live` from the ring itself.
 */
export type ProgressState = 'handshake' | 'catchup' | 'live';

/** How far a standby says that it is. */
export interface Acknowledgement {
  readonly writePosition: number;
  readonly writeLsn: number;
  readonly flushPosition: number;
  readonly flushLsn: number;
  readonly applyLsn: number;
  /** Number of the newest rule that it has recorded; 0 before it has recorded any. */
  readonly rule: number;
}

/**
 * What the primary knows of one connection of one standby. It starts anew at each handshake
 * (SAFETY 4.4): what an earlier connection acknowledged says nothing about a standby that may
 * have been cut or wiped since.
 *
 * Write and flush are ends of batches that were sent, with the LSNs that the primary itself knows
 * for them: what a standby says decides only how far it is.
 *
 * Invariants: flush <= write <= sent (positions); flush LSN <= write LSN <= the last LSN sent;
 * applyLsn <= flush LSN; rule <= ruleTold; none of them ever falls; all are 0 in `handshake`.
 */
export class Progress {
  readonly nodeId: string;
  readonly name: string;
  state: ProgressState = 'handshake';
  sentPosition = 0;
  sentLsn = 0;
  writePosition = 0;
  writeLsn = 0;
  flushPosition = 0;
  flushLsn = 0;
  applyLsn = 0;
  /** Rises with every position that it says it has written or flushed. */
  heard = 0;
  /** Newest rule that it was told, and that it has recorded: SAFETY 4.1. */
  ruleTold = 0;
  rule = 0;
  /**
   * Whether the rule in force lets this standby's acknowledgements count: kept here so that
   * counting needs no look-up.
   */
  counts = false;
  readonly #ends = new SentEnds();

  constructor(nodeId: string, name: string) {
    this.nodeId = nodeId;
    this.name = name;
  }

  /** The handshake is through: the two logs are known to be the same up to `start`. */
  accepted(start: Place): void {
    this.state = 'catchup';
    this.sent(start.position, start.lsn);
  }

  /** A batch ends here, and all up to it was sent. */
  sent(position: number, lsn: number): void {
    this.sentPosition = position;
    this.sentLsn = lsn;
    this.#ends.push(position, lsn);
  }

  /**
   * Takes an acknowledgement, or says what is wrong with it (FAULTS, security 5) and takes
   * nothing. A lie within these bounds cannot be told from the truth: standbys are trusted not to
   * lie, only not to be broken.
   */
  acknowledge(ack: Acknowledgement): string | undefined {
    const wrong = this.#judge(ack);
    if (wrong !== undefined) return wrong;
    this.heard = ack.writePosition + ack.flushPosition;
    const ends = this.#ends;
    const write = ends.find(ack.writePosition);
    // An end that was taken before may be forgotten.
    if (write >= 0 && ends.positionAt(write) > this.writePosition) {
      this.writePosition = ends.positionAt(write);
      this.writeLsn = ends.lsnAt(write);
    }
    const flush = ends.find(ack.flushPosition);
    if (flush >= 0) {
      this.flushPosition = ends.positionAt(flush);
      this.flushLsn = ends.lsnAt(flush);
      ends.forgetBelow(flush);
    }
    this.applyLsn = Math.min(ack.applyLsn, this.flushLsn);
    this.rule = ack.rule;
    return undefined;
  }

  get write(): Place {
    return { position: this.writePosition, lsn: this.writeLsn };
  }

  get flush(): Place {
    return { position: this.flushPosition, lsn: this.flushLsn };
  }

  #judge(ack: Acknowledgement): string | undefined {
    if (this.state === 'handshake') return 'an acknowledgement before the handshake is through';
    if (!areCounts(ack)) return 'an acknowledgement that is not a number';
    if (ack.writePosition > this.sentPosition || ack.writeLsn > this.sentLsn) {
      return 'an acknowledgement of what was not sent';
    }
    const ends = this.#ends;
    if (
      !ends.agrees(ack.writePosition, ack.writeLsn) ||
      !ends.agrees(ack.flushPosition, ack.flushLsn)
    ) {
      return 'an acknowledgement of an LSN that is not at its position';
    }
    if (ack.flushPosition > ack.writePosition || ack.flushLsn > ack.writeLsn) {
      return 'an acknowledgement of a flush before the write';
    }
    if (ack.applyLsn > ack.flushLsn) return 'an acknowledgement of applying before the flush';
    if (ack.rule > this.ruleTold) return 'an acknowledgement of a rule that was not told';
    if (ack.rule === 0 && (ack.writePosition > 0 || ack.writeLsn > 0)) {
      return 'an acknowledgement under no rule';
    }
    if (
      ack.writePosition < this.writePosition ||
      ack.writeLsn < this.writeLsn ||
      ack.flushPosition < this.flushPosition ||
      ack.flushLsn < this.flushLsn ||
      ack.applyLsn < this.applyLsn ||
      ack.rule < this.rule
    ) {
      return 'an acknowledgement below the last one';
    }
    return undefined;
  }
}

function areCounts(ack: Acknowledgement): boolean {
  return (
    isCount(ack.writePosition) &&
    isCount(ack.writeLsn) &&
    isCount(ack.flushPosition) &&
    isCount(ack.flushLsn) &&
    isCount(ack.applyLsn) &&
    isCount(ack.rule)
  );
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
