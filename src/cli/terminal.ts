/** What a person reads: notices and progress on stderr. Results go to stdout, through `Output`. */

const PROGRESS_MS = 500;

function coloured(): boolean {
  const { NO_COLOR } = process.env;
  return process.stderr.isTTY === true && (NO_COLOR === undefined || NO_COLOR === '');
}

export function red(text: string): string {
  return coloured() ? `\u001b[31m${text}\u001b[39m` : text;
}

/** One line on stderr, on a line of its own also while progress is shown. */
export function notice(text: string): void {
  clearProgress();
  process.stderr.write(`walmirror: ${text}\n`);
}

let shown = false;

function clearProgress(): void {
  if (shown) process.stderr.write('\r\u001b[K');
  shown = false;
}

/** Shows `describe()` now and then, where stderr is a terminal. Returns how to stop. */
export function showProgress(describe: () => string): () => void {
  if (process.stderr.isTTY !== true) return () => {};
  const timer = setInterval(() => {
    clearProgress();
    process.stderr.write(describe());
    shown = true;
  }, PROGRESS_MS).unref();
  return () => {
    clearInterval(timer);
    clearProgress();
  };
}

export function count(n: number): string {
  return n.toLocaleString('en-US');
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'] as const;

export function size(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(value < 10 ? 2 : 1)} ${UNITS[unit]}`;
}

export function plural(n: number, noun: string, nouns = `${noun}s`): string {
  return `${count(n)} ${n === 1 ? noun : nouns}`;
}
