/**
 * The host agent: a session with the controller over one WebSocket (`contracts/agent.ts`), a migration driver under it, and
 * nothing between them but translation. The driver owns the copies: they go on while the controller is away, and when it
 * returns it is told the truth: guests, migrations with their progress, and every event it may have missed.
 */
import { WebSocket } from 'ws';
import {
  AGENT_PROTOCOL,
  type AgentCommand,
  type AgentMessage,
  controllerMessageSchema,
} from '../../contracts/agent.ts';
import { type Clock, systemClock } from '../../contracts/clock.ts';
import { describeIssues, FairwayError } from '../../contracts/common.ts';
import type { AgentConfig } from '../../contracts/config.ts';
import type { Log } from '../../contracts/log.ts';
import { termOf } from '../../contracts/terms.ts';
import { TOKEN_EXPIRED_CLOSE } from '../../contracts/token.ts';
import { backoffMs } from '../core/backoff.ts';
import type { DiskCommands, MigrationDriver } from '../core/driver.ts';
import { createSwitchoverGuard } from '../core/switchoverGuard.ts';
import { watchCharge } from './charge.ts';
import { createEmulatedDriver } from './emulatedDriver.ts';
import { createGate } from './gate.ts';
import { findGuestMemory } from './hostLoad.ts';
import { createLibvirtDriver } from './libvirtDriver.ts';
import { createNoDriver } from './noDriver.ts';
import { createQemuDriver } from './qemuDriver.ts';
import { applyQueueFilters } from './queueFilters.ts';
import { takeRunDir } from './runDir.ts';
import { createTelemetry, type Telemetry } from './telemetry.ts';
import { isTokenRefusal, readRefusal, tokenReason, watchExpiry } from './tokenWatch.ts';

export interface AgentOptions {
  /** Presented to the controller; a function is asked at each connection, so that a token that was changed is taken up. */
  token: string | (() => string);
  log: Log;
  /** Time of the copies and of the load messages. The session itself lives in real time: its socket is a real one. */
  clock?: Clock;
  /** Instead of the one that the configuration names; the simulation gives its own. */
  driver?: MigrationDriver;
  /** Closing the agent ends its guests too. Otherwise they go on, and the next agent with this runDir finds them. */
  stopGuestsOnClose?: boolean;
  /** From 0 to 1, for the jitter of reconnecting. */
  random?: () => number;
  /** Least time between two messages about host and guests, ms. */
  telemetryPeriodMs?: number;
}

export interface RunningAgent {
  readonly driver: MigrationDriver;
  close(): Promise<void>;
}

/** A controller that has said nothing, not even answered a ping, for so long is taken to be gone. */
const SILENCE_MS = 15_000;
const PING_MS = 5000;
const TELEMETRY_MS = 3000;
const DIRTY_EVERY_MS = 30_000;

/**
 * Starts the agent; resolves once the driver has found or started its guests. The controller need not be there yet.
 *
 * @throws FairwayError when the driver cannot open, e.g. a configured guest does not start.
 */
