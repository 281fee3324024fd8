import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Batch, Log, LogRecord, SnapshotOptions, SnapshotStatus } from '../../src/index.js';

/** An application: its state is the text of every record. */
export class Ledger {
  lines: string[] = [];
  /** What was saved, and of which LSN what was loaded and applied. */
  readonly saved: string[] = [];
  readonly loads: number[] = [];
  readonly applied: number[] = [];

  readonly snapshot: SnapshotOptions = {
    save: (lsn) => this.#save(lsn),
    load: async (stream, lsn) => {
      this.lines = (await text(stream)).split('\n');
      this.loads.push(lsn);
    },
  };

  readonly apply = (batch: Batch): void => {
    for (const record of batch) this.applyOne(record);
  };

  applyOne({ lsn, data }: LogRecord): void {
    this.applied.push(lsn);
    this.lines.push(data.toString());
  }

  async write(log: Log, count: number, bytes = 0): Promise<void> {
    for (let i = 0; i < count; i++) {
      const line = `${this.lines.length + 1}`.padEnd(bytes, '.');
      // The next segment may not be ready.
      await log.drain(line.length + 8);
      this.lines.push(line);
      log.append(line);
    }
    await log.commit(undefined, { level: 'local' });
  }

  #save(lsn: number): AsyncIterable<Uint8Array> {
    const state = this.lines.slice(0, lsn).join('\n');
    this.saved.push(state);
    return pieces(Buffer.from(state));
  }
}

async function* pieces(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000);
}

export function snapshotsOf(log: Log): readonly SnapshotStatus[] {
  return log.status().snapshots ?? [];
}

/** The files of its snapshots. */
export function names({ dir }: { readonly dir: string }): string[] {
  const directory = join(dir, 'snapshots');
  return existsSync(directory) ? readdirSync(directory) : [];
}
