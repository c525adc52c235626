/**
 * A QMP client over a unix socket: greeting, capabilities, numbered commands, events, time-outs. Knows nothing of
 * migrations; usable by itself, e.g. `const qmp = await connectQmp(path); await qmp.execute('query-status')`.
 * The wire is read by `core/qmpReader.ts`.
 */
import { createConnection, type Socket } from 'node:net';
import { FairwayError } from '../../contracts/common.ts';
import { createQmpReader, type QmpMessage } from '../core/qmpReader.ts';

export interface QmpOptions {
  /** Called for each event, e.g. `('STOP', {}, 1.7e12)`; `atMs` is when QEMU says it happened, ms since the epoch. */
  onEvent?: (name: string, data: Record<string, unknown>, atMs: number | undefined) => void;
  /** Called once when the connection ends, with the reason; not after `close()`. */
  onClose?: (reason: string) => void;
  /** For connecting, and for commands that set none of their own; ms. Default 10,000: QEMU is slow around switch-overs. */
  timeoutMs?: number;
}

export interface QmpClient {
  /**
   * Runs a command and answers what it returned.
   *
   * @throws FairwayError `qmp-<class>` for a refusal by QEMU, `qmp-timeout` (outcome unknown), `qmp-closed`.
   */
  execute(command: string, args?: Record<string, unknown>, timeoutMs?: number): Promise<unknown>;
  /**
   * Runs a command past those that wait, and past a QEMU whose main loop waits for something (a page of a guest, say). QEMU
   * takes few commands so, `migrate-pause` and `migrate-recover` among them. One that offers no out-of-band execution gets
   * it as any other.
   */
  executeOutOfBand(command: string, args?: Record<string, unknown>, timeoutMs?: number): Promise<unknown>;
  close(): void;
}

/** What most need of a client. */
export type QmpCommands = Pick<QmpClient, 'execute'>;

interface Waiting {
  command: string;
  resolve(value: unknown): void;
  reject(error: Error): void;
  timer: NodeJS.Timeout;
}

/** Connects, negotiates and answers a client. @throws FairwayError `qmp-connect`, `qmp-timeout` or `qmp-garbage`. */
export async function connectQmp(path: string, options: QmpOptions = {}): Promise<QmpClient> {
  const timeoutMs = options.timeoutMs ?? 10_000;
  const socket = await connectSocket(path, timeoutMs);
  const waiting = new Map<number, Waiting>();
  const reader = createQmpReader();
  let lastId = 0;
  let closed: string | null = null;
  let hasOutOfBand = false;
  let greeted!: (capabilities: readonly string[]) => void;
  let notGreeted!: (e: Error) => void;
  const greeting = new Promise<readonly string[]>((resolve, reject) => {
    greeted = resolve;
    notGreeted = reject;
  });

  const finish = (error: FairwayError, tell: boolean): void => {
    if (closed !== null) return;
    closed = error.message;
    socket.destroy();
    notGreeted(error);
    for (const w of waiting.values()) {
      clearTimeout(w.timer);
      w.reject(error);
    }
    waiting.clear();
    if (tell) options.onClose?.(error.message);
  };
  const take = (m: QmpMessage): void => {
    if (m.kind === 'greeting') greeted(m.capabilities);
    if (m.kind === 'event') options.onEvent?.(m.name, m.data, m.atMs);
    if (m.kind === 'greeting' || m.kind === 'event') return;
    // A refusal without an id answers something that was no command to QEMU; it belongs to nobody.
    const w = m.id === undefined ? undefined : waiting.get(m.id);
    if (w === undefined || m.id === undefined) return;
    waiting.delete(m.id);
    clearTimeout(w.timer);
    if (m.kind === 'return') w.resolve(m.value);
    else w.reject(new FairwayError(`qmp-${m.class}`, `${w.command}: ${m.text}`));
  };
  socket.on('data', (piece) => {
    try {
      for (const m of reader.push(piece)) take(m);
    } catch (error) {
      finish(error instanceof FairwayError ? error : new FairwayError('qmp-garbage', String(error)), true);
    }
  });
  socket.on('error', (e) => finish(new FairwayError('qmp-closed', `QMP socket ${path}: ${e.message}`), true));
  socket.on('close', () => finish(new FairwayError('qmp-closed', `QEMU closed its QMP socket ${path}`), true));

  function send(
    how: 'execute' | 'exec-oob',
    command: string,
    args: Record<string, unknown> | undefined,
    limitMs = timeoutMs,
  ): Promise<unknown> {
    if (closed !== null) return Promise.reject(new FairwayError('qmp-closed', `${command}: ${closed}`));
    return new Promise((resolve, reject) => {
      const id = ++lastId;
      const timer = setTimeout(() => {
        waiting.delete(id);
        const text = `${command}: no answer from QEMU within ${limitMs} ms`;
        reject(new FairwayError('qmp-timeout', text, ['outcomeUnknown']));
      }, limitMs);
      waiting.set(id, { command, resolve, reject, timer });
      socket.write(`${JSON.stringify({ [how]: command, ...(args === undefined ? {} : { arguments: args }), id })}\n`);
    });
  }
  const client: QmpClient = {
    execute: (command, args, limitMs) => send('execute', command, args, limitMs),
    executeOutOfBand: (command, args, limitMs) => send(hasOutOfBand ? 'exec-oob' : 'execute', command, args, limitMs),
    close() {
      finish(new FairwayError('qmp-closed', 'the QMP connection was closed here'), false);
    },
  };

  const timer = setTimeout(() => {
    const text = `no QMP greeting from ${path} within ${timeoutMs} ms: another client may hold the socket`;
    finish(new FairwayError('qmp-timeout', text, ['retryable']), false);
  }, timeoutMs);
  try {
    hasOutOfBand = (await greeting).includes('oob');
    await client.execute('qmp_capabilities', hasOutOfBand ? { enable: ['oob'] } : undefined);
  } catch (error) {
    client.close();
    throw error;
  } finally {
    clearTimeout(timer);
  }
  return client;
}

function connectSocket(path: string, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    const fail = (why: string): void => {
      socket.destroy();
      reject(new FairwayError('qmp-connect', `cannot connect to the QMP socket ${path}: ${why}`, ['retryable']));
    };
    const timer = setTimeout(() => fail(`no answer within ${timeoutMs} ms`), timeoutMs);
    socket.once('error', (e) => {
      clearTimeout(timer);
      fail(e.message);
    });
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.removeAllListeners('error');
      resolve(socket);
    });
  });
}
