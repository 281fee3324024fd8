import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { frameDecoder } from '../../src/api/frames.js';
import { Log } from '../../src/api/log.js';
import { openLog } from '../../src/api/open.js';
import { resolveOpenOptions } from '../../src/api/options.js';
import { readPlan, readRequest } from '../../src/api/read_options.js';
import { sourcePlan } from '../../src/api/read_stream.js';
import { beginReading } from '../../src/api/reader.js';
import { resolveTls } from '../../src/api/security_options.js';
import { type RecordSink, writePlan } from '../../src/api/write_stream.js';
import { exportMetrics } from '../../src/observe/prometheus.js';
import { memoryReferee } from '../../src/referee/index.js';
import { maxMembers } from '../../src/replication/rule.js';
import { defaultLimits, defaultTiming, maxStandbys } from '../../src/transport/timing.js';
import { freshDir } from '../helpers/temp.js';

/**
 * docs/options.md holds every option with its default and its limits. A new option fails the first
 * test until it has a row; one with a default that is no plain value gets a line in `inWords`.
 */

interface Row {
  readonly calls: readonly string[];
  readonly option: string;
  readonly otherwise: string;
  readonly takes: string;
}

const page = readFileSync('docs/options.md', 'utf8');

function rowsOf(text: string): Row[] {
  let calls: string[] = [];
  return [...text.matchAll(/^\| (.*?) ?\| `(\w+)` \| (.+?) \| (.+?) \| .*\|$/gm)].map((match) => {
    const [, call = '', option = '', otherwise = '', takes = ''] = match;
    if (call !== '') calls = [...call.matchAll(/`([\w.]+)`/g)].map(([, name]) => name ?? '');
    return { calls, option, otherwise, takes };
  });
}

const rows = rowsOf(page);
const of = (call: string): Row[] => rows.filter(({ calls }) => calls.includes(call));

/** The options that a call knows: it names them when it is given one that it does not. */
async function known(call: (options: never) => unknown): Promise<string[]> {
  try {
    await call({ ['-'.repeat(40)]: true } as never);
  } catch (error) {
    const [, list] = /it takes (.+)$/.exec((error as Error).message) ?? [];
    if (list !== undefined) return list.split(', ').sort();
    throw error;
  }
  throw new Error('it took an option that there is not');
}

const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  records: 1,
  '': 1,
};

function number(text: string): number | undefined {
  const [, digits, unit = ''] = /^([\d,]+)(?: (\w+))?$/.exec(text) ?? [];
  const factor = UNITS[unit];
  if (digits === undefined || factor === undefined) return undefined;
  return Number(digits.replaceAll(',', '')) * factor;
}

/** What a default is in a program. */
function value(text: string): unknown {
  if (text === 'none') return undefined;
  const [, code] = /^`(.+)`$/.exec(text) ?? [];
  if (code === 'true' || code === 'false') return code === 'true';
  if (code !== undefined) return code.replace(/^'(.*)'$/, '$1');
  return number(text) ?? new Error(`no value: ${text}`);
}

/** Options that are no part of the package: of the command line, and of what is not let out. */
const inside = ['promoteDirectory'];
/** Checks that are told by their callers what they check. */
const byCallers: Readonly<Record<string, number>> = {
  'api/log.ts': 2,
  'api/options.ts': 1,
  'api/security_options.ts': 1,
};

/** Its calls are named as those of `Log`, which take other options. */
function ofAttached(call: string): string {
  return call.startsWith('Log.') ? call : `AttachedLog.${call}`;
}

