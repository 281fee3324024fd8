/** A process with a log, as primary or as standby: what the rows of walmirror are measured in. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Log,
  type OpenOptions,
  type SnapshotOptions,
  type SwitchedOver,
  type ThreadedLog,
  type TlsOptions,
} from 'walmirror';
import { etcdReferee } from 'walmirror/referee';
import { serve } from '../harness/agent.js';
import { type BulkWriter, runBulk, runCommitters } from '../harness/driver.js';
import { type Memory, MemoryWatch, readMemory } from '../harness/memory.js';
import type { Sample, Schedule } from '../harness/plan.js';
import { RecordSource } from '../harness/records.js';
import { nextTurn, tryAppend, untilRoom } from './append.js';
import { type Checked, type CheckRequest, checkTail } from './check_tail.js';
import { Load } from './load.js';
import { Trimmer } from './trimmer.js';

/** A node of a group that goes on by itself. */
export interface GroupRequest {
  readonly port: number;
  /** Ports of all nodes. */
  readonly members: readonly number[];
  /** URL. */
  readonly etcd: string;
  readonly memory: string;
  readonly openAlone: boolean;
}

export interface OpenRequest {
  readonly dir: string;
  readonly name: string;
  readonly segmentBytes?: number | undefined;
  readonly listen: boolean;
  readonly followPort?: number | undefined;
  readonly rejoin?: 'auto';
  /** Where it listens; any without. */
  readonly listenPort?: number | undefined;
  /** Of all nodes of the group. */
  readonly memberPorts?: readonly number[] | undefined;
  readonly openAlone?: boolean;
  readonly group?: GroupRequest;
  readonly tls?: TlsOptions | undefined;
  /** Commits wait for one standby's flush; else for the own one. */
  readonly synchronous: boolean;
  /** The log runs in a thread of its own. */
  readonly threaded?: boolean | undefined;
  /** Trim all the time, so that segments are recycled. */
  readonly trim: boolean;
  /** The application has state of so many bytes. */
  readonly stateBytes?: number;
}

export interface Opened {
  readonly port: number | null;
  readonly io: string;
  readonly ringBytes: number;
  readonly flushLsn: number;
  readonly milliseconds: number;
}

/** What one measurement came to. */
export interface Measured {
  readonly samples: readonly Sample[];
  readonly lastLsn: number;
}

/** A writer that fills more than this at once would hold up everything else in its process. */
const FILL_BYTES = 2 * 2 ** 20;
/** The appends between two looks at the room in the log memory. */
const STRIDE_BYTES = 64 * 1024;
/**
 * Bytes that may wait for their commit, and that still wait when it goes on. Without this a primary
 * runs away from a slower standby, which is then fed from the disk: that is what catch-up measures.
 */
const AHEAD_BYTES = 32 * 2 ** 20;
const RESUME_BYTES = 16 * 2 ** 20;

const HOST = '127.0.0.1';
const POLL_MS = 1;
const DELAY_RESOLUTION_MS = 1;

let log: Log | undefined;
let threaded: ThreadedLog | undefined;
let trimmer: Trimmer | undefined;
let load: Load | undefined;
const memory = new MemoryWatch();

function theLog(): Log {
  if (log === undefined) throw new Error('no log is open');
  return log;
}

/** For what a log in a thread of its own can do as well. */
function anyLog(): Log | ThreadedLog {
  return threaded ?? theLog();
}

function toOptions(request: OpenRequest): OpenOptions {
  const { dir, name, segmentBytes, followPort, listen, synchronous, rejoin } = request;
  const { listenPort = 0, memberPorts, openAlone } = request;
  const tls = request.tls === undefined ? {} : { tls: request.tls };
  return {
    dir,
    name,
    ...(segmentBytes === undefined ? {} : { segmentBytes, maxRecordBytes: segmentBytes / 2 }),
    ...(listen ? { listen: { host: HOST, port: listenPort, ...tls } } : {}),
    ...(memberPorts === undefined
      ? {}
      : { members: memberPorts.map((port) => ({ host: HOST, port, ...tls })) }),
    ...(openAlone === undefined ? {} : { openAlone }),
    ...(followPort === undefined ? {} : { follow: { host: HOST, port: followPort, ...tls } }),
    ...(rejoin === undefined ? {} : { rejoin }),
    ...(request.stateBytes === undefined ? {} : { snapshot: stateOf(request.stateBytes) }),
    ...(request.group === undefined ? {} : groupOptions(request.group)),
    ...(synchronous ? { synchronousCommit: 'remote_flush', synchronousStandbys: 'ANY 1 (*)' } : {}),
  };
}

