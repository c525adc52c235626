/** A TCP path between two hypervisors on one machine that can be cut or stand still: for tests of broken copies. */

import type { AddressInfo } from 'node:net';
import { createConnection, createServer, type Server, type Socket } from 'node:net';

/** Forwards connections to one port, until it is told otherwise. */
export class Wire {
  private readonly server: Server;
  private readonly target: number;
  private sockets: Socket[] = [];
  /** What becomes of connections that are made now. */
  private mode: 'forwards' | 'refuses' | 'holds' = 'forwards';
  private held: Socket[] = [];
  /** Bytes that came from the target, all in all, and at how many it stands still. */
  private cameBytes = 0;
  private limitBytes = Number.POSITIVE_INFINITY;

  private constructor(target: number) {
    this.target = target;
    this.server = createServer({ allowHalfOpen: true }, (near) => {
      near.on('error', () => undefined);
      if (this.mode === 'forwards') this.forward(near);
      else if (this.mode === 'holds') this.held.push(near);
      else near.destroy();
    });
  }
  /**
   * @param target port on the loopback interface
   * @param at where connections are taken; default: some port of the loopback interface
   */
  static async to(target: number, at: { host: string; port: number } = { host: '127.0.0.1', port: 0 }): Promise<Wire> {
    const wire = new Wire(target);
    await new Promise<void>((resolve, reject) => {
      wire.server.once('error', reject).listen(at.port, at.host, resolve);
    });
    return wire;
  }
  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }
  get bytesFromTarget(): number {
    return this.cameBytes;
  }
  /** Both ends see their connections reset; new ones are closed at once. */
  cut(): void {
    this.mode = 'refuses';
    for (const socket of this.sockets.splice(0)) socket.resetAndDestroy();
  }
  /** Both ends see their connections reset; new ones get no answer before it is mended. */
  cutSilently(): void {
    this.cut();
    this.mode = 'holds';
  }
  /** Who connects now gets through again. @param forBytes then nothing more comes from the target, as after `freeze` */
  mend(forBytes = Number.POSITIVE_INFINITY): void {
    this.limitBytes = this.cameBytes + forBytes;
    this.mode = 'forwards';
    for (const near of this.held.splice(0)) this.forward(near);
  }
  /** Nothing goes through any more, and nobody is told. */
  freeze(): void {
    this.mode = 'refuses';
    for (const socket of this.sockets) socket.unpipe().pause();
  }
  async close(): Promise<void> {
    this.cut();
    for (const near of this.held.splice(0)) near.destroy();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  private forward(near: Socket): void {
    const far = createConnection({ host: '127.0.0.1', port: this.target, allowHalfOpen: true });
    far.on('error', () => undefined);
    this.sockets.push(near, far);
    near.pipe(far).pipe(near);
    far.on('data', (piece) => {
      this.cameBytes += piece.length;
      if (this.cameBytes >= this.limitBytes) this.freeze();
    });
  }
}