/** What the source checks options of by name. A check under another name fails here first. */
function namedInSource(): string[] {
  const found: string[] = [];
  const others: Record<string, number> = {};
  for (const file of readdirSync('src', { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts') || /^(referee|testing)\//.test(file)) continue;
    const text = readFileSync(`src/${file}`, 'utf8');
    for (const [, what = ''] of text.matchAll(/check\.optionsObject\(\s*\w+,\s*([^,]+),/g)) {
      const [, name] = /^'(.+)'$/.exec(what) ?? [];
      if (name !== undefined) found.push(file === 'api/attached_log.ts' ? ofAttached(name) : name);
      else others[file] = (others[file] ?? 0) + 1;
    }
  }
  expect(others).toEqual(byCallers);
  return found.filter((name) => !inside.includes(name));
}

it('has every option of every call', async () => {
  const dir = freshDir();
  const log = await Log.open({ dir });
  const attached = await Log.attach(log.handle);
  const snapshot = { save: async function* () {}, load: () => {} };
  const withSnapshots = await Log.open({ dir: freshDir(), snapshot });
  try {
    const listen = { port: 0 };
    const store = './archive';
    const calls: Record<string, (options: never) => unknown> = {
      'Log.open': resolveOpenOptions,
      listen: (options: object) => resolveOpenOptions({ dir, listen: { ...listen, ...options } }),
      follow: (options: object) => resolveOpenOptions({ dir, follow: { ...listen, ...options } }),
      tls: (options) => resolveTls(options, 'tls', undefined),
      reloadTls: (options) => resolveTls(options, 'reloadTls', undefined),
      close: (options) => log.close(options),
      serveStatus: (options) => log.serveStatus(options),
      frameDecoder,
      exportMetrics: (options) => exportMetrics(log, options),
      scrub: (options) => resolveOpenOptions({ dir, scrub: options }),
      retention: (retention) => resolveOpenOptions({ dir, retention }),
      snapshot: (options: object) =>
        resolveOpenOptions({ dir, snapshot: { ...snapshot, ...options } }),
      archive: (options: object) => resolveOpenOptions({ dir, archive: { store, ...options } }),
      'log.snapshot': (options) => withSnapshots.snapshot(options),
      commit: (options) => log.commit(0, options),
      appendAndCommit: (options) => log.appendAndCommit('x', options),
      read: (options) => log.read(options),
      apply: (options) => log.apply(options, () => {}),
      promote: (options) => log.promote(options),
      switchover: (options) => log.switchover(options),
      demote: (options) => log.demote(options),
      rejoin: (options) => log.rejoin(options),
      setPolicy: (options) => log.setPolicy(options),
      createReadStream: (options) => log.createReadStream(options),
      readable: (options) => log.readable(options),
      createWriteStream: (options) => log.createWriteStream(options),
      writable: (options) => log.writable(options),
      'Log.attach': (options) => Log.attach(log.handle, options),
      'AttachedLog.commit': (options) => attached.commit(0, options),
      'AttachedLog.drain': (options) => attached.drain(0, options),
      'AttachedLog.status': (options) => attached.status(options),
      'AttachedLog.close': (options) => attached.close(options),
    };
    expect(Object.keys(calls)).toEqual(expect.arrayContaining(namedInSource()));
    const names = new Set(rows.flatMap((row) => row.calls));
    expect(Object.keys(calls).sort()).toEqual([...names].sort());
    const policy = ['synchronousCommit', 'synchronousStandbys', 'whenMissing', 'syncTimeout'];
    const reading = of('read').map(({ option }) => option);
    /** What the text below the table, or a row, says of several at once. */
    const also: Readonly<Record<string, readonly string[]>> = {
      promote: policy,
      setPolicy: policy,
      createReadStream: reading,
      readable: reading.filter((option) => option !== 'borrow'),
    };
    for (const [name, call] of Object.entries(calls)) {
      const told = of(name).map(({ option }) => option);
      expect([...told, ...(also[name] ?? [])].sort(), name).toEqual(await known(call));
    }
  } finally {
    await withSnapshots.close();
    await log.close();
  }
});

it('has the defaults that are in force', async () => {
  const dir = freshDir();
  const opened = resolveOpenOptions({ dir });
  const { policy, scrub } = opened;
  const core = await openLog({ dir });
  let found: Readonly<Record<string, object>>;
  try {
    const reading = readPlan(core, readRequest({}));
    const sink = { requireTaking: () => undefined } as unknown as RecordSink;
    const streams = [
      sourcePlan({}, (request) => beginReading(core, request)),
      writePlan(sink, {}),
    ] as const;
    found = {
      'Log.open': {
        ...opened,
        ...policy,
        synchronousCommit: policy.level,
        synchronousStandbys: policy.standbys,
        acceptMissing: opened.acceptMissing.length === 0 ? undefined : opened.acceptMissing,
        members: opened.members.length === 0 ? undefined : opened.members,
      },
      listen: resolveOpenOptions({ dir, listen: { port: 0 } }).listen ?? {},
      follow: resolveOpenOptions({ dir, follow: { port: 1 } }).follow ?? {},
      snapshot: resolveOpenOptions({ dir, snapshot: { save() {}, load() {} } }).snapshot ?? {},
      archive: resolveOpenOptions({ dir, archive: { store: './archive' } }).archive ?? {},
      scrub: { ...scrub, everyHours: (scrub?.everyMs ?? 0) / 3_600_000 },
      read: {
        ...reading,
        to: reading.to === Number.POSITIVE_INFINITY ? undefined : reading.to,
        // It waits for records to come; and what it may see is what is committed.
        live: reading.end === undefined,
        upTo: reading.upTo,
      },
      createReadStream: streams[0],
      createWriteStream: streams[1],
      promote: { primaryStopped: false, force: false },
    };
    streams[0].source.close();
  } finally {
    await core.closeDriver();
    await core.native.close();
    core.closed();
  }
  /** Defaults that are no plain value, each with what it stands for. */
  const inWords: Readonly<Record<string, readonly [string, boolean]>> = {
    name: ["the directory's name", opened.name === 'log'],
    scrub: ['an object of defaults', scrub !== undefined],
    mirrorQuorum: ['all', opened.mirrorQuorum === 0],
    level: ["the log's", levelIsLeftOut(found)],
  };
  for (const [call, values] of Object.entries(found)) {
    for (const { option, otherwise } of of(call)) {
      if (otherwise === 'required' || otherwise === 'as opened') continue;
      const what = `${call}: ${option}`;
      const words = inWords[option];
      if (words !== undefined) expect([otherwise, true], what).toEqual(words);
      else expect(value(otherwise), what).toEqual((values as Record<string, unknown>)[option]);
    }
  }
});

function levelIsLeftOut(found: Readonly<Record<string, object>>): boolean {
  return (found.createWriteStream as { level?: unknown }).level === undefined;
}

/** What an option cannot do without. */
const context: Readonly<Record<string, object>> = {
  copyLag: { dir: ['./a', './b'] },
  resyncRate: { dir: ['./a', './b'] },
  syncTimeout: { synchronousStandbys: '*', whenMissing: 'fail' },
  maxRecordBytes: {},
  applicationTimeout: { referee: memoryReferee(), replicationThread: 'worker' },
};

const limited = of('Log.open').flatMap(({ option, takes }) => {
  const [, low = '', high = ''] =
    /^([\d,]+(?: \w+)?) to ([\d,]+(?: \w+)?)(?:,|$)/.exec(takes) ?? [];
  const [lowest, highest] = [number(low), number(high)];
  return lowest === undefined || highest === undefined ? [] : [{ option, lowest, highest }];
});

it('has limits to look at', () => {
  expect(limited.length).toBeGreaterThanOrEqual(8);
});

it.each(limited)(
  '$option takes $lowest to $highest, and no more',
  ({ option, lowest, highest }) => {
    const open = (given: number) =>
      resolveOpenOptions({ dir: './a', ...context[option], [option]: given });
    for (const given of [lowest, highest]) expect(() => open(given)).not.toThrow();
    for (const given of [lowest - 1, highest + 1]) {
      expect(() => open(given)).toThrow(new RegExp(`${option}.* takes a .*number`));
    }
  },
);

it('has the figures that cannot be set', () => {
  const [, fixed = ''] = page.split('## What cannot be set');
  const said = fixed.split('\n').filter((line) => line.startsWith('| '));
  const figures = said.flatMap((line) => [
    ...(line.split('|')[2] ?? '').replaceAll(',', '').matchAll(/\d+/g),
  ]);
  const { heartbeat, dead, handshake, stall, retryFirst, retryMost } = defaultTiming;
  expect(figures.map(Number)).toEqual([
    ...[heartbeat, dead, handshake, stall, retryFirst, retryMost],
    ...[defaultLimits.connections, defaultLimits.halfOpen, maxStandbys, maxMembers],
  ]);
});
