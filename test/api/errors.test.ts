import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { errorCodes, WalError, type WalErrorCode } from '../../src/api/errors.js';

const root = resolve(import.meta.dirname, '../..');

it('an error has what applies to it, and nothing else', () => {
  expect(Object.keys(new WalError('WAL_CLOSED', 'closed'))).toEqual(['name', 'code', 'hint']);
  const { lsn, file, outcome } = new WalError('WAL_CORRUPT', 'bad', { lsn: 1, file: 'f' });
  expect({ lsn, file, outcome }).toEqual({ lsn: 1, file: 'f', outcome: undefined });
});

it('an error of the addon keeps its own hint, or gets that of its code', () => {
  const raw = Object.assign(new Error('bad'), { code: 'WAL_CORRUPT', file: 'f' });
  expect(WalError.from(raw)).toMatchObject({ hint: errorCodes.WAL_CORRUPT.hint, file: 'f' });
  const advised = Object.assign(new Error('bad'), { code: 'WAL_CORRUPT', hint: 'Mend it.' });
  expect(WalError.from(advised)).toMatchObject({ message: 'bad', hint: 'Mend it.' });
});

/** Where an error is made: its message and, where it has one of its own, its hint. */
interface Site {
  readonly where: string;
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

function sources(dir: string, ending: string): string[] {
  return readdirSync(join(root, dir), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .map((name) => join(root, dir, name));
}

/** The text of all string literals, one after the other. */
function literals(code: string): string {
  const found = code.matchAll(/'((?:[^'\\\n]|\\.)*)'|"((?:[^"\\\n]|\\.)*)"|`([^`]*)`/g);
  return [...found].map(([, one, two, three]) => one ?? two ?? three).join('');
}

function sitesIn(file: string, pattern: RegExp, hintStart: string): Site[] {
  return [...readFileSync(file, 'utf8').matchAll(pattern)].map(([, code = '', rest = '']) => {
    const [message = '', hint] = rest.split(hintStart);
    const own = literals(hint?.split(/\b(?:outcome|cause):/)[0] ?? '');
    const fromTable = errorCodes[code as WalErrorCode]?.hint ?? `${code} is not in the table`;
    return { where: file, code, message: literals(message), hint: own === '' ? fromTable : own };
  });
}

const sites: Site[] = [
  ...Object.entries(errorCodes).map(([code, { meaning, hint }]) => {
    return { where: 'the table', code, message: meaning, hint };
  }),
  ...sources('src', '.ts').flatMap((file) =>
    sitesIn(file, /new WalError\(\s*'(WAL_\w+)',([\s\S]*?)\);?\n/g, 'hint:'),
  ),
  ...sources('native/core', '.cc').flatMap((file) =>
    sitesIn(file, /WalFailure(?: \w+)?\(\s*"(WAL_\w+)",([\s\S]*?);\n/g, '.advise('),
  ),
];

const words = (text: string) => text.toLowerCase().match(/[\w$]+/g) ?? [];

/** The first four words in a row that both texts have. */
function repeated(message: string, hint: string): string | undefined {
  const said = ` ${words(message).join(' ')} `;
  const advice = words(hint);
  return advice
    .map((_, i) => advice.slice(i, i + 4).join(' '))
    .find((run) => run.split(' ').length === 4 && said.includes(` ${run} `));
}

describe('where errors are made', () => {
  it('finds the places', () => {
    expect(sites.filter(({ where }) => where.endsWith('.ts')).length).toBeGreaterThan(40);
    expect(sites.filter(({ where }) => where.endsWith('.cc')).length).toBeGreaterThan(50);
    expect(repeated('it is full: nothing was taken', 'So: nothing was taken')).toBe(undefined);
    expect(repeated('run chmod go-w on it', 'Run `chmod go-w` on it.')).toBe('run chmod go w');
  });

  it('the message says what is wrong and the hint what to do: neither repeats the other', () => {
    const bad = sites.filter(({ message, hint }) => repeated(message, hint) !== undefined);
    expect(bad).toEqual([]);
  });

  it('no message ends in advice: that is for the hint', () => {
    const advice =
      /[.;:,(] ?(move|restore|repair|run|use|give|keep|empty|pass|put|open|close|write|it takes) /i;
    expect(sites.filter(({ message }) => advice.test(message))).toEqual([]);
  });

  it('every hint is a sentence', () => {
    for (const { hint } of sites) expect(hint).toMatch(/^[A-Z].*\.$/);
  });
});
