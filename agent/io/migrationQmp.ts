/**
 * What is said to a guest's QEMU about its copies, in QMP: capabilities, credentials, states, figures. The words of
 * `qemuSource.ts` and `qemuDestination.ts`; `disks.ts` has those about disks.
 */
import { z } from 'zod';
import type { AgentConfig } from '../../contracts/config.ts';
import { type MigrateInfo, parseMigrateInfo } from '../core/progress.ts';
import type { QmpCommands } from './qmp.ts';

/** How long QEMU may take to answer while it holds its lock for a switch-over. */
export const SLOW_MS = 60_000;
const TLS_ID = 'fairway-tls';

const status = z.object({ status: z.string() });
/** QEMU's run state, such as `running` or `postmigrate`. */
export const runStateOf = async (qmp: QmpCommands): Promise<string> =>
  status.parse(await qmp.execute('query-status')).status;

export async function queryMigrate(qmp: QmpCommands): Promise<MigrateInfo> {
  return parseMigrateInfo(await qmp.execute('query-migrate', {}, SLOW_MS));
}

export function setCapabilities(qmp: QmpCommands, wanted: Record<string, boolean>): Promise<unknown> {
  const capabilities = Object.entries(wanted).map(([capability, state]) => ({ capability, state }));
  return qmp.execute('migrate-set-capabilities', { capabilities });
}

/**
 * Gives a QEMU its credentials, for its next copy, and answers the parameters that make it use them. Both ends prove who
 * they are; the source compares the destination's address with its certificate. Without credentials there are none.
 */
export async function credentials(
  qmp: QmpCommands,
  endpoint: 'client' | 'server',
  tls: AgentConfig['migrationTls'],
): Promise<Record<string, string>> {
  if (tls === undefined) return {};
  // Read anew each time: certificates are renewed, and the guest's last copy was at the other end.
  await qmp.execute('object-del', { id: TLS_ID }).catch(() => undefined);
  const { dir } = tls;
  await qmp.execute('object-add', { 'qom-type': 'tls-creds-x509', id: TLS_ID, dir, endpoint, 'verify-peer': true });
  return { 'tls-creds': TLS_ID, 'tls-hostname': '' };
}

const dirtyRate = z.object({ status: z.string(), 'dirty-rate': z.number().optional() });

export async function startDirtyRate(qmp: QmpCommands, seconds: number): Promise<void> {
  await qmp.execute('calc-dirty-rate', {
    'calc-time': Math.round(seconds * 1000),
    'calc-time-unit': 'millisecond',
    mode: 'page-sampling',
    // Pages looked at per GiB: the most QEMU takes, since a small guest gets few samples.
    'sample-pages': 16384,
  });
}

/** MiB/s, rounded down; undefined while it is being measured. */
export async function readDirtyRate(qmp: QmpCommands): Promise<number | undefined> {
  const measured = dirtyRate.parse(await qmp.execute('query-dirty-rate'));
  return measured.status === 'measured' ? measured['dirty-rate'] : undefined;
}
