import { Simulation } from 'walmirror/testing';
import { strike } from './faults.js';
import { Group } from './group.js';
import { dir, payloadOf } from './member.js';
import { demand, Violation } from './oracle.js';
import { type Fault, type Plan, planOf } from './plan.js';

export interface Outcome {
  readonly seed: number;
  /** undefined: nothing was wrong. */
  readonly failure: Error | undefined;
  readonly hash: string;
  /** Simulated milliseconds. */
  readonly milliseconds: number;
  readonly events: number;
  readonly appends: number;
  readonly acknowledged: number;
  readonly promotions: number;
  /** Switchovers that came about. */
  readonly changes: number;
  readonly restarts: number;
  readonly checks: number;
}

/** For all to be well again once the last fault is over. */
const livenessMs = 180_000;
/** How long one record is waited for before another is tried. */
const againMs = 60_000;
const mostEvents = 2_000_000;

/** Runs one seed, with all its faults or with these of them. */
export async function runSeed(seed: number, only?: readonly Fault[]): Promise<Outcome> {
  const whole = planOf(seed);
  return runPlan(only === undefined ? whole : { ...whole, faults: only });
}

export async function runPlan(plan: Plan): Promise<Outcome> {
  const simulation = new Simulation({ seed: plan.seed });
  const { latency, jitter, window, split } = plan;
  Object.assign(simulation.network.options, { latency, jitter, window, split });
  const group = new Group(simulation, plan);
  const strays = (error: unknown): void => group.fail(error);
  process.on('unhandledRejection', strays);
  process.on('uncaughtException', strays);
  simulation.onEvent = () => {
    if (simulation.steps > mostEvents) group.fail(new Error('it does not come to an end'));
    if (group.failure !== undefined) throw group.failure;
  };
  let failure: Error | undefined;
  try {
    await live(simulation, group, plan);
  } catch (error) {
    failure = error instanceof Error ? error : new Error(String(error));
  }
  simulation.onEvent = undefined;
  for (const { machine } of group.members) machine.goOff('all');
  process.off('unhandledRejection', strays);
  process.off('uncaughtException', strays);
  const { oracle, counts } = group;
  return {
    seed: plan.seed,
    failure,
    hash: simulation.hash,
    milliseconds: Math.round(simulation.now),
    events: simulation.steps,
    appends: oracle.appends,
    acknowledged: oracle.acknowledged,
    promotions: counts.promotions,
    changes: counts.changes,
    restarts: counts.restarts,
    checks: counts.checks,
  };
}

async function live(simulation: Simulation, group: Group, plan: Plan): Promise<void> {
  group.start();
  for (const fault of plan.faults) {
    simulation.after(fault.at, () => {
      try {
        strike(simulation, group, fault);
      } catch (error) {
        group.fail(error);
      }
    });
  }
  await simulation.run(plan.safetyMs);
  heal(simulation, group, plan);
  await recover(simulation, group);
  await compare(simulation, group);
}

/** No fault is left, and none comes any more. */
function heal(simulation: Simulation, group: Group, plan: Plan): void {
  simulation.note('heal', 0);
  simulation.network.heal();
  for (const { machine } of group.members) {
    machine.diskTimes.flush = plan.flushMs;
    machine.disk.setFull(false);
    machine.disk.dieIn(0, false);
    machine.disk.failIn('write', 0);
    machine.disk.failIn('sync', 0);
    machine.resume();
  }
  const { referee } = group;
  if (referee === undefined) return;
  referee.isAway = false;
  referee.slowMs = 0;
  referee.tells = true;
}

/** Within a time, and without help but the operator's, a record is committed and on every node. */
async function recover(simulation: Simulation, group: Group): Promise<void> {
  const end = simulation.now + livenessMs;
  for (;;) {
    demand(simulation.now < end, () => `it does not recover: ${group.describe()}`);
    await simulation.run(100);
    if (!group.isSettled) continue;
    for (const member of group.members) member.stopClients();
    const { primary } = group;
    if (primary === undefined) continue;
    const left = Math.max(1, end - simulation.now);
    const lsn = await simulation
      .until(
        primary.appendOne().catch(() => undefined),
        left,
      )
      .catch((error: unknown) => {
        throw new Violation(`${(error as Error).message}; ${group.describe()}`);
      });
    if (lsn === undefined) continue;
    const hasAll = (): boolean =>
      group.isSettled &&
      group.members.every((member) => {
        const status = member.log?.status();
        if (status === undefined || status.flushLsn < lsn || status.commitLsn < lsn) return false;
        // An old primary that has not heard of this one yet has other records at these LSNs.
        return (
          member === primary || (status.role === 'standby' && status.term.epoch === primary.epoch)
        );
      });
    // Where commits wait for nobody, it is gone with a primary that was replaced meanwhile.
    const until = Math.min(end, simulation.now + againMs);
    while (!hasAll() && simulation.now < until) await simulation.run(100);
    if (hasAll()) return;
  }
}

/** All logs are the same, and hold what was acknowledged. */
async function compare(simulation: Simulation, group: Group): Promise<void> {
  const { primary, members, oracle } = group;
  const log = primary?.log;
  demand(primary !== undefined && log !== undefined, () => 'the primary has gone');
  const records = new Map<number, string>();
  const reading = (async () => {
    for await (const batch of log.read({ from: log.status().firstLsn, live: false })) {
      for (const record of batch) records.set(record.lsn, payloadOf(record.data));
    }
  })();
  await simulation.until(reading, livenessMs);
  oracle.found(primary.name, records);
  const last = Math.max(...records.keys(), 0);
  if (last === 0) return;
  const sums = members.map(({ machine }) => machine.disk.durable(dir, last));
  demand(
    sums.every((sum) => sum !== undefined && sum === sums[0]),
    () => `the logs differ up to LSN ${last}: ${sums.join(', ')}`,
  );
}
