/** What the demo shows: one line an event as it happens, and a table at the end. */
import { styleText } from 'node:util';
import type { Mode } from './options.js';
import type { Outcome } from './outcome.js';

type Style = Parameters<typeof styleText>[0];

const colourful = process.stdout.isTTY === true && !process.env.NO_COLOR;

export function styled(style: Style, text: string): string {
  return colourful ? styleText(style, text) : text;
}

export function print(line = ''): void {
  process.stdout.write(`${line}\n`);
}

const titles: Record<Mode, string> = {
  sync: 'sync: acknowledged means flushed on the primary and on the standby',
  async: 'async: acknowledged means flushed on the primary; the standby follows',
  automatic: 'automatic: as sync, and a referee decides who is the master: nobody promotes',
  planted:
    'planted: sync again, but the standby acknowledges before it flushes, and loses its tail',
};

/** Prints what happens in one run, with the time since its start. */
export class Story {
  readonly #start = performance.now();

  constructor(mode: Mode) {
    print();
    print(styled('bold', titles[mode]));
  }

  tell(text: string, style: Style = 'reset'): void {
    const seconds = ((performance.now() - this.#start) / 1000).toFixed(1);
    print(`  ${styled('dim', `${seconds.padStart(5)} s`)}  ${styled(style, text)}`);
  }
}

type Cell = (outcome: Outcome) => string;

const lines: readonly (readonly [string, Cell])[] = [
  ['acknowledged before the primary died', ({ acknowledged }) => count(acknowledged)],
  ['lost', ({ lost }) => count(lost)],
  ['loss window', ({ lossWindowMs }) => (lossWindowMs === null ? '-' : millis(lossWindowMs))],
  ['acknowledged in all', ({ acknowledgedInAll }) => count(acknowledgedInAll)],
  ['records that the restarted standby lacked', ({ behind }) => count(behind)],
  ['time to catch up', ({ catchUpMs }) => millis(catchUpMs)],
  ['time to promote', ({ promoteMs }) => millis(promoteMs)],
  ['primary killed to next acknowledgement', ({ outageMs }) => millis(outageMs)],
  ['digest by what was acknowledged', ({ expectedDigest }) => expectedDigest.slice(0, 16)],
  ['digest of the promoted catalogue', ({ digest }) => digest.slice(0, 16)],
];

const NAME_WIDTH = 43;
const CELL_WIDTH = 18;

export function printTable(outcomes: readonly Outcome[]): void {
  const row = (name: string, cells: readonly string[]): string =>
    `${name.padEnd(NAME_WIDTH)}${cells.map((cell) => cell.padStart(CELL_WIDTH)).join('')}`;
  print();
  print(
    styled(
      'bold',
      row(
        '',
        outcomes.map(({ mode }) => mode),
      ),
    ),
  );
  for (const [name, cell] of lines) print(row(name, outcomes.map(cell)));
  print();
}

const numbers = new Intl.NumberFormat('en');

export function count(value: number): string {
  return numbers.format(value);
}

export function millis(value: number): string {
  return value < 10 ? `${value.toFixed(1)} ms` : `${count(Math.round(value))} ms`;
}
