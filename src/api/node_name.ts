export const maxNameBytes = 63;

/** What a node can be called. */
export const nodeNameRule = `1 to ${maxNameBytes} letters, digits, '_', '-' and '.'`;

export function isNodeName(name: string): boolean {
  return /^[\w.-]+$/.test(name) && name.length <= maxNameBytes;
}
