/**
 * Splits what arrives on a QMP socket into messages: one JSON object a line. Pure; `io/qmp.ts` feeds it whatever pieces the
 * socket delivers. Source: QEMU's QMP protocol specification (docs/interop/qmp-spec).
 */
import { FairwayError } from '../../contracts/common.ts';

export type QmpMessage =
  /** `capabilities`: what the server offers to be asked for, e.g. `oob`. */
  | { kind: 'greeting'; capabilities: string[] }
  /** `atMs`: when QEMU says it happened, by the host's clock, ms since the epoch; absent when it does not say. */
  | { kind: 'event'; name: string; data: Record<string, unknown>; atMs?: number }
  | { kind: 'return'; id: number | undefined; value: unknown }
  | { kind: 'error'; id: number | undefined; class: string; text: string };

/** Longest line accepted; real answers stay far below. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;

function garbage(line: string, why: string): FairwayError {
  const shown = line.length > 80 ? `${line.slice(0, 80)}…` : line;
  return new FairwayError('qmp-garbage', `the QMP peer sent ${why}: ${JSON.stringify(shown)}`, ['badInput']);
}

const isRecord = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null && !Array.isArray(v);

function instantOf(timestamp: unknown): number | undefined {
  if (!isRecord(timestamp)) return undefined;
  const { seconds, microseconds } = timestamp;
  // QEMU writes -1 for both when the host could not tell.
  if (typeof seconds !== 'number' || typeof microseconds !== 'number' || seconds < 0) return undefined;
  return seconds * 1000 + microseconds / 1000;
}

/** Reads one line. @throws FairwayError `qmp-garbage` for anything that is not a QMP message. */
export function parseQmpLine(line: string): QmpMessage {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw garbage(line, 'something that is not JSON');
  }
  if (isRecord(value)) {
    const id = typeof value.id === 'number' ? value.id : undefined;
    const { event, error, data } = value;
    if (typeof event === 'string') {
      const atMs = instantOf(value.timestamp);
      return { kind: 'event', name: event, data: isRecord(data) ? data : {}, ...(atMs === undefined ? {} : { atMs }) };
    }
    if (isRecord(error) && typeof error.class === 'string' && typeof error.desc === 'string') {
      return { kind: 'error', id, class: error.class, text: error.desc };
    }
    if ('return' in value) return { kind: 'return', id, value: value.return };
    if (isRecord(value.QMP)) {
      const offered: unknown = value.QMP.capabilities;
      const capabilities = Array.isArray(offered) ? offered.filter((c): c is string => typeof c === 'string') : [];
      return { kind: 'greeting', capabilities };
    }
  }
  throw garbage(line, 'JSON that is no QMP message');
}

/** A reader that keeps the unfinished line between pieces. `push` throws FairwayError `qmp-garbage`. */
export function createQmpReader(): { push(piece: Uint8Array): QmpMessage[] } {
  let rest = Buffer.alloc(0);
  return {
    push(piece) {
      let data = rest.length === 0 ? Buffer.from(piece) : Buffer.concat([rest, piece]);
      const messages: QmpMessage[] = [];
      for (let at = data.indexOf(0x0a); at >= 0; at = data.indexOf(0x0a)) {
        const line = data.toString('utf8', 0, at).trim();
        data = data.subarray(at + 1);
        if (line !== '') messages.push(parseQmpLine(line));
      }
      if (data.length > MAX_LINE_BYTES) throw garbage(data.toString('latin1', 0, 100), 'a line without end');
      rest = data;
      return messages;
    },
  };
}
