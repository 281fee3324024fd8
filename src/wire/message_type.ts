/**
 * Every message is
 *
 *   offset 0        4     5
 *         +--------+-----+----------------
 *         | length |type | fields ...       length u32: bytes after this field
 *         +--------+-----+----------------
 *
 *   standby                                primary
 *      | -- STANDBY_HELLO (<= 1 KiB) ------> |   who am I, which log, which protocol versions
 *      | <------ PRIMARY_HELLO or REFUSAL -- |   who am I, which log
 *      | -- POSITION ----------------------> |   my history, end, its checksum, known commit
 *      | <------------- ACCEPT or REFUSAL -- |   my history and rule, start here, session number
 *      | <------------ DATA, COMMIT, RULE -- |   log bytes; commit place, heartbeat; a newer rule
 *      | <------------------------- SLOTS -- |   claims of standbys (slots_message.ts)
 *      | -- ACK ---------------------------> |   written, flushed, applied, rule; heartbeat
 *
 * Whoever repairs a copy of the log says FETCH instead of a hello (range_messages.ts). A primary
 * asks a standby for a range of the log with WANT (want_messages.ts). Where nodes share a secret
 * they prove it first (auth_messages.ts). Members of a group ask each other how they stand, and are
 * fenced for a promotion, with SURVEY and FENCE instead of a hello (member_messages.ts); a primary
 * that was demoted hands over to one of them with HANDOVER (handover_messages.ts). A standby of
 * whose place in the log too little is left says SEED_ASK (seed_messages.ts).
 */
export const MessageType = {
  STANDBY_HELLO: 1,
  PRIMARY_HELLO: 2,
  REFUSAL: 3,
  POSITION: 4,
  ACCEPT: 5,
  DATA: 6,
  COMMIT: 7,
  ACK: 8,
  RULE: 9,
  FETCH: 10,
  RANGE: 11,
  WANT: 12,
  PIECE: 13,
  CANNOT: 14,
  AUTH_START: 15,
  AUTH_CHALLENGE: 16,
  AUTH_PROOF: 17,
  SURVEY: 18,
  STANDING: 19,
  FENCE: 20,
  GRANT: 21,
  HANDOVER: 22,
  TAKEN: 23,
  SLOTS: 24,
  SEED_ASK: 25,
  SEED_OFFER: 26,
  SEED_PIECE: 27,
} as const;

/** Oldest and newest version of the protocol that this release speaks. */
export const minProtocol = 1;
export const maxProtocol = 6;
/** From this version on a primary may send WANT. */
export const wantProtocol = 2;
/** From this version on a member takes HANDOVER. */
export const handoverProtocol = 3;
/** From this version on ACCEPT has the witnesses of the term. */
export const witnessProtocol = 4;
/** From this version on a primary sends SLOTS. */
export const slotsProtocol = 5;
/** From this version on a peer takes SEED_ASK. */
export const seedProtocol = 6;

export const lengthBytes = 4;
/** Length and type. */
export const prefixBytes = 5;
/** All that a stranger may send. */
export const maxHelloBytes = 1024;
/** Largest message except DATA: a history of 256 entries, the longest rule, a little more. */
export const maxMessageBytes = 16 * 1024;
/** Log bytes in one DATA message. */
export const maxDataBytes = 1024 * 1024;
