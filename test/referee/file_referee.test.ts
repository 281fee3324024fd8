import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { fileReferee } from '../../src/referee/file_referee.js';
import { FileStore } from '../../src/referee/file_store.js';
import { FileMemory } from '../../src/referee/memory.js';
import type { Referee } from '../../src/referee/referee.js';
import { StoreReferee } from '../../src/referee/store_referee.js';
import { fileTiming } from '../../src/referee/timing.js';
import { tempDir } from '../global/temp.js';
import { binding } from '../native/native.js';
import { claimOf, grantOf, nodeId } from './claims.js';
import { type Group, refereeContract } from './contract.js';

/** Nodes with a clock of their own, which passes when a test says so. */
function newGroup(dir = tempDir('referee')): Group & { readonly dir: string } {
  let nowMs = 1_000_000;
  let nodes = 0;
  return {
    dir,
    now: () => nowMs,
    pass: async (milliseconds) => {
      nowMs += milliseconds;
    },
    join: () => {
      const clock = () => nowMs;
      const environment = { bootTime: clock, wallClock: () => Date.now() };
      const store = new FileStore(join(dir, 'shared'), 10_000, clock);
      const memory = new FileMemory(join(dir, `memory-${nodes}`));
      nodes += 1;
      const referee = new StoreReferee({ store, timing: fileTiming, memory, environment });
      onTestFinished(() => referee.close());
      return referee;
    },
  };
}

describe('the referee over a file', () => {
  refereeContract(newGroup);

  function reopened(dir: string): Referee {
    const options = { directory: join(dir, 'shared'), memory: join(dir, 'memory') };
    const referee = fileReferee(options);
    onTestFinished(() => referee.close());
    return referee;
  }

  it('is on the clock that counts suspension', async () => {
    const referee = reopened(tempDir('referee'));
    const before = binding.bootTime();
    const { deadlineMs } = grantOf(await referee.acquire(claimOf('a')));
    const lasts = fileTiming.ttlMs - fileTiming.marginMs;
    expect(deadlineMs).toBeGreaterThanOrEqual(before + lasts);
    expect(deadlineMs).toBeLessThanOrEqual(binding.bootTime() + lasts);
  });

  it('ends all leases with the boot in which they were given', async () => {
    const { dir, join: newNode } = newGroup();
    const referee = newNode();
    const grant = grantOf(await referee.acquire(claimOf('a')));
    const path = join(dir, 'shared/referee.json');
    const state = JSON.parse(readFileSync(path, 'utf8'));
    writeFileSync(path, JSON.stringify({ ...state, boot: 'another time:[1]' }));
    expect((await referee.view()).holder).toBeUndefined();
    expect((await referee.view()).leader).toMatchObject({ epoch: grant.epoch });
  });

  it('refuses another time namespace, and a file or records that are none', async () => {
    const { dir, join: newNode } = newGroup();
    const referee = newNode();
    await referee.acquire(claimOf('a'));
    const path = join(dir, 'shared/referee.json');
    const text = readFileSync(path, 'utf8');
    const state = JSON.parse(text);
    const [boot] = state.boot.split(' ');
    writeFileSync(path, JSON.stringify({ ...state, boot: `${boot} time:[1]` }));
    await expect(referee.view()).rejects.toMatchObject({ code: 'WAL_REFEREE_REFUSED' });
    writeFileSync(path, text.slice(0, 40));
    await expect(referee.view()).rejects.toMatchObject({ code: 'WAL_CORRUPT', file: path });
    const leader = { ...state.entries.leader, value: '{"epoch":"7"}' };
    writeFileSync(path, JSON.stringify({ ...state, entries: { leader } }));
    await expect(referee.view()).rejects.toMatchObject({ code: 'WAL_REFEREE_REFUSED' });
  });

  it('waits for its lock, and says who does not give it', async () => {
    const dir = tempDir('referee');
    const store = new FileStore(dir, 300);
    const release = binding.lockFile(join(dir, 'referee.lock'));
    await expect(store.read()).rejects.toMatchObject({ code: 'WAL_REFEREE_AWAY' });
    const waiting = store.read();
    release();
    expect((await waiting).entries.size).toBe(0);
  });

  it('remembers over a restart of the node what it saw: a file of the past is found', async () => {
    const dir = tempDir('referee');
    const first = reopened(dir);
    await first.release(grantOf(await first.acquire(claimOf('a'))));
    const path = join(dir, 'shared/referee.json');
    const old = readFileSync(path);
    await first.acquire(claimOf('a'));
    writeFileSync(path, old);
    const second = reopened(dir);
    const message = /revision is \d+, and was \d+ before/;
    const past = { code: 'WAL_REFEREE_PAST', message: expect.stringMatching(message) };
    await expect(second.acquire(claimOf('b'))).rejects.toMatchObject(past);
    await expect(second.view()).rejects.toMatchObject(past);
    await second.forget();
    expect((await second.view()).leader).toMatchObject({ epoch: 1, nodeId: nodeId('a') });
    writeFileSync(join(dir, 'memory'), '{}');
    await expect(reopened(dir).view()).rejects.toMatchObject({ code: 'WAL_CORRUPT' });
  });

  it('says what is wrong with its options', () => {
    const good = { directory: 'd', memory: 'm' };
    const bad: [object, RegExp][] = [
      [{ ...good, directory: 1 }, /directory takes a string, got 1/],
      [{ ...good, directory: '' }, /takes the path of a directory/],
      [{ ...good, memory: '' }, /takes the path of a file/],
      [{ ...good, directry: 'd' }, /knows no option "directry"; did you mean directory\?/],
      [{ ...good, timing: { ttlMs: 500 } }, /ttlMs is 500 and has to be 1400 or more/],
    ];
    for (const [options, message] of bad) {
      expect(() => fileReferee(options as never)).toThrow(message);
    }
  });
});

describe('lockFile', () => {
  it('holds against every other, also of this process, until it is released', () => {
    const path = join(tempDir('lock'), 'lock');
    const release = binding.lockFile(path);
    expect(() => binding.lockFile(path)).toThrow(
      expect.objectContaining({ code: 'WAL_LOCKED', message: expect.stringContaining(path) }),
    );
    release();
    release();
    const again = binding.lockFile(path);
    again();
    expect(() => binding.lockFile(1 as never)).toThrow(TypeError);
  });
});
