import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePorts } from './ports.js';

const HOST = '127.0.0.1';
const STARTS_WITHIN_MS = 20_000;

export function hasEtcd(): boolean {
  return spawnSync('etcd', ['--version'], { stdio: 'ignore' }).status === 0;
}

/** An etcd with one member, with its defaults. */
export class Etcd {
  readonly endpoint: string;
  readonly #child: ChildProcess;

  private constructor(endpoint: string, child: ChildProcess) {
    this.endpoint = endpoint;
    this.#child = child;
  }

  static async start(directory: string): Promise<Etcd> {
    const [client, peer] = (await freePorts(2)).map((port) => `http://${HOST}:${port}`);
    const args = ['--name', 'm', '--data-dir', directory, '--log-level', 'error'];
    args.push('--listen-client-urls', client!, '--advertise-client-urls', client!);
    args.push('--listen-peer-urls', peer!, '--initial-advertise-peer-urls', peer!);
    args.push('--initial-cluster', `m=${peer}`, '--logger', 'zap');
    const etcd = new Etcd(client!, spawn('etcd', args, { stdio: 'ignore' }));
    const end = performance.now() + STARTS_WITHIN_MS;
    while (!(await etcd.#isHealthy())) {
      if (performance.now() > end) throw new Error('etcd does not start');
      await sleep(50);
    }
    return etcd;
  }

  async stop(): Promise<void> {
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }

  async #isHealthy(): Promise<boolean> {
    try {
      const answer = await fetch(`${this.endpoint}/health`, { signal: AbortSignal.timeout(1000) });
      return (await answer.text()).includes('true');
    } catch {
      return false;
    }
  }
}
