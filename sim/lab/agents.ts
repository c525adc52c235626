/**
 * The lab's two hypervisors with their agents and no controller: this process decides, over the agents' own protocol, which
 * guest is copied where and how. For measuring copies by themselves (`collect/`), without what a controller adds. The agents
 * are processes inside their namespaces and reach this process by way of `relay.ts`.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { WebSocketServer } from 'ws';
import { stringify } from 'yaml';
import { guestPaths, processOf } from '../../agent/io/guestProcess.ts';
import { connectQmp } from '../../agent/io/qmp.ts';
import {
  type AgentCommand,
  type AgentCommandOf,
  type AgentMessage,
  type CopyProgress,
  dirtyRateResultSchema,
  type GuestSpec,
  prepareResultSchema,
} from '../../contracts/agent.ts';
import { systemClock } from '../../contracts/clock.ts';
import { AgentGateway } from '../../controller/io/agents.ts';
import {
  agentSettings,
  CONTROLLER,
  checkRunning,
  type FairwayProcess,
  fairwayCommand,
  launchFairway,
  startRelay,
  stopAll,
} from './fairway.ts';
import type { Lab } from './network.ts';
import { interrupted, preciseNow, preferGuestsOf, sleep, stopPid, waitFor } from './shell.ts';

export type Hypervisor = 'hv1' | 'hv2';
const HYPERVISORS: readonly Hypervisor[] = ['hv1', 'hv2'];
/** Often enough to see short copies; each look costs the hypervisor a command. */
const PROGRESS_MS = 250;

type EventMessage = Extract<AgentMessage, { type: 'event' }>;

/** How a guest is to be copied. */
export type CopyOrder = Pick<
  AgentCommandOf<'start'>,
  'technique' | 'options' | 'bandwidthBps' | 'switchoverBps' | 'downtimeLimitMs' | 'hybridPasses'
> & {
  /** A copy that is not done by then is cancelled, ms. In post-copy there is no way back: it has ten times as long. */
  limitMs: number;
};

export interface CopyOutcome {
  outcome: 'completed' | 'cancelled' | 'failed';
  reason: string;
  /** From the order to start until the source said that it had ended; preciseNow. */
  startMs: number;
  endMs: number;
  progress: CopyProgress | undefined;
  /** Auto-converge: the most by which the guest's processors were held back. */
  throttleShare: number;
  /** When the guest stopped and ran again, as the agents saw it: one machine has one clock. */
  stoppedAtMs: number | undefined;
  resumedAtMs: number | undefined;
  /** QEMU's `query-migrate` at the source, after the end. */
  qemu: Record<string, unknown>;
}

export class AgentsInLab {
  private readonly lab: Lab;
  private readonly gateway: AgentGateway;
  private readonly server: Server;
  private readonly token: string;
  private readonly signal: AbortSignal | undefined;
  private readonly relay: FairwayProcess;
  private agents: FairwayProcess[] = [];
  private up = new Set<string>();
  private guest: { spec: GuestSpec; at: Hypervisor } | undefined;
  private onEvent: (host: string, message: EventMessage) => void = () => {};
  private onProgress: (progress: CopyProgress) => void = () => {};
  private copies = 0;

  private constructor(lab: Lab, server: Server, relay: FairwayProcess, token: string, signal?: AbortSignal) {
    this.lab = lab;
    this.server = server;
    this.relay = relay;
    this.token = token;
    this.signal = signal;
    this.gateway = new AgentGateway({
      clock: systemClock(),
      log: () => {},
      progressPeriodMs: PROGRESS_MS,
      onUp: (host) => this.up.add(host),
      onDown: (host) => this.up.delete(host),
      onMessage: (host, message) => {
        if (message.type === 'event') this.onEvent(host, message);
        else if (message.type === 'progress') this.onProgress(message.progress);
      },
    });
    const door = new WebSocketServer({ noServer: true, maxPayload: 8 * 1024 * 1024 });
    server.on('upgrade', (request, socket, head) => {
      if (request.headers.authorization !== `Bearer ${this.token}`) socket.destroy();
      else door.handleUpgrade(request, socket, head, (ws) => this.gateway.attach(ws));
    });
  }

  /** Opens the door for agents; none runs yet. */
  static async open(lab: Lab, signal?: AbortSignal): Promise<AgentsInLab> {
    const folder = join(lab.stateDir, 'ctl');
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const path = join(folder, 'agents.sock');
    rmSync(path, { force: true });
    const server = createServer((_request, response) => response.writeHead(426).end());
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    const relay = await startRelay(lab, CONTROLLER, `unix:${path}`);
    return new AgentsInLab(lab, server, relay, randomBytes(24).toString('hex'), signal);
  }

  /** Ends the guest there was, and starts another at hv1 under fresh agents. */
  async useGuest(spec: GuestSpec): Promise<void> {
    await this.endGuest();
    this.up.clear();
    for (const site of HYPERVISORS) {
      const folder = this.lab.switches[site].runDir;
      const file = join(folder, 'agent.yaml');
      writeFileSync(file, stringify(agentSettings(this.lab, site, { guests: { hv1: [spec] } })));
      const words = fairwayCommand('info', 'agent', '--config', file);
      const namespace = this.lab.ns(site);
      const { token } = this;
      const agent = launchFairway(this.lab, { namespace, name: `agent-${site}`, words, folder, token });
      this.agents.push(agent);
      if (agent.child.pid !== undefined) preferGuestsOf(agent.child.pid);
    }
    this.guest = { spec, at: 'hv1' };
    await waitFor(
      'both agents',
      () => {
        checkRunning([...this.agents, this.relay]);
        return this.up.size === HYPERVISORS.length ? true : undefined;
      },
      { timeoutMs: 60_000, everyMs: 50, signal: this.signal },
    );
  }

