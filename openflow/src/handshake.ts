/**
 * What happens on a connection before a version is agreed, as a state machine: this side's hello is sent, at once or once the
 * peer's has come, the peer's is read, and either a version follows or a reason why there is none (OpenFlow 1.3.5 §6.3.1).
 * connection.ts owns it and does what it says; hello.ts decides on versions.
 */
import { decode, VERSIONS } from './codec.ts';
import { refusalText } from './connectionErrors.ts';
import type { DownCode, Settings } from './connectionTypes.ts';
import { errorMessage, hello, TYPE, versionName } from './dialect.ts';
import { OfDecodeError } from './errors.ts';
import { agree, offer, type PeerHello, readHello } from './hello.ts';
import type { OfMessage } from './messages.ts';
import type { Version } from './wire.ts';

/** What it has its owner do. */
export interface HandshakeOutput<V extends Version> {
  send(message: OfMessage): void;
  /** There is a version: the last call there is. */
  agreed(version: V): void;
  down(code: DownCode, message: string): void;
}

export class Handshake<V extends Version> {
  readonly #versions: readonly V[];
  readonly #prefer: readonly V[];
  readonly #o: Pick<Settings, 'versionAdvice' | 'preferWaitMs' | 'helloTimeoutMs'>;
  readonly #output: HandshakeOutput<V>;
  /** What this side's hello offered; undefined until it was sent. */
  #offered: { versions: readonly V[]; hasBitmap: boolean } | undefined;
  /** The first bytes of all, until there are eight. */
  #head = Buffer.alloc(0);
  #offerBy = Number.POSITIVE_INFINITY;
  #helloBy = Number.POSITIVE_INFINITY;

  /** `prefer` as in `ConnectionOptions`. */
  constructor(
    versions: readonly V[],
    prefer: readonly V[],
    options: Pick<Settings, 'versionAdvice' | 'preferWaitMs' | 'helloTimeoutMs'>,
    output: HandshakeOutput<V>,
  ) {
    this.#versions = versions;
    this.#prefer = prefer;
    this.#o = options;
    this.#output = output;
  }

  begin(now: number): void {
    this.#helloBy = now + this.#o.helloTimeoutMs;
    if (this.#prefer.length === 0) this.#sayHello(this.#versions);
    else this.#offerBy = now + this.#o.preferWaitMs;
  }

  /** When to call `tick`; infinite when there is nothing to wait for. */
  get deadline(): number {
    return Math.min(this.#helloBy, this.#offerBy);
  }

  /** @returns false when the peer's hello did not come in time; the connection is down then */
  tick(now: number): boolean {
    if (now >= this.#offerBy) this.#sayHello(this.#versions);
    if (now < this.#helloBy) return true;
    this.#output.down('hello', `no hello came within ${this.#o.helloTimeoutMs} ms`);
    return false;
  }

  /** Whoever speaks HTTP or TLS, or OpenFlow behind some other header, promises a length and never keeps it: tell it at once. */
  lookAtHead(chunk: Uint8Array): void {
    if (this.#head.length < 8) this.#head = Buffer.concat([this.#head, chunk.subarray(0, 8 - this.#head.length)]);
    if ((this.#head[1] ?? 0) > TYPE.error) this.#notOpenFlow(this.#head);
  }

  /** What comes before a version is agreed: a hello, or an error that says why there will be none. */
  received(bytes: Buffer): void {
    const type = bytes[1];
    if (type === TYPE.hello) {
      this.#hello(bytes);
      return;
    }
    if (type !== TYPE.error) {
      this.#notOpenFlow(bytes);
      return;
    }
    let why = 'an error that cannot be read';
    try {
      const error = decode(bytes);
      if (error.cls === 'OFPErrorMsg') why = refusalText(error);
    } catch (error) {
      if (!(error instanceof OfDecodeError)) throw error;
    }
    this.#output.down('version', `the peer answered the hello with ${why}`);
  }

  #sayHello(versions: readonly V[]): void {
    const { message, hasBitmap } = hello(versions);
    this.#offered = { versions, hasBitmap };
    this.#offerBy = Number.POSITIVE_INFINITY;
    this.#output.send(message);
  }

  #notOpenFlow(bytes: Uint8Array): void {
    const head = Buffer.from(bytes.subarray(0, 8));
    const isTls = head[0] === 0x16 && head[1] === 3;
    const guess = isTls ? ' (this is TLS: connect without it, or put a TLS socket in between)' : '';
    this.#output.down(
      'notOpenFlow',
      `the peer does not begin with a hello but with the bytes ${head.toString('hex')}${guess}`,
    );
  }

  #hello(bytes: Buffer): void {
    const peer = readHello(bytes);
    if (typeof peer === 'string') {
      this.#refuse(bytes[0] as number, peer);
      this.#output.down('hello', peer);
      return;
    }
    if (this.#offered === undefined) this.#sayHello(offer(this.#versions, this.#prefer, peer));
    const { versions, hasBitmap } = this.#offered ?? { versions: [], hasBitmap: false };
    const version = agree(versions, hasBitmap, peer);
    if (version === undefined) {
      const said = describePeer(peer);
      const advice = this.#o.versionAdvice === '' ? '' : `; ${this.#o.versionAdvice}`;
      const text = `no version in common: ${said} where ${versions.map(versionName).join(', ')} are spoken${advice}`;
      this.#refuse(peer.version, text);
      this.#output.down('version', text);
      return;
    }
    this.#helloBy = Number.POSITIVE_INFINITY;
    this.#output.agreed(version);
  }

  /** Tells the peer why there is no agreement, in the best version it may understand. OpenFlow 1.3.5 §6.3.1. */
  #refuse(peerVersion: number, text: string): void {
    const [lowest] = VERSIONS;
    const version = VERSIONS.findLast((v) => v <= peerVersion) ?? (lowest as Version);
    this.#output.send(errorMessage(version, 0, 0, Buffer.from(text)));
  }
}

function describePeer(peer: PeerHello): string {
  if (peer.bitmap === undefined) return `the peer offers ${versionName(peer.version)} and lower`;
  return peer.bitmap.length === 0
    ? 'the peer offers nothing'
    : `the peer offers ${peer.bitmap.map(versionName).join(', ')}`;
}
