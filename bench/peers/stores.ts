/**
 * lmdb and better-sqlite3 behind the few calls that the rows need. Both are installed on first use.
 */
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

/** From bench/dist/peers to bench/peer_packages, where their node_modules is. */
const require = createRequire(new URL('../../peer_packages/', import.meta.url));

export interface PeerStore {
  /** Durable when it resolves; concurrent calls may share a flush. */
  put(number: number, data: Uint8Array): Promise<unknown>;
  /**
   * Several records in one transaction, durable when it returns. Only where `put` shares no flush.
   */
  putAll?(first: number, count: number, data: (number: number) => Uint8Array): void;
  records(): Iterable<Uint8Array>;
  close(): Promise<void>;
}

interface LmdbDatabase {
  put(key: number, value: Uint8Array): Promise<boolean>;
  getRange(): Iterable<{ readonly key: number; readonly value: Uint8Array }>;
  close(): Promise<void>;
}
interface LmdbModule {
  open(options: Readonly<Record<string, unknown>>): LmdbDatabase;
}

export function openLmdb(directory: string): PeerStore {
  const { open } = require('lmdb') as LmdbModule;
  const database = open({
    path: path.join(directory, 'lmdb'),
    encoding: 'binary',
    keyEncoding: 'uint32',
    overlappingSync: false, // else a commit resolves before its flush
  });
  return {
    // Encoding happens at the call; only binary values are kept by reference, so they are copied.
    put: (number, data) => database.put(number, Buffer.from(data)),
    *records() {
      for (const { value } of database.getRange()) yield value;
    },
    close: () => database.close(),
  };
}

interface SqliteStatement {
  run(...values: readonly unknown[]): unknown;
  iterate(): Iterable<{ readonly data: Uint8Array }>;
}
interface SqliteDatabase {
  pragma(text: string): unknown;
  exec(text: string): unknown;
  prepare(text: string): SqliteStatement;
  transaction<A extends readonly unknown[]>(run: (...args: A) => void): (...args: A) => void;
  close(): unknown;
}
type SqliteModule = new (file: string) => SqliteDatabase;

export function openSqlite(directory: string): PeerStore {
  const Database = require('better-sqlite3') as SqliteModule;
  mkdirSync(directory, { recursive: true });
  const database = new Database(path.join(directory, 'log.db'));
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.exec('CREATE TABLE log (lsn INTEGER PRIMARY KEY, data BLOB NOT NULL)');
  const insert = database.prepare('INSERT INTO log VALUES (?, ?)');
  const all = database.prepare('SELECT data FROM log ORDER BY lsn');
  type Source = (number: number) => Uint8Array;
  const putAll = database.transaction((first: number, count: number, data: Source) => {
    for (let number = first; number < first + count; number++) insert.run(number, data(number));
  });
  return {
    async put(number, data) {
      insert.run(number, data);
    },
    putAll,
    *records() {
      for (const { data } of all.iterate()) yield data;
    },
    async close() {
      database.close();
    },
  };
}
