import type { HistoryEntry, Place, Term } from '../native/native_log.js';
import type { NumberedRule } from '../replication/rule.js';
import { type FieldReader, invalid } from './bytes.js';
import {
  begin,
  finish,
  getHistory,
  getName,
  getPlace,
  getTerm,
  noId,
  noSalt,
  noTerm,
  open,
  putHistory,
  putPlace,
  putTerm,
} from './fields.js';
import { MessageType, maxHelloBytes, maxMessageBytes, witnessProtocol } from './message_type.js';
import { getRule, putRule } from './rule_message.js';

/** The log and node that a hello speaks for. */
export interface HelloSender {
  readonly logId: string;
  readonly salt: string;
  readonly nodeId: string;
  readonly term: Term;
}

export interface StandbyHello {
  readonly minVersion: number;
  readonly maxVersion: number;
  readonly name: string;
  /** undefined: a standby that has no log yet and asks which one to create. */
  readonly sender: HelloSender | undefined;
}

export interface PrimaryHello extends HelloSender {
  readonly version: number;
  readonly name: string;
  readonly segmentBytes: number;
  readonly padded: boolean;
  readonly maxRecordBytes: number;
}

export interface Refusal {
  /** A key of the error table. */
  readonly code: string;
  readonly message: string;
  /** The refusing side's term, so that an older one hears of it. */
  readonly term: Term | undefined;
}

/** Where a standby's log ends. */
export interface StandbyPosition {
  readonly end: Place;
  /** crc of the batch that ends there; 0 for an empty log. */
  readonly crc: number;
  readonly commit: Place;
  readonly history: readonly HistoryEntry[];
}

export interface Accept {
  /** Tells this connection's messages from those of earlier ones. */
  readonly session: number;
  /** Log bytes follow from here; a standby that is longer cuts its log here first. */
  readonly start: number;
  /** crc of the primary's batch that ends at `start`; 0 where the log begins. */
  readonly crc: number;
  /** Where the primary's log ended when it answered. */
  readonly end: Place;
  readonly commit: Place;
  /** What the primary's acknowledgements mean: recorded before anything is acknowledged to it. */
  readonly rule: NumberedRule;
  readonly history: readonly HistoryEntry[];
  /**
   * Ids of nodes of which the log that the primary's term began with has all that they acknowledged
   * from their disks in the term before it, or later (candidacy.ts). Not all need be told.
   */
  readonly witnesses: readonly string[];
}

/** So many fit beside the longest history and rule. */
const maxWitnesses = 32;

const magic = 0x50524d57; // "WMRP"

export function encodeStandbyHello(hello: StandbyHello): Uint8Array {
  const fields = begin(MessageType.STANDBY_HELLO, maxHelloBytes).u32(magic);
  fields
    .u16(hello.minVersion)
    .u16(hello.maxVersion)
    .u8(hello.sender === undefined ? 1 : 0);
  fields.hex(hello.sender?.logId ?? noId, 32).hex(hello.sender?.salt ?? noSalt, 16);
  fields.hex(hello.sender?.nodeId ?? noId, 32);
  putTerm(fields, hello.sender?.term ?? noTerm);
  return finish(fields.text(hello.name));
}

export function decodeStandbyHello(bytes: Uint8Array, start: number, end: number): StandbyHello {
  const fields = open(bytes, start, end);
  if (fields.u32() !== magic) throw invalid('the peer does not speak this protocol');
  const minVersion = fields.u16();
  const maxVersion = fields.u16();
  if (minVersion > maxVersion) throw invalid('a version range is empty');
  const flags = fields.u8();
  if (flags > 1) throw invalid('unknown flags');
  const sender = {
    logId: fields.hex(32),
    salt: fields.hex(16),
    nodeId: fields.hex(32),
    term: getTerm(fields),
  };
  const name = getName(fields);
  fields.end();
  return { minVersion, maxVersion, name, sender: flags === 1 ? undefined : sender };
}

