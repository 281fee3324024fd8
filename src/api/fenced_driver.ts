import type { Place, Role, Term } from '../native/native_log.js';
import type { Driver } from './driver.js';
import { WalError } from './errors.js';
import type { LogStatus } from './status.js';

/** A primary that heard of a newer one: it acknowledges nothing any more (SAFETY.md 2.6). */
export class FencedDriver implements Driver {
  /** `fenced` once that is stored, so that no crash takes back what was shown (SAFETY.md 2.2). */
  role: Role = 'primary';
  readonly commits = undefined;
  readonly commit: Place;
  readonly #term: Term;
  readonly #hubClosed: Promise<void>;

  constructor(commit: Place, term: Term, hubClosed: Promise<void>) {
    this.commit = commit;
    this.#term = term;
    this.#hubClosed = hubClosed;
  }

  refusal(): WalError {
    return fencedError(this.#term, 'refused');
  }

  batchClosed(): void {}
  ringWanted(): void {}
  progressed(): void {}
  applied(): void {}
  setRef(): void {}
  rejectWaits(): void {}
  reloadTls(): void {}

  status(): Pick<LogStatus, 'standbys' | 'policy' | 'upstream' | 'listening'> {
    return { standbys: [], policy: null, upstream: null, listening: null };
  }

  close(): Promise<void> {
    return this.#hubClosed;
  }
}

export function fencedError(term: Term, outcome: 'refused' | 'unknown'): WalError {
  return new WalError(
    'WAL_FENCED',
    `a newer primary exists (epoch ${term.epoch}, opened by ${term.opener.slice(0, 8)})`,
    { outcome },
  );
}
