import { cpSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { scanTail } from '../../src/cli/tail_file.js';
import type { Log, OpenOptions } from '../../src/index.js';
import { freshDir } from '../helpers/temp.js';
import { openLog, small, until } from './helpers.js';

export const anyOne = { synchronousStandbys: 'ANY 1 (*)' } as const;
export const stopped = { primaryStopped: true } as const;

export interface Pair {
  readonly a: Log;
  readonly b: Log;
}

export async function pair(options: Partial<OpenOptions> = {}, standby: Partial<OpenOptions> = {}) {
  const a = await openLog({ ...small, name: 'a', listen: { port: 0 }, ...options });
  const b = await openLog({
    name: 'b',
    follow: { port: a.status().listening!.port },
    listen: { port: 0 },
    ...standby,
  });
  await b.connected();
  return { a, b };
}

/** `a` gets these records while nobody follows it, and is closed; `b` takes its place. */
export async function forked(both: Pair, mine: readonly string[], its: readonly string[] = []) {
  const { dir } = both.b;
  await leftAlone(both, mine);
  await both.a.close();
  return promoted(dir, 'b', its);
}

/** The same where `a` is killed: what is left of it is in the directory that is returned. */
export async function killed(both: Pair, mine: readonly string[], its: readonly string[] = []) {
  const { dir } = both.b;
  await leftAlone(both, mine);
  const image = freshDir('image');
  const files = (path: string): boolean => !/control\.sock$|lock$/.test(path);
  cpSync(both.a.dir as string, image, { recursive: true, filter: files });
  await both.a.close();
  return { image, newer: await promoted(dir, 'b', its) };
}

async function leftAlone({ a, b }: Pair, mine: readonly string[]): Promise<void> {
  await until(() => b.status().flushLsn === a.status().flushLsn, 'b has all');
  await b.close();
  if (mine.length === 0) return;
  const { last } = a.appendMany([...mine]);
  await until(() => a.status().flushLsn === last, 'a has flushed them');
}

export async function promoted(
  dir: string,
  name: string,
  records: readonly string[],
): Promise<Log> {
  const log = await openLog({ dir, name, follow: { port: 1 }, listen: { port: 0 } });
  // Others that may have acknowledged are not asked.
  await log.promote({ ...stopped, force: true });
  if (records.length > 0) log.appendMany([...records]);
  await log.commit();
  return log;
}

export function following(primary: Log): { port: number } {
  return { port: primary.status().listening?.port ?? 0 };
}

export async function rejoin(dir: Log['dir'], primary: Log, options: Partial<OpenOptions> = {}) {
  return openLog({ dir, name: 'a', follow: following(primary), ...options });
}

export async function shown(log: Log, last: number): Promise<string[]> {
  await log.connected();
  await log.waitFor(last);
  const texts: string[] = [];
  for await (const batch of log.read({ live: false })) {
    for (const { data } of batch) texts.push(data.toString());
  }
  return texts;
}

export function tails(dir: string): string[] {
  return readdirSync(dir)
    .filter((name) => name.endsWith('.diverged'))
    .map((name) => join(dir, name));
}

export async function tailOf(path: string): Promise<string[]> {
  const texts: string[] = [];
  for await (const batch of scanTail(path)) {
    for (const { lsn, data } of batch) texts.push(`${lsn} ${data}`);
  }
  return texts;
}
