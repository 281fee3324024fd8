import type { Socket } from 'node:net';
import { WalError } from '../api/errors.js';
import { type NativeLog, type Place, State } from '../native/native_log.js';
import { invalid } from '../wire/bytes.js';
import type { SessionTag } from '../wire/stream_messages.js';
import {
  encodeCannot,
  maxPieceBytes,
  pieceHeaderBytes,
  putPiece,
  type Want,
} from '../wire/want_messages.js';
import { refusalOf } from './range_server.js';

export interface RangeGiverHost {
  readonly native: NativeLog;
  readonly allocateAligned: (bytes: number) => Uint8Array;
  /** As far as this log reaches. */
  readonly commit: Place;
}

const block = 4096;
/** Bytes in the socket with which nothing more may be wanted. */
const maxUnsent = 256 * 1024;

function nothing({ from }: Want, need: number): string {
  return need > 0
    ? `the batch of the peer at position ${from} takes ${need} bytes`
    : `the log of the peer has nothing that is committed at position ${from}`;
}

/**
 * What a standby gives its primary of its own log, over their session: one range at a time, in
 * memory of at most what was asked for, and one small piece in the socket at a time, so that no
 * acknowledgement waits for more. Only what is flushed here and committed is given: nothing can cut
 * it. It is read from the disk and verified there; bytes that do not verify never leave.
 */
export class RangeGiver {
  readonly #host: RangeGiverHost;
  readonly #socket: Socket;
  readonly #tag: SessionTag;
  #busy = false;

  constructor(host: RangeGiverHost, socket: Socket, tag: SessionTag) {
    this.#host = host;
    this.#socket = socket;
    this.#tag = tag;
  }

  /** Throws WAL_PEER_INVALID where the last range is not given yet. */
  give(want: Want): void {
    if (this.#busy) throw invalid('a second range is wanted before the first was given');
    if (this.#socket.writableLength > maxUnsent) {
      throw invalid('ranges are wanted, and nothing of them is read');
    }
    this.#busy = true;
    void this.#answer(want);
  }

  async #answer(want: Want): Promise<void> {
    try {
      const { bytes, need } = await this.#read(want);
      if (bytes.length > 0) this.#sendFrom(want, bytes, 0);
      else this.#refuse(want, need, new WalError('WAL_LSN_GONE', nothing(want, need)));
    } catch (error) {
      this.#refuse(want, 0, refusalOf(error, want.from));
    }
  }

  async #read({ from, most }: Want): Promise<{ bytes: Uint8Array; need: number }> {
    const { native, allocateAligned, commit } = this.#host;
    const upTo = Math.min(native.state[State.FLUSH_POSITION]!, commit.position);
    const offset = from % block;
    const claim = native.retain(from);
    try {
      const aligned = allocateAligned(Math.ceil((offset + most) / block) * block);
      // As long as an answer may be, from where the batch lies in its block.
      const buffer = aligned.subarray(0, offset + most);
      const found = await native.readInto(buffer, from, upTo);
      const bytes = buffer.subarray(found.offset, found.offset + found.length);
      return { bytes, need: found.need };
    } finally {
      native.release(claim);
    }
  }

  /** The next piece goes when the last one has left: acknowledgements come in between. */
  #sendFrom(want: Want, bytes: Uint8Array, at: number): void {
    if (!this.#socket.writable) return;
    const size = Math.min(maxPieceBytes, bytes.length - at);
    const isLast = at + size === bytes.length;
    const message = Buffer.allocUnsafe(pieceHeaderBytes + size);
    const { number, from } = want;
    putPiece(message, this.#tag, { number, position: from + at, isLast }, size);
    message.set(bytes.subarray(at, at + size), pieceHeaderBytes);
    if (isLast) this.#busy = false;
    this.#socket.write(message, (error) => {
      if (!error && !isLast) this.#sendFrom(want, bytes, at + size);
    });
  }

  #refuse({ number }: Want, need: number, { code, message }: WalError): void {
    this.#busy = false;
    if (!this.#socket.writable) return;
    this.#socket.write(encodeCannot(this.#tag, { number, need, code, message }));
  }
}
