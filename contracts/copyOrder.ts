/**
 * Which orders of a copy make sense, and which a hypervisor can carry out: one answer for the agent, which refuses before
 * anything moves, and for the controller, which refuses before it even asks. Pure. Conflicts are those of QEMU's
 * `migrate_caps_check` (migration/options.c). Neighbours: `agent.ts` has the shapes, `policy.ts` says what may be asked for.
 */
import type { Abilities, AgentCommandOf, CopyOptions } from './agent.ts';
import type { CopyOption, Technique } from './common.ts';

/** The part of `prepare` and `start` that both ends must agree on. */
export type CopyOrder = Readonly<Pick<AgentCommandOf<'start'>, 'technique' | 'mayTurnPostcopy' | 'options'>>;

/** True when post-copy is, or may become, a part of the copy: both ends must enable it before the copy starts. */
export const mayBePostcopy = (c: CopyOrder): boolean =>
  c.technique === 'post-copy' || c.technique === 'hybrid' || c.mayTurnPostcopy === true;

/** Why what was ordered contradicts itself on these hypervisors or on any; undefined when it does not. */
export function contradiction(c: CopyOrder, abilities: Pick<Abilities, 'multifdPostcopy'>): string | undefined {
  const { autoConverge, xbzrle, xbzrleCacheMiB, multifd, storage, pullBps } = c.options ?? {};
  if (pullBps !== undefined && storage !== 'on-demand') {
    return 'a rate to pull disks at was given, and only storage on-demand leaves something to pull';
  }
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

/** What a hypervisor lacks for an order; undefined when it can carry it out. */
export function lacking(c: CopyOrder, abilities: Abilities): string | undefined {
  const { autoConverge, xbzrle, multifd, storage } = c.options ?? {};
  if (storage !== undefined && !(abilities.storage ?? []).includes(storage)) {
    const why = abilities.storageRefusals?.[storage];
    return `it cannot do storage ${storage}${why === undefined ? '' : `: ${why}`}`;
  }
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

/** The options of a copy by the names that the policy and people use. */
export function namesOfOptions(options: CopyOptions | null | undefined): CopyOption[] {
  const { autoConverge, xbzrle, multifd } = options ?? {};
  const names: CopyOption[] = [];
  if (autoConverge === true) names.push('auto-converge');
  if (xbzrle === true) names.push('xbzrle');
  if (multifd !== undefined) names.push(multifd.compression === 'none' ? 'multifd' : multifd.compression);
  return names;
}

/** Technique and options in a few words, such as `pre-copy + xbzrle`. */
export const copyText = (technique: Technique, options: CopyOptions | null | undefined): string =>
  [technique, ...namesOfOptions(options)].join(' + ');
