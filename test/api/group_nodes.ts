import { chmodSync, cpSync } from 'node:fs';
import { freePorts } from '../../bench/harness/ports.js';
import type { Log, OpenOptions } from '../../src/index.js';
import { loadBinding } from '../../src/native/binding.js';
import { fence } from '../../src/transport/ask_member.js';
import type { MemberGrant } from '../../src/wire/member_messages.js';
import { freshDir } from '../helpers/temp.js';
import { openLog, small, until } from './helpers.js';

export const stopped = { primaryStopped: true } as const;
export const anyOne = { synchronousStandbys: 'ANY 1 (*)' } as const;

export type Name = 'a' | 'b' | 'c' | 'd';

/** Nodes that know of each other: each listens at its own port, in every role. */
export class Group {
  readonly dirs: Readonly<Record<Name, string>>;
  readonly ports: Readonly<Record<Name, number>>;
  readonly members: readonly { readonly port: number }[];

  private constructor(ports: readonly number[], count: number) {
    const of = <T>(make: (i: number) => T): Record<Name, T> => ({
      a: make(0),
      b: make(1),
      c: make(2),
      d: make(3),
    });
    this.ports = of((i) => ports[i]!);
    this.dirs = of(() => freshDir());
    this.members = ports.slice(0, count).map((port) => ({ port }));
  }

  static async make(count = 3): Promise<Group> {
    return new Group(await freePorts(4), count);
  }

  /** Options of this node. */
  of(name: Name): OpenOptions {
    const { ports, dirs, members } = this;
    return { ...small, dir: dirs[name], name, listen: { port: ports[name] }, members };
  }

  primary(name: Name, options: Partial<OpenOptions> = {}): Promise<Log> {
    return openLog({ ...this.of(name), openAlone: true, ...options });
  }

  /** Follows that standby, and knows of nobody else. */
  async cascaded(name: Name, of: Name): Promise<Log> {
    const { members: _, ...options } = this.of(name);
    const log = await openLog({ ...options, follow: { port: this.ports[of] } });
    await log.connected();
    return log;
  }

  async standby(name: Name, of: Name, options: Partial<OpenOptions> = {}): Promise<Log> {
    const log = await openLog({ ...this.of(name), follow: { port: this.ports[of] }, ...options });
    await log.connected();
    return log;
  }

  /** `a`, with the standbys that are named; all are members of its rule. */
  async started(names: readonly Name[] = ['b', 'c']): Promise<Record<Name, Log>> {
    const logs: Partial<Record<Name, Log>> = { a: await this.primary('a', anyOne) };
    for (const name of names) logs[name] = await this.standby(name, 'a');
    const { a } = logs as Record<Name, Log>;
    await a.appendAndCommit('one');
    await until(() => a.status().policy?.inForce === true, 'the rule');
    for (const name of names) {
      const log = logs[name]!;
      const rule = () => log.status().upstream?.rule;
      await until(() => rule()?.members.length === names.length, `${name} knows the rule`);
      await until(() => log.status().flushLsn === 1, `${name} has the first record`);
    }
    return logs as Record<Name, Log>;
  }
}

/** As it is on a crash of its process, at this moment. */
export function imageOf(log: Log): string {
  const dir = freshDir();
  cpSync(log.dir, dir, { recursive: true, filter: (path) => !/control\.sock|\/lock$/.test(path) });
  chmodSync(dir, 0o700);
  return dir;
}

/** Fences the node at this port for `candidate`, which does not go on. */
export function fenceFor(candidate: Log, port: number, epoch: number): Promise<MemberGrant> {
  const { logId, salt } = loadBinding().identify(candidate.dir);
  const { nodeId, name } = candidate.status();
  const sender = { logId, salt, nodeId };
  const at = { host: '127.0.0.1', port, plaintext: false };
  return fence({ ...at, name, sender, deadlineMs: 10_000 }, epoch);
}

export async function textsOf(log: Log): Promise<string[]> {
  const found: string[] = [];
  const upTo = log.status().role === 'primary' ? 'flush' : 'commit';
  for await (const batch of log.read({ live: false, upTo })) {
    for (const { data } of batch) found.push(data.toString());
  }
  return found;
}
