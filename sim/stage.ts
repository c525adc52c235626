/**
 * A controller, the embedded data centre and a host agent per hypervisor in one process, talking to each other over loopback
 * as they would over a network: the stage on which `demo.ts` and the scenario tests play. `datacentre.ts` is the network.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type RunningAgent, startAgent } from '../agent/io/agent.ts';
import { createEmulatedDriver, createEmulatedFabric } from '../agent/io/emulatedDriver.ts';
import { FairwayClient } from '../cli/client.ts';
import type { Clock } from '../contracts/clock.ts';
import { FairwayError } from '../contracts/common.ts';
import { type AgentConfig, agentConfigSchema, controllerConfigSchema } from '../contracts/config.ts';
import { type Log, silentLog } from '../contracts/log.ts';
import type { StatusView } from '../contracts/rest.ts';
import { type FairwayServer, startController } from '../controller/io/server.ts';
import { DataCentre, dpidOf } from './datacentre.ts';
import type { DemoScenario } from './demoScenario.ts';
import { elasticClock } from './elasticClock.ts';

export interface StageOptions {
  /** Seconds of the data centre's clock in one real second. */
  speed: number;
  log?: Log;
  /** Ends waiting, and requests of the client. */
  signal: AbortSignal;
  /** False: switches without queues. */
  hasQueues?: boolean;
  /** More of the configuration of a host's agent. */
  agentOf?: (host: string) => Partial<Pick<AgentConfig, 'guestMemoryMiB' | 'hostLabels'>>;
  /** Called when all is started, before the controller knows of it. */
  onOpen?: () => void;
}

export interface Stage {
  clock: Clock;
  dc: DataCentre;
  client: FairwayClient;
  url: string;
  token: string;
  /** Ends the controller alone, which takes everything of its own out of the switches. */
  closeController(): Promise<void>;
  close(): Promise<void>;
}

/** On an idle machine it takes two or three seconds. */
const READY_LIMIT_MS = 60_000;

/** Opens a stage; resolves when the controller knows every switch, link, agent and guest. */
export async function openStage(scenario: DemoScenario, o: StageOptions): Promise<Stage> {
  const log = o.log ?? silentLog;
  const clock = elasticClock(o.speed);
  const token = randomBytes(16).toString('hex');
  const dc = new DataCentre(scenario.network, { clock, log, hasQueues: o.hasQueues ?? true });
  const agents: RunningAgent[] = [];
  let controller: FairwayServer | undefined;
  const close = async () => {
    try {
      await Promise.all(agents.splice(0).map((a) => a.close()));
      await controller?.close();
      controller = undefined;
      await dc.stop();
    } finally {
      clock.close();
    }
  };
  try {
    const databases = await dc.open();
    controller = await startController(
      controllerConfigSchema.parse({
        openflow: { port: 0 },
        http: { port: 0 },
        policy: { store: 'memory' },
        switches: Object.fromEntries(
          scenario.network.switches.map((name) => {
            const dpid = dpidOf(scenario.network, name);
            const ovsdb = databases.get(dpid);
            return [dpid, { name, ...(ovsdb === undefined ? {} : { ovsdb }) }];
          }),
        ),
      }),
      { log, clock, token, journal: null },
    );
    dc.start({ host: '127.0.0.1', port: controller.openflowPort });
    agents.push(...(await startAgents(scenario, dc, controller.httpPort, { token, clock, log }, o.agentOf)));
    const url = `http://127.0.0.1:${controller.httpPort}`;
    const client = new FairwayClient({ url, token, signal: o.signal });
    o.onOpen?.();
    await untilReady(client, dc, scenario, o.signal);
    return {
      clock,
      dc,
      client,
      url,
      token,
      close,
      async closeController() {
        await controller?.close({ removeFlows: true });
        controller = undefined;
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function startAgents(
  scenario: DemoScenario,
  dc: DataCentre,
  httpPort: number,
  o: { token: string; clock: Clock; log: Log },
  settings: StageOptions['agentOf'],
): Promise<RunningAgent[]> {
  const fabric = createEmulatedFabric();
  const started: RunningAgent[] = [];
  for (const host of scenario.network.hosts) {
    const config = agentConfigSchema.parse({
      host: host.name,
      controller: `ws://127.0.0.1:${httpPort}`,
      driver: 'emulated',
      migrationIp: host.migrationIp,
      dpid: dpidOf(scenario.network, host.name),
      migrationPort: host.name,
      guests: scenario.guests.filter((g) => g.host === host.name).map((g) => g.spec),
      ...settings?.(host.name),
    });
    const driver = createEmulatedDriver({
      config,
      clock: o.clock,
      log: o.log,
      fabric,
      network: {
        achievedBps: (copy, wantedBps) => dc.streamBps(copy.migration, copy.stream, wantedBps),
        ended: (migration) => dc.dropStream(migration),
      },
      onGuest: () => dc.guestsChanged(),
    });
    dc.watchGuests(host.name, () => driver.guests());
    started.push(await startAgent(config, { ...o, driver, stopGuestsOnClose: true }));
  }
  return started;
}

/** Waits until the controller knows every switch, link, agent and guest. */
async function untilReady(
  client: FairwayClient,
  dc: DataCentre,
  scenario: DemoScenario,
  signal: AbortSignal,
): Promise<void> {
  const giveUpAt = Date.now() + READY_LIMIT_MS;
  for (;;) {
    const missing = whatIsMissing(await client.status(), dc, scenario);
    if (missing === undefined) return;
    if (Date.now() > giveUpAt) throw new FairwayError('demo.notReady', `the network did not come up: ${missing}`);
    await sleep(50, undefined, { signal });
  }
}

function whatIsMissing(status: StatusView, dc: DataCentre, scenario: DemoScenario): string | undefined {
  const { topology } = status;
  const up = topology.switches.filter((s) => s.connected).length;
  if (up < scenario.network.switches.length) return `${up} of ${scenario.network.switches.length} switches connected`;
  const links = dc.links.filter((l) => topology.links.some((k) => k.id === l.id)).length;
  if (links < dc.links.length) return `${links} of ${dc.links.length} links found`;
  const agents = topology.agents.filter((a) => a.connected).length;
  if (agents < scenario.network.hosts.length) return `${agents} of ${scenario.network.hosts.length} agents connected`;
  const lost = scenario.guests.filter((g) => !topology.locations.some((l) => l.mac === g.spec.mac));
  return lost.length > 0 ? `guests not seen yet: ${lost.map((g) => g.spec.name).join(', ')}` : undefined;
}
