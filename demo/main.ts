/** `npm run demo`: a catalogue that survives its master. See demo/README.md. */
import { rmSync } from 'node:fs';
import { mkdir, mkdtemp, rm, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Options, parseOptions, usageText } from './options.js';
import { judge, type Outcome } from './outcome.js';
import { print, printTable, styled } from './report.js';
import { runScenario } from './scenario.js';

/** demo/dist/demo to the repository. */
const repository = fileURLToPath(new URL('../../../', import.meta.url));

async function run({ modes, rows, seed, dir }: Options): Promise<number> {
  // On a real disk: the system's temporary directory is memory on many machines.
  const base = dir ?? path.join(repository, '.tmp-demo');
  await mkdir(base, { recursive: true });
  const root = await mkdtemp(path.join(base, 'run-'));
  const removeNow = (): void => rmSync(root, { recursive: true, force: true });
  process.once('exit', removeNow);
  const start = performance.now();
  const outcomes: Outcome[] = [];
  try {
    for (const mode of modes) {
      const directory = path.join(root, mode);
      await mkdir(directory);
      outcomes.push(await runScenario({ mode, seed, rows, directory }));
    }
  } finally {
    await rm(root, { recursive: true, force: true });
    if (dir === undefined) await rmdir(base).catch(() => undefined);
  }
  printTable(outcomes);
  const verdicts = outcomes.map(judge);
  for (const { ok, text } of verdicts) print(styled(ok ? 'green' : 'red', text));
  const seconds = ((performance.now() - start) / 1000).toFixed(0);
  print(styled('dim', `seed ${seed}, ${seconds} s in all`));
  return verdicts.every(({ ok }) => ok) ? 0 : 1;
}

async function main(): Promise<number> {
  let options: Options;
  try {
    options = parseOptions(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n\n${usageText}`);
    return 2;
  }
  if (options.help) {
    process.stdout.write(usageText);
    return 0;
  }
  return await run(options);
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  // The children end with this process, and its files go.
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
