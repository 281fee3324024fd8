/**
 * The measured processes. Each is a Node process of its own, so that its processor time and peak
 * memory are its own, and it is ended by its process id. The parent calls functions in it by name.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

type Handler = (argument: never) => unknown;
export type Handlers = Readonly<Record<string, Handler>>;

export interface Usage {
  readonly cpuSeconds: number;
  readonly peakRssBytes: number;
}

interface Request {
  readonly id: number;
  readonly method: string;
  readonly argument: unknown;
}

interface Reply {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

/** In the child: answers calls until the parent goes. */
export function serve(handlers: Handlers): void {
  const all: Handlers = { ...handlers, usage };
  const answer = async ({ id, method, argument }: Request): Promise<Reply> => {
    try {
      const handler = all[method];
      if (handler === undefined) throw new Error(`no method ${method}`);
      return { id, value: await handler(argument as never) };
    } catch (error) {
      return { id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    }
  };
  process.on('message', (request: Request) => {
    void answer(request).then((reply) => process.send?.(reply));
  });
  process.on('disconnect', () => process.exit(0));
}

function usage(): Usage {
  const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
  return { cpuSeconds: (userCPUTime + systemCPUTime) / 1e6, peakRssBytes: maxRSS * 1024 };
}

const running = new Set<ChildProcess>();

/** No child outlives the parent, however it ends. */
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** In the parent: the other end of `serve`. */
export class Agent<H extends Handlers> {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (reply: Reply) => void>();
  #lastId = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (reply: Reply) => {
      this.#waiting.get(reply.id)?.(reply);
      this.#waiting.delete(reply.id);
    });
    child.on('exit', (code, signal) => {
      running.delete(child);
      const error = `the process ended early (${signal ?? `code ${code}`})`;
      for (const [id, settle] of this.#waiting) settle({ id, error });
      this.#waiting.clear();
    });
  }

  static start<H extends Handlers>(program: URL): Agent<H> {
    const child = fork(program, { serialization: 'advanced', execArgv: [] });
    running.add(child);
    return new Agent<H>(child);
  }

  get pid(): number {
    const { pid } = this.#child;
    if (pid === undefined) throw new Error('the process did not start');
    return pid;
  }

  async call<K extends keyof H & string>(
    method: K,
    ...[argument]: Parameters<H[K]>
  ): Promise<Awaited<ReturnType<H[K]>>> {
    const reply = await this.#ask(method, argument);
    return reply as Awaited<ReturnType<H[K]>>;
  }

  async usage(): Promise<Usage> {
    return (await this.#ask('usage', undefined)) as Usage;
  }

  signal(name: NodeJS.Signals): void {
    process.kill(this.pid, name);
  }

  /** SIGKILL, and the wait until the process is gone. */
  async kill(): Promise<void> {
    if (!running.has(this.#child)) return;
    const gone = once(this.#child, 'exit');
    this.signal('SIGKILL');
    await gone;
  }

  /** Lets the process end by itself; one that does not is killed. */
  async stop(): Promise<void> {
    if (!running.has(this.#child)) return;
    const gone = once(this.#child, 'exit');
    if (this.#child.connected) this.#child.disconnect();
    const patience = new AbortController();
    const overdue = sleep(10_000, undefined, { signal: patience.signal }).then(
      () => this.kill(),
      () => undefined,
    );
    await gone;
    patience.abort();
    await overdue;
  }

  #ask(method: string, argument: unknown): Promise<unknown> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      if (!running.has(this.#child)) {
        reject(new Error(`${method}: the process has ended`));
        return;
      }
      this.#waiting.set(id, ({ value, error }) => {
        if (error === undefined) resolve(value);
        else reject(new Error(`${method}: ${error}`));
      });
      this.#child.send({ id, method, argument } satisfies Request);
    });
  }
}
