import { readFile, statfs } from 'node:fs/promises';
import os from 'node:os';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly arch: string;
  readonly platform: string;
  readonly kernel: string;
  readonly fileSystem: string;
  readonly node: string;
}

const fileSystems = new Map([
  [0xef53, 'ext4'],
  [0x58465342, 'xfs'],
  [0x9123683e, 'btrfs'],
  [0x01021994, 'tmpfs'],
  [0x794c7630, 'overlay'],
  [0x2fc12fc1, 'zfs'],
]);

export async function describeMachine(directory: string): Promise<Machine> {
  const { type } = await statfs(directory);
  return {
    cpu: os.cpus()[0]?.model.trim() || (await cpuFromProc()),
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    arch: os.arch(),
    platform: os.platform(),
    kernel: os.release().replace(/^(\d+\.\d+(\.\d+)?).*/, '$1'),
    fileSystem: fileSystems.get(type) ?? `0x${type.toString(16)}`,
    node: process.version,
  };
}

async function cpuFromProc(): Promise<string> {
  const text = await readFile('/proc/cpuinfo', 'utf8').catch(() => '');
  return /model name\s*:\s*(.+)/.exec(text)?.[1] ?? 'unknown';
}
