import { WalError } from '../api/errors.js';
import { type NativeLog, State } from '../native/native_log.js';
import type { NodeIdentity } from '../replication/identity.js';
import { maxProtocol, minProtocol } from '../wire/message_type.js';
import {
  type Fetch,
  maxRangeBytes,
  putRangeHeader,
  rangeHeaderBytes,
} from '../wire/range_messages.js';
import { maxAnswerBytes } from './fetch_range.js';

export interface RangeHost {
  readonly native: NativeLog;
  readonly allocateAligned: (bytes: number) => Uint8Array;
}

/** What is read at once, unless one batch is larger. */
const readBytes = 1024 * 1024;
const block = 4096;

/**
 * Whole batches of this log for a peer that repairs its copy, as messages. They are read from the
 * disk and verified there: bytes that do not verify never leave. Throws a WalError that the peer
 * may be told.
 */
export async function readRange(
  host: RangeHost,
  identity: NodeIdentity,
  fetch: Fetch,
): Promise<Uint8Array[]> {
  const { native } = host;
  if (fetch.maxVersion < minProtocol || fetch.minVersion > maxProtocol) {
    throw new WalError('WAL_VERSION', `the peer speaks protocol ${minProtocol} to ${maxProtocol}`);
  }
  if (fetch.logId !== identity.logId || fetch.salt !== identity.salt) {
    throw new WalError('WAL_NOT_A_LOG', 'the peer has another log');
  }
  const claim = native.retain(fetch.from);
  try {
    return await read(host, fetch.from);
  } catch (error) {
    throw refusalOf(error, fetch.from);
  } finally {
    native.release(claim);
  }
}

async function read({ native, allocateAligned }: RangeHost, from: number): Promise<Uint8Array[]> {
  for (let bytes = readBytes; bytes <= maxAnswerBytes; ) {
    const buffer = allocateAligned(bytes);
    const found = await native.readInto(buffer, from, native.state[State.FLUSH_POSITION]!);
    if (found.length > 0) return messages(buffer, found.offset, found.length, from);
    if (found.need === 0) {
      throw new WalError('WAL_LSN_GONE', `the log of the peer ends before position ${from}`);
    }
    bytes = Math.max(bytes + block, found.need + 2 * block);
  }
  throw new WalError('WAL_UNSUPPORTED', 'a batch is larger than one can be');
}

function messages(
  buffer: Uint8Array,
  offset: number,
  length: number,
  position: number,
): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < length; at += maxRangeBytes) {
    const size = Math.min(maxRangeBytes, length - at);
    const message = Buffer.allocUnsafe(rangeHeaderBytes + size);
    putRangeHeader(message, position + at, size, at + size === length);
    message.set(buffer.subarray(offset + at, offset + at + size), rangeHeaderBytes);
    pieces.push(message);
  }
  return pieces;
}

/** What a peer is told: without names of files, which are nothing to it. */
export function refusalOf(error: unknown, from: number): WalError {
  const known = WalError.from(error);
  const code = known instanceof WalError ? known.code : 'WAL_IO';
  if (code === 'WAL_CORRUPT') {
    return new WalError(code, `the peer has no batch that verifies at position ${from}`);
  }
  if (code === 'WAL_LSN_GONE' || code === 'WAL_CLOSED') {
    return new WalError(code, `the peer does not have position ${from}`);
  }
  return new WalError('WAL_IO', `the peer cannot read its log at position ${from}`);
}
