/**
 * Loads the catalogue, then updates it, with a few rows under way at a time. What the master
 * acknowledges is written to this client's own file before the next row goes out. A lost connection
 * ends a run; the next one, to whoever is the master then, sends the rows again that were under
 * way.
 */
import { openSync, writeSync } from 'node:fs';
import net from 'node:net';
import { serve } from '../../bench/harness/agent.js';
import { formatAcknowledgement } from '../compare.js';
import { LineSplitter } from '../line_splitter.js';
import { loadPlaces, type Place, rowOf } from '../places.js';
import { seeded } from '../random.js';

export interface PrepareOptions {
  readonly rows: number;
  readonly seed: number;
  /** Where acknowledgements are written down. */
  readonly file: string;
}

export interface RunResult {
  readonly acknowledged: number;
  /** Rows that were sent and not acknowledged. */
  readonly underWay: number;
  /** False: the connection was lost before the limit. */
  readonly done: boolean;
  /** When the first acknowledgement of this run was written down; milliseconds since 1970. */
  readonly firstAt: number;
  /** When the connection was lost, or all was done. */
  readonly endedAt: number;
}

interface Change {
  readonly place: Place;
  readonly version: number;
}

const UNDER_WAY = 256;

let places: Place[] = [];
let random = seeded(0);
let fd = -1;
let nextPlace = 0;
const versions = new Map<number, number>();
const underWay: Change[] = [];
let acknowledged = 0;
let goal = Number.POSITIVE_INFINITY;
let reachedGoal: () => void = () => undefined;

/** First every place once, then updates of places drawn at random, without end. */
function nextChange(): Change {
  const loaded = nextPlace >= places.length;
  const index = loaded ? Math.floor(random() * places.length) : nextPlace++;
  const place = places[index];
  if (place === undefined) throw new Error('no such place');
  const version = (versions.get(place.cityId) ?? 0) + 1;
  versions.set(place.cityId, version);
  return { place, version };
}

/** In one write: it is with the operating system before anything else happens. */
function writeDown(lsns: readonly string[]): void {
  const at = performance.timeOrigin + performance.now();
  let text = '';
  for (const [index, { place, version }] of underWay.splice(0, lsns.length).entries()) {
    text += formatAcknowledgement({ lsn: Number(lsns[index]), id: place.cityId, version, at });
  }
  writeSync(fd, text);
  acknowledged += lsns.length;
  if (acknowledged >= goal) reachedGoal();
}

function run({ port, limit }: { port: number; limit: number }): Promise<RunResult> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: '127.0.0.1', port, noDelay: true });
    const splitter = new LineSplitter();
    let firstAt = 0;
    let done = false;
    const sendMore = (): void => {
      let text = '';
      while (underWay.length < UNDER_WAY && acknowledged + underWay.length < limit) {
        const change = nextChange();
        underWay.push(change);
        text += `${rowOf(change.place, change.version)}\n`;
      }
      if (text !== '') socket.write(text);
    };
    socket.on('connect', () => {
      for (const { place, version } of underWay) socket.write(`${rowOf(place, version)}\n`);
      sendMore();
    });
    socket.on('data', (data: Buffer) => {
      const lsns = splitter.push(data);
      if (lsns.length === 0) return;
      writeDown(lsns);
      if (firstAt === 0) firstAt = performance.timeOrigin + performance.now();
      done = acknowledged >= limit;
      if (done) socket.end();
      else sendMore();
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      const endedAt = performance.timeOrigin + performance.now();
      resolve({ acknowledged, underWay: underWay.length, done, firstAt, endedAt });
    });
  });
}

const handlers = {
  prepare({ rows, seed, file }: PrepareOptions): number {
    places = loadPlaces(rows);
    random = seeded(seed);
    fd = openSync(file, 'ax', 0o600);
    return places.length;
  },

  run,

  /** How many are acknowledged by now. */
  acknowledged: (): number => acknowledged,

  /** Resolves when so many are acknowledged. */
  reached({ count }: { readonly count: number }): Promise<void> {
    return new Promise((resolve) => {
      goal = count;
      reachedGoal = () => {
        goal = Number.POSITIVE_INFINITY;
        resolve();
      };
      if (acknowledged >= count) reachedGoal();
    });
  },
};

export type ClientProgram = typeof handlers;

serve(handlers);
