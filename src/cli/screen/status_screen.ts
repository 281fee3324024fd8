import type { LogStatus, StandbyStatus } from '../../api/status.js';
import { count, plural, size } from '../terminal.js';
import type { History } from './history.js';
import type { Line, Piece, Style } from './paint.js';
import { sparkline } from './sparkline.js';

/** Narrower than this there is no room for charts. */
const CHARTS_FROM = 72;
const LABEL = 10;
const FIGURES = 44;
const EVENTS = 5;

/** What a terminal of so many columns shows of the log that `history` has seen. */
export function statusScreen(history: History, columns: number): Line[] {
  const status = history.last;
  if (status === undefined) return [['no status yet']];
  const chart = columns < CHARTS_FROM ? 0 : Math.min(60, columns - LABEL - FIGURES);
  return [
    title(status),
    row('records', records(status)),
    ...rates(status, history, chart),
    row('memory', memory(status)),
    ...commits(status),
    ...problems(status),
    ...standbys(status, history, chart),
    ...upstream(status),
    ...copies(status),
    ...events(status),
  ];
}

/** The same in one line, for what is no terminal. */
export function statusLine(history: History): string {
  const status = history.last;
  if (status === undefined) return 'no status yet';
  const { name, role, state, appendLsn, commitLsn } = status;
  const parts = [
    `${name} ${role} ${state}`,
    `LSN ${appendLsn}, committed ${commitLsn}`,
    `${rate(latest(history.rates(({ commitLsn: lsn }) => lsn)))} committed`,
    ...status.standbys.map((one) => `${one.name} ${one.state} ${behind(one)}`),
    ...problems(status).map((line) => line.map(textOf).join('').trim().replace(/ {2,}/, ': ')),
  ];
  return parts.join('; ');
}

function title({ name, role, state, term, dir }: LogStatus): Line {
  const ok = state === 'open' && role !== 'fenced';
  return [
    [name, 'bold'],
    `  ${role}, `,
    [state, ok ? 'green' : 'red'],
    `, epoch ${term.epoch}  `,
    dir,
  ];
}

function records({ firstLsn, appendLsn, flushLsn, commitLsn }: LogStatus): string {
  if (appendLsn < firstLsn) return 'none';
  const all = `LSN ${count(firstLsn)} to ${count(appendLsn)}`;
  return `${all}, flushed to ${count(flushLsn)}, committed to ${count(commitLsn)}`;
}

function rates(status: LogStatus, history: History, chart: number): Line[] {
  const committed = history.rates(({ commitLsn }) => commitLsn);
  const flushes = history.rates(({ flushes: { count: n } }) => n);
  const bytes = history.rates(({ flushes: { bytes: n } }) => n);
  const { p50Ms, p99Ms, slowestMs } = status.flushes;
  return [
    charted('commits', `${rate(latest(committed))}`, committed, chart),
    charted('flushes', `${rate(latest(flushes))}, ${size(latest(bytes))}/s`, flushes, chart),
    row('', `p50 ${time(p50Ms)}, p99 ${time(p99Ms)}, slowest ${time(slowestMs)} (${status.io})`),
  ];
}

function memory({ ring, segments }: LogStatus): string {
  const used = Math.ceil(((ring.bytes - ring.free) / ring.bytes) * 100);
  return `${used} % of ${size(ring.bytes)} in use; ${size(segments.diskBytes)} on disk`;
}

function commits({ policy, commits: { waiting, oldestWaitMs }, durability }: LogStatus): Line[] {
  if (policy === null) return [];
  const rule = policy.synchronousStandbys === null ? '' : ` by ${policy.synchronousStandbys}`;
  const wait =
    oldestWaitMs === null ? '' : `; ${plural(waiting, 'commit')}, the oldest ${time(oldestWaitMs)}`;
  return [row('commit', `${durability ?? policy.synchronousCommit}${rule}${wait}`)];
}

