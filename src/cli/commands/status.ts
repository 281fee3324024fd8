import { Command } from 'commander';
import { openNewest } from '../../api/newest_copy.js';
import {
  closedOldPrimary,
  type OldPrimary,
  ruleState,
  type UpstreamRule,
} from '../../api/old_primary.js';
import { type CopyStatus, copyStatus, type LogStatus } from '../../api/status.js';
import type { NativeInfo, Place } from '../../native/native_log.js';
import { askAny } from '../ask.js';
import { shared, showAddress } from '../options.js';
import { count, size } from '../terminal.js';

interface StatusOptions {
  readonly dir: readonly string[];
  readonly json?: true;
}

const ANSWER_MS = 5_000;

/** What a log that nobody has open tells; the names mean what they mean in `LogStatus`. */
interface ClosedStatus {
  readonly schema: 1;
  readonly state: 'closed';
  readonly role: NativeInfo['role'];
  readonly name: string;
  readonly dir: string;
  readonly logId: string;
  readonly nodeId: string;
  readonly term: NativeInfo['term'];
  readonly firstLsn: number;
  /** All that is on disk and valid. */
  readonly appendLsn: number;
  /** As the log last wrote down; it may have known more. */
  readonly commitLsn: number;
  readonly segments: { readonly bytes: number; readonly used: number; readonly spare: number };
  readonly closedCleanly: boolean;
  /** As last written down. */
  readonly copies: readonly CopyStatus[];
  /** Standby: what it last knew of its primary. */
  readonly primary: Omit<OldPrimary, 'connected' | 'commitLsn' | 'flushLsn'> | null;
}

export function statusCommand(): Command {
  return new Command('status')
    .summary('tell how a log stands')
    .description(
      'Asks the process that has the log open, or reads the closed log. Never changes a byte.',
    )
    .addOption(shared.dir())
    .addOption(shared.json())
    .addHelpText('after', '\nExample:\n  $ walmirror status --dir ./a --json')
    .action(runStatus);
}

async function runStatus({ dir, json }: StatusOptions): Promise<void> {
  const reply = await askAny(dir, { cmd: 'status' }, { timeoutMs: ANSWER_MS });
  const status = reply.listening ? (reply.result as LogStatus) : await readClosed(dir);
  const text =
    json === true
      ? JSON.stringify(status)
      : status.state === 'closed' && !reply.listening
        ? describeClosed(status as ClosedStatus)
        : describeOpen(status as LogStatus);
  process.stdout.write(`${text}\n`);
}

async function readClosed(dirs: readonly string[]): Promise<ClosedStatus> {
  const { dir, reader } = await openNewest(dirs);
  try {
    const info = reader.info();
    const end = await reader.refresh();
    const status = closedStatus(dir, info, end);
    return { ...status, copies: status.copies.map((copy) => withWholePath(copy, dirs)) };
  } finally {
    reader.close();
  }
}

/** A log remembers only the end of a long path. */
function withWholePath(copy: CopyStatus, given: readonly string[]): CopyStatus {
  if (!copy.dir.startsWith('...')) return copy;
  const dir = given.find((path) => path.endsWith(copy.dir.slice(3)));
  return dir === undefined ? copy : { ...copy, dir };
}

function closedStatus(dir: string, info: NativeInfo, end: Place): ClosedStatus {
  const { role, name, logId, nodeId, term, start, recovery } = info;
  const { connected: _, commitLsn, flushLsn: __, ...primary } = closedOldPrimary(info, end.lsn);
  return {
    schema: 1,
    state: 'closed',
    role,
    name,
    dir,
    logId,
    nodeId,
    term,
    firstLsn: start.lsn + 1,
    appendLsn: end.lsn,
    commitLsn,
    segments: { bytes: info.segmentBytes, used: info.segments, spare: info.spareSegments },
    closedCleanly: recovery.clean,
    copies: info.copies.map(copyStatus),
    primary: role === 'standby' && primary.name !== '' ? primary : null,
  };
}

