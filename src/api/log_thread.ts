/**
 * What runs in the thread of a log that was opened with `replicationThread: 'worker'`: the whole
 * `Log`, with its sockets, heartbeats, policies and fences, and answers for the thread that it was
 * opened for (`ThreadedLog`). Started by that (thread_client.ts), and imported by nobody.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { StatusPage } from '../observe/status_page.js';
import type { Referee } from '../referee/referee.js';
import { refereeBy } from '../referee/spec.js';
import { processEnvironment } from '../transport/environment.js';
import { startApplier } from './applier.js';
import { sentError } from './attached_calls.js';
import { AttendedReferee } from './attended_referee.js';
import type { Batch } from './batch.js';
import type { LogCore } from './core.js';
import { eventNames } from './events.js';
import { Log } from './log.js';
import type { Logger, LogLevel } from './logger.js';
import { openLog } from './open.js';
import { type BatchReader, beginReading } from './reader.js';
import { RemoteApply, SentReading } from './remote_apply.js';
import { nextBatches, sentBatches } from './sent_batches.js';
import type { LogStatus } from './status.js';
import type { SwitchoverOptions } from './switchover.js';
import type {
  FromThread,
  SentBatches,
  SentRequest,
  ThreadCall,
  ThreadData,
  ThreadReferee,
  ToThread,
} from './thread_calls.js';
import { AskedRebuilds } from './thread_rebuild.js';
import { sinceTick } from './tick.js';

if (parentPort === null) throw new Error('log_thread.js is started by Log.open');
const port = parentPort;

function tell(message: FromThread, batches?: SentBatches): void {
  port.postMessage(message, batches === undefined ? [] : [batches.bytes.buffer]);
}

/** A reading of the other thread: what it begins with is told to who asks for the first batch. */
interface Reading {
  reader?: BatchReader;
  error?: unknown;
  /** The call that waits for the next batch. */
  asked: number;
}

/** Answers calls as they come; each can be cancelled. */
class LogThread {
  readonly #core: LogCore;
  readonly #log: Log;
  readonly #calls = new Map<number, AbortController>();
  readonly #readings = new Map<number, Reading>();
  readonly #applies = new Map<number, { readonly remote: RemoteApply; reading: SentReading }>();
  /** Of before it was open: nobody has read then. */
  readonly #cutsBefore: number;
  readonly #pages = new Map<number, StatusPage>();
  #ending: Promise<void> | undefined;

  constructor(core: LogCore, log: Log) {
    this.#core = core;
    this.#log = log;
    this.#cutsBefore = core.cuts.count;
    core.onCut = (lsn) => {
      tell({ cut: lsn });
      for (const { reading } of this.#applies.values()) reading.cutAt(lsn);
    };
  }

  heard(message: ToThread): void {
    if ('ask' in message) void this.#answer(message.id, message.ask);
    else if ('cancel' in message) this.#calls.get(message.cancel)?.abort();
    else if ('taken' in message) news.taken();
    else if ('rebuilt' in message) rebuilds.answered(message.rebuilt, message.error);
    else if ('read' in message) this.#read(message.read, message.request);
    else if ('letGo' in message) {
      void this.#readings.get(message.letGo)?.reader?.return();
      this.#readings.delete(message.letGo);
    } else if ('stop' in message) this.#applies.get(message.stop)?.remote.stop();
    else this.#applies.get(message.applied)?.remote.heard(message.lsn, message.ended);
  }

  async #answer(id: number, ask: ThreadCall): Promise<void> {
    const controller = new AbortController();
    this.#calls.set(id, controller);
    try {
      if (ask.call === 'next') {
        const batches = await this.#next(id, ask.reading);
        tell({ id, value: batches }, batches);
      } else tell({ id, value: await this.#run(id, ask, controller.signal) });
    } catch (error) {
      tell({ id, error: sentError(error) });
    } finally {
      this.#calls.delete(id);
    }
  }

  async #run(
    id: number,
    ask: Exclude<ThreadCall, { call: 'next' }>,
    signal: AbortSignal,
  ): Promise<unknown> {
    const log = this.#log;
    switch (ask.call) {
      case 'commit':
        if (this.#core.driver.commits !== undefined) {
          this.#core.appender.requireSameLife(ask.since);
          this.#core.unheard.forget();
        }
        return log.commit(undefined, {
          ...(ask.level === undefined ? {} : { level: ask.level }),
          signal,
        });
      case 'echo':
        return undefined;
      case 'status':
        return log.status();
      case 'trim':
        return log.trim(ask.lsn);
      case 'createSlot':
        return log.createSlot(ask.name);
      case 'dropSlot':
        return log.dropSlot(ask.name);
      case 'waitFor':
        return log.waitFor(ask.lsn, { signal });
      case 'scrub':
        return log.scrub({ signal });
      case 'connected':
        return log.connected({ signal });
      case 'promote':
        return log.promote({ ...ask.options, signal });
      case 'rejoin':
        return log.rejoin(ask.options);
      case 'pauseFailover':
        return log.pauseFailover(ask.reason, { signal });
      case 'resumeFailover':
        return log.resumeFailover({ signal });
      case 'forgetReferee':
        return this.#core.options.referee?.forget();
      case 'switchover':
        return log.switchover({ ...(ask.options as SwitchoverOptions), signal });
      case 'demote':
        return log.demote({ ...ask.options, signal });
      case 'setPolicy':
        return log.setPolicy({ ...ask.options, signal });
      case 'reloadTls':
        return log.reloadTls(ask.tls as Parameters<Log['reloadTls']>[0]);
      case 'serveStatus':
        return this.#serveStatus(id, ask.options);
      case 'closePage':
        return this.#pages.get(ask.page)?.close();
      case 'apply':
        return this.#apply(id, ask.request);
      case 'close':
        this.#ending ??= this.#end();
        return log.close(ask.options);
    }
  }

  #read(number: number, request: SentRequest): void {
    const reading: Reading = { asked: 0 };
    this.#readings.set(number, reading);
    try {
      const onWaiting = (): void => tell({ idle: reading.asked });
      reading.reader = beginReading(this.#core, { ...request, signal: undefined }, onWaiting);
    } catch (error) {
      reading.error = error;
    }
  }

  /** undefined: the reading has ended. */
  async #next(id: number, number: number): Promise<SentBatches | undefined> {
    const reading = this.#readings.get(number);
    if (reading?.error !== undefined) throw reading.error;
    if (reading?.reader === undefined) return undefined;
    reading.asked = id;
    const batches = await nextBatches(reading.reader);
    return batches.length === 0 ? undefined : this.#toSend(batches, reading.reader);
  }

