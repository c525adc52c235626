/** A control cable that a test looks into, and cuts where it likes: switches connect to it, and it connects them with the controller. */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { decode, MessageSplitter, type OfMessage } from 'node-openflow';

/** What becomes of a message to a switch: it goes on, is lost, or the cable is cut before it arrives. */
type Fate = 'goesOn' | 'isLost' | 'cuts';

export class Cable {
  /** What the controller sent, oldest first. */
  readonly sent: OfMessage[] = [];
  fateOf: (m: OfMessage) => Fate = () => 'goesOn';
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(controllerPort: number, host: string) {
    this.#server = createServer((fromSwitch) => {
      const toController = connect(controllerPort, host);
      const splitter = new MessageSplitter();
      for (const [one, other] of [
        [fromSwitch, toController],
        [toController, fromSwitch],
      ] as const) {
        this.#sockets.add(one);
        one.setNoDelay(true);
        one.on('error', () => {});
        one.on('close', () => {
          this.#sockets.delete(one);
          other.destroy();
        });
      }
      fromSwitch.on('data', (chunk) => toController.write(chunk));
      toController.on('data', (chunk) => {
        for (const bytes of splitter.push(chunk)) {
          const m = decode(bytes);
          const fate = this.fateOf(m);
          if (fate === 'cuts') {
            this.cut();
            return;
          }
          this.sent.push(m);
          if (fate === 'goesOn') fromSwitch.write(bytes);
        }
      });
    });
  }

  /** `host`: where the controller listens, and the cable too. */
  static async lay(controllerPort: number, host = '127.0.0.1'): Promise<Cable> {
    const cable = new Cable(controllerPort, host);
    await new Promise<void>((resolve) => cable.#server.listen(0, host, resolve));
    return cable;
  }

  get port(): number {
    const a = this.#server.address();
    return typeof a === 'object' && a !== null ? a.port : 0;
  }

  /** Ends every connection; the next one gets through. */
  cut(): void {
    for (const s of this.#sockets) s.destroy();
  }

  /** Classes of what was sent since it was asked last, with those inside bundles behind a colon; echo requests are left out. */
  classes(): string[] {
    return this.sent.splice(0).flatMap((m) => {
      if (m.cls === 'OFPEchoRequest') return [];
      if (m.cls === 'ONFBundleAddMsg' || m.cls === 'OFPBundleAddMsg') return [`add:${m.message.cls}`];
      if (m.cls === 'ONFBundleCtrlMsg' || m.cls === 'OFPBundleCtrlMsg') return [`bundle:${m.type}`];
      return [m.cls];
    });
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
