/** One run: load, kill the standby, catch up, kill the primary, promote, go on. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent } from '../bench/harness/agent.js';
import { freePorts } from '../bench/harness/ports.js';
import { Catalogue } from './catalogue.js';
import { type Acknowledgement, compare, parseAcknowledgements } from './compare.js';
import { type KeptControl, loseTail, readControl } from './lying_disk.js';
import type { Mode } from './options.js';
import type { Outcome } from './outcome.js';
import { loadPlaces, type Place, rowOf } from './places.js';
import type { ClientProgram, RunResult } from './programs/client.js';
import type { GroupPlan, NodeProgram } from './programs/node.js';
import { seeded } from './random.js';
import { count, millis, Story } from './report.js';

const nodeProgram = new URL('./programs/node.js', import.meta.url);
const clientProgram = new URL('./programs/client.js', import.meta.url);

/** What the client adds with the promoted standby. */
const GO_ON_RECORDS = 20_000;
/** How long the standby stays away in sync mode, where nothing is acknowledged meanwhile. */
const AWAY_MS = 500;
const LOST_TAIL_SHARE = 0.02;

export interface ScenarioOptions {
  readonly mode: Mode;
  readonly seed: number;
  readonly rows: number;
  /** An empty directory on a real disk. */
  readonly directory: string;
}

type NodeAgent = Agent<NodeProgram>;
type ClientAgent = Agent<ClientProgram>;

export async function runScenario(options: ScenarioOptions): Promise<Outcome> {
  const scenario = new Scenario(options);
  try {
    return await scenario.run();
  } finally {
    await scenario.stop();
  }
}

class Scenario {
  readonly #options: ScenarioOptions;
  readonly #story: Story;
  readonly #random: () => number;
  readonly #agents = new Set<NodeAgent | ClientAgent>();
  #primaryPort = 0;
  #ports: readonly number[] | undefined;
  #places: ReadonlyMap<number, Place> | undefined;

  constructor(options: ScenarioOptions) {
    this.#options = options;
    this.#story = new Story(options.mode);
    this.#random = seeded(options.seed);
  }

