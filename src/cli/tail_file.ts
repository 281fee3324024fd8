import { type FileHandle, open } from 'node:fs/promises';
import { Batch, BatchField, KIND_DATA, KIND_FILLER, readU64 } from '../api/batch.js';
import { WalError } from '../api/errors.js';
import { loadBinding } from '../native/binding.js';

const HEADER_BYTES = 4096;
const CHUNK_BYTES = 1024 * 1024;
const SEGMENT_MAGIC = 0x47534d57;
const BATCH_MAGIC = 0x54424d57;
const FORMAT_VERSION = 1;

/** Offsets of log id and salt, in the header of the file and in that of each batch. */
const IDENTITY_FROM = 16;
const IDENTITY_TO = 40;

interface TailHeader {
  readonly identity: Buffer;
  readonly start: number;
  readonly firstLsn: number;
  readonly segmentBytes: number;
  readonly prevCrc: number;
  readonly end: number;
  readonly lastLsn: number;
}

/**
 * The batches with records in [from, to] of a file in which a cut set its tail aside (`.diverged`,
 * docs/format.md). The file needs no log beside it. Each batch is verified before it is handed out,
 * and is valid until the next one is asked for; memory is bounded by the largest batch.
 *
 * Rejects with WAL_NOT_A_LOG where it is no such file, with WAL_CORRUPT where it is damaged or cut
 * short, after what is whole before that, and with WAL_LSN_GONE where `from` lies before it.
 */
export async function* scanTail(
  path: string,
  from?: number,
  to = Number.POSITIVE_INFINITY,
): AsyncGenerator<Batch> {
  const file = await open(path, 'r');
  try {
    const tail = new TailFile(path, file);
    const header = await tail.readHeader();
    const first = from ?? header.firstLsn;
    if (first < header.firstLsn) {
      throw new WalError('WAL_LSN_GONE', `${path} begins with LSN ${header.firstLsn}`, {
        lsn: header.firstLsn,
      });
    }
    for await (const bytes of tail.batches(header)) {
      const next = readU64(bytes, BatchField.FIRST_LSN) + bytes.readUInt32LE(BatchField.COUNT);
      if (bytes.readUInt8(BatchField.KIND) !== KIND_DATA || next <= first) continue;
      const batch = new Batch(bytes, first, to);
      if (batch.firstLsn > to) return;
      yield batch;
    }
  } finally {
    await file.close();
  }
}

class TailFile {
  readonly #path: string;
  readonly #file: FileHandle;
  #buffer = Buffer.alloc(CHUNK_BYTES);
  /** What of the file the buffer holds. */
  #from = 0;
  #to = 0;

  constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  async readHeader(): Promise<TailHeader> {
    const bytes = await this.#view(0, HEADER_BYTES);
    if (bytes === undefined || bytes.readUInt32LE(0) !== SEGMENT_MAGIC) throw this.#notATail();
    if (bytes.readUInt32LE(4) !== loadBinding().crc32c(bytes.subarray(8))) {
      throw this.#damage(0, 'the checksum of the header does not match');
    }
    if (bytes.readUInt32LE(8) !== FORMAT_VERSION) {
      throw new WalError('WAL_VERSION', `${this.#path} was written by another format version`);
    }
    const header = {
      identity: Buffer.from(bytes.subarray(IDENTITY_FROM, IDENTITY_TO)),
      start: readU64(bytes, 40),
      firstLsn: readU64(bytes, 48),
      segmentBytes: readU64(bytes, 56),
      prevCrc: bytes.readUInt32LE(64),
      end: readU64(bytes, 72),
      lastLsn: readU64(bytes, 80),
    };
    // A segment of a log says nothing of an end.
    if (header.end <= header.start) throw this.#notATail();
    return header;
  }

