import type { Mode } from './options.js';

/** What one run came to. */
export interface Outcome {
  readonly mode: Mode;
  /** In the client's file when the primary had died. */
  readonly acknowledged: number;
  /** Of those, records that the promoted catalogue did not hold. */
  readonly lost: number;
  /** Records that it held with another content: never, whatever the mode. */
  readonly changed: number;
  /** From the first lost acknowledgement to the kill; null if nothing was lost. */
  readonly lossWindowMs: number | null;
  /** In the client's file at the end, after going on with the promoted standby. */
  readonly acknowledgedInAll: number;
  /** Records that the primary had and the standby had not, when the standby was started again. */
  readonly behind: number;
  readonly catchUpMs: number;
  /** Automatic: from the kill to the new role. */
  readonly promoteMs: number;
  /** From the kill to the first acknowledgement of the promoted standby. */
  readonly outageMs: number;
  /** Of the catalogue as the client's file says it should be. */
  readonly expectedDigest: string;
  readonly digest: string;
}

export interface Verdict {
  readonly ok: boolean;
  readonly text: string;
}

/** What the run was to show, and whether it did. */
export function judge(outcome: Outcome): Verdict {
  const { mode, lost, changed, digest, expectedDigest } = outcome;
  if (changed > 0) return { ok: false, text: `${changed} records came back with another content` };
  switch (mode) {
    case 'sync':
      if (lost > 0) return { ok: false, text: `sync mode lost ${lost} acknowledged records` };
      if (digest !== expectedDigest) return { ok: false, text: 'sync mode: the digests differ' };
      return { ok: true, text: 'sync: nothing that was acknowledged was lost' };
    case 'automatic':
      if (lost > 0) return { ok: false, text: `automatic: ${lost} acknowledged records were lost` };
      if (digest !== expectedDigest) return { ok: false, text: 'automatic: the digests differ' };
      return { ok: true, text: 'automatic: the standby took over, and nothing was lost' };
    case 'async':
      return { ok: true, text: `async: ${asyncLoss(outcome)}` };
    case 'planted':
      if (lost === 0) return { ok: false, text: 'planted losses were not counted' };
      return { ok: true, text: `planted: the counter found the loss, ${lost} records` };
  }
}

function asyncLoss({ lost, lossWindowMs }: Outcome): string {
  if (lost === 0) return 'nothing was lost this time; this mode does not promise it';
  const window = `the last ${lossWindowMs?.toFixed(1)} ms`;
  return `${lost} acknowledged records were lost, ${window}, as this mode allows`;
}
