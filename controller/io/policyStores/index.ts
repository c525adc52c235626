/** The policy stores and how to choose one by configuration. See `store.ts` for what they promise. */
import type { Clock } from '../../../contracts/clock.ts';
import type { ControllerConfig } from '../../../contracts/config.ts';
import type { Log } from '../../../contracts/log.ts';
import { FilePolicyStore } from './file.ts';
import { MemoryPolicyStore } from './memory.ts';
import { RedisPolicyStore } from './redis.ts';
import { type PolicyCodec, type PolicyStore, policyCodec } from './store.ts';

export { FilePolicyStore } from './file.ts';
export { MemoryPolicyStore } from './memory.ts';
export { RedisPolicyStore } from './redis.ts';
export { type PolicyCodec, type PolicyStore, policyCodec, policyDifference } from './store.ts';

/** The store that the `policy` part of the controller's configuration asks for, not started yet. */
export function openPolicyStore(
  config: ControllerConfig['policy'],
  o: { clock: Clock; log: Log; codec?: PolicyCodec },
): PolicyStore {
  const codec = o.codec ?? policyCodec;
  switch (config.store) {
    case 'memory':
      return new MemoryPolicyStore({ codec, clock: o.clock, log: o.log });
    case 'file':
      return new FilePolicyStore({ file: config.file, codec, clock: o.clock, log: o.log });
    case 'redis':
      return new RedisPolicyStore({
        url: config.redisUrl,
        prefix: config.redisPrefix,
        codec,
        clock: o.clock,
        log: o.log,
      });
  }
}
