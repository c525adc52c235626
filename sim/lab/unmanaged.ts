/**
 * The baseline: a guest moved by plain QEMU with its own defaults, without agent, controller or queues. Uses the agent's
 * QMP client and its way of describing a machine, so that guests of both kinds are the same; nothing of Fairway's
 * decides or limits anything here.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { qemuArgv } from '../../agent/core/qemuArgv.ts';
import { connectQmp, type QmpClient } from '../../agent/io/qmp.ts';
import type { GuestSpec } from '../../contracts/agent.ts';
import { FairwayError } from '../../contracts/common.ts';
import { ADDRESS, type Hypervisor, type Lab, offloadsOff, vsctl } from './network.ts';
import { preciseNow, run, runIn, sleep, stopPid } from './shell.ts';

/** A QEMU process of the baseline, at one hypervisor. */
export interface PlainMachine {
  site: Hypervisor;
  spec: GuestSpec;
  tap: string;
  pid: number;
  qmp: QmpClient;
}

/** Starts a machine attached to the hypervisor's bridge; `incoming` waits for a migration stream. */
export async function startPlain(
  lab: Lab,
  site: Hypervisor,
  spec: GuestSpec,
  incoming: boolean,
): Promise<PlainMachine> {
  const sw = lab.switches[site];
  const at = (what: string) => join(sw.runDir, `plain-${spec.name}.${what}`);
  // A device's name has 15 characters at the most.
  const tap = `plain-${spec.name}`.slice(0, 15);
  await run('ip', ['-n', sw.namespace, 'tuntap', 'add', 'dev', tap, 'mode', 'tap']);
  await offloadsOff(sw.namespace, tap);
  await run('ip', ['-n', sw.namespace, 'link', 'set', tap, 'up']);
  await vsctl(sw, ['add-port', sw.bridge, tap]);
  const paths = { qmp: at('qmp'), monitor: at('monitor'), serial: at('serial'), pidFile: at('pid') };
  await runIn(sw.namespace, 'qemu-system-x86_64', qemuArgv(spec, paths, tap, { incoming }));
  const pid = Number(readFileSync(paths.pidFile, 'utf8'));
  lab.state.addProcess(pid, `QEMU of ${spec.name} at ${site}`);
  return { site, spec, tap, pid, qmp: await connectQmp(paths.qmp) };
}

/** Ends a machine and takes its port away. */
export async function stopPlain(lab: Lab, machine: PlainMachine): Promise<void> {
  const sw = lab.switches[machine.site];
  machine.qmp.close();
  await stopPid(machine.pid);
  await vsctl(sw, ['--if-exists', 'del-port', sw.bridge, machine.tap]);
  await run('ip', ['-n', sw.namespace, 'link', 'del', machine.tap]);
}

export interface PlainOutcome {
  startMs: number;
  endMs: number;
  /** As QEMU says. */
  totalMs: number;
  downtimeMs: number;
  bytes: number;
  passes: number;
}

/**
 * Pre-copy with QEMU's defaults, as `migrate` does when nobody sets anything; returns when QEMU says that it completed.
 * Fails with FairwayError `lab.migration` when QEMU says that it failed. Several at a time to one host need a port each.
 */
export async function migratePlain(
  from: PlainMachine,
  to: PlainMachine,
  signal?: AbortSignal,
  port = 4444,
): Promise<PlainOutcome> {
  const address = `tcp:${ADDRESS.data[to.site]}:${port}`;
  await to.qmp.execute('migrate-incoming', { uri: address });
  const startMs = preciseNow();
  await from.qmp.execute('migrate', { uri: address });
  for (;;) {
    await sleep(50, signal);
    const info = (await from.qmp.execute('query-migrate')) as {
      status?: string;
      'error-desc'?: string;
      'total-time'?: number;
      downtime?: number;
      ram?: { transferred: number; 'dirty-sync-count': number };
    };
    if (info.status === 'completed') {
      const totalMs = info['total-time'] ?? preciseNow() - startMs;
      return {
        startMs,
        endMs: startMs + totalMs,
        totalMs,
        downtimeMs: info.downtime ?? 0,
        bytes: info.ram?.transferred ?? 0,
        passes: info.ram?.['dirty-sync-count'] ?? 0,
      };
    }
    if (info.status === 'failed' || info.status === 'cancelled') {
      throw new FairwayError(
        'lab.migration',
        `QEMU: migration ${info.status}: ${info['error-desc'] ?? 'no reason given'}`,
      );
    }
  }
}
