import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Group } from '../api/group_nodes.js';
import { openLog } from '../api/helpers.js';
import { freshDir } from '../helpers/temp.js';

/** Switchovers that are killed at a random time; WALMIRROR_SWITCHOVERS for the long run. */
const RANDOM = Number(process.env.WALMIRROR_SWITCHOVERS ?? 8);
/** The same with a referee, after each of which a lease may have to end. */
const REFEREED = Math.ceil(RANDOM / 4);
const waitMs = 30_000;
/** A call is given up, and a lease ends, where a machine is slow; but not at once. */
const timing = { ttlMs: 3000, marginMs: 200, renewEveryMs: 500, callTimeoutMs: 1000 };
type Name = 'a' | 'b';
const otherOf = (name: Name): Name => (name === 'a' ? 'b' : 'a');

/** What was acknowledged, by whom. */
class History {
  readonly acknowledged = new Map<number, string>();
  readonly errors: string[] = [];

  told(lsn: number, text: string): void {
    const before = this.acknowledged.get(lsn);
    if (before !== undefined) this.errors.push(`LSN ${lsn}: ${before}, and then ${text}`);
    this.acknowledged.set(lsn, text);
  }

  compare(records: readonly string[]): string[] {
    const found = [...this.errors];
    for (const [lsn, text] of this.acknowledged) {
      const there = records[lsn - 1];
      if (there !== text) found.push(`LSN ${lsn} was ${text} and is ${there}`);
    }
    if (new Set(records).size !== records.length) found.push('a record is there twice');
    return found;
  }
}

class Node {
  role = '';
  epoch = 0;
  /** How its last call ended, and at which step it stopped. */
  done = '';
  stopped = '';
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;

  constructor(options: object, history: History) {
    const program = 'test/helpers/switchover_node.mjs';
    this.#child = spawn(process.execPath, [program, JSON.stringify(options)], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#child.stdin!.on('error', () => undefined);
    this.#ended = new Promise((resolve) => this.#child.once('exit', () => resolve()));
    createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      const [what, first = '', second = ''] = line.split(' ');
      if (what === 'ack') history.told(Number(first), second);
      else if (what === 'error') history.errors.push(line);
      else if (what === 'done') this.done = line.slice(5);
      else if (what === 'stopped') this.stopped = first;
      else if (what === 'role') {
        this.role = first;
        this.epoch = Number(second);
      }
    });
    createInterface({ input: this.#child.stderr! }).on('line', (line) => history.errors.push(line));
  }

  say(line: string): void {
    this.done = '';
    this.#child.stdin!.write(`${line}\n`);
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
  }
}

/** Steps of the old primary; the others are its successor's. */
const ofOld = /role$|release$/;

class Pair {
  readonly history = new History();
  readonly nodes = {} as Record<Name, Node>;
  readonly group: Group;
  readonly #referee: string | undefined;

  private constructor(group: Group, referee: string | undefined) {
    this.group = group;
    this.#referee = referee;
  }

  /** `refereed`: a referee decides who leads; else an operator does. */
  static async start({ refereed = false } = {}): Promise<Pair> {
    const pair = new Pair(await Group.make(2), refereed ? freshDir('referee') : undefined);
    pair.open('a', { openAlone: true });
    await pair.#eventually(() => pair.nodes.a.role === 'primary', 'a opens');
    pair.open('b');
    await pair.acknowledges();
    return pair;
  }

  open(name: Name, more: object = {}): void {
    const directory = this.#referee;
    const refereeFile = directory && { directory, timing, memory: join(directory, `of-${name}`) };
    const options = { clients: 4, synchronousStandbys: 'ANY 1 (*)', rejoin: 'ask', refereeFile };
    this.nodes[name] = new Node({ ...this.group.of(name), ...options, ...more }, this.history);
  }

  get primary(): Name | undefined {
    const found = (['a', 'b'] as const).filter((name) => this.nodes[name].role === 'primary');
    // With a referee, one whose lease is over acknowledges nothing, and may not have heard yet.
    if (this.#referee === undefined) expect(found.length, 'primaries').toBeLessThanOrEqual(1);
    return found.sort((x, y) => this.nodes[y].epoch - this.nodes[x].epoch)[0];
  }

  async #eventually(met: () => boolean, what: string): Promise<void> {
    const poll = { timeout: waitMs, interval: 10 };
    await expect
      .poll(met, { ...poll, message: what })
      .toBe(true)
      .catch((error: unknown) => {
        const { errors } = this.history;
        if (errors.length === 0) throw error;
        throw new Error(`${what}: ${errors.join('\n')}`, { cause: error });
      });
  }

  async acknowledges(): Promise<void> {
    const before = this.history.acknowledged.size;
    await this.#eventually(() => this.history.acknowledged.size >= before + 12, 'commits go on');
  }

