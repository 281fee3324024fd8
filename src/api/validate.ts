/** Checks of arguments. A wrong one is a TypeError or RangeError that says what to pass. */

/** What was passed, in a few words for an error message. Never the content of a caller's data. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  switch (typeof value) {
    case 'number':
    case 'boolean':
      return String(value);
    case 'bigint':
      return `${value}n (a bigint)`;
    case 'string':
      return value.length <= 60 ? JSON.stringify(value) : 'a long string';
    case 'function':
      return 'a function';
    case 'symbol':
      return 'a symbol';
    default:
      return Array.isArray(value) ? 'an array' : `an object (${className(value as object)})`;
  }
}

function className(value: object): string {
  const name = (value.constructor as { name?: unknown } | undefined)?.name;
  return typeof name === 'string' && name !== '' ? name : 'Object';
}

/** A safe integer in [low, high], or an error that names the argument. */
export function integer(value: unknown, what: string, low: number, high: number): number {
  if (typeof value !== 'number') {
    throw new TypeError(`${what} takes a whole number, got ${shown(value)}`);
  }
  if (!Number.isSafeInteger(value) || value < low || value > high) {
    const range = high >= Number.MAX_SAFE_INTEGER ? `${low} or more` : `${low} to ${high}`;
    throw new RangeError(`${what} takes a whole number, ${range}; got ${value}`);
  }
  return value;
}

/** A finite number in [low, high]. */
export function finite(value: unknown, what: string, low: number, high: number): number {
  if (typeof value !== 'number') {
    throw new TypeError(`${what} takes a number, got ${shown(value)}`);
  }
  if (!(value >= low && value <= high)) {
    throw new RangeError(`${what} takes a number from ${low} to ${high}, got ${value}`);
  }
  return value;
}

export function boolean(value: unknown, what: string): boolean {
  if (typeof value !== 'boolean') {
    throw new TypeError(`${what} takes true or false, got ${shown(value)}`);
  }
  return value;
}

export function string(value: unknown, what: string): string {
  if (typeof value !== 'string') throw new TypeError(`${what} takes a string, got ${shown(value)}`);
  return value;
}

export function oneOf<T extends string>(value: unknown, what: string, among: readonly T[]): T {
  if (!(among as readonly unknown[]).includes(value)) {
    const list = among.map((name) => `'${name}'`).join(', ');
    const message = `${what} takes one of ${list}; got ${shown(value)}`;
    throw typeof value === 'string' ? new RangeError(message) : new TypeError(message);
  }
  return value as T;
}

// biome-ignore lint/complexity/noBannedTypes: any callable will do here; the caller knows its type
export function callback(value: unknown, what: string): asserts value is Function {
  if (typeof value !== 'function') {
    throw new TypeError(`${what} takes a function, got ${shown(value)}`);
  }
}

/** An AbortSignal, or undefined. Recognised by shape, so that one of another realm passes too. */
export function abortSignal(value: unknown, what: string): AbortSignal | undefined {
  if (value === undefined) return undefined;
  const candidate = value as Partial<AbortSignal> | null;
  if (
    typeof candidate !== 'object' ||
    candidate === null ||
    typeof candidate.aborted !== 'boolean' ||
    typeof candidate.addEventListener !== 'function'
  ) {
    throw new TypeError(`${what} takes an AbortSignal, got ${shown(value)}`);
  }
  return value as AbortSignal;
}

/** A plain options object whose every key is known; undefined stands for an empty one. */
export function optionsObject(
  value: unknown,
  what: string,
  known: readonly string[],
): Record<string, unknown> {
  if (value === undefined) return {};
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new TypeError(`${what} takes an options object, got ${shown(value)}`);
  }
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) throw unknownOption(key, what, known);
  }
  return value as Record<string, unknown>;
}

function unknownOption(key: string, what: string, known: readonly string[]): TypeError {
  const near = nearest(key, known);
  const hint =
    near === undefined
      ? `it takes ${known.length === 0 ? 'none' : known.join(', ')}`
      : `did you mean ${near}?`;
  return new TypeError(`${what} knows no option ${JSON.stringify(key)}; ${hint}`);
}

/** The candidate that a typing mistake of `word` most likely stands for, if any is near enough. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(swap, (previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
    previous = row;
  }
  return previous[b.length] ?? 0;
}
