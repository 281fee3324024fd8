import type { Place, Term } from '../native/native_log.js';
import { invalid } from './bytes.js';
import { begin, finish, getName, getPlace, getTerm, open, putPlace, putTerm } from './fields.js';
import { MessageType, maxHelloBytes, maxMessageBytes } from './message_type.js';

/**
 * A primary that was demoted hands the log over to a member. The whole exchange of one connection,
 * in place of a hello, from protocol version 3 on:
 *
 *   the demoted primary                    its successor
 *      | -- HANDOVER --------------------> |   which log, who was the primary, where its log ends
 *      | <-------------- TAKEN or REFUSAL -|   its opening is flushed, and it takes appends
 *
 *   HANDOVER | 5 magic u32 | 9 versions u16, u16 | 13 log id 16 B | 29 salt 8 B
 *            | 37 term of the demoted primary | 65 epoch u64: open this one, or one above
 *            | 73 end: position, LSN | 89 crc u32 | 93 name |
 *   TAKEN    | 5 version u16 | 7 term | 35 last LSN before it u64 | 43 name |
 *
 * The term's opener is who sends it. `crc` is of the batch that ends there.
 */
export interface Handover {
  readonly minVersion: number;
  readonly maxVersion: number;
  readonly logId: string;
  readonly salt: string;
  /** That the sender had as the primary. */
  readonly term: Term;
  /** Stored by the sender for the successor: above all that it knows. */
  readonly epoch: number;
  /** Where the sender's log ends, for good. */
  readonly end: Place;
  readonly crc: number;
  /** Of the sender. */
  readonly name: string;
}

/** The successor is the primary. */
export interface Taken {
  readonly version: number;
  readonly term: Term;
  /** Last record of the term before. */
  readonly lsn: number;
  readonly name: string;
}

const magic = 0x48524d57; // "WMRH"

export function encodeHandover(handover: Handover): Uint8Array {
  const { minVersion, maxVersion, logId, salt, term, epoch, end, crc, name } = handover;
  const fields = begin(MessageType.HANDOVER, maxHelloBytes).u32(magic);
  putTerm(fields.u16(minVersion).u16(maxVersion).hex(logId, 32).hex(salt, 16), term);
  putPlace(fields.u64(epoch), end);
  return finish(fields.u32(crc).text(name));
}

export function decodeHandover(bytes: Uint8Array, start: number, end: number): Handover {
  const fields = open(bytes, start, end);
  if (fields.u32() !== magic) throw invalid('the peer does not speak this protocol');
  const minVersion = fields.u16();
  const maxVersion = fields.u16();
  if (minVersion > maxVersion) throw invalid('a version range is empty');
  const handover = {
    ...{ minVersion, maxVersion, logId: fields.hex(32), salt: fields.hex(16) },
    term: getTerm(fields),
    epoch: fields.u64(),
    end: getPlace(fields),
    crc: fields.u32(),
    name: getName(fields),
  };
  fields.end();
  if (handover.epoch <= handover.term.epoch) throw invalid('a hand-over in no higher epoch');
  return handover;
}

export function encodeTaken({ version, term, lsn, name }: Taken): Uint8Array {
  const fields = begin(MessageType.TAKEN, maxMessageBytes).u16(version);
  putTerm(fields, term);
  return finish(fields.u64(lsn).text(name));
}

export function decodeTaken(bytes: Uint8Array, start: number, end: number): Taken {
  const fields = open(bytes, start, end);
  const version = fields.u16();
  const term = getTerm(fields);
  const taken = { version, term, lsn: fields.u64(), name: getName(fields) };
  fields.end();
  return taken;
}
