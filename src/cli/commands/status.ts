import { Command, Option } from 'commander';
import { WalError } from '../../api/errors.js';
import { segmentsOf } from '../../api/log_status.js';
import { openNewest } from '../../api/newest_copy.js';
import {
  closedOldPrimary,
  type OldPrimary,
  ruleState,
  type UpstreamRule,
} from '../../api/old_primary.js';
import type { SlotStatus } from '../../api/slots.js';
import {
  type CopyStatus,
  copyStatus,
  type LogStatus,
  type MemberStatus,
  type PolicyStatus,
  type StandbyStatus,
} from '../../api/status.js';
import type { ControlReply } from '../../control/client.js';
import type { NativeInfo, Place } from '../../native/native_log.js';
import { askAny } from '../ask.js';
import { UsageError } from '../failure.js';
import { describeGroup, describeReferee, groupOf } from '../group_rows.js';
import { parseInterval, parsePort, shared, showAddress, showDirs } from '../options.js';
import { serveLog } from '../serve_log.js';
import { count, plural, size } from '../terminal.js';
import { watchLog } from '../watch_log.js';
import { describePolicy } from './policy.js';

interface StatusOptions {
  readonly dir: readonly string[];
  readonly json?: true;
  readonly members?: true;
  readonly watch?: true;
  readonly interval?: number;
  readonly serve?: number;
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
  readonly segments: LogStatus['segments'];
  readonly closedCleanly: boolean;
  /** As last written down. */
  readonly copies: readonly CopyStatus[];
  readonly mirrorQuorum: number | null;
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
    .addOption(
      new Option('--members', 'the nodes of the group, as the process that has it open knows them'),
    )
    .addOption(new Option('--watch', 'show it again and again, with rates, until Ctrl-C'))
    .addOption(
      new Option('--interval <time>', 'with --watch: how often (default: 1s)').argParser(
        parseInterval,
      ),
    )
    .addOption(
      new Option(
        '--serve <port>',
        'serve it as a page to browsers of this machine, until Ctrl-C; 0 takes any port',
      ).argParser(parsePort),
    )
    .addHelpText(
      'after',
      `
Examples:
  $ walmirror status --dir ./a --json
  $ walmirror status --dir ./a --members
  $ walmirror status --dir ./a --watch
  $ walmirror status --dir ./a --serve 7480`,
    )
    .action(runStatus);
}

async function runStatus(options: StatusOptions): Promise<void> {
  const { dir, json, members, watch, interval, serve } = options;
  if (interval !== undefined && watch !== true) throw new UsageError('--interval needs --watch');
  if (json === true && watch === true) {
    throw new UsageError('--json prints the status once; leave out --watch, or --json');
  }
  if (serve !== undefined && (json === true || watch === true)) {
    throw new UsageError('--serve goes without --json and --watch');
  }
  if (members === true && (watch === true || serve !== undefined)) {
    throw new UsageError('--members goes without --watch and --serve');
  }
  if (serve !== undefined || watch === true) await requireLog(dir);
  if (serve !== undefined) return serveLog(dir, serve);
  if (watch === true) return watchLog(dir, interval ?? 1000);
  const reply = await askAny(dir, { cmd: 'status' }, { timeoutMs: ANSWER_MS });
  if (members === true) return showGroup(dir, reply, json === true);
  const status = reply.listening ? (reply.result as LogStatus) : await readClosed(dir);
  const text =
    json === true
      ? JSON.stringify(status)
      : status.state === 'closed' && !reply.listening
        ? describeClosed(status as ClosedStatus)
        : describeOpen(status as LogStatus);
  process.stdout.write(`${text}\n`);
}

function showGroup(dirs: readonly string[], reply: ControlReply, json: boolean): void {
  if (!reply.listening) {
    throw new WalError('WAL_CONTROL', `no process has ${showDirs(dirs)} open`, {
      hint: 'Ask any node of the group that runs.',
    });
  }
  const nodes = groupOf(reply.result as LogStatus);
  process.stdout.write(`${json ? JSON.stringify(nodes) : describeGroup(nodes)}\n`);
}

