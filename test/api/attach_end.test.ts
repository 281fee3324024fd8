import { expect, it, onTestFinished, vi } from 'vitest';
import { closeLog } from '../../src/api/close.js';
import type { LogCore } from '../../src/api/core.js';
import { openLog as openCore } from '../../src/api/open.js';
import { Log } from '../../src/index.js';
import { State } from '../../src/native/native_log.js';
import { freshDir } from '../helpers/temp.js';
import { small, turn, until, walError } from './helpers.js';
import { anyOne } from './rejoin_nodes.js';

/** Of commits at the end of an attached log, or of the one that it attached to. */

/** What a commit below the policy waits for first, until it is let go. */
function delayed(native: LogCore['native'], store: () => Promise<void>): () => void {
  let letGo = (): void => undefined;
  const open = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  vi.spyOn(native, 'storeUndercut').mockImplementation(() => store().then(() => open));
  return letGo;
}

it('the end answers a commit before the flush, however late that is reported', async () => {
  const core = await openCore({ ...small, dir: freshDir() });
  onTestFinished(() => closeLog(core).catch(() => undefined));
  const other = await Log.attach(core.attachments.handle);
  core.native.onProgress(() => undefined);
  let lsn: number;
  let local: Promise<unknown>;
  let isMet: boolean;
  do {
    // Flushed before the log had heard of the commit, it was met at once.
    isMet = false;
    lsn = other.append('x');
    local = other.commit(lsn, { level: 'local' }).finally(() => {
      isMet = true;
    });
    const isFlushed = () => core.native.state[State.FLUSH_LSN] === lsn;
    const isWaiting = () => (core.driver.commits?.waiting ?? 0) > 0;
    await until(() => isFlushed() && (isMet || isWaiting()), 'the flush, which nobody reports');
  } while (isMet);
  const closing = other.close();
  expect(await local).toMatchObject({ lsn, level: 'local' });
  await closing;
});

it('the end waits for commits that wait for something else first, of the log too', async () => {
  for (const who of ['other', 'log']) {
    const core = await openCore({ ...small, ...anyOne, dir: freshDir(), listen: { port: 0 } });
    const other = await Log.attach(core.attachments.handle);
    const { native } = core;
    const store = native.storeUndercut.bind(native);
    const letGo = delayed(native, store);
    other.append('x');
    const local = other.commit(1, { level: 'local' });
    await until(() => native.state[State.FLUSH_LSN] === 1, 'the flush');
    const closing = who === 'log' ? closeLog(core) : other.close();
    for (let i = 0; i < 5; i++) await turn();
    letGo();
    expect(await local).toMatchObject({ lsn: 1, level: 'local' });
    await closing;
    if (who === 'other') await closeLog(core);
  }
});

it('a failure ends a commit that waits for something else first', async () => {
  const core = await openCore({ ...small, ...anyOne, dir: freshDir(), listen: { port: 0 } });
  onTestFinished(() => closeLog(core).catch(() => undefined));
  const { native } = core;
  const letGo = delayed(native, native.storeUndercut.bind(native));
  const log = Log.over(core);
  const local = walError(() => log.appendAndCommit('x', { level: 'local' }));
  await until(() => native.state[State.FLUSH_LSN] === 1, 'the flush');
  core.fail(new Error('the disk is gone'));
  letGo();
  expect(await local).toMatchObject({ code: 'WAL_FAILED', outcome: 'unknown' });
});

it('another role ends the commits of the one before, heard of late or not', async () => {
  const core = await openCore({ ...small, dir: freshDir() });
  onTestFinished(() => closeLog(core).catch(() => undefined));
  const other = await Log.attach(core.attachments.handle);
  other.append('x');
  const commit = walError(() => other.commit(1));
  // Fenced, cut and promoted again before that is heard of: LSN 1 is another record by then.
  core.appender.stop();
  core.appender.start();
  expect(await commit).toMatchObject({ code: 'WAL_FENCED', outcome: 'unknown' });
  expect(await other.appendAndCommit('y')).toMatchObject({ lsn: 2 });
});
