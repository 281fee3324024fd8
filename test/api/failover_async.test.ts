import { expect, it } from 'vitest';
import type { Log } from '../../src/index.js';
import { isPrimary, RefereedGroup } from './failover_nodes.js';
import { textsOf } from './group_nodes.js';
import { until } from './helpers.js';

const takeoverMs = 20_000;
const tailRecords = 10;

const progressOf = async (nodes: RefereedGroup): Promise<unknown> =>
  (await nodes.referee('b').view()).progress;

/** The first record is everywhere, and the referee knows of it; `a` then goes on by itself. */
async function withTail(nodes: RefereedGroup, a: Log, others: readonly Log[]): Promise<void> {
  await a.appendAndCommit('one');
  for (const log of others) await until(() => log.status().flushLsn === 1, 'they have it');
  let known: unknown;
  const look = setInterval(() => {
    progressOf(nodes).then((progress) => {
      known = progress;
    });
  }, 20);
  await until(() => (known as { lsn?: number })?.lsn === 1, 'the referee is told', takeoverMs);
  clearInterval(look);
  const [b] = others;
  await b?.close();
  nodes.cut.add('a');
  for (let i = 0; i < tailRecords; i += 1) a.append(`tail ${i}`);
}

/** `b` takes the place of `a`, and acknowledges three records. */
async function led(nodes: RefereedGroup): Promise<Log> {
  const b = await nodes.open('b');
  await until(() => isPrimary(b), 'b leads', takeoverMs);
  for (const text of ['two', 'three', 'four']) await b.appendAndCommit(text);
  return b;
}

it('an old primary whose own tail is longer does not take the place of the next one', async () => {
  const nodes = await RefereedGroup.make(2);
  const a = await nodes.open('a', { openAlone: true });
  const first = await nodes.open('b');
  await first.connected();
  await withTail(nodes, a, [first]);
  await until(() => a.status().flushLsn === 1 + tailRecords, 'the tail is on its disk');
  await a.close();
  const b = await led(nodes);
  await b.close();
  nodes.cut.delete('a');
  const again = await nodes.open('a');
  expect(again.status().role).not.toBe('primary');
  const back = await nodes.open('b');
  await until(() => isPrimary(back), 'b leads again', takeoverMs);
  expect(await textsOf(back)).toEqual(['one', 'two', 'three', 'four']);
  expect(isPrimary(again)).toBe(false);
});

it('nor does a standby that has met the next one, and kept what it has', async () => {
  const nodes = await RefereedGroup.make(3);
  const a = await nodes.open('a', { openAlone: true });
  const first = await nodes.open('b');
  let c = await nodes.open('c');
  await Promise.all([first.connected(), c.connected()]);
  await withTail(nodes, a, [first, c]);
  await until(() => c.status().flushLsn === 1 + tailRecords, 'c has the tail');
  await c.close();
  await a.close();
  const b = await led(nodes);
  c = await nodes.open('c');
  await until(() => c.status().term.epoch === 2, 'c has met b', takeoverMs);
  await b.close();
  const refusal = (): string => c.status().referee?.reason ?? '';
  await until(() => refusal().includes('nothing of 2'), 'it is refused', takeoverMs);
  expect(isPrimary(c)).toBe(false);
});
