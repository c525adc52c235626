/** TCP as migrations use it: a free port to listen on, and the connection of a copy in the kernel's table. */
import { readFile } from 'node:fs/promises';
import { createConnection, createServer, isIP } from 'node:net';
import type { DiskOffer, Stream } from '../../contracts/agent.ts';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import { parseProcNetTcp } from '../core/proc.ts';

/** An address as it is written before `:port`. */
export const uriHost = (address: string): string => (isIP(address) === 6 ? `[${address}]` : address);

/**
 * The first eight ports of a range that nothing listens on and that are not taken.
 *
 * @throws FairwayError `migration-ip` (badInput) when nobody can listen at the address.
 */
export async function freePorts(
  address: string,
  [from, to]: readonly [number, number],
  taken: ReadonlySet<number>,
): Promise<number[]> {
  const free: number[] = [];
  for (let port = from; port <= to && free.length < 8; port++) {
    if (taken.has(port)) continue;
    const code = await whyNotListening(address, port);
    if (code === undefined) free.push(port);
    else if (code === 'EADDRNOTAVAIL') {
      const text = `${address} is no address of this host: set migrationIp of its agent to one at which other hosts reach it`;
      throw new FairwayError('migration-ip', text, ['badInput']);
    }
  }
  return free;
}

function whyNotListening(address: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    server.listen({ host: address, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}

/**
 * Looks a copy's connection up in the kernel's table until it is there, for two seconds at most.
 *
 * @param tables process whose network namespace is looked at; asked each time, undefined when it is gone
 * @param goesOn false to give up
 */
export async function findConnection(
  address: string,
  port: number,
  tables: () => number | 'self' | undefined,
  goesOn: () => boolean,
  clock: Clock,
): Promise<Stream | undefined> {
  for (let tries = 0; tries < 80 && goesOn(); tries++) {
    const pid = tables();
    if (pid === undefined) return undefined;
    const texts = await Promise.all(
      ['tcp', 'tcp6'].map((t) => readFile(`/proc/${pid}/net/${t}`, 'utf8').catch(() => '')),
    );
    const found = texts
      .flatMap(parseProcNetTcp)
      .find((c) => c.remotePort === port && (isIP(address) !== 4 || c.remoteIp === address));
    if (found !== undefined) {
      const { localIp, localPort, remoteIp } = found;
      return { sourceIp: localIp, destinationIp: remoteIp, sourcePort: localPort, destinationPort: port };
    }
    await new Promise<void>((resolve) => clock.after(25, resolve));
  }
  return undefined;
}

/**
 * Whether an answer comes from an address, be it that nobody listens at the port: then packets go there and come back.
 *
 * @param localAddress address to ask from, as the copy itself would
 */
export function pathAnswers(
  address: string,
  port: number,
  localAddress: string | undefined,
  timeoutMs: number,
): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: address, port, ...(localAddress === undefined ? {} : { localAddress }) });
    const timer = setTimeout(() => done(false), timeoutMs);
    const done = (answered: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answered);
    };
    socket.once('connect', () => done(true));
    socket.once('error', (error: NodeJS.ErrnoException) => done(error.code === 'ECONNREFUSED'));
  });
}

const NBD_MAGIC = 'NBDMAGIC';

/** Whether an NBD server greets whoever connects to it there. */
export function nbdAnswers({ address, port }: DiskOffer, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: address, port });
    let said = '';
    const timer = setTimeout(() => done(), timeoutMs);
    const done = (): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(said.startsWith(NBD_MAGIC));
    };
    socket.on('data', (piece) => {
      said += piece.toString('latin1');
      if (said.length >= NBD_MAGIC.length) done();
    });
    socket.once('error', done);
    socket.once('close', done);
  });
}

/** A copy's connection as far as it is known without looking: any source port. */
export function anyStream(
  sourceIp: string | undefined,
  destinationIp: string,
  destinationPort: number,
): Stream | undefined {
  return sourceIp === undefined ? undefined : { sourceIp, destinationIp, sourcePort: 0, destinationPort };
}
