/** A TCP path between two hypervisors on one machine that can be cut or stand still: for tests of broken copies. */

import type { AddressInfo } from 'node:net';
import { createConnection, createServer, type Server, type Socket } from 'node:net';

/** Forwards connections to one port, until it is told otherwise. */
export class Wire {
  private readonly server: Server;
  private sockets: Socket[] = [];
  private open = true;

  private constructor(target: number) {
    this.server = createServer({ allowHalfOpen: true }, (near) => {
      if (!this.open) {
        near.destroy();
        return;
      }
      const far = createConnection({ host: '127.0.0.1', port: target, allowHalfOpen: true });
      for (const socket of [near, far]) socket.on('error', () => undefined);
      this.sockets.push(near, far);
      near.pipe(far).pipe(near);
    });
  }
  /** @param target port on the loopback interface */
  static async to(target: number): Promise<Wire> {
    const wire = new Wire(target);
    await new Promise<void>((resolve) => wire.server.listen(0, '127.0.0.1', resolve));
    return wire;
  }
  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }
  /** Both ends see their connections reset. */
  cut(): void {
    this.open = false;
    for (const socket of this.sockets.splice(0)) socket.resetAndDestroy();
  }
  /** Who connects now gets through again. */
  mend(): void {
    this.open = true;
  }
  /** Nothing goes through any more, and nobody is told. */
  freeze(): void {
    this.open = false;
    for (const socket of this.sockets) socket.unpipe().pause();
  }
  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }
}
