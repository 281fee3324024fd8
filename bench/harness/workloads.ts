/** The shapes that are measured, for walmirror and its peers alike. */

export const committerCounts = [1, 64, 1024] as const;

/** Bytes of a record, in the commit rows. */
export const recordSize = 128;

/** Bytes of a record, in the bulk rows. */
export const bulkSizes = { '128': 128, '1k': 1024, '64k': 65_536 } as const;
