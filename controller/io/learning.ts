/**
 * `fairway controller --app learning`: listens for switches and lets `controller/apps/learning.ts` answer their packet-ins.
 * Only connections and their lives are dealt with here. All answers to what one read of the socket brought go out in one
 * write, before the next socket is looked at.
 */
import { randomInt } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import {
  attach,
  type ConnectionHandler,
  type DuplexLike,
  OfConnection,
  type OfMessage,
  ofproto_v1_3 as ofp,
  type Timers,
} from 'node-openflow';
import type { Clock } from '../../contracts/clock.ts';
import type { Log } from '../../contracts/log.ts';
import {
  LEARNING_VERSIONS,
  type LearningCounters,
  type LearningOptions,
  LearningSwitch,
  type LearningVersion,
} from '../apps/learning.ts';
import { listenOn } from './listen.ts';

const MAX_CONNECTIONS = 10_000;

export interface LearningServerOptions extends Pick<LearningOptions, 'idleTimeoutS' | 'maxAddresses'> {
  host: string;
  port: number;
  clock: Clock;
  log: Log;
}

export interface LearningServer {
  readonly port: number;
  /** Of the switches that are connected. */
  switches(): { dpid: string; version: number; addresses: number; counters: LearningCounters }[];
  close(): Promise<void>;
}

type Message<C extends OfMessage['cls']> = Extract<OfMessage<LearningVersion>, { cls: C }>;

/** Whether a port status says that nothing more can go through the port; `OFPPS_LINK_DOWN` is 1 in every version. */
function downPort(m: Message<'OFPPortStatus'>): number | undefined {
  const isDown = ((m.desc.config & ofp.OFPPC_PORT_DOWN) | (m.desc.state & ofp.OFPPS_LINK_DOWN)) !== 0;
  return m.reason === ofp.OFPPR_DELETE || isDown ? m.desc.port_no : undefined;
}

/** Runs the learning switch for all that connect. @throws FairwayError LISTEN when the address cannot be had. */
export async function startLearning(o: LearningServerOptions): Promise<LearningServer> {
  const sessions = new Map<OfConnection<LearningVersion>, { app?: LearningSwitch; dpid?: string }>();
  const { log, clock } = o;
  const limits = {
    ...(o.idleTimeoutS === undefined ? {} : { idleTimeoutS: o.idleTimeoutS }),
    ...(o.maxAddresses === undefined ? {} : { maxAddresses: o.maxAddresses }),
  };

  const accept = (socket: Socket) => {
    if (sessions.size >= MAX_CONNECTIONS) {
      log('warn', 'switch.tooMany', { most: MAX_CONNECTIONS });
      socket.destroy();
      return;
    }
    socket.setNoDelay(true);
    const remote = `${socket.remoteAddress}:${socket.remotePort}`;
    const session: { app?: LearningSwitch; dpid?: string } = {};
    let app: LearningSwitch | undefined;
    let isBlocked = false;
    /** Waits for the end of a read, where a turn's output is written; set by the timers below. */
    let soon: (() => void) | undefined;
    let isReading = false;

    const handler: ConnectionHandler<LearningVersion> = {
      onUp({ version, features }) {
        app = new LearningSwitch({ ...limits, seed: randomInt(2 ** 32), version, nBuffers: features?.n_buffers ?? 0 });
        session.app = app;
        session.dpid = features?.datapath_id.toString(16).padStart(16, '0') ?? '';
        log('info', 'switch.up', { dpid: session.dpid, remote, version });
        for (const m of app.setUp()) connection.send(m as OfMessage<LearningVersion>);
      },
      // A switch that does not read gets no more answers: its packets are lost as on any full link.
      onBytes: (bytes) => (isBlocked ? bytes[1] === ofp.OFPT_PACKET_IN : app?.packetIn(bytes) === true),
      onMessage(message) {
        if (message.cls !== 'OFPPortStatus') return;
        const portNo = downPort(message);
        if (portNo !== undefined) app?.portDown(portNo);
      },
      onError: (error) => log('debug', 'switch.error', { dpid: session.dpid, remote, error: error.message }),
      onDown(reason) {
        sessions.delete(connection);
        log('info', 'switch.gone', { dpid: session.dpid, remote, reason: reason.message });
      },
    };
    const timers: Timers = {
      now: () => performance.now(),
      after: (ms, fn) => clock.after(ms, fn),
      soon(fn) {
        soon = fn;
        if (!isReading) setImmediate(run);
      },
    };
    const run = () => {
      const fn = soon;
      soon = undefined;
      fn?.();
    };
    const connection = new OfConnection<LearningVersion>(handler, { versions: LEARNING_VERSIONS });
    sessions.set(connection, session);
    /** The socket, but that what was read is answered before anybody else has a turn. One listener of its data costs least. */
    const duplex: DuplexLike = {
      on: (event: string, listener: (...args: never[]) => void) =>
        event === 'data'
          ? socket.on('data', (chunk) => read(chunk, listener as (chunk: Buffer) => void))
          : socket.on(event, listener as () => void),
      write: (bytes) => socket.write(bytes),
      end: () => socket.end(),
      destroy: () => socket.destroy(),
      pause: () => socket.pause(),
      resume: () => socket.resume(),
    };
    const read = (chunk: Buffer, receive: (chunk: Buffer) => void) => {
      isReading = true;
      receive(chunk);
      const out = app?.take();
      const mayGoOn = out === undefined || connection.sendBytes(out);
      isReading = false;
      run();
      if (mayGoOn || isBlocked || !connection.isUp) return;
      isBlocked = true;
      connection.whenWritable().then(
        () => {
          isBlocked = false;
        },
        () => {},
      );
    };
    attach(connection, duplex, timers);
  };

  const server = createServer(accept);
  await listenOn(server, o);
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    switches: () =>
      [...sessions].flatMap(([connection, { app, dpid }]) =>
        app === undefined || dpid === undefined
          ? []
          : [{ dpid, version: connection.version ?? 0, addresses: app.size, counters: app.counters }],
      ),
    async close() {
      for (const connection of [...sessions.keys()]) connection.close('the controller is stopping');
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
