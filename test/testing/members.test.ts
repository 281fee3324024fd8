import { expect, it } from 'vitest';
import type { Log, OpenOptions } from '../../src/index.js';
import { type Machine, Simulation } from '../../src/testing/index.js';

const port = 7401;
const small = { dir: '/log', segmentBytes: 65536, ringBytes: 65536, maxRecordBytes: 1024 } as const;
const endpoint = (host: string) => ({ host, port, plaintext: true as const });

/** Members by the names of their machines, of which the first begins the log. */
async function group(seed: number, names: readonly string[], options: Partial<OpenOptions>) {
  const sim = new Simulation({ seed });
  const machines = names.map((name) => sim.machine(name));
  const open = (machine: Machine, more: Partial<OpenOptions> = {}): Promise<Log> =>
    machine.open({
      ...small,
      name: machine.name,
      listen: endpoint(machine.name),
      members: names.map(endpoint),
      ...options,
      ...more,
    });
  return { sim, machines, open };
}

it('a standby that found another standby goes on to the primary, and counts there', async () => {
  const { sim, machines, open } = await group(1, ['a', 'b', 'c'], {
    synchronousStandbys: 'ANY 2 (*)',
  });
  const [a, b, c] = machines as [Machine, Machine, Machine];
  const first = await sim.until(open(a, { openAlone: true }));
  const second = await sim.until(open(b));
  const third = await sim.until(open(c));
  await sim.until(first.appendAndCommit('one'), 20_000);
  sim.network.block('b', 'c');
  sim.network.block('c', 'b');
  const promoted = third.promote({ primaryStopped: true });
  await sim.run(5_000);
  await sim.until(first.rejoin({ follow: endpoint('c') }));
  await sim.run(20_000);
  // Nobody that it reaches is the primary: it takes what another standby has.
  const upstream = second.status().upstream;
  expect([upstream?.address, upstream?.connected]).toEqual(['a:7401', true]);
  sim.network.heal();
  await sim.until(promoted, 20_000);
  await sim.until(third.appendAndCommit('two'), 20_000);
  expect(second.status().upstream?.address).toBe('c:7401');
});

it('two that were primaries, and are started together, hear of each other', async () => {
  const { sim, machines, open } = await group(2, ['a', 'b'], { synchronousStandbys: 'ANY 1 (*)' });
  const [a, b] = machines as [Machine, Machine];
  const first = await sim.until(open(a, { openAlone: true }));
  const second = await sim.until(open(b));
  await sim.until(first.appendAndCommit('one'), 20_000);
  a.goOff('all');
  const promoted = second.promote({ primaryStopped: true });
  await sim.run(5_000);
  promoted.catch(() => undefined);
  b.goOff('all');
  a.goOn();
  b.goOn();
  const [old, newest] = await sim.until(Promise.all([open(a), open(b)]), 20_000);
  await sim.until(newest.appendAndCommit('two'), 20_000);
  expect(newest.status()).toMatchObject({ role: 'primary', term: { epoch: 2 } });
  expect(old.status()).toMatchObject({ role: 'standby', flushLsn: 2 });
});

it('a standby that has never met its primary is promoted only by force', async () => {
  const { sim, machines, open } = await group(3, ['a', 'b'], { synchronousStandbys: 'ANY 1 (*)' });
  const [a, b] = machines as [Machine, Machine];
  await sim.until(open(a, { openAlone: true }));
  const second = await sim.until(open(b));
  // It has the identity of the log, and nothing else yet.
  a.goOff('all');
  await sim.run(5_000);
  expect(second.status().term.epoch).toBe(0);
  const promoted = second.promote({ primaryStopped: true });
  await expect(sim.until(promoted, 20_000)).rejects.toThrow(/never met its primary/);
});
