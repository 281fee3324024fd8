import { WalError } from '../api/errors.js';
import { Backoff } from '../replication/backoff.js';
import { isFinal, refusalError } from '../replication/standby_session.js';
import { FrameReader } from '../wire/frame_reader.js';
import {
  decodePrimaryHello,
  decodeRefusal,
  encodeStandbyHello,
  type PrimaryHello,
} from '../wire/handshake_messages.js';
import { MessageType, maxHelloBytes, maxProtocol, minProtocol } from '../wire/message_type.js';
import { dial, type Peer } from './dial.js';
import { type Endpoint, showEndpoint } from './endpoint.js';
import { type Environment, pause, processEnvironment } from './environment.js';
import { checkFollowHost } from './plaintext.js';
import type { Security } from './security.js';
import { type ReplicationTiming, withDefaults } from './timing.js';

/** Who a primary is, and what a standby's log has to be created with. */
export type PrimaryIdentity = Omit<PrimaryHello, 'version'>;

export interface FetchIdentityOptions extends Endpoint, Security {
  /** Name of the standby that asks. */
  readonly name: string;
  readonly signal?: AbortSignal | undefined;
  /** Told why an attempt failed that is followed by another. */
  readonly onFailed?: ((error: WalError) => void) | undefined;
  readonly timing?: Partial<ReplicationTiming> | undefined;
  readonly environment?: Environment | undefined;
}

/**
 * Asks a primary who it is, again and again until it answers, refuses, or the signal ends the
 * wait.
 */
export async function fetchIdentity(options: FetchIdentityOptions): Promise<PrimaryIdentity> {
  checkFollowHost(options.host, options);
  const timing = withDefaults(options.timing);
  const delays = { firstMs: timing.retryFirst, mostMs: timing.retryMost };
  const { environment = processEnvironment } = options;
  const backoff = new Backoff(delays, () => environment.random());
  for (;;) {
    options.signal?.throwIfAborted();
    try {
      return await askOnce(options, timing, environment);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!(error instanceof WalError) || isFinal(error)) throw error;
      options.onFailed?.(error);
    }
    await pause(environment, backoff.next(), options.signal);
  }
}

function askOnce(
  options: FetchIdentityOptions,
  timing: ReplicationTiming,
  environment: Environment,
): Promise<PrimaryIdentity> {
  return new Promise((resolve, reject) => {
    const buffer = new Uint8Array(maxHelloBytes);
    const reader = new FrameReader([MessageType.PRIMARY_HELLO, MessageType.REFUSAL]);
    const finish = (settle: () => void): void => {
      environment.clearTimer(timer);
      options.signal?.removeEventListener('abort', onAbort);
      settle();
      socket.destroy();
    };
    let peer: Peer | undefined;
    const sink = answerSink(
      (identity) => {
        peer!.requireName(identity.name);
        finish(() => resolve(identity));
      },
      (error) => finish(() => reject(error)),
    );
    const socket = dial(options, buffer, {
      onConnect: (connected) => {
        peer = connected;
        socket.write(newcomer(options.name));
      },
      onRead: (count) => {
        try {
          reader.push(buffer, 0, count, sink);
        } catch (error) {
          finish(() => reject(error));
        }
        return !socket.destroyed;
      },
      onClose: (error) => finish(() => reject(error)),
    });
    const onAbort = (): void => finish(() => reject(options.signal!.reason));
    options.signal?.addEventListener('abort', onAbort, { once: true });
    const late = new WalError('WAL_IO', `${showEndpoint(options)} did not answer in time`);
    const timer = environment.setTimeout(() => finish(() => reject(late)), timing.handshake);
  });
}

function newcomer(name: string): Uint8Array {
  return encodeStandbyHello({
    minVersion: minProtocol,
    maxVersion: maxProtocol,
    name,
    sender: undefined,
  });
}

function answerSink(found: (identity: PrimaryIdentity) => void, failed: (error: WalError) => void) {
  return {
    message: (type: number, bytes: Uint8Array, start: number, end: number): void => {
      if (type === MessageType.REFUSAL) {
        failed(refusalError(decodeRefusal(bytes, start, end)));
        return;
      }
      const { version: _, ...identity } = decodePrimaryHello(bytes, start, end);
      found(identity);
    },
    data: (): void => undefined,
    dataBytes: (): number => 0,
  };
}
