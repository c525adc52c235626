/**
 * Names of OpenFlow errors, found in the constants of their version (constants.ts), and the errors that a connection
 * (connection.ts) reports: `OfRequestError` for what the peer refused, `OfConnectionError` for what never got an answer.
 */
import { ofproto_v1_3 } from './constants.ts';
import { CONSTANTS, type ErrorMessage } from './dialect.ts';
import type { OfMessage } from './messages.ts';

/** Prefix of the codes of each error type. */
const CODE_PREFIX: Readonly<Record<string, string>> = {
  OFPET_HELLO_FAILED: 'OFPHFC_',
  OFPET_BAD_REQUEST: 'OFPBRC_',
  OFPET_BAD_ACTION: 'OFPBAC_',
  OFPET_BAD_INSTRUCTION: 'OFPBIC_',
  OFPET_BAD_MATCH: 'OFPBMC_',
  OFPET_FLOW_MOD_FAILED: 'OFPFMFC_',
  OFPET_GROUP_MOD_FAILED: 'OFPGMFC_',
  OFPET_PORT_MOD_FAILED: 'OFPPMFC_',
  OFPET_TABLE_MOD_FAILED: 'OFPTMFC_',
  OFPET_QUEUE_OP_FAILED: 'OFPQOFC_',
  OFPET_SWITCH_CONFIG_FAILED: 'OFPSCFC_',
  OFPET_ROLE_REQUEST_FAILED: 'OFPRRFC_',
  OFPET_METER_MOD_FAILED: 'OFPMMFC_',
  OFPET_TABLE_FEATURES_FAILED: 'OFPTFFC_',
  OFPET_BAD_PROPERTY: 'OFPBPC_',
  OFPET_ASYNC_CONFIG_FAILED: 'OFPACFC_',
  OFPET_FLOW_MONITOR_FAILED: 'OFPMOFC_',
  OFPET_BUNDLE_FAILED: 'OFPBFC_',
};
const ONF_EXPERIMENTER = 0x4f4e4600;

interface Names {
  readonly types: ReadonlyMap<number, string>;
  /** By type and code, `type << 16 | code`. */
  readonly codes: ReadonlyMap<number, string>;
  /** ONF's experimenter errors by exp_type. */
  readonly onf: ReadonlyMap<number, string>;
}
const byVersion = new Map<number, Names>();

function namesOf(version: number): Names {
  const known = byVersion.get(version);
  if (known !== undefined) return known;
  const types = new Map<number, string>();
  const codes = new Map<number, string>();
  const onf = new Map<number, string>();
  // What a peer of a version nobody speaks here complains of is the hello, and that error is the same in all.
  const numbers = Object.entries(CONSTANTS.get(version) ?? ofproto_v1_3).filter(
    (e): e is [string, number] => typeof e[1] === 'number',
  );
  const set = (map: Map<number, string>, key: number, name: string) => {
    if (!map.has(key)) map.set(key, name);
  };
  for (const [typeName, type] of numbers) {
    if (typeName.startsWith('ONFERR_')) set(onf, type, typeName);
    if (!typeName.startsWith('OFPET_')) continue;
    set(types, type, typeName);
    const prefix = CODE_PREFIX[typeName];
    if (prefix === undefined) continue;
    for (const [name, code] of numbers) if (name.startsWith(prefix)) set(codes, type * 65536 + code, name);
  }
  const names = { types, codes, onf };
  byVersion.set(version, names);
  return names;
}

/** Names of an error's type and code, or numbers where its version has no name for them. OpenFlow 1.3.5 §7.4.4. */
export function errorNames(error: ErrorMessage): { type: string; code: string } {
  const names = namesOf(error.version);
  const type = names.types.get(error.type) ?? String(error.type);
  if (error.code === null) {
    const { experimenter = 0, exp_type = 0 } = error;
    const name = experimenter === ONF_EXPERIMENTER ? names.onf.get(exp_type) : undefined;
    return { type, code: name ?? `0x${experimenter.toString(16)}:${exp_type}` };
  }
  return { type, code: names.codes.get(error.type * 65536 + error.code) ?? String(error.code) };
}

/** The text an error carries as people may read it: only the HELLO_FAILED errors have one. OpenFlow 1.3.5 §7.4.4.1. */
export function errorText(error: ErrorMessage): string {
  const { type, code } = errorNames(error);
  const said = type === 'OFPET_HELLO_FAILED' ? error.data.subarray(0, 200).toString('latin1') : '';
  const text = said.replace(/[^\x20-\x7e]+/g, ' ').trim();
  return text === '' ? `${type}/${code}` : `${type}/${code} (${text})`;
}

/** The peer answered a message with an error. */
export class OfRequestError extends Error {
  override readonly name = 'OfRequestError';
  /** The error as it came; its `data` quotes the beginning of the message. */
  readonly error: ErrorMessage;
  /** Name of its type, for example `OFPET_FLOW_MOD_FAILED`. */
  readonly type: string;
  /** Name of its code, for example `OFPFMFC_TABLE_FULL`. */
  readonly code: string;
  /** What it answers; undefined when that is not remembered any more. */
  readonly request: OfMessage | undefined;

  constructor(error: ErrorMessage, request: OfMessage | undefined) {
    const { type, code } = errorNames(error);
    super(`${request?.cls ?? 'a message'} (xid ${error.xid}) was refused: ${errorText(error)}`);
    this.error = error;
    this.type = type;
    this.code = code;
    this.request = request;
  }

  /** Type and code in one word: `OFPET_FLOW_MOD_FAILED/OFPFMFC_TABLE_FULL`. */
  get symbol(): string {
    return `${this.type}/${this.code}`;
  }
}

/**
 * Why a request has no answer. `notUp`: there is no agreed version yet, or no connection any more, and nothing was sent.
 * `tooMany`: a limit of this side's, and nothing was sent. `timeout`, `down`: it may have been carried out. `badReply`: it was
 * answered by something that cannot be read, or is larger than is allowed.
 */
export type OfConnectionErrorCode = 'notUp' | 'tooMany' | 'timeout' | 'down' | 'badReply';

/** A request that got no answer, or a wait that came to nothing. */
export class OfConnectionError extends Error {
  override readonly name = 'OfConnectionError';
  readonly code: OfConnectionErrorCode;

  constructor(code: OfConnectionErrorCode, message: string) {
    super(message);
    this.code = code;
  }

  /** Whether the peer may have done what it was asked. */
  get outcomeUnknown(): boolean {
    return this.code === 'timeout' || this.code === 'down' || this.code === 'badReply';
  }
}
