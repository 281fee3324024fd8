/**
 * A master with a catalogue, or its standby: the same program. A master answers clients; a standby
 * builds its own copy from the stream, and becomes a master when it is told to.
 */
import { writeFile } from 'node:fs/promises';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Log } from 'walmirror';
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

const handlers = {
  /** The port for standbys, of a primary. */
  async start(options: StartOptions): Promise<number | undefined> {
    const { dir, name, followPort, synchronous } = options;
    const common = { dir, name };
    if (followPort === undefined) {
      const policy = synchronous
        ? ({ synchronousCommit: 'remote_flush', synchronousStandbys: 'ANY 1 (*)' } as const)
        : ({ synchronousCommit: 'local' } as const);
      log = await Log.open({ ...common, ...policy, listen: { host: HOST, port: 0 } });
      return log.status().listening?.port;
    }
    log = await Log.open({ ...common, follow: { host: HOST, port: followPort } });
    // The copy is in memory, so it is built from the first record, from this node's own log.
    log.apply({ from: 1 }, (batch) => {
      for (const { data } of batch) catalogue.put(data.toString());
      appliedLsn = batch.lastLsn;
    });
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
