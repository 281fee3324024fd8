import { readdirSync, readFileSync } from 'node:fs';

export interface LeftoverProcess {
  readonly pid: number;
  readonly command: string;
}

/**
 * Processes with `marker` in the environment they were started with. What is just ending gets a
 * second; vitest's own processes do not count.
 */
export async function leftoverChildren(marker: string): Promise<LeftoverProcess[]> {
  let found: LeftoverProcess[] = [];
  for (let round = 0; round < 10; round += 1) {
    found = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
      .map((name) => inspect(Number(name), marker))
      .filter((entry) => entry !== undefined);
    if (found.length === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return found;
}

function inspect(pid: number, marker: string): LeftoverProcess | undefined {
  try {
    const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
    if (!environment.includes(marker)) return undefined;
    // The state follows the name in brackets, which may itself hold anything.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    if (stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3) === 'Z') return undefined;
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
    if (/node_modules\/(vitest|@esbuild|esbuild|tinypool|rolldown)\//.test(command))
      return undefined;
    return { pid, command };
  } catch {
    return undefined; // It ended in between, or belongs to somebody else.
  }
}
