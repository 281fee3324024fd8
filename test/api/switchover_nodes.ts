import type { Socket } from 'node:net';
import { onTestFinished } from 'vitest';
import { openIn } from '../../src/api/log.js';
import type { Log, OpenOptions } from '../../src/index.js';
import type { NativeLog } from '../../src/native/native_log.js';
import { type Environment, processEnvironment } from '../../src/transport/environment.js';
import { lengthBytes, MessageType } from '../../src/wire/message_type.js';
import { anyOne, Group, type Name } from './group_nodes.js';
import { until } from './helpers.js';

/** What a test does right before and right after a step that a node makes durable. */
export interface Steps {
  beforeRole?: (role: string) => unknown;
  afterRole?: (role: string) => unknown;
  beforeOpening?: () => unknown;
  afterOpening?: () => unknown;
  /** It takes nothing more of the log. */
  isStuck?: boolean;
  /** Hand-overs do not reach it. */
  isDeaf?: boolean;
  /** Its engine. */
  native?: NativeLog;
  /** Connections that it has made. */
  readonly sockets: Set<Socket>;
}

export function newSteps(): Steps {
  return { sockets: new Set() };
}

/** Hooks are looked up when a step is made: a test sets them when its group is up. */
export async function openStepping(steps: Steps, options: OpenOptions): Promise<Log> {
  const binding = processEnvironment.binding();
  const open: typeof binding.open = async (given) => {
    const native = await binding.open(given);
    return stepping(native, steps);
  };
  const environment: Environment = {
    ...processEnvironment,
    binding: () => Object.create(binding, { open: { value: open } }),
    createServer: (how, onConnection) =>
      processEnvironment.createServer(how, (socket) => {
        onConnection(socket);
        deafen(socket, steps);
      }),
    connect: (to) => {
      const socket = processEnvironment.connect(to);
      steps.sockets.add(socket);
      socket.once('close', () => steps.sockets.delete(socket));
      return socket;
    },
  };
  const log = await openIn(environment, options);
  onTestFinished(() => log.close().catch(() => undefined));
  return log;
}

/** Drops a connection that brings a hand-over. */
function deafen(socket: Socket, steps: Steps): void {
  socket.prependListener('data', (chunk: Buffer) => {
    if (steps.isDeaf === true && chunk[lengthBytes] === MessageType.HANDOVER) socket.destroy();
  });
}

function stepping(native: NativeLog, steps: Steps): NativeLog {
  const storeRole = native.storeRole.bind(native);
  const openTerm = native.openTerm.bind(native);
  const ingest = native.ingest.bind(native);
  const replaced: Pick<NativeLog, 'storeRole' | 'openTerm' | 'ingest'> = {
    storeRole: async (...given) => {
      await steps.beforeRole?.(given[0]);
      await storeRole(...given);
      await steps.afterRole?.(given[0]);
    },
    openTerm: async (...given) => {
      await steps.beforeOpening?.();
      await openTerm(...given);
      await steps.afterOpening?.();
    },
    ingest: (...given) => (steps.isStuck === true ? 0 : ingest(...given)),
  };
  for (const [name, value] of Object.entries(replaced)) {
    Object.defineProperty(native, name, { value });
  }
  steps.native = native;
  return native;
}

/** `a` the primary, and its synchronous standbys, all with one record. */
export class SteppingGroup {
  readonly group: Group;
  readonly steps: Record<Name, Steps> = {
    a: newSteps(),
    b: newSteps(),
    c: newSteps(),
    d: newSteps(),
  };

  private constructor(group: Group) {
    this.group = group;
  }

  static async make(count = 2): Promise<SteppingGroup> {
    return new SteppingGroup(await Group.make(count));
  }

  open(name: Name, options: Partial<OpenOptions> = {}): Promise<Log> {
    return openStepping(this.steps[name], { ...this.group.of(name), ...anyOne, ...options });
  }

  async started(names: readonly Name[] = ['b']): Promise<Record<Name, Log>> {
    const logs: Partial<Record<Name, Log>> = { a: await this.open('a', { openAlone: true }) };
    const { a } = logs as Record<Name, Log>;
    for (const name of names) {
      const log = await this.open(name, { follow: { port: this.group.ports.a } });
      await log.connected();
      logs[name] = log;
    }
    await a.appendAndCommit('one');
    const { standbys } = a.status();
    await until(() => a.status().policy?.inForce === true, 'the rule');
    const areIn = () =>
      a.status().standbys.filter(({ synchronous }) => synchronous).length === standbys.length;
    await until(areIn, 'all are synchronous');
    for (const name of names) {
      await until(() => logs[name]!.status().flushLsn === 1, `${name} has the first record`);
    }
    return logs as Record<Name, Log>;
  }
}
