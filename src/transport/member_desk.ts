import type { FenceGrant, Standing } from '../replication/standing.js';
import type { Handover, Taken } from '../wire/handover_messages.js';

/** Who wants to be the primary. */
export interface Candidate {
  readonly nodeId: string;
  readonly name: string;
  readonly epoch: number;
}

/** Answers the members of the group, in every role. */
export interface MemberDesk {
  /** Stores nothing. */
  standing(): Standing;
  /**
   * Takes and acknowledges nothing more of an older epoch: resolves when all that was received is
   * flushed, and the epoch stored for this candidate. Rejects with WAL_FENCED where a higher one is
   * known, or another candidate of it; and where the candidate has gone before it is its turn.
   */
  fence(candidate: Candidate, isThere: () => boolean): Promise<FenceGrant>;
  /**
   * Takes the place of a primary that was demoted for it: resolves when the new epoch is durably
   * opened. Rejects, and stores nothing, where that is not the primary that this node follows, or
   * its log is not exactly what the hand-over says.
   */
  takeOver(handover: Handover): Promise<Omit<Taken, 'version'>>;
}
