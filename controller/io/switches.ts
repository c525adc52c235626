/**
 * Where switches are met: listens for them over TCP or TLS, connects to those that wait themselves, admits no more than it can
 * hold, and keeps one session (switchSession.ts) per datapath id. Knows nothing of migrations; `server.ts` carries the
 * core's write effects here. Reconnecting never touches what a switch forwards: its tables are read first.
 */
import { connect as connectTcp, createServer, type Server, type Socket } from 'node:net';
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { type OfMessage, of13, ofproto_v1_3 as ofp } from 'node-openflow';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { RefusedSwitchView } from '../../contracts/feed.ts';
import type { Log } from '../../contracts/log.ts';
import type { SessionView } from '../../contracts/rest.ts';
import { newest } from '../../contracts/terms.ts';
import { bindingProblem, type CertificateRules, type PeerCertificate } from '../core/certificates.ts';
import { OURS } from '../core/cookies.ts';
import type { Event } from '../core/events.ts';
import { removeGroup } from '../core/flows.ts';
import { type ControllerRole, nextGeneration } from '../core/roles.ts';
import { versionText } from '../core/versions.ts';
import { listenOn } from './listen.ts';
import { RefusedSwitches } from './refusedSwitches.ts';
import { type SessionOwner, SwitchSession } from './switchSession.ts';
import type { WriteResult } from './switchWrites.ts';

const TLS_HANDSHAKE_MS = 10_000;
/** Lines of the log per second, and at once, for what strangers can cause. */
const LOG_LINES_PER_S = 5;
const LOG_LINES_AT_ONCE = 20;
/** Ports that send too many packet-ins are told to the core this often. */
const OVER_WINDOW_MS = 250;
/** Dropped packet-ins are told of this often. */
const DROP_REPORT_MS = 10_000;
/** Who is refused as a switch is told at most this often: strangers may come as often as they like. */
const REFUSED_PERIOD_MS = 5000;
/** A primary asks its switches this often whether it still is their master. */
const ROLE_CHECK_MS = 1000;
const RECONNECT_FIRST_MS = 1000;
const RECONNECT_MOST_MS = 30_000;
const CONNECT_MS = 10_000;

export interface SwitchTls {
  key: string | Buffer;
  cert: string | Buffer;
  /** Certificates of the authorities that switches' certificates must come from. */
  ca: string | Buffer;
  rules: CertificateRules;
}

export interface SwitchServerOptions {
  host: string;
  port: number;
  clock: Clock;
  log: Log;
  emit(event: Event): void;
  /** With it, only TLS is spoken on the port, and peers must have a certificate. */
  tls?: SwitchTls;
  /** Switches to connect to: `tcp:host:port` or `ssl:host:port`. */
  connect?: readonly string[];
  /** Default `equal`. */
  role?: ControllerRole;
  /** Generation id under which a primary is in charge. Without: one newer than the first switch knows, told by `onTerm`. */
  term?: bigint;
  onTerm?(term: bigint): void;
  /** Another controller has taken over, as a switch tells; this one stands by already. */
  onFenced?(): void;
  /** Others are refused as switches than before, or for other reasons: see `describeRefused`. */
  onRefused?(): void;
  /** Connections in total. Default 10,000. */
  maxConnections?: number;
  /** Connections of one address. Default 2,000. */
  maxPerAddress?: number;
}

/** An address without its port. */
const addressOf = (remote: string): string => remote.replace(/:\d+$/, '');

/** A switch that waits to be connected to. */
interface Target {
  text: string;
  isTls: boolean;
  host: string;
  port: number;
  backoffMs: number;
}

/** @throws FairwayError BAD_ADDRESS */
function parseTarget(text: string): Target {
  const m = /^(tcp|ssl):(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text);
  const host = m?.[2] ?? m?.[3];
  const port = Number(m?.[4] ?? 6653);
  if (!m || host === undefined || port < 1 || port > 65_535)
    throw new FairwayError(
      'BAD_ADDRESS',
      `openflow.connect: "${text}" is no address of a switch; write tcp:HOST:PORT or ssl:HOST:PORT`,
      ['badInput'],
    );
  return { text, isTls: m[1] === 'ssl', host, port, backoffMs: RECONNECT_FIRST_MS };
}

