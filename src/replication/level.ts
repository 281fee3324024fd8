/**
 * How safe a commit is; each level includes the ones before it. PostgreSQL's
 * `synchronous_commit`.
 */
export const commitLevels = [
  'off',
  'local',
  'remote_write',
  'remote_flush',
  'remote_apply',
] as const;
export type CommitLevel = (typeof commitLevels)[number];
