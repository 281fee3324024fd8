import { WalError } from '../api/errors.js';
import type { LogStatus } from '../api/status.js';
import { History } from './screen/history.js';
import { paint } from './screen/paint.js';
import { statusLine, statusScreen } from './screen/status_screen.js';

/** Where the status comes from, where it goes, and the clocks: a test has its own. */
export interface WatchIo {
  /** undefined: no process has the log open. */
  ask(): Promise<LogStatus | undefined>;
  /** Rejects when nobody reads any more. */
  write(text: string): Promise<void>;
  /** Monotone milliseconds. */
  now(): number;
  date(): Date;
  /** Ends early when the signal fires. */
  sleep(milliseconds: number, signal: AbortSignal): Promise<void>;
  readonly isTerminal: boolean;
  readonly colour: boolean;
  columns(): number;
  rows(): number;
}

const HOME = '\u001b[H';
const CLEAR = '\u001b[2J';
const TO_END_OF_LINE = '\u001b[K';
const TO_END_OF_SCREEN = '\u001b[J';
const HIDE_CURSOR = '\u001b[?25l';
const SHOW_CURSOR = '\u001b[?25h';

/**
 * Shows the status again and again until the signal fires: on a terminal in place, elsewhere as a
 * line each time. A log that is not open, or does not answer, is looked for again.
 */
export async function watchStatus(
  io: WatchIo,
  intervalMs: number,
  signal: AbortSignal,
): Promise<void> {
  const history = new History();
  if (io.isTerminal) await io.write(`${HIDE_CURSOR}${CLEAR}`);
  try {
    while (!signal.aborted) {
      const trouble = await look(io, history);
      if (signal.aborted) break;
      await io.write(io.isTerminal ? frame(io, history, trouble) : line(io, history, trouble));
      await io.sleep(intervalMs, signal);
    }
  } finally {
    if (io.isTerminal) await io.write(`${SHOW_CURSOR}`);
  }
}

/** Returns why there is no newer status; '' if there is. */
async function look(io: WatchIo, history: History): Promise<string> {
  try {
    const status = await io.ask();
    if (status === undefined) return 'no process has the log open';
    history.note(status, io.now());
    return '';
  } catch (error) {
    if (error instanceof WalError) return error.message;
    throw error;
  }
}

function line(io: WatchIo, history: History, trouble: string): string {
  const text = trouble === '' ? statusLine(history) : trouble;
  return `${io.date().toISOString()} ${paint([text], Number.POSITIVE_INFINITY, false)}\n`;
}

function frame(io: WatchIo, history: History, trouble: string): string {
  const columns = Math.max(20, io.columns());
  const screen = history.last === undefined ? [] : statusScreen(history, columns);
  const now = io.date().toISOString().slice(0, 19).replace('T', ' ');
  const lines = [
    ...screen,
    trouble === ''
      ? ([[`  ${now} UTC, Ctrl-C ends`, 'dim']] as const)
      : ([[trouble, 'red']] as const),
  ];
  // One less than there are: the last line never scrolls. What is cut is the end of the list.
  const shown =
    lines.length < io.rows() ? lines : [...lines.slice(0, io.rows() - 2), lines.at(-1)!];
  const text = shown.map((each) => `${paint(each, columns, io.colour)}${TO_END_OF_LINE}\n`);
  return `${HOME}${text.join('')}${TO_END_OF_SCREEN}`;
}
