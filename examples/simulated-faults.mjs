/**
 * An application's own test: a counter on a primary and a standby, in a simulation that loses
 * connections and the primary's power. What was acknowledged is on the standby, by every seed.
 * `node examples/simulated-faults.mjs [SEEDS]`
 */
import assert from 'node:assert';
import { Simulation } from 'walmirror/testing';

const port = 7401;

async function count(machine, log, known) {
  for (let n = 1; ; n++) {
    try {
      await log.appendAndCommit(`${n}`);
      known.acknowledged = n;
      await machine.sleep(2);
    } catch {
      return; // its machine has gone off, or the log has been closed
    }
  }
}

async function run(seed) {
  const sim = new Simulation({ seed });
  const [a, b] = [sim.machine('a'), sim.machine('b')];
  const primary = await sim.until(
    a.open({
      dir: '/log',
      name: 'a',
      segmentBytes: 65536,
      ringBytes: 65536,
      maxRecordBytes: 1024,
      synchronousStandbys: 'ANY 1 (b)',
      listen: { host: 'a', port, plaintext: true },
    }),
  );
  const follow = { host: 'a', port, plaintext: true };
  const standby = await sim.until(b.open({ dir: '/log', name: 'b', ringBytes: 65536, follow }));
  const known = { acknowledged: 0 };
  count(a, primary, known);

  for (let i = 0; i < 5; i++) {
    await sim.run(sim.random.fraction() * 500);
    if (sim.random.fraction() < 0.5) sim.network.reset('a', 'b');
    else b.pause();
    await sim.run(sim.random.fraction() * 2000);
    b.resume();
  }
  await sim.run(2000);
  a.goOff('all');

  await sim.until(standby.promote({ primaryStopped: true }));
  let counted = 0;
  const reading = (async () => {
    for await (const batch of standby.read({ live: false })) {
      for (const record of batch) {
        counted++;
        assert.equal(record.data.toString(), `${counted}`);
      }
    }
  })();
  await sim.until(reading);
  assert(known.acknowledged > 0);
  assert(counted >= known.acknowledged, `${counted} of ${known.acknowledged} acknowledged`);
  await sim.until(standby.close());
  return { seconds: sim.now / 1000, acknowledged: known.acknowledged };
}

const seeds = Number(process.argv[2] ?? 20);
let seconds = 0;
let acknowledged = 0;
for (let seed = 1; seed <= seeds; seed++) {
  const outcome = await run(seed);
  seconds += outcome.seconds;
  acknowledged += outcome.acknowledged;
}
assert(acknowledged > 0);
console.log(`${seeds} seeds, ${Math.round(seconds)} simulated seconds: nothing acknowledged lost`);
