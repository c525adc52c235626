/**
 * Host agents for the tests of faults, run as a process of their own inside a network namespace: several real agents
 * (`agent/io/agent.ts`) with emulated guests that can be moved between them, since they share one fabric. A test stops a
 * migration where it wants: `hold` keeps a command from reaching the driver, `cap` limits a guest's copy.
 *
 * Argument: JSON `{ token, agents: AgentConfig[] }`. Standard input takes one JSON order a line, standard output answers
 * each with one line; `ready` comes first.
 */
import { createInterface } from 'node:readline';
import type { MigrationDriver } from '../../agent/core/driver.ts';
import { startAgent } from '../../agent/io/agent.ts';
import { createEmulatedDriver, createEmulatedFabric } from '../../agent/io/emulatedDriver.ts';
import { systemClock } from '../../contracts/clock.ts';
import { type AgentConfig, agentConfigSchema } from '../../contracts/config.ts';
import { createLog } from '../../contracts/log.ts';
import type { AgentOrder, AgentsReport } from './orders.ts';

const { token, agents } = JSON.parse(process.argv[2] ?? '{}') as { token: string; agents: unknown[] };
const configs = agents.map((a): AgentConfig => agentConfigSchema.parse(a));
const clock = systemClock();
const fabric = createEmulatedFabric();
const log = createLog('debug', (line) => process.stderr.write(line));

/** Commands held back, `guest/do`, and who waits for their release. */
const held = new Map<string, (() => void)[]>();
/** Most a guest's copy gets, bit/s. */
const caps = new Map<string, number>();

/** Ids of migrations are the guest's name and eight hexadecimal digits. */
const guestOf = (migration: string): string => migration.replace(/-[0-9a-f]{8}$/, '');

function gate(guest: string, what: string): Promise<void> {
  const waiting = held.get(`${guest}/${what}`);
  return waiting === undefined ? Promise.resolve() : new Promise((resolve) => waiting.push(resolve));
}

/** The driver, with a gate before each command that a test may hold. */
function gated(driver: MigrationDriver): MigrationDriver {
  return {
    ...driver,
    prepare: (c) => gate(c.guest.name, 'prepare').then(() => driver.prepare(c)),
    start: (c) => gate(c.guest, 'start').then(() => driver.start(c)),
    continueSwitchover: (id) => gate(guestOf(id), 'continueSwitchover').then(() => driver.continueSwitchover(id)),
    measureDirtyRate: (guest, seconds) =>
      gate(guest, 'measureDirtyRate').then(() => driver.measureDirtyRate(guest, seconds)),
  };
}

const running = await Promise.all(
  configs.map((config) =>
    startAgent(config, {
      token,
      log: (level, event, fields) => log(level, event, { host: config.host, ...fields }),
      driver: gated(
        createEmulatedDriver({
          config,
          clock,
          log,
          fabric,
          portNameOf: (guest) => `${config.host}-${guest}`,
          network: {
            achievedBps: ({ migration }, wantedBps) =>
              Math.min(wantedBps, caps.get(guestOf(migration)) ?? Number.POSITIVE_INFINITY),
          },
        }),
      ),
    }),
  ),
);

const report = (): AgentsReport => ({
  hosts: running.map(({ driver }, i) => ({
    host: configs[i]?.host ?? '',
    guests: driver.guests().map((g) => ({ name: g.spec.name, state: g.state })),
    migrations: driver
      .migrations()
      .map((m) => ({ migration: m.migration, role: m.role, phase: m.progress?.phase ?? null })),
  })),
});

function obey(order: AgentOrder): void {
  const key = `${order.guest}/${order.do}`;
  switch (order.order) {
    case 'hold':
      if (!held.has(key)) held.set(key, []);
      break;
    case 'release':
      for (const go of held.get(key) ?? []) go();
      held.delete(key);
      break;
    case 'cap':
      if (order.bps === undefined) caps.delete(order.guest);
      else caps.set(order.guest, order.bps);
      break;
    case 'report':
      break;
  }
}

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  obey(JSON.parse(line) as AgentOrder);
  process.stdout.write(`${JSON.stringify(report())}\n`);
});
// The test is gone: nobody else would end this process.
lines.on('close', () => process.exit(0));
process.stdout.write('ready\n');
