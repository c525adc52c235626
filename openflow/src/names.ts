/**
 * Symbolic names of numbers, found in the constants of their version: of any constants with a prefix, for print.ts, and of
 * the types and codes of errors, whose prefixes hang on each other, for connectionErrors.ts as well.
 */
import { ofproto_v1_3 } from './constants.ts';
import { ofproto_v1_0 } from './constants10.ts';
import { ofproto_v1_2 } from './constants12.ts';
import { ofproto_v1_4 } from './constants14.ts';
import { ofproto_v1_5 } from './constants15.ts';

/** Constants by version number. */
const OFPROTO: Readonly<Record<number, Readonly<Record<string, unknown>>>> = {
  1: ofproto_v1_0,
  3: ofproto_v1_2,
  4: ofproto_v1_3,
  5: ofproto_v1_4,
  6: ofproto_v1_5,
};

const tables = new Map<string, ReadonlyMap<number, string>>();

/** Names, without the prefix, of the constants with a prefix, by value; of two with one value the first counts. */
export function namesOf(version: number, prefix: string): ReadonlyMap<number, string> {
  const key = `${version}${prefix}`;
  let table = tables.get(key);
  if (table === undefined) {
    const made = new Map<number, string>();
    for (const [name, value] of Object.entries(OFPROTO[version] ?? ofproto_v1_3)) {
      if (!name.startsWith(prefix) || typeof value !== 'number' || made.has(value)) continue;
      if (/_(MASK|SHIFT|BITS)$|^OFPC_FRAG_(?!NORMAL)|^OFPBF_TIME/.test(name) && prefix !== 'OFPC_FRAG_') continue;
      made.set(value, name.slice(prefix.length));
    }
    table = made;
    tables.set(key, table);
  }
  return table;
}

/** Prefixes of error codes by the name of the error type. */
const ERROR_CODES: Readonly<Record<string, string>> = {
  HELLO_FAILED: 'OFPHFC_',
  BAD_REQUEST: 'OFPBRC_',
  BAD_ACTION: 'OFPBAC_',
  BAD_INSTRUCTION: 'OFPBIC_',
  BAD_MATCH: 'OFPBMC_',
  FLOW_MOD_FAILED: 'OFPFMFC_',
  GROUP_MOD_FAILED: 'OFPGMFC_',
  PORT_MOD_FAILED: 'OFPPMFC_',
  TABLE_MOD_FAILED: 'OFPTMFC_',
  QUEUE_OP_FAILED: 'OFPQOFC_',
  SWITCH_CONFIG_FAILED: 'OFPSCFC_',
  ROLE_REQUEST_FAILED: 'OFPRRFC_',
  METER_MOD_FAILED: 'OFPMMFC_',
  TABLE_FEATURES_FAILED: 'OFPTFFC_',
  BAD_PROPERTY: 'OFPBPC_',
  ASYNC_CONFIG_FAILED: 'OFPACFC_',
  FLOW_MONITOR_FAILED: 'OFPMOFC_',
  BUNDLE_FAILED: 'OFPBFC_',
};
const ONF = 0x4f4e4600;

/** What names an error: the fields of an OFPErrorMsg. `code` is null in experimenters' errors. */
export interface ErrorNumbers {
  readonly version: number;
  readonly type: number;
  readonly code: number | null;
  readonly experimenter?: number;
  readonly exp_type?: number;
}

/**
 * Names of an error's type and code, for example `OFPET_FLOW_MOD_FAILED` and `OFPFMFC_TABLE_FULL`; undefined for what has
 * no name in its version. ONF's errors in 1.3 have an ONFERR_ name. OpenFlow 1.3.5 §7.4.4.
 */
export function errorNames(error: ErrorNumbers): { type: string | undefined; code: string | undefined } {
  const { version, type, code, experimenter, exp_type } = error;
  const name = namesOf(version, 'OFPET_').get(type);
  const numbers = code === null && experimenter === ONF ? exp_type : code;
  const prefix = code === null && experimenter === ONF ? 'ONFERR_' : name === undefined ? undefined : ERROR_CODES[name];
  const codeName = prefix === undefined ? undefined : namesOf(version, prefix).get(numbers ?? -1);
  return {
    type: name === undefined ? undefined : `OFPET_${name}`,
    code: codeName === undefined ? undefined : `${prefix}${codeName}`,
  };
}

/**
 * `OFPET_BAD_REQUEST OFPBRC_BAD_LEN`: type and code of an error message (`OfDecodeError.ofError` has both) by the names of
 * a version, with numbers for what has no name there. OpenFlow 1.3.5 §7.4.4.
 */
export function errorText(version: number, type: number, code: number | null): string {
  const names = errorNames({ version, type, code });
  const typeText = names.type ?? `type ${type}`;
  return code === null ? typeText : `${typeText} ${names.code ?? `code ${code}`}`;
}
