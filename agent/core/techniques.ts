/**
 * What a copy asks of the hypervisors at both ends, what they can do, and whether the two fit: decided before anything
 * moves. Pure. `source.ts` and `destination.ts` take QEMU's capabilities and parameters from here; every driver refuses with
 * the reasons given here. Conflicts are those of QEMU's `migrate_caps_check` (migration/options.c); what a version can do
 * is asked of it (`query-migrate-capabilities`, `query-migrate-parameters`), except where only the version tells.
 */
import type { Abilities, AgentCommandOf, CopyOptions, MultifdCompression } from '../../contracts/agent.ts';
import { FairwayError, TECHNIQUES, type Technique } from '../../contracts/common.ts';

/** The part of `prepare` and `start` that both ends must agree on. */
export type CopyOrder = Readonly<Pick<AgentCommandOf<'start'>, 'technique' | 'mayTurnPostcopy' | 'options'>>;

/** A technique with options, by the name people call it. */
export interface CopyMethod {
  readonly name: string;
  readonly technique: Technique;
  readonly options: CopyOptions;
}

/** True when post-copy is, or may become, a part of the copy: both ends must enable it before the copy starts. */
export const mayBePostcopy = (c: CopyOrder): boolean =>
  c.technique === 'post-copy' || c.technique === 'hybrid' || c.mayTurnPostcopy === true;

/** True when the copy has one connection, so that its source port can be told. */
export const hasOneConnection = (c: CopyOrder): boolean => !mayBePostcopy(c) && c.options?.multifd === undefined;

/** Why what was ordered contradicts itself on these hypervisors or on any; undefined when it does not. */
function contradiction(c: CopyOrder, abilities: Abilities): string | undefined {
  const { autoConverge, xbzrle, xbzrleCacheMiB, multifd } = c.options ?? {};
  if (multifd !== undefined && xbzrle === true) {
    return 'XBZRLE compares pages on one connection and multifd has several: ask for one of the two';
  }
  if (xbzrleCacheMiB !== undefined && xbzrle !== true) return 'a cache for XBZRLE was given without XBZRLE';
  if (multifd !== undefined && mayBePostcopy(c) && !abilities.multifdPostcopy) {
    const why = c.technique === 'pre-copy' ? 'a pre-copy that may turn post-copy' : c.technique;
    return `${why} does not go with multifd before QEMU 10.1: leave out multifd and its compression, or copy without post-copy`;
  }
  if (c.technique === 'stop-and-copy' && (autoConverge === true || xbzrle === true)) {
    const what = autoConverge === true ? 'auto-converge slows a running guest down' : 'XBZRLE helps pages sent again';
    return `${what}, and stop-and-copy sends each page of a stopped guest once: leave it out`;
  }
  if (c.technique === 'stop-and-copy' && c.mayTurnPostcopy === true) return 'a stop-and-copy cannot turn post-copy';
  if (c.technique === 'post-copy' && (autoConverge === true || xbzrle === true)) {
    const what = autoConverge === true ? 'auto-converge' : 'XBZRLE';
    return `${what} works between passes of pre-copy, and post-copy has none: leave it out, or ask for hybrid`;
  }
  return undefined;
}

function lacking(c: CopyOrder, abilities: Abilities): string | undefined {
  const { autoConverge, xbzrle, multifd } = c.options ?? {};
  if (!abilities.techniques.includes(c.technique)) return `it cannot do ${c.technique}`;
  if (c.mayTurnPostcopy === true && !abilities.techniques.includes('post-copy')) return 'it cannot do post-copy';
  if (autoConverge === true && !abilities.autoConverge) return 'it has no auto-converge';
  if (xbzrle === true && !abilities.xbzrle) return 'it has no XBZRLE';
  if (multifd !== undefined && !abilities.multifd.includes(multifd.compression)) {
    if (abilities.multifd.length === 0) return 'it has no multifd';
    return `its multifd compresses with ${abilities.multifd.join(', ')} only, not with ${multifd.compression}`;
  }
  return undefined;
}

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
