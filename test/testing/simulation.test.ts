import { describe, expect, it, vi } from 'vitest';
import type { Log } from '../../src/index.js';
import { type Machine, Simulation } from '../../src/testing/index.js';

const small = { dir: '/log', segmentBytes: 65536, ringBytes: 65536, maxRecordBytes: 1024 } as const;
const port = 7401;

function primary(machine: Machine, options = {}): Promise<Log> {
  const listen = { host: machine.name, port, plaintext: true };
  return machine.open({ ...small, name: machine.name, listen, ...options });
}

function standby(machine: Machine, of: Machine): Promise<Log> {
  const follow = { host: of.name, port, plaintext: true };
  return machine.open({ dir: '/log', name: machine.name, ringBytes: 65536, follow });
}

async function pair(seed: number) {
  const sim = new Simulation({ seed });
  const a = sim.machine('a');
  const b = sim.machine('b');
  const log = await sim.until(primary(a, { synchronousStandbys: 'ANY 1 (*)' }));
  return { sim, a, b, log, other: await sim.until(standby(b, a)) };
}

describe('Simulation', () => {
  it('runs a primary and its standby, in time that only it moves', async () => {
    const { sim, log, other } = await pair(1);
    const began = sim.now;
    expect(await sim.until(log.appendAndCommit('one'), 1000)).toEqual({
      lsn: 1,
      level: 'remote_flush',
      standbys: ['b'],
    });
    expect(sim.now - began).toBeGreaterThan(0.2);
    expect(sim.now - began).toBeLessThan(50);
    expect(other.status().flushLsn).toBe(1);
    const before = sim.now;
    await sim.run(3_600_000);
    expect(sim.now).toBe(before + 3_600_000);
    expect(other.status().upstream?.connected).toBe(true);
    await sim.until(Promise.all([log.close(), other.close()]));
  });

  it('goes the same way by the same seed', async () => {
    const hashes = [];
    for (const seed of [5, 5, 6]) {
      const { sim, log } = await pair(seed);
      for (let i = 0; i < 20; i++) await sim.until(log.appendAndCommit(`${i}`));
      hashes.push(sim.hash);
    }
    expect(hashes[1]).toBe(hashes[0]);
    expect(hashes[2]).not.toBe(hashes[0]);
  });

  it('throws where what is waited for does not come in time', async () => {
    const { sim, b, log } = await pair(2);
    b.pause();
    await expect(sim.until(log.appendAndCommit('x'), 2000)).rejects.toThrow('2000 ms are over');
    b.resume();
    await sim.until(log.commit());
  });

  it('loses with the power what was not flushed, and nothing else', async () => {
    const sim = new Simulation({ seed: 3 });
    const a = sim.machine('a');
    const log = await sim.until(a.open(small));
    await sim.until(log.appendAndCommit('kept'));
    log.append('lost');
    a.goOff('all');
    a.goOn();
    const again = await sim.until(a.open({ dir: '/log' }));
    expect(again.status().flushLsn).toBe(1);
    await sim.until(again.close());
  });

  it('keeps a process that was killed what its system had taken', async () => {
    const sim = new Simulation({ seed: 4 });
    const a = sim.machine('a');
    const log = await sim.until(a.open(small));
    await sim.until(log.appendAndCommit('one'));
    a.goOff('nothing');
    a.goOn();
    const again = await sim.until(a.open({ dir: '/log' }));
    expect(again.status().flushLsn).toBe(1);
    a.goOff('all');
    a.wipe();
    a.goOn();
    const empty = await sim.until(a.open(small));
    expect(empty.status().flushLsn).toBe(0);
  });

  it('goes off in the middle of a change of its disk', async () => {
    const sim = new Simulation({ seed: 5 });
    const a = sim.machine('a');
    const log = await sim.until(a.open(small));
    let went = false;
    a.onOff = () => {
      went = true;
      a.goOff('some');
    };
    a.goOffIn(1, true);
    log.append('x');
    await sim.run(1000);
    expect(went).toBe(true);
    expect(a.isOn).toBe(false);
    a.goOn();
    const again = await sim.until(a.open({ dir: '/log' }));
    expect(again.status().flushLsn).toBeLessThanOrEqual(1);
  });

  it('holds up one direction, and delivers it later', async () => {
    const { sim, log } = await pair(6);
    sim.network.block('b', 'a');
    const commit = log.appendAndCommit('x');
    let isDone = false;
    commit.then(() => {
      isDone = true;
    });
    await sim.run(1000);
    expect(isDone).toBe(false);
    sim.network.unblock('b', 'a');
    await sim.until(commit, 1000);
  });

  it('gives up a peer that is silent, and finds it again', async () => {
    const { sim, log, other } = await pair(7);
    await sim.until(log.appendAndCommit('one'));
    sim.network.block('a', 'b');
    sim.network.block('b', 'a');
    await sim.run(10_000);
    expect(log.status().standbys[0]?.state).toBe('disconnected');
    expect(other.status().upstream?.connected).toBe(false);
    sim.network.heal();
    await sim.until(log.appendAndCommit('x'), 20_000);
  });

  it('refuses a connection where nobody listens, and leaves who is off silent', async () => {
    const sim = new Simulation({ seed: 8 });
    const [a, b] = [sim.machine('a'), sim.machine('b')];
    const reasons: string[] = [];
    const waiting = b.open({
      dir: '/log',
      name: 'b',
      follow: { host: 'a', port, plaintext: true },
      onWaiting: (error) => reasons.push(error.message),
    });
    await sim.run(1000);
    expect(reasons[0]).toMatch('ECONNREFUSED');
    const count = reasons.length;
    a.goOff('all');
    await sim.run(4000);
    expect(reasons.length).toBeLessThan(count + 3);
    a.goOn();
    await sim.until(primary(a));
    const log = await sim.until(waiting, 60_000);
    expect(log.status().role).toBe('standby');
  });

  it('lets a disk fail, and the log with it', async () => {
    const sim = new Simulation({ seed: 9 });
    const a = sim.machine('a');
    const log = await sim.until(a.open(small));
    a.disk.failIn('write', 1);
    await expect(sim.until(log.appendAndCommit('x'))).rejects.toMatchObject({
      code: 'WAL_FLUSH_FAILED',
    });
  });

  it('keeps what is left of a process that is gone from its port, disk and others', async () => {
    const sim = new Simulation({ seed: 11 });
    const a = sim.machine('a');
    const referee = sim.referee();
    const listen = async () => {
      const environment = a.environment();
      const server = environment.createServer({} as never, () => undefined);
      server.listen({ port }, () => undefined);
      await sim.run(10);
      return { environment, server };
    };
    const old = await listen();
    const asked = referee.of(a);
    a.goOff('nothing');
    a.goOn();
    await listen();
    old.server.close();
    await sim.run(10);
    expect([...a.servers.keys()]).toEqual([port]);
    const socket = old.environment.connect({ host: 'a', port });
    const late = vi.fn();
    void asked.pause('late', 'of a process that is gone').then(late, late);
    void old.environment
      .binding()
      .open({} as never)
      .then(late, late);
    await sim.run(5000);
    expect(socket.connecting).toBe(true);
    expect(late).not.toHaveBeenCalled();
    expect((await sim.until(referee.of(a).view())).pause).toBeUndefined();
  });

  it('promotes, when the primary is gone', async () => {
    const { sim, a, log, other } = await pair(10);
    await sim.until(log.appendAndCommit('one'));
    a.goOff('all');
    await sim.until(other.promote({ primaryStopped: true, synchronousCommit: 'local' }));
    expect(await sim.until(other.appendAndCommit('two', { level: 'local' }))).toMatchObject({
      lsn: 2,
    });
  });
});
