import { readFileSync } from 'node:fs';

/** Bytes of memory of this process. */
export interface Memory {
  /** Each page once, however often it is mapped: the log memory is mapped twice. */
  readonly proportionalBytes: number;
  readonly residentBytes: number;
}

export function readMemory(): Memory {
  const text = readFileSync('/proc/self/smaps_rollup', 'utf8');
  return { proportionalBytes: field(text, 'Pss'), residentBytes: field(text, 'Rss') };
}

function field(text: string, name: string): number {
  const kibibytes = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1];
  if (kibibytes === undefined) throw new Error(`smaps_rollup has no ${name}`);
  return Number(kibibytes) * 1024;
}

const EVERY_MS = 50;

/** Keeps the highest of what it sees. */
export class MemoryWatch {
  #timer: NodeJS.Timeout | undefined;
  #peak: Memory = { proportionalBytes: 0, residentBytes: 0 };

  start(): void {
    this.#peak = readMemory();
    this.#timer = setInterval(() => this.#look(), EVERY_MS);
  }

  stop(): Memory {
    clearInterval(this.#timer);
    this.#look();
    return this.#peak;
  }

  #look(): void {
    const now = readMemory();
    this.#peak = {
      proportionalBytes: Math.max(this.#peak.proportionalBytes, now.proportionalBytes),
      residentBytes: Math.max(this.#peak.residentBytes, now.residentBytes),
    };
  }
}
