/** What the tests of bytes and objects that must be refused have in common. */
import { decode, OfDecodeError, OfEncodeError } from 'node-openflow';

function thrownBy(f: () => unknown): unknown {
  try {
    f();
  } catch (e) {
    return e;
  }
  return undefined;
}

/** Expects that `bytes` do not decode, with which error to answer, and where it lies. */
export function undecodable(bytes: Buffer, type: number, code: number, offset: number): void {
  const error = thrownBy(() => decode(bytes));
  expect(error).toBeInstanceOf(OfDecodeError);
  expect(error).toMatchObject({ ofError: { type, code }, offset, version: bytes[0] ?? 0 });
}

/** Expects an OfEncodeError that names the class and the field. */
export function refused(f: () => unknown, cls: string, field: string): void {
  const error = thrownBy(f);
  expect(error).toBeInstanceOf(OfEncodeError);
  expect(error).toMatchObject({ cls, field });
}