  /** Where the guest runs now. */
  get place(): Hypervisor {
    if (this.guest === undefined) throw new Error('no guest was started');
    return this.guest.at;
  }

  private send(host: Hypervisor, command: AgentCommand, timeoutMs?: number): Promise<unknown> {
    return this.gateway.send(host, command, timeoutMs);
  }

  /** What the agent says the guest dirties. */
  async measure(seconds: number) {
    const guest = this.current().spec.name;
    return dirtyRateResultSchema.parse(await this.send(this.place, { do: 'measureDirtyRate', guest, seconds }));
  }

  private current() {
    if (this.guest === undefined) throw new Error('no guest was started');
    return this.guest;
  }

  /**
   * Copies the guest to the other hypervisor and clears up after it. A copy that does not end in time is cancelled and its
   * guest stays: an outcome, not an error.
   *
   * @throws FairwayError when an agent refuses to prepare or start, or says nothing any more.
   */
  async copy(order: CopyOrder): Promise<CopyOutcome> {
    const guest = this.current();
    const { spec, at: from } = guest;
    const to = from === 'hv1' ? 'hv2' : 'hv1';
    const migration = `c${++this.copies}`;
    const { limitMs, ...how } = order;
    const same = {
      migration,
      technique: how.technique,
      ...(how.options === undefined ? {} : { options: how.options }),
    };
    let stoppedAtMs: number | undefined;
    let resumedAtMs: number | undefined;
    let progress: CopyProgress | undefined;
    let inPostcopy = false;
    let resumed = false;
    let ending: EventMessage | undefined;
    let throttleShare = 0;
    this.onProgress = (p) => {
      progress = p;
      throttleShare = Math.max(throttleShare, p.throttleShare ?? 0);
    };
    this.onEvent = (host, m) => {
      if (m.migration !== migration) return;
      if (host === from) {
        progress = m.progress ?? progress;
        stoppedAtMs = m.stoppedAtMs ?? stoppedAtMs;
        if (m.event === 'postcopyStarted') inPostcopy = true;
        if (m.event === 'completed' || m.event === 'failed' || m.event === 'cancelled') ending = m;
        // Nothing has to be made ready for the guest here: it goes on at once.
        if (m.event === 'preSwitchover') {
          this.send(from, { do: 'continueSwitchover', migration }).catch((error: unknown) => {
            ending ??= { ...m, event: 'failed', reason: String(error) };
          });
        }
      } else if (m.event === 'resumed') {
        resumed = true;
        resumedAtMs = m.resumedAtMs;
      }
    };
    const prepared = prepareResultSchema.parse(
      await this.send(to, { do: 'prepare', ...same, guest: spec, postcopyBandwidthBps: how.bandwidthBps }, 60_000),
    );
    const startMs = preciseNow();
    await this.send(
      from,
      {
        do: 'start',
        ...same,
        ...how,
        guest: spec.name,
        address: prepared.address,
        port: prepared.port,
        pauseBeforeSwitchover: true,
      },
      60_000,
    );
    let cancelled = false;
    await waitFor(
      `end of copy ${migration} (${how.technique})`,
      () => {
        checkRunning(this.agents);
        if (!cancelled && !inPostcopy && preciseNow() - startMs > limitMs) {
          cancelled = true;
          // Refused when the switch-over has begun meanwhile: then it ends by itself.
          this.send(from, { do: 'cancel', migration }).catch(() => undefined);
        }
        return ending !== undefined && (ending.event !== 'completed' || resumed) ? true : undefined;
      },
      { timeoutMs: limitMs * 10 + 30_000, everyMs: 10, signal: this.signal },
    );
    const endMs = preciseNow();
    const ended = ending as unknown as EventMessage;
    const qemu = await this.askQemu(from, spec.name);
    if (ended.event === 'completed') {
      await Promise.all([this.send(from, { do: 'finish', migration }), this.send(to, { do: 'finish', migration })]);
      guest.at = to;
    } else await this.send(to, { do: 'abandon', migration });
    return {
      outcome: ended.event as CopyOutcome['outcome'],
      reason: ended.reason ?? '',
      startMs,
      endMs,
      progress,
      stoppedAtMs,
      resumedAtMs,
      throttleShare,
      qemu,
    };
  }

  /** All that QEMU says of its last copy, by the socket that the agent leaves to measuring tools. */
  private async askQemu(at: Hypervisor, guest: string): Promise<Record<string, unknown>> {
    const qmp = await connectQmp(guestPaths(this.agentDir(at), guest).monitor);
    try {
      return (await qmp.execute('query-migrate')) as Record<string, unknown>;
    } finally {
      qmp.close();
    }
  }

  private readonly agentDir = (at: Hypervisor): string => join(this.lab.switches[at].runDir, 'agent');

  /** Ends the agents, then the guest, wherever it is. */
  async endGuest(): Promise<void> {
    await stopAll(this.agents);
    const { guest } = this;
    if (guest === undefined) return;
    for (const site of HYPERVISORS) {
      const pid = processOf(this.agentDir(site), guest.spec.name);
      if (pid !== undefined) await stopPid(pid);
    }
    this.guest = undefined;
    // The next agents tidy up what these left: taps, sockets, records.
    if (this.signal?.aborted === true) throw interrupted();
    await sleep(50);
  }

  async close(): Promise<void> {
    this.gateway.close();
    await stopAll(this.agents);
    await stopAll([this.relay]);
    this.server.close();
    this.server.closeAllConnections();
  }
}