export async function startAgent(config: AgentConfig, options: AgentOptions): Promise<RunningAgent> {
  const { log } = options;
  const token = typeof options.token === 'function' ? options.token : () => options.token as string;
  const clock = options.clock ?? systemClock();
  const realTime = systemClock();
  const random = options.random ?? Math.random;
  // Emulated guests take nothing of this machine.
  const kind = options.driver?.kind ?? config.driver;
  const hasRealGuests = kind === 'qmp' || kind === 'libvirt';
  const letGo = options.driver === undefined && hasRealGuests ? takeRunDir(config.runDir, log) : () => {};
  const driver = options.driver ?? defaultDriver(config, clock, log);
  const gate = createGate(config, driver);

  let socket: WebSocket | undefined;
  let welcomed = false;
  let attempt = 0;
  let closed = false;
  let cancelRetry: () => void = () => {};
  /** Where the session is, and the term in which that controller welcomed it. */
  let session: { controller: string; term: bigint } | undefined;
  /** Connections to a controller whose term is over. */
  const superseded = new WeakSet<WebSocket>();

  const send = (message: AgentMessage): void => {
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  };
  /** What happens while the controller is away is not kept: it is told afresh on reconnect. */
  const sendIfWelcome = (message: AgentMessage): void => {
    if (welcomed) send(message);
  };

  const controllers = typeof config.controller === 'string' ? [config.controller] : config.controller;
  const charge = watchCharge({
    controllers,
    clock: realTime,
    obeyed: () => session,
    onNewer(controller, term) {
      log('warn', 'controller-superseded', { controller: session?.controller, by: controller, term: String(term) });
      session = undefined;
      welcomed = false;
      // The attempt that follows the end of this connection goes there.
      attempt = controllers.indexOf(controller) + controllers.length - 1;
      if (socket) superseded.add(socket);
      socket?.close(1001);
    },
  });
  const switchovers = createSwitchoverGuard({
    clock,
    waitMs: config.switchoverWaitMs,
    goOn(migration) {
      log('warn', 'switchover-unattended', { migration, waitedMs: config.switchoverWaitMs, welcomed });
      driver
        .continueSwitchover(migration)
        .catch((error: unknown) => log('warn', 'switchover-unattended', { migration, error }));
    },
  });

  try {
    await driver.open((message) => {
      switchovers.heard(message);
      sendIfWelcome(message);
    });
  } catch (error) {
    // Nothing may keep the process from ending; guests that run go on.
    charge.close();
    switchovers.close();
    await driver.close({ stopGuests: false });
    letGo();
    throw error;
  }
  for (const event of driver.pastEvents()) switchovers.heard(event);
  const guestMemoryMiB = config.guestMemoryMiB ?? (hasRealGuests ? await findGuestMemory() : undefined);
  const telemetry = createTelemetry({
    config,
    driver,
    clock,
    log,
    send: sendIfWelcome,
    periodMs: options.telemetryPeriodMs ?? TELEMETRY_MS,
    dirtyEveryMs: DIRTY_EVERY_MS,
  });

  const hello = (): AgentMessage => ({
    type: 'hello',
    protocol: AGENT_PROTOCOL,
    host: config.host,
    ...(charge.term > 0n ? { term: String(charge.term) } : {}),
    ...(config.migrationIp === undefined ? {} : { migrationIp: config.migrationIp }),
    ...(config.dpid === undefined ? {} : { dpid: config.dpid }),
    ...(config.migrationPort === undefined ? {} : { migrationPort: config.migrationPort }),
    driver: driver.kind,
    limits: config.limits,
    techniques: driver.abilities().techniques,
    abilities: driver.abilities(),
    guests: driver.guests(),
    ...(guestMemoryMiB === undefined ? {} : { guestMemoryMiB }),
    hostLabels: config.hostLabels,
    migrations: driver.migrations(),
  });

  function connect(): void {
    if (closed) return;
    // One after another: of several controllers only the one in charge lets agents in.
    const controller = controllers[attempt % controllers.length] as string;
    const isNews = () => attempt < controllers.length;
    const presented = token();
    const ws = new WebSocket(`${controller.replace(/\/+$/, '')}/agent`, {
      headers: { authorization: `Bearer ${presented}` },
      handshakeTimeout: 10_000,
      maxPayload: 8 * 1024 * 1024,
    });
    socket = ws;
    let heardMs = realTime.now();
    let stopPinging: () => void = () => {};
    let stopWarning: () => void = () => {};
    ws.on('open', () => {
      log('info', 'controller-connected', { controller, host: config.host });
      stopWarning = watchExpiry({ presented, latest: token, tokenFile: config.tokenFile, clock: realTime, log });
      send(hello());
      stopPinging = realTime.every(PING_MS, () => {
        if (realTime.now() - heardMs > SILENCE_MS) {
          log('warn', 'controller-silent', { sinceMs: Math.round(realTime.now() - heardMs) });
          ws.terminate();
        } else ws.ping();
      });
    });
    ws.on('pong', () => {
      heardMs = realTime.now();
    });
    ws.on('message', (data, binary) => {
      heardMs = realTime.now();
      if (!binary) onMessage(ws, controller, data.toString());
    });
    // An answer that is no upgrade: what the controller says is worth more than its status.
    let isAnswered = false;
    ws.on('unexpected-response', (_request, response) => {
      isAnswered = true;
      readRefusal(response).then(({ code, message }) => {
        if (isTokenRefusal(response.statusCode)) {
          const reason = tokenReason(controller, code, message, config.tokenFile);
          log(isNews() ? 'error' : 'warn', 'token-refused', { reason, code });
        } else log(isNews() ? 'warn' : 'debug', 'controller-unreachable', { controller, error: message });
        ws.terminate();
      });
    });
    ws.on('error', (error) => {
      if (isAnswered) return;
      log(isNews() ? 'warn' : 'debug', 'controller-unreachable', { controller, error: error.message });
    });
    ws.on('close', (code) => {
      stopPinging();
      stopWarning();
      if (socket === ws) {
        socket = undefined;
        session = undefined;
        welcomed = false;
      }
      if (closed) return;
      const round = Math.floor(++attempt / controllers.length);
      const waitMs = controllers.length === 1 ? backoffMs(round - 1, random()) : backoffMs(round, random(), 250, 2000);
      if (code === TOKEN_EXPIRED_CLOSE) log('warn', 'token-expired', { controller });
      log('info', 'controller-lost', { code, retryInMs: Math.round(waitMs) });
      cancelRetry = realTime.after(waitMs, connect);
    });
  }

  function onMessage(ws: WebSocket, controller: string, text: string): void {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      log('warn', 'controller-garbage', { text: text.slice(0, 200) });
      return;
    }
    const parsed = controllerMessageSchema.safeParse(value);
    if (!parsed.success) {
      const error = describeIssues(parsed.error);
      log('warn', 'controller-garbage', { error });
      // A command that cannot be understood is answered, if it can be told which one it was.
      const id = (value as { id?: unknown } | null)?.id;
      if (typeof id === 'number' && Number.isInteger(id)) {
        send({ type: 'result', id, ok: false, code: 'bad-command', error });
      }
      return;
    }
    const message = parsed.data;
    switch (message.type) {
      case 'welcome':
        if (!charge.accepts(message.term)) {
          const reason = `its term ${message.term ?? 0} is over: another controller was in charge in term ${charge.term}`;
          log('warn', 'controller-not-obeyed', { controller, reason });
          ws.close(1001);
          break;
        }
        session = { controller, term: termOf(message.term ?? '0') };
        // Short waits again, beginning with the next controller: this one is likely to be what was lost.
        attempt -= Math.floor(attempt / controllers.length) * controllers.length;
        welcomed = true;
        driver.setProgressPeriod(message.progressPeriodMs);
        // Between hello and now something may have happened, and before hello much more.
        send({ type: 'guests', guests: driver.guests() });
        for (const event of driver.pastEvents()) send(event);
        telemetry.restart();
        break;
      case 'refused':
        log('error', 'controller-refused', { reason: message.reason });
        ws.close();
        break;
      case 'command':
        if (superseded.has(ws)) {
          const error = `another controller is in charge, in term ${charge.term}`;
          send({ type: 'result', id: message.id, ok: false, code: 'not-in-charge', error });
          break;
        }
        if (message.command.do === 'continueSwitchover' || message.command.do === 'cancel')
          switchovers.decided(message.command.migration);
        gate
          .pass(message.command, () => obey(driver, message.command, config, telemetry))
          .then((result) => ({ ok: true, ...(result === undefined ? {} : { value: result }) }))
          .catch((error: unknown) => {
            log('warn', 'command-failed', { command: message.command.do, error });
            const code = error instanceof FairwayError ? error.code : 'internal';
            const retryable = error instanceof FairwayError && error.has('retryable');
            const text = error instanceof Error ? error.message : String(error);
            return { ok: false, code, error: text, ...(retryable ? { retryable } : {}) };
          })
          .then((result) => {
            // An answer is for the connection that asked: the next one numbers its commands anew.
            if (ws.readyState === WebSocket.OPEN)
              ws.send(JSON.stringify({ type: 'result', id: message.id, ...result, atMs: clock.now() }));
          });
        break;
    }
  }

  connect();
  return {
    driver,
    async close() {
      if (closed) return;
      closed = true;
      charge.close();
      telemetry.close();
      switchovers.close();
      cancelRetry();
      const ws = socket;
      if (ws !== undefined) {
        const gone = new Promise<void>((resolve) => ws.once('close', () => resolve()));
        ws.close(1001);
        const cancel = realTime.after(1000, () => ws.terminate());
        await gone;
        cancel();
      }
      await driver.close({ stopGuests: options.stopGuestsOnClose ?? false });
      letGo();
    },
  };
}

