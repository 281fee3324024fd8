/** A broken invariant is a defect of this library: nothing may go on as if it held. */
export function assert(condition: boolean, invariant: string): asserts condition {
  if (!condition) throw new Error(`walmirror: broken invariant: ${invariant}`);
}
