import { expect, test } from 'vitest';
import { Catalogue } from '../../demo/catalogue.js';
import {
  type Acknowledgement,
  compare,
  formatAcknowledgement,
  parseAcknowledgements,
} from '../../demo/compare.js';

const rowOf = (id: number, version: number): string => `${id}\t${version}\tplace ${id}`;

function acknowledged(...keys: (readonly [id: number, version: number])[]): Acknowledgement[] {
  return keys.map(([id, version], index) => ({ lsn: index + 1, id, version, at: 1000 + index }));
}

function catalogueOf(...rows: string[]): Catalogue {
  const catalogue = new Catalogue();
  for (const row of rows) catalogue.put(row);
  return catalogue;
}

test('nothing is lost where every acknowledged version is there, or a later one', () => {
  const file = acknowledged([1, 1], [2, 1], [1, 2]);
  const catalogue = catalogueOf(rowOf(1, 3), rowOf(2, 1), rowOf(3, 1));
  expect(compare(file, catalogue, rowOf)).toEqual({ acknowledged: 3, lost: [], changed: [] });
});

test('a place that is not there is a loss of each of its acknowledged records', () => {
  const file = acknowledged([1, 1], [2, 1], [2, 2]);
  const { lost } = compare(file, catalogueOf(rowOf(1, 1)), rowOf);
  expect(lost.map(({ lsn }) => lsn)).toEqual([2, 3]);
});

test('an update that is not there is a loss, although the place is there', () => {
  const file = acknowledged([1, 1], [1, 2], [1, 3]);
  const { lost } = compare(file, catalogueOf(rowOf(1, 1)), rowOf);
  expect(lost.map(({ version }) => version)).toEqual([2, 3]);
});

test('a row with another content is not taken for the one that was acknowledged', () => {
  const file = acknowledged([1, 2]);
  const { lost, changed } = compare(file, catalogueOf(`${rowOf(1, 2)}!`), rowOf);
  expect(lost).toEqual([]);
  expect(changed).toEqual(file);
});

test('the file gives back what was written down, without a line that was cut short', () => {
  const file = acknowledged([1, 1], [7, 2]);
  const text = file.map(formatAcknowledgement).join('');
  expect(parseAcknowledgements(text)).toEqual(file);
  expect(parseAcknowledgements(`${text}3\t8`)).toEqual(file);
  expect(() => parseAcknowledgements('1\t2\t3\n')).toThrow('not an acknowledgement');
});
