/**
 * The errors that a connection (connection.ts) reports: `OfRequestError` for what the peer refused, `OfConnectionError` for
 * what got no answer. names.ts has the names of what was refused for which reason.
 */
import type { ErrorMessage } from './dialect.ts';
import type { OfMessage } from './messages.ts';
import { errorNames } from './names.ts';

/** Names of an error's type and code, with numbers for what has no name. */
function named(error: ErrorMessage): { type: string; code: string } {
  const { type, code } = errorNames(error);
  const { experimenter = 0, exp_type = 0 } = error;
  const number = error.code === null ? `0x${experimenter.toString(16)}:${exp_type}` : String(error.code);
  return { type: type ?? String(error.type), code: code ?? number };
}

/** The text an error carries as people may read it: only the HELLO_FAILED errors have one. OpenFlow 1.3.5 §7.4.4.1. */
export function refusalText(error: ErrorMessage): string {
  const { type, code } = named(error);
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
    const { type, code } = named(error);
    super(`${request?.cls ?? 'a message'} (xid ${error.xid}) was refused: ${refusalText(error)}`);
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
