import { readFileSync, rmSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { block, openLog, reopen, small, turn, until } from '../api/helpers.js';
import { succeed } from '../cli/helpers.js';
import { expectStatus } from '../helpers/status_schema.js';
import { freshDir } from '../helpers/temp.js';
import { RawStandby } from '../transport/raw_standby.js';

interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean;
  readonly [key: string]: unknown;
}

/** Every schema of an object within this one. */
function objects(schema: unknown): Schema[] {
  if (typeof schema !== 'object' || schema === null) return [];
  const within = Object.values(schema).flatMap(objects);
  return (schema as Schema).properties === undefined ? within : [schema as Schema, ...within];
}

async function pair() {
  const a = await openLog({ ...small, name: 'a', listen: { port: 0 } });
  const b = await openLog({ name: 'b', follow: { port: a.status().listening!.port } });
  await b.connected();
  await a.appendAndCommit('one');
  await until(() => b.status().commitLsn === 1, 'the standby has it');
  return { a, b };
}

describe('the schema of the status', () => {
  it('promises all that it names, and leaves nothing open', () => {
    const found = objects(JSON.parse(readFileSync('status.schema.json', 'utf8')));
    expect(found.length).toBeGreaterThan(15);
    for (const { properties, required, additionalProperties } of found) {
      // `properties` may be the name of a property, too; here none is.
      expect(required).toEqual(Object.keys(properties ?? {}));
      expect(additionalProperties).toBe(false);
    }
  });

  it('is met by a log alone: new, with records, trimmed, closed, opened again', async () => {
    const log = await openLog(small);
    expectStatus(log.status());
    log.append('a');
    expectStatus(log.status());
    await log.commit();
    log.apply(undefined, async () => undefined);
    await log.trim(2);
    await log.scrub();
    expectStatus(log.status());
    const again = await reopen(log);
    expectStatus(log.status());
    expect(log.status().state).toBe('closed');
    expectStatus(again.status());
  });

  it('is met by a primary and its standby, together and apart, and after a promotion', async () => {
    const { a, b } = await pair();
    for (const log of [a, b]) expectStatus(log.status());
    await a.close();
    await until(() => b.status().upstream?.connected === false, 'the link is down');
    expectStatus(b.status());
    expect(b.status().lastError?.code).toMatch(/^WAL_/);
    await b.promote({ primaryStopped: true });
    expectStatus(b.status());
  });

  it('is met by a primary whose standby has gone', async () => {
    const { a, b } = await pair();
    await b.close();
    await until(() => a.status().standbys[0]?.state === 'disconnected', 'it has gone');
    expectStatus(a.status());
  });

  it('is met by one that is fenced', async () => {
    const a = await openLog({ ...small, name: 'a', listen: { port: 0 } });
    const newer = await RawStandby.ofTerm(a.status().listening!.port, 9);
    await until(() => a.status().role === 'fenced', 'it has heard of a newer primary');
    newer.socket.destroy();
    expectStatus(a.status());
    expect(a.status().durability).toBeNull();
  });

  it('is met while commits wait, and by one that goes on alone', async () => {
    const standbys = { synchronousStandbys: 'ANY 1 (*)' };
    const log = await openLog({ ...small, ...standbys, whenMissing: 'degrade', syncTimeout: 60 });
    const waiting = log.appendAndCommit('a');
    await turn();
    expect(log.status().commits.oldestWaitMs).not.toBeNull();
    expectStatus(log.status());
    await waiting;
    expect(log.status()).toMatchObject({ durability: 'local', policy: { inForce: true } });
    expect(log.status().policy?.degraded).not.toBeNull();
    expectStatus(log.status());
  });

  it('is met by one in two directories, one of them lost', async () => {
    const lost = freshDir();
    const log = await openLog({ ...small, dir: [freshDir(), lost] });
    await log.appendAndCommit('a');
    expectStatus(log.status());
    rmSync(lost, { recursive: true });
    await until(() => log.status().copies.some(({ state }) => state !== 'in'), 'it is missed');
    expectStatus(log.status());
  });

  it('is what the command line prints, of a log that is open and of one that is not', async () => {
    const log = await openLog(small);
    await log.appendAndCommit('a');
    const open = JSON.parse(await succeed(['status', '--dir', log.dir, '--json']));
    expectStatus(open);
    expect(Object.keys(open)).toEqual(Object.keys(log.status()));
    await log.close();
    expectStatus(JSON.parse(await succeed(['status', '--dir', log.dir, '--json'])));
    const { b } = await pair();
    await b.close();
    const closed = JSON.parse(await succeed(['status', '--dir', b.dir, '--json']));
    expectStatus(closed);
    expect(closed.primary.name).toBe('a');
  });

  it('is not met by a status that lacks something, has more, or means another thing', async () => {
    const log = await openLog(small);
    block(1);
    const status = log.status();
    const { term: _, ...less } = status;
    for (const wrong of [
      less,
      { ...status, more: 1 },
      { ...status, schema: 2 },
      { ...status, flushLsn: -1 },
      { ...status, roleSince: 'now' },
      { ...status, segments: { ...status.segments, diskBytes: '1' } },
    ]) {
      expect(() => expectStatus(wrong)).toThrow();
    }
  });
});