function certificateOf(socket: TLSSocket): PeerCertificate | undefined {
  const c = socket.getPeerCertificate();
  if (c.fingerprint256 === undefined) return undefined;
  const commonName: unknown = c.subject?.CN ?? '';
  return {
    commonName: Array.isArray(commonName) ? commonName.join(' ') : String(commonName),
    alternativeNames: c.subjectaltname ?? '',
    fingerprint: c.fingerprint256,
  };
}

/** Listens for switches and holds their sessions. */
export class SwitchServer implements SessionOwner {
  readonly clock: Clock;
  readonly emit: (event: Event) => void;
  /** Sessions that said who they are, by datapath id. */
  readonly sessions = new Map<string, SwitchSession>();
  readonly #log: Log;
  readonly #tls: SwitchTls | undefined;
  readonly #limits: { total: number; perAddress: number };
  readonly #all = new Map<SwitchSession, Target | undefined>();
  /** Connections, those in a TLS handshake too. */
  readonly #sockets = new Set<Socket>();
  readonly #byAddress = new Map<string, number>();
  readonly #targets: readonly Target[];
  readonly #retries = new Set<() => void>();
  readonly #server: Server;
  readonly #stops: readonly (() => void)[];
  readonly #refused = new RefusedSwitches();
  readonly #reported = new WeakMap<SwitchSession, number>();
  #logTokens = LOG_LINES_AT_ONCE;
  #logAtMs: number;
  #linesLeftOut = 0;
  #closed = false;
  #role: ControllerRole;
  #term: bigint | undefined;
  /** The newest generation id that any switch knew. */
  #known = 0n;
  readonly #onTerm: (term: bigint) => void;
  readonly #onFenced: () => void;
  readonly #onRefused: () => void;
  #toldRefusedMs = Number.NEGATIVE_INFINITY;
  /** Sessions that wait for `takeOver`. */
  readonly #waiting = new Map<SwitchSession, () => void>();

