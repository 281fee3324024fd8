const BARS = '▁▂▃▄▅▆▇█';

/** The last `width` values as a row of bars, the highest one full; zero is the lowest bar. */
export function sparkline(values: readonly number[], width: number): string {
  const shown = width <= 0 ? [] : values.slice(-width);
  const most = Math.max(0, ...shown);
  return shown
    .map((value) => {
      if (!(value > 0)) return BARS[0];
      return BARS[Math.min(BARS.length - 1, Math.ceil((value / most) * (BARS.length - 1)))];
    })
    .join('');
}
