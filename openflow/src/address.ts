/**
 * Text forms of addresses, as Ryu prints them: MAC lower-case with colons, IPv4 dotted, IPv6 as inet_ntop does.
 * Used by oxm.ts for match values and by runtime.ts for `hw_addr`.
 */

const HEX2: string[] = [];
for (let i = 0; i < 256; i++) HEX2.push(i.toString(16).padStart(2, '0'));
const DEC: string[] = [];
for (let i = 0; i < 256; i++) DEC.push(String(i));

function hexDigit(c: number): number {
  if (c >= 48 && c <= 57) return c - 48;
  if (c >= 97 && c <= 102) return c - 87;
  if (c >= 65 && c <= 70) return c - 55;
  return -1;
}

/** Writes the six bytes of a MAC address at `p`; false when the text is not one. */
export function writeMac(b: Uint8Array, p: number, text: string): boolean {
  let at = 0;
  for (let i = 0; i < 6; i++) {
    if (i > 0) {
      const sep = text.charCodeAt(at++);
      if (sep !== 58 && sep !== 45) return false;
    }
    let v = hexDigit(text.charCodeAt(at++));
    if (v < 0) return false;
    const low = hexDigit(text.charCodeAt(at));
    if (low >= 0) {
      v = v * 16 + low;
      at++;
    }
    b[p + i] = v;
  }
  return at === text.length;
}

export function readMac(b: Uint8Array, p: number): string {
  return `${HEX2[b[p] as number]}:${HEX2[b[p + 1] as number]}:${HEX2[b[p + 2] as number]}:${HEX2[b[p + 3] as number]}:${HEX2[b[p + 4] as number]}:${HEX2[b[p + 5] as number]}`;
}

/** The address as an unsigned 32-bit number, or -1 when the text is not dotted IPv4. */
export function parseIpv4(text: string): number {
  let value = 0;
  let part = 0;
  let digits = 0;
  let dots = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 46) {
      if (digits === 0 || ++dots > 3) return -1;
      value = value * 256 + part;
      part = 0;
      digits = 0;
    } else {
      if (c < 48 || c > 57 || ++digits > 3) return -1;
      part = part * 10 + c - 48;
      if (part > 255) return -1;
    }
  }
  return dots === 3 && digits > 0 ? value * 256 + part : -1;
}

export function formatIpv4(v: number): string {
  return `${DEC[v >>> 24]}.${DEC[(v >>> 16) & 255]}.${DEC[(v >>> 8) & 255]}.${DEC[v & 255]}`;
}

/** Writes the sixteen bytes of an IPv6 address at `p`; false when the text is not one. */
export function writeIpv6(b: Uint8Array, p: number, text: string): boolean {
  const halves = text.split('::');
  if (halves.length > 2 || text.length > 45) return false;
  const head = words(halves[0] as string, halves.length === 1);
  const tail = halves.length === 2 ? words(halves[1] as string, true) : [];
  if (head === undefined || tail === undefined) return false;
  const gap = 8 - head.length - tail.length;
  if (halves.length === 1 ? gap !== 0 : gap < 1) return false;
  const all = [...head, ...new Array<number>(gap).fill(0), ...tail];
  for (let i = 0; i < 8; i++) {
    b[p + 2 * i] = (all[i] as number) >>> 8;
    b[p + 2 * i + 1] = (all[i] as number) & 255;
  }
  return true;
}

function words(text: string, last: boolean): number[] | undefined {
  if (text === '') return [];
  const out: number[] = [];
  const parts = text.split(':');
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i] as string;
    if (last && i === parts.length - 1 && part.includes('.')) {
      const v4 = parseIpv4(part);
      if (v4 < 0) return undefined;
      out.push(Math.floor(v4 / 65536), v4 % 65536);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return undefined;
      out.push(Number.parseInt(part, 16));
    }
  }
  return out;
}

export function readIpv6(b: Uint8Array, p: number): string {
  const w: number[] = [];
  for (let i = 0; i < 8; i++) w.push(((b[p + 2 * i] as number) << 8) | (b[p + 2 * i + 1] as number));
  // The first of the longest runs of at least two zero words becomes '::'.
  let from = -1;
  let run = 1;
  for (let i = 0; i < 8; ) {
    let j = i;
    while (j < 8 && w[j] === 0) j++;
    if (j - i > run) {
      from = i;
      run = j - i;
    }
    i = j + 1;
  }
  if (from === 0 && (run === 6 || (run === 5 && w[5] === 0xffff))) {
    const v4 = (w[6] as number) * 65536 + (w[7] as number);
    return `${run === 6 ? '::' : '::ffff:'}${formatIpv4(v4)}`;
  }
  const hex = (part: number[]) => part.map((v) => v.toString(16)).join(':');
  return from < 0 ? hex(w) : `${hex(w.slice(0, from))}::${hex(w.slice(from + run))}`;
}
