import * as check from './validate.js';

/** A line of the log of an application. pino, and what is like it, and `console` fit. */
export type LogLine = (fields: Readonly<Record<string, unknown>>, message: string) => void;

/**
 * Takes what happens to a log: `fields` for programs (`event`, `log`, `dir` and more), `message`
 * for people, in one line. Neither ever holds a byte of a record. What a logger throws is ignored.
 */
export interface Logger {
  debug: LogLine;
  info: LogLine;
  warn: LogLine;
  error: LogLine;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
const logLevels: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

/** Checks the `logger` option of `Log.open`. */
export function resolveLogger(value: unknown): Logger | undefined {
  if (value === undefined) return undefined;
  const given = value as Partial<Record<LogLevel, unknown>> | null;
  const isObject = given !== null && (typeof given === 'object' || typeof given === 'function');
  if (!isObject) throw new TypeError(`logger takes ${example}, got ${check.shown(value)}`);
  for (const level of logLevels) {
    if (typeof given[level] === 'function') continue;
    throw new TypeError(`logger takes ${example}; what was given has no function '${level}'`);
  }
  return value as Logger;
}

const example = 'an object with debug, info, warn and error, such as pino() or console';