/** What is looked at again and again has to be a log: a mistyped directory never becomes one. */
async function requireLog(dirs: readonly string[]): Promise<void> {
  try {
    if ((await askAny(dirs, { cmd: 'status' }, { timeoutMs: ANSWER_MS })).listening) return;
  } catch (error) {
    // A process that has it open and does not answer now is what is looked for.
    if (error instanceof WalError && error.code === 'WAL_CONTROL') return;
    throw error;
  }
  const { reader } = await openNewest(dirs);
  reader.close();
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
    segments: segmentsOf(info),
    closedCleanly: recovery.clean,
    copies: info.copies.map(copyStatus),
    mirrorQuorum: info.copies.length === 0 ? null : info.copiesAcknowledging,
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
    ...copyRows(status),
  ];
  if (primary !== null) {
    rows.push(['primary', `${primary.name} at ${primary.address}`]);
    rows.push(['last contact', primary.lastContact ?? 'unknown']);
    rows.push(['sync commit', syncCommit(primary.rule)]);
  }
  return table(rows);
}

/** In lines, for a terminal. */
export function describeOpen(status: LogStatus): string {
  const { listening, policy, upstream, segments } = status;
  const rows: (readonly [string, string])[] = [
    ['node', `${status.name}, ${status.role}, ${status.state}`],
    ['term', `epoch ${status.term.epoch}, incarnation ${status.term.incarnation}`],
    ...roleRows(status),
    ['records', records(status)],
    ['flushed', `up to LSN ${count(status.flushLsn)} (${status.io} I/O)`],
    ['committed', `up to LSN ${count(status.commitLsn)}`],
    ['segments', `${count(segments.used)} of ${size(segments.bytes)}, ${segments.spare} spare`],
    ...copyRows(status),
  ];
  if (status.applyLsn !== null) rows.push(['applied', `up to LSN ${count(status.applyLsn)}`]);
  if (listening !== null) rows.push(['listening', showAddress(listening)]);
  if (policy !== null) {
    rows.push(['commit', describePolicy(policy)]);
    rows.push(...missingRows(policy));
  }
  rows.push(...status.standbys.map(standbyRow), ...status.slots.map(slotRow));
  if (status.slotsFault !== null) rows.push(['slots', status.slotsFault]);
  if (upstream !== null) {
    const link = upstream.connected ? 'connected' : `not connected: ${upstream.reason ?? ''}`;
    const where = `${upstream.primary} at ${upstream.address}${secured(upstream.security)}`;
    rows.push(['primary', `${where}, ${link}`.trim()]);
    rows.push(['last contact', upstream.lastContact ?? 'unknown']);
    rows.push(['sync commit', syncCommit(upstream.rule)]);
  }
  // A process of an older version says nothing of them.
  rows.push(...(status.members ?? []).map(memberRow));
  if (status.referee) rows.push(['referee', describeReferee(status.referee)]);
  if (status.failure !== null) {
    rows.push(['failure', `${status.failure.code}: ${status.failure.message}`]);
  }
  return table(rows);
}

/** Why it has its role, where that changed since it was opened. */
function roleRows({ role, roleReason, roleSince }: LogStatus): (readonly [string, string])[] {
  if (roleReason === undefined || roleReason === 'opened') return [];
  return [['role', `${role} since ${roleSince}: ${roleReason}`]];
}

function memberRow(member: MemberStatus): readonly [string, string] {
  const { address, name, role, epoch, lsn, commitLsn, primary, reason } = member;
  if (reason !== null || name === null || role === null) {
    return ['member', `${address}: no answer: ${reason ?? ''}`];
  }
  const of = role === 'primary' || primary === '' || primary === null ? '' : ` of ${primary}`;
  const link = member.connected === false ? ', not connected' : '';
  const lsns = `log to LSN ${count(lsn ?? 0)}, committed ${count(commitLsn ?? 0)}`;
  return ['member', `${name} at ${address}, ${role}${of}, epoch ${epoch}${link}: ${lsns}`];
}

