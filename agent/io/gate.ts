/**
 * What stands between the controller's orders and the driver: orders that no well-meaning controller gives are refused, whoever
 * speaks, and so are more migrations at a time than the host's limits allow. `agent.ts` asks before it carries an order out.
 */
import { isIP } from 'node:net';
import { isAbsolute, join, normalize, sep } from 'node:path';
import type { AgentCommand, GuestSpec } from '../../contracts/agent.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { AgentConfig } from '../../contracts/config.ts';
import type { MigrationDriver } from '../core/driver.ts';
import { whyBadPeer } from '../core/libvirt.ts';

export interface Gate {
  /**
   * Carries an order out if it may be.
   *
   * @throws FairwayError `bad-command` (badInput) or `host-busy` (retryable), and whatever `work` throws.
   */
  pass<T>(command: AgentCommand, work: () => Promise<T>): Promise<T>;
}

type GateConfig = Pick<AgentConfig, 'host' | 'guestFiles' | 'limits'>;
type GateDriver = Pick<MigrationDriver, 'guests' | 'migrations' | 'pastEvents'>;

/** @param driver whose migrations count */
export function createGate(config: GateConfig, driver: GateDriver): Gate {
  /** Admitted and being begun: the driver may not know of them yet. */
  const beginning = { source: new Map<string, string>(), destination: new Map<string, string>() };

  /** Guests by migration that this host copies or waits for now. */
  function ongoing(role: 'source' | 'destination'): Map<string, string> {
    const ends = new Set(
      driver
        .pastEvents()
        .filter((e) => ['completed', 'failed', 'cancelled', 'resumed'].includes(e.event))
        .map((e) => e.migration),
    );
    const known = driver.migrations().filter((m) => m.role === role && !ends.has(m.migration));
    return new Map([...known.map((m) => [m.migration, m.guest] as const), ...beginning[role]]);
  }

  function checkLimit(role: 'source' | 'destination', migration: string): void {
    const most = role === 'source' ? config.limits.outgoing : config.limits.incoming;
    const now = ongoing(role);
    if (most === undefined || now.has(migration) || now.size < most) return;
    const which = [...now].map(([id, guest]) => `${id} of ${guest}`).join(', ');
    const what = role === 'source' ? 'sends' : 'receives';
    const text = `${config.host} already ${what} as many migrations as its limit allows (${most}: ${which}); ask again when one has ended`;
    throw new FairwayError('host-busy', text, ['retryable', 'conflict']);
  }

  return {
    async pass(command, work) {
      const wrong = whyRefused(command, config.guestFiles);
      if (wrong !== undefined) throw new FairwayError('bad-command', `${command.do}: ${wrong}`, ['badInput']);
      if (command.do !== 'prepare' && command.do !== 'start') return work();
      const role = command.do === 'start' ? 'source' : 'destination';
      checkLimit(role, command.migration);
      beginning[role].set(command.migration, command.do === 'start' ? command.guest : command.guest.name);
      try {
        return await work();
      } finally {
        beginning[role].delete(command.migration);
      }
    },
  };
}

function whyRefused(c: AgentCommand, folders: readonly string[]): string | undefined {
  if (c.do === 'prepare') {
    const { disksFrom } = c;
    if (disksFrom !== undefined && isIP(disksFrom.address) === 0) {
      return `disksFrom.address: ${disksFrom.address} is not an IP address`;
    }
    return whyBadFiles(c.guest, folders);
  }
  if (c.do !== 'start' && c.do !== 'recoverOutgoing') return undefined;
  if (isIP(c.address) === 0) return `address: ${c.address} is not an IP address`;
  if (c.do === 'recoverOutgoing') return undefined;
  for (const [i, path] of (c.diskPaths ?? []).entries()) {
    if (!isPlainPath(path)) return `diskPaths.${i}: ${JSON.stringify(path)} is not a plain absolute path`;
  }
  return c.peer === undefined ? undefined : whyBadPeer(c.peer);
}

const isPlainPath = (path: string): boolean =>
  isAbsolute(path) && normalize(path) === path && !path.endsWith(sep) && !/[\0-\x1f]/.test(path);

/** A guest's files are used by the hypervisor with all its rights: only plain absolute paths, in the folders given if any are. */
function whyBadFiles(spec: GuestSpec, folders: readonly string[]): string | undefined {
  const paths: [name: string, path: string | undefined][] = [
    ['kernel', spec.kernel],
    ['initrd', spec.initrd],
    ...(spec.disks ?? []).map((d, i): [string, string] => [`disks.${i}.path`, d.path]),
  ];
  for (const [name, path] of paths) {
    if (path === undefined) continue;
    if (!isPlainPath(path)) {
      return `guest.${name}: ${JSON.stringify(path)} is not a plain absolute path`;
    }
    if (folders.length > 0 && !folders.some((f) => path.startsWith(join(normalize(f), sep)))) {
      return `guest.${name}: ${path} is outside of what this agent's guestFiles allows (${folders.join(', ')})`;
    }
  }
  return undefined;
}
