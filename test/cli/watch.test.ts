import { describe, expect, it } from 'vitest';
import { WalError } from '../../src/api/errors.js';
import type { LogStatus, StandbyStatus } from '../../src/api/status.js';
import { describeOpen } from '../../src/cli/commands/status.js';
import { History } from '../../src/cli/screen/history.js';
import { paint } from '../../src/cli/screen/paint.js';
import { sparkline } from '../../src/cli/screen/sparkline.js';
import { statusScreen, time } from '../../src/cli/screen/status_screen.js';
import { type WatchIo, watchStatus } from '../../src/cli/watch_status.js';
import { openLog, small } from '../api/helpers.js';
import { freshDir } from '../helpers/temp.js';
import { Running, walmirror } from './helpers.js';

const ESCAPE = '\u001b';
const nothing = { records: 0, bytes: 0, milliseconds: 0 };
const b: StandbyStatus = {
  name: 'b',
  nodeId: 'bb',
  address: '127.0.0.1:9',
  security: 'tls',
  state: 'live',
  reason: null,
  since: '2026-01-01T00:00:00.000Z',
  synchronous: true,
  sentLsn: 1,
  writeLsn: 1,
  flushLsn: 1,
  applyLsn: 1,
  lag: { write: nothing, flush: nothing, apply: nothing },
  lastContactMs: 1,
};

/** The status of a real log, with what a test wants of it. */
async function statusOf(more: Partial<LogStatus> = {}): Promise<LogStatus> {
  const log = await openLog({ ...small, name: 'n' });
  await log.appendAndCommit('a');
  const status = log.status();
  await log.close();
  return { ...status, state: 'open', standbys: [b], ...more };
}

it('the status of a process of an older version says nothing of security', async () => {
  const { security: _, ...older } = b;
  const rows = async (standby: object) =>
    describeOpen(await statusOf({ standbys: [standby as StandbyStatus] }));
  expect(await rows(b)).toMatch(/^standby +b at 127\.0\.0\.1:9 \(TLS\), live/m);
  expect(await rows(older)).toMatch(/^standby +b at 127\.0\.0\.1:9, live/m);
});

/** A terminal whose clock moves by what is slept; it ends when there are no more answers. */
class FakeIo implements WatchIo {
  readonly writes: string[] = [];
  readonly end = new AbortController();
  isTerminal = true;
  colour = false;
  width = 100;
  height = 50;
  #now = 0;
  readonly #answers: (LogStatus | undefined | Error)[];

  constructor(answers: readonly (LogStatus | undefined | Error)[]) {
    this.#answers = [...answers];
  }

