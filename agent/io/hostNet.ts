/**
 * The host's side of a guest's network card: a tap device in the agent's network namespace and its port on the local Open
 * vSwitch bridge. Used by `qemuDriver.ts`; `run` is also how `queueFilters.ts` reaches `tc`.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { FairwayError } from '../../contracts/common.ts';
import type { AgentConfig } from '../../contracts/config.ts';

const execute = promisify(execFile);

/** Runs a program and answers its standard output. @throws FairwayError `command-failed` with what it said on standard error. */
export async function run(program: string, args: readonly string[], timeoutMs = 15_000): Promise<string> {
  try {
    const { stdout } = await execute(program, [...args], { timeout: timeoutMs, maxBuffer: 16 * 1024 * 1024 });
    return stdout;
  } catch (error) {
    const e = error as { code?: unknown; stderr?: string; message: string };
    const text =
      e.code === 'ENOENT'
        ? `${program} is not installed`
        : `${program} ${args.join(' ')}: ${e.stderr?.trim() || e.message}`;
    throw new FairwayError('command-failed', text, [], error);
  }
}

/** A tap name for a guest of a host: 14 characters, the same each time, different on hosts that share a namespace. */
export function tapName(host: string, guest: string): string {
  return `fwt${createHash('sha256').update(`${host}\0${guest}`).digest('hex').slice(0, 11)}`;
}

type Ovs = NonNullable<AgentConfig['ovs']>;
/** @throws FairwayError `ovs-unreachable` (retryable) when there is no database, `command-failed`. */
const vsctl = (ovs: Ovs, args: readonly string[]) =>
  run('ovs-vsctl', [`--db=${ovs.db}`, '--timeout=10', ...args]).catch((error: Error) => {
    if (!/database connection failed|Alarm clock/i.test(error.message)) throw error;
    const text = `no answer from Open vSwitch's database at ${ovs.db}: is ovsdb-server running there (Debian: systemctl start openvswitch-switch)? Else set ovs.db`;
    throw new FairwayError('ovs-unreachable', text, ['retryable'], error);
  });

/** Creates the tap (or finds it) and puts it on the bridge, marked as the guest's. Offloads off: the switch is in userspace. */
export async function attachTap(ovs: Ovs, tap: string, guest: string, mac: string): Promise<void> {
  const present = await run('ip', ['link', 'show', 'dev', tap]).then(
    () => true,
    () => false,
  );
  if (!present) await run('ip', ['tuntap', 'add', 'dev', tap, 'mode', 'tap']);
  await run('ip', ['link', 'set', 'dev', tap, 'up']);
  await run('ethtool', ['-K', tap, 'tx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'off']);
  const marks = [`external_ids:fairway-guest="${guest}"`];
  await vsctl(ovs, [
    ...['--may-exist', 'add-port', ovs.bridge, tap],
    ...['--', 'set', 'Port', tap, ...marks],
    ...['--', 'set', 'Interface', tap, ...marks],
    ...[`external_ids:attached-mac="${mac}"`, `external_ids:iface-id="${guest}"`],
  ]);
}

/** Takes the tap off the bridge and deletes it; both may be gone already. */
export async function detachTap(ovs: Ovs, tap: string): Promise<void> {
  await vsctl(ovs, ['--if-exists', 'del-port', tap]);
  await run('ip', ['link', 'del', 'dev', tap]).catch((error: unknown) => {
    if (!/Cannot find device/.test(String(error))) throw error;
  });
}
