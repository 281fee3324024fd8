import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { promoteDirectory } from '../../src/api/promote_directory.js';
import { Log } from '../../src/index.js';
import type { Term } from '../../src/native/native_log.js';
import { readLog } from '../format/read_log.js';
import { freshDir } from '../helpers/temp.js';
import { binding } from '../native/native.js';

/** Logs as earlier commits left them: make.mjs. Every later version reads them. */
interface Golden {
  readonly format: number;
  readonly holds: {
    readonly firstLsn: number;
    readonly lastLsn: number;
    readonly logId: string;
    readonly nodeId: string;
    readonly role: 'primary' | 'standby';
    readonly term: Term;
  };
  readonly sha256: string;
  readonly files: Readonly<Record<string, string>>;
}

function load(name: string): Golden {
  const packed = readFileSync(join(import.meta.dirname, name));
  return JSON.parse(gunzipSync(packed).toString()) as Golden;
}

function unpack({ files }: Golden): string {
  const dir = freshDir();
  mkdirSync(dir, { mode: 0o700 });
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(dir, name), Buffer.from(content, 'base64'), { mode: 0o600 });
  }
  return dir;
}

/** From where on the log is kept, records may be there that a trim only allowed to go. */
function digest(records: readonly Uint8Array[]): string {
  const hash = createHash('sha256');
  for (const record of records) hash.update(record);
  return hash.digest('hex');
}

const names = readdirSync(import.meta.dirname).filter((name) => name.endsWith('.json.gz'));

it('there is a golden log of every kind', () => {
  expect(names.map((name) => name.replace('.json.gz', '')).sort()).toEqual([
    'dense',
    'killed',
    'padded',
    'synchronous-primary',
    'synchronous-standby',
  ]);
});

describe.each(names)('%s', (name) => {
  const golden = load(name);
  const { holds } = golden;
  const count = holds.lastLsn - holds.firstLsn + 1;

  it('is read by the reader that knows the documentation alone', () => {
    const log = readLog(unpack(golden));
    expect(log.damage).toBeUndefined();
    expect(log.end.lsn).toBe(holds.lastLsn);
    expect(log.control).toMatchObject({ logId: holds.logId, nodeId: holds.nodeId });
    expect(log.term).toEqual(holds.term);
    expect(digest(log.records.slice(-count))).toBe(golden.sha256);
  });

  it('is verified by the engine, without changing it', async () => {
    const dir = unpack(golden);
    const reader = await binding.openReader(dir);
    const report = await reader.verify();
    expect(report).toMatchObject({ end: { lsn: holds.lastLsn } });
    expect(report.damage).toBeUndefined();
    await reader.close();
    for (const [file, content] of Object.entries(golden.files)) {
      expect(readFileSync(join(dir, file)).equals(Buffer.from(content, 'base64'))).toBe(true);
    }
  });

  it('is opened, gives its records, and goes on', async () => {
    const dir = unpack(golden);
    if (holds.role === 'standby') await promoteDirectory({ dir, primaryStopped: true });
    const log = await Log.open({ dir });
    const records: Uint8Array[] = [];
    for await (const batch of log.read({ from: holds.firstLsn, upTo: 'flush', live: false })) {
      for (const { data } of batch) records.push(Uint8Array.from(data));
    }
    expect(digest(records)).toBe(golden.sha256);
    expect(log.status()).toMatchObject({ logId: holds.logId, nodeId: holds.nodeId });
    expect(log.append('one more')).toBe(holds.lastLsn + 1);
    await log.close();
    expect(readLog(dir).damage).toBeUndefined();
  });
});
