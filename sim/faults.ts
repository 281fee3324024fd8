import type { SimulatedReferee, Simulation } from 'walmirror/testing';
import { Random } from 'walmirror/testing';
import type { Group } from './group.js';
import type { Member } from './member.js';
import type { Fault } from './plan.js';

const EIO = 5;

/** Makes the fault happen now, and its end later. */
export function strike(simulation: Simulation, group: Group, fault: Fault): void {
  const random = new Random(fault.seed);
  const member = (fault.onPrimary ? group.primary : undefined) ?? group.members[fault.node]!;
  const other =
    group.members.find((each, i) => each !== member && i === fault.other) ??
    group.members.find((each) => each !== member)!;
  const { network } = simulation;
  const { referee } = group;
  const { machine } = member;
  simulation.note(`fault ${fault.kind}`, fault.node);
  const later = (run: () => void): void => simulation.after(fault.ms, run);
  switch (fault.kind) {
    case 'kill':
      group.lose(member, 'nothing', fault.ms, random.chance(0.5));
      break;
    case 'power':
      group.lose(member, random.pick(['some', 'all']), fault.ms, random.chance(0.5));
      break;
    case 'power-all':
      for (const each of group.members) group.lose(each, 'some', random.integer(10, fault.ms + 10));
      break;
    case 'fail-over':
      if (group.primary === undefined) break;
      group.lose(group.primary, random.pick(['nothing', 'some', 'all']), fault.ms, true);
      break;
    case 'hand-over':
      group.operator.handOver(member === group.primary ? other : member);
      break;
    case 'switch-over':
      group.operator.switchOver(member, other, random);
      break;
    case 'step-down':
      group.operator.changes.stepDown(member);
      break;
    case 'off-in-a-change':
      if (machine.isOn) machine.goOffIn(random.integer(1, 12), random.chance(0.5));
      break;
    case 'pause':
      machine.pause();
      later(() => machine.resume());
      break;
    case 'one-way':
      network.block(member.name, other.name);
      later(() => network.unblock(member.name, other.name));
      break;
    case 'partition':
      network.block(member.name, other.name);
      network.block(other.name, member.name);
      later(() => {
        network.unblock(member.name, other.name);
        network.unblock(other.name, member.name);
      });
      break;
    case 'reset':
      network.reset(member.name, other.name);
      break;
    case 'hold':
      network.hold(member.name, other.name, fault.ms);
      break;
    case 'slow-disk':
      machine.diskTimes.flush = random.pick([20, 200, 1_500]);
      // Of two that overlap the later one began on a disk that was slow already.
      later(() => {
        machine.diskTimes.flush = group.plan.flushMs;
      });
      break;
    case 'write-fails':
    case 'flush-fails':
      if (!member.isRunning) break;
      group.spoiled(member);
      machine.disk.failIn(
        fault.kind === 'write-fails' ? 'write' : 'sync',
        random.integer(1, 8),
        EIO,
      );
      break;
    case 'full-disk':
      machine.disk.setFull(true);
      group.spoiled(member);
      later(() => machine.disk.setFull(false));
      break;
    case 'clock':
      machine.clockOffset += random.pick([-3_600_000, -1_000, 1_000, 3_600_000]);
      break;
    case 'wipe':
      group.wipe(member, fault.ms);
      break;
    default:
      if (referee !== undefined) strikeReferee(simulation, group, referee, fault, member);
  }
}

function strikeReferee(
  simulation: Simulation,
  group: Group,
  referee: SimulatedReferee,
  fault: Fault,
  member: Member,
): void {
  const { network } = simulation;
  const later = (run: () => void): void => simulation.after(fault.ms, run);
  switch (fault.kind) {
    case 'referee-away':
      referee.isAway = true;
      later(() => {
        referee.isAway = false;
      });
      break;
    case 'referee-slow':
      referee.slowMs = fault.seed % 400;
      later(() => {
        referee.slowMs = 0;
      });
      break;
    case 'referee-silent':
      referee.tells = false;
      later(() => {
        referee.tells = true;
      });
      break;
    case 'referee-unreached':
      network.block(member.name, referee.name);
      later(() => network.unblock(member.name, referee.name));
      break;
    case 'referee-unanswered':
      network.block(referee.name, member.name);
      later(() => network.unblock(referee.name, member.name));
      break;
    case 'referee-past':
      group.operator.restoreReferee(fault.ms);
      break;
  }
}
