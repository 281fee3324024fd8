import { describe, expect, it, vi } from 'vitest';
import type { Log } from '../../src/index.js';
import { type Machine, Simulation } from '../../src/testing/index.js';

const small = { dir: '/log', segmentBytes: 65536, ringBytes: 65536, maxRecordBytes: 1024 } as const;

/** A group that is to be opened, by its nodes' names, and its referee. */
function group(seed: number, names: readonly string[], synchronousStandbys: string) {
  const sim = new Simulation({ seed });
  const referee = sim.referee();
  const members = names.map((host) => ({ host, port: 7401, plaintext: true as const }));
  const open = (machine: Machine, openAlone = false, own = referee.of(machine)): Promise<Log> =>
    machine.open({
      ...small,
      name: machine.name,
      listen: { host: machine.name, port: 7401, plaintext: true },
      members,
      openAlone,
      synchronousStandbys,
      referee: own,
    });
  return { sim, referee, open };
}

/** Two nodes, of which `a` holds the group, and their referee. */
async function pair(seed: number) {
  const { sim, referee, open } = group(seed, ['a', 'b'], 'ANY 1 (*)');
  const a = sim.machine('a');
  const b = sim.machine('b');
  const log = await sim.until(open(a, true));
  const other = await sim.until(open(b));
  await sim.until(log.appendAndCommit('one'), 20_000);
  return { sim, referee, a, b, log, other, open };
}

describe('a simulated referee', () => {
  it('lets a standby take the place of a primary that is gone', async () => {
    const { sim, referee, a, other, open } = await pair(1);
    expect(referee.holder?.epoch).toBe(1);
    a.goOff('all');
    await sim.run(10_000);
    expect(other.status().role).toBe('primary');
    expect(referee.holder?.epoch).toBeGreaterThan(1);
    a.goOn();
    const back = await sim.until(open(a), 20_000);
    await sim.until(other.appendAndCommit('two'), 20_000);
    expect(back.status().role).toBe('standby');
  });

  it('is not reached by a primary, which acknowledges nothing past its lease', async () => {
    const { sim, referee, log, other } = await pair(2);
    sim.network.block('a', referee.name);
    await sim.run(referee.timing.ttlMs - referee.timing.marginMs);
    expect(referee.holder?.epoch).toBe(1);
    const wait = log.appendAndCommit('two');
    wait.catch(() => undefined);
    await sim.run(10_000);
    expect(other.status().role).toBe('primary');
    await expect(wait).rejects.toThrow(/newer/);
  });

  it('loses its answers, once it has done what was asked', async () => {
    const { sim, referee, log } = await pair(3);
    const ends = referee.holder?.endsMs ?? 0;
    sim.network.block(referee.name, 'a');
    await sim.run(referee.timing.ttlMs / 2);
    expect(referee.holder?.endsMs).toBeGreaterThan(ends);
    await sim.run(referee.timing.ttlMs);
    expect(log.status().referee?.lease).not.toBe('held');
    sim.network.heal();
    await sim.until(log.appendAndCommit('two'), 20_000);
  });

  it('counts the pause of a machine: its clock goes on, and it does nothing', async () => {
    const { sim, referee, a, log, other } = await pair(4);
    a.pause();
    await sim.run(referee.timing.ttlMs * 5);
    expect(other.status().role).toBe('primary');
    const wait = log.appendAndCommit('late');
    wait.catch(() => undefined);
    a.resume();
    await sim.run(5000);
    await expect(wait).rejects.toThrow();
    expect(log.status().role).toBe('standby');
  });

  it('knows only of the past when it was restored, and nobody acts by it', async () => {
    const { sim, referee, a, other } = await pair(5);
    const past = referee.backup();
    a.goOff('all');
    await sim.run(10_000);
    expect(other.status().role).toBe('primary');
    expect(referee.epoch).toBe(2);
    referee.restore(past);
    expect(referee.epoch).toBe(1);
    await sim.run(5000);
    expect(other.status().referee?.lease).not.toBe('held');
    expect(other.status().referee?.reason).toMatch(/does not know what it knew/);
  });

  it('is away, slow and silent when it is told to be', async () => {
    const { sim, referee, a, other } = await pair(6);
    referee.tells = false;
    referee.slowMs = 50;
    referee.isAway = true;
    a.goOff('all');
    await sim.run(20_000);
    expect(other.status().role).toBe('standby');
    referee.isAway = false;
    await sim.run(10_000);
    expect(other.status().role).toBe('primary');
  });

  it('says who may lead while a rule is on its way to it that names others', async () => {
    const { sim, referee, open } = group(7, ['a', 'b', 'c'], 'FIRST 1 (b, c)');
    const a = sim.machine('a');
    const own = referee.of(a);
    const log = await sim.until(open(a, true, own));
    const c = await sim.until(open(sim.machine('c')));
    await sim.until(log.appendAndCommit('one'), 20_000);
    // From now on b counts and c does not, as all are told but the referee.
    const recording = vi.spyOn(own, 'recordRule').mockReturnValue(new Promise(() => undefined));
    const b = await sim.until(open(sim.machine('b')));
    await sim.run(200);
    expect(recording).toHaveBeenCalled();
    const { nodeId } = b.status();
    expect(b.status().upstream?.rule?.members).toEqual([nodeId]);
    sim.network.block('a', referee.name);
    // Not longer than that takes: each attempt that is given up again costs time.
    const end = sim.now + 2 * referee.timing.ttlMs;
    while (c.status().role !== 'primary' && sim.now < end) await sim.run(100);
    expect(c.status().role).toBe('primary');
    await sim.until(c.appendAndCommit('two'), 20_000);
  });
});
