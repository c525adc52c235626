/** Reads the files that `openflow.tls` of the configuration names, for `switches.ts`. */
import { readFile } from 'node:fs/promises';
import { FairwayError } from '../../contracts/common.ts';
import type { ControllerConfig } from '../../contracts/config.ts';
import type { SwitchTls } from './switches.ts';

type TlsConfig = NonNullable<ControllerConfig['openflow']['tls']>;

/** @throws FairwayError TLS_FILES when a file cannot be read */
export async function loadTls(c: TlsConfig): Promise<SwitchTls> {
  const read = async (key: 'key' | 'cert' | 'ca') => {
    try {
      return await readFile(c[key]);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new FairwayError('TLS_FILES', `openflow.tls.${key}: ${why}`, ['badInput'], error);
    }
  };
  const [key, cert, ca] = await Promise.all([read('key'), read('cert'), read('ca')]);
  const byDpid = new Map(Object.entries(c.certificates));
  return { key, cert, ca, rules: { byDpid, allowUnbound: c.allowUnbound } };
}
