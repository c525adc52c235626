/**
 * Asks a QEMU what it can do: over the QMP of a guest that is not being copied, or of a QEMU without a machine that is
 * started for the purpose and ended at once. `core/techniques.ts` makes sense of the answers.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { Abilities, MultifdCompression } from '../../contracts/agent.ts';
import { FairwayError } from '../../contracts/common.ts';
import { COMPRESSIONS, qemuAbilities } from '../core/techniques.ts';
import { connectQmp, type QmpClient } from './qmp.ts';

const version = z.object({ qemu: z.object({ major: z.number(), minor: z.number(), micro: z.number() }) });
const capabilities = z.array(z.object({ capability: z.string() }));

/** What the QEMU behind `qmp` can do. Sets `multifd-compression`, so no copy may be running or prepared there. */
export async function askAbilities(qmp: QmpClient): Promise<Abilities> {
  const { major, minor, micro } = version.parse(await qmp.execute('query-version')).qemu;
  const names = capabilities.parse(await qmp.execute('query-migrate-capabilities')).map((c) => c.capability);
  const compressions: MultifdCompression[] = [];
  // Which compressions a QEMU was built with shows only in what it accepts. 'none' comes last, and stays.
  for (const compression of [...COMPRESSIONS].reverse()) {
    try {
      await qmp.execute('migrate-set-parameters', { 'multifd-compression': compression });
      compressions.unshift(compression);
    } catch (error) {
      if (!(error instanceof FairwayError) || error.code !== 'qmp-GenericError') throw error;
    }
  }
  return qemuAbilities([major, minor, micro], new Set(names), compressions);
}

/**
 * Starts `qemu` without a machine, asks it, and ends it: a tenth of a second.
 *
 * @throws FairwayError `hypervisor-missing` when there is no such program, or it does not answer.
 */
export async function probeQemu(qemu: string, runDir: string): Promise<Abilities> {
  const folder = mkdtempSync(join(runDir, 'probe-'));
  const path = join(folder, 'qmp.sock');
  const args = ['-machine', 'none', '-nodefaults', '-no-user-config', '-display', 'none', '-accel', 'tcg', '-S'];
  const child = spawn(qemu, [...args, '-qmp', `unix:${path.replaceAll(',', ',,')},server=on,wait=off`], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  let ended: string | undefined;
  const gone = new Promise<void>((resolve) => {
    child.once('error', (error) => {
      const { code } = error as NodeJS.ErrnoException;
      ended =
        code === 'ENOENT'
          ? `${qemu} is not installed: install it (Debian: apt-get install qemu-system-x86), or set qemu to where it is, and start the agent again`
          : `${qemu} does not run: ${error.message}`;
      resolve();
    });
    child.once('exit', (code) => {
      ended ??= `${qemu} ended with status ${code}: ${said.trim()}`;
      resolve();
    });
  });
  child.stderr.on('data', (data) => {
    said += String(data);
  });
  let qmp: QmpClient | undefined;
  try {
    for (let tries = 0; qmp === undefined; tries++) {
      if (ended !== undefined) throw new FairwayError('hypervisor-missing', ended, ['notFound']);
      qmp =
        (await connectQmp(path).catch((error: unknown) => {
          if (tries > 500) throw error;
        })) ?? undefined;
      if (qmp === undefined) await sleep(10);
    }
    return await askAbilities(qmp);
  } finally {
    qmp?.close();
    child.kill('SIGKILL');
    await gone;
    rmSync(folder, { recursive: true, force: true });
  }
}
