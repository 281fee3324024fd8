import { expect, it } from 'vitest';
import { Simulation } from '../../src/testing/index.js';
import { isCollected } from '../helpers/collected.js';

/** A primary with a referee, its standby, and an applier on each, all of them gone in the end. */
async function runOne(seed: number): Promise<WeakRef<object>> {
  const sim = new Simulation({ seed });
  const referee = sim.referee();
  const machines = [sim.machine('a'), sim.machine('b')];
  const members = machines.map(({ name }) => ({
    host: name,
    port: 7401,
    plaintext: true as const,
  }));
  const opening = machines.map((machine, i) =>
    machine.open({
      dir: '/log',
      name: machine.name,
      segmentBytes: 65536,
      ringBytes: 65536,
      maxRecordBytes: 1024,
      synchronousStandbys: 'ANY 1 (*)',
      referee: referee.of(machine),
      listen: members[i]!,
      members,
      ...(i === 0 ? { openAlone: true } : {}),
    }),
  );
  const [log] = await sim.until(Promise.all(opening), 60_000);
  log?.apply({ from: 1 }, async () => undefined);
  await sim.until(log!.appendAndCommit('one'), 60_000);
  await sim.run(10_000);
  for (const machine of machines) machine.goOff('all');
  return new WeakRef(sim);
}

// So that as many seeds as one likes run in one process.
it('nothing stays of a simulation whose machines have gone off', async () => {
  expect(await isCollected(await runOne(1))).toBe(true);
});
