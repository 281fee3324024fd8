import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { closeWithin } from '../../src/api/close.js';
import type { LogCore } from '../../src/api/core.js';
import { Log } from '../../src/index.js';
import { State } from '../../src/native/native_log.js';
import { processEnvironment } from '../../src/transport/environment.js';
import { codeOf, openLog, until, walError } from './helpers.js';

describe('close({ timeout })', () => {
  it('is not held up by a peer that hangs, and goes on behind', async () => {
    const log = await openLog({ listen: { port: 0 }, synchronousStandbys: 'ANY 1 (*)' });
    const peer = connect({ port: log.status().listening!.port, allowHalfOpen: true });
    onTestFinished(() => {
      peer.destroy();
    });
    await once(peer, 'connect');
    const pending = walError(() => log.appendAndCommit('x'));
    await log.commit(1, { level: 'local' });
    const error = await walError(() => log.close({ timeout: 20 }));
    expect(error.code).toBe('WAL_CLOSE_TIMEOUT');
    expect(error.message).toBe(
      'not closed within 20 ms: all records are flushed, and not all is let go of',
    );
    expect(await pending).toMatchObject({ code: 'WAL_CLOSED', outcome: 'unknown' });
    await log.close();
    const again = await Log.open({ dir: log.dir });
    expect(again.status().flushLsn).toBe(1);
    await again.close();
  });

  it('ends every wait, and names what is not flushed', async () => {
    const state = new Float64Array(State.LENGTH);
    state[State.FLUSH_LSN] = 5;
    state[State.CLOSED_LSN] = 9;
    const ended: unknown[] = [];
    const endWaits = (error: unknown) => ended.push(error);
    const core = { native: { state }, environment: processEnvironment, endWaits };
    const never = new Promise<void>(() => undefined);
    const error = await walError(() => closeWithin(core as unknown as LogCore, never, 1));
    expect(error).toMatchObject({ code: 'WAL_CLOSE_TIMEOUT', lsn: 6, outcome: 'unknown' });
    expect(error.message).toBe('not closed within 1 ms: records 6 to 9 are not flushed');
    expect(ended).toMatchObject([{ code: 'WAL_CLOSED', outcome: 'unknown' }]);
  });

  it('is of no consequence where closing takes less, and is refused where it is none', async () => {
    const log = await openLog();
    await log.appendAndCommit('x');
    await expect(log.close({ timeout: -1 })).rejects.toThrow(RangeError);
    await log.close({ timeout: 60_000 });
    await log.close({ timeout: 60_000 });
    expect(log.status().state).toBe('closed');
  });

  it('without a timeout waits for as long as it takes', async () => {
    const log = await openLog({ listen: { port: 0 }, synchronousStandbys: 'ANY 1 (*)' });
    const pending = codeOf(() => log.appendAndCommit('x'));
    await log.close();
    expect(await pending).toBe('WAL_CLOSED');
    await until(() => log.status().state === 'closed', 'the end');
  });
});
