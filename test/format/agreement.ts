import { readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { binding } from '../native/native.js';
import { readLog } from './read_log.js';

/** Larger logs take longer to read than the tests that made them. */
const MOST_BYTES = 16 * 2 ** 20;

interface Reading {
  readonly sound: boolean;
  /** What must be the same where both find the log sound; else what is wrong. */
  readonly found: string;
}

function fail(what: unknown): Reading {
  return { sound: false, found: what instanceof Error ? what.message : JSON.stringify(what) };
}

async function byEngine(dir: string): Promise<Reading> {
  try {
    const reader = await binding.openReader(dir);
    try {
      const { start, end, records, batches, damage } = await reader.verify();
      if (damage !== undefined) return fail(damage);
      return { sound: true, found: JSON.stringify([start.lsn, end, batches, records]) };
    } finally {
      reader.close();
    }
  } catch (error) {
    return fail(error);
  }
}

function byTheDocument(dir: string): Reading {
  try {
    const { start, end, batches, records, damage } = readLog(dir);
    if (damage !== undefined) return fail(damage);
    const place = { position: end.position, lsn: end.lsn };
    return {
      sound: true,
      found: JSON.stringify([start.lsn, place, batches.length, records.length]),
    };
  } catch (error) {
    return fail(error);
  }
}

function logsIn(parent: string): string[] {
  const paths = readdirSync(parent, { recursive: true, encoding: 'utf8' });
  return paths.filter((path) => /(^|\/)control$/.test(path)).map((path) => dirname(path));
}

function bytesOf(dir: string): number {
  const files = readdirSync(dir).filter((name) => /\.(wal|spare)$/.test(name));
  return files.reduce((sum, name) => sum + statSync(join(dir, name)).size, 0);
}

/**
 * The engine's reader and the independent one find the same in every log under this directory. The
 * engine alone knows of damage to files as such (one too many, too short, of another log).
 */
export async function expectAgreement(parent: string): Promise<void> {
  for (const name of logsIn(parent)) {
    const dir = join(parent, name);
    if (bytesOf(dir) > MOST_BYTES) continue;
    const [engine, independent] = [await byEngine(dir), byTheDocument(dir)];
    const same = engine.sound ? engine.found === independent.found : true;
    if (same) continue;
    throw new Error(
      `two readers of ${name} disagree: the engine found ${engine.found}, ` +
        `the independent one ${independent.found}`,
    );
  }
}
