export type { Rule } from '../native/native_log.js';
export { type DiskTimes, Machine } from './machine.js';
export type { NetworkOptions, SimulatedNetwork } from './network.js';
export { Random } from './random.js';
export type { Loss, NativeDisk } from './simulated_log.js';
export {
  type GroupHolder,
  SimulatedReferee,
  type SimulatedRefereeOptions,
} from './simulated_referee.js';
export { Simulation } from './simulation.js';
