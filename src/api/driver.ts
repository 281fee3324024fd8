import type { Place, Role, Term } from '../native/native_log.js';
import type { TlsOptions } from '../transport/security.js';
import type { Commits } from './commits.js';
import type { MemberAnswer } from './members.js';
import type { RefereeNow } from './referee_status.js';
import type { LogStatus } from './status.js';

/** What a role has to say of the status. */
export type DriverStatus = Pick<LogStatus, 'standbys' | 'policy' | 'upstream' | 'listening'>;

export interface UpstreamLink {
  /** This node is being promoted. */
  readonly isCandidate: boolean;
  /** The highest commit place that is known here; it may lie past the log. */
  readonly told: Place;
  readonly primary: string;
  readonly address: string;
  readonly connected: boolean;
}

/** What a log does differently by its role. A log has one at a time, and changes it for another. */
export interface Driver {
  readonly role: Role;
  /** The commits of a primary; others have none. */
  readonly commits: Commits | undefined;
  /** How far the log's own policy is met, as far as this node knows. */
  readonly commit: Place;
  /** Why this role takes no appends, commits and so on. Never asked of a primary. */
  refusal(): Error;
  batchClosed(): void;
  ringWanted(): void;
  /** Flushes moved, or ring space came free. */
  progressed(): void;
  /** What some commits wait for before they begin to wait for their record; it ends soon. */
  readonly admitting?: Promise<void> | undefined;
  applied(lsn: number): void;
  /** Whether what it does for other nodes keeps the process alive. */
  setRef(holds: boolean): void;
  /** Ends every wait that only this role can meet. */
  rejectWaits(error: unknown): void;
  /** Certificates for the handshakes from now on, where it has such. */
  reloadTls(tls: TlsOptions): void;
  status(): DriverStatus;
  /** What it knows of the referee, if there is one. */
  referee(): RefereeNow;
  /** Whom this node takes for the primary; nobody, where that is this one. */
  upstream(): UpstreamLink;
  /** How the members stand, now and then: a newer term may be among theirs. */
  surveyed(answers: readonly MemberAnswer[]): void;
  /** Nothing of an older term is taken or acknowledged any more; resolves when that is durable. */
  fence(term: Term, candidate: string): Promise<void>;
  close(): Promise<void>;
}