/** State that is always the same, and of which nothing is kept when it is loaded. */
function stateOf(bytes: number): SnapshotOptions {
  const piece = Buffer.alloc(256 * 1024, 'state');
  return {
    async *save() {
      for (let at = 0; at < bytes; at += piece.length) yield piece.subarray(0, bytes - at);
    },
    async load(stream) {
      let loaded = 0;
      for await (const each of stream) loaded += each.length;
      if (loaded !== bytes) throw new Error(`${loaded} bytes of state, and not ${bytes}`);
    },
  };
}

function groupOptions({ port, members, etcd, memory, openAlone }: GroupRequest) {
  return {
    listen: { host: HOST, port },
    members: members.map((each) => ({ host: HOST, port: each })),
    openAlone,
    referee: etcdReferee({ endpoints: [etcd], group: 'bench', memory }),
  };
}

/** Appends records of one size, as fast as the log has room for them. */
function bulkWriter(size: number): BulkWriter {
  const target = theLog();
  const source = new RecordSource(size);
  const stride = Math.max(1, Math.floor(STRIDE_BYTES / size));
  const strides = Math.max(1, Math.floor(FILL_BYTES / (stride * size)));
  let lsn = target.status().appendLsn;
  let refused = false;
  const fillStride = (): void => {
    for (let i = 0; i < stride; i++) {
      const next = tryAppend(target, source.at(lsn + 1));
      refused = next === undefined;
      if (next === undefined) return;
      lsn = next;
    }
  };
  return {
    fill() {
      for (let i = 0; i < strides && !target.needsDrain; i++) {
        fillStride();
        if (refused) return;
      }
    },
    async wait() {
      if (refused) return await untilRoom(target, size);
      if (target.needsDrain) return await target.drain();
      const waiting = (lsn - target.status().commitLsn) * size;
      if (waiting < AHEAD_BYTES) return await nextTurn();
      await target.commit(lsn - Math.floor(RESUME_BYTES / size));
    },
    durable: () => target.status().commitLsn,
  };
}

