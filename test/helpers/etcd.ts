import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePorts } from '../../bench/harness/ports.js';
import { makeTempDir } from '../global/temp.js';

interface Member {
  readonly name: string;
  readonly client: string;
  readonly peer: string;
  child: ChildProcess | undefined;
}

/** PEM texts, for client connections. */
export interface EtcdTlsFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** Members of etcd, on loopback if not told otherwise, with ports and a directory of their own. */
export class EtcdCluster {
  readonly #dir = makeTempDir('etcd');
  readonly #members: Member[] = [];
  readonly #tls: EtcdTlsFiles | undefined;

  private constructor(tls: EtcdTlsFiles | undefined) {
    this.#tls = tls;
  }

  /** Started, and with a leader. */
  static async start(
    count: number,
    tls?: EtcdTlsFiles,
    address = '127.0.0.1',
  ): Promise<EtcdCluster> {
    const cluster = new EtcdCluster(tls);
    try {
      const scheme = tls === undefined ? 'http' : 'https';
      const ports = await freePorts(2 * count, address);
      for (let i = 0; i < count; i += 1) {
        cluster.#members.push({
          name: `m${i}`,
          client: `${scheme}://${address}:${ports[2 * i]}`,
          peer: `http://${address}:${ports[2 * i + 1]}`,
          child: undefined,
        });
      }
      for (const member of cluster.#members) cluster.#spawn(member);
      await cluster.ready();
      return cluster;
    } catch (error) {
      await cluster.close();
      throw error;
    }
  }

  get endpoints(): string[] {
    return this.#members.map(({ client }) => client);
  }

  kill(index: number, signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT' | 'SIGTERM'): void {
    this.#members[index]!.child?.kill(signal);
  }

  /** Ends one member, and waits for that. */
  async stop(index: number): Promise<void> {
    const member = this.#members[index]!;
    const { child } = member;
    if (child === undefined) return;
    member.child = undefined;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  async restart(index: number): Promise<void> {
    await this.stop(index);
    this.#spawn(this.#members[index]!);
  }

  /** What a stopped member has on its disk is kept under a name, or put back. */
  backup(index: number, name: string): void {
    cpSync(this.#data(index), join(this.#dir, name), { recursive: true });
  }

  putBack(index: number, name: string): void {
    rmSync(this.#data(index), { recursive: true });
    cpSync(join(this.#dir, name), this.#data(index), { recursive: true });
  }

  /** Resolves when a linearizable read is answered by some member. */
  async ready(): Promise<void> {
    await this.#eventually('a read', async () => {
      for (const { client } of this.#members) {
        if (await this.#answers(client, '/health', (body) => /"true"|true/.test(body))) return true;
      }
      return false;
    });
  }

  /** Which member leads; asked of the member `from`. */
  async leader(from = 0): Promise<number> {
    const args = ['endpoint', 'status', '--cluster', '-w', 'json'];
    const { endpoints } = this;
    const out = await this.etcdctl(from, ...args);
    const all = JSON.parse(out) as {
      Endpoint: string;
      Status: { leader: number; header: { member_id: number } };
    }[];
    const leading = all.find(({ Status }) => Status.leader === Status.header.member_id);
    return endpoints.indexOf(leading?.Endpoint ?? '');
  }

  /** Its output; rejects with what it says on failure. */
  async etcdctl(member: number, ...args: readonly string[]): Promise<string> {
    // The certificate is of a name.
    const host = this.#tls === undefined ? '127.0.0.1' : 'localhost';
    const endpoint = `--endpoints=${this.endpoints[member]!.replace('127.0.0.1', host)}`;
    const child = spawn('etcdctl', [endpoint, '--dial-timeout=2s', ...this.#shows(), ...args], {
      env: { ...process.env, ETCDCTL_API: '3' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    child.stdout.on('data', (part: Buffer) => {
      said += part.toString();
    });
    child.stderr.on('data', (part: Buffer) => {
      said += part.toString();
    });
    const [code] = await once(child, 'close');
    if (code !== 0) throw new Error(`etcdctl ${args.join(' ')}: ${said}`);
    return said;
  }

  async close(): Promise<void> {
    await Promise.all(this.#members.map((_, i) => this.stop(i)));
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #data(index: number): string {
    return join(this.#dir, this.#members[index]!.name);
  }

  #spawn(member: Member): void {
    const { name, client, peer } = member;
    const all = this.#members.map((each) => `${each.name}=${each.peer}`).join(',');
    const args = ['--name', name, '--data-dir', join(this.#dir, name)];
    args.push('--listen-client-urls', client, '--advertise-client-urls', client);
    args.push('--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer);
    args.push('--initial-cluster', all, '--log-level', 'error', '--logger', 'zap');
    if (this.#tls !== undefined) args.push(...this.#tlsArguments(this.#tls));
    member.child = spawn('etcd', args, { stdio: 'ignore' });
    member.child.on('error', () => undefined);
  }

  #shows(): string[] {
    if (this.#tls === undefined) return [];
    const file = (name: string) => join(this.#dir, 'tls', name);
    return [`--cacert=${file('ca')}`, `--cert=${file('cert')}`, `--key=${file('key')}`];
  }

  /** Clients show a certificate. */
  #tlsArguments(tls: EtcdTlsFiles): string[] {
    const dir = join(this.#dir, 'tls');
    mkdirSync(dir, { recursive: true });
    for (const [name, text] of Object.entries(tls)) writeFileSync(join(dir, name), text);
    const file = (name: string) => join(dir, name);
    const own = ['--cert-file', file('cert'), '--key-file', file('key')];
    return [...own, '--trusted-ca-file', file('ca'), '--client-cert-auth'];
  }

  async #answers(
    endpoint: string,
    path: string,
    isGood: (body: string) => boolean,
  ): Promise<boolean> {
    // With TLS only that it listens is seen: the test that uses it asks more.
    if (this.#tls !== undefined) return await listens(new URL(endpoint));
    try {
      const signal = AbortSignal.timeout(2000);
      const response = await fetch(`${endpoint}${path}`, { signal });
      return isGood(await response.text());
    } catch {
      return false;
    }
  }

  async #eventually(what: string, isDone: () => Promise<boolean>): Promise<void> {
    const ends = performance.now() + 60_000;
    while (!(await isDone())) {
      if (performance.now() > ends) throw new Error(`etcd answers ${what} not within a minute`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

async function listens({ hostname, port }: URL): Promise<boolean> {
  const { connect } = await import('node:net');
  return await new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port) });
    socket.on('error', () => resolve(false));
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}
