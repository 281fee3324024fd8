import { type NativeLog, type Place, State } from '../../src/native/native_log.js';
import type { CommitPolicy } from '../../src/replication/commit_place.js';
import { Follower, type FollowerOptions } from '../../src/transport/follower.js';
import { PrimaryHub, type PrimaryHubOptions } from '../../src/transport/primary_hub.js';
import type { Security } from '../../src/transport/security.js';
import type { ReplicationTiming } from '../../src/transport/timing.js';
import { binding, type OpenOptions, TestLog } from '../native/native.js';

/** Short, so that a test need not wait; long enough for a busy machine. */
export const quick: Partial<ReplicationTiming> = {
  heartbeat: 100,
  dead: 2000,
  handshake: 2000,
  stall: 100,
  close: 500,
  retryFirst: 5,
  retryMost: 50,
};

const local: CommitPolicy = { synchronousCommit: 'local', standbys: undefined };

export function identityOf(native: NativeLog) {
  const { logId, salt, nodeId, name, segmentBytes, padded, maxRecordBytes } = native.info();
  return { logId, salt, nodeId, name, segmentBytes, padded, maxRecordBytes };
}

/** A primary as Log would drive one: a real log, a hub, and a record of what the hub said. */
export class PrimaryNode {
  readonly log: TestLog;
  readonly hub: PrimaryHub;
  readonly heard: string[] = [];
  /** Why each was not let in. */
  readonly refused: string[] = [];
  commitMoves = 0;
  /** Whether somebody waits for room in the ring. */
  ringWanted = true;
  port = 0;

  private constructor(log: TestLog, options: Partial<PrimaryHubOptions>) {
    this.log = log;
    const { term } = log.native.info();
    this.hub = new PrimaryHub({
      native: log.native,
      identity: identityOf(log.native),
      term: () => term,
      policy: local,
      isRingWanted: () => this.ringWanted,
      timing: quick,
      allocateAligned: (bytes) => binding.allocateAligned(bytes),
      events: {
        onCommitMoved: () => {
          this.commitMoves += 1;
        },
        onStandby: ({ name, connected, reason }) =>
          this.heard.push(connected ? `${name} came` : `${name} went: ${reason}`),
        onRefused: ({ reason }) => this.refused.push(reason),
        onHigherTerm: (higher) => this.heard.push(`fenced by epoch ${higher.epoch}`),
        onStop: (error) => this.heard.push(error.code),
      },
      ...options,
    });
    log.native.onProgress(() => {
      this.hub.flushAdvanced();
    });
    this.hub.flushAdvanced();
  }

  static async open(
    options: OpenOptions,
    hub: Partial<PrimaryHubOptions> = {},
    security: Partial<Security> = {},
  ): Promise<PrimaryNode> {
    const node = new PrimaryNode(await TestLog.openPrimary(options), hub);
    node.port = (
      await node.hub.listen({
        host: '127.0.0.1',
        port: 0,
        plaintext: false,
        ...security,
      })
    ).port;
    return node;
  }

  /** One batch; sent at once. */
  async batch(...records: readonly (Uint8Array | string)[]): Promise<Place> {
    const place = await this.log.batch(...records);
    this.hub.closedAdvanced();
    return place;
  }

  async close(): Promise<void> {
    await this.hub.close();
    await this.log.close();
  }
}

/** A standby as Log would drive one. */
export class StandbyNode {
  readonly log: TestLog;
  readonly follower: Follower;
  readonly heard: string[] = [];

  private constructor(log: TestLog, port: number, options: Partial<FollowerOptions>) {
    this.log = log;
    this.follower = new Follower({
      native: log.native,
      identity: identityOf(log.native),
      host: '127.0.0.1',
      port,
      plaintext: false,
      timing: quick,
      events: {
        onCommitMoved: () => undefined,
        onConnected: ({ primary }) => this.heard.push(`connected to ${primary}`),
        onDisconnected: ({ reason }) => this.heard.push(`disconnected: ${reason}`),
        onFailed: (error) => this.heard.push(`failed: ${error.code}`),
      },
      ...options,
    });
    log.native.onProgress(() => {
      this.follower.progress();
    });
    this.follower.start();
  }

  static async open(
    of: NativeLog,
    port: number,
    options: OpenOptions,
    follower: Partial<FollowerOptions> = {},
  ): Promise<StandbyNode> {
    return new StandbyNode(await TestLog.openStandby(of, options), port, follower);
  }

  get end(): Place {
    const { state } = this.log.native;
    return { position: state[State.CLOSED_POSITION]!, lsn: state[State.CLOSED_LSN]! };
  }

  async close(): Promise<void> {
    await this.follower.stop();
    await this.log.close();
  }
}

/** Waits until a condition holds; fails with what `describe` says after a while. */
export async function until(
  condition: () => boolean,
  describe: () => unknown = () => '',
  withinMs = 8000,
): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!condition()) {
    if (performance.now() > deadline) {
      throw new Error(`it did not come about: ${JSON.stringify(describe())}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
