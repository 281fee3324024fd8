// The group as a picture: the primary at the left, those that it feeds at the right.

const NS = 'http://www.w3.org/2000/svg';
const BOX = { width: 290, height: 70, gap: 16 };
const WIDTH = 900;
const EDGE = 10;
const INDENT = 40;
/** Narrower than this, in pixels, the text beside each other would be too small to read. */
const NARROW = 560;

/** Draws what this log knows of its group into `place`. */
export function drawGroup(place, status) {
  const { left, right } = nodesOf(status);
  const svg = place.clientWidth < NARROW ? stacked(left, right) : spread(left, right);
  const title = make('title', {});
  title.textContent = `${left.title}, ${right.map((node) => `${node.title}: ${node.lines[0]}`)}`;
  svg.prepend(title);
  place.replaceChildren(svg);
}

/** The first node at the left, in the middle; the others at the right. */
function spread(left, right) {
  const rows = Math.max(1, right.length);
  const height = rows * (BOX.height + BOX.gap) - BOX.gap + 2 * EDGE;
  const svg = make('svg', { viewBox: `0 0 ${WIDTH} ${height}`, role: 'img' });
  const middle = (height - BOX.height) / 2;
  right.forEach((node, i) => {
    const y = EDGE + i * (BOX.height + BOX.gap);
    svg.append(edge(EDGE + BOX.width, middle + BOX.height / 2, y + BOX.height / 2, node));
    svg.append(box(WIDTH - EDGE - BOX.width, y, node));
  });
  svg.append(box(EDGE, middle, left));
  return svg;
}

/** The first node at the top; the others below it, each on a branch. */
function stacked(left, right) {
  const height = (1 + right.length) * (BOX.height + BOX.gap) + EDGE;
  const width = BOX.width + INDENT + 2 * EDGE;
  const svg = make('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img' });
  right.forEach((node, i) => {
    const y = EDGE + (i + 1) * (BOX.height + BOX.gap);
    const d = `M ${2 * EDGE} ${EDGE + BOX.height} V ${y + BOX.height / 2} H ${EDGE + INDENT}`;
    svg.append(make('path', { d, class: node.link }));
    const [first, ...rest] = node.lines;
    const lines = node.label === '' ? [first, ...rest] : [first, node.label];
    svg.append(box(EDGE + INDENT, y, { ...node, lines }));
  });
  svg.append(box(EDGE, EDGE, left));
  return svg;
}

function nodesOf(status) {
  const self = {
    title: status.name,
    lines: [
      `${status.role}, epoch ${status.term.epoch}`,
      `LSN ${status.flushLsn.toLocaleString()}`,
    ],
    self: true,
  };
  if (status.upstream !== null) {
    const { primary, address, security, connected, primaryLsn } = status.upstream;
    const lines = ['primary', `${address}${secured(security)}`];
    const lag = primaryLsn === null ? null : Math.max(0, primaryLsn - status.flushLsn);
    const label = connected ? lagText(lag) : 'no link';
    const link = connected ? 'live' : 'down';
    return { left: { title: primary || 'the primary', lines }, right: [{ ...self, link, label }] };
  }
  return { left: self, right: status.standbys.map(standbyNode) };
}

function standbyNode({ name, state, synchronous, address, security, flushLsn, lag, since }) {
  const gone = state === 'disconnected';
  const sync = synchronous ? 'synchronous' : 'asynchronous';
  const first = gone ? `away since ${new Date(since).toLocaleTimeString()}` : `${state}, ${sync}`;
  return {
    title: name,
    lines: [
      first,
      `LSN ${flushLsn.toLocaleString()}${gone ? '' : `, ${address}${secured(security)}`}`,
    ],
    link: gone ? 'down' : state,
    label: lagText(lag.flush.records),
  };
}

function secured(security) {
  return { secret: ', secret', tls: ', TLS', 'tls+secret': ', TLS + secret' }[security] ?? '';
}

function lagText(records) {
  if (records === null) return '';
  return records === 0 ? 'nothing behind' : `${records.toLocaleString()} records behind`;
}

function box(x, y, { title, lines, self }) {
  const group = make('g', self ? { class: 'self' } : {});
  group.append(make('rect', { x, y, width: BOX.width, height: BOX.height, rx: 8 }));
  group.append(label(x + 14, y + 24, title, 'title'));
  lines.forEach((line, i) => {
    group.append(label(x + 14, y + 43 + i * 16, line, 'small'));
  });
  return group;
}

function edge(x, from, to, { link, label: words }) {
  const end = WIDTH - EDGE - BOX.width;
  const half = (x + end) / 2;
  const group = make('g', {});
  const d = `M ${x} ${from} C ${half} ${from}, ${half} ${to}, ${end} ${to}`;
  group.append(make('path', { d, class: link }));
  // On the side of the line's end that the line does not come from.
  const text = label(end - 10, to > from ? to + 18 : to - 8, words, 'small');
  text.setAttribute('text-anchor', 'end');
  group.append(text);
  return group;
}

function label(x, y, words, kind) {
  const text = make('text', { x, y, class: kind });
  text.textContent = words.length > 38 ? `${words.slice(0, 37)}…` : words;
  return text;
}

function make(name, attributes) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}