const handlers = {
  async open(request: OpenRequest): Promise<Opened> {
    const start = performance.now();
    const options = toOptions(request);
    if (request.threaded === true) {
      threaded = await Log.open({ ...options, replicationThread: 'worker' });
    } else log = await Log.open(options);
    const milliseconds = performance.now() - start;
    const { listening, io, ring, flushLsn } = await anyLog().status();
    if (request.trim) trimmer = new Trimmer(theLog());
    const port = listening?.port ?? null;
    return { port, io, ringBytes: ring.bytes, flushLsn, milliseconds };
  },

  async connected(): Promise<void> {
    await anyLog().connected({ signal: AbortSignal.timeout(30_000) });
  },

  /** This standby is the primary; its records go on from where those of the old one end. */
  async promote(): Promise<{ readonly port: number | null }> {
    await theLog().promote({ primaryStopped: true });
    return { port: theLog().status().listening?.port ?? null };
  },

  /** The same, with its first commit: of the record after the last. */
  async promoteAndCommit({ size }: { readonly size: number }): Promise<void> {
    const target = theLog();
    const source = new RecordSource(size);
    const { lsn } = await target.promote({ primaryStopped: true });
    await target.commit(target.append(source.at(lsn + 1)));
  },

  async switchover(request: { readonly to: string }): Promise<SwitchedOver> {
    return await theLog().switchover(request);
  },

  /** Commits without end, whenever this log is the primary. */
  load({ committers, size }: { readonly committers: number; readonly size: number }): void {
    load = new Load(theLog(), new RecordSource(size), committers);
  },

  committed: (): number => load?.committed ?? 0,

  /** Lets go of all that two snapshots do not need, the second one being of the last record. */
  async snapshotTwice({ bytes, size }: { bytes: number; size: number }): Promise<number> {
    const target = theLog();
    for (let round = 0; round < 2; round += 1) {
      const lsn = await handlers.fill({ bytes, size });
      await target.snapshot({ lsn });
    }
    const { commitLsn } = target.status();
    await target.trim(commitLsn);
    return commitLsn;
  },

  async committedMore({ count }: { readonly count: number }): Promise<void> {
    await load?.committedMore(count);
  },

  async endLoad(): Promise<void> {
    await load?.end();
  },

  /** One record, as soon as this node is the primary: its LSN once it is committed. */
  async commitAsPrimary({ size }: { readonly size: number }): Promise<number> {
    const target = theLog();
    while (target.status().role !== 'primary') await sleep(POLL_MS);
    const lsn = target.append(new RecordSource(size).at(target.status().appendLsn + 1));
    await target.commit(lsn);
    return lsn;
  },

  async commit(request: {
    readonly committers: number;
    readonly size: number;
    readonly schedule: Schedule;
  }): Promise<Measured> {
    const target = anyLog();
    const source = new RecordSource(request.size);
    let lsn = (await target.status()).appendLsn;
    const whenThereIsRoom = async (): Promise<unknown> => {
      await untilRoom(target, request.size);
      return await next();
    };
    const next = (): Promise<unknown> => {
      const appended = tryAppend(target, source.at(lsn + 1));
      if (appended === undefined) return whenThereIsRoom();
      lsn = appended;
      return target.commit(lsn);
    };
    const samples = await runCommitters(request.committers, next, request.schedule);
    return { samples, lastLsn: lsn };
  },

  async bulk(request: {
    readonly size: number;
    readonly schedule: Schedule;
  }): Promise<Measured & { readonly delayP99Ms: number }> {
    const delay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
    const writer = bulkWriter(request.size);
    delay.enable();
    const samples = await runBulk(writer, request.schedule);
    delay.disable();
    const { lsn: lastLsn } = await theLog().commit();
    const delayP99Ms = Math.max(0, delay.percentile(99) / 1e6 - DELAY_RESOLUTION_MS);
    return { samples, lastLsn, delayP99Ms };
  },

  /** Writes so many bytes of records, and waits until they are as safe as the policy asks. */
  async fill({ bytes, size }: { readonly bytes: number; readonly size: number }): Promise<number> {
    const writer = bulkWriter(size);
    const target = theLog().status().appendLsn + Math.ceil(bytes / size);
    while (theLog().status().appendLsn < target) {
      writer.fill();
      await writer.wait();
    }
    return (await theLog().commit()).lsn;
  },

  /** Appends without end and says nothing any more: for a kill in the middle of it. */
  fillOn({ size }: { readonly size: number }): void {
    const writer = bulkWriter(size);
    const forever = async (): Promise<never> => {
      for (;;) {
        writer.fill();
        await writer.wait();
      }
    };
    void forever();
  },

  /** Resolves when this node has flushed so far: milliseconds since the link was up. */
  async flushedSinceConnected({ lsn }: { readonly lsn: number }): Promise<number> {
    if (theLog().status().role !== 'primary') await theLog().connected();
    const start = performance.now();
    while (theLog().status().flushLsn < lsn) await sleep(POLL_MS);
    return performance.now() - start;
  },

  lsns(): { readonly flushLsn: number; readonly commitLsn: number } {
    const { flushLsn, commitLsn } = theLog().status();
    return { flushLsn, commitLsn };
  },

  memory: (): Memory => readMemory(),

  watchMemory(): void {
    memory.start();
  },

  /** The highest since `watchMemory`. */
  peakMemory: (): Memory => memory.stop(),

  /** Reads the last records up to `to` back and hashes them. */
  async check(request: CheckRequest & { readonly size: number }): Promise<Checked> {
    await trimmer?.stop();
    return await checkTail(anyLog(), new RecordSource(request.size), request);
  },

  async close(): Promise<void> {
    await trimmer?.stop();
    trimmer = undefined;
    await anyLog().close();
    log = undefined;
    threaded = undefined;
  },
};

export type LogAgent = typeof handlers;

serve(handlers);