  async ask() {
    const answer = this.#answers.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  }

  async write(text: string) {
    this.writes.push(text);
  }

  now = () => this.#now;
  date = () => new Date(this.#now);
  columns = () => this.width;
  rows = () => this.height;

  async sleep(milliseconds: number) {
    this.#now += milliseconds;
    if (this.#answers.length === 0) this.end.abort();
  }

  async run(): Promise<string[]> {
    await watchStatus(this, 1000, this.end.signal);
    return this.writes;
  }
}

function linesOf(frame = ''): string[] {
  return frame
    .replaceAll(new RegExp(`${ESCAPE}\\[(\\?25[lh]|2J|[HKJ])`, 'g'), '')
    .trimEnd()
    .split('\n');
}

describe('walmirror status --watch', () => {
  it('draws in place, with rates between two looks and a chart of them', async () => {
    const first = await statusOf();
    const behind = { records: 12, bytes: 3400, milliseconds: 2500 };
    const later = {
      ...first,
      appendLsn: 501,
      commitLsn: 501,
      standbys: [{ ...b, lag: { ...b.lag, flush: behind } }],
    };
    const writes = await new FakeIo([first, later, later]).run();
    expect(writes[0]).toBe(`${ESCAPE}[?25l${ESCAPE}[2J`);
    expect(writes.at(-1)).toBe(`${ESCAPE}[?25h`);
    expect(writes.slice(1, -1).every((frame) => frame.startsWith(`${ESCAPE}[H`))).toBe(true);
    const lines = linesOf(writes[2]);
    expect(lines[0]).toMatch(/^n {2}primary, open, epoch 1/);
    expect(lines).toContainEqual(expect.stringMatching(/^commits {3}500\/s +█$/));
    expect(lines).toContainEqual(
      expect.stringMatching(/^standby {3}b live, sync, 12 records, 3\.40 kB, 2\.5 s behind +▁█$/),
    );
    expect(linesOf(writes[3])).toContainEqual(expect.stringMatching(/^commits {3}0\/s +█▁$/));
  });

  it('fits narrow and low terminals, without charts', async () => {
    const status = await statusOf({ dir: `/${'x'.repeat(200)}` });
    for (const [width, height] of [
      [20, 5],
      [40, 12],
      [71, 3],
    ] as const) {
      const io = new FakeIo([status, status]);
      io.width = width;
      io.height = height;
      const lines = linesOf((await io.run())[2]);
      expect(lines.length).toBeLessThan(height);
      for (const line of lines) expect([...line].length).toBeLessThanOrEqual(width);
      expect(lines.join('')).not.toMatch(/[▁▂▃▄▅▆▇█]/);
    }
  });

  it('has colours on a terminal that wants them, and none elsewhere', async () => {
    const failure = { code: 'WAL_FLUSH_FAILED', message: 'no disk' } as const;
    const status = await statusOf({ state: 'failed', failure });
    const coloured = new FakeIo([status]);
    coloured.colour = true;
    expect((await coloured.run())[1]).toContain(`${ESCAPE}[31mno disk${ESCAPE}[39m`);
    const plain = await new FakeIo([status]).run();
    expect(plain[1]).toContain('no disk');
    expect(plain[1]).not.toContain(`${ESCAPE}[3`);
  });

  it('writes a line each time where there is no terminal', async () => {
    const io = new FakeIo([await statusOf(), undefined, await statusOf()]);
    io.isTerminal = false;
    const writes = await io.run();
    expect(writes).toEqual([
      '1970-01-01T00:00:00.000Z n primary open; LSN 1, committed 1; 0/s committed; ' +
        'b live nothing behind\n',
      '1970-01-01T00:00:01.000Z no process has the log open\n',
      expect.stringMatching(/^1970-01-01T00:00:02.000Z n primary open/),
    ]);
  });

  it('keeps the last status on the screen and says why there is none newer', async () => {
    const silent = new WalError('WAL_CONTROL', 'it did not answer');
    const writes = await new FakeIo([await statusOf(), silent, undefined]).run();
    expect(linesOf(writes[2]).at(-1)).toBe('it did not answer');
    expect(linesOf(writes[2])[0]).toMatch(/^n {2}primary/);
    expect(linesOf(writes[3]).at(-1)).toBe('no process has the log open');
  });

  it('what a peer says does not steer the terminal', async () => {
    const reason = 'gone\u001b[2J\u0007\u202e\nx';
    const gone = { ...b, state: 'disconnected' as const, reason };
    const writes = await new FakeIo([await statusOf({ standbys: [gone] })]).run();
    expect(linesOf(writes[1]).join('\n')).toContain('gone?[2J???x');
  });

  it('an error of its own ends it, and the cursor comes back', async () => {
    const io = new FakeIo([new TypeError('a mistake')]);
    await expect(io.run()).rejects.toThrow('a mistake');
    expect(io.writes.at(-1)).toBe(`${ESCAPE}[?25h`);
  });
});

describe('its pieces', () => {
  it('a sparkline is as wide as it may be, and its highest value is full', () => {
    expect(sparkline([0, 1, 2, 4, 8], 3)).toBe('▃▅█');
    expect(sparkline([0, 0], 10)).toBe('▁▁');
    expect(sparkline([], 10)).toBe('');
    expect(sparkline([1], 0)).toBe('');
  });

  it('a history starts anew with another life of the log, and is bounded', async () => {
    const status = await statusOf();
    const history = new History();
    for (let i = 0; i < 1000; i++) history.note({ ...status, appendLsn: 10 + i }, i * 1000);
    const lsns = history.values(({ appendLsn }) => appendLsn);
    expect(lsns.length).toBe(240);
    expect(history.rates(({ appendLsn }) => appendLsn)).toEqual(Array(239).fill(1));
    history.note({ ...status, appendLsn: 5 }, 1e6);
    expect(history.values(({ appendLsn }) => appendLsn)).toEqual([5]);
  });

  it('a line is cut by what is seen of it, not by its codes', () => {
    const line = ['ab', ['cdef', 'red']] as const;
    expect(paint(line, 4, true)).toBe(`ab${ESCAPE}[31mc…${ESCAPE}[39m`);
    expect(paint(line, 4, false)).toBe('abc…');
    expect(paint(line, 6, false)).toBe('abcdef');
  });

  it('a time has the unit that fits', () => {
    const told = [null, 0.126, 12.4, 999, 1500, 59_000, 600_000, 7.2e6, 1e9].map(time);
    expect(told).toEqual([
      '-',
      '0.13 ms',
      '12 ms',
      '999 ms',
      '1.5 s',
      '59 s',
      '10 min',
      '2 h',
      '12 d',
    ]);
  });

  it('a screen shows what is wrong first of all', async () => {
    const status = await statusOf();
    const policy = { ...status.policy!, waitingFor: '1 more standby to connect' };
    const history = new History();
    const degraded = { since: '2026-01-01T00:00:00.000Z', reason: 'nobody answers' };
    history.note({ ...status, policy: { ...policy, degraded } }, 0);
    const text = statusScreen(history, 80).map((line) => paint(line, 80, false));
    expect(text).toContain('degraded  alone since 2026-01-01T00:00:00.000Z: nobody answers');
    expect(text).toContain('waits for 1 more standby to connect');
  });
});

describe('the command', () => {
  it('looks until Ctrl-C, through a log that is closed meanwhile', async () => {
    const log = await openLog({ ...small, name: 'n' });
    const args = ['status', '--dir', log.dir, '--watch', '--interval', '50ms'];
    const watching = new Running(args);
    await log.appendAndCommit('a');
    await expect.poll(() => watching.stdout).toMatch(/n primary open; LSN 1, committed 1/);
    await log.close();
    await expect.poll(() => watching.stdout).toMatch(/no process has the log open/);
    const { code, stderr, stdout } = await watching.stop('SIGINT');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).not.toContain(ESCAPE);
  });

  it('ends when nobody reads it any more', async () => {
    const log = await openLog(small);
    const watching = new Running(['status', '--dir', log.dir, '--watch', '--interval', '50ms']);
    await expect.poll(() => watching.stdout).toMatch(/primary open/);
    watching.child.stdout.destroy();
    const { code, stderr } = await watching.ended();
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });

  it.each([[['--watch']], [['--serve', '0']]])(
    '%j of what is no log ends at once',
    async (args) => {
      const { code, stderr } = await walmirror(['status', '--dir', freshDir(), ...args]);
      expect({ code, stderr }).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('no log'),
      });
    },
  );

  it.each([[['--watch', '--json'], /--json prints the status once/]])(
    'refuses %j',
    async (args, message) => {
      const { code, stderr } = await walmirror(['status', '--dir', '.', ...args]);
      expect(code).toBe(2);
      expect(stderr).toMatch(message);
    },
  );
});
