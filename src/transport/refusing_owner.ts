import type { WalError } from '../api/errors.js';
import type { Place, Term } from '../native/native_log.js';
import type { LinksOwner } from './standby_links.js';

/** Feeds nobody, and says why. Members are answered. */
export class RefusingOwner implements LinksOwner {
  readonly isPrimary = false;
  readonly witnesses = [];
  readonly refusal: () => WalError;
  readonly term: () => Term;
  readonly commitPlace: () => Place;
  readonly #onRefused: (address: string, reason: string) => void;

  constructor(options: {
    readonly refusal: () => WalError;
    readonly term: () => Term;
    readonly commitPlace: () => Place;
    readonly onRefused: (address: string, reason: string) => void;
  }) {
    this.refusal = options.refusal;
    this.term = options.term;
    this.commitPlace = options.commitPlace;
    this.#onRefused = options.onRefused;
  }

  writeAcks = (): boolean => false;

  admit(): never {
    throw new Error('walmirror: broken invariant: nobody is let in');
  }

  acknowledged(): void {}
  gone(): void {}
  fenced(): void {}
  onStandby(): void {}
  onUnreadable(): void {}

  onRefused(address: string, reason: string): void {
    this.#onRefused(address, reason);
  }
}
