/**
 * What a copy asks of the hypervisors at both ends, and what they can do. Pure. `source.ts` and `destination.ts` take QEMU's
 * capabilities and parameters from here; every driver refuses with `checkOrder`, whose reasons are `contracts/copyOrder.ts`'s.
 * What a version of QEMU can do is asked of it (`query-migrate-capabilities`, `query-migrate-parameters`), except where only
 * the version tells.
 */
import type { Abilities, AgentCommandOf, CopyOptions, MultifdCompression } from '../../contracts/agent.ts';
import { FairwayError, TECHNIQUES, type Technique } from '../../contracts/common.ts';
import { type CopyOrder, contradiction, lacking, mayBePostcopy } from '../../contracts/copyOrder.ts';

/** A technique with options, by the name people call it. */
export interface CopyMethod {
  readonly name: string;
  readonly technique: Technique;
  readonly options: CopyOptions;
}

/** True when the copy has one connection, so that its source port can be told. */
export const hasOneConnection = (c: CopyOrder): boolean => !mayBePostcopy(c) && c.options?.multifd === undefined;

/**
 * Refuses what cannot be done, before anything moves.
 *
 * @throws FairwayError `technique-conflict` (what was asked for contradicts itself) or `technique-unsupported` (this host's
 *   hypervisor cannot do it), both labelled badInput.
 */
export function checkOrder(c: CopyOrder, abilities: Abilities, host: string): void {
  const conflict = contradiction(c, abilities);
  if (conflict !== undefined) throw new FairwayError('technique-conflict', conflict, ['badInput']);
  const lack = lacking(c, abilities);
  if (lack !== undefined) {
    throw new FairwayError('technique-unsupported', `${abilities.hypervisor} on ${host}: ${lack}`, ['badInput']);
  }
}

/**
 * Both ends encrypt, or none does: nothing is sent in the clear that was not meant to be.
 *
 * @param here this host copies over TLS
 * @param key what to set in a host's configuration
 * @throws FairwayError `tls-mismatch` (badInput).
 */
export function checkTls(
  command: Pick<AgentCommandOf<'start'>, 'address' | 'tls'>,
  here: boolean,
  host: string,
  key: string,
): void {
  if (here === (command.tls === true)) return;
  const [has, lacks] = here ? [host, command.address] : [command.address, host];
  const text = `${has} copies over TLS only, and ${lacks} has no credentials for it: set ${key} on both hosts or on neither`;
  throw new FairwayError('tls-mismatch', text, ['badInput']);
}

/** Capabilities of both ends. They must agree, and none can change once the copy runs. */
export function capabilitiesFor(c: CopyOrder): Record<string, boolean> {
  const postcopy = mayBePostcopy(c);
  const { autoConverge, xbzrle, multifd } = c.options ?? {};
  return {
    events: true,
    'postcopy-ram': postcopy,
    // The second connection for urgent pages; multifd brings connections of its own.
    'postcopy-preempt': postcopy && multifd === undefined,
    'auto-converge': autoConverge === true,
    xbzrle: xbzrle === true,
    multifd: multifd !== undefined,
  };
}

/** Parameters of both ends that belong to the options; always set, so that those of an earlier copy do not linger. */
export function optionParameters(c: CopyOrder): Record<string, number | string> {
  const { xbzrleCacheMiB, multifd } = c.options ?? {};
  return {
    'multifd-channels': multifd?.channels ?? 2,
    'multifd-compression': multifd?.compression ?? 'none',
    ...(xbzrleCacheMiB === undefined ? {} : { 'xbzrle-cache-size': xbzrleCacheMiB * 1024 * 1024 }),
  };
}

export type Version = readonly [major: number, minor: number, micro: number];
export const atLeast = (v: Version, major: number, minor: number): boolean =>
  v[0] > major || (v[0] === major && v[1] >= minor);

/** Compressions tried, in the order told. */
export const COMPRESSIONS: readonly MultifdCompression[] = ['none', 'zlib', 'zstd'];

/** What a QEMU can do, from what it answered. `compressions`: values of `multifd-compression` that it accepted. */
export function qemuAbilities(
  version: Version,
  capabilities: ReadonlySet<string>,
  compressions: readonly MultifdCompression[],
): Abilities {
  const postcopy = capabilities.has('postcopy-ram');
  return {
    hypervisor: `QEMU ${version.join('.')}`,
    techniques: TECHNIQUES.filter((t) => postcopy || (t !== 'post-copy' && t !== 'hybrid')),
    autoConverge: capabilities.has('auto-converge'),
    xbzrle: capabilities.has('xbzrle'),
    multifd: capabilities.has('multifd') ? [...compressions] : [],
    multifdPostcopy: capabilities.has('multifd') && postcopy && atLeast(version, 10, 1),
    holdsSwitchover: capabilities.has('pause-before-switchover') ? 'stopped' : 'none',
    // Serving disks of a guest that has left came with QEMU 10.0, and a mirror is ended while the guest is held.
    storage: [
      'shared' as const,
      ...(capabilities.has('pause-before-switchover') ? (['mirrored'] as const) : []),
      ...(atLeast(version, 10, 0) ? (['on-demand'] as const) : []),
    ],
  };
}

const MULTIFD_CHANNELS = 2;

/** The methods that Fairway knows by name: for tables, measurements and tests. */
export const COPY_METHODS: readonly CopyMethod[] = [
  ...TECHNIQUES.map((technique) => ({ name: technique, technique, options: {} })),
  { name: 'pre-copy, auto-converge', technique: 'pre-copy', options: { autoConverge: true } },
  { name: 'pre-copy, xbzrle', technique: 'pre-copy', options: { xbzrle: true } },
  ...(['zlib', 'zstd'] as const).map((compression) => ({
    name: `pre-copy, multifd ${compression}`,
    technique: 'pre-copy' as const,
    options: { multifd: { channels: MULTIFD_CHANNELS, compression } },
  })),
];
