import { pino } from 'pino';
import { describe, expect, it, onTestFinished } from 'vitest';
import { WalError } from '../../src/api/errors.js';
import { LogEmitter } from '../../src/api/events.js';
import type { Logger } from '../../src/api/logger.js';
import { Narrator } from '../../src/api/narrator.js';
import { Log } from '../../src/index.js';
import { freshDir } from '../helpers/temp.js';
import { openLog, small, turn, until } from './helpers.js';

type Line = readonly [string, Readonly<Record<string, unknown>>, string];

function memoryLogger() {
  const lines: Line[] = [];
  const at =
    (level: string) =>
    (fields: Readonly<Record<string, unknown>>, message: string): void => {
      lines.push([level, fields, message]);
    };
  const logger = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
  return { lines, logger, of: (event: string) => lines.filter(([, f]) => f.event === event) };
}

const identity = { name: 'n', dir: '/d' };
const term = { epoch: 3, opener: 'ab', incarnation: 1 };
const scrub = {
  running: false,
  done: 1,
  of: 1,
  finished: null,
  damage: [],
  damagedRanges: 0,
  found: 1,
  repaired: 1,
  reason: null,
};
const range = {
  part: 'batches',
  file: '/d/1.wal',
  offset: 4096,
  bytes: 8,
  position: 64,
  firstLsn: 1,
  lastLsn: 1,
  reason: 'a bad checksum',
} as const;

describe('a logger', () => {
  it('may be that of pino', async () => {
    const lines: string[] = [];
    const logger = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) });
    const log = await openLog({ ...small, name: 'n', logger });
    await log.close();
    const found = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(found[0]).toMatchObject({ level: 30, event: 'opened', log: 'n', role: 'primary' });
    expect(found.at(-1)).toMatchObject({ level: 30, event: 'closed', msg: 'closed' });
  });

  it('hears of each event once, at its level, in one line', async () => {
    const { logger, lines } = memoryLogger();
    const events = new LogEmitter();
    const narrator = new Narrator(identity, events, logger);
    events.emit('role', { role: 'primary', term, reason: 'promoted' });
    events.emit('role', { role: 'fenced', term, reason: 'fenced' });
    events.emit('failed', new WalError('WAL_IO', 'it broke'));
    events.emit('standby', { name: 'b', nodeId: 'bb', connected: true, reason: '' });
    events.emit('standby', { name: 'b', nodeId: 'bb', connected: false, reason: 'gone' });
    events.emit('refused', { address: '10.0.0.9:1', reason: 'no certificate' });
    events.emit('degraded', { reason: 'nobody there' });
    events.emit('restored', { degradedSince: '2026-01-01T00:00:00.000Z' });
    events.emit('connected', { primary: 'a', term });
    events.emit('disconnected', { reason: 'refused', final: true });
    events.emit('slowFlush', { milliseconds: 1500 });
    events.emit('copyDropped', { dir: '/e', reason: 'EIO' });
    events.emit('copyRestored', { dir: '/e' });
    events.emit('damage', { ...scrub, damage: [range], damagedRanges: 2 });
    events.emit('repaired', scrub);
    await turn();
    expect(lines.map(([level, { event }, message]) => `${level} ${event}: ${message}`)).toEqual([
      'info role: primary now, epoch 3: promoted',
      'error role: fenced now, epoch 3: a newer primary exists',
      'error failed: the log has failed: it broke',
      'info standby: standby b connected',
      'warn standby: standby b left: gone',
      'warn refused: 10.0.0.9:1 was turned away: no certificate',
      'warn degraded: goes on alone, commits wait for its own disk only: nobody there',
      'info restored: commits wait for standbys again; it went on alone since ' +
        '2026-01-01T00:00:00.000Z',
      'info connected: connected to primary a',
      'error disconnected: no link to the primary: refused',
      'warn slowFlush: a flush took 1.5 s',
      'error copyDropped: goes on without /e: EIO',
      'info copyRestored: /e holds all of the log again',
      'error damage: damaged on the disk: /d/1.wal, offset 4096: a bad checksum, and 1 more',
      'info repaired: damaged ranges repaired since the log was opened: 1',
    ]);
    for (const [, fields] of lines) expect(fields).toMatchObject({ log: 'n', dir: '/d' });
    expect(narrator.recent.map(({ message }) => message)).toEqual(lines.map(([, , text]) => text));
  });

  it('hears of a reason once, and again after the link was up', async () => {
    const { logger, of } = memoryLogger();
    const events = new LogEmitter();
    const narrator = new Narrator(identity, events, logger);
    const lost = { reason: 'ECONNREFUSED', final: false };
    events.emit('disconnected', lost);
    events.emit('disconnected', lost);
    events.emit('connected', { primary: 'a', term });
    events.emit('disconnected', lost);
    await turn();
    expect(of('disconnected').map(([level]) => level)).toEqual(['warn', 'debug', 'warn']);
    expect(narrator.recent.map(({ event }) => event)).toEqual([
      'disconnected',
      'connected',
      'disconnected',
    ]);
  });

  it('hears of strangers at the door now and then, however many they are', async () => {
    const { logger, of } = memoryLogger();
    const events = new LogEmitter();
    let now = 0;
    const narrator = new Narrator(identity, events, logger, () => new Date(now));
    for (let i = 0; i < 100; i++) {
      now = i * 200;
      events.emit('refused', { address: `10.0.0.${i}:1`, reason: 'no certificate' });
      await turn();
    }
    expect(of('refused').filter(([level]) => level === 'warn').length).toBe(2);
    expect(of('refused').length).toBe(100);
    expect(narrator.recent.length).toBe(2);
  });

  it('what a peer says cannot look like two lines, nor fill the memory', async () => {
    const { logger, lines } = memoryLogger();
    const events = new LogEmitter();
    const narrator = new Narrator(identity, events, logger);
    const reason = `a\n{"level":"info"}\r\u001b[31m\u2028${'x'.repeat(10_000)}`;
    for (let i = 0; i < 100; i++) {
      events.emit('standby', { name: 'b', nodeId: 'bb', connected: false, reason });
    }
    await turn();
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    for (const [, , message] of lines) expect(message).not.toMatch(/[\u0000-\u001f\u2028]/);
    expect(lines[0]?.[2].length).toBeLessThanOrEqual(500);
    expect(narrator.recent.length).toBe(32);
  });

  it('may reject without the process taking notice', async () => {
    const bad = async (): Promise<never> => {
      throw new Error('no room for log lines');
    };
    const logger: Logger = { debug: bad, info: bad, warn: bad, error: bad };
    const unhandled: unknown[] = [];
    const note = (error: unknown): void => void unhandled.push(error);
    process.on('unhandledRejection', note);
    onTestFinished(() => void process.off('unhandledRejection', note));
    const events = new LogEmitter();
    const narrator = new Narrator(identity, events, logger);
    events.emit('slowFlush', { milliseconds: 1500 });
    await turn();
    await turn();
    expect(unhandled).toEqual([]);
    expect(narrator.recent.length).toBe(1);
  });

  it('may throw without the log taking notice', async () => {
    const bad = (): never => {
      throw new Error('no room for log lines');
    };
    const logger: Logger = { debug: bad, info: bad, warn: bad, error: bad };
    const log = await openLog({ ...small, logger });
    expect((await log.appendAndCommit('a')).lsn).toBe(1);
    await log.close();
    expect(log.status().failure).toBeNull();
  });

  it.each([
    [null, /logger takes an object with debug, info, warn and error.*got null/],
    ['info', /got "info"/],
    [{ info: () => undefined }, /has no function 'debug'/],
  ])('that is none is refused: %j', async (logger, message) => {
    const opening = Log.open({ dir: freshDir(), logger: logger as unknown as Logger });
    await expect(opening).rejects.toThrow(message);
    await expect(opening).rejects.toThrow(TypeError);
  });

  it('console is one', async () => {
    const log = await openLog({ ...small, logger: { ...console, info: () => undefined } });
    await log.close();
  });
});

