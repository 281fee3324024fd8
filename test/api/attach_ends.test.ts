import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { closeLog } from '../../src/api/close.js';
import { openLog as openCore } from '../../src/api/open.js';
import { type AttachedLog, Log, type OpenOptions, WalError } from '../../src/index.js';
import { State } from '../../src/native/native_log.js';
import { freshDir } from '../helpers/temp.js';
import { codeOf, openLog, reopen, small, texts, turn, until, walError } from './helpers.js';

/**
 * What waits, and how it ends; from one thread, as in attach.test.ts.
 */
async function attached(log: Log): Promise<AttachedLog> {
  const other = await Log.attach(structuredClone(log.handle));
  onTestFinished(() => other.close().catch(() => undefined));
  return other;
}

async function pair(options: Partial<OpenOptions> = {}) {
  const log = await openLog({ ...small, ...options });
  return { log, other: await attached(log) };
}

function isClosed(call: () => unknown): boolean {
  try {
    call();
    return false;
  } catch (error) {
    return error instanceof WalError && error.code === 'WAL_CLOSED';
  }
}

const anyOne = { synchronousStandbys: 'ANY 1 (*)' } as const;

describe('the end', () => {
  it('of the log ends every wait and later call, and meets what its flush meets', async () => {
    const { log, other } = await pair({ ...anyOne, listen: { port: 0 } });
    other.append('x');
    const local = other.commit(1, { level: 'local' });
    const own = walError(() => other.commit(1));
    await until(() => log.status().commits.waiting >= 1, 'it waits');
    await log.close();
    expect(await local).toMatchObject({ lsn: 1 });
    expect(await own).toMatchObject({ code: 'WAL_CLOSED', outcome: 'unknown' });
    for (const call of [
      () => other.append('y'),
      () => other.appendMany(['y']),
      () => other.commit(),
      () => other.drain(),
      () => other.status(),
    ]) {
      expect(await codeOf(call)).toBe('WAL_CLOSED');
    }
    await until(() => isClosed(() => other.needsDrain), 'it hears of that');
    await other.close();
    expect(await texts(await reopen(log))).toEqual(['x']);
  });

  it('of one who attached settles all that it waits for, and leaves the log as it is', async () => {
    const { log, other } = await pair({ ...anyOne, listen: { port: 0 } });
    const second = await attached(log);
    other.append('x');
    const local = other.commit(1, { level: 'local' });
    const own = walError(() => other.commit(1));
    const status = other.status();
    await Promise.all([other.close(), other.close()]);
    expect(await local).toMatchObject({ lsn: 1, level: 'local' });
    expect(await own).toMatchObject({ code: 'WAL_CLOSED', outcome: 'unknown' });
    expect((await status).appendLsn).toBe(1);
    expect(await codeOf(() => other.append('y'))).toBe('WAL_CLOSED');
    expect(await codeOf(() => other.commit())).toBe('WAL_CLOSED');
    expect([second.append('y'), log.append('z')]).toEqual([2, 3]);
    expect(await second.commit(3, { level: 'local' })).toMatchObject({ lsn: 3 });
  });

  it('of the log in the very turn of an append is not a failure', async () => {
    for (const who of ['owner', 'other']) {
      const { log, other } = await pair();
      const failed: unknown[] = [];
      log.on('failed', (error) => failed.push(error));
      await turn();
      (who === 'owner' ? log : other).append('x');
      void log.commit().catch(() => undefined);
      await log.close();
      await turn();
      expect(failed).toEqual([]);
      expect(await texts(await reopen(log))).toEqual(['x']);
    }
  });

  it('of a log in the turn in which one attaches refuses it', async () => {
    const log = await openLog(small);
    const attaching = codeOf(() => Log.attach(log.handle));
    await log.close();
    expect(await attaching).toBe('WAL_CLOSED');
  });
});

describe('a full log memory', () => {
  /** Nothing that is appended comes free, as where a standby is behind. */
  async function held() {
    const core = await openCore({ ...small, ...anyOne, dir: freshDir() });
    onTestFinished(() => closeLog(core).catch(() => undefined));
    const pin = core.native.pin(core.native.state[State.CLOSED_POSITION] as number);
    const attach = () => Log.attach(core.attachments.handle);
    const record = Buffer.alloc(30_000, 'x');
    /** Waits under way at the owner. */
    let waiting = 0;
    const wait = core.drains.wait.bind(core.drains);
    vi.spyOn(core.drains, 'wait').mockImplementation((...asked) => {
      waiting += 1;
      return wait(...asked).finally(() => {
        waiting -= 1;
      });
    });
    return { core, pin, attach, record, waiting: () => waiting };
  }

  it('refuses, and drains for one who attached as for the owner', async () => {
    const { core, pin, attach, record, waiting } = await held();
    const other = await attach();
    const fill = async () => {
      for (;;) {
        try {
          other.append(record);
        } catch (error) {
          // Segments come when they are ready; the log memory does not.
          if ((core.native.state[State.RING_FREE] as number) < 200_000) throw error;
          await turn();
        }
      }
    };
    expect(await walError(fill)).toMatchObject({ code: 'WAL_RING_FULL', outcome: 'refused' });
    expect(other.needsDrain).toBe(true);
    const group = Array(10).fill(record);
    expect(await walError(() => other.appendMany(group))).toMatchObject({ code: 'WAL_RING_FULL' });
    const drained = other.drain();
    await until(() => waiting() === 1, 'it waits');
    core.native.unpin(pin);
    await drained;
    const last = other.append(record);
    expect(await other.commit(last, { level: 'local' })).toMatchObject({ lsn: last });
  });

  it('is waited for by each alone: one that goes leaves nothing, and takes nothing', async () => {
    const { core, pin, attach, record, waiting } = await held();
    const [one, two] = [await attach(), await attach()];
    for (let i = 0; i < 45; i++) {
      await core.drains.wait(record.length, undefined);
      core.appender.append(record);
    }
    const ends = [one, two].map((log) =>
      log.drain(1_000_000).then(
        () => 'room',
        (error) => error.code,
      ),
    );
    await until(() => waiting() === 2, 'both wait');
    await one.close();
    expect(await ends[0]).toBe('WAL_CLOSED');
    await until(() => waiting() === 1, 'the other waits on');
    expect(core.drains.wanted).toBe(true);
    const controller = new AbortController();
    const third = two.drain(1_000_000, { signal: controller.signal });
    await until(() => waiting() === 2, 'the third waits');
    controller.abort(new Error('enough'));
    await expect(third).rejects.toThrow('enough');
    await until(() => waiting() === 1, 'the third is gone');
    core.native.unpin(pin);
    expect(await ends[1]).toBe('room');
    expect(core.drains.wanted).toBe(false);
  });
});
