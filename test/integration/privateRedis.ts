/** A redis-server for one test, and a policy store on it that notes what it tells. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../contracts/clock.ts';
import { silentLog } from '../../contracts/log.ts';
import { DEFAULT_POLICY, type PolicyDocument, type PolicyStatus } from '../../contracts/policy.ts';
import { policyCodec, RedisPolicyStore } from '../../controller/io/policyStores/index.ts';
import { kill, until } from './privateOvs.ts';

export const whyNoRedis = (): string | undefined =>
  existsSync('/usr/bin/redis-server') ? undefined : 'redis-server is not installed';

/** A redis-server of a test's own, in a folder of its own. */
export class RedisServer {
  readonly dir = mkdtempSync(join(tmpdir(), 'fairway-io-redis-'));
  readonly port: number;
  child: ChildProcess | undefined;
  constructor(port: number) {
    this.port = port;
  }
  async start(): Promise<void> {
    const options = ['--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.dir, '--save', ''];
    this.child = spawn('redis-server', options, { stdio: 'ignore' });
    await until(() => {
      try {
        return this.cli('ping') === 'PONG';
      } catch {
        return false;
      }
    }, 'redis-server answers');
  }
  cli(...args: string[]): string {
    return execFileSync('redis-cli', ['-p', String(this.port), ...args], { encoding: 'utf8', stdio: 'pipe' }).trim();
  }
  field(name: string): string {
    return this.cli('hget', 'fairway:policy', name);
  }
  status(name: string): string {
    return this.cli('hget', 'fairway:policy:status', name);
  }
  async stop(): Promise<void> {
    await kill(this.child, 'SIGKILL');
  }
}

/** How long a store is patient; a test whose server never answers asks for less. */
export interface Patience {
  startTimeoutMs?: number;
  commandTimeoutMs?: number;
}

/** A store with a record of what it told. */
export function openStore(url: string, { startTimeoutMs = 30_000, commandTimeoutMs = 30_000 }: Patience = {}) {
  const store = new RedisPolicyStore({
    url,
    prefix: 'fairway:',
    codec: policyCodec,
    clock: systemClock(),
    log: silentLog,
    pollMs: 100,
    startTimeoutMs,
    commandTimeoutMs,
  });
  const told = { doc: DEFAULT_POLICY as PolicyDocument, status: undefined as PolicyStatus | undefined, changes: 0 };
  return {
    store,
    told,
    async start() {
      const first = await store.start(
        (doc, status) => {
          told.doc = doc;
          told.status = status;
          told.changes++;
        },
        (status) => {
          told.status = status;
        },
      );
      told.doc = first.doc;
      told.status = first.status;
      return first;
    },
  };
}
