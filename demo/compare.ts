/**
 * What was acknowledged against what is there. This is the demo's judge, so it trusts neither side.
 */
import type { Catalogue } from './catalogue.js';

/** One line of the client's file. */
export interface Acknowledgement {
  readonly lsn: number;
  readonly id: number;
  readonly version: number;
  /** When the acknowledgement was written down; milliseconds since 1970. */
  readonly at: number;
}

export function formatAcknowledgement({ lsn, id, version, at }: Acknowledgement): string {
  return `${lsn}\t${id}\t${version}\t${at.toFixed(3)}\n`;
}

export function parseAcknowledgements(text: string): Acknowledgement[] {
  // A last line without an end was not written down whole: the client did not go on from it.
  const lines = text.split('\n').slice(0, -1);
  return lines.map((line) => {
    const fields = line.split('\t').map(Number);
    const [lsn, id, version, at] = fields;
    const missing =
      lsn === undefined || id === undefined || version === undefined || at === undefined;
    if (missing || fields.length !== 4 || fields.some(Number.isNaN)) {
      throw new Error(`not an acknowledgement: '${line}'`);
    }
    return { lsn, id, version, at };
  });
}

export interface Comparison {
  readonly acknowledged: number;
  /** Acknowledged records that the catalogue does not hold, in the order of acknowledgement. */
  readonly lost: readonly Acknowledgement[];
  /** Acknowledged records that the catalogue holds with another content. */
  readonly changed: readonly Acknowledgement[];
}

/**
 * Looks for each acknowledged record in the catalogue. A row of a later version took the place of
 * the earlier ones, so those are there too.
 */
export function compare(
  acknowledged: readonly Acknowledgement[],
  catalogue: Catalogue,
  rowOf: (id: number, version: number) => string,
): Comparison {
  const lost: Acknowledgement[] = [];
  const changed: Acknowledgement[] = [];
  for (const record of acknowledged) {
    const found = catalogue.get(record.id);
    if (found === undefined || found.version < record.version) lost.push(record);
    else if (found.row !== rowOf(record.id, found.version)) changed.push(record);
  }
  return { acknowledged: acknowledged.length, lost, changed };
}
