/** Begins to listen for switches: what switches.ts and learning.ts, each with sessions of its own kind behind it, do alike. */
import type { Server } from 'node:net';
import { FairwayError } from '../../contracts/common.ts';

/** @throws (rejects with) FairwayError LISTEN when the address cannot be had */
export function listenOn(server: Server, { host, port }: { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(
        new FairwayError(
          'LISTEN',
          `cannot listen for switches on ${host}:${port}: ${cause.message}`,
          ['badInput'],
          cause,
        ),
      ),
    );
    server.listen(port, host, resolve);
  });
}
