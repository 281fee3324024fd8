import { parseArgs } from 'node:util';

export interface Options {
  readonly quick: boolean;
  readonly peers: boolean;
  readonly list: boolean;
  readonly help: boolean;
  readonly json?: string;
  /** Length and number of windows; 3 s and 5 where they are to be compared. */
  readonly seconds: number;
  readonly runs: number;
  /** Empty: all. */
  readonly only: readonly string[];
}

export const usageText = `Usage: npm run bench -- [options]

  --quick             small parameters, in seconds: all runs and is checked, times mean nothing
  --only NAME[,NAME]  only these rows; the start of a name stands for all rows that begin so
  --peers             lmdb and better-sqlite3 too (installed into bench/peer_packages on first use)
  --json FILE         write the rows, the floors and the machine to FILE
  --seconds N         length of a window (default 3), for a first look
  --runs N            number of windows (default 5)
  --list              print the names of the rows
  --help              this text

Files go to .tmp-bench, or to $WALMIRROR_BENCH_DIR: it should be on the disk that is to be measured.
Example: npm run bench -- --only commit-local,bulk-local-1k --json result.json
`;

export function parseOptions(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: 'boolean', default: false },
      peers: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
      only: { type: 'string', multiple: true, default: [] },
      json: { type: 'string' },
      seconds: { type: 'string', default: '3' },
      runs: { type: 'string', default: '5' },
    },
  });
  const only = values.only.flatMap((names) => names.split(',')).filter((name) => name !== '');
  const { json, quick, peers, list, help } = values;
  const seconds = positive(values.seconds, '--seconds');
  const runs = Math.ceil(positive(values.runs, '--runs'));
  const file = json === undefined ? {} : { json };
  return { quick, peers, list, help, only, seconds, runs, ...file };
}

function positive(text: string, option: string): number {
  const number = Number(text);
  if (text === '' || !Number.isFinite(number) || number <= 0) {
    throw new RangeError(`${option} takes a number above 0; got '${text}'`);
  }
  return number;
}

/** Whether a row is asked for by its name, or by the start of it up to a dash. */
export function isWanted(name: string, only: readonly string[]): boolean {
  return only.length === 0 || only.some((part) => name === part || name.startsWith(`${part}-`));
}