  /** Kills one in the middle, brings it back, and lets an operator promote where nobody leads. */
  async round(victim: 'old' | 'target', stopAt: string, delayMs: number): Promise<string> {
    const old = this.primary!;
    const target = otherOf(old);
    const killed = victim === 'old' ? old : target;
    const stops = ofOld.test(stopAt) ? old : target;
    if (stopAt !== '') this.nodes[stops].say(`stop ${stopAt}`);
    // It is a synchronous standby once commits go on.
    this.nodes[old].say(`switchover ${target}`);
    if (stopAt === '') await sleep(delayMs);
    else await this.#eventually(() => this.nodes[stops].stopped === stopAt, `it is at ${stopAt}`);
    await this.nodes[killed].kill();
    // The other may be held at a step of its own: it goes on as if nothing had been.
    const isHeld = stopAt !== '' && stops !== killed;
    if (isHeld) await this.nodes[stops].kill();
    this.open(killed);
    if (isHeld) this.open(stops);
    await this.#eventually(() => this.nodes[killed].role !== '', 'it is back');
    await this.#eventually(() => this.nodes[otherOf(killed)].role !== '', 'both are there');
    const patience = this.#referee === undefined ? 1500 : waitMs;
    const end = performance.now() + patience;
    while (this.primary === undefined && performance.now() < end) await sleep(10);
    const outcome = this.primary === undefined ? 'nobody' : this.primary === old ? 'old' : 'target';
    if (this.#referee !== undefined) expect(outcome).not.toBe('nobody');
    else if (this.primary === undefined) {
      // Either has all that was acknowledged, and says so without force.
      const chosen = Math.random() < 0.5 ? old : target;
      await this.promote(this.nodes[chosen]);
    }
    await this.acknowledges();
    return `${victim} at ${stopAt || `${delayMs} ms`}: ${outcome}`;
  }

  /** An old primary may look for its successor yet, and a successor be about to open. */
  async promote(node: Node): Promise<void> {
    for (let attempt = 0; attempt < 50; attempt += 1) {
      node.say('promote');
      await this.#eventually(() => node.done !== '', 'a promotion ends');
      if (!node.done.includes('under way already') && !node.done.startsWith('WAL_DEMOTED')) break;
      await sleep(200);
    }
    if (!node.done.includes('this log is primary')) expect(node.done).toBe('promoted');
  }

  /** The one that nobody disturbs. */
  async switched(old: Name): Promise<void> {
    await this.#eventually(() => this.nodes[old].done === 'switched', 'it is over');
  }

  async end(): Promise<string[]> {
    const last = this.primary!;
    await Promise.all([this.nodes.a.kill(), this.nodes.b.kill()]);
    const log = await openLog({ dir: this.group.dirs[last], name: last });
    const records: string[] = [];
    for await (const batch of log.read({ live: false, upTo: 'flush' })) {
      for (const { data } of batch) records.push(data.toString());
    }
    await log.close();
    return records;
  }
}

describe('a switchover between two processes', () => {
  const steps = ['before-role', 'after-role', 'before-opening', 'after-opening'] as const;

  it(
    'loses nothing, and has one primary at most, whoever is killed at whatever step',
    async () => {
      const pair = await Pair.start();
      const told: string[] = [];
      try {
        for (const step of steps) {
          for (const victim of ['old', 'target'] as const)
            told.push(await pair.round(victim, step, 0));
        }
        for (let i = 0; i < RANDOM; i += 1) {
          const victim = i % 2 === 0 ? 'old' : 'target';
          told.push(await pair.round(victim, '', Math.floor(Math.random() * 60)));
        }
        const old = pair.primary!;
        pair.nodes[old].say(`switchover ${otherOf(old)}`);
        await pair.switched(old);
        await pair.acknowledges();
        const records = await pair.end();
        expect(pair.history.compare(records)).toEqual([]);
      } finally {
        await Promise.all([pair.nodes.a.kill(), pair.nodes.b.kill()]);
      }
      process.stdout.write(`${pair.history.acknowledged.size} acknowledged; ${told.join('; ')}\n`);
    },
    120_000 + RANDOM * 20_000,
  );

  const refereedSteps = [
    ...['before-role', 'after-role', 'before-release', 'after-release'],
    ...['before-claim', 'after-claim', 'before-opening', 'after-opening'],
    ...['before-rule', 'after-rule'],
  ];

  it(
    'with a referee: somebody leads again by itself, and nothing is lost',
    async () => {
      const pair = await Pair.start({ refereed: true });
      const told: string[] = [];
      try {
        for (const step of refereedSteps) {
          told.push(await pair.round(ofOld.test(step) ? 'old' : 'target', step, 0));
        }
        for (let i = 0; i < REFEREED; i += 1) {
          const victim = i % 2 === 0 ? 'old' : 'target';
          told.push(await pair.round(victim, '', Math.floor(Math.random() * 60)));
        }
        const records = await pair.end();
        expect(pair.history.compare(records)).toEqual([]);
      } finally {
        await Promise.all([pair.nodes.a.kill(), pair.nodes.b.kill()]);
      }
      process.stdout.write(`${pair.history.acknowledged.size} acknowledged; ${told.join('; ')}\n`);
    },
    120_000 + (refereedSteps.length + REFEREED) * 20_000,
  );
});
