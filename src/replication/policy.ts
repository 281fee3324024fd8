import { WalError } from '../api/errors.js';

/**
 * Which standbys a synchronous commit waits for: any `count` of those that `names` admits.
 * A name is compared without regard to case, as PostgreSQL does; `*` admits every standby.
 */
export interface SyncStandbys {
  readonly method: 'any';
  readonly count: number;
  readonly names: readonly string[];
}

/** More than any sane group; bounds the arithmetic on a typing error. */
const maxCount = 1000;

/**
 * Parses PostgreSQL's `synchronous_standby_names`: `ANY n (name, ...)`, names bare or in double
 * quotes (a quote inside doubled). `FIRST` and the forms that mean it are recognised and refused
 * by name. Throws TypeError with the character that it stumbled on.
 */
export function parseStandbys(text: string): SyncStandbys {
  return new Parser(text).parse();
}

/** The canonical text: what `parseStandbys` reads back as the same. */
export function formatStandbys(standbys: SyncStandbys): string {
  const names = standbys.names.map((name) =>
    name === '*' || (/^[a-z_][a-z0-9_$]*$/i.test(name) && !/^(any|first)$/i.test(name))
      ? name
      : `"${name.replaceAll('"', '""')}"`,
  );
  return `ANY ${standbys.count} (${names.join(', ')})`;
}

/** Whether a standby of this name may count. */
export function admits(standbys: SyncStandbys, name: string): boolean {
  const lower = name.toLowerCase();
  return standbys.names.some((each) => each === '*' || each.toLowerCase() === lower);
}

type TokenKind = 'word' | 'quoted' | 'number' | '(' | ')' | ',' | '*' | 'end';

interface Token {
  readonly kind: TokenKind;
  readonly text: string;
  readonly at: number;
}

const example = "write for example 'ANY 1 (*)' or 'ANY 2 (a, b, c)'";

class Parser {
  readonly #text: string;
  #at = 0;
  #token: Token;

  constructor(text: string) {
    this.#text = text;
    this.#token = this.#scan();
  }

  parse(): SyncStandbys {
    const method = this.#token;
    if (this.#isKeyword(method, 'first')) this.#refuseFirst(method);
    if (!this.#isKeyword(method, 'any')) this.#refuseBareForm(method);
    this.#advance();
    const count = this.#count();
    this.#expect('(');
    const names = [this.#name()];
    while (this.#token.kind === ',') {
      this.#advance();
      names.push(this.#name());
    }
    this.#expect(')');
    if (this.#token.kind !== 'end') this.#fail(this.#token, 'expected the end');
    return { method: 'any', count, names };
  }

  #count(): number {
    const token = this.#token;
    if (token.kind !== 'number') this.#fail(token, 'expected how many standbys to wait for');
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
    if (!['word', 'quoted', 'number', '*'].includes(token.kind)) {
      this.#fail(token, 'expected the name of a standby');
    }
    this.#advance();
    return token.text;
  }

  #expect(kind: TokenKind): void {
    if (this.#token.kind !== kind) this.#fail(this.#token, `expected '${kind}'`);
    this.#advance();
  }

  #isKeyword(token: Token, word: string): boolean {
    return token.kind === 'word' && token.text.toLowerCase() === word;
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
    return this.#fail(
      { kind: 'end', text: one, at },
      'a name with this character has to be quoted',
    );
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

  #refuseFirst(token: Token): never {
    throw new WalError(
      'WAL_UNSUPPORTED',
      this.#message(token, 'FIRST (by priority) comes in a later release'),
      { hint: `Use ANY: ${example}.` },
    );
  }

  /** `n (names)` and `names` are valid in PostgreSQL and mean FIRST. */
  #refuseBareForm(token: Token): never {
    if (token.kind === 'number' || token.kind === 'word' || token.kind === 'quoted') {
      const text = 'without ANY this means FIRST (by priority), which comes in a later release';
      throw new WalError('WAL_UNSUPPORTED', this.#message(token, text), {
        hint: `Use ANY: ${example}.`,
      });
    }
    return this.#fail(token, 'expected ANY');
  }

  #fail(token: Token, what: string): never {
    throw new TypeError(this.#message(token, `${what}; ${example}`));
  }

  #message(token: Token, what: string): string {
    const found = token.at >= this.#text.length ? 'at the end' : `at character ${token.at + 1}`;
    const pointer = `${' '.repeat(token.at)}^`;
    return `synchronousStandbys, ${found}: ${what}\n  ${this.#text}\n  ${pointer}`;
  }
}