function defaultDriver(config: AgentConfig, clock: Clock, log: Log): MigrationDriver {
  switch (config.driver) {
    case 'qmp':
      return createQemuDriver({ config, clock, log });
    case 'libvirt':
      if (config.guests.length > 0) {
        const text = 'guests: driver libvirt starts none: define them with virsh, and leave this list empty';
        throw new FairwayError('config', text, ['badInput']);
      }
      if (config.migrationTls !== undefined) {
        const text = 'migrationTls: driver libvirt does not encrypt copies: leave it out, and use a network you trust';
        throw new FairwayError('config', text, ['badInput']);
      }
      return createLibvirtDriver({ config, clock, log });
    case 'emulated':
      return createEmulatedDriver({ config, clock, log });
    case 'none':
      return createNoDriver(config.host);
  }
}

function disksOf(driver: MigrationDriver): DiskCommands {
  if (driver.disks !== undefined) return driver.disks;
  const text = `the driver ${driver.kind} leaves no disks behind: ask for storage shared, or mirrored where it can`;
  throw new FairwayError('storage-unsupported', text, ['badInput']);
}

/** Carries one command out; the answer is the result's value. */
async function obey(
  driver: MigrationDriver,
  c: AgentCommand,
  config: AgentConfig,
  telemetry: Telemetry,
): Promise<unknown> {
  switch (c.do) {
    case 'prepare':
      return driver.prepare(c);
    case 'start':
      return driver.start(c);
    case 'setBandwidth':
      return driver.setBandwidth(c);
    case 'setDowntimeLimit':
      return driver.setDowntimeLimit(c);
    case 'switchToPostcopy':
      return driver.switchToPostcopy(c.migration);
    case 'continueSwitchover':
      return driver.continueSwitchover(c.migration);
    case 'cancel':
      return driver.cancel(c.migration);
    case 'recoverIncoming':
      return driver.recoverIncoming(c.migration);
    case 'recoverOutgoing':
      return driver.recoverOutgoing(c);
    case 'offerDisks':
      return disksOf(driver).offer(c);
    case 'releaseDisks':
      return disksOf(driver).release(c);
    case 'pullDisks':
      return disksOf(driver).pull(c);
    case 'stopPull':
      return disksOf(driver).stopPull(c);
    case 'measureFetch':
      return disksOf(driver).fetched(c.guest);
    case 'finish':
      return driver.finish(c.migration);
    case 'abandon':
      return driver.abandon(c.migration);
    case 'measureDirtyRate':
      return telemetry.measure(c.guest, c.seconds);
    case 'queueFilters':
      // An emulated host has no devices, and in its emulated switch set_queue works by itself.
      if (driver.kind === 'emulated') return { applied: false, detail: `${c.portName} is emulated: nothing to filter` };
      return applyQueueFilters(c.portName, c.filters, config.ovs);
  }
}
