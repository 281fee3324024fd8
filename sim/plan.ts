import type { OpenOptions } from 'walmirror';
import { Random } from 'walmirror/testing';
import { type StoryKind, storiesOf } from './stories.js';

/** One fault, by numbers that were drawn beforehand: what is left out changes nothing else. */
export interface Fault {
  readonly at: number;
  /** Whoever is the primary then, in place of `node`. */
  readonly onPrimary: boolean;
  readonly kind: (typeof faultKinds)[number];
  /** Indices of nodes. */
  readonly node: number;
  readonly other: number;
  /** How long it lasts, in milliseconds. */
  readonly ms: number;
  /** For what it draws itself. */
  readonly seed: number;
}

/** Of the way to the referee, and of itself. */
const refereeKinds = [
  'referee-away',
  'referee-slow',
  'referee-silent',
  'referee-unreached',
  'referee-unanswered',
  'referee-past',
] as const;

/** What befalls nodes, their disks and their network. */
export const nodeKinds = [
  'kill',
  'power',
  'power-all',
  'off-in-a-change',
  'pause',
  'one-way',
  'partition',
  'reset',
  'hold',
  'slow-disk',
  'write-fails',
  'flush-fails',
  'full-disk',
  'clock',
  'wipe',
  'fail-over',
  'hand-over',
] as const;

/** What an operator does with a primary that is well. */
const changeKinds = ['switch-over', 'step-down'] as const;

export const faultKinds = [...nodeKinds, ...refereeKinds, ...changeKinds] as const;

/** After which every node goes on with the log that it has. */
export const gentle: ReadonlySet<string> = new Set([
  'pause',
  'one-way',
  'partition',
  'reset',
  'hold',
  'slow-disk',
  'clock',
  'referee-slow',
  'referee-silent',
]);
/** What makes elections under load, with logs of many lengths. */
const electionKinds = [
  'kill',
  'power',
  'pause',
  'partition',
  'one-way',
  'hold',
  'fail-over',
  'hand-over',
  'slow-disk',
  'off-in-a-change',
] as const;
/** Milliseconds of simulated time with faults. */
const lengths: Readonly<Record<Plan['profile'], readonly number[]>> = {
  any: [5_000, 20_000, 60_000, 300_000],
  elections: [20_000, 60_000],
  quick: [6_000, 10_000],
  stories: [6_000, 10_000],
};
/** Clients are busy from so long before a fault to so long after it. */
const busyBeforeMs = 500;
const busyAfterMs = 1_500;

type Level = NonNullable<OpenOptions['synchronousCommit']>;

export interface Plan {
  readonly seed: number;
  /**
   * `elections`: one loss of a primary after the other, with standbys that are behind; `quick`: the
   * same in a few seconds, for who looks for something in particular; `stories`: nothing else.
   */
  readonly profile: 'any' | 'elections' | 'quick' | 'stories';
  readonly nodes: number;
  /** A referee decides who leads; else the operator promotes. */
  readonly referee: boolean;
  readonly ttlMs: number;
  readonly rejoin: 'ask' | 'auto';
  /** The last node follows the second one, whatever that is. */
  readonly cascade: boolean;
  readonly level: Level;
  /** k of `ANY k (*)`; 0: nobody is named. */
  readonly quorum: number;
  readonly grammar: 'ANY' | 'FIRST';
  readonly whenMissing: 'block' | 'fail' | 'degrade';
  readonly syncTimeout: number;
  /** How many records of what is applied stay in a log; 0: all, for standbys that begin anew. */
  readonly keepRecords: number;
  /** That is done by the logs themselves, and each node has a slot. */
  readonly slots: boolean;
  /** How often a commit names a level of its own, from 0 to 1. */
  readonly ownLevels: number;
  readonly clients: number;
  /** Mean time between the appends of one client, in milliseconds. */
  readonly thinkMs: number;
  readonly maxRecordBytes: number;
  readonly ringBytes: number;
  readonly segmentBytes: number;
  readonly padded: boolean;
  readonly sharedMemory: boolean;
  readonly latency: number;
  readonly jitter: number;
  readonly window: number;
  readonly split: number;
  readonly flushMs: number;
  readonly slowApplier: boolean;
  /** How long the safety phase takes, in milliseconds. */
  readonly safetyMs: number;
  /** How many stories are at the end of `faults`. */
  readonly stories: number;
  readonly faults: readonly Fault[];
}

/** What may be said of a plan before it is drawn, to look for something in particular. */
export interface Wanted extends Partial<Omit<Plan, 'seed' | 'faults'>> {
  /** All stories are this one. */
  readonly story?: StoryKind;
}

