/**
 * The two errors of messages and bytes (those of connections are in connectionErrors.ts). Decoders (codec.ts and what it
 * stands on, splitter.ts) throw `OfDecodeError`; encoders, factories and `fromJson` throw `OfEncodeError`.
 */

/** The OpenFlow error (type and code) with which a peer can be told what was wrong: OpenFlow 1.3.5 §7.4.4. */
export interface OfErrorCode {
  readonly type: number;
  readonly code: number;
}

/** Where and why bytes could not be read as OpenFlow. */
export class OfDecodeError extends Error {
  override readonly name = 'OfDecodeError';
  /** Version byte of the header, or 0 when there were too few bytes to see one. */
  readonly version: number;
  /** Message type of the header, or -1 when there were too few bytes to see one. */
  readonly type: number;
  /** Offset in bytes from the start of the message. */
  readonly offset: number;
  /** What to answer with in an OFPErrorMsg. */
  readonly ofError: OfErrorCode;
  /** From a `MessageSplitter`: the messages that were complete before the bad header. Empty from `decode`. */
  readonly preceding: readonly Buffer[];

  constructor(
    message: string,
    where: {
      version: number;
      type: number;
      offset: number;
      ofError: OfErrorCode;
      preceding?: readonly Buffer[];
    },
  ) {
    super(`${message} (version ${where.version}, type ${where.type}, offset ${where.offset})`);
    this.version = where.version;
    this.type = where.type;
    this.offset = where.offset;
    this.ofError = where.ofError;
    this.preceding = where.preceding ?? [];
  }
}

/** A value that does not fit the wire: names the class and the field. */
export class OfEncodeError extends Error {
  override readonly name = 'OfEncodeError';
  /** Ryu class name, for example `OFPFlowMod`. */
  readonly cls: string;
  /** Field of that class. */
  readonly field: string;

  constructor(cls: string, field: string, reason: string) {
    super(`${cls}.${field}: ${reason}`);
    this.cls = cls;
    this.field = field;
  }
}
