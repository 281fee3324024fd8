import type { Place, Role } from '../native/native_log.js';
import type { TlsOptions } from '../transport/security.js';
import type { Commits } from './commits.js';
import type { LogStatus } from './status.js';

/** What a role has to say of the status. */
export type DriverStatus = Pick<LogStatus, 'standbys' | 'policy' | 'upstream' | 'listening'>;

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
  applied(lsn: number): void;
  /** Whether what it does for other nodes keeps the process alive. */
  setRef(holds: boolean): void;
  /** Ends every wait that only this role can meet. */
  rejectWaits(error: unknown): void;
  /** Certificates for the handshakes from now on, where it has such. */
  reloadTls(tls: TlsOptions): void;
  status(): DriverStatus;
  close(): Promise<void>;
}
