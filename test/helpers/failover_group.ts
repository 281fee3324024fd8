import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { OpenOptions } from '../../src/index.js';
import type { RefereeTiming } from '../../src/referee/timing.js';
import { makeTempDir } from '../global/temp.js';
import { CommitHistory } from './commit_history.js';
import { EtcdCluster } from './etcd.js';
import { EtcdProxy } from './etcd_proxy.js';
import { type Host, Hosts } from './hosts.js';

/** As short as etcd takes. */
const timing: RefereeTiming = { ttlMs: 2000, marginMs: 100, renewEveryMs: 300, callTimeoutMs: 700 };
const port = 7401;
const clients = 3;
const patienceMs = 60_000;
const mostEvents = 400;

class Node {
  readonly name: string;
  role = '';
  isGone = false;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;

  constructor(name: string, { exec }: Host, options: object, onLine: (line: string) => void) {
    this.name = name;
    const program = ['test/helpers/failover_node.mjs', JSON.stringify(options)];
    const [command, ...args] = [...exec, process.execPath, ...program];
    this.#child = spawn(command!, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#ended = new Promise((resolve) => this.#child.once('close', () => resolve()));
    this.#child.once('exit', (code) => {
      this.isGone = true;
      this.role = '';
      if (code !== null) onLine(`error it ended with code ${code}`);
    });
    createInterface({ input: this.#child.stdout! }).on('line', onLine);
    createInterface({ input: this.#child.stderr! }).on('line', (line) => onLine(`note ${line}`));
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Resolves when all that it said is heard. */
  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.#ended;
  }
}

/**
 * Nodes as processes on hosts of their own, and an etcd with one member on this machine. What they
 * acknowledge and read is kept in `history`.
 */
export class FailoverGroup {
  readonly names: readonly string[];
  readonly history = new CommitHistory();
  /** Whose acknowledgement was another's than the one before. */
  failovers = 0;
  /** How often a node has waited for an operator's word, and was given it. */
  asked = 0;
  readonly etcd: EtcdCluster;
  readonly #hosts: Hosts;
  /** Of each node, between it and etcd. */
  readonly #proxies = new Map<string, EtcdProxy>();
  readonly #nodes = new Map<string, Node>();
  readonly #directory = makeTempDir('failovers');
  readonly #policy: Partial<OpenOptions>;
  readonly #events: string[] = [];
  readonly #said: string[] = [];
  #acknowledger = '';

  private constructor(hosts: Hosts, etcd: EtcdCluster, policy: Partial<OpenOptions>) {
    this.#hosts = hosts;
    this.names = hosts.hosts.map((_, i) => 'abc'.charAt(i));
    this.etcd = etcd;
    this.#policy = policy;
  }

  static async make(count: number, policy: Partial<OpenOptions>): Promise<FailoverGroup> {
    const hosts = new Hosts([...'abc'].slice(0, count));
    try {
      const etcd = await EtcdCluster.start(1, undefined, hosts.home);
      const group = new FailoverGroup(hosts, etcd, policy);
      for (const name of group.names) {
        group.#proxies.set(name, await EtcdProxy.open(etcd.endpoints[0]!, hosts.home));
      }
      return group;
    } catch (error) {
      hosts.close();
      throw error;
    }
  }

  start(name: string, more: Partial<OpenOptions> = {}): void {
    const all = this.#hosts.hosts.map(({ address: host }) => ({ host, port, plaintext: true }));
    const host = this.#host(name);
    const options = {
      ...{ segmentBytes: 256 * 1024, maxRecordBytes: 64 * 1024, ringBytes: 2 * 1024 * 1024 },
      ...{ name, dir: this.dir(name), members: all, clients, ...this.#policy, ...more },
      listen: { host: host.address, port, plaintext: true },
      etcd: {
        ...{ endpoints: [this.proxy(name).endpoint], plaintext: true, group: 'g', timing },
        memory: join(this.#directory, `${name}.referee`),
      },
    };
    this.note(`${name} is started`);
    const node: Node = new Node(name, host, options, (line) => this.#hear(name, node, line));
    this.#nodes.set(name, node);
  }

  proxy(name: string): EtcdProxy {
    return this.#proxies.get(name)!;
  }

  dir(name: string): string {
    return join(this.#directory, name);
  }

  /** The one that is the primary by what it says; of several the one that acknowledged last. */
  get primary(): string | undefined {
    const all = this.names.filter((name) => this.role(name) === 'primary');
    return all.includes(this.#acknowledger) ? this.#acknowledger : all[0];
  }

  role(name: string): string {
    return this.#nodes.get(name)?.role ?? '';
  }

  signal(name: string, signal: NodeJS.Signals): void {
    this.note(`${name} is sent ${signal}`);
    this.#nodes.get(name)!.signal(signal);
  }

  async kill(name: string): Promise<void> {
    this.note(`${name} is killed`);
    await this.#nodes.get(name)!.kill();
  }

  /** From one to the other; `etcd` is one of them. */
  cut(one: string, other: string): void {
    this.note(`${one} to ${other} is cut`);
    this.#hosts.cut(this.#address(one), this.#address(other));
  }

  mend(): void {
    this.note('no cut is left');
    const all = [...this.names, 'etcd'].map((name) => this.#address(name));
    for (const one of all) {
      for (const other of all) if (one !== other) this.#hosts.mend(one, other);
    }
  }

  others(name: string): readonly string[] {
    return this.names.filter((each) => each !== name);
  }

  /** What is said again and again is kept once. */
  note(text: string): void {
    const said = text.replace(/\d{3,}/g, '');
    if (this.#said.slice(-4).includes(said)) return;
    this.#said.push(said);
    this.#events.push(`${process.hrtime.bigint() / 1_000_000n} ${text}`);
    if (this.#events.length <= mostEvents) return;
    this.#events.shift();
    this.#said.shift();
  }

  /** What happened lately. */
  get events(): string {
    return this.#events.join('\n');
  }

  async eventually(met: () => boolean, what: string): Promise<void> {
    const end = performance.now() + patienceMs;
    while (!met()) {
      if (performance.now() > end) throw new Error(`never happened: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** One primary, and everybody else a standby, by what they say. */
  get isSettled(): boolean {
    const all = (role: string): number =>
      this.names.filter((name) => this.role(name) === role).length;
    return all('primary') === 1 && all('standby') === this.names.length - 1;
  }

  /** One primary, whose commits go on, and everybody else its standby. */
  async settled(): Promise<void> {
    await this.eventually(() => this.isSettled, 'one primary and its standbys');
    await this.acknowledges();
  }

  async acknowledges(count = 10): Promise<void> {
    const before = this.history.acknowledged;
    await this.eventually(() => this.history.acknowledged >= before + count, 'commits go on');
  }

  /** All nodes are killed. */
  async end(): Promise<void> {
    await Promise.all([...this.#nodes.values()].map((node) => node.kill()));
  }

  async close(): Promise<void> {
    await this.end();
    await Promise.all([...this.#proxies.values()].map((proxy) => proxy.close()));
    await this.etcd.close();
    this.#hosts.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #hear(name: string, node: Node, line: string): void {
    const [what = '', a = '', text = '', began = '', ended = ''] = line.split(' ');
    if (what === 'ack') {
      this.history.told(Number(a), text, BigInt(began), BigInt(ended));
      if (this.#acknowledger !== name) {
        if (this.#acknowledger !== '') this.failovers += 1;
        this.note(`${name} acknowledges`);
      }
      this.#acknowledger = name;
    } else if (what === 'read') this.history.read(Number(a), text);
    else if (what === 'refused') this.history.refused(a);
    else if (what === 'asked') this.asked += 1;
    else {
      this.note(`${name}: ${line}`);
      if (what === 'error') this.history.errors.push(`${name}: ${line}`);
      if (what === 'role' && !node.isGone) node.role = a;
    }
  }

  #host(name: string): Host {
    return this.#hosts.hosts[this.names.indexOf(name)]!;
  }

  #address(name: string): string {
    return name === 'etcd' ? this.#hosts.home : this.#host(name).address;
  }
}
