import type { Socket } from 'node:net';
import { WalError } from '../api/errors.js';
import { type NativeLog, State, type Term } from '../native/native_log.js';
import { firstPosition } from '../replication/history.js';
import type { NodeIdentity } from '../replication/identity.js';
import { maxProtocol } from '../wire/message_type.js';
import {
  encodeSeedOffer,
  isSameSnapshot,
  maxSeedPieceBytes,
  putSeedPiece,
  type SeedAsk,
  type SeedOffer,
  seedPieceHeaderBytes,
} from '../wire/seed_messages.js';
import { type Environment, pause } from './environment.js';
import type { SeedFile, SeedShelf } from './seed_shelf.js';

export interface SeedGiverHost {
  readonly native: NativeLog;
  readonly environment: Environment;
  readonly identity: NodeIdentity;
  /** Of those that are fed. */
  readonly term: Term;
  /** undefined: the node has no snapshots. */
  readonly seeds: SeedShelf | undefined;
  /** The log from `position` on is kept for this node, until it follows or for a while. */
  holdForSeed(nodeId: string, position: number): void;
}

/**
 * Gives a standby a snapshot, and says where its log is to begin: whoever asked has less of the log
 * than is left. One piece is read while the one before it leaves; nothing else is in memory. It
 * ends with its connection, and with a peer that takes nothing for `stallMs`.
 */
export async function giveSeed(
  host: SeedGiverHost,
  ask: SeedAsk,
  socket: Socket,
  stallMs: number,
): Promise<void> {
  requireSameLog(host, ask);
  let file: SeedFile | undefined;
  let offer: SeedOffer | undefined;
  try {
    // Before it is looked up how far the log reaches back. However slowly a peer takes what it is
    // sent, it holds no more than `holdForSeed` lets it.
    const claim = host.native.retain(0);
    try {
      file = await host.seeds?.open(ask.have);
      if (file === undefined) throw nothingToGive(host.seeds);
      offer = await offerOf(host, ask, file);
      // The role may be over by then: nobody would let go of it.
      if (!socket.writable) return;
      host.holdForSeed(ask.nodeId, offer.start.position);
    } finally {
      host.native.release(claim);
    }
    socket.write(encodeSeedOffer(offer));
    await sendFile(host, file, offer.from, socket, stallMs);
  } finally {
    await file?.close();
  }
}

function requireSameLog({ identity }: SeedGiverHost, ask: SeedAsk): void {
  if (ask.logId !== identity.logId || ask.salt !== identity.salt) {
    throw new WalError('WAL_NOT_A_LOG', `${ask.name} has another log`);
  }
  if (ask.minVersion > maxProtocol) {
    throw new WalError('WAL_VERSION', `this node speaks protocol versions up to ${maxProtocol}`);
  }
}

function nothingToGive(seeds: SeedShelf | undefined): WalError {
  if (seeds === undefined) {
    const text = 'the peer keeps no snapshots of its state: it was opened without `snapshot`';
    return new WalError('WAL_LSN_GONE', text);
  }
  // It may have one later.
  const text =
    'the peer has no good snapshot of its state yet: take one there with `log.snapshot()`';
  return new WalError('WAL_PEER_REFUSED', text);
}

async function offerOf(host: SeedGiverHost, ask: SeedAsk, file: SeedFile): Promise<SeedOffer> {
  const { native } = host;
  const { segmentBytes, start: kept, history } = native.info();
  const position = Math.floor(file.position / segmentBytes) * segmentBytes + firstPosition;
  if (position < kept.position) throw new WalError('WAL_LSN_GONE', 'the log there was trimmed');
  if (position <= ask.end.position) {
    const text = `the log of ${ask.name} reaches past where it would begin with a snapshot`;
    throw new WalError('WAL_DIVERGED', text);
  }
  const { lsn, crc } = await native.placeAt(position);
  const isSame = ask.have !== undefined && isSameSnapshot(ask.have, file.id);
  return {
    term: host.term,
    start: { position, lsn },
    crc,
    history: history.filter((entry) => entry.position < position),
    snapshot: file.id,
    fileBytes: file.fileBytes,
    from: isSame ? Math.min(ask.have?.bytes ?? 0, file.fileBytes) : 0,
  };
}

async function sendFile(
  { environment, seeds, native }: SeedGiverHost,
  file: SeedFile,
  from: number,
  socket: Socket,
  stallMs: number,
): Promise<void> {
  const pace = new Pace(environment, seeds?.bytesPerSecond ?? 0, () => {
    return native.state[State.CLOSED_POSITION] ?? 0;
  });
  let written: Promise<void> = Promise.resolve();
  for (let at = from; at < file.fileBytes && socket.writable; ) {
    const size = Math.min(maxSeedPieceBytes, file.fileBytes - at);
    const message = Buffer.allocUnsafeSlow(seedPieceHeaderBytes + size);
    const read = await file.read(message.subarray(seedPieceHeaderBytes), at);
    if (read < size) throw new WalError('WAL_IO', 'the snapshot of the peer ends early');
    putSeedPiece(message, at, size, at + size === file.fileBytes);
    await written;
    if (!socket.writable) return;
    pace.begin();
    // It is waited for with the next piece; it ends with the connection.
    written = write(socket, message, environment, stallMs);
    at += size;
    await pace.end(size);
  }
  await written;
}

/** Resolves when it has left this process. */
function write(
  socket: Socket,
  message: Uint8Array,
  environment: Environment,
  stallMs: number,
): Promise<void> {
  return new Promise((resolve) => {
    const timer = environment.setTimeout(() => socket.destroy(), stallMs);
    timer.unref();
    const settle = (): void => {
      environment.clearTimer(timer);
      socket.off('close', settle);
      resolve();
    };
    socket.once('close', settle);
    socket.write(message, settle);
  });
}

/** While the log is appended to, sending takes so much of this thread's time. */
const shareOfThread = 0.15;
/** From so many milliseconds on it is paused: a timer takes about one. */
const leastPauseMs = 2;
/** A thread that stood still once does not hold it up for longer: the standby would give it up. */
const mostPauseMs = 1000;

/** Holds up the sending, so that what is committed meanwhile has priority, and to its rate. */
class Pace {
  readonly #environment: Environment;
  readonly #rate: number;
  readonly #appended: () => number;
  readonly #since: number;
  #sent = 0;
  #seen: number;
  #began = 0;
  /** Milliseconds that are to be paused. */
  #due = 0;

  constructor(environment: Environment, rate: number, appended: () => number) {
    this.#environment = environment;
    this.#rate = rate;
    this.#appended = appended;
    this.#since = environment.now();
    this.#seen = appended();
  }

  begin(): void {
    this.#began = this.#environment.now();
  }

  async end(bytes: number): Promise<void> {
    const now = this.#environment.now();
    this.#sent += bytes;
    const appended = this.#appended();
    if (appended !== this.#seen) {
      this.#due += (now - this.#began) * (1 / shareOfThread - 1);
      this.#seen = appended;
    }
    const late = this.#rate === 0 ? 0 : this.#since + (this.#sent * 1000) / this.#rate - now;
    this.#due = Math.min(this.#due, mostPauseMs);
    const due = Math.min(Math.max(this.#due, late), mostPauseMs);
    if (due < leastPauseMs) return;
    await pause(this.#environment, due, undefined);
    this.#due -= this.#environment.now() - now;
  }
}
