/**
 * A master with a catalogue, or its standby: the same program. A master answers clients; a standby
 * builds its own copy from the stream, and becomes a master when it is told to.
 */
import { writeFile } from 'node:fs/promises';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Log } from 'walmirror';
import { fileReferee } from 'walmirror/referee';
import { serve } from '../../bench/harness/agent.js';
import { Catalogue } from '../catalogue.js';
import { LineSplitter } from '../line_splitter.js';

export interface StartOptions {
  readonly dir: string;
  readonly name: string;
  /** The primary's port; undefined: be the primary. */
  readonly followPort?: number | undefined;
  /** Acknowledge only what a standby has flushed too. */
  readonly synchronous: boolean;
  /** Failover by itself, in a group of these two nodes; `referee`: a directory. */
  readonly group?: GroupPlan | undefined;
}

export interface GroupPlan {
  /** Of this node and of the other one. */
  readonly ports: readonly [own: number, other: number];
  readonly referee: string;
}

export interface Progress {
  readonly flushLsn: number;
  readonly appliedLsn: number;
  readonly places: number;
}

const HOST = '127.0.0.1';
const POLL_MS = 1;

const catalogue = new Catalogue();
let log: Log | undefined;
let appliedLsn = 0;
let promoted: Catalogue | undefined;

function theLog(): Log {
  if (log === undefined) throw new Error('not started');
  return log;
}

/**
 * Takes rows, one a line, and answers each with its LSN once it is as safe as the log's policy
 * asks.
 */
function serveClient(socket: net.Socket): void {
  const splitter = new LineSplitter();
  socket.setNoDelay(true);
  socket.on('data', (data: Buffer) => {
    const rows = splitter.push(data);
    if (rows.length > 0) void acknowledge(socket, rows);
  });
  socket.on('error', () => socket.destroy());
}

async function acknowledge(socket: net.Socket, rows: readonly string[]): Promise<void> {
  const master = theLog();
  const lsns = rows.map((row) => master.append(row));
  await master.commit(lsns.at(-1));
  for (const row of rows) catalogue.put(row);
  socket.write(`${lsns.join('\n')}\n`);
}

async function listenForClients(): Promise<number> {
  const server = net.createServer(serveClient);
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve));
  return (server.address() as net.AddressInfo).port;
}

/** From the first record, since it is in memory alone. */
function buildCopy(standby: Log): void {
  standby.apply({ from: 1 }, (batch) => {
    for (const { data } of batch) catalogue.put(data.toString());
    appliedLsn = batch.lastLsn;
  });
}

/** The same call on both nodes: the referee decides which of them is the master. */
async function startInGroup(
  { dir, name }: StartOptions,
  { ports, referee }: GroupPlan,
): Promise<number | undefined> {
  log = await Log.open({
    dir,
    name,
    listen: { host: HOST, port: ports[0] },
    members: ports.map((port) => ({ host: HOST, port })),
    // Only who begins a log opens it although nobody answers.
    openAlone: name === 'a',
    synchronousStandbys: 'ANY 1 (*)',
    referee: fileReferee({ directory: referee, memory: `${dir}.referee` }),
  });
  if (log.status().role !== 'primary') buildCopy(log);
  return log.status().listening?.port;
}

const handlers = {
  /** The port for standbys, of a primary. */
  async start(options: StartOptions): Promise<number | undefined> {
    const { dir, name, followPort, synchronous, group } = options;
    const common = { dir, name };
    if (group !== undefined) return await startInGroup(options, group);
    if (followPort === undefined) {
      const policy = synchronous
        ? ({ synchronousCommit: 'remote_flush', synchronousStandbys: 'ANY 1 (*)' } as const)
        : ({ synchronousCommit: 'local' } as const);
      log = await Log.open({ ...common, ...policy, listen: { host: HOST, port: 0 } });
      return log.status().listening?.port;
    }
    log = await Log.open({ ...common, follow: { host: HOST, port: followPort } });
    // The copy is in memory, so it is built from the first record, from this node's own log.
    buildCopy(log);
    return undefined;
  },

  listenForClients,

  /** Milliseconds until this node is the primary, its catalogue complete. */
  async promote(): Promise<number> {
    const start = performance.now();
    // The partner is gone: from here on its own disk has to be enough.
    await theLog().promote({ primaryStopped: true, synchronousCommit: 'local' });
    const milliseconds = performance.now() - start;
    promoted = catalogue.copy();
    return milliseconds;
  },

  /** Resolves when this node is the master, with the last record of its log. */
  async tookOver(): Promise<number> {
    while (theLog().status().role !== 'primary') await sleep(POLL_MS);
    return theLog().status().flushLsn;
  },

  /** Resolves when it follows, though it was the master once. */
  async rejoined(): Promise<void> {
    while (theLog().status().role !== 'standby') await sleep(POLL_MS);
    await theLog().connected();
  },

  /** Keeps the catalogue as it is now, for `dumpPromoted`. */
  keep(): void {
    promoted = catalogue.copy();
  },

  progress(): Progress {
    const { flushLsn } = theLog().status();
    return { flushLsn, appliedLsn, places: catalogue.size };
  },

  /** Resolves when all up to `lsn` is flushed here and in the catalogue. */
  async caughtUp({ lsn }: { readonly lsn: number }): Promise<void> {
    while (theLog().status().flushLsn < lsn || appliedLsn < lsn) await sleep(POLL_MS);
  },

  /** Writes the catalogue down as it was when this node was promoted, and says its digest. */
  async dumpPromoted({ file }: { readonly file: string }): Promise<string> {
    if (promoted === undefined) throw new Error('not promoted');
    await writeFile(file, promoted.rows().join('\n'));
    return promoted.digest();
  },

  digest: (): string => catalogue.digest(),
};

export type NodeProgram = typeof handlers;

serve(handlers);
