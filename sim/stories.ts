import type { Random } from 'walmirror/testing';
import { type Fault, gentle, type Plan } from './plan.js';

/**
 * Faults that belong together, one shortly after the other: what comes of them hardly ever comes
 * of faults that are drawn one by one. `switch-over`, `step-down`: a planned change of roles, and
 * what befalls it. `cut-off`: an operator replaces a primary that runs, and that the next one
 * cannot reach. `rivals`: two operators do, at once. `lapse`: a primary hears late, or nothing, of
 * its lease. `alone`: a primary goes on without its standbys, and is lost then, or as they are back.
 */
export const storyKinds = [
  'switch-over',
  'step-down',
  'cut-off',
  'rivals',
  'lapse',
  'alone',
] as const;
export type StoryKind = (typeof storyKinds)[number];

/** What befalls a change of roles while it is under way. */
const changeFaults = [
  'kill',
  'power',
  'power-all',
  'power-all',
  'off-in-a-change',
  'pause',
  'pause',
  'partition',
  'one-way',
  'hold',
  'reset',
  'slow-disk',
  'slow-disk',
] as const;
const changeRefereeFaults = [
  'referee-away',
  'referee-slow',
  'referee-unreached',
  'referee-unanswered',
] as const;

type Shape = Omit<Plan, 'faults' | 'slots'>;
/** One of them, with what is the same in most. */
type Draw = (at: number, kind: Fault['kind'], some?: Partial<Fault>) => Fault;

/** All the stories of a plan, one after the other. `only`: each is this one. */
export function storiesOf(random: Random, plan: Shape, only?: StoryKind): Fault[] {
  const { nodes, safetyMs, stories } = plan;
  return Array.from({ length: stories }, () => {
    const at = Math.round(random.between(1_000, safetyMs));
    const node = random.integer(0, nodes - 1);
    const other = (node + random.integer(1, nodes - 1)) % nodes;
    const draw: Draw = (at, kind, some = {}) => ({
      ...{ at: Math.round(at), kind, onPrimary: false, node, other, ms: 0, seed: random.next() },
      ...some,
    });
    const kind = only ?? (random.chance(0.5) ? 'switch-over' : random.pick(kindsOf(plan)));
    return tellers[kind](random, plan, at, draw, kind);
  })
    .flat()
    .filter(({ at }) => at < safetyMs);
}

function kindsOf({ referee, whenMissing }: Shape): readonly StoryKind[] {
  if (!referee) return ['step-down', 'cut-off', 'rivals'];
  return whenMissing === 'degrade' ? ['lapse', 'alone'] : ['lapse'];
}

/** Some twenty messages and flushes, one after the other: so long takes a change of roles. */
function changeMs({ latency, jitter, flushMs }: Shape): number {
  return 20 * (latency + jitter / 2 + flushMs) + 2;
}

type Teller = (random: Random, plan: Shape, at: number, draw: Draw, kind: StoryKind) => Fault[];

const tellers: Readonly<Record<StoryKind, Teller>> = {
  'switch-over': changed,
  'step-down': changed,
  'cut-off': cutOff,
  rivals: cutOff,
  lapse: lapses,
  alone: goesAlone,
};

function changed(random: Random, plan: Shape, at: number, draw: Draw, change: StoryKind): Fault[] {
  const { referee, keepRecords } = plan;
  const all = referee ? [...changeFaults, ...changeRefereeFaults] : changeFaults;
  // Where logs are trimmed, every node goes on with what it has.
  const kinds: readonly Fault['kind'][] =
    keepRecords > 0 ? all.filter((kind) => gentle.has(kind)) : all;
  const isStepDown = change === 'step-down';
  const faults = [draw(at, isStepDown ? 'step-down' : 'switch-over', { onPrimary: true })];
  if (random.chance(0.3)) return faults;
  const ms = Math.round(random.pick([50, 500, 4_000, 12_000]) * random.between(0.5, 1.5));
  const fault = { onPrimary: random.chance(0.5), ms };
  const faultAt = at + random.between(-0.3, 1) * changeMs(plan);
  return [...faults, draw(Math.max(0, faultAt), random.pick(kinds), fault)];
}

