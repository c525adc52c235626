/**
 * The policy that holds for one guest: the document with the overrides that apply to it. Neighbours: `document.ts` compiles
 * the document and its overrides, `explain.ts` says which rule gave a value, `controller/core` asks for the policy of each
 * migration here before it decides anything about it.
 *
 * Precedence, the strongest first, setting by setting: the guest's own rule; rules for its labels, of higher rank first,
 * then by name, each followed by the labels it extends; its tenant's; the host's; then, for the limits of the workload, the
 * link's; then the document's own value.
 */
import type { Labels } from '../contracts/common.ts';
import type { PolicyDocument, PolicyOverride } from '../contracts/policy.ts';
import { assemble, type CompiledPolicy, type CompiledSettings, merged } from './document.ts';
import { labelEntry } from './documentChecks.ts';
import { valueAt } from './documentPaths.ts';

/** Whom a policy is wanted for; what is absent has no rules. */
export interface PolicySubject {
  guest?: string;
  labels?: Labels;
  /** The label `tenant` when absent. */
  tenant?: string;
  host?: string;
}

export type OverrideLevel = 'guest' | 'label' | 'tenant' | 'host';
export interface OverrideRule {
  level: OverrideLevel;
  /** Name of the guest, tenant or host; of a label `<key>.<value>`. */
  name: string;
  /** Dotted path of the entry in the document. */
  path: string;
  settings: PolicyOverride;
}

/** The overrides that apply, the strongest first. */
export function overrideRules(doc: PolicyDocument, subject: PolicySubject): OverrideRule[] {
  const { guests, labels, tenants, hosts } = doc.overrides;
  const rules: OverrideRule[] = [];
  const add = (level: OverrideLevel, path: string, name: string, settings: PolicyOverride | undefined) => {
    if (settings !== undefined && !rules.some((r) => r.path === path)) rules.push({ level, name, path, settings });
  };
  const own = (entries: Readonly<Record<string, PolicyOverride>>, name: string) =>
    Object.hasOwn(entries, name) ? entries[name] : undefined;

  if (subject.guest !== undefined) {
    add('guest', `overrides.guests.${subject.guest}`, subject.guest, own(guests, subject.guest));
  }
  const carried = Object.entries(subject.labels ?? {}).flatMap(([key, value]) => {
    const values = Object.hasOwn(labels, key) ? labels[key] : undefined;
    const settings = values !== undefined && Object.hasOwn(values, value) ? values[value] : undefined;
    return settings === undefined ? [] : [{ name: `${key}.${value}`, settings }];
  });
  carried.sort((a, b) => (b.settings.rank ?? 0) - (a.settings.rank ?? 0) || (a.name < b.name ? -1 : 1));
  for (const label of carried) {
    // The document's check has seen to it that this ends.
    for (let name: string | undefined = label.name; name !== undefined; name = labelEntry(doc, name)?.extends) {
      add('label', `overrides.labels.${name}`, name, labelEntry(doc, name));
    }
  }
  const tenant = subject.tenant ?? subject.labels?.tenant;
  if (tenant !== undefined) add('tenant', `overrides.tenants.${tenant}`, tenant, own(tenants, tenant));
  if (subject.host !== undefined)
    add('host', `overrides.hosts.${subject.host}`, subject.host, own(hosts, subject.host));
  return rules;
}

/** Policies already made, by the document's own policy and the overrides in them: the same object for the same rules. */
const made = new WeakMap<CompiledPolicy, Map<string, CompiledPolicy>>();

/**
 * The policy for a guest on a host; the given one where no override applies to it. The expressions are those compiled with
 * the document; nothing is parsed here.
 */
export function effectivePolicy(policy: CompiledPolicy, subject: PolicySubject): CompiledPolicy {
  if (policy.overrides.size === 0) return policy;
  const rules = overrideRules(policy.doc, subject);
  if (rules.length === 0) return policy;
  const overriddenBy = rules.map((r) => r.path);
  const key = overriddenBy.join('\n');
  const known = made.get(policy) ?? new Map<string, CompiledPolicy>();
  made.set(policy, known);
  const before = known.get(key);
  if (before !== undefined) return before;

  const compiled = rules.map((r) => policy.overrides.get(r.path) as CompiledSettings);
  const effective = assemble({
    doc: withRules(policy.doc, rules),
    overriddenBy,
    overrideOf: remembered((setting) => {
      const keys = setting.split('.');
      return rules.find((r) => valueAt(r.settings, keys) !== undefined)?.path;
    }),
    overrides: policy.overrides,
    expressions: {
      reservation: (which) =>
        compiled.find((c) => c.reservations.has(which))?.reservations.get(which) ??
        policy.expressions.reservation(which),
      limit: (which, linkId) =>
        compiled.find((c) => c[which] !== undefined)?.[which] ?? policy.expressions.limit(which, linkId),
    },
  });
  known.set(key, effective);
  return effective;
}

/** Asked for at every reservation, for a handful of settings. */
function remembered<T>(find: (key: string) => T): (key: string) => T {
  const known = new Map<string, T>();
  return (key) => {
    if (!known.has(key)) known.set(key, find(key));
    return known.get(key) as T;
  };
}

/** The document as the rules leave it: what decisions read from it by name. */
function withRules(doc: PolicyDocument, rules: readonly OverrideRule[]): PolicyDocument {
  let { technique, reservation } = doc;
  for (const { settings } of [...rules].reverse()) {
    technique = merged(technique, settings.technique) as typeof technique;
    reservation = merged(reservation, settings.reservation) as typeof reservation;
  }
  return { ...doc, technique, reservation };
}
