/**
 * The line to the stand-in guest (`probe.py`): orders as JSON lines over its Unix socket, answered by id, and the event
 * `resumed`, which every connection is told. Used by the stand-in's drivers (one at each hypervisor) and by the lab.
 */
import { createConnection, type Socket } from 'node:net';
import { FairwayError } from '../../../contracts/common.ts';

/** How a guest's new place is announced: as QEMU does it, as the guest itself does, or not at all. */
export type Announce = 'rarp' | 'garp' | 'none';

export type ProbeOrder =
  | { do: 'pause' }
  | { do: 'resume'; at: string; announce: Announce }
  | { do: 'where' }
  /** Start sending. */
  | { do: 'begin' }
  | { do: 'connect' }
  | { do: 'tcp' }
  | { do: 'quiet' }
  | { do: 'report'; file: string };

/** The guest runs at a hypervisor from an instant on (ms since the epoch). */
export interface Resumed {
  at: string;
  atMs: number;
}

const ANSWER_MS = 10_000;

export class ProbeControl {
  readonly #socket: Socket;
  readonly #pending = new Map<number, { resolve(value: Record<string, unknown>): void; reject(e: Error): void }>();
  readonly #onResumed = new Set<(r: Resumed) => void>();
  #nextId = 1;

  private constructor(socket: Socket) {
    this.#socket = socket;
    let rest = '';
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) this.#receive(JSON.parse(line) as Record<string, unknown>);
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      for (const p of this.#pending.values()) p.reject(gone());
      this.#pending.clear();
    });
  }

  /** Connects; the socket must be there. */
  static connect(path: string): Promise<ProbeControl> {
    return new Promise((resolve, reject) => {
      const socket = createConnection(path);
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new ProbeControl(socket));
      });
    });
  }

  onResumed(listener: (r: Resumed) => void): void {
    this.#onResumed.add(listener);
  }

  /** Carries an order out; rejects with `lab.standIn` when it could not be. */
  order(order: ProbeOrder): Promise<Record<string, unknown>> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new FairwayError('lab.standIn', `the stand-in guest did not answer ${order.do} in ${ANSWER_MS} ms`));
      }, ANSWER_MS);
      const settle =
        <T>(fn: (x: T) => void) =>
        (x: T) => {
          clearTimeout(timer);
          fn(x);
        };
      this.#pending.set(id, { resolve: settle(resolve), reject: settle(reject) });
      if (this.#socket.destroyed) this.#pending.get(id)?.reject(gone());
      else this.#socket.write(`${JSON.stringify({ id, ...order })}\n`);
    });
  }

  /** An order whose answer says when it was carried out, ms since the epoch. */
  async orderAt(order: ProbeOrder): Promise<number> {
    return Number((await this.order(order)).atMs);
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(message: Record<string, unknown>): void {
    if (message.event === 'resumed') {
      for (const fn of this.#onResumed) fn({ at: String(message.at), atMs: Number(message.atMs) });
      return;
    }
    const pending = this.#pending.get(Number(message.id));
    this.#pending.delete(Number(message.id));
    if (typeof message.error === 'string') pending?.reject(new FairwayError('lab.standIn', message.error));
    else pending?.resolve(message);
  }
}

const gone = () => new FairwayError('lab.standIn', 'the stand-in guest is gone; see its log', ['retryable']);