/**
 * `node` is promoted, which lacks what the primary has committed since; and `other`, which may have
 * that, is lost for a while before or after it was asked.
 */
function cutOff(random: Random, plan: Shape, at: number, draw: Draw, kind: StoryKind): Fault[] {
  const behindMs = random.pick([0, 300, 1_000]) * random.between(0.5, 1.5);
  const cutMs = Math.round(behindMs + random.between(1_000, 4_000));
  const promotedAt = at + behindMs;
  const { node, other } = draw(at, 'partition');
  const faults = [
    draw(at, 'partition', { onPrimary: true, other: node, ms: cutMs }),
    draw(promotedAt, 'hand-over'),
  ];
  if (kind === 'rivals') {
    const soon = random.between(0, 0.2) * changeMs(plan);
    faults.push(draw(promotedAt + soon, 'hand-over', { node: other, other: node }));
    if (random.chance(0.5)) faults.push(draw(promotedAt, 'partition', { ms: cutMs }));
  }
  if (plan.keepRecords > 0 || random.chance(0.2)) return faults;
  const lostAt = promotedAt + random.between(-0.3, 1) * changeMs(plan);
  const ms = Math.round(random.pick([20, 300, 2_000]) * random.between(0.5, 1.5));
  const loss = random.pick(['kill', 'power', 'pause'] as const);
  faults.push(draw(Math.max(0, lostAt), loss, { node: other, other: node, ms }));
  if (random.chance(0.6)) return faults;
  // Who was promoted goes too, right after it began.
  const goneAt = promotedAt + random.between(0.5, 2) * changeMs(plan);
  return [...faults, draw(goneAt, 'kill', { ms: Math.round(random.between(500, 3_000)) })];
}

/** The referee answers late, the primary stands still meanwhile, and hears no more of it. */
function lapses(random: Random, { ttlMs }: Shape, at: number, draw: Draw): Fault[] {
  const pausedAt = at + random.between(300, 800);
  const pausedMs = Math.round(ttlMs * random.pick([0, 0.1, 0.4, 0.4, 0.4, 1.2]));
  const unreachedAt = pausedAt + pausedMs / 2;
  const seed = random.integer(0, Math.floor(ttlMs / 10));
  return [
    draw(at, 'referee-slow', { ms: 3 * ttlMs, seed }),
    draw(pausedAt, 'pause', { onPrimary: true, ms: pausedMs }),
    draw(unreachedAt, 'referee-unreached', { onPrimary: true, ms: 2 * ttlMs }),
    // For clients to be busy when the lease ends.
    draw(pausedAt + 0.7 * ttlMs, 'reset'),
  ];
}

/**
 * All are cut off from the primary until it goes on alone, which the referee may hear late, and for
 * a while more.
 */
function goesAlone(random: Random, plan: Shape, at: number, draw: Draw): Fault[] {
  const { nodes, syncTimeout } = plan;
  const aloneMs = random.pick([0, 100, 1_500]) * random.between(0.5, 1.5);
  const ms = Math.round(syncTimeout + aloneMs);
  const faults = Array.from({ length: nodes }, (_, other) =>
    draw(at, 'partition', { onPrimary: true, other, ms }),
  );
  const slowMs = random.pick([0, 300]);
  faults.push(draw(at, 'referee-slow', { ms, seed: slowMs }));
  const isBack = random.chance(0.6);
  const lostAt = isBack
    ? at + ms + random.pick([10, 100, 600]) * random.between(0.5, 1.5)
    : at + syncTimeout + random.between(0, 1) * (aloneMs + slowMs);
  const loss = random.pick(['kill', 'power', 'pause'] as const);
  const lostMs = Math.round(random.pick([300, 4_000, 12_000]) * random.between(0.5, 1.5));
  return [...faults, draw(lostAt, loss, { onPrimary: true, ms: lostMs })];
}
