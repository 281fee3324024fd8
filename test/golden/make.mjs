/**
 * Writes the golden logs of this format version: logs of each kind, as the engine of this commit
 * leaves them, which every later version must read. To be run again only while no version was
 * released:
 *
 *   npm run build && node test/golden/make.mjs
 *
 * Each is one compressed JSON file: the files of the directory, and what is in the log.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Log } from '../../dist/index.js';

const place = new URL('.', import.meta.url).pathname;
const scratch = mkdtempSync(join(tmpdir(), 'walmirror-golden-'));
const small = { segmentBytes: 65536, maxRecordBytes: 4096, ringBytes: 1 << 20, name: 'golden' };

/** Of every length from 0, so that all paddings are there. */
const recordOf = (lsn) => Buffer.alloc((lsn * 37) % 900, `record ${lsn} `);

async function append(log, count) {
  const last = log.status().appendLsn + count;
  for (let lsn = log.status().appendLsn + 1; lsn <= last; lsn++) {
    await log.drain(recordOf(lsn).length + 8);
    log.append(recordOf(lsn));
    if (lsn % 5 === 0) await log.commit();
  }
  await log.commit();
}

/** The directory as it is now, which is what a kill leaves. */
function filesOf(dir) {
  const names = readdirSync(dir).filter((name) => /^control$|\.(wal|spare|diverged)$/.test(name));
  return Object.fromEntries(
    names.sort().map((name) => [name, readFileSync(join(dir, name)).toString('base64')]),
  );
}

function save(name, dir, status) {
  const { firstLsn, flushLsn, logId, nodeId, role, term } = status;
  const digest = createHash('sha256');
  for (let lsn = firstLsn; lsn <= flushLsn; lsn++) digest.update(recordOf(lsn));
  const holds = { firstLsn, lastLsn: flushLsn, logId, nodeId, role, term };
  const golden = { format: 1, holds, sha256: digest.digest('hex'), files: filesOf(dir) };
  const packed = gzipSync(JSON.stringify(golden), { level: 9 });
  writeFileSync(join(place, `${name}.json.gz`), packed);
  console.log(`${name}: ${packed.length} bytes, records ${firstLsn} to ${flushLsn}`);
}

/** Two terms, several segments, closed. */
async function closed(name, options) {
  const dir = join(scratch, name);
  let status;
  for (const count of [70, 90]) {
    const log = await Log.open({ ...small, ...options, dir });
    await append(log, count);
    status = log.status();
    await log.close();
  }
  save(name, dir, status);
}

/** The first segments were trimmed; the process is killed, as it were. */
async function killed(name) {
  const dir = join(scratch, name);
  const log = await Log.open({ ...small, dir });
  await append(log, 350);
  await log.trim(300);
  await append(log, 40);
  save(name, dir, log.status());
  await log.close();
}

/** A standby with a rule in force, and the primary that it follows. */
async function pair(name) {
  const dir = join(scratch, `${name}-primary`);
  const replicated = { synchronousCommit: 'remote_flush', synchronousStandbys: 'ANY 1 (*)' };
  const primary = await Log.open({ ...small, ...replicated, dir, listen: { port: 0 } });
  const { port } = primary.status().listening;
  const standby = await Log.open({
    ...small,
    name: 'second',
    dir: join(scratch, `${name}-standby`),
    follow: { port },
  });
  await append(primary, 100);
  while (standby.status().flushLsn < 100) await new Promise((resolve) => setTimeout(resolve, 10));
  const standbyStatus = standby.status();
  await standby.close();
  const primaryStatus = primary.status();
  await primary.close();
  save(`${name}-primary`, dir, primaryStatus);
  save(`${name}-standby`, join(scratch, `${name}-standby`), standbyStatus);
}

try {
  await closed('dense', {});
  await closed('padded', { padded: true });
  await killed('killed');
  await pair('synchronous');
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
