import { cpSync, rmSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Log, OpenOptions } from '../../src/index.js';
import { expectEqualSealedSegments } from '../helpers/sealed_segments.js';
import { freshDir } from '../helpers/temp.js';
import { openLog, reopen, small, texts, until } from './helpers.js';

const anyOne = { synchronousStandbys: 'ANY 1 (*)' } as const;

async function append(log: Log, from: number, to: number, bytes = 0): Promise<void> {
  for (let i = from; i < to; i++) await log.appendAndCommit(`${i}`.padEnd(bytes, '.'));
}

/** What a backup of a closed log, or an older image of its machine, brings back. */
function keep(dir: string): () => void {
  const kept = freshDir('kept');
  cpSync(dir, kept, { recursive: true });
  return () => {
    rmSync(dir, { recursive: true });
    cpSync(kept, dir, { recursive: true });
  };
}

async function pair(options: Partial<OpenOptions> = {}): Promise<{ a: Log; b: Log }> {
  const a = await openLog({ ...small, name: 'a', listen: { port: 0 }, ...options });
  const b = await openLog({ name: 'b', follow: { port: a.status().listening?.port ?? 0 } });
  await b.connected();
  return { a, b };
}

describe('an old copy of the directory, put back', () => {
  it.each([
    ['and no longer than its standby', 1],
    ['that went on past its standby', 60],
  ])('of a primary, %s, acknowledges nothing that a standby would confirm', async (_how, more) => {
    const first = await pair(anyOne);
    await append(first.a, 0, 20);
    await first.a.close();
    const putBack = keep(first.a.dir);
    // The same term as the one that the old copy will open.
    let a = await openLog({ dir: first.a.dir, name: 'a', listen: { port: 0 }, ...anyOne });
    let b = await reopen(first.b, { follow: { port: a.status().listening?.port ?? 0 } });
    await append(a, 20, 40);
    const { term } = a.status();
    await a.close();
    await b.close();
    putBack();

    a = await openLog({ dir: first.a.dir, name: 'a', listen: { port: 0 }, ...anyOne });
    expect(a.status().term).toEqual(term);
    for (let i = 0; i < more; i++) await a.appendAndCommit('other', { level: 'local' });
    const pending = a.commit().then(
      () => 'acknowledged',
      (error: { code: string }) => error.code,
    );
    b = await openLog({ dir: first.b.dir, follow: { port: a.status().listening?.port ?? 0 } });
    await until(() => b.status().upstream?.reason?.startsWith('refused') === true, 'the refusal');
    expect(b.status()).toMatchObject({ role: 'standby', flushLsn: 40 });
    expect(a.status().commitLsn).toBeLessThanOrEqual(20);
    await a.close();
    expect(await pending).not.toBe('acknowledged');
    // What was acknowledged is where it was.
    await b.promote({ primaryStopped: true });
    expect(await texts(b)).toEqual(Array.from({ length: 40 }, (_, i) => `${i}`));
  });

  it('of a standby catches up, and is equal to its primary', async () => {
    const { a, b } = await pair(anyOne);
    await append(a, 0, 20, 20_000);
    await b.close();
    const putBack = keep(b.dir);
    const port = a.status().listening?.port ?? 0;
    const longer = await openLog({ dir: b.dir, follow: { port } });
    await append(a, 20, 40, 20_000);
    await longer.close();
    putBack();
    const back = await openLog({ dir: b.dir, follow: { port } });
    await append(a, 40, 60, 20_000);
    await until(() => back.status().commitLsn === 60, 'it has all');
    const found: string[] = [];
    for await (const batch of back.read({ live: false })) {
      for (const { data } of batch) found.push(data.toString());
    }
    expect(found).toEqual(await texts(a));
    await a.close();
    await back.close();
    expect(expectEqualSealedSegments(a.dir, b.dir)).toBeGreaterThan(1);
  });
});
