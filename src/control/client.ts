import { createConnection, type Socket } from 'node:net';
import { errorCodes, WalError, type WalErrorCode, type WalErrorDetails } from '../api/errors.js';
import {
  CONTROL_SOCKET,
  MAX_ANSWER_BYTES,
  MAX_REQUEST_BYTES,
  type SocketAddress,
  socketAddress,
} from './address.js';

export type ControlRequest =
  | { readonly cmd: 'status' }
  | { readonly cmd: 'scrub' | 'resume' }
  | { readonly cmd: 'pause'; readonly reason: string }
  | { readonly cmd: 'createSlot' | 'dropSlot'; readonly name: string }
  | ({ readonly cmd: 'promote' | 'switchover' | 'demote' | 'policy' } & Readonly<
      Record<string, unknown>
    >);

/** `listening: false`: no process has the log open with a control socket; that is not an error. */
export type ControlReply =
  | { readonly listening: false }
  | { readonly listening: true; readonly result: unknown };

export interface ControlRequestOptions {
  readonly signal?: AbortSignal;
  /** For the whole exchange. Without it, as long as the other side takes. */
  readonly timeoutMs?: number;
}

/**
 * Asks the process that has the log in `dir` open. Rejects with what that process answered (a
 * `WalError` with its code and hint), or with `WAL_CONTROL` where it did not answer as it should.
 */
export async function controlRequest(
  dir: string,
  request: ControlRequest,
  options: ControlRequestOptions = {},
): Promise<ControlReply> {
  options.signal?.throwIfAborted();
  const line = JSON.stringify(request);
  if (Buffer.byteLength(line) > MAX_REQUEST_BYTES) {
    throw new RangeError(`a control request is at most ${MAX_REQUEST_BYTES} bytes`);
  }
  let address: SocketAddress;
  try {
    address = socketAddress(dir, CONTROL_SOCKET);
  } catch (error) {
    if (nobodyListens(error)) return { listening: false };
    throw unreachable(error);
  }
  try {
    const answer = await exchange(address.path, line, options);
    if (answer === undefined) return { listening: false };
    return { listening: true, result: parseAnswer(answer) };
  } finally {
    address.release();
  }
}

function exchange(
  path: string,
  line: string,
  { signal, timeoutMs }: ControlRequestOptions,
): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    let connected = false;
    let timer: NodeJS.Timeout | undefined;
    const chunks: Buffer[] = [];
    let bytes = 0;
    const socket: Socket = createConnection({ path });
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      socket.destroy();
      settle();
    };
    const fail = (message: string): void =>
      finish(() => reject(new WalError('WAL_CONTROL', message)));
    const onAbort = (): void => finish(() => reject(signal?.reason));
    signal?.addEventListener('abort', onAbort, { once: true });
    if (timeoutMs !== undefined) {
      timer = setTimeout(
        () => fail(`the process that has the log open did not answer within ${timeoutMs} ms`),
        timeoutMs,
      );
    }
    socket.on('connect', () => {
      connected = true;
      socket.write(`${line}\n`);
    });
    socket.on('error', (error) => {
      if (!connected && nobodyListens(error)) finish(() => resolve(undefined));
      else finish(() => reject(unreachable(error)));
    });
    socket.on('data', (chunk) => {
      const end = chunk.indexOf(10);
      bytes += end < 0 ? chunk.length : end;
      chunks.push(chunk);
      if (bytes > MAX_ANSWER_BYTES) fail('the answer is too long');
      else if (end >= 0) {
        const answer = Buffer.concat(chunks).toString('utf8', 0, bytes);
        finish(() => resolve(answer));
      }
    });
    // After a settled exchange this finds the promise settled already.
    socket.on('close', () => fail('the process that has the log open hung up without an answer'));
  });
}

function parseAnswer(line: string): unknown {
  let answer: unknown;
  try {
    answer = JSON.parse(line);
  } catch {
    throw new WalError('WAL_CONTROL', 'the answer is not a line of JSON');
  }
  if (typeof answer === 'object' && answer !== null) {
    const { ok, result, error } = answer as { ok?: unknown; result?: unknown; error?: unknown };
    if (ok === true) return result;
    if (ok === false && typeof error === 'object' && error !== null) {
      throw remoteError(error as Record<string, unknown>);
    }
  }
  throw new WalError('WAL_CONTROL', 'the answer is not one of this protocol');
}

function remoteError({ code, message, hint, oldPrimary }: Record<string, unknown>): WalError {
  const known = typeof code === 'string' && Object.hasOwn(errorCodes, code);
  return new WalError(
    known ? (code as WalErrorCode) : 'WAL_CONTROL',
    typeof message === 'string' ? message : 'the request failed',
    {
      hint: typeof hint === 'string' && hint !== '' ? hint : undefined,
      oldPrimary: oldPrimary as WalErrorDetails['oldPrimary'],
    },
  );
}

/** ECONNREFUSED: a socket file that a killed process left. ENOTDIR: the path leads to a file. */
function nobodyListens(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'ECONNREFUSED';
}

function unreachable(error: unknown): WalError {
  const { code, message } = error as NodeJS.ErrnoException;
  const denied = code === 'EACCES' || code === 'EPERM';
  return new WalError('WAL_CONTROL', `the control socket cannot be reached: ${message}`, {
    hint: denied ? 'Run the command as the user who runs the process.' : undefined,
    cause: error,
  });
}
