import { createWriteStream } from 'node:fs';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';

const BLOCK_BYTES = 256 * 1024;

/**
 * Gathers small pieces into blocks for a stream, in flat memory: when `full` says so, await
 * `flush`. A broken pipe makes `flush` reject with EPIPE, which ends the command quietly.
 */
export class Output {
  readonly #stream: Writable;
  readonly #owned: boolean;
  #block = Buffer.allocUnsafe(BLOCK_BYTES);
  #used = 0;
  #queued = 0;
  #error: Error | undefined;

  constructor(stream: Writable, owned: boolean) {
    this.#stream = stream;
    this.#owned = owned;
    stream.on('error', (error) => {
      this.#error ??= error;
    });
  }

  /** `-` is the standard output. A file is written anew, or added to. */
  static open(path: string, mode: 'new' | 'append' = 'new'): Output {
    if (path === '-') return new Output(process.stdout, false);
    return new Output(createWriteStream(path, { flags: mode === 'new' ? 'w' : 'a' }), true);
  }

  get full(): boolean {
    return this.#queued >= BLOCK_BYTES;
  }

  write(bytes: Uint8Array): void {
    if (bytes.length > BLOCK_BYTES - this.#used) {
      this.#push();
      if (bytes.length > BLOCK_BYTES / 4) {
        // Copied: the caller may use the bytes again at once.
        this.#send(Buffer.from(bytes));
        return;
      }
    }
    this.#block.set(bytes, this.#used);
    this.#used += bytes.length;
  }

  writeText(text: string): void {
    const length = Buffer.byteLength(text);
    if (length > BLOCK_BYTES - this.#used) this.#push();
    if (length > BLOCK_BYTES) this.#send(Buffer.from(text));
    else this.#used += this.#block.write(text, this.#used);
  }

  /** Resolves when the stream has taken everything. */
  async flush(): Promise<void> {
    this.#push();
    if (this.#error === undefined && this.#queued > 0) {
      // Called after all that was written before, or with the error that ended the stream: a file
      // tells it here before its 'error' event.
      await new Promise<void>((resolve) => {
        this.#stream.write('', (error) => {
          this.#error ??= error ?? undefined;
          resolve();
        });
      });
    }
    if (this.#error !== undefined) throw this.#error;
    this.#queued = 0;
  }

  async close(): Promise<void> {
    await this.flush();
    if (!this.#owned) return;
    this.#stream.end();
    await finished(this.#stream);
  }

  /** Without waiting for what is not written. */
  destroy(): void {
    if (this.#owned) this.#stream.destroy();
  }

  #push(): void {
    if (this.#used === 0) return;
    const filled = this.#block.subarray(0, this.#used);
    this.#used = 0;
    // A block for each small piece would be collected at each commit: it is used again.
    if (filled.length <= BLOCK_BYTES / 4) {
      this.#send(Buffer.from(filled));
      return;
    }
    this.#block = Buffer.allocUnsafe(BLOCK_BYTES);
    this.#send(filled);
  }

  #send(bytes: Buffer): void {
    this.#queued += bytes.length;
    if (this.#error === undefined) this.#stream.write(bytes);
  }
}
