import { parseArgs } from 'node:util';

export const modes = ['sync', 'async', 'planted', 'automatic'] as const;
export type Mode = (typeof modes)[number];

export interface Options {
  readonly seed: number;
  readonly modes: readonly Mode[];
  /** How many places the catalogue has at most. */
  readonly rows: number;
  /** Where files go; removed at the end. Default: .tmp-demo in the repository. */
  readonly dir?: string;
  readonly help: boolean;
}

export const usageText = `Usage: npm run demo -- [options]

  --seed N      moves the moments at which processes are killed (default 1)
  --mode MODE   only this one: sync, async, planted or automatic (may be given several times;
                default all)
  --rows N      a smaller catalogue (default: all of it, 135,233 places)
  --dir DIR     where files go meanwhile (default .tmp-demo)
  --help        this text

Exit code 1: something acknowledged was lost in sync mode or in the automatic run, or
nothing was found lost in the planted run.
`;

export function parseOptions(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seed: { type: 'string', default: '1' },
      mode: { type: 'string', multiple: true, default: [...modes] },
      rows: { type: 'string', default: '1000000' },
      dir: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  return {
    seed: wholeNumber(values.seed, '--seed', 0),
    rows: wholeNumber(values.rows, '--rows', 1000),
    modes: values.mode.map(modeOf),
    help: values.help,
    ...(values.dir === undefined ? {} : { dir: values.dir }),
  };
}

function modeOf(text: string): Mode {
  const mode = modes.find((known) => known === text);
  if (mode === undefined) {
    throw new RangeError(`--mode takes ${modes.join(', ')}; got '${text}'`);
  }
  return mode;
}

function wholeNumber(text: string, option: string, least: number): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(number) || number < least) {
    throw new RangeError(`${option} takes a whole number from ${least} on; got '${text}'`);
  }
  return number;
}
