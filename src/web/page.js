// Asks for the status each second and shows it. All text goes in as text, none as markup.
import { Chart, short } from './charts.js';
import { drawGroup } from './group.js';

const PERIOD_MS = 1000;
const MOST = 600;

const at = (id) => document.getElementById(id);
const charts = {
  commits: new Chart(at('commits')),
  flushes: new Chart(at('flushes')),
  lag: new Chart(at('lag')),
};
/** What was seen, oldest first: `{ time, status }`, the time in seconds. */
let looks = [];

async function look() {
  const response = await fetch('status.json', { cache: 'no-store' });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? `HTTP ${response.status}`);
  return answer;
}

function note(status) {
  const last = looks.at(-1)?.status;
  const isOther =
    last !== undefined &&
    (last.logId !== status.logId || status.flushes.count < last.flushes.count);
  if (isOther) looks = [];
  looks.push({ time: Date.now() / 1000, status });
  if (looks.length > MOST) looks.shift();
}

function show(status) {
  document.title = `${status.name}: ${status.role}`;
  at('name').textContent = status.name;
  pill(at('role'), status.role, status.role === 'fenced' ? 'bad' : 'good');
  pill(at('state'), status.state, status.state === 'open' ? 'good' : 'bad');
  at('where').textContent = status.dir;
  showProblems(status);
  drawGroup(at('group'), status);
  showCharts(status);
  showFigures(status);
  showEvents(status);
}

function pill(element, words, kind) {
  element.textContent = words;
  element.className = `pill ${kind}`;
}

function showProblems({ failure, policy, scrub, copies }) {
  const lines = [];
  if (failure !== null) lines.push(['bad', `The log has failed: ${failure.message}`]);
  if (policy?.degraded) {
    lines.push(['bad', `Goes on alone since ${policy.degraded.since}: ${policy.degraded.reason}`]);
  }
  if (policy?.waitingFor) lines.push(['warn', `Commits wait for ${policy.waitingFor}`]);
  if (scrub.damagedRanges > 0) lines.push(['bad', `${scrub.damagedRanges} damaged ranges on disk`]);
  for (const { dir, state, reason } of copies) {
    if (state !== 'in') lines.push(['bad', `${dir} is ${state}: ${reason ?? ''}`]);
  }
  at('problems').hidden = lines.length === 0;
  at('problems').replaceChildren(...lines.map(([kind, words]) => element('p', words, kind)));
}

function showCharts(status) {
  const pairs = looks.slice(1).map((now, i) => ({ now, before: looks[i] }));
  const times = pairs.map(({ now }) => now.time);
  const rate = (of) =>
    pairs.map(({ now, before }) => {
      const seconds = Math.max(0.001, now.time - before.time);
      return Math.max(0, of(now.status) - of(before.status)) / seconds;
    });
  const committed = rate(({ commitLsn }) => commitLsn);
  charts.commits.show(times, [{ name: 'records', values: committed }]);
  charts.flushes.show(times, [
    { name: 'half within', values: pairs.map((pair) => flushTime(pair, 0.5)) },
    { name: '99 % within', values: pairs.map((pair) => flushTime(pair, 0.99)) },
  ]);
  const alone = status.standbys.length === 0;
  at('lag').parentElement.hidden = alone;
  at('figures').parentElement.classList.toggle('wide', alone);
  charts.lag.show(
    looks.map(({ time }) => time),
    status.standbys.slice(0, 6).map(({ name, nodeId }) => ({
      name,
      values: looks.map(({ status: then }) => {
        const standby = then.standbys.find((one) => one.nodeId === nodeId);
        return standby === undefined ? null : standby.lag.flush.records;
      }),
    })),
  );
}

/** Milliseconds that this part of the flushes between two looks took at most; null: none. */
function flushTime({ now, before }, part) {
  const old = new Map(before.status.flushes.histogram.map(({ upToMs, count }) => [upToMs, count]));
  const fresh = now.status.flushes.histogram.map(({ upToMs, count }) => ({
    upToMs: upToMs ?? now.status.flushes.slowestMs,
    count: count - (old.get(upToMs) ?? 0),
  }));
  const total = fresh.reduce((sum, { count }) => sum + count, 0);
  let seen = 0;
  for (const { upToMs, count } of fresh) {
    seen += count;
    if (total > 0 && seen >= total * part) return upToMs;
  }
  return null;
}

function showFigures(status) {
  const { policy, ring, segments, flushes, commits, durability } = status;
  const rows = [
    ['records', `LSN ${status.firstLsn.toLocaleString()} to ${status.appendLsn.toLocaleString()}`],
    [
      'flushed, committed',
      `${status.flushLsn.toLocaleString()}, ${status.commitLsn.toLocaleString()}`,
    ],
  ];
  if (status.applyLsn !== null) rows.push(['applied', status.applyLsn.toLocaleString()]);
  if (policy !== null) {
    const { synchronousStandbys } = policy;
    rows.push([
      'a commit is',
      synchronousStandbys === null ? durability : `${durability}, ${synchronousStandbys}`,
    ]);
    const oldest =
      commits.oldestWaitMs === null ? '' : `, oldest ${short(commits.oldestWaitMs)} ms`;
    rows.push(['commits that wait', `${commits.waiting}${oldest}`]);
  }
  rows.push(
    [
      'log memory',
      `${Math.round((100 * (ring.bytes - ring.free)) / ring.bytes)} % of ${bytes(ring.bytes)}`,
    ],
    ['on disk', `${bytes(segments.diskBytes)}, ${status.io}`],
    ['slowest flush', `${short(flushes.slowestMs)} ms of ${flushes.count.toLocaleString()}`],
    [`${status.role} since`, new Date(status.roleSince).toLocaleString()],
    ['last error', status.lastError === null ? 'none' : status.lastError.message],
  );
  at('figures').replaceChildren(
    ...rows.flatMap(([name, value]) => [element('dt', name), element('dd', String(value))]),
  );
}

function showEvents({ events }) {
  const kinds = { error: 'bad', warn: 'warn' };
  const items = [...events].reverse().map(({ at: time, level, message }) => {
    const item = document.createElement('li');
    item.append(
      element('span', new Date(time).toLocaleTimeString(), 'muted'),
      element('span', message, kinds[level] ?? ''),
    );
    return item;
  });
  at('events').replaceChildren(...items);
}

function element(name, words, kind = '') {
  const made = document.createElement(name);
  made.textContent = words;
  if (kind !== '') made.className = kind;
  return made;
}

function bytes(count) {
  return `${short(count)}B`;
}

async function turn() {
  const trouble = at('trouble');
  try {
    const status = await look();
    note(status);
    show(status);
    trouble.hidden = true;
  } catch (error) {
    trouble.textContent = `No newer status: ${error.message}`;
    trouble.hidden = false;
  }
  setTimeout(turn, PERIOD_MS);
}

void turn();