  #toSend(batches: readonly Batch[], reader: BatchReader): SentBatches {
    return sentBatches(batches, reader.cutsSeen - this.#cutsBefore);
  }

  async #apply(id: number, request: SentRequest): Promise<void> {
    const core = this.#core;
    core.requireOpen();
    const reader = beginReading(core, { ...request, signal: undefined }, () => tell({ idle: id }));
    const remote = new RemoteApply();
    const reading = new SentReading(reader, remote, (read) => {
      const batches = this.#toSend(read, reader);
      tell({ apply: id, batches }, batches);
    });
    const from = { ...request, signal: undefined };
    const applier = startApplier(core, reading, (batch) => remote.until(batch), from);
    remote.onStop = () => void applier.stop();
    this.#applies.set(id, { remote, reading });
    try {
      await applier.done;
    } finally {
      this.#applies.delete(id);
    }
  }

  async #serveStatus(id: number, options: object): Promise<Omit<StatusPage, 'close'>> {
    const page = await this.#log.serveStatus(options);
    this.#pages.set(id, page);
    const { url, host, port } = page;
    return { url, host, port };
  }

  /** The thread ends with its log. */
  async #end(): Promise<void> {
    const error = await this.#log.close().then(
      () => undefined,
      (reason: unknown) => sentError(reason),
    );
    tell({ closed: this.#lastStatus(), ...(error === undefined ? {} : { error }) });
    this.#core.options.referee?.close();
    port.close();
  }

  /** Undefined where there was no memory for it. */
  #lastStatus(): LogStatus | undefined {
    try {
      return this.#log.status();
    } catch {
      return undefined;
    }
  }
}

/** Events and lines that the other thread has not taken yet: it may be blocked for long. */
class News {
  readonly #most = 1024;
  #untaken = 0;
  #untold = 0;
  logs = false;

  tell(message: Extract<FromThread, { event: string } | { line: string }>): void {
    const always = 'event' in message && (message.event === 'role' || message.event === 'failed');
    if (this.#untaken >= this.#most && !always) {
      this.#untold += 1;
      return;
    }
    this.#untaken += 1;
    tell(message);
  }

  taken(): void {
    this.#untaken -= 1;
    if (this.#untold === 0 || this.#untaken > 0) return;
    const count = this.#untold;
    this.#untold = 0;
    const text = `${count} events and lines were not told: the application's thread was blocked`;
    if (this.logs) this.tell({ line: 'warn', fields: { event: 'untold', count }, text });
  }

  logger(): Logger {
    const line =
      (level: LogLevel) =>
      (fields: object, text: string): void =>
        this.tell({ line: level, fields, text });
    return { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') };
  }
}

const news = new News();
const rebuilds = new AskedRebuilds((id, about) => {
  // Behind the end of the applier, which another one is to follow there.
  processEnvironment.setImmediate(() => tell({ rebuild: id, about }));
});

/** This thread's own, which lives as long as its log. */
function attended({ spec, tick, applicationTimeout }: ThreadReferee): Referee {
  return new AttendedReferee(refereeBy(spec), () => sinceTick(tick), applicationTimeout);
}

async function open(data: ThreadData): Promise<void> {
  const { options, logs, tellsWaiting } = data;
  const referee = data.referee && attended(data.referee);
  const opening = new AbortController();
  let thread: LogThread | undefined;
  port.on('message', (message: ToThread) => {
    if (thread !== undefined) thread.heard(message);
    else if ('cancel' in message) opening.abort();
    else if ('taken' in message) news.taken();
    else if ('rebuilt' in message) rebuilds.answered(message.rebuilt, message.error);
  });
  news.logs = logs;
  try {
    const core = await openLog({
      ...options,
      signal: opening.signal,
      ...(logs ? { logger: news.logger() } : {}),
      ...(tellsWaiting
        ? { onWaiting: (error: unknown) => tell({ waiting: sentError(error) }) }
        : {}),
      ...(data.rebuilds ? { onRebuild: rebuilds.ask } : {}),
      ...(referee === undefined ? {} : { referee }),
    });
    // Its event is told there too, and before it is noted that it was.
    core.options = { ...core.options, onRebuild: rebuilds.ask };
    const log = Log.over(core);
    for (const event of eventNames) {
      if (event !== 'failed' && event !== 'rebuild')
        log.on(event, (...args) => news.tell({ event, args }));
    }
    log.on('failed', (error) => news.tell({ event: 'failed', args: [sentError(error)] }));
    thread = new LogThread(core, log);
    tell({ opened: { handle: log.handle, nodeId: core.info.nodeId } });
  } catch (error) {
    tell({ failed: sentError(error), cancelled: error === opening.signal.reason });
    referee?.close();
    port.close();
  }
}

await open(workerData as ThreadData);