function slotRow({ name, state, flushLsn, heldBytes }: SlotStatus): readonly [string, string] {
  const held = state === 'lost' ? 'nothing is kept' : `${size(heldBytes)} kept`;
  return [`slot ${name}`, `${state}, flushed up to LSN ${count(flushLsn)}, ${held}`];
}

function standbyRow(standby: StandbyStatus): readonly [string, string] {
  const { name, state, synchronous, writeLsn, flushLsn, applyLsn, lag } = standby;
  const lsns = `write ${count(writeLsn)}, flush ${count(flushLsn)}, apply ${count(applyLsn)}`;
  const { records: lacks, bytes } = lag.flush;
  const behind = bytes === 0 ? '' : `; ${plural(lacks, 'record')}, ${size(bytes)} behind`;
  if (state === 'disconnected') {
    const why = `since ${standby.since}: ${standby.reason}`;
    return ['standby', `${name}, disconnected ${why}; ${lsns}${behind}`];
  }
  const sync = synchronous ? 'sync' : 'async';
  const where = `${standby.address}${secured(standby.security)}`;
  return ['standby', `${name} at ${where}, ${state}, ${sync}: ${lsns}${behind}`];
}

/**
 * Of a link, where there is something: that strangers are not kept out of loopback is no news. A
 * process of an older version says nothing of it.
 */
function secured(security: StandbyStatus['security'] | undefined): string {
  const words = { none: '', secret: 'secret', tls: 'TLS', 'tls+secret': 'TLS and secret' };
  const word = security === undefined ? '' : words[security];
  return word === '' ? '' : ` (${word})`;
}

function missingRows(policy: PolicyStatus): (readonly [string, string])[] {
  const { waitingFor, waitingSince, waitingCommits, degraded } = policy;
  const rows: (readonly [string, string])[] = [];
  if (degraded !== null) {
    rows.push(['degraded', `alone since ${degraded.since}: ${degraded.reason}`]);
  }
  if (waitingFor === null) return rows;
  const since = waitingSince === null ? '' : `; since ${waitingSince}`;
  const commits = waitingCommits === 0 ? '' : `, ${plural(waitingCommits, 'commit')}`;
  rows.push([degraded === null ? 'waits for' : 'missing', `${waitingFor}${since}${commits}`]);
  return rows;
}

function records({ firstLsn, appendLsn }: ClosedStatus | LogStatus): string {
  return appendLsn < firstLsn ? 'none' : `LSN ${count(firstLsn)} to ${count(appendLsn)}`;
}

function syncCommit(rule: UpstreamRule | null): string {
  return rule === null ? 'not known' : ruleState(rule);
}

function copyRows(status: ClosedStatus | LogStatus): (readonly [string, string])[] {
  const { copies, mirrorQuorum } = status;
  const rows = copies.map(({ dir, state, reason, since, progress, badReads, behind }) => {
    const done = progress === null ? '' : ` ${Math.floor(progress * 100)} %`;
    const why = reason === null ? '' : `: ${reason}`;
    const bad = badReads === 0 ? '' : `, ${count(badReads)} bad reads`;
    const late = behind === 0 ? '' : `, ${size(behind)} behind`;
    return ['copy', `${dir}, ${state}${done} since ${since}${late}${bad}${why}`] as const;
  });
  if (mirrorQuorum === null) return rows;
  const inNow = copies.filter(({ state }) => state === 'in').length;
  return [...rows, ['quorum', `a commit is flushed in ${mirrorQuorum} of ${inNow} directories`]];
}

function table(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `${name.padEnd(width)}  ${text}`).join('\n');
}
