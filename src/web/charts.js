// Charts of the last minutes, by uPlot, in the colours of the page.

const { uPlot } = globalThis;
const HEIGHT = 180;
const palette = ['--accent', '--second', '--good', '--bad', '--warn', '--muted'];

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** One chart; its lines may change from one time to the next. */
export class Chart {
  #place;
  #plot;
  #names = '';
  #data = [[]];

  constructor(place) {
    this.#place = place;
    new ResizeObserver(() => this.#fit()).observe(place);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#make());
  }

  /** `times` in seconds since 1970; each line has a name and as many values, null where unknown. */
  show(times, lines) {
    this.#data = [times, ...lines.map(({ values }) => values)];
    const names = JSON.stringify(lines.map(({ name }) => name));
    if (names !== this.#names) {
      this.#names = names;
      this.#make();
    } else this.#plot?.setData(this.#data);
  }

  #make() {
    if (this.#names === '') return;
    this.#plot?.destroy();
    const axis = { stroke: colour('--muted'), grid: { stroke: colour('--line'), width: 1 } };
    const series = JSON.parse(this.#names).map((label, i) => ({
      label,
      stroke: colour(palette[i % palette.length]),
      width: 1.5,
      points: { show: false },
      value: (_, value) => (value == null ? '–' : short(value)),
    }));
    const options = {
      width: Math.max(200, this.#place.clientWidth),
      height: HEIGHT,
      cursor: { y: false },
      scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
      axes: [axis, { ...axis, size: 56, values: (_, ticks) => ticks.map(short) }],
      series: [{}, ...series],
    };
    this.#plot = new uPlot(options, this.#data, this.#place);
  }

  #fit() {
    this.#plot?.setSize({ width: Math.max(200, this.#place.clientWidth), height: HEIGHT });
  }
}

/** A number in few characters. */
export function short(value) {
  if (value >= 1e9) return `${+(value / 1e9).toPrecision(3)} G`;
  if (value >= 1e6) return `${+(value / 1e6).toPrecision(3)} M`;
  if (value >= 1e4) return `${+(value / 1e3).toPrecision(3)} k`;
  return String(+value.toPrecision(3));
}
