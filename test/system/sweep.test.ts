import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { missing } from '../global/requirements.js';
import { makeTempDir } from '../global/temp.js';
import { checkAfter, type Run, runOperations } from '../helpers/operations.js';
import { randomFrom } from '../native/native.js';

/**
 * Each system call of a run of 200 operations is hit, one a run: a sample of them, all with
 * WALMIRROR_EXHAUSTIVE. Calls count for each thread; the n-th one is hit in every thread that comes
 * to it.
 */
const EVERY = (process.env.WALMIRROR_EXHAUSTIVE ?? '') !== '';
const SAMPLE = 3;
const reason = missing({ programs: ['strace', 'cc'] });

/** `unseen`: it is done again, so that nobody notices. */
const KILL = { what: 'signal=SIGKILL', unseen: false };
const failing = (error: string) => ({ what: `error=${error}`, unseen: false });
const interrupted = { what: 'error=EINTR', unseen: true };
const calls = {
  pwritev2: [KILL, failing('EIO'), failing('ENOSPC'), interrupted],
  pread64: [KILL, failing('EIO'), interrupted, { what: 'retval=0', unseen: false }],
  fdatasync: [KILL, failing('EIO'), failing('EINTR')],
  fsync: [KILL, failing('EIO'), failing('EINTR')],
  openat: [KILL, failing('EIO'), failing('ENOSPC'), interrupted],
  fallocate: [KILL, failing('EIO'), failing('ENOSPC'), interrupted],
  rename: [KILL, failing('EIO'), failing('ENOSPC')],
  unlink: [KILL, failing('EIO')],
  ftruncate: [KILL, failing('EIO')],
  mmap: [KILL, failing('ENOMEM')],
};

const parent = reason === undefined ? makeTempDir('sweep') : '';
afterAll(() => {
  if (parent !== '') rmSync(parent, { recursive: true, force: true });
});

const random = randomFrom(Number(process.env.WALMIRROR_SEED ?? 7));

function chosen(count: number): number[] {
  const all = Array.from({ length: count }, (_, i) => i + 1);
  if (EVERY || count <= SAMPLE) return all;
  return Array.from({ length: SAMPLE }, (_, i) => {
    const from = Math.floor((i * count) / SAMPLE);
    return 1 + from + random(Math.floor(((i + 1) * count) / SAMPLE) - from);
  });
}

/** Two at a time, each with a directory of its own. The first that fails ends both. */
async function inTwos<T>(items: readonly T[], work: (item: T, lane: number) => Promise<void>) {
  const left = [...items];
  const failures: unknown[] = [];
  const lane = async (number: number): Promise<void> => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) {
      try {
        await work(item, number);
      } catch (error) {
        failures.push(error);
        left.length = 0;
      }
    }
  };
  await Promise.all([lane(0), lane(1)]);
  if (failures.length > 0) throw failures[0];
}

interface Hit {
  readonly name: string;
  readonly trace?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly expected: (run: Run) => void;
}

async function hit({ name, trace, env, expected }: Hit, lane: number): Promise<Run> {
  const dir = join(parent, `log-${lane}`);
  rmSync(dir, { recursive: true, force: true });
  try {
    const warm = join(parent, `warm-${lane}`);
    const run = await runOperations({
      dir,
      warm,
      ...(trace === undefined ? {} : { trace }),
      ...(env === undefined ? {} : { env }),
    });
    expected(run);
    await checkAfter(dir, run);
    return run;
  } catch (error) {
    throw new Error(name, { cause: error });
  }
}