it('tells the life of a primary and of its standby, and no byte of a record', async () => {
  const secret = 'payload-3f9c';
  const [a, b] = [memoryLogger(), memoryLogger()];
  const listen = { port: 0 };
  const primary = await openLog({ ...small, name: 'a', listen, logger: a.logger });
  const { port } = primary.status().listening!;
  const standby = await openLog({ name: 'b', follow: { port }, logger: b.logger });
  await standby.connected();
  await primary.appendAndCommit(secret);
  await until(() => standby.status().commitLsn === 1, 'the record is there');
  await primary.close();
  await until(() => b.of('disconnected').length > 0, 'it hears of the end');
  await standby.promote({ primaryStopped: true });
  await expect(standby.appendAndCommit(secret, { level: 'remote_flush' })).rejects.toThrow();
  await turn();
  await standby.close();
  expect(a.lines.map(([level, { event }]) => `${level} ${event}`)).toEqual([
    'info opened',
    'info standby',
    'warn standby',
    'info closed',
  ]);
  // It may be told a second reason, while it tries to come back.
  const told = b.lines.filter(([level]) => level !== 'debug').map(([, { event }]) => event);
  expect(told.filter((event, i) => event !== told[i - 1])).toEqual([
    'opened',
    'connected',
    'disconnected',
    'role',
    'closed',
  ]);
  expect(JSON.stringify([a.lines, b.lines])).not.toContain(secret);
  expect(a.of('opened')[0]?.[2]).toMatch(/^opened as primary, epoch 1: no records, .*a new log/);
});
