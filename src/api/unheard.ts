import { WalError } from './errors.js';

/**
 * Records that were appended in an earlier role, and that no commit had been asked for by then: who
 * appended them was not told that their outcome is unknown. They may have been cut, and others have
 * their LSNs, which a commit of them must not be met by. The first that may mean them says so.
 */
export class Unheard {
  #last = 0;

  get any(): boolean {
    return this.#last > 0;
  }

  /** The role ends with records up to `last`; those up to `heard` are kept, or were asked for. */
  leave(last: number, heard: number): void {
    if (last > heard) this.#last = Math.max(this.#last, last);
  }

  /** Who appended is known to have appended in this role, or was told. */
  forget(): void {
    this.#last = 0;
  }

  /** Throws for a commit of this LSN, undefined: of all, once. */
  require(lsn: number | undefined): void {
    if (!this.any || (lsn !== undefined && lsn > this.#last)) return;
    const upTo = this.#last;
    this.#last = 0;
    const text = `what was appended before this log lost its role, up to LSN ${upTo}, may be gone`;
    throw new WalError('WAL_FENCED', text, { outcome: 'unknown' });
  }
}