function describeClosed(status: ClosedStatus): string {
  const { primary, segments } = status;
  const rows: (readonly [string, string])[] = [
    ['node', `${status.name}, ${status.role}, not running`],
    ['term', `epoch ${status.term.epoch}, incarnation ${status.term.incarnation}`],
    ['records', records(status)],
    ['committed', `up to LSN ${count(status.commitLsn)}, as last written down`],
    ['segments', `${count(segments.used)} of ${size(segments.bytes)}`],
    ['closed', status.closedCleanly ? 'cleanly' : 'not cleanly: it recovers when it is opened'],
    ...copyRows(status.copies),
  ];
  if (primary !== null) {
    rows.push(['primary', `${primary.name} at ${primary.address}`]);
    rows.push(['last contact', primary.lastContact ?? 'unknown']);
    rows.push(['sync commit', syncCommit(primary.rule)]);
  }
  return table(rows);
}

function describeOpen(status: LogStatus): string {
  const { listening, policy, upstream, segments } = status;
  const rows: (readonly [string, string])[] = [
    ['node', `${status.name}, ${status.role}, ${status.state}`],
    ['term', `epoch ${status.term.epoch}, incarnation ${status.term.incarnation}`],
    ['records', records(status)],
    ['flushed', `up to LSN ${count(status.flushLsn)} (${status.io} I/O)`],
    ['committed', `up to LSN ${count(status.commitLsn)}`],
    ['segments', `${count(segments.used)} of ${size(segments.bytes)}, ${segments.spare} spare`],
    ...copyRows(status.copies),
  ];
  if (status.applyLsn !== null) rows.push(['applied', `up to LSN ${count(status.applyLsn)}`]);
  if (listening !== null) rows.push(['listening', showAddress(listening)]);
  if (policy !== null) {
    rows.push(['commit', `${policy.synchronousCommit} ${policy.synchronousStandbys ?? ''}`.trim()]);
    if (policy.waitingFor !== null) rows.push(['waits for', policy.waitingFor]);
  }
  for (const standby of status.standbys) {
    const { name, state, synchronous, address, writeLsn, flushLsn, applyLsn } = standby;
    const lsns = `write ${count(writeLsn)}, flush ${count(flushLsn)}, apply ${count(applyLsn)}`;
    const sync = synchronous ? 'sync' : 'async';
    rows.push(['standby', `${name} at ${address}, ${state}, ${sync}: ${lsns}`]);
  }
  if (upstream !== null) {
    const link = upstream.connected ? 'connected' : `not connected: ${upstream.reason ?? ''}`;
    rows.push(['primary', `${upstream.primary} at ${upstream.address}, ${link}`.trim()]);
    rows.push(['last contact', upstream.lastContact ?? 'unknown']);
    rows.push(['sync commit', syncCommit(upstream.rule)]);
  }
  if (status.failure !== null) {
    rows.push(['failure', `${status.failure.code}: ${status.failure.message}`]);
  }
  return table(rows);
}

function records({ firstLsn, appendLsn }: ClosedStatus | LogStatus): string {
  return appendLsn < firstLsn ? 'none' : `LSN ${count(firstLsn)} to ${count(appendLsn)}`;
}

function syncCommit(rule: UpstreamRule | null): string {
  return rule === null ? 'not known' : ruleState(rule);
}

function copyRows(copies: readonly CopyStatus[]): (readonly [string, string])[] {
  return copies.map(({ dir, state, reason, since, progress, badReads }) => {
    const done = progress === null ? '' : ` ${Math.floor(progress * 100)} %`;
    const why = reason === null ? '' : `: ${reason}`;
    const bad = badReads === 0 ? '' : `, ${count(badReads)} bad reads`;
    return ['copy', `${dir}, ${state}${done} since ${since}${bad}${why}`];
  });
}

function table(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `${name.padEnd(width)}  ${text}`).join('\n');
}
