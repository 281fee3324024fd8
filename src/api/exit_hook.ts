/** What has to be closed when the process, or the worker, ends. */
export interface ClosesAtExit {
  /** Blocks until what was appended is flushed. Must not throw. */
  closeAtExit(): void;
}

const open = new Set<ClosesAtExit>();

function onExit(): void {
  for (const log of [...open]) log.closeAtExit();
}

/**
 * One listener for all logs, and only while there is one: no signal handlers, nothing at import.
 */
export function closeAtExit(log: ClosesAtExit): void {
  if (open.size === 0) process.on('exit', onExit);
  open.add(log);
}

export function forgetAtExit(log: ClosesAtExit): void {
  if (open.delete(log) && open.size === 0) process.off('exit', onExit);
}
