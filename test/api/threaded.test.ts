import { execFile, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { freshDir } from '../helpers/temp.js';
import { codeOf, openLog, texts } from './helpers.js';

const fixture = fileURLToPath(new URL('./fixtures/threaded.mjs', import.meta.url));

async function run(scenario: string, dir = freshDir(), flags: readonly string[] = []) {
  const child = spawn(process.execPath, [...flags, fixture, scenario, dir], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 80_000,
    killSignal: 'SIGKILL',
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (...ended) => resolve(ended));
  });
  return { code, signal, output: output.trim() };
}

async function found(scenario: string, flags?: readonly string[]): Promise<unknown> {
  const { code, signal, output } = await run(scenario, freshDir(), flags);
  expect({ code, signal, output }).toEqual({ code: 0, signal: null, output });
  return JSON.parse(output);
}

describe('a log in a thread of its own', () => {
  it('is used as one of this thread, by promises', async () => {
    expect(await found('usesAll')).toEqual({
      came: ['b', true],
      one: { lsn: 1, level: 'remote_apply', standbys: ['b'] },
      found: ['1 one', '2 two', '3 three', '4 four'],
      read: ['2 two', '3 three'],
      ended: true,
      synchronousCommit: 'local',
      scrubbed: 'boolean',
      refused: ['WAL_PRIMARY_REACHABLE', 'a'],
      promoted: [3, 2, 'primary'],
      four: 4,
      after: ['WAL_CLOSED', 'WAL_CLOSED'],
      opened: true,
    });
  });

  it('refuses what that refuses, and every wait can be cancelled', async () => {
    expect(await found('refuses')).toEqual([
      'WAL_LOCKED',
      'RangeError',
      'RangeError',
      'WAL_NOT_STANDBY',
      'RangeError',
      'TypeError',
      23,
      23,
      23,
    ]);
  });

  it('goes on while this thread is blocked: heartbeats, sending and catch-up', async () => {
    expect(await found('blocked')).toEqual({
      blocked: true,
      commits: true,
      sent: true,
      received: true,
      caughtUp: true,
      disconnected: 0,
    });
  }, 90_000);

  it('has stored a fence, and forgets it by no kill, while this thread is blocked', async () => {
    const dir = freshDir();
    expect(await run('fencedWhileBlocked', dir)).toMatchObject({ signal: 'SIGKILL', output: '' });
    expect(await codeOf(() => openLog({ dir: `${dir}/a` }))).toBe('WAL_FENCED');
  }, 90_000);

  it('that dies is told, and ends every wait', async () => {
    expect(await found('dies')).toEqual({
      failed: 'WAL_CLOSED',
      codes: Array(4).fill('WAL_CLOSED'),
      later: Array(7).fill('WAL_CLOSED'),
      told: ['failed WAL_CLOSED'],
    });
  });

  it('that dies where nobody listens does not do so in silence', async () => {
    const { code, output } = await run('diesUnheard');
    expect(code).toBe(0);
    expect(output).toContain('WalMirrorWarning WAL_CLOSED');
  });

  it('keeps a bounded number of events for a thread that is blocked, and says so', async () => {
    expect(await found('crowd')).toEqual({ bounded: true, all: true });
  }, 90_000);

  it.each(['exitsInTheSameTurn', 'runsOut'])('%s: what was appended is flushed', async (end) => {
    const dir = freshDir();
    expect(await run(end, dir)).toMatchObject({ code: 0, signal: null });
    const log = await openLog({ dir });
    expect((await texts(log)).length).toBe(100);
    expect(log.status().recovery.clean).toBe(true);
  });

  it.each(['stays', 'standbyEnds'])('%s until it is unreferenced', async (scenario) => {
    expect(await run(scenario)).toEqual({ code: 0, signal: null, output: 'stayed' });
  });

  it('keeps no process for what waits for records to come, or was refused', async () => {
    expect(await found('ends')).toEqual({ applied: 1, refused: 'TypeError' });
  });

  it('shows what was committed to who waits for it, and keeps the process for that', async () => {
    expect(await found('seesWhatIsCommitted')).toEqual([1, 1]);
  });

  it('lets go of the segments of a reading that was dropped', async () => {
    expect(await run('dropsAReading', freshDir(), ['--expose-gc'])).toMatchObject({
      code: 0,
      output: 'trimmed',
    });
  });

  it('opened by a thread that is terminated has all that this has appended', async () => {
    expect(await found('nested')).toEqual({ some: true, all: true, clean: true });
  });

  it('takes no flags of the process that are for its main program', async () => {
    const dir = freshDir();
    const built = new URL('../../dist/index.js', import.meta.url).href;
    const program =
      `import { Log } from '${built}'; import { isMainThread } from 'node:worker_threads';` +
      `const log = await Log.open({ dir: process.argv[1], replicationThread: 'worker' });` +
      `console.log((await log.appendAndCommit('x')).lsn, isMainThread); await log.close();`;
    const says = `import{isMainThread}from'worker_threads';console.log(isMainThread)`;
    const preload = `data:text/javascript,${says}`;
    const flags = ['--input-type=module', '--import', preload, '-e', program, dir];
    const { stdout } = await promisify(execFile)(process.execPath, flags);
    expect(stdout).toBe('true\n1 true\n');
  });
});
