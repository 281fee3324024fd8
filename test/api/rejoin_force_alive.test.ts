import { expect, it, onTestFinished, vi } from 'vitest';
import { closeLog } from '../../src/api/close.js';
import type { LogCore } from '../../src/api/core.js';
import { logStatus } from '../../src/api/log_status.js';
import { openLog as openCore } from '../../src/api/open.js';
import { promote } from '../../src/api/promote.js';
import { Log } from '../../src/index.js';
import type { NativeLog } from '../../src/native/native_log.js';
import { textsOf } from './group_nodes.js';
import { until } from './helpers.js';
import { following, forked, pair, stopped } from './rejoin_nodes.js';

const byForce = { ...stopped, force: true } as const;

/** An old primary on its way back, whose tail may go; its first call of this kind waits. */
async function returning(slow: 'checksumAt' | 'truncate') {
  const both = await pair();
  await both.a.appendAndCommit('one');
  const { dir } = both.a;
  const b = await forked(both, ['two of a'], ['two of b']);
  const core = await openCore({ dir, name: 'a', follow: following(b), rejoin: 'auto' });
  onTestFinished(() => closeLog(core).catch(() => undefined));
  let goOn = (): void => undefined;
  const gone = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  const begun = slowed(core, slow, gone);
  await until(() => begun.mock.calls.length > 0, 'the cut is under way');
  return { core, goOn };
}

function slowed({ native }: LogCore, slow: 'checksumAt' | 'truncate', gone: Promise<void>) {
  if (slow === 'truncate') {
    const truncate = native.truncate.bind(native);
    return vi
      .spyOn(native, 'truncate')
      .mockImplementationOnce(async (...given: Parameters<NativeLog['truncate']>) => {
        await gone;
        return truncate(...given);
      });
  }
  const checksumAt = native.checksumAt.bind(native);
  return vi.spyOn(native, 'checksumAt').mockImplementationOnce(async (position: number) => {
    await gone;
    return checksumAt(position);
  });
}

it('a promotion by force keeps the history of a log that was about to be cut', async () => {
  const { core, goOn } = await returning('checksumAt');
  const promotion = promote(core, byForce);
  goOn();
  expect(await promotion).toMatchObject({ term: { epoch: 3 }, lsn: 2 });
  expect(await textsOf(Log.over(core))).toEqual(['one', 'two of a']);
});

it('a promotion by force is refused where that history has just gone', async () => {
  const { core, goOn } = await returning('truncate');
  const promotion = promote(core, byForce);
  goOn();
  await expect(promotion).rejects.toMatchObject({
    code: 'WAL_PROMOTION_REFUSED',
    message: expect.stringContaining('without the history'),
  });
  await until(() => logStatus(core).upstream?.connected === true, 'it follows');
  expect(logStatus(core)).toMatchObject({ role: 'standby', rejoin: { state: 'done' } });
});
