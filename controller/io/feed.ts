/**
 * The telemetry feed: sends every reader a snapshot per topic, then changes, as `contracts/feed.ts` lays down and
 * `docs/feed.md` tells readers outside. `http.ts` lets readers in; `controller/core` says what changed. A reader that
 * does not keep up costs a bounded amount of memory and never holds up the others.
 */
import type { WebSocket } from 'ws';
import type { Clock } from '../../contracts/clock.ts';
import { FEED_VERSION, type Topic, type TopicData } from '../../contracts/feed.ts';
import type { Log } from '../../contracts/log.ts';

export interface FeedOptions {
  /** The whole of a topic as it is now. Must already hold what `publish` tells next. */
  snapshot: <T extends Topic>(topic: T) => TopicData[T];
  clock: Clock;
  log: Log;
  /** A reader with more than this waiting to be sent gets no more changes until it has caught up. */
  maxBufferedBytes?: number;
  /** Period of heartbeats and of the check whether readers are alive, ms. */
  heartbeatMs?: number;
  maxReaders?: number;
}

interface Reader {
  readonly ws: WebSocket;
  readonly topics: ReadonlySet<Topic>;
  /** Topics whose snapshot is owed; true where it stands for changes that were left out. */
  readonly owed: Map<Topic, boolean>;
  seq: number;
  /** Something came from the reader, or went through to it, since the last heartbeat. */
  isAlive: boolean;
  silentBeats: number;
  inbound: number;
}

/** A reader that was silent for so many heartbeats is given up. */
const MAX_SILENT_BEATS = 3;
/** Readers have nothing to say; so many messages between two heartbeats end the connection. */
const MAX_INBOUND = 20;

/**
 * The readers of the feed. `seq` counts per reader: by one for every envelope sent, and for every change left out, so
 * that a reader sees the gap. What an envelope carries is made into text once for all readers; only the few bytes
 * before it differ.
 */
export class Feed {
  readonly #o: Required<FeedOptions>;
  readonly #readers = new Set<Reader>();
  readonly #stopHeartbeat: () => void;
  #isClosed = false;

  constructor(o: FeedOptions) {
    this.#o = { maxBufferedBytes: 1024 * 1024, heartbeatMs: 5_000, maxReaders: 1_000, ...o };
    this.#stopHeartbeat = o.clock.every(this.#o.heartbeatMs, () => this.#beat());
  }

  /** How many readers are connected. */
  get readers(): number {
    return this.#readers.size;
  }

  /** Tells a change to the readers of its topic. For `migrations` and `decisions` the new or changed items only. */
  publish<T extends Topic>(topic: T, data: TopicData[T]): void {
    let text: string | undefined;
    for (const reader of [...this.#readers]) {
      if (!reader.topics.has(topic)) continue;
      const isResync = reader.owed.get(topic);
      if (isResync !== undefined) {
        // The snapshot still owed will hold this change.
        if (isResync) reader.seq++;
        continue;
      }
      if (reader.ws.bufferedAmount > this.#o.maxBufferedBytes) {
        this.#fallBehind(reader, topic);
        continue;
      }
      text ??= `,"kind":"change","topic":"${topic}","data":${JSON.stringify(data)}}`;
      this.#send(reader, text);
    }
  }

  /** Takes on a reader that has been let in: snapshots first, then changes of these topics. */
  attach(ws: WebSocket, topics: readonly Topic[]): void {
    if (this.#isClosed || this.#readers.size >= this.#o.maxReaders) {
      ws.close(1013, this.#isClosed ? 'the controller stops' : `there are ${this.#o.maxReaders} readers already`);
      return;
    }
    const reader: Reader = {
      ws,
      topics: new Set(topics),
      owed: new Map(topics.map((t) => [t, false])),
      seq: 0,
      isAlive: true,
      silentBeats: 0,
      inbound: 0,
    };
    this.#readers.add(reader);
    ws.on('pong', () => {
      reader.isAlive = true;
    });
    ws.on('message', () => {
      reader.isAlive = true;
      reader.inbound++;
      if (reader.inbound > MAX_INBOUND) ws.close(1008, 'the feed takes no messages');
    });
    // A close always follows an error, too long a message among them.
    ws.on('error', (e) => this.#o.log('debug', 'feed.reader-error', { error: e.message }));
    ws.on('close', () => this.#readers.delete(reader));
    this.#pay(reader);
  }

  /** Everything may be other than it was: sends every reader all its topics anew. */
  resync(): void {
    for (const reader of [...this.#readers]) {
      for (const topic of reader.topics) {
        if (reader.owed.has(topic)) continue;
        reader.owed.set(topic, true);
        reader.seq++;
      }
      this.#pay(reader);
    }
  }

  /** Lets all readers go. */
  close(): void {
    this.#isClosed = true;
    this.#stopHeartbeat();
    for (const { ws } of this.#readers) ws.close(1001, 'the controller stops');
    this.#readers.clear();
  }

  #fallBehind(reader: Reader, topic: Topic): void {
    if (reader.owed.size === 0) {
      this.#o.log('info', 'feed.reader-slow', { topic, bufferedBytes: reader.ws.bufferedAmount });
    }
    reader.owed.set(topic, true);
    reader.seq++;
  }

  /** Sends snapshots that are owed, as long as the reader keeps up. */
  #pay(reader: Reader): void {
    for (const [topic, isResync] of reader.owed) {
      if (reader.ws.bufferedAmount > this.#o.maxBufferedBytes) return;
      reader.owed.delete(topic);
      let data: string;
      try {
        data = JSON.stringify(this.#o.snapshot(topic));
      } catch (e) {
        this.#o.log('error', 'feed.snapshot-failed', { topic, error: e });
        reader.ws.close(1011, `no snapshot of ${topic}`);
        this.#readers.delete(reader);
        return;
      }
      this.#send(reader, `,"kind":"snapshot","topic":"${topic}"${isResync ? ',"resync":true' : ''},"data":${data}}`);
    }
  }

  #send(reader: Reader, rest: string): void {
    if (reader.ws.readyState !== reader.ws.OPEN) return;
    const head = `{"v":${FEED_VERSION},"seq":${reader.seq++},"atMs":${this.#o.clock.now()}`;
    reader.ws.send(head + rest, (error) => {
      // Called when the bytes have left for the kernel: the moment to see whether a slow reader has caught up.
      if (error) return;
      if (reader.owed.size === 0) return;
      reader.isAlive = true;
      if (reader.ws.bufferedAmount <= this.#o.maxBufferedBytes / 4) this.#pay(reader);
    });
  }

  #beat(): void {
    for (const reader of [...this.#readers]) {
      const { ws } = reader;
      reader.silentBeats = reader.isAlive ? 0 : reader.silentBeats + 1;
      reader.isAlive = false;
      reader.inbound = 0;
      if (reader.silentBeats >= MAX_SILENT_BEATS) {
        this.#o.log('info', 'feed.reader-dead', { silentMs: reader.silentBeats * this.#o.heartbeatMs });
        this.#readers.delete(reader);
        ws.terminate();
        continue;
      }
      if (ws.readyState !== ws.OPEN) continue;
      // A ping to a reader that is behind would only queue up behind the rest; bytes going out are its sign of life.
      if (ws.bufferedAmount > this.#o.maxBufferedBytes) continue;
      ws.ping();
      this.#pay(reader);
      if (reader.owed.size === 0) this.#send(reader, ',"kind":"heartbeat"}');
    }
  }
}
