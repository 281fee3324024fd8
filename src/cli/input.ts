import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';

const CHUNK_BYTES = 1024 * 1024;

/** `-` is the standard input. */
export function openInput(path: string): Readable {
  return path === '-' ? process.stdin : createReadStream(path, { highWaterMark: CHUNK_BYTES });
}

/** The chunks of a stream; ends without an error when the signal fires. */
export async function* chunks(input: Readable, signal: AbortSignal): AsyncGenerator<Buffer> {
  const stop = (): void => {
    input.destroy();
  };
  if (signal.aborted) stop();
  signal.addEventListener('abort', stop, { once: true });
  try {
    for await (const chunk of input) yield chunk as Buffer;
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    signal.removeEventListener('abort', stop);
    input.destroy();
  }
}
