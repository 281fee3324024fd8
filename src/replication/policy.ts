/**
 * Which standbys a synchronous commit waits for: `any` `count` of those that `names` admits, or the
 * `first` `count` of them that are connected, by their place in `names`. A name is compared without
 * regard to case, as PostgreSQL does; `*` admits every standby.
 */
export interface SyncStandbys {
  readonly method: 'any' | 'first';
  readonly count: number;
  readonly names: readonly string[];
}

/** More than any sane group; bounds the arithmetic on a typing error. */
const maxCount = 1000;

/**
 * Parses PostgreSQL's `synchronous_standby_names`: `ANY n (name, ...)`, `FIRST n (name, ...)`,
 * `n (name, ...)`, which means FIRST, and `name, ...`, which means FIRST 1. Names are bare or in
 * double quotes (a quote inside doubled). Throws TypeError with the character that it stumbled on.
 */
export function parseStandbys(text: string): SyncStandbys {
  return new Parser(text).parse();
}

/**
 * Refuses what no standby could ever meet: more standbys than there are names, and a name that is
 * there twice, which would count once. A rule that was recorded is read without this. Throws
 * RangeError.
 */
export function refuseUnmeetable({ count, names }: SyncStandbys, text: string): void {
  const lower = names.map((name) => name.toLowerCase());
  const twice = names.find((_, i) => lower.indexOf(lower[i] ?? '') !== i);
  if (twice !== undefined) {
    throw new RangeError(`synchronousStandbys: the name '${twice}' is there twice in ${text}`);
  }
  if (count <= names.length || names.includes('*')) return;
  throw new RangeError(
    `synchronousStandbys: ${text} waits for ${count} standbys and names ${names.length}, so that ` +
      `no commit is ever acknowledged; name ${count} or more, or wait for fewer`,
  );
}

/** The canonical text: what `parseStandbys` reads back as the same. */
export function formatStandbys(standbys: SyncStandbys): string {
  const names = standbys.names.map((name) =>
    name === '*' || (/^[a-z_][a-z0-9_$]*$/i.test(name) && !/^(any|first)$/i.test(name))
      ? name
      : `"${name.replaceAll('"', '""')}"`,
  );
  return `${standbys.method.toUpperCase()} ${standbys.count} (${names.join(', ')})`;
}

/** Whether a standby of this name may count. */
export function admits(standbys: SyncStandbys, name: string): boolean {
  return priorityOf(standbys, name) >= 0;
}

/** Place of the first name in the list that admits this one: 0 is the highest; -1: none does. */
export function priorityOf(standbys: SyncStandbys, name: string): number {
  const lower = name.toLowerCase();
  return standbys.names.findIndex((each) => each === '*' || each.toLowerCase() === lower);
}

type TokenKind = 'word' | 'quoted' | 'number' | '(' | ')' | ',' | '*' | 'other' | 'end';

interface Token {
  readonly kind: TokenKind;
  readonly text: string;
  readonly at: number;
}

const example = "write for example 'ANY 1 (*)' or 'FIRST 2 (a, b, c)'";

class Parser {
  readonly #text: string;
  #at = 0;
  #token: Token;

  constructor(text: string) {
    this.#text = text;
    this.#token = this.#scan();
  }

