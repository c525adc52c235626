/**
 * Contradictions in a policy document that no single field shows. Neighbour: document.ts, which asks when it compiles one.
 */
import { PRIORITIES } from '../contracts/common.ts';
import type { PolicyDocument } from '../contracts/policy.ts';
import type { Problems } from './documentProblems.ts';

/** The entry of a label written `<key>.<value>`. */
export function labelEntry(doc: PolicyDocument, name: string) {
  const [key = '', value = ''] = name.split('.');
  const values = Object.hasOwn(doc.overrides.labels, key) ? doc.overrides.labels[key] : undefined;
  return values !== undefined && Object.hasOwn(values, value) ? values[value] : undefined;
}

/** Labels that extend others must lead to an end. */
export function checkExtends(doc: PolicyDocument, problems: Problems): void {
  const told = new Set<string>();
  for (const [key, values] of Object.entries(doc.overrides.labels)) {
    for (const [value, entry] of Object.entries(values)) {
      if (entry.extends === undefined) continue;
      const keys = ['overrides', 'labels', key, value, 'extends'];
      if (labelEntry(doc, entry.extends) === undefined) {
        problems.add(keys, `there is no overrides.labels.${entry.extends}`);
        continue;
      }
      const chain = [`${key}.${value}`];
      for (let next: string | undefined = entry.extends; next !== undefined; next = labelEntry(doc, next)?.extends) {
        const from = chain.indexOf(next);
        chain.push(next);
        if (from < 0) continue;
        const cycle = chain.slice(from);
        // Each cycle is told once, at the first of its labels that is met.
        if (!cycle.some((name) => told.has(name)))
          problems.add(keys, `labels extend each other in a circle: ${cycle.join(' → ')}`);
        for (const name of cycle) told.add(name);
        break;
      }
    }
  }
}

export function checkAllowed(
  keys: readonly string[],
  allowed: readonly string[],
  what: string,
  problems: Problems,
): void {
  if (new Set(allowed).size !== allowed.length) problems.add(keys, `names ${what} twice`);
}

/** Contradictions that no single field shows. */
export function checkConsistency(doc: PolicyDocument, problems: Problems): void {
  const { direction, technique, strategy, marks, finish, workload, discovery } = doc;
  if (direction.outShare >= direction.inShare) {
    problems.add(
      ['direction', 'outShare'],
      `${direction.outShare} must be below direction.inShare (${direction.inShare}), else traffic would be both in and out`,
    );
  }
  const { moderate, high } = strategy.contention;
  if (moderate > high) {
    problems.add(['strategy', 'contention', 'moderate'], `${moderate} is above strategy.contention.high (${high})`);
  }
  for (const [pair, cell] of Object.entries(technique.table)) {
    for (const guest of ['guestIn', 'guestOut'] as const) {
      for (const priority of PRIORITIES) {
        const entry = cell[guest][priority];
        if (!technique.allowed.includes(entry)) {
          problems.add(
            ['technique', 'table', pair, guest, priority],
            `${entry} is not among technique.allowed (${technique.allowed.join(', ')})`,
          );
        }
      }
    }
  }
  checkAllowed(['technique', 'allowed'], technique.allowed, 'a technique', problems);
  checkAllowed(['technique', 'allowedOptions'], technique.allowedOptions, 'an option', problems);
  for (const [a, b] of [
    ['high', 'medium'],
    ['high', 'low'],
    ['medium', 'low'],
  ] as const) {
    if (marks[a] === marks[b]) {
      problems.add(['marks', b], `${marks[b]} is also marks.${a}; each priority needs a DSCP of its own`);
    }
  }
  const [firstVlan, lastVlan] = finish.labelVlans;
  if (firstVlan > lastVlan) problems.add(['finish', 'labelVlans'], `${firstVlan} to ${lastVlan} is an empty range`);
  if (finish.silenceMs > finish.maxDrainMs) {
    problems.add(
      ['finish', 'silenceMs'],
      `${finish.silenceMs} is longer than finish.maxDrainMs (${finish.maxDrainMs})`,
    );
  }
  if (discovery.silenceMs < 2 * discovery.probeMs) {
    problems.add(
      ['discovery', 'silenceMs'],
      `${discovery.silenceMs} is shorter than two probe periods (2 × ${discovery.probeMs}): one lost probe would lose the link`,
    );
  }
  // A workload left (1 + headroom) × what it sent uses 1 ÷ (1 + headroom) of that: were this already "saturated", every
  // steady workload would be taken for a backlogged one, and the slices would swing.
  if ((1 + workload.headroom) * workload.saturatedAt <= 1) {
    problems.add(
      ['workload', 'saturatedAt'],
      `${workload.saturatedAt} must be above 1 / (1 + workload.headroom) = ` +
        `${(1 / (1 + workload.headroom)).toFixed(4)}, else a steady workload counts as backlogged`,
    );
  }
}
