import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { Worker } from 'node:worker_threads';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { LogStatus, ThreadedLog, ThreadedOptions } from '../../src/index.js';
import { etcdReferee, fileReferee, memoryReferee } from '../../src/referee/index.js';
import type { Referee } from '../../src/referee/referee.js';
import { StoreReferee } from '../../src/referee/store_referee.js';
import { freshDir } from '../helpers/temp.js';
import { Group, type Name } from './group_nodes.js';
import { until } from './helpers.js';
import { failureOf, openThreaded } from './threaded_helpers.js';

/** As short as a loaded machine lets them be. */
const timing = { ttlMs: 3000, marginMs: 200, renewEveryMs: 300, callTimeoutMs: 1200 };

/** Two nodes and a referee in a file. */
class Nodes {
  readonly group: Group;
  readonly directory = freshDir('referee');

  private constructor(group: Group) {
    this.group = group;
  }

  static async make(): Promise<Nodes> {
    return new Nodes(await Group.make(2));
  }

  referee(name: string): Referee {
    const memory = join(freshDir('memory'), name);
    const referee = fileReferee({ directory: this.directory, memory, timing });
    onTestFinished(() => referee.close());
    return referee;
  }

  threaded(name: Name, options: Partial<ThreadedOptions> = {}): Promise<ThreadedLog> {
    return openThreaded({
      ...this.group.of(name),
      referee: this.referee(name),
      ...options,
    } as never);
  }
}

async function reaches(log: ThreadedLog, met: (status: LogStatus) => boolean): Promise<LogStatus> {
  const ends = performance.now() + 45_000;
  for (;;) {
    const status = await log.status();
    if (met(status)) return status;
    if (performance.now() > ends) throw new Error('the status does not come to that');
    await sleep(10);
  }
}

function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

describe('a log in a thread of its own, with a referee', () => {
  it('forgets in its thread what the referee knew', async () => {
    const nodes = await Nodes.make();
    const referee = nodes.referee('a');
    const a = await nodes.threaded('a', { openAlone: true, referee });
    await a.appendAndCommit('one');
    // The referee is put back to what it was before it knew this group.
    const state = join(nodes.directory, 'referee.json');
    const isPast = ({ referee }: LogStatus) => /does not know/.test(referee?.reason ?? '');
    await reaches(a, (status) => {
      // A renewal that is on its way puts it there again.
      if (!isPast(status)) rmSync(state, { force: true });
      return isPast(status);
    });
    await referee.forget();
    await reaches(a, (status) => !isPast(status));
  });

  it('holds its group while its application is blocked, longer than a lease lasts', async () => {
    const nodes = await Nodes.make();
    const a = await nodes.threaded('a', { openAlone: true });
    await a.appendAndCommit('one');
    const watcher = nodes.referee('watcher');
    const before = (await watcher.view()).holder;
    block(1.5 * timing.ttlMs);
    const { holder, leader } = await watcher.view();
    expect(holder).toEqual(before);
    expect(leader?.epoch).toBe((await a.status()).term.epoch);
    expect(await a.appendAndCommit('two')).toMatchObject({ lsn: 2 });
  });

  it('is replaced where its application hangs, and comes back as a standby', async () => {
    const nodes = await Nodes.make();
    const a = await nodes.threaded('a', { openAlone: true, applicationTimeout: 1000 });
    await a.appendAndCommit('one');
    // In a thread of its own: this one is going to hang.
    const other = new Worker(new URL('./fixtures/group_standby.mjs', import.meta.url), {
      workerData: {
        options: nodes.group.of('b'),
        referee: { directory: nodes.directory, memory: join(freshDir('m'), 'b'), timing },
      },
    });
    onTestFinished(async () => void (await other.terminate()));
    const says = (what: string) =>
      new Promise<void>((resolve) => {
        other.on('message', (message) => message === what && resolve());
      });
    await says('follows');
    await reaches(a, ({ policy, standbys }) => policy?.inForce === true && standbys.length === 1);
    const isPrimary = says('primary');
    block(1000 + 2.5 * timing.ttlMs);
    await isPrimary;
    const { term } = await reaches(a, ({ role }) => role === 'standby');
    await a.connected();
    expect((await a.status()).term.epoch).toBeGreaterThanOrEqual(term.epoch);
  }, 60_000);

  it('says why, and goes on, where nobody took its place', async () => {
    const nodes = await Nodes.make();
    const a = await nodes.threaded('a', { openAlone: true, applicationTimeout: 1000 });
    await a.appendAndCommit('one');
    const leases: { state: string; reason: string | null }[] = [];
    a.on('lease', (lease) => leases.push(lease));
    block(1500 + timing.ttlMs);
    const ended = () => leases.find(({ state }) => state === 'expired');
    await until(() => ended() !== undefined && leases.at(-1)?.state === 'held', 'it is back');
    expect(ended()?.reason).toMatch(/application has not run for \d s/);
    expect(await a.appendAndCommit('two')).toMatchObject({ lsn: 2 });
  });

  it('pauses and resumes automation, as its own thread does it', async () => {
    const nodes = await Nodes.make();
    const a = await nodes.threaded('a', { openAlone: true });
    const aborted = AbortSignal.abort(new Error('enough'));
    expect(await failureOf(() => a.pauseFailover('x', { signal: aborted }))).toBe(aborted.reason);
    await a.pauseFailover('maintenance');
    const watcher = nodes.referee('watcher');
    expect((await watcher.view()).pause).toMatchObject({ by: 'a', reason: 'maintenance' });
    await a.resumeFailover();
    expect((await watcher.view()).pause).toBeUndefined();
  });

  it('gives its lease back when it is closed', async () => {
    const nodes = await Nodes.make();
    const a = await nodes.threaded('a', { openAlone: true });
    await a.appendAndCommit('one');
    await a.close();
    expect((await nodes.referee('watcher').view()).holder).toBeUndefined();
  });

  it('takes a referee that its thread can make, and no other', async () => {
    const nodes = await Nodes.make();
    class Own extends StoreReferee {}
    const options = { store: {} as never, timing, memory: {} as never };
    for (const referee of [memoryReferee(), new Own(options)]) {
      const error = await failureOf(() => nodes.threaded('a', { openAlone: true, referee }));
      expect(error).toBeInstanceOf(TypeError);
      expect(error.message).toContain("pass one of these, or 'main'");
    }
    const late = () => openThreaded({ applicationTimeout: 5000 });
    expect(await failureOf(late)).toBeInstanceOf(TypeError);
    const short = () => nodes.threaded('a', { openAlone: true, applicationTimeout: 999 });
    expect(await failureOf(short)).toBeInstanceOf(RangeError);
  });
});

it('what a referee is made of again is no property of it that is shown', () => {
  const referee = etcdReferee({
    ...{ endpoints: ['http://127.0.0.1:2379'], group: 'g', memory: 'm' },
    ...{ username: 'u', password: 'a secret word' },
  });
  expect(inspect(referee, { depth: 9 })).not.toContain('a secret word');
  expect(JSON.stringify(referee)).not.toContain('a secret word');
});
