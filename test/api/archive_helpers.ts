import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { parseName, prefixOf } from '../../src/archive/object_name.js';
import { ObjectReader } from '../../src/archive/object_reader.js';
import type { ArchiveStore } from '../../src/archive/store.js';
import type { ArchiveStatus, Log } from '../../src/index.js';
import { crc32c, gathered } from '../archive/objects.js';
import { until } from './helpers.js';

/** Small segments, so that some MB are many of them. */
export const tiny = {
  segmentBytes: 128 * 1024,
  maxRecordBytes: 16 * 1024,
  ringBytes: 1 << 20,
} as const;

const record = Buffer.alloc(4000, 'x');
export const perSegment = Math.floor(tiny.segmentBytes / record.length);

/** Some more than so many segments, committed by the log's own disk. */
export async function grow(log: Log, segments: number): Promise<void> {
  for (let i = 0; i < segments * (perSegment + 1); i += 1) {
    await log.drain(record.length);
    log.append(Buffer.concat([Buffer.from(`record ${log.status().appendLsn + 1} `), record]));
  }
  await log.commit(undefined, { level: 'local' });
}

export function archiveOf(log: Log): ArchiveStatus {
  const { archive } = log.status();
  if (archive === null) throw new Error('the log has no archive');
  return archive;
}

/** All full segments are in the store. */
export async function allArchived(log: Log): Promise<ArchiveStatus> {
  const isThere = (): boolean => {
    const { archivedLsn, state, heldBytes } = archiveOf(log);
    return archivedLsn !== null && state === 'working' && heldBytes < tiny.segmentBytes;
  };
  await until(isThere, 'all is archived');
  return archiveOf(log);
}

const { signal } = new AbortController();

/** Names of what a store has of a log. */
export async function namesIn(store: ArchiveStore, logId: string): Promise<string[]> {
  const found: string[] = [];
  let after: string | undefined;
  do {
    const page = await store.list(prefixOf(logId), { after, signal });
    found.push(...page.names);
    after = page.next;
  } while (after !== undefined);
  return found;
}

/** Each object of the log in the store is good. By their names, the bytes of the log. */
export async function objectsIn(store: ArchiveStore, logId: string): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  for (const name of await namesIn(store, logId)) {
    const reader = await ObjectReader.open(name, await store.get(name, { signal }), crc32c);
    const { term, firstLsn, start } = reader.header;
    expect(parseName(logId, name)).toEqual({ term, firstLsn, start });
    found.set(name, await gathered(reader.raw()));
  }
  return found;
}

/** Every full segment of a closed log from where it begins is in the store, byte for byte. */
export async function expectArchived(store: ArchiveStore, logId: string, dir: string) {
  const objects = [...(await objectsIn(store, logId))].map(([name, bytes]) => ({
    start: parseName(logId, name)!.start,
    bytes,
  }));
  const files = readdirSync(dir)
    .filter((name) => name.endsWith('.wal'))
    .map((name) => ({ start: Number.parseInt(name.slice(17, 33), 16), file: join(dir, name) }))
    .sort((a, b) => a.start - b.start);
  const log = Buffer.concat(files.map(({ file }) => readFileSync(file)));
  let compared = 0;
  for (const { start } of files.slice(0, -1)) {
    const from = start + 4096 - files[0]!.start;
    const own = log.subarray(from, from + tiny.segmentBytes);
    const found = objects.filter((object) => object.start === start + 4096);
    expect(found.some(({ bytes }) => bytes.equals(own))).toBe(true);
    compared += 1;
  }
  return compared;
}
