/** The result for people: one line a row, as soon as it is there. */
import type { Floor } from '../floors/floors.js';
import type { Machine } from './machine.js';
import type { ProcessUse, Row } from './row.js';

const NAME_WIDTH = 29;

const digits = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const fewDigits = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

export function formatNumber(value: number): string {
  return Math.abs(value) >= 100 ? digits.format(value) : fewDigits.format(value);
}

export function machineLine(machine: Machine): string {
  const memory = (machine.memoryBytes / 2 ** 30).toFixed(0);
  return (
    `${machine.cpu}, ${machine.cores} cores, ${memory} GiB, ` +
    `${machine.platform} ${machine.kernel} ` +
    `${machine.arch}, ${machine.fileSystem}, Node ${machine.node}`
  );
}

export function floorLine({ name, value, unit, detail }: Floor): string {
  return `  ${name.padEnd(NAME_WIDTH - 2)}${quantity(value, unit)}   ${detail}`;
}

export function rowHeader(): string {
  return (
    `\n${'result'.padEnd(NAME_WIDTH)}${'median'.padStart(17)}  ${'ratio'.padStart(6)}  ` +
    `${'runs'.padEnd(17)}  ${'cores in use'.padEnd(14)}  ` +
    `${'peak RSS, MiB'.padEnd(14)}  floor, durability`
  );
}

export function rowLine(row: Row): string {
  const ratio = row.ratio === null ? '' : row.ratio.toFixed(2);
  const use = (show: (process: ProcessUse) => string): string =>
    row.processes.map(show).join(' + ').padEnd(14);
  const cores = use(({ cores }) => cores.toFixed(2));
  const memory = use(({ peakRssBytes }) => (peakRssBytes / 2 ** 20).toFixed(0));
  const about = [row.floorName, row.durability, row.note].filter(Boolean).join('; ');
  return (
    row.name.padEnd(NAME_WIDTH) +
    `${quantity(row.value, row.unit)}  ${ratio.padStart(6)}  ${spread(row.runs).padEnd(17)}  ` +
    `${cores}  ${memory}  ${about}`
  );
}

function quantity(value: number, unit: string): string {
  return `${formatNumber(value).padStart(11)} ${unit.padEnd(5)}`;
}

function spread(runs: readonly number[]): string {
  if (runs.length < 2) return '';
  return `${formatNumber(Math.min(...runs))}..${formatNumber(Math.max(...runs))}`;
}