  private constructor(o: SwitchServerOptions) {
    this.clock = o.clock;
    this.emit = o.emit;
    this.#log = o.log;
    this.#tls = o.tls;
    this.#role = o.role ?? 'equal';
    this.#term = o.term;
    this.#onTerm = (term) => o.onTerm?.(term);
    this.#onFenced = () => o.onFenced?.();
    this.#onRefused = () => o.onRefused?.();
    this.#limits = { total: o.maxConnections ?? 10_000, perAddress: o.maxPerAddress ?? 2000 };
    this.#logAtMs = o.clock.now();
    this.#targets = (o.connect ?? []).map(parseTarget);
    const ssl = this.#targets.find((t) => t.isTls);
    if (ssl && !o.tls)
      throw new FairwayError('BAD_ADDRESS', `openflow.connect: ${ssl.text} needs openflow.tls with key, cert and ca`, [
        'badInput',
      ]);
    this.#server = this.#listener();
    this.#server.on('connection', (socket: Socket) => this.#admit(socket));
    this.#stops = [
      o.clock.every(DROP_REPORT_MS, () => this.#reportDrops()),
      o.clock.every(OVER_WINDOW_MS, () => this.#tellOver()),
      o.clock.every(ROLE_CHECK_MS, () => this.#checkRoles()),
      o.clock.every(OVER_WINDOW_MS, () => this.#tellRefused()),
    ];
  }

  /** @throws FairwayError LISTEN when the address cannot be had, TLS_FILES when key or certificates are of no use, BAD_ADDRESS */
  static async listen(o: SwitchServerOptions): Promise<SwitchServer> {
    const s = new SwitchServer(o);
    try {
      await listenOn(s.#server, o);
    } catch (error) {
      for (const stop of s.#stops) stop();
      throw error;
    }
    for (const target of s.#targets) s.#connect(target);
    return s;
  }

  get port(): number {
    const a = this.#server.address();
    return typeof a === 'object' && a !== null ? a.port : 0;
  }

  /** Connections at the moment, those that have not said who they are too. */
  get connections(): number {
    return this.#sockets.size;
  }

  // ---- roles -------------------------------------------------------------------------------------------------------

  get role(): ControllerRole {
    return this.#role;
  }

  whenInCharge(session: SwitchSession): Promise<void> {
    if (this.#role !== 'standby' || session.isClosed) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.set(session, resolve));
  }

  /** The newest generation id that any switch knew when it connected. */
  get knownGeneration(): bigint {
    return this.#known;
  }

  heardGeneration(known: bigint): void {
    this.#known = newest(this.#known, known);
  }

  generation(): bigint {
    if (this.#term === undefined) {
      this.#term = nextGeneration(this.#known);
      this.#onTerm(this.#term);
    }
    return this.#term;
  }

  /** A standby takes charge of every switch, now and as they come, under this generation id; the core then hears of them. */
  takeOver(term = nextGeneration(this.#known)): void {
    if (this.#role !== 'standby') return;
    this.#role = 'primary';
    this.#term = term;
    this.#log('warn', 'controller.takesOver', { switches: this.sessions.size, term: String(term) });
    for (const resolve of this.#waiting.values()) resolve();
    this.#waiting.clear();
  }

  /** Stands by from now on; switches come back as such, and the core hears no more of them. */
  standBy(): void {
    if (this.#role === 'standby') return;
    this.#role = 'standby';
    for (const s of [...this.#all.keys()]) s.close('this controller stands by now');
  }

  /** Another controller is in charge: stands by from now on, rather than take the switches back. */
  fenced(dpid: string): void {
    if (this.#role === 'standby') return;
    this.#log('error', 'controller.fenced', { dpid, advice: 'another controller has taken over; this one stands by' });
    this.standBy();
    this.#onFenced();
  }

  /** One that has a newer master ends this controller's term, even while nothing is to be written. */
  #checkRoles(): void {
    if (this.#role !== 'primary') return;
    for (const [dpid, session] of this.sessions)
      session.checkRole().catch((error) => this.#log('debug', 'switch.role', { dpid, error: String(error) }));
  }

  // ---- connections -------------------------------------------------------------------------------------------------

  #listener(): Server {
    if (!this.#tls) return createServer((socket) => this.#open(socket));
    const { key, cert, ca } = this.#tls;
    try {
      const server = createTlsServer(
        { key, cert, ca, requestCert: true, rejectUnauthorized: true, handshakeTimeout: TLS_HANDSHAKE_MS },
        (socket) => this.#open(socket, certificateOf(socket)),
      );
      server.on('tlsClientError', (error, socket) => {
        const advice = 'the switch must speak TLS here and present a certificate of openflow.tls.ca';
        this.logLimited('switch.tls', { remote: socket.remoteAddress, error: error.message, advice });
        this.#refused.note(socket.remoteAddress ?? '', null, `TLS failed; ${advice}`, this.clock.now());
        socket.destroy();
      });
      return server;
    } catch (error) {
      throw new FairwayError(
        'TLS_FILES',
        `openflow.tls: key, cert or ca is of no use: ${error instanceof Error ? error.message : error}`,
        ['badInput'],
        error,
      );
    }
  }

  /** Counts a connection, and ends one too many before anything is spent on it. */
  #admit(socket: Socket): void {
    const address = socket.remoteAddress ?? '';
    const ofAddress = this.#byAddress.get(address) ?? 0;
    const isFull = this.#sockets.size >= this.#limits.total;
    if (this.#closed || isFull || ofAddress >= this.#limits.perAddress) {
      const limit = isFull ? this.#limits.total : this.#limits.perAddress;
      this.logLimited('switch.tooMany', { remote: address, limit, of: isFull ? 'all addresses' : 'its address' });
      socket.destroy();
      return;
    }
    this.#sockets.add(socket);
    this.#byAddress.set(address, ofAddress + 1);
    socket.on('error', () => {});
    socket.once('close', () => {
      this.#sockets.delete(socket);
      const left = (this.#byAddress.get(address) ?? 1) - 1;
      if (left > 0) this.#byAddress.set(address, left);
      else this.#byAddress.delete(address);
    });
  }

  #open(socket: Socket, certificate?: PeerCertificate, target?: Target): void {
    if (this.#closed || socket.destroyed) return;
    socket.setNoDelay(true);
    socket.on('error', () => {});
    const remote = `${socket.remoteAddress}:${socket.remotePort}`;
    const session = new SwitchSession(this, socket, remote, certificate);
    if (session.isClosed) return;
    this.#all.set(session, target);
  }

  /** Connects to a switch that waits, and again whenever the connection is lost, ever less often while that fails. */
  #connect(target: Target): void {
    if (this.#closed) return;
    const { host, port } = target;
    const socket: Socket | TLSSocket =
      target.isTls && this.#tls
        ? connectTls({
            host,
            port,
            key: this.#tls.key,
            cert: this.#tls.cert,
            ca: this.#tls.ca,
            // Whom the certificate speaks for is told by its datapath id, not by a host name.
            checkServerIdentity: () => undefined,
          })
        : connectTcp({ host, port });
    let isOpen = false;
    let failure = 'it took too long';
    const cancel = this.clock.after(CONNECT_MS, () => {
      if (!isOpen) socket.destroy();
    });
    this.#sockets.add(socket);
    socket.once(target.isTls ? 'secureConnect' : 'connect', () => {
      isOpen = true;
      cancel();
      this.#open(socket, target.isTls ? certificateOf(socket as TLSSocket) : undefined, target);
    });
    socket.on('error', (error) => {
      failure = error.message;
    });
    socket.once('close', () => {
      cancel();
      this.#sockets.delete(socket);
      if (!isOpen) {
        this.#log('info', 'switch.connect', { to: target.text, error: failure, againInMs: target.backoffMs });
        this.#retry(target);
      }
    });
  }

  #retry(target: Target): void {
    if (this.#closed) return;
    const cancel = this.clock.after(target.backoffMs, () => {
      this.#retries.delete(cancel);
      this.#connect(target);
    });
    this.#retries.add(cancel);
    target.backoffMs = Math.min(RECONNECT_MOST_MS, target.backoffMs * 2);
  }

  // ---- sessions ----------------------------------------------------------------------------------------------------

  async claim(dpid: string, session: SwitchSession): Promise<string | undefined> {
    const problem =
      this.#tls && session.certificate ? bindingProblem(dpid, session.certificate, this.#tls.rules) : undefined;
    if (problem !== undefined) return problem;
    const holder = this.sessions.get(dpid);
    if (holder) {
      if (await holder.isAlive()) return this.#taken(dpid);
      holder.close('it did not answer, and the switch connected again');
    }
    if (session.isClosed || this.#closed) return 'it is gone';
    // Another may have been quicker while the echo was on its way.
    if (this.sessions.has(dpid)) return this.#taken(dpid);
    this.sessions.set(dpid, session);
    const target = this.#all.get(session);
    if (target) target.backoffMs = RECONNECT_FIRST_MS;
    return undefined;
  }

  #taken(dpid: string): string {
    const holder = this.sessions.get(dpid)?.remote;
    return `datapath id ${dpid} is already connected from ${holder}; give each switch its own`;
  }

  gone(session: SwitchSession, reason: string, isRefused: boolean): void {
    const target = this.#all.get(session);
    this.#all.delete(session);
    this.#waiting.get(session)?.();
    this.#waiting.delete(session);
    const { dpid, remote, said } = session;
    if (isRefused && !this.#closed) this.#refused.note(addressOf(remote), said ?? null, reason, this.clock.now());
    if (dpid !== undefined) this.#log('info', 'switch.gone', { dpid, remote, reason });
    else this.logLimited('switch.gone', { remote, reason });
    if (dpid !== undefined && this.sessions.get(dpid) === session) {
      this.sessions.delete(dpid);
      if (!this.#closed && session.isAnnounced) this.emit({ kind: 'switchDown', dpid });
    }
    if (target) this.#retry(target);
  }

  logLimited(event: string, fields: Record<string, unknown>): void {
    const now = this.clock.now();
    const earned = ((now - this.#logAtMs) * LOG_LINES_PER_S) / 1000;
    this.#logTokens = Math.min(LOG_LINES_AT_ONCE, this.#logTokens + earned);
    this.#logAtMs = now;
    if (this.#logTokens < 1) {
      this.#linesLeftOut++;
      return;
    }
    this.#logTokens--;
    const leftOut = this.#linesLeftOut;
    this.#linesLeftOut = 0;
    this.#log('warn', event, leftOut > 0 ? { ...fields, linesLeftOut: leftOut } : fields);
  }

  #tellOver(): void {
    const now = this.clock.now();
    for (const [dpid, { limiter, isAnnounced }] of this.sessions) {
      const over = limiter.takeOver(now);
      if (isAnnounced && over.ports.length > 0) this.emit({ kind: 'packetInsOver', dpid, ...over });
    }
  }

  #reportDrops(): void {
    for (const [dpid, session] of this.sessions) {
      const { limiter } = session;
      const before = this.#reported.get(session) ?? 0;
      if (limiter.dropped === before) continue;
      this.#reported.set(session, limiter.dropped);
      const fields = { dpid, dropped: limiter.dropped - before, ...limiter.counts, worstPorts: limiter.worst(5) };
      this.#log('warn', 'switch.packetInsDropped', fields);
    }
  }

  /** Sessions as operators see them. */
  describe(): SessionView[] {
    return [...this.sessions].map(([dpid, s]) => ({
      dpid,
      remote: s.remote,
      openflow: versionText(s.version),
      tls: s.certificate !== undefined,
      roundTripMs: s.roundTrip?.smoothedMs ?? null,
      bundles: s.bundles,
      packetIns: { passed: s.limiter.counts.passed, dropped: s.limiter.dropped },
    }));
  }

  #tellRefused(): void {
    const now = this.clock.now();
    if (now - this.#toldRefusedMs < REFUSED_PERIOD_MS || !this.#refused.hasNews(now)) return;
    this.#toldRefusedMs = now;
    this.#onRefused();
  }

  /** Who wanted to be served as a switch lately and was not. */
  describeRefused(): RefusedSwitchView[] {
    return this.#refused.list(this.clock.now());
  }

  // ---- what the core asks for --------------------------------------------------------------------------------------

  /** Carries a write out and reports its outcome as a `written` event. */
  write(dpid: string, batch: number, messages: readonly OfMessage<4>[]): void {
    const session = this.sessions.get(dpid);
    const done = (
      { outcome, errors, isTableFull, isGroupRefused = false }: WriteResult,
      holds: Extract<Event, { kind: 'written' }>['holds'],
    ) =>
      this.emit({
        kind: 'written',
        dpid,
        batch,
        outcome,
        errors,
        isTableFull,
        ...(isGroupRefused ? { isGroupRefused } : {}),
        ...(holds ? { holds } : {}),
      });
    if (!session) {
      const errors = ['the switch is not connected'];
      setImmediate(() => done({ outcome: 'unknown', errors, isTableFull: false }, undefined));
      return;
    }
    void session.write(messages).then(async (result) => {
      if (result.isFenced === true) this.fenced(dpid);
      const holds = result.outcome === 'refused' ? await session.readBack().catch(() => undefined) : undefined;
      // An answer that never came leaves the tables unknown: a new session reads them.
      const isUnknown = result.outcome === 'unknown' || (result.outcome === 'refused' && !holds);
      done(isUnknown ? { ...result, outcome: 'unknown' } : result, holds);
      if (isUnknown) session.close('a write was not confirmed');
    });
  }

  packetOut(dpid: string, portNo: number, frame: Buffer): void {
    this.sessions.get(dpid)?.packetOut(portNo, frame);
  }

  /** Reads every switch's counters, each for at most `limitMs`. */
  async sampleAll(withQueues: (dpid: string) => boolean, limitMs: number): Promise<void> {
    const reads = [...this.sessions].map(([dpid, s]) =>
      s
        .sample(withQueues(dpid))
        .catch((error) => this.#log('debug', 'switch.counters', { dpid, error: String(error) })),
    );
    let cancel = () => {};
    const limit = new Promise<void>((resolve) => {
      cancel = this.clock.after(limitMs, resolve);
    });
    await Promise.race([Promise.all(reads), limit]);
    cancel();
  }

  /** Removes every flow, meter and group of ours from the connected switches; for those who leave for good. */
  async removeAll(idsOf: (dpid: string) => { meters: number[]; groups: number[] }): Promise<void> {
    const work = [...this.sessions].map(async ([dpid, s]) => {
      if (!s.isAnnounced) return;
      const flows = of13.flowDelete({ cookie: OURS.cookie, cookie_mask: OURS.mask });
      const { meters, groups } = idsOf(dpid);
      const deletes = meters.map((meter_id) =>
        of13.OFPMeterMod({ command: ofp.OFPMC_DELETE, flags: 0, meter_id, bands: [] }),
      );
      await s.write([flows, ...deletes, ...groups.map(removeGroup)]);
    });
    await Promise.all(work);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const stop of this.#stops) stop();
    for (const cancel of this.#retries) cancel();
    for (const s of [...this.#all.keys()]) s.close('the controller is stopping');
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    // What has no session, such as a TLS handshake that goes on, has nothing to say good-bye with.
    const rest = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, 1000);
    await closed;
    clearTimeout(rest);
  }
}
