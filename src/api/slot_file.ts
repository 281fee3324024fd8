import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { isSlotName, latestTime, maxSlots, type StoredSlot } from '../replication/slot.js';
import { replaceFile, type SmallFiles } from '../transport/small_files.js';

/** All before `position` was committed when the log had run for `ageMs` less than now. */
export interface StoredAge {
  readonly position: number;
  readonly ageMs: number;
}

/** What the file `slots` holds. */
export interface SlotContent {
  readonly logId: string;
  /** Goes up with each store: the newest of several copies is the one that counts. */
  readonly sequence: number;
  /** Of the last term that the log had then: positions are of its history. */
  readonly epoch: number;
  readonly slots: readonly StoredSlot[];
  readonly ages: readonly StoredAge[];
}

export const maxAges = 64;

const head = 'walmirror slots 1 ';
const digestDigits = 64;

/**
 * A line that says what it is, with a checksum (SHA-256) of all that follows; then JSON.
 */
export function encodeSlots(content: SlotContent): Uint8Array {
  const text = `${JSON.stringify(content, null, 1)}\n`;
  return Buffer.from(`${head}${digest(text)}\n${text}`);
}

/** undefined: it is not what `encodeSlots` has made. */
export function decodeSlots(bytes: Uint8Array): SlotContent | undefined {
  const file = Buffer.from(bytes).toString('utf8');
  const begin = head.length + digestDigits + 1;
  const text = file.slice(begin);
  if (file.slice(0, begin) !== `${head}${digest(text)}\n`) return undefined;
  try {
    const content = JSON.parse(text) as SlotContent;
    return isContent(content) ? content : undefined;
  } catch {
    return undefined;
  }
}

export function slotPath(dir: string): string {
  return join(dir, 'slots');
}

/** What the directories of a log hold of its slots. */
export interface FoundSlots {
  /** The newest that is whole, of this log; undefined: there is none. */
  readonly content: SlotContent | undefined;
  /** Why some could not be read, one line a file. */
  readonly damaged: readonly string[];
  /** Whether each directory has that one. */
  readonly complete: boolean;
}

export async function readSlots(
  files: SmallFiles,
  dirs: readonly string[],
  logId: string,
): Promise<FoundSlots> {
  let content: SlotContent | undefined;
  const damaged: string[] = [];
  const sequences: number[] = [];
  for (const dir of dirs) {
    const path = slotPath(dir);
    try {
      const bytes = await files.read(path);
      if (bytes === undefined) continue;
      const found = decodeSlots(bytes);
      if (found === undefined) damaged.push(`${path} does not verify`);
      else if (found.logId !== logId) damaged.push(`${path} is of another log`);
      else {
        sequences.push(found.sequence);
        if (content === undefined || found.sequence > content.sequence) content = found;
      }
    } catch (error) {
      damaged.push(`${path}: ${(error as Error).message}`);
    }
  }
  const newest = content?.sequence;
  const complete = sequences.length === dirs.length && sequences.every((each) => each === newest);
  return { content, damaged, complete: complete || (newest === undefined && damaged.length === 0) };
}

/** Durable in each of the directories when it resolves. */
export async function writeSlots(
  files: SmallFiles,
  dirs: readonly string[],
  content: SlotContent,
): Promise<void> {
  const bytes = encodeSlots(content);
  for (const dir of dirs) await replaceFile(files, slotPath(dir), bytes);
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function isContent({ logId, sequence, epoch, slots, ages }: SlotContent): boolean {
  return (
    typeof logId === 'string' &&
    isCount(sequence) &&
    isCount(epoch) &&
    slots.length <= maxSlots &&
    slots.every(isStoredSlot) &&
    new Set(slots.map(({ name }) => name)).size === slots.length &&
    ages.length <= maxAges &&
    ages.every(({ position, ageMs }) => isCount(position) && isTime(ageMs))
  );
}

function isStoredSlot(slot: StoredSlot): boolean {
  const { name, nodeId, position, lsn, createdAt, lastSeenAt, awayMs, lost } = slot;
  return (
    typeof name === 'string' &&
    isSlotName(name) &&
    (nodeId === null || /^[0-9a-f]{32}$/.test(nodeId)) &&
    isCount(position) &&
    isCount(lsn) &&
    isTime(createdAt) &&
    (lastSeenAt === null || isTime(lastSeenAt)) &&
    isTime(awayMs) &&
    typeof lost === 'boolean'
  );
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isTime(value: unknown): boolean {
  return Number.isFinite(value) && (value as number) >= 0 && (value as number) <= latestTime;
}
