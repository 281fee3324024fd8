import { expect, it, onTestFinished } from 'vitest';
import { Log } from '../../src/index.js';
import { openLog, until } from './helpers.js';
import { following, pair, promoted, stopped } from './rejoin_nodes.js';

/**
 * What was appended through `a.handle` is cut: `a` was fenced, has followed another primary, which
 * has a record of its own at that LSN, and is the primary again.
 */
async function cutMeanwhile() {
  const both = await pair();
  const { a } = both;
  const { dir } = both.b;
  await a.appendAndCommit('one');
  await until(() => both.b.status().flushLsn === 1, 'b has it');
  await both.b.close();
  const attached = await Log.attach(a.handle);
  onTestFinished(() => attached.close().catch(() => undefined));
  const lsn = attached.append('cut');
  await until(() => a.status().flushLsn === lsn, 'it is flushed');
  const b = await promoted(dir, 'b', ['another', 'and one more']);
  const teller = await openLog({ name: 'c', follow: following(b) });
  await teller.connected();
  await teller.close();
  const again = openLog({ dir: teller.dir, name: 'c', follow: following(a) });
  await until(() => a.status().role === 'fenced', 'a is fenced');
  await (await again).close();
  await a.rejoin({ follow: following(b), rejoin: 'auto' });
  await until(() => a.status().role === 'standby' && a.status().flushLsn === 3, 'a follows');
  await b.close();
  await a.promote({ ...stopped, force: true });
  return { a, attached, lsn };
}

it('a commit of what was cut since it was appended is not met by what has its LSN now', async () => {
  const { a, attached, lsn } = await cutMeanwhile();
  const refused = { code: 'WAL_FENCED', outcome: 'unknown' };
  await expect(attached.commit(lsn)).rejects.toMatchObject(refused);
  await expect(attached.commit()).rejects.toMatchObject(refused);
  // What is appended now is in the log.
  const next = attached.append('of now');
  expect((await attached.commit(next)).lsn).toBe(next);
  expect(a.status().flushLsn).toBe(next);
});
