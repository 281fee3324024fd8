import { finished } from 'node:stream/promises';
import { ReadableStream, WritableStream } from 'node:stream/web';
import type { LogRecord } from './batch.js';
import type { ReadRequest } from './read_options.js';
import { type ReadStreamOptions, readStreamKeys, sourcePlan } from './read_stream.js';
import type { Reading } from './record_source.js';
import * as check from './validate.js';
import {
  LogWriteStream,
  type RecordChunk,
  type RecordSink,
  type WriteStreamOptions,
  writeKeys,
  writePlan,
} from './write_stream.js';

/** Options of `readable`. What such a stream hands out belongs to the receiver. */
export interface ReadableOptions extends Omit<ReadStreamOptions, 'borrow'> {}

/** Options of `writable`. */
export interface WritableOptions extends WriteStreamOptions {
  /** Told what the event 'committed' tells. */
  readonly onCommitted?: (lsn: number) => void;
}

/** A reading as a ReadableStream: it pulls while there is room, and lets go when cancelled. */
export function readableStream(
  options: unknown,
  begin: (request: ReadRequest) => Reading,
): ReadableStream<LogRecord | Buffer> {
  // Borrowed records could not wait in its queue.
  const keys = readStreamKeys.filter((key) => key !== 'borrow');
  const raw = check.optionsObject(options, 'readable', keys);
  const { source, mode, highWaterMark, signal } = sourcePlan(raw, begin);
  let onAbort: (() => void) | undefined;
  const end = (): void => {
    if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort);
    source.close();
  };
  const take = (wanted: number) => (mode === 'object' ? source.take() : source.takeBytes(wanted));
  return new ReadableStream<LogRecord | Buffer>(
    {
      start(controller) {
        onAbort = () => {
          controller.error(signal?.reason);
          end();
        };
        if (signal?.aborted === true) onAbort();
        else signal?.addEventListener('abort', onAbort, { once: true });
      },
      async pull(controller) {
        let chunk = take(controller.desiredSize ?? 0);
        while (chunk === undefined) {
          const more = await source.pull().catch((error) => {
            end();
            throw error;
          });
          if (source.closed) return;
          if (!more) {
            end();
            controller.close();
            return;
          }
          chunk = take(controller.desiredSize ?? 0);
        }
        controller.enqueue(chunk);
      },
      cancel: end,
    },
    { highWaterMark, size: (chunk) => (Buffer.isBuffer(chunk) ? chunk.length : 1) },
  );
}

/**
 * A write stream as a WritableStream. Its queue is that of the stream behind it: a write is done
 * when that has room again; under `commit: 'each'`, when the record is committed. The signal's
 * reason is passed on as it is.
 */
export function writableStream(sink: RecordSink, options: unknown): WritableStream<RecordChunk> {
  const raw = check.optionsObject(options, 'writable', [...writeKeys, 'onCommitted']);
  const plan = writePlan(sink, raw);
  const { onCommitted } = raw;
  if (onCommitted !== undefined) check.callback(onCommitted, 'onCommitted');
  const stream = new LogWriteStream(sink, plan);
  if (onCommitted !== undefined) stream.on('committed', (lsn) => onCommitted(lsn));
  const { signal, commit } = plan;
  const asSeen = (error: unknown): unknown => {
    const first = stream.errored ?? error;
    return signal?.aborted === true && isAbort(first) ? signal.reason : first;
  };
  return new WritableStream<RecordChunk>({
    start: (controller) => {
      stream.on('error', (error) => controller.error(asSeen(error)));
      // `abort` below is not called before a write that is under way has ended.
      const { signal: aborted } = controller as unknown as { readonly signal: AbortSignal };
      aborted.addEventListener('abort', () => stream.destroy(), { once: true });
    },
    write: (chunk) => written(stream, chunk, commit === 'each').catch(rethrow(asSeen)),
    close: () => finished(stream.end()).catch(rethrow(asSeen)),
    abort: () => {
      stream.destroy();
    },
  });
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === 'ABORT_ERR';
}

function rethrow(asSeen: (error: unknown) => unknown): (error: unknown) => never {
  return (error) => {
    throw asSeen(error);
  };
}

function written(stream: LogWriteStream, chunk: RecordChunk, committed: boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error | null): void => {
      stream.off('drain', settle);
      stream.off('close', onClose);
      if (error == null) resolve();
      else reject(error);
    };
    const onClose = (): void => settle(stream.errored ?? new Error('the stream was destroyed'));
    stream.on('close', onClose);
    try {
      if (committed) stream.write(chunk, settle);
      else if (stream.write(chunk)) settle();
      else stream.on('drain', settle);
    } catch (error) {
      stream.destroy(error as Error);
      settle(error as Error);
    }
  });
}
