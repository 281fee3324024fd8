/** The processes of one measurement: a primary, and a standby where the row asks for one. */

import type { TlsOptions } from 'walmirror';
import type { LogAgent, Opened, OpenRequest } from '../agents/log_agent.js';
import { Agent, type Usage } from '../harness/agent.js';
import type { Context } from '../harness/benchmark.js';
import { makeTls } from '../harness/certificates.js';
import type { ProcessUse } from '../harness/row.js';

export const logProgram = new URL('../agents/log_agent.js', import.meta.url);

export interface GroupOptions {
  readonly replicated: boolean;
  /** Commits wait for the standby's flush. */
  readonly synchronous: boolean;
  /** Replication is encrypted. */
  readonly tls?: boolean;
  /** Each log runs in a thread of its own. */
  readonly threaded?: boolean;
  /**
   * Whose segments are recycled. A primary that trims may let go of what a standby that is away
   * lacks.
   */
  readonly trim: 'all' | 'standby' | 'none';
}

export interface CheckResult {
  readonly hash: string;
  readonly checkedRecords: number;
}

export class Group {
  readonly primary = Agent.start<LogAgent>(logProgram);
  standby: Agent<LogAgent> | undefined;
  readonly #context: Context;
  readonly #options: GroupOptions;
  readonly #directories: string[] = [];
  #tls: TlsOptions | undefined;

  constructor(context: Context, options: GroupOptions) {
    this.#context = context;
    this.#options = options;
    if (options.replicated) this.standby = Agent.start<LogAgent>(logProgram);
  }

  /** Opens logs in new directories. */
  async open(): Promise<Opened> {
    const { directories } = this.#context;
    const { replicated, synchronous } = this.#options;
    const dir = await directories.make('primary');
    this.#directories.push(dir);
    if (this.#options.tls === true) await this.#makeTls();
    const request = this.#request('primary', dir);
    const opened = await this.primary.call('open', { ...request, listen: replicated, synchronous });
    if (replicated) {
      const standbyDir = await directories.make('standby');
      this.#directories.push(standbyDir);
      await this.openStandby(standbyDir, opened);
      await this.standby?.call('connected');
    }
    return opened;
  }

  async openStandby(dir: string, { port }: Opened): Promise<Opened | undefined> {
    if (port === null) throw new Error('the primary does not listen');
    const request = this.#request('standby', dir);
    return await this.standby?.call('open', { ...request, followPort: port });
  }

  /** Where the standby's log lies. */
  get standbyDirectory(): string {
    const directory = this.#directories[1];
    if (directory === undefined) throw new Error('there is no standby');
    return directory;
  }

  /** Another process in the standby's place. */
  restartStandby(): void {
    this.standby = Agent.start<LogAgent>(logProgram);
  }

  /** Closes the logs and removes their directories; the processes stay. */
  async close(): Promise<void> {
    await this.standby?.call('close');
    await this.primary.call('close');
    await this.#removeDirectories();
  }

  /** Ends the processes, whatever they are doing. */
  async end(): Promise<void> {
    await this.standby?.kill();
    await this.primary.kill();
    await this.#removeDirectories();
  }

  async #makeTls(): Promise<void> {
    const dir = await this.#context.directories.make('tls');
    this.#tls = await makeTls(dir, ['primary', 'standby']);
    await this.#context.directories.remove(dir);
  }

  async #removeDirectories(): Promise<void> {
    for (const dir of this.#directories.splice(0)) await this.#context.directories.remove(dir);
  }

  #request(name: 'primary' | 'standby', dir: string): OpenRequest {
    const { segmentBytes } = this.#context.plan;
    const asked = this.#options.trim;
    const trim = asked === 'all' || asked === name;
    const tls = this.#tls;
    const { threaded } = this.#options;
    return { dir, name, segmentBytes, trim, tls, threaded, listen: false, synchronous: false };
  }

  /** Runs a measurement, and says what its processes used meanwhile. */
  async measure<T>(run: () => Promise<T>): Promise<Used<T>> {
    const agents = [this.primary, ...(this.standby === undefined ? [] : [this.standby])];
    return await measureUse(agents, run);
  }

  /** The same for the primary alone, where the standby cannot answer. */
  async measurePrimary<T>(run: () => Promise<T>): Promise<Used<T>> {
    return await measureUse([this.primary], run);
  }

  /**
   * Reads the last of the `written` records back from each log. Throws if it is not what was
   * written.
   */
  async check(to: number, size: number, written: number): Promise<CheckResult> {
    const count = Math.min(written, Math.ceil(this.#context.plan.checkedBytes / size));
    const request = { to, size, count };
    let last = { hash: '', checkedRecords: 0 };
    for (const agent of [this.primary, this.standby]) {
      if (agent === undefined) continue;
      const { records, hash, expectedHash } = await agent.call('check', request);
      if (hash !== expectedHash || records === 0) {
        const name = agent === this.primary ? 'primary' : 'standby';
        throw new Error(`the ${name}'s log holds other records than were written, up to LSN ${to}`);
      }
      last = { hash, checkedRecords: records };
    }
    return last;
  }
}

export interface Used<T> {
  readonly result: T;
  readonly processes: ProcessUse[];
}

async function measureUse<T>(
  agents: readonly Agent<LogAgent>[],
  run: () => Promise<T>,
): Promise<Used<T>> {
  const usages = (): Promise<Usage[]> => Promise.all(agents.map((agent) => agent.usage()));
  const before = await usages();
  const start = performance.now();
  const result = await run();
  const seconds = (performance.now() - start) / 1000;
  const after = await usages();
  const roles = ['primary', 'standby'] as const;
  const processes = after.map<ProcessUse>(({ cpuSeconds: total, peakRssBytes }, index) => {
    const cpuSeconds = total - (before[index]?.cpuSeconds ?? 0);
    return {
      role: roles[index] ?? 'process',
      cores: cpuSeconds / seconds,
      cpuSeconds,
      peakRssBytes,
    };
  });
  return { result, processes };
}