/** The most calls of each kind that one thread makes in a run that is left alone. */
async function countCalls(): Promise<Map<string, number>> {
  const out = join(parent, 'calls');
  const trace = ['-o', out, '-e', `trace=${Object.keys(calls).join(',')}`];
  await hit({ name: 'left alone', trace, expected: mustBeUnseen }, 0);
  const counts = new Map<string, number>();
  for (const [, thread, call] of readFileSync(out, 'utf8').matchAll(/^(\d+) +(\w+)\(/gm)) {
    counts.set(`${thread} ${call}`, (counts.get(`${thread} ${call}`) ?? 0) + 1);
  }
  const most = new Map<string, number>();
  for (const [key, count] of counts) {
    const call = key.split(' ')[1] ?? '';
    most.set(call, Math.max(most.get(call) ?? 0, count));
  }
  return most;
}

function mustBeUnseen({ code, signal, failed, stderr }: Run): void {
  expect({ code, signal, failed, stderr }).toEqual({
    code: 0,
    signal: null,
    failed: undefined,
    stderr: '',
  });
}

/** It goes on, or says why not. */
function mayFail(run: Run): void {
  if (run.code === 0) {
    mustBeUnseen(run);
    return;
  }
  expect({ code: run.code, signal: run.signal }).toEqual({ code: 3, signal: null });
  expect(run.failed).toMatch(/^WAL_(FLUSH_FAILED|IO|FAILED|NO_SPACE|NO_MEMORY|CORRUPT)$/);
}

function mayBeKilled(run: Run): void {
  if (run.signal === 'SIGKILL') return;
  mustBeUnseen(run);
}

describe.skipIf(reason)('200 operations, hit at each system call', () => {
  it(
    'lose nothing by a call that kills, fails, or is interrupted',
    async () => {
      const counts = await countCalls();
      for (const call of ['pwritev2', 'pread64', 'fdatasync', 'fsync', 'openat', 'rename']) {
        expect(counts.get(call) ?? 0).toBeGreaterThan(2);
      }
      const tally = new Map<string, number>();
      const hits = Object.entries(calls).flatMap(([call, kinds]) =>
        kinds.flatMap(({ what, unseen }) =>
          chosen(counts.get(call) ?? 0).map((n) => ({ call, what, unseen, n })),
        ),
      );
      await inTwos(hits, async ({ call, what, unseen, n }, lane) => {
        const out = join(parent, `injected-${lane}`);
        const trace = ['-o', out, '-e', `trace=${call}`, '-e', `inject=${call}:${what}:when=${n}`];
        const expected = (run: Run): void => {
          // Node itself ends where it finds no memory.
          if (call === 'mmap' && run.signal !== null) return;
          if (what === KILL.what) mayBeKilled(run);
          else if (unseen) mustBeUnseen(run);
          else mayFail(run);
        };
        await hit({ name: `${call} ${n}: ${what}`, trace, expected }, lane);
        const done = readFileSync(out, 'utf8').match(/\(INJECTED\)|killed by SIGKILL/g);
        if (done !== null) tally.set(what, (tally.get(what) ?? 0) + 1);
      });
      report('calls', counts);
      report(`runs ${hits.length}, hit`, tally);
      expect([...tally.keys()].sort()).toEqual([...new Set(hits.map(({ what }) => what))].sort());
    },
    EVERY ? 4 * 3600_000 : 400_000,
  );

  it(
    'lose nothing by a read or a write that does a part',
    async () => {
      const library = join(parent, 'short_counts.so');
      const source = resolve(import.meta.dirname, '../fixtures/short_counts.c');
      execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', library, source, '-ldl']);
      const tally = new Map<string, number>();
      for (const call of ['pwritev2', 'pread64']) {
        const env = (n: number, bytes: number, count: string) => ({
          LD_PRELOAD: library,
          SHORT_DIR: join(parent, 'log-'),
          SHORT_CALL: call,
          SHORT_AT: `${n}`,
          SHORT_BYTES: `${bytes}`,
          SHORT_COUNT: count,
        });
        const counted = join(parent, 'short-count');
        await hit({ name: call, env: env(0, 0, counted), expected: mustBeUnseen }, 0);
        const count = Number(readFileSync(counted, 'utf8'));
        expect(count).toBeGreaterThan(2);
        const hits = [4096, 2048].flatMap((bytes) => chosen(count).map((n) => ({ bytes, n })));
        await inTwos(hits, async ({ bytes, n }, lane) => {
          const name = `${call} ${n}: ${bytes} bytes`;
          // Half a block is no count that a direct write can go on from.
          const expected = bytes === 4096 ? mustBeUnseen : mayFail;
          await hit({ name, env: env(n, bytes, '/dev/null'), expected }, lane);
        });
        tally.set(call, hits.length);
      }
      report('short counts', tally);
    },
    EVERY ? 3600_000 : 200_000,
  );
});

function report(what: string, counts: ReadonlyMap<string, number>): void {
  const each = [...counts].map(([name, count]) => `${name} ${count}`).sort();
  process.stdout.write(`${what}: ${each.join(', ')}\n`);
}