  /** Whole batches, one after the other: each continues the one before it. */
  async *batches(header: TailHeader): AsyncGenerator<Buffer> {
    const { start, end, segmentBytes } = header;
    let { prevCrc, firstLsn: lsn } = header;
    for (let position = start; position < end; ) {
      const offset = HEADER_BYTES + position - start;
      const segmentEnd = position - (position % segmentBytes) + segmentBytes;
      const bytes = await this.#batch(offset, Math.min(segmentEnd, end) - position, lsn);
      const wrong = whatIsWrong(bytes, header, { position, lsn, prevCrc });
      if (wrong !== undefined) throw this.#damage(offset, wrong, lsn);
      yield bytes;
      prevCrc = bytes.readUInt32LE(4);
      lsn += bytes.readUInt32LE(BatchField.COUNT);
      const isFiller = bytes.readUInt8(BatchField.KIND) === KIND_FILLER;
      // Behind a filler: the zeros that end its segment, and the header of the next one.
      position = isFiller ? segmentEnd + HEADER_BYTES : position + bytes.length;
    }
    if (lsn - 1 !== header.lastLsn) {
      const why = `it should end with LSN ${header.lastLsn}, and ends with ${lsn - 1}`;
      throw this.#damage(HEADER_BYTES + end - start, why, lsn);
    }
  }

  async #batch(offset: number, room: number, lsn: number): Promise<Buffer> {
    const head = await this.#view(offset, Math.min(room, BatchField.PAYLOAD));
    if (head === undefined) throw this.#damage(offset, 'the file ends early', lsn);
    if (head.length < BatchField.PAYLOAD || head.readUInt32LE(0) !== BATCH_MAGIC) {
      throw this.#damage(offset, 'no batch begins there', lsn);
    }
    const length = head.readUInt32LE(BatchField.LENGTH);
    if (length < BatchField.PAYLOAD || length > room) {
      throw this.#damage(offset, 'a batch has no length that can be', lsn);
    }
    const bytes = await this.#view(offset, length);
    if (bytes === undefined) throw this.#damage(offset, 'the file ends early', lsn);
    return bytes;
  }

  /** So many bytes of the file; undefined where it is shorter. Valid until the next call. */
  async #view(offset: number, size: number): Promise<Buffer | undefined> {
    if (offset < this.#from || offset + size > this.#to) await this.#fill(offset, size);
    if (offset + size > this.#to) return undefined;
    return this.#buffer.subarray(offset - this.#from, offset - this.#from + size);
  }

  async #fill(offset: number, size: number): Promise<void> {
    if (this.#buffer.length < size) this.#buffer = Buffer.alloc(size);
    this.#from = offset;
    this.#to = offset;
    while (this.#to < offset + size) {
      const at = this.#to - offset;
      const room = this.#buffer.length - at;
      const { bytesRead } = await this.#file.read(this.#buffer, at, room, this.#to);
      if (bytesRead === 0) return;
      this.#to += bytesRead;
    }
  }

  #notATail(): WalError {
    return new WalError('WAL_NOT_A_LOG', `${this.#path} is no tail that was set aside`, {
      hint: 'A tail lies in the log directory and is named ….diverged; of a log give --dir.',
    });
  }

  #damage(offset: number, why: string, lsn?: number): WalError {
    return new WalError('WAL_CORRUPT', `${this.#path} at offset ${offset}: ${why}`, {
      file: this.#path,
      offset,
      lsn,
      hint: 'Take the file from another directory of the log; what is whole before that is good.',
    });
  }
}

function whatIsWrong(
  bytes: Buffer,
  { identity }: TailHeader,
  expected: { readonly position: number; readonly lsn: number; readonly prevCrc: number },
): string | undefined {
  if (bytes.readUInt32LE(4) !== loadBinding().crc32c(bytes.subarray(8))) {
    return 'the checksum does not match';
  }
  if (!bytes.subarray(IDENTITY_FROM, IDENTITY_TO).equals(identity)) return 'it is of another log';
  if (
    readU64(bytes, 40) !== expected.position ||
    readU64(bytes, BatchField.FIRST_LSN) !== expected.lsn ||
    bytes.readUInt32LE(112) !== expected.prevCrc
  ) {
    return 'the batch does not continue the one before it';
  }
  return recordsFill(bytes) ? undefined : 'the records do not fill their batch';
}

function recordsFill(bytes: Buffer): boolean {
  if (bytes.readUInt8(BatchField.KIND) !== KIND_DATA) return true;
  const end = BatchField.PAYLOAD + bytes.readUInt32LE(88);
  if (end > bytes.length) return false;
  let at: number = BatchField.PAYLOAD;
  for (let left = bytes.readUInt32LE(BatchField.COUNT); left > 0; left--) {
    if (at + 4 > end) return false;
    at += 4 + Math.ceil(bytes.readUInt32LE(at) / 4) * 4;
  }
  return at === end;
}
