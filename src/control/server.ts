import { chmodSync, lstatSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { WalError } from '../api/errors.js';
import {
  CONTROL_SOCKET,
  MAX_ANSWER_BYTES,
  MAX_REQUEST_BYTES,
  type SocketAddress,
  socketAddress,
} from './address.js';

export interface ControlServerOptions {
  /**
   * The log directory. The caller holds its lock: that is what makes an old socket here a stale
   * one.
   */
  readonly dir: string;
  readonly status: () => unknown;
  /** Gets what the request held beside `cmd`; must check it. */
  readonly promote: (options: unknown) => Promise<unknown>;
  /** The same, for a change of policy; the signal says that nobody waits for it any more. */
  readonly policy: (options: unknown, signal: AbortSignal) => Promise<unknown>;
  /** Verifies what lies on the disk; the status tells how far it is. */
  readonly scrub: (options: unknown, signal: AbortSignal) => Promise<unknown>;
  /** Automation of the failover; the first gets what the request held beside `cmd`. */
  readonly pause: (options: unknown, signal: AbortSignal) => Promise<unknown>;
  readonly resume: (options: unknown, signal: AbortSignal) => Promise<unknown>;
  /** Planned changes of role; the same as `policy` for what they get. */
  readonly switchover: (options: unknown, signal: AbortSignal) => Promise<unknown>;
  readonly demote: (options: unknown, signal: AbortSignal) => Promise<unknown>;
  /** Slots: `createSlot` and `dropSlot` get what the request held beside `cmd`. */
  readonly createSlot: (options: unknown) => Promise<unknown>;
  readonly dropSlot: (options: unknown) => Promise<unknown>;
  /** How long a connection may take to send its request. Default 5,000. */
  readonly requestTimeoutMs?: number;
}

export interface ControlServer {
  /** Removes the socket. Call it before the lock is released. */
  close(): Promise<void>;
}

const MAX_CONNECTIONS = 16;
/** A client that does not take its answer is cut off after this. */
const ANSWER_TIMEOUT_MS = 2_000;
const STAGING = 'control.new';

/**
 * Listens on `control.sock` in the log directory: one JSON line in, one JSON line out, then the
 * connection ends. Never keeps the process alive.
 */
export async function startControlServer(options: ControlServerOptions): Promise<ControlServer> {
  const { dir } = options;
  const sessions = new Set<Session>();
  const server = createServer((socket) => {
    // As many again are told so before they are let go; past that, silence.
    if (sessions.size >= 2 * MAX_CONNECTIONS) return void socket.destroy();
    const session = new Session(socket, options);
    if (sessions.size >= MAX_CONNECTIONS) session.refuse();
    sessions.add(session);
    socket.once('close', () => sessions.delete(session));
  });
  server.unref();

  // Bound inside a directory that only we can enter, then moved: nobody sees it before its mode is
  // 0600, and a stale socket is replaced in one step.
  const staging = join(dir, STAGING);
  const path = join(dir, CONTROL_SOCKET);
  rmSync(staging, { recursive: true, force: true });
  mkdirSync(staging, { mode: 0o700 });
  let address: SocketAddress | undefined;
  let inode: bigint;
  try {
    address = socketAddress(staging, CONTROL_SOCKET);
    await listen(server, address.path);
    const bound = join(staging, CONTROL_SOCKET);
    chmodSync(bound, 0o600);
    inode = lstatSync(bound, { bigint: true }).ino;
    renameSync(bound, path);
  } catch (error) {
    await stop(server);
    address?.release();
    throw error;
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
  // What goes wrong later (no more descriptors, say) concerns one connection, not the log.
  server.on('error', () => {});

  let closing: Promise<void> | undefined;
  return {
    close: () => {
      closing ??= (async () => {
        const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
        if (stat?.ino === inode) rmSync(path, { force: true });
        const stopped = stop(server);
        for (const session of sessions) session.shutDown();
        await stopped;
        address.release();
      })();
      return closing;
    },
  };
}

/** `exclusive`: in a cluster worker the socket belongs to this process, as the lock does. */
function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path, exclusive: true }, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}

