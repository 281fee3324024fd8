/** Whole lines out of chunks of text; what follows the last line's end waits for more. */
export class LineSplitter {
  #rest: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): string[] {
    const data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const end = data.lastIndexOf(0x0a);
    this.#rest = data.subarray(end + 1);
    return end < 0 ? [] : data.toString('utf8', 0, end).split('\n');
  }
}
