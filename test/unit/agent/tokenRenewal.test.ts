/**
 * The token of an agent expires while it copies a guest: it is cut off, comes back with the token that has taken the old one's
 * place, and the copy has not noticed. The controller's end is the real one (`http.ts` and the agents' gateway).
 */
import { type RunningAgent, startAgent } from '../../../agent/io/agent.ts';
import { createEmulatedDriver, createEmulatedFabric } from '../../../agent/io/emulatedDriver.ts';
import { type AgentHello, type AgentMessage, guestSpecSchema } from '../../../contracts/agent.ts';
import { systemClock } from '../../../contracts/clock.ts';
import { agentConfigSchema } from '../../../contracts/config.ts';
import { silentLog } from '../../../contracts/log.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { AgentGateway } from '../../../controller/io/agents.ts';
import { Feed } from '../../../controller/io/feed.ts';
import { startHttp } from '../../../controller/io/http.ts';
import { signToken } from '../../../controller/io/token.ts';

const KEY = 'the-token-of-a-controller-32-char';
/** Long enough for two agents to come and a copy to begin on a busy machine. */
const LIFE_MS = 3000;
const clock = systemClock();
const spec = guestSpecSchema.parse({
  name: 'vm1',
  mac: '52:54:00:00:00:01',
  memoryMiB: 64,
  accel: 'emulated',
  dirtyPagesPerS: 10,
  workingSetMiB: 4,
});

let logged: { level: string; event: string; fields: Record<string, unknown> }[];
let hellos: AgentHello[];
let heard: AgentMessage[];
let gateway: AgentGateway;
let http: Awaited<ReturnType<typeof startHttp>>;
let agents: RunningAgent[];

beforeEach(async () => {
  logged = [];
  hellos = [];
  heard = [];
  agents = [];
  gateway = new AgentGateway({
    clock,
    log: silentLog,
    progressPeriodMs: 100,
    onUp: (_host, hello) => hellos.push(hello),
    onMessage: (_host, m) => heard.push(m),
    onDown: () => undefined,
  });
  const nothing = (): never => {
    throw new Error('nobody asks for it');
  };
  const feed = new Feed({ snapshot: nothing, clock, log: silentLog });
  const status = { state: 'accepted' as const, revision: 1, reason: '', atMs: 0 };
  http = await startHttp({
    ...{ host: '127.0.0.1', port: 0, token: KEY, log: silentLog, clock, version: '1', feed, agents: gateway },
    handlers: {
      ...{ status: nothing, migrate: nothing, evacuate: nothing, cancel: nothing, pull: nothing, patchPolicy: nothing },
      migration: () => undefined,
      policy: () => ({ policy: DEFAULT_POLICY, status, store: 'memory' }),
      policyHistory: nothing,
    },
  });
});
afterEach(async () => {
  await Promise.all(agents.map((a) => a.close()));
  await http.close();
});

const made = (host: string, lifeMs: number) => {
  const now = Date.now();
  return signToken(KEY, { madeAtMs: now, expiresAtMs: now + lifeMs, host });
};
const fabric = createEmulatedFabric();
async function agent(host: string, ip: string, token: () => string): Promise<void> {
  const config = agentConfigSchema.parse({
    ...{
      host,
      controller: `ws://127.0.0.1:${http.port}`,
      driver: 'emulated',
      migrationIp: ip,
      tokenFile: `${host}.token`,
    },
    guests: host === 'h1' ? [spec] : [],
  });
  const driver = createEmulatedDriver({ config, clock, log: silentLog, fabric });
  const log = (level: string, event: string, fields: Record<string, unknown> = {}) =>
    logged.push({ level, event, fields });
  agents.push(await startAgent(config, { token, log, driver, stopGuestsOnClose: true, random: () => 0 }));
}
async function until<T>(what: () => T | undefined | false): Promise<T> {
  for (;;) {
    const found = what();
    if (found !== undefined && found !== false) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
const said = (event: string) => logged.filter((l) => l.event === event);

test('a copy goes on while its source gets another token', async () => {
  let token = made('h1', LIFE_MS);
  await agent('h1', '192.0.2.81', () => token);
  await agent('h2', '192.0.2.82', () => KEY);
  await until(() => hellos.length === 2);
  const technique = 'pre-copy' as const;
  const prepare = { do: 'prepare' as const, migration: 'm1', guest: spec, technique };
  const { address, port } = (await gateway.send('h2', prepare)) as { address: string; port: number };
  await gateway.send('h1', {
    ...{ do: 'start', migration: 'm1', guest: 'vm1', technique, address, port },
    // 67 MB in more than a minute, unless it is let go.
    ...{ bandwidthBps: 8e6, downtimeLimitMs: 300, hybridPasses: 2, pauseBeforeSwitchover: false },
  });
  // Nobody has taken care yet: it is warned, and then there is another.
  expect((await until(() => said('token-expires-soon')[0])).fields).toMatchObject({
    expiresAt: expect.any(String),
    reason: expect.stringMatching(/fairway token make.*h1\.token/),
  });
  token = made('h1', 600_000);
  await until(() => hellos.length === 3);
  expect(said('token-expired')).toHaveLength(1);
  expect(said('token-refused')).toEqual([]);
  expect(hellos[2]).toMatchObject({ host: 'h1', migrations: [{ migration: 'm1', progress: { phase: 'pre-copy' } }] });
  const at = heard.length;
  await gateway.send('h1', { do: 'setBandwidth', migration: 'm1', bandwidthBps: 1e9 });
  await until(() => heard.slice(at).some((m) => m.type === 'event' && m.event === 'completed'));
  expect(agents[1]?.driver.guests()).toMatchObject([{ state: 'running' }]);
  // With so long a life it is not warned of again.
  expect(said('token-expires-soon')).toHaveLength(1);
});

test('without another it is refused, and says when it expired and what to do; a token of another host is, too', async () => {
  const old = made('h1', 1);
  await agent('h1', '192.0.2.83', () => old);
  const { level, fields } = await until(() => said('token-refused')[0]);
  expect(level).toBe('error');
  expect(fields).toMatchObject({
    code: 'TOKEN_EXPIRED',
    reason: expect.stringMatching(
      /the token expired at .*Z, and it is .*: make another with `fairway token make`.*h1\.token/,
    ),
  });
  const others = made('h9', 600_000);
  await agent('h2', '192.0.2.84', () => others);
  const refused = await until(() => said('controller-refused')[0]);
  expect(refused.fields.reason).toMatch(/its token is for h9 and not for h2/);
  expect(gateway.hosts).toEqual([]);
});