export function encodePrimaryHello(hello: PrimaryHello): Uint8Array {
  const fields = begin(MessageType.PRIMARY_HELLO, maxHelloBytes).u32(magic);
  fields.u16(hello.version).u8(hello.padded ? 1 : 0);
  fields.hex(hello.logId, 32).hex(hello.salt, 16).hex(hello.nodeId, 32);
  putTerm(fields, hello.term);
  fields.u64(hello.segmentBytes).u64(hello.maxRecordBytes);
  return finish(fields.text(hello.name));
}

export function decodePrimaryHello(bytes: Uint8Array, start: number, end: number): PrimaryHello {
  const fields = open(bytes, start, end);
  if (fields.u32() !== magic) throw invalid('the peer does not speak this protocol');
  const version = fields.u16();
  const flags = fields.u8();
  if (flags > 1) throw invalid('unknown flags');
  const hello = {
    version,
    padded: flags === 1,
    logId: fields.hex(32),
    salt: fields.hex(16),
    nodeId: fields.hex(32),
    term: getTerm(fields),
    segmentBytes: fields.u64(),
    maxRecordBytes: fields.u64(),
    name: getName(fields),
  };
  fields.end();
  return hello;
}

const maxCodeBytes = 64;
const maxReasonBytes = 600;

export function encodeRefusal(refusal: Refusal): Uint8Array {
  const fields = begin(MessageType.REFUSAL, maxHelloBytes);
  fields.text(refusal.code.slice(0, maxCodeBytes));
  fields.text(cutText(refusal.message, maxReasonBytes));
  fields.u8(refusal.term === undefined ? 0 : 1);
  putTerm(fields, refusal.term ?? noTerm);
  return finish(fields);
}

export function decodeRefusal(bytes: Uint8Array, start: number, end: number): Refusal {
  const fields = open(bytes, start, end);
  const code = fields.text(maxCodeBytes);
  const message = fields.text(maxReasonBytes);
  const flags = fields.u8();
  if (flags > 1) throw invalid('unknown flags');
  const term = getTerm(fields);
  fields.end();
  return { code, message: printable(message), term: flags === 1 ? term : undefined };
}

export function encodePosition(position: StandbyPosition): Uint8Array {
  const fields = begin(MessageType.POSITION, maxMessageBytes);
  putPlace(fields, position.end);
  fields.u32(position.crc);
  putPlace(fields, position.commit);
  putHistory(fields, position.history);
  return finish(fields);
}

export function decodePosition(bytes: Uint8Array, start: number, end: number): StandbyPosition {
  const fields = open(bytes, start, end);
  const position = {
    end: getPlace(fields),
    crc: fields.u32(),
    commit: getPlace(fields),
    history: getHistory(fields),
  };
  fields.end();
  return position;
}

export function encodeAccept(accept: Accept, version: number): Uint8Array {
  const fields = begin(MessageType.ACCEPT, maxMessageBytes);
  fields.u32(accept.session).u64(accept.start).u32(accept.crc);
  putPlace(fields, accept.end);
  putPlace(fields, accept.commit);
  putRule(fields, accept.rule);
  putHistory(fields, accept.history);
  if (version < witnessProtocol) return finish(fields);
  const witnesses = accept.witnesses.slice(0, maxWitnesses);
  fields.u8(witnesses.length);
  for (const id of witnesses) fields.hex(id, 32);
  return finish(fields);
}

export function decodeAccept(
  bytes: Uint8Array,
  start: number,
  end: number,
  version: number,
): Accept {
  const fields = open(bytes, start, end);
  const accept = {
    session: fields.u32(),
    start: fields.u64(),
    crc: fields.u32(),
    end: getPlace(fields),
    commit: getPlace(fields),
    rule: getRule(fields),
    history: getHistory(fields),
    witnesses: version < witnessProtocol ? [] : getWitnesses(fields),
  };
  fields.end();
  return accept;
}

function getWitnesses(fields: FieldReader): string[] {
  const count = fields.u8();
  if (count > maxWitnesses) throw invalid('too many witnesses');
  return Array.from({ length: count }, () => fields.hex(32));
}

/** Cuts a text so that its UTF-8 form is at most this long. */
export function cutText(text: string, maxBytes: number): string {
  const room = new Uint8Array(maxBytes);
  return text.slice(0, new TextEncoder().encodeInto(text, room).read);
}

/** A peer's words go into error messages: no control characters. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, ' ');
}