  parse(): SyncStandbys {
    const standbys = this.#standbys();
    if (this.#token.kind !== 'end') this.#fail(this.#token, 'expected the end');
    return standbys;
  }

  #standbys(): SyncStandbys {
    const start = this.#token;
    if (this.#isKeyword(start, 'any') || this.#isKeyword(start, 'first')) {
      this.#advance();
      const method = start.text.toLowerCase() === 'any' ? 'any' : 'first';
      return { method, count: this.#count(), names: this.#inBrackets() };
    }
    if (!startsName(start)) this.#fail(start, 'expected ANY, FIRST, a number or a name');
    // A number is how many, or the name of a standby: the bracket behind it tells.
    if (start.kind === 'number' && this.#isBracketNext()) {
      return { method: 'first', count: this.#count(), names: this.#inBrackets() };
    }
    return { method: 'first', count: 1, names: this.#names("',' or the end", 'end') };
  }

  #inBrackets(): string[] {
    if (this.#token.kind !== '(') this.#fail(this.#token, "expected '('");
    this.#advance();
    const names = this.#names("',' or ')'", ')');
    this.#advance();
    return names;
  }

  #names(expected: string, end: TokenKind): string[] {
    const names = [this.#name()];
    while (this.#token.kind === ',') {
      this.#advance();
      names.push(this.#name());
    }
    if (this.#token.kind !== end) this.#fail(this.#token, `expected ${expected}`);
    return names;
  }

  #count(): number {
    const token = this.#token;
    if (token.kind !== 'number' || /[^\s(),*"]/.test(this.#text[this.#at] ?? ' ')) {
      const what = 'expected how many standbys to wait for, a whole number';
      throw new TypeError(this.#message(token, `${what}; ${example}`));
    }
    const count = Number(token.text);
    if (count < 1) this.#fail(token, 'at least one standby has to be waited for');
    if (count > maxCount) this.#fail(token, `at most ${maxCount} standbys can be waited for`);
    this.#advance();
    return count;
  }

  #name(): string {
    const token = this.#token;
    if (token.kind === 'word' && /^(any|first)$/i.test(token.text)) {
      this.#fail(token, `a standby named ${token.text} has to be quoted`);
    }
    if (!startsName(token)) this.#fail(token, 'expected the name of a standby');
    this.#advance();
    return token.text;
  }

  #isKeyword(token: Token, word: string): boolean {
    return token.kind === 'word' && token.text.toLowerCase() === word;
  }

  #isBracketNext(): boolean {
    return /^\s*\(/.test(this.#text.slice(this.#at));
  }

  #advance(): void {
    this.#token = this.#scan();
  }

  #scan(): Token {
    const space = /\s*/y;
    space.lastIndex = this.#at;
    space.exec(this.#text);
    const at = space.lastIndex;
    const one = this.#text[at];
    if (one === undefined) return { kind: 'end', text: '', at };
    this.#at = at + 1;
    if (one === '(' || one === ')' || one === ',' || one === '*')
      return { kind: one, text: one, at };
    if (one === '"') return this.#scanQuoted(at);
    const number = this.#match(/[0-9]+/y, at);
    if (number !== undefined) return { kind: 'number', text: number, at };
    const word = this.#match(/[A-Za-z_\u0080-\uffff][A-Za-z0-9_$\u0080-\uffff]*/y, at);
    if (word !== undefined) return { kind: 'word', text: word, at };
    return { kind: 'other', text: one, at };
  }

  #scanQuoted(at: number): Token {
    const body = this.#match(/"(?:[^"]|"")*"/y, at);
    const start = { kind: 'quoted', text: '"', at } as const;
    if (body === undefined) return this.#fail(start, 'this quote is never closed');
    const text = body.slice(1, -1).replaceAll('""', '"');
    if (text === '') this.#fail(start, 'a name cannot be empty');
    // No node has such a name, and rules are shown on terminals.
    if (/\p{Cc}/u.test(text)) this.#fail(start, 'a name cannot have control characters');
    return { kind: 'quoted', text, at };
  }

  #match(pattern: RegExp, at: number): string | undefined {
    pattern.lastIndex = at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at = at + found.length;
    return found;
  }

  #fail(token: Token, expected: string): never {
    const isStrange = token.kind === 'other';
    const what = isStrange ? 'a name with this character has to be quoted' : expected;
    throw new TypeError(this.#message(token, `${what}; ${example}`));
  }

  /** In one line, with a pointer that stands under what is wrong. */
  #message(token: Token, what: string): string {
    const before = [...this.#text.slice(0, token.at)].length;
    const found = token.at >= this.#text.length ? 'at the end' : `at character ${before + 1}`;
    const shown = this.#text.replace(/[\s\p{Cc}]/gu, ' ');
    return `synchronousStandbys, ${found}: ${what}\n  ${shown}\n  ${' '.repeat(before)}^`;
  }
}

function startsName({ kind }: Token): boolean {
  return kind === 'word' || kind === 'quoted' || kind === 'number' || kind === '*';
}
