/**
 * Hello messages and the version two peers agree on (OpenFlow 1.3.5 §6.3.1 and §7.5.1). Pure; handshake.ts asks. It reads
 * hellos by itself, because it must read those of versions that the codec has never heard of.
 */
/** What a hello says of its sender. */
export interface PeerHello {
  /** Version of the header: the highest the sender speaks. */
  readonly version: number;
  /** Versions of the bitmap, when there is one. */
  readonly bitmap: readonly number[] | undefined;
}

const VERSION_BITMAP = 1;

/**
 * Reads a hello of any version. Elements of unknown types are skipped. Before 1.3 the body has no meaning, so what does
 * not look like elements is no error there.
 *
 * @param bytes one whole message
 * @returns the hello, or a text that says what is wrong with it
 */
export function readHello(bytes: Buffer): PeerHello | string {
  const version = bytes[0] as number;
  const bad = (what: string): PeerHello | string => (version < 4 ? { version, bitmap: undefined } : what);
  let bitmap: number[] | undefined;
  for (let p = 8; p < bytes.length; ) {
    if (bytes.length - p < 4) return bad(`its hello ends within the header of an element, at byte ${p}`);
    const length = bytes.readUInt16BE(p + 2);
    if (length < 4 || p + length > bytes.length)
      return bad(`an element of its hello, at byte ${p}, has a length of ${length}`);
    if (bytes.readUInt16BE(p) === VERSION_BITMAP) {
      if (length % 4 !== 0) return bad(`the version bitmap of its hello has a length of ${length}`);
      bitmap ??= [];
      // A header's version has 8 bits: bits beyond mean nothing.
      for (let i = 0; i < Math.min(8, length / 4 - 1); i++) {
        const word = bytes.readUInt32BE(p + 4 + 4 * i);
        for (let bit = 0; bit < 32; bit++) if ((word >>> bit) & 1) bitmap.push(32 * i + bit);
      }
    }
    p += (length + 7) & ~7;
  }
  return { version, bitmap };
}

/**
 * The version both sides come to: the highest that both bitmaps have, or, unless both sent one, the lower of the two
 * highest. Each side works this out for itself, so this is no place for a preference: see `offer`. OpenFlow 1.3.5 §6.3.1.
 *
 * @param ours versions this side's hello offered
 * @param weSentBitmap whether that hello had a bitmap
 * @returns the version, or undefined when there is none in common
 */
export function agree<V extends number>(ours: readonly V[], weSentBitmap: boolean, peer: PeerHello): V | undefined {
  const highest = Math.max(...ours);
  if (weSentBitmap && peer.bitmap !== undefined) {
    const both = ours.filter((v) => peer.bitmap?.includes(v));
    return both.length > 0 ? (Math.max(...both) as V) : undefined;
  }
  // The top bit marked drafts, which no released version can stand in for. OpenFlow 1.3.5 §7.1.
  if (peer.version >= 0x80) return undefined;
  const lower = Math.min(highest, peer.version);
  return ours.find((v) => v === lower);
}

/**
 * What to offer a peer whose hello is known: the first of `preferred` that it has, or everything when it has none of
 * those. Offering a single version is the only way to prefer one that is not the highest.
 */
export function offer<V extends number>(ours: readonly V[], preferred: readonly V[], peer: PeerHello): readonly V[] {
  const has = (v: V) => (peer.bitmap === undefined ? v <= peer.version : peer.bitmap.includes(v));
  const first = preferred.find((v) => ours.includes(v) && has(v));
  return first === undefined ? ours : [first];
}
