/**
 * The journal on its way from the controller in charge to the one that stands by, over a WebSocket at `/journal`: the whole of it
 * as it is now, then each entry as it is written. `pair.ts` holds both ends; `http.ts` lets followers in by the token.
 */
import { WebSocket } from 'ws';
import { z } from 'zod';
import type { Clock } from '../../contracts/clock.ts';
import type { Log } from '../../contracts/log.ts';
import { entryText, type JournalEntry } from './journal.ts';

/** A follower that lets this much pile up is sent away, and begins anew. */
const MAX_BUFFERED_BYTES = 64 * 2 ** 20;
/** Longer than any entry that a journal takes when it is read. */
const MAX_MESSAGE_BYTES = 4 * 2 ** 20;
const RETRY_MS = 1000;
const PING_MS = 5000;
const SILENCE_MS = 15_000;

/** `begin`: what follows, up to `whole`, is the journal of this term; entries after it are news. */
const messageSchema = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('begin'),
    term: z
      .string()
      .regex(/^\d{1,20}$/)
      .transform((t) => BigInt(t)),
  }),
  z.strictObject({ type: z.literal('entry'), entry: z.record(z.string(), z.unknown()) }),
  z.strictObject({ type: z.literal('whole') }),
]);

const entryMessage = (entry: object): string => `{"type":"entry","entry":${entryText(entry)}}`;

/** The followers of this controller's journal. */
export class JournalFeed {
  readonly #followers = new Set<WebSocket>();
  readonly #log: Log;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Takes on a follower that presented the token. */
  attach(ws: WebSocket, term: bigint, whole: readonly object[]): void {
    ws.on('error', (e) => this.#log('debug', 'journal.follower-error', { error: e.message }));
    ws.on('close', () => this.#followers.delete(ws));
    ws.send(JSON.stringify({ type: 'begin', term: String(term) }));
    for (const entry of whole) ws.send(entryMessage(entry));
    ws.send('{"type":"whole"}');
    this.#followers.add(ws);
    this.#log('info', 'journal.follower', { entries: whole.length });
  }

  tell(entry: object): void {
    if (this.#followers.size === 0) return;
    const text = entryMessage(entry);
    for (const ws of this.#followers) {
      if (ws.bufferedAmount <= MAX_BUFFERED_BYTES) ws.send(text);
      else {
        this.#log('warn', 'journal.follower-slow', { bufferedBytes: ws.bufferedAmount });
        this.#followers.delete(ws);
        ws.terminate();
      }
    }
  }

  /** Lets all followers go. */
  close(): void {
    for (const ws of this.#followers) ws.close(1001, 'this controller is no longer in charge');
    this.#followers.clear();
  }
}

export interface FollowOptions {
  /** HTTP address of the controller in charge. */
  url: string;
  token: string;
  clock: Clock;
  log: Log;
  /** Whether a journal of this term is to be taken in place of what is known. */
  accepts(term: bigint): boolean;
  /** The journal as it is there now. */
  onWhole(term: bigint, entries: JournalEntry[]): void;
  /** An entry that was added to it. */
  onEntry(entry: JournalEntry): void;
}

/** Begins to follow, again and again where it is refused or lost; the returned function ends it. */
export function followJournal(o: FollowOptions): () => void {
  const { clock, log } = o;
  const address = new URL('/journal', o.url.replace(/^http/, 'ws'));
  let isOver = false;
  let isNews = true;
  let socket: WebSocket | undefined;
  let cancelRetry: () => void = () => {};

  const connect = (): void => {
    const ws = new WebSocket(address, {
      headers: { authorization: `Bearer ${o.token}` },
      handshakeTimeout: SILENCE_MS,
      maxPayload: MAX_MESSAGE_BYTES,
      perMessageDeflate: false,
    });
    socket = ws;
    let heardMs = clock.now();
    let term = 0n;
    let whole: JournalEntry[] | undefined;
    let isComplete = false;
    const take = (text: string): void => {
      const m = messageSchema.parse(JSON.parse(text));
      if (m.type === 'entry') {
        if (isComplete) o.onEntry(m.entry);
        else whole?.push(m.entry);
      } else if (m.type === 'begin') {
        if (!o.accepts(m.term)) throw new Error(`its journal is of term ${m.term}, which is over`);
        term = m.term;
        whole = [];
      } else if (whole !== undefined) {
        isComplete = true;
        isNews = true;
        log('info', 'journal.followed', { from: o.url, term: String(term), entries: whole.length });
        o.onWhole(term, whole);
        whole = undefined;
      }
    };
    const stopPinging = clock.every(PING_MS, () => {
      if (ws.readyState !== WebSocket.OPEN) return;
      if (clock.now() - heardMs > SILENCE_MS) ws.terminate();
      else ws.ping();
    });
    ws.on('pong', () => {
      heardMs = clock.now();
    });
    ws.on('message', (data) => {
      heardMs = clock.now();
      if (isOver || ws.readyState !== WebSocket.OPEN) return;
      try {
        take(data.toString());
      } catch (error) {
        log('warn', 'journal.not-followed', { from: o.url, error: String(error) });
        ws.close(1002);
      }
    });
    ws.on('error', (error) => {
      if (isOver) return;
      // Said once, and again after it worked.
      log(isNews ? 'warn' : 'debug', 'journal.not-followed', { from: o.url, error: error.message });
      isNews = false;
    });
    ws.on('close', () => {
      stopPinging();
      if (!isOver) cancelRetry = clock.after(RETRY_MS, connect);
    });
  };

  connect();
  return () => {
    isOver = true;
    cancelRetry();
    socket?.terminate();
  };
}
