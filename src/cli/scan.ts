import { Batch, BatchField, KIND_DATA, KIND_FILLER } from '../api/batch.js';
import { WalError } from '../api/errors.js';
import { loadBinding } from '../native/binding.js';
import type { NativeReader } from '../native/native_log.js';

const CHUNK_BYTES = 1024 * 1024;
const PAGE = 4096;

/**
 * The batches of a directory with records in [from, to], as they are on disk: also those that no
 * commit has covered yet. Needs no lock.
 */
export async function* scanBatches(
  reader: NativeReader,
  from: number | undefined,
  to = Number.POSITIVE_INFINITY,
): AsyncGenerator<Batch> {
  const { start } = reader.info();
  const end = await reader.refresh();
  const first = from ?? start.lsn + 1;
  if (first <= start.lsn) {
    const lsn = start.lsn + 1;
    throw new WalError('WAL_LSN_GONE', `LSN ${first} was trimmed; the first one is ${lsn}`, {
      lsn,
    });
  }
  if (first > end.lsn) return;
  let position = await reader.locate(first);
  let buffer = loadBinding().allocateAligned(CHUNK_BYTES);
  while (position < end.position) {
    const { offset, length, next, need } = await reader.readInto(buffer, position, end.position);
    if (length === 0 && need > 0) {
      buffer = loadBinding().allocateAligned(Math.ceil(need / PAGE) * PAGE + 2 * PAGE);
      continue;
    }
    if (next <= position) throw new Error(`the engine read nothing at position ${position}`);
    const bytes = buffer.subarray(offset, offset + length);
    for (const batch of batchesIn(bytes, first, to)) {
      if (batch.firstLsn > to) return;
      yield batch;
    }
    position = next;
  }
}

function* batchesIn(bytes: Buffer, from: number, to: number): Generator<Batch> {
  for (let at = 0; at < bytes.length; ) {
    const end = at + bytes.readUInt32LE(at + BatchField.LENGTH);
    const kind = bytes.readUInt8(at + BatchField.KIND);
    // Behind it come the zeros that end a segment, and the header of the next one.
    if (kind === KIND_FILLER) return;
    if (kind === KIND_DATA && bytes.readUInt32LE(at + BatchField.COUNT) > 0) {
      const batch = new Batch(bytes.subarray(at, end), from, to);
      if (batch.count > 0 || batch.firstLsn > to) yield batch;
    }
    at = end;
  }
}