  async run(): Promise<Outcome> {
    const { rows, directory } = this.#options;
    const file = path.join(directory, 'acknowledged.tsv');
    const client = this.#track(Agent.start<ClientProgram>(clientProgram));
    const prepared = client.call('prepare', { rows, seed: this.#options.seed, file });
    const primary = await this.#startPrimary();
    let standby = await this.#startStandby();
    const places = await prepared;
    const firstRun = client.call('run', {
      port: await primary.call('listenForClients'),
      limit: Number.POSITIVE_INFINITY,
    });
    this.#story.tell(`the client loads ${count(places)} places`);

    await client.call('reached', { count: Math.floor(places * (0.3 + 0.3 * this.#random())) });
    await standby.kill();
    this.#story.tell('standby killed (SIGKILL)', 'yellow');
    await this.#standbyAway(client, places);
    const caughtUp = await this.#catchUp(primary, (fresh) => {
      standby = fresh;
    });

    // What the lying disk keeps of the standby's control file, whatever is written to it later.
    const control = await readControl(this.#dir('b'));

    const loaded = Math.max(places, await client.call('acknowledged'));
    const updates = Math.floor(places * (0.05 + 0.1 * this.#random()));
    await client.call('reached', { count: loaded + updates });
    const killedAt = performance.timeOrigin + performance.now();
    await primary.kill();
    this.#story.tell('primary killed (SIGKILL), in the middle of updates', 'red');
    const { acknowledged, underWay } = await firstRun;

    if (this.#options.mode === 'planted') {
      standby = await this.#losePower(standby, control, underWay);
    }
    const promoteMs =
      this.#options.mode === 'automatic'
        ? await this.#takesOver(standby, killedAt)
        : await this.#promote(standby);
    const goneOn = await this.#goOn(client, standby, acknowledged);
    const all = parseAcknowledgements(await readFile(file, 'utf8'));
    const found = await this.#compare(standby, all.slice(0, acknowledged), killedAt);
    const end = await this.#digests(standby, all);
    return {
      mode: this.#options.mode,
      ...found,
      ...caughtUp,
      ...end,
      promoteMs,
      outageMs: goneOn.firstAt - killedAt,
    };
  }

  async #promote(standby: NodeAgent): Promise<number> {
    const promoteMs = await standby.call('promote');
    this.#story.tell(`standby promoted in ${millis(promoteMs)}`, 'green');
    return promoteMs;
  }

  /** Nobody tells it to; the old primary is started again, as what the referee lets it be. */
  async #takesOver(standby: NodeAgent, killedAt: number): Promise<number> {
    const lsn = await standby.call('tookOver');
    const tookMs = performance.timeOrigin + performance.now() - killedAt;
    this.#story.tell(`the standby took over by itself, after ${millis(tookMs)}`, 'green');
    const old = await this.#startPrimary();
    await old.call('rejoined');
    this.#story.tell('old primary started again: it is a standby now', 'green');
    await standby.call('caughtUp', { lsn });
    await standby.call('keep');
    return tookMs;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#agents].map((agent) => agent.kill()));
  }

  async #startPrimary(): Promise<NodeAgent> {
    const agent = this.#track(Agent.start<NodeProgram>(nodeProgram));
    const synchronous = this.#options.mode !== 'async';
    const group = await this.#groupOf('a');
    const port = await agent.call('start', { dir: this.#dir('a'), name: 'a', synchronous, group });
    if (port === undefined) throw new Error('the primary does not listen');
    this.#primaryPort = port;
    return agent;
  }

  async #startStandby(): Promise<NodeAgent> {
    const agent = this.#track(Agent.start<NodeProgram>(nodeProgram));
    const followPort = this.#primaryPort;
    const dir = this.#dir('b');
    const group = await this.#groupOf('b');
    await agent.call('start', { dir, name: 'b', followPort, synchronous: false, group });
    return agent;
  }

  /** Members know each other's ports before they run. */
  async #groupOf(name: 'a' | 'b'): Promise<GroupPlan | undefined> {
    if (this.#options.mode !== 'automatic') return undefined;
    this.#ports ??= await freePorts(2);
    const [a, b] = this.#ports;
    return { ports: name === 'a' ? [a!, b!] : [b!, a!], referee: this.#dir('referee') };
  }

  /** In sync mode everybody waits; in async mode the primary goes on alone. */
  async #standbyAway(client: ClientAgent, places: number): Promise<void> {
    const before = await client.call('acknowledged');
    if (this.#options.mode === 'async') {
      await client.call('reached', { count: before + Math.floor(places * 0.25) });
    } else {
      await sleep(AWAY_MS);
    }
    const more = (await client.call('acknowledged')) - before;
    this.#story.tell(`while it was away: ${count(more)} acknowledged`);
  }

  async #catchUp(
    primary: NodeAgent,
    started: (standby: NodeAgent) => void,
  ): Promise<Pick<Outcome, 'catchUpMs' | 'behind'>> {
    const start = performance.now();
    const standby = await this.#startStandby();
    started(standby);
    const had = (await standby.call('progress')).flushLsn;
    const { flushLsn } = await primary.call('progress');
    await standby.call('caughtUp', { lsn: flushLsn });
    const catchUpMs = performance.now() - start;
    const behind = Math.max(0, flushLsn - had);
    this.#story.tell(
      `standby started again: its log had ${count(had)} records and lacked ${count(behind)}; ` +
        `all there and applied after ${millis(catchUpMs)}`,
      'green',
    );
    return { catchUpMs, behind };
  }

  /** The planted fault: what the standby had acknowledged last was never on its disk. */
  async #losePower(standby: NodeAgent, control: KeptControl, underWay: number): Promise<NodeAgent> {
    await standby.kill();
    // One record more than those that were under way: at least that one was acknowledged.
    const tail = { share: LOST_TAIL_SHARE, least: underWay + 1 };
    const { bytes, records } = await loseTail(this.#dir('b'), control, tail);
    this.#story.tell(
      `power fails at the standby too: the last ${count(records)} records (${count(bytes)} ` +
        'bytes) that it said it had flushed are not there',
      'red',
    );
    return await this.#startStandby();
  }

  async #compare(
    standby: NodeAgent,
    acknowledged: readonly Acknowledgement[],
    killedAt: number,
  ): Promise<Pick<Outcome, 'acknowledged' | 'lost' | 'changed' | 'lossWindowMs'>> {
    const promoted = await this.#promotedCatalogue(standby);
    const { lost, changed } = compare(acknowledged, promoted, this.#row());
    const first = lost[0];
    this.#story.tell(
      `of the ${count(acknowledged.length)} records acknowledged before the kill, ` +
        `${count(lost.length)} were not on the promoted standby`,
      lost.length === 0 ? 'green' : 'red',
    );
    return {
      acknowledged: acknowledged.length,
      lost: lost.length,
      changed: changed.length,
      lossWindowMs: first === undefined ? null : Math.max(0, killedAt - first.at),
    };
  }

  async #goOn(client: ClientAgent, standby: NodeAgent, before: number): Promise<RunResult> {
    const port = await standby.call('listenForClients');
    const result = await client.call('run', { port, limit: before + GO_ON_RECORDS });
    if (!result.done) throw new Error('the promoted standby closed the connection');
    this.#story.tell(`the client went on there: ${count(result.acknowledged)} acknowledged in all`);
    return result;
  }

  /** The catalogue by the client's file, and as it is. */
  async #digests(
    standby: NodeAgent,
    acknowledged: readonly Acknowledgement[],
  ): Promise<Pick<Outcome, 'acknowledgedInAll' | 'expectedDigest' | 'digest'>> {
    const expected = new Catalogue();
    const row = this.#row();
    for (const { id, version } of newest(acknowledged)) expected.put(row(id, version));
    const digest = await standby.call('digest');
    return { acknowledgedInAll: acknowledged.length, expectedDigest: expected.digest(), digest };
  }

  async #promotedCatalogue(standby: NodeAgent): Promise<Catalogue> {
    const file = this.#dir('promoted.tsv');
    const digest = await standby.call('dumpPromoted', { file });
    const catalogue = new Catalogue();
    for (const row of (await readFile(file, 'utf8')).split('\n')) catalogue.put(row);
    if (catalogue.digest() !== digest) throw new Error('the catalogue was not written as it is');
    return catalogue;
  }

  /** What the row of a place has to be, made anew from the real data. */
  #row(): (id: number, version: number) => string {
    this.#places ??= new Map(loadPlaces(this.#options.rows).map((place) => [place.cityId, place]));
    const places = this.#places;
    return (id, version) => {
      const place = places.get(id);
      if (place === undefined) throw new Error(`no place has the id ${id}`);
      return rowOf(place, version);
    };
  }

  #dir(name: string): string {
    return path.join(this.#options.directory, name);
  }

  #track<A extends NodeAgent | ClientAgent>(agent: A): A {
    this.#agents.add(agent);
    return agent;
  }
}

/** The last version of each place. */
function newest(acknowledged: readonly Acknowledgement[]): Iterable<Acknowledgement> {
  const last = new Map<number, Acknowledgement>();
  for (const record of acknowledged) {
    const known = last.get(record.id);
    if (known === undefined || known.version < record.version) last.set(record.id, record);
  }
  return last.values();
}
