/** `npm run bench`: see bench/README.md. */
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { type FloorName, Floors } from './floors/floors.js';
import type { Benchmark, Context } from './harness/benchmark.js';
import { Directories } from './harness/directories.js';
import { describeMachine, type Machine } from './harness/machine.js';
import { isWanted, type Options, parseOptions, usageText } from './harness/options.js';
import { fullPlan, quickPlan } from './harness/plan.js';
import { floorLine, machineLine, rowHeader, rowLine } from './harness/report.js';
import type { Row } from './harness/row.js';
import { peerBenchmarks } from './peers/peers.js';
import { ownBenchmarks } from './rows/all.js';

/** bench/dist to the repository. */
const repository = fileURLToPath(new URL('../../', import.meta.url));

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function choose(options: Options): Benchmark[] {
  const all = [...ownBenchmarks(), ...(options.peers ? peerBenchmarks() : [])];
  const names = all.flatMap(({ rows }) => rows);
  const unknown = options.only.filter((part) => !names.some((name) => isWanted(name, [part])));
  if (unknown.length > 0) {
    throw new RangeError(`no row is called ${unknown.join(', ')}; try --list, or --peers with it`);
  }
  return all.filter(({ rows }) => rows.some((name) => isWanted(name, options.only)));
}

async function measure(chosen: readonly Benchmark[], context: Context): Promise<Row[]> {
  const rows: Row[] = [];
  for (const benchmark of chosen) {
    const measured = await benchmark.run(context);
    for (const row of measured) print(rowLine(row));
    rows.push(...measured);
  }
  checkRows(rows, chosen);
  return rows;
}

/** A row that is missing, or that measured nothing, is a defect of the benchmark. */
function checkRows(rows: readonly Row[], chosen: readonly Benchmark[]): void {
  for (const name of chosen.flatMap((benchmark) => benchmark.rows)) {
    const row = rows.find((candidate) => candidate.name === name);
    if (row === undefined) throw new Error(`${name} did not run`);
    if (!Number.isFinite(row.value) || row.value < 0) throw new Error(`${name} measured nothing`);
  }
}

/** What shows that the disk was the same at the end as at the beginning. */
async function drift(floors: Floors): Promise<Record<string, number>> {
  const again: Partial<Record<FloorName, number>> = {};
  for (const { name, value } of floors.measured) {
    if (name !== 'flush' && name !== 'sequential') continue;
    const last = await floors.measure(name);
    again[name] = last.value;
    const percent = ((last.value / value - 1) * 100).toFixed(0);
    print(`floor ${name} at the end: ${percent}% from the one above`);
  }
  return again;
}

async function run(options: Options): Promise<void> {
  const chosen = choose(options);
  const plan = options.quick ? quickPlan() : fullPlan(options);
  const directories = new Directories(repository);
  try {
    const machine = await describeMachine(await directories.make('machine'));
    print(machineLine(machine));
    print('\nfloors, measured now');
    const floors = new Floors(plan, directories, (floor) => print(floorLine(floor)));
    for (const name of ['flush', 'sequential', 'sequential-fresh'] as const) await floors.get(name);
    for (const name of ['tcp-throughput', 'tcp-round-trip', 'native-call'] as const) {
      await floors.get(name);
    }
    print(rowHeader());
    const rows = await measure(chosen, { plan, floors, directories });
    const floorsAtEnd = options.quick ? {} : await drift(floors);
    if (options.json !== undefined) {
      await writeJson(options.json, { machine, options, floors, floorsAtEnd, rows });
    }
    print(`\n${rows.length} rows, each result read back and compared`);
  } finally {
    await directories.removeAll();
  }
}

interface Result {
  readonly machine: Machine;
  readonly options: Options;
  readonly floors: Floors;
  readonly floorsAtEnd: Record<string, number>;
  readonly rows: readonly Row[];
}

async function writeJson(file: string, { machine, options, ...result }: Result): Promise<void> {
  const content = {
    schema: 1,
    quick: options.quick,
    seconds: options.seconds,
    windows: options.runs,
    node: machine.node,
    machine,
    durability: 'O_DIRECT or buffered as the floors say; what a row waited for is in the row',
    floors: result.floors.measured,
    floorsAtEnd: result.floorsAtEnd,
    rows: result.rows,
  };
  await writeFile(file, `${JSON.stringify(content, null, 2)}\n`);
}

async function main(): Promise<number> {
  let options: Options;
  try {
    options = parseOptions(process.argv.slice(2));
    if (options.help) {
      process.stdout.write(usageText);
      return 0;
    }
    if (options.list) {
      for (const benchmark of choose(options)) for (const name of benchmark.rows) print(name);
      return 0;
    }
    choose(options);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n\n${usageText}`);
    return 2;
  }
  await run(options);
  return 0;
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  // Children end with the parent, and its directories go.
  process.once(signal, () => process.exit(1));
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : error}\n`);
    process.exitCode = 1;
  },
);
