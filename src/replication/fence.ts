import type { Term } from '../native/native_log.js';
import type { Standing } from './standing.js';

/**
 * The epoch that a node was fenced for, on behalf of a candidate that has not opened it yet: terms
 * of it have incarnations from 1 on, and so are newer (SAFETY 3.4).
 */
export function fenceTerm(epoch: number, candidateId: string): Term {
  return { epoch, opener: candidateId, incarnation: 0 };
}

/** Whether this term is of a candidate that may yet open it, or never will. */
export function isFence(term: Term): boolean {
  return term.epoch > 0 && term.incarnation === 0;
}

/**
 * Whether a node that knows of `known` may be fenced for this candidate. An epoch has one opener:
 * who was fenced for one candidate refuses another of the same epoch. The same candidate may ask
 * again, where its answer was lost; not once it has opened the epoch.
 */
export function mayFence(known: Term, epoch: number, candidateId: string): boolean {
  if (epoch !== known.epoch) return epoch > known.epoch;
  return isFence(known) && known.opener === candidateId;
}

/**
 * Whether this is the candidate that a node was fenced for, and knows that another has opened that
 * epoch: it has stored so, and never opens it itself. Nobody else can say that of it.
 */
export function hasGivenUp(
  { nodeId, term }: Pick<Standing, 'nodeId' | 'term'>,
  fence: Term,
): boolean {
  if (!isFence(fence) || nodeId !== fence.opener) return false;
  return term.epoch === fence.epoch && term.opener !== nodeId && !isFence(term);
}
