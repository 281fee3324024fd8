import {
  type ControlReply,
  type ControlRequest,
  type ControlRequestOptions,
  controlRequest,
} from '../control/client.js';

/** Asks the process that has the log open, in whichever of its directories it listens. */
export async function askAny(
  dirs: readonly string[],
  request: ControlRequest,
  options: ControlRequestOptions,
): Promise<ControlReply> {
  let failure: unknown;
  for (const dir of dirs) {
    try {
      const reply = await controlRequest(dir, request, options);
      if (reply.listening) return reply;
    } catch (error) {
      // An answer, even a refusal, is that of the process; silence may be that of one directory.
      if ((error as { code?: unknown }).code !== 'WAL_CONTROL' || dirs.length === 1) throw error;
      failure ??= error;
    }
  }
  if (failure !== undefined) throw failure;
  return { listening: false };
}
