/**
 * What runs in the thread of a log that was opened with `replicationThread: 'worker'`: the whole
 * `Log`, with its sockets, heartbeats, policies and fences, and answers for the thread that it was
 * opened for (`ThreadedLog`). Started by that, and imported by nobody.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { Applier } from './applier.js';
import { receivedError, sentError } from './attached_calls.js';
import type { Batch } from './batch.js';
import { eventNames } from './events.js';
import { Log } from './log.js';
import type { Logger, LogLevel } from './logger.js';
import type { OpenOptions } from './options.js';
import {
  type FromThread,
  type SentBatch,
  sentArguments,
  type ThreadCall,
  type ThreadData,
  type ToThread,
} from './thread_calls.js';

/** Answers calls one by one, as they come; each can be cancelled. */
class LogThread {
  readonly #log: Log;
  readonly #calls = new Map<number, AbortController>();
  readonly #readers = new Map<number, AsyncIterableIterator<Batch>>();
  readonly #appliers = new Map<number, Applier>();
  readonly #applies = new Map<number, { resolve(): void; reject(error: unknown): void }>();
  #lastApply = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  heard(message: ToThread): void {
    if ('heard' in message) untaken -= message.heard;
    else if ('cancel' in message) this.#calls.get(message.cancel)?.abort();
    else if ('applied' in message) {
      const apply = this.#applies.get(message.applied);
      this.#applies.delete(message.applied);
      if (message.error === undefined) apply?.resolve();
      else apply?.reject(receivedError(message.error));
    } else void this.#answer(message.id, message.ask);
  }

  async #answer(id: number, ask: ThreadCall): Promise<void> {
    const controller = new AbortController();
    this.#calls.set(id, controller);
    try {
      tell({ id, value: await this.#run(id, ask, controller.signal) });
    } catch (error) {
      tell({ id, error: sentError(error) });
    } finally {
      this.#calls.delete(id);
    }
    if (ask.call === 'close') parentPort?.close();
  }

  async #run(id: number, ask: ThreadCall, signal: AbortSignal): Promise<unknown> {
    const log = this.#log;
    switch (ask.call) {
      case 'trim':
        return log.trim(ask.lsn);
      case 'waitFor':
        return log.waitFor(ask.lsn, { signal });
      case 'scrub':
        return log.scrub({ signal });
      case 'connected':
        return log.connected({ signal });
      case 'promote':
        return log.promote({ ...ask.options, signal });
      case 'setPolicy':
        return log.setPolicy({ ...ask.options, signal });
      case 'reloadTls':
        return log.reloadTls(ask.tls);
      case 'read':
        this.#readers.set(id, log.read(ask.options));
        return id;
      case 'next':
        return this.#next(ask.reader);
      case 'return':
        await this.#readers.get(ask.reader)?.return?.();
        this.#readers.delete(ask.reader);
        return undefined;
      case 'apply':
        return this.#apply(id, ask.from);
      case 'stop':
        return this.#appliers.get(ask.applier)?.stop();
      case 'close':
        return log.close(ask.options);
    }
  }

  async #next(number: number): Promise<SentBatch | undefined> {
    const result = await this.#readers.get(number)?.next();
    if (result !== undefined && result.done !== true) return sentBatch(result.value);
    this.#readers.delete(number);
    return undefined;
  }

  /** Resolves when the applier has ended. */
  async #apply(id: number, from: number): Promise<void> {
    const applier = this.#log.apply({ from }, (batch) => {
      const apply = ++this.#lastApply;
      tell({ apply, of: id, batch: sentBatch(batch) });
      return new Promise<void>((resolve, reject) => this.#applies.set(apply, { resolve, reject }));
    });
    this.#appliers.set(id, applier);
    try {
      await applier.done;
    } finally {
      this.#appliers.delete(id);
    }
  }
}

function sentBatch(batch: Batch): SentBatch {
  const { firstLsn, lastLsn } = batch;
  return { bytes: batch.copy(), firstLsn, lastLsn };
}

/** Events and lines that the other thread has not taken yet: it may be blocked for long. */
let untaken = 0;
const MAX_UNTAKEN = 1024;

function tellNews(news: Extract<FromThread, { event: string } | { line: string }>): void {
  const always = 'event' in news && (news.event === 'role' || news.event === 'failed');
  if (untaken >= MAX_UNTAKEN && !always) return;
  untaken += 1;
  tell(news);
}

function tell(message: FromThread): void {
  const batch = 'batch' in message ? message.batch : undefined;
  const value = 'value' in message ? (message.value as Partial<SentBatch> | undefined) : undefined;
  const bytes = batch?.bytes ?? value?.bytes;
  parentPort?.postMessage(message, bytes instanceof Uint8Array ? [bytes.buffer] : []);
}

function telling(): Logger {
  const line =
    (level: LogLevel) =>
    (fields: object, text: string): void =>
      tellNews({ line: level, fields, text });
  return { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') };
}

async function run({ options, logs, tellsWaiting }: ThreadData): Promise<void> {
  let log: Log;
  try {
    log = await Log.open({
      ...(options as unknown as OpenOptions),
      ...(logs ? { logger: telling() } : {}),
      ...(tellsWaiting ? { onWaiting: (error) => tell({ waiting: sentError(error) }) } : {}),
    });
  } catch (error) {
    tell({ failed: sentError(error) });
    parentPort?.close();
    return;
  }
  for (const event of eventNames) {
    log.on(event, (...args) => tellNews({ event, args: sentArguments(args) }));
  }
  const thread = new LogThread(log);
  parentPort?.on('message', (message: ToThread) => thread.heard(message));
  tell({ opened: log.handle });
}

await run(workerData as ThreadData);
