export type Style = 'bold' | 'dim' | 'red' | 'yellow' | 'green' | 'cyan';
/** A piece of a line; without a style, as it is. */
export type Piece = string | readonly [string, Style];
export type Line = readonly Piece[];

const codes: Readonly<Record<Style, readonly [number, number]>> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  yellow: [33, 39],
  green: [32, 39],
  cyan: [36, 39],
};

/** The text of a line that is cut at the edge of the terminal, with or without its styles. */
export function paint(line: Line, columns: number, colour: boolean): string {
  let room = columns;
  let text = '';
  for (const piece of line) {
    if (room <= 0) break;
    const [whole, style] = typeof piece === 'string' ? [piece, undefined] : piece;
    const units = [...printable(whole)];
    // The last column says that there is more.
    const cut = units.length > room ? `${units.slice(0, room - 1).join('')}…` : units.join('');
    room -= Math.min(room, units.length);
    text += style === undefined || !colour ? cut : coded(cut, style);
  }
  return text;
}

/** Names and reasons come from peers: nothing of theirs may steer the terminal. */
function printable(text: string): string {
  return text.replace(/\p{C}/gu, '?');
}

function coded(text: string, style: Style): string {
  const [on, off] = codes[style];
  return `\u001b[${on}m${text}\u001b[${off}m`;
}