/** One connection: waits for a line, answers it, ends. */
class Session {
  readonly #socket: Socket;
  readonly #options: ControlServerOptions;
  readonly #chunks: Buffer[] = [];
  readonly #gone = new AbortController();
  #bytes = 0;
  #state: 'asking' | 'working' | 'answered' = 'asking';
  #deadline: NodeJS.Timeout;

  constructor(socket: Socket, options: ControlServerOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.unref();
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      clearTimeout(this.#deadline);
      this.#gone.abort(new WalError('WAL_CONTROL', 'the client has hung up'));
    });
    socket.on('data', (chunk) => this.#take(chunk));
    // A deadline for the whole request, not an idle time: a slow drip is cut off too.
    this.#deadline = setTimeout(() => {
      this.#answer(failure('WAL_CONTROL', 'no request came in time'));
    }, options.requestTimeoutMs ?? 5_000).unref();
  }

  refuse(): void {
    this.#answer(failure('WAL_CONTROL', `more than ${MAX_CONNECTIONS} control connections`));
  }

  shutDown(): void {
    if (this.#state === 'asking') this.#socket.destroy();
    if (this.#state === 'working') {
      this.#answer(failure('WAL_CLOSED', 'the log was closed; what was under way is unknown'));
    }
    this.#socket.destroySoon();
  }

  #take(chunk: Buffer): void {
    if (this.#state !== 'asking') return;
    const end = chunk.indexOf(10);
    this.#bytes += end < 0 ? chunk.length : end;
    if (this.#bytes > MAX_REQUEST_BYTES) {
      this.#answer(failure('WAL_CONTROL', `a request is at most ${MAX_REQUEST_BYTES} bytes`));
      return;
    }
    this.#chunks.push(chunk);
    if (end < 0) return;
    clearTimeout(this.#deadline);
    this.#state = 'working';
    const line = Buffer.concat(this.#chunks).toString('utf8', 0, this.#bytes);
    this.#chunks.length = 0;
    void this.#work(line).then((answer) => {
      if (this.#state === 'working') this.#answer(answer);
    });
  }

  async #work(line: string): Promise<string> {
    try {
      const { cmd, options } = parseRequest(line);
      const result = await this.#options[cmd](options, this.#gone.signal);
      const answer = `${JSON.stringify({ ok: true, result: result ?? null })}\n`;
      if (Buffer.byteLength(answer) > MAX_ANSWER_BYTES) {
        return failure('WAL_CONTROL', 'the answer is too long');
      }
      return answer;
    } catch (error) {
      return describe(error);
    }
  }

  #answer(line: string): void {
    this.#state = 'answered';
    this.#chunks.length = 0;
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#socket.destroy(), ANSWER_TIMEOUT_MS).unref();
    // The client hangs up. Closing first, with bytes of its request unread, would reset its
    // connection.
    this.#socket.end(line);
  }
}

const oneLine = 'Send one JSON object, and a newline.';
const commands = [
  'status',
  'promote',
  'switchover',
  'demote',
  'scrub',
  'policy',
  'pause',
  'resume',
  'createSlot',
  'dropSlot',
] as const;

function parseRequest(line: string): { cmd: (typeof commands)[number]; options: unknown } {
  let request: unknown;
  try {
    request = JSON.parse(line);
  } catch {
    throw new WalError('WAL_CONTROL', 'the request is not a line of JSON', { hint: oneLine });
  }
  if (typeof request !== 'object' || request === null || Array.isArray(request)) {
    throw new WalError('WAL_CONTROL', 'the request is not a JSON object', { hint: oneLine });
  }
  const { cmd: name, ...options } = request as Record<string, unknown>;
  const cmd = commands.find((known) => known === name);
  if (cmd === undefined) {
    throw new WalError('WAL_CONTROL', `unknown command ${JSON.stringify(name) ?? 'undefined'}`, {
      hint: `The commands are ${commands.map((known) => `'${known}'`).join(', ')}.`,
    });
  }
  return { cmd, options };
}

function describe(error: unknown): string {
  if (error instanceof WalError) {
    const { code, message, hint, oldPrimary } = error;
    return failure(code, message, hint, oldPrimary);
  }
  const message = error instanceof Error ? error.message : String(error);
  return failure('WAL_CONTROL', message);
}

function failure(code: string, message: string, hint = '', oldPrimary?: object): string {
  return `${JSON.stringify({ ok: false, error: { code, message, hint, oldPrimary } })}\n`;
}
