import type { Term } from '../native/native_log.js';

/** What an archived segment is known by. */
export interface ObjectName {
  /** Of the segment's last batch. */
  readonly term: Term;
  readonly firstLsn: number;
  /** Position of its first batch. */
  readonly start: number;
}

const suffix = '.segment';
const pattern = /^([0-9a-f]{16})-([0-9a-f]{16})-([0-9a-f]{16})-([0-9a-f]{32})-([0-9a-f]{8})$/;

/** Begins the names of all that a log has in a store. */
export function prefixOf(logId: string): string {
  return `${logId}/`;
}

/**
 * By their order names are sorted by the start of the segments. Two histories of one log never have
 * one name, since the term of the last batch tells them apart.
 */
export function nameOf(logId: string, { term, firstLsn, start }: ObjectName): string {
  const { epoch, opener, incarnation } = term;
  const parts = [hex(start, 16), hex(firstLsn, 16), hex(epoch, 16), opener, hex(incarnation, 8)];
  return `${prefixOf(logId)}${parts.join('-')}${suffix}`;
}

/** undefined: it is no segment of this log. */
export function parseName(logId: string, name: string): ObjectName | undefined {
  const prefix = prefixOf(logId);
  if (!name.startsWith(prefix) || !name.endsWith(suffix)) return undefined;
  const found = pattern.exec(name.slice(prefix.length, -suffix.length));
  if (found === null) return undefined;
  const [start, firstLsn, epoch] = found.slice(1, 4).map((digits) => Number.parseInt(digits, 16));
  const numbers = [start!, firstLsn!, epoch!];
  if (!numbers.every((each) => Number.isSafeInteger(each))) return undefined;
  const term = { epoch: epoch!, opener: found[4]!, incarnation: Number.parseInt(found[5]!, 16) };
  return { term, firstLsn: firstLsn!, start: start! };
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}