/** All that a run is made of follows from its seed, and from what is wanted. */
export function planOf(seed: number, { story, ...wanted }: Wanted = {}): Plan {
  const random = new Random(seed);
  const drawn = {
    profile: random.chance(0.4) ? 'elections' : 'any',
    nodes: random.pick([2, 2, 3, 3, 3, 4, 5]),
    referee: random.chance(0.55),
  } as const;
  const { profile, nodes, referee } = { ...drawn, ...wanted };
  const isSync = random.chance(0.8) || wanted.level !== undefined;
  const cascade = nodes > 2 && random.chance(0.12);
  const quorum = isSync ? random.integer(1, nodes - 1 - Number(cascade)) : 0;
  const safetyMs = random.pick(lengths[profile]);
  const faults = faultsOf(random.fork(), { profile, nodes, referee, safetyMs });
  const isGentle = faults.every(({ kind }) => gentle.has(kind));
  const clients = random.integer(1, 4);
  const plan: Omit<Plan, 'stories' | 'faults' | 'slots'> = {
    seed,
    profile,
    nodes,
    referee,
    ttlMs: random.pick([2_000, 5_000]),
    rejoin: random.pick(['ask', 'auto']),
    cascade,
    quorum,
    level: isSync
      ? random.pick(['remote_flush', 'remote_flush', 'remote_apply', 'remote_write'])
      : random.pick(['local', 'off']),
    grammar: random.chance(0.75) ? 'ANY' : 'FIRST',
    whenMissing: isSync ? random.pick(['block', 'block', 'fail', 'degrade']) : 'block',
    syncTimeout: random.integer(200, 3_000),
    keepRecords: isGentle ? random.pick([0, 20, 100]) : 0,
    ownLevels: random.pick([0, 0.5]),
    clients,
    thinkMs: random.pick([50, 200, 1_000]),
    maxRecordBytes: random.pick([256, 2048, 8192]),
    ringBytes: random.pick([64, 64, 128]) * 1024,
    segmentBytes: random.pick([64, 64, 128]) * 1024,
    padded: random.chance(0.2),
    sharedMemory: random.chance(0.9),
    latency: random.pick([0.05, 0.5, 5, 40]),
    jitter: random.pick([0.05, 1, 10]),
    window: random.pick([2, 16, 256]) * 1024,
    split: random.pick([0, 0.1, 0.6]),
    flushMs: random.pick([0.05, 0.2, 2, 15]),
    slowApplier: random.chance(0.3),
    safetyMs,
    ...wanted,
  };
  // Drawn after all else, so that what a seed meant before there were any is a part of it.
  const last = random.fork();
  const stories = wanted.stories ?? (last.chance(0.35) ? last.integer(1, 4) : 0);
  const told = storiesOf(last, { ...plan, stories }, story);
  // By a draw of its own, by which no seed of regress.txt means anything else than it did.
  const hasSlots = new Random(seed ^ 0xc).chance(0.5);
  const slots = wanted.slots ?? (plan.keepRecords > 0 && !plan.cascade && hasSlots);
  return { ...plan, stories, slots, faults: [...faults, ...told] };
}

type Shape = Pick<Plan, 'profile' | 'nodes' | 'referee' | 'safetyMs'>;

function faultsOf(random: Random, { profile, nodes, referee, safetyMs }: Shape): Fault[] {
  if (profile === 'stories') return [];
  const isElections = profile !== 'any';
  const ofNodes: readonly Fault['kind'][] = isElections ? electionKinds : nodeKinds;
  const all = referee ? [...ofNodes, ...refereeKinds] : ofNodes;
  // A few kinds a run, so that each also meets itself.
  const some = random.chance(0.2) ? all.filter((kind) => gentle.has(kind)) : all;
  const kinds = some.filter((kind) => random.chance(kind === 'referee-past' ? 0.1 : 0.45));
  if (kinds.length === 0) kinds.push(all[0]!);
  const count = isElections ? random.integer(4, 14) : random.integer(1, 14);
  const lasting = isElections ? [300, 2_000, 6_000] : [10, 300, 3_000, 8_000, 30_000];
  const faults = Array.from({ length: count }, (): Fault => {
    const node = random.integer(0, nodes - 1);
    return {
      at: Math.round(random.between(200, safetyMs)),
      kind: random.pick(kinds),
      onPrimary: random.chance(isElections ? 0.6 : 0.2),
      node,
      other: (node + random.integer(1, nodes - 1)) % nodes,
      ms: Math.round(random.pick(lasting) * random.between(0.5, 1.5)),
      seed: random.next(),
    };
  });
  return faults.sort((a, b) => a.at - b.at);
}

/** Whether what anybody was shown stays for ever: a quorum has it on its disks. */
export function isStable({ level, quorum, whenMissing }: Plan): boolean {
  return isSafe(level) && quorum > 0 && whenMissing !== 'degrade';
}

/** Whether what is acknowledged so outlives the loss of the primary. */
export function isSafe(level: string): boolean {
  return level === 'remote_flush' || level === 'remote_apply';
}

/** Milliseconds until clients are busy; 0: they are. */
export function restAt(now: number, { faults, safetyMs }: Plan): number {
  if (now >= safetyMs) return 0;
  let next = safetyMs;
  for (const { at } of faults) {
    if (now >= at - busyBeforeMs && now < at + busyAfterMs) return 0;
    if (at - busyBeforeMs > now) next = Math.min(next, at - busyBeforeMs);
  }
  return next - now;
}

/** In one line, for who reads what a seed means. */
export function describePlan(plan: Plan): string {
  const { faults, ...options } = plan;
  const told = Object.entries(options).map(([key, value]) => `${key}=${value}`);
  return `${told.join(' ')} faults=${faults.length}`;
}

export function describeFault({ at, kind, onPrimary, node, other, ms }: Fault): string {
  const isOfTwo = ['one-way', 'partition', 'reset', 'hold', 'switch-over'].includes(kind);
  return `${at} ms: ${kind} ${onPrimary ? 'primary, or ' : ''}${name(node)}${isOfTwo ? ` and ${name(other)}` : ''}, ${ms} ms`;
}

export function name(node: number): string {
  return String.fromCharCode(97 + node);
}
