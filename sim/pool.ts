import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type Checked, type How, noSums } from './check.js';

/** What a process of the pool is told; it answers with `Checked` (sim/worker.ts). */
export interface Task {
  readonly seed: number;
  readonly how: How;
}

/**
 * Checks seeds in so many processes, and tells of each in the order of the seeds. Processes, not
 * threads: where one aborts, it is known with which seed, and the others go on.
 */
export async function checkAll(
  seeds: readonly number[],
  how: How,
  jobs: number,
  tell: (checked: Checked) => void,
): Promise<void> {
  const done: (Checked | undefined)[] = [];
  let next = 0;
  let told = 0;
  const work = async (): Promise<void> => {
    let child = startChild();
    while (next < seeds.length) {
      const at = next++;
      if (child.exitCode !== null || child.signalCode !== null) child = startChild();
      done[at] = await ask(child, { seed: seeds[at]!, how });
      for (let ready = done[told]; ready !== undefined; ready = done[told]) {
        done[told] = undefined;
        tell(ready);
        told += 1;
      }
    }
    if (child.connected) child.disconnect();
  };
  await Promise.all(Array.from({ length: Math.min(jobs, seeds.length) }, work));
}

function startChild(): ChildProcess {
  return fork(fileURLToPath(new URL('./worker.js', import.meta.url)));
}

function ask(child: ChildProcess, task: Task): Promise<Checked> {
  return new Promise((resolve) => {
    const settle = (checked: Checked): void => {
      child.off('message', settle);
      child.off('exit', ended);
      resolve(checked);
    };
    const ended = (code: number | null, signal: string | null): void => {
      const how = signal === null ? `code ${code}` : signal;
      const lines = [
        `seed ${task.seed} FAILED: its process ended with ${how}`,
        `  again: npm run sim -- --seed ${task.seed}`,
      ];
      settle({ failed: true, lines, sums: noSums(), hash: '' });
    };
    child.on('message', settle);
    child.on('exit', ended);
    child.send(task, () => undefined); // Where that fails, it ends.
  });
}