function problems({ failure, policy, scrub, ioReason }: LogStatus): Line[] {
  const lines: Line[] = [];
  if (failure !== null) lines.push(row('failure', [failure.message, 'red']));
  if (policy !== null && policy.degraded !== null) {
    const { since, reason } = policy.degraded;
    lines.push(row('degraded', [`alone since ${since}: ${reason}`, 'red']));
  }
  if (policy !== null && policy.waitingFor !== null) {
    lines.push(row('waits for', [policy.waitingFor, 'yellow']));
  }
  if (scrub.damagedRanges > 0) {
    lines.push(row('damage', [plural(scrub.damagedRanges, 'damaged range'), 'red']));
  }
  if (ioReason !== null) lines.push(row('buffered', [ioReason, 'yellow']));
  return lines;
}

function standbys(status: LogStatus, history: History, chart: number): Line[] {
  return status.standbys.map((standby) => {
    const lags = history.values(({ standbys: all }) => {
      return all.find(({ nodeId }) => nodeId === standby.nodeId)?.lag.flush.records ?? 0;
    });
    const sync = standby.synchronous ? ', sync' : '';
    const text = `${standby.name} ${standby.state}${sync}, ${behind(standby)}`;
    const line = charted('standby', text, lags, chart, stateStyle(standby));
    const why = standby.reason === null ? '' : ` since ${standby.since}: ${standby.reason}`;
    return why === '' ? line : row('standby', [`${text}${why}`, 'red']);
  });
}

function stateStyle({ state }: StandbyStatus): Style | undefined {
  return state === 'catchup' ? 'yellow' : undefined;
}

function behind({ lag: { flush } }: StandbyStatus): string {
  if (flush.records === 0) return 'nothing behind';
  const { records: n, bytes, milliseconds } = flush;
  return `${plural(n, 'record')}, ${size(bytes)}, ${time(milliseconds)} behind`;
}

function upstream({ upstream: link, commitLsn }: LogStatus): Line[] {
  if (link === null) return [];
  const { primary, address, connected, reason, primaryLsn } = link;
  const lag =
    primaryLsn === null ? '' : `, ${plural(Math.max(0, primaryLsn - commitLsn), 'record')} behind`;
  const state: Piece = connected ? ['connected', 'green'] : [`down: ${reason}`, 'red'];
  return [row('primary', `${primary} at ${address}, `, state, lag)];
}

function copies({ copies: all }: LogStatus): Line[] {
  return all.map(({ dir, state, reason, progress }) => {
    const done = progress === null ? '' : ` ${Math.floor(progress * 100)} %`;
    const why = reason === null ? '' : `: ${reason}`;
    return row('copy', [`${state}${done}`, state === 'in' ? 'green' : 'red'], ` ${dir}${why}`);
  });
}

function events({ events: all }: LogStatus): Line[] {
  const styles: Partial<Record<string, Style>> = { error: 'red', warn: 'yellow' };
  const lines = all.slice(-EVENTS).map(({ at, level, message }): Line => {
    const style = styles[level];
    return [
      [`  ${at.slice(11, 19)}`, 'dim'],
      '  ',
      style === undefined ? message : [message, style],
    ];
  });
  return lines.length === 0 ? [] : [[''], ...lines];
}

function row(label: string, ...pieces: readonly Piece[]): Line {
  return [[label.padEnd(LABEL), 'dim'], ...pieces];
}

function charted(
  label: string,
  text: string,
  values: readonly number[],
  chart: number,
  style?: Style,
): Line {
  const figures: Piece = style === undefined ? text : [text, style];
  const shown = chart <= 0 ? '' : sparkline(values, chart);
  const gap = ' '.repeat(Math.max(2, FIGURES - [...text].length));
  return shown === '' ? row(label, figures) : row(label, figures, gap, [shown, 'cyan']);
}

function latest(values: readonly number[]): number {
  return values.at(-1) ?? 0;
}

function rate(value: number): string {
  return `${count(Math.round(value))}/s`;
}

function textOf(piece: Piece): string {
  return typeof piece === 'string' ? piece : piece[0];
}

/** A time in the unit that fits it. */
export function time(milliseconds: number | null): string {
  if (milliseconds === null) return '-';
  if (milliseconds < 10) return `${milliseconds.toFixed(2)} ms`;
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800
    ? `${Math.round(seconds / 3600)} h`
    : `${Math.round(seconds / 86_400)} d`;
}
