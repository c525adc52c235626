/**
 * What the readers of a file hand on: messages and problems, each with the place it was found at. pcap.ts, tcp.ts, hex.ts
 * and cutter.ts make them, dump.ts joins them, ofdump.ts prints them.
 */

/** Where bytes came from. */
export interface Place {
  /** Offset in bytes: in the file, or in the bytes that hex text stands for. */
  readonly offset: number;
  /** Line of hex text, from 1. */
  readonly line?: number | undefined;
  /** Number of the packet in a capture, from 1. */
  readonly packet?: number | undefined;
  /** Time of that packet, in nanoseconds since 1970; undefined when the capture has none. */
  readonly timeNs?: bigint | undefined;
  /** Direction: `10.0.0.1:41000 > 10.0.0.2:6653`. */
  readonly stream?: string | undefined;
}

/** A whole message, as its header tells; nobody has looked at its contents. */
export interface Found {
  readonly kind: 'message';
  readonly bytes: Buffer;
  readonly place: Place;
}

/** Something that cannot be read. */
export interface Problem {
  readonly kind: 'problem';
  readonly reason: string;
  readonly place: Place;
}

export type Item = Found | Problem;

export function problem(place: Place, reason: string): Problem {
  return { kind: 'problem', place, reason };
}

/** Appends to `out`; there may be more items than a call can have arguments. */
export function append<T>(out: T[], items: readonly T[]): void {
  for (const item of items) out.push(item);
}
