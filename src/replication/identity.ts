/** What is fixed when a log is created, and the node that speaks. */
export interface LogIdentity {
  readonly logId: string;
  readonly salt: string;
  readonly segmentBytes: number;
  readonly padded: boolean;
  readonly maxRecordBytes: number;
}

export interface NodeIdentity extends LogIdentity {
  readonly nodeId: string;
  readonly name: string;
}

/** Why two logs cannot be one, or undefined. */
export function identityMismatch(own: LogIdentity, other: LogIdentity): string | undefined {
  if (own.logId !== other.logId || own.salt !== other.salt) return 'it holds another log';
  if (own.segmentBytes !== other.segmentBytes) return 'its segments have another size';
  if (own.padded !== other.padded) return 'it pads batches otherwise';
  if (own.maxRecordBytes !== other.maxRecordBytes) return 'its largest record is another';
  return undefined;
}
