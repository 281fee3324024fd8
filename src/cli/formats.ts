import { isUtf8 } from 'node:buffer';
import type { Batch, LogRecord } from '../api/batch.js';
import { frameHeader } from '../api/frames.js';
import type { Output } from './output.js';

export type OutputFormat = 'lines' | 'frames' | 'json';
/** `batch` is the one that the record lies in. */
export type RecordWriter = (output: Output, record: LogRecord, batch: Batch) => void;

const NEWLINE = Buffer.from('\n');

export const recordWriters: Readonly<Record<OutputFormat, RecordWriter>> = {
  lines: (output, { data }) => {
    output.write(data);
    output.write(NEWLINE);
  },
  frames: (output, { data }) => {
    output.write(frameHeader(data.length));
    output.write(data);
  },
  json: (output, { lsn, data }, { term, timestamp }) => {
    const encoding = isUtf8(data) ? 'utf8' : 'base64';
    const row = {
      lsn,
      term,
      timestamp: microsecondTime(timestamp),
      encoding,
      data: data.toString(encoding),
    };
    output.writeText(`${JSON.stringify(row)}\n`);
  },
};

/** ISO 8601 in UTC, to the microsecond, of milliseconds since 1970. */
export function microsecondTime(milliseconds: number): string {
  const micros = Math.round(milliseconds * 1000);
  const date = new Date(Math.floor(micros / 1000)).toISOString();
  return `${date.slice(0, -1)}${String(micros % 1000).padStart(3, '0')}Z`;
}
