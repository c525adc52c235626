/**
 * An emulated switch's OVSDB on a TCP socket (JSON-RPC 1.0, RFC 7047 chapter 4), so that the controller sets up queues as it
 * does on Open vSwitch: `database.ts` behind the methods list_dbs, transact and echo. Nothing can be monitored here.
 */
import { randomUUID } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { type Log, silentLog } from '../../contracts/log.ts';
import { JsonFramer } from '../../controller/io/ovsdb.ts';
import { type Operation, SwitchDatabase } from './database.ts';

const DB = 'Open_vSwitch';

export class OvsdbServer {
  readonly database: SwitchDatabase;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #log: Log;

  /** `onChange` is called after each transaction that wrote something. */
  constructor(o: { log?: Log; onChange?: () => void } = {}) {
    this.#log = o.log ?? silentLog;
    this.database = new SwitchDatabase(randomUUID, o.onChange);
    this.#server = createServer((socket) => this.#serve(socket));
  }

  /** Listens on loopback, on any free port; answers with the address in the controller's notation. */
  async listen(): Promise<string> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(0, '127.0.0.1', resolve);
    });
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the OVSDB server has no TCP address');
    return `tcp:127.0.0.1:${address.port}`;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (!this.#server.listening) return;
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    const framer = new JsonFramer();
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', (error) => this.#log('debug', 'ovsdb.connection', { error: error.message }));
    socket.on('data', (chunk) => {
      try {
        for (const message of framer.push(chunk)) {
          // Without an id it is a notification, with a result it is the answer to a request we never made.
          if (typeof message.method !== 'string' || message.id === null || message.id === undefined) continue;
          socket.write(JSON.stringify({ id: message.id, ...this.#answer(message.method, message.params) }));
        }
      } catch (error) {
        this.#log('warn', 'ovsdb.protocol', { error });
        socket.destroy();
      }
    });
  }

  #answer(method: string, params: unknown): { result: unknown; error: unknown } {
    const done = (result: unknown) => ({ result, error: null });
    const refused = (error: string, details: string) => ({ result: null, error: { error, details } });
    if (method === 'echo') return done(params);
    if (method === 'list_dbs') return done([DB]);
    if (method !== 'transact') return refused('unknown method', `${method} is not emulated`);
    if (!Array.isArray(params) || params[0] !== DB) return refused('unknown database', `this switch has ${DB} only`);
    return done(this.database.transact(params.slice(1) as Operation[]));
  }
}
