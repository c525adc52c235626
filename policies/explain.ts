/**
 * Which rule gives a value of the policy, which others it goes before, and what the value comes to on a link: what
 * `fairway policy explain` prints. Precedence is that of `effective.ts`, the values those that decisions use.
 */
import { FairwayError } from '../contracts/common.ts';
import { DEFAULT_POLICY, POLICY_FIELDS, type PolicyDocument } from '../contracts/policy.ts';
import { type CompiledPolicy, RESERVATIONS, type ReservationName } from './document.ts';
import { isTree, noSuchField, splitPath, valueAt } from './documentPaths.ts';
import { effectivePolicy, type OverrideLevel, overrideRules, type PolicySubject } from './effective.ts';
import type { Variables } from './expressions.ts';

/** Whom and where a value is wanted for; rates in bit/s. */
export interface ExplainInputs extends PolicySubject {
  /** Id of a directed link, `<datapath id>:<port>`. */
  link?: string;
  capacityBps: number;
  /** What the workload of the link is taken to want. */
  rateBps: number;
}

/** A place that has a value. `document` is the document's own, where it is not the default. */
export interface ValueRule {
  level: OverrideLevel | 'link' | 'document' | 'default';
  /** Name of the guest, label, tenant, host or link. */
  name: string | null;
  /** Dotted path in the document. */
  path: string;
  value: unknown;
}

export interface PolicyExplanation {
  /** The setting: a dotted path, or `sla.floor` and `sla.ceiling` for what holds on a link. */
  path: string;
  /** What gives the value. */
  rule: ValueRule;
  /** What has one too, but comes after it; the strongest first. */
  weaker: ValueRule[];
  /** What a rate or an expression comes to, bit/s; null where it is no number. Absent for other settings. */
  result?: { bps: number | null; note: string | null; inputs: Variables };
}

const PREFIX = 'overrides.guests.<guest>.';
/** Settings that overrides may have, by their path below the entry. */
const OVERRIDABLE: readonly string[] = POLICY_FIELDS.flatMap(({ path }) =>
  path.startsWith(PREFIX) ? [path.slice(PREFIX.length)] : [],
);

/** `sla.default.floor` and `sla.links.<link>.floor` ask for the floor that holds; other paths stand for themselves. */
function settingOf(path: string): { setting: string; link?: string } {
  const keys = splitPath(path);
  const last = keys.at(-1);
  if (keys[0] !== 'sla' || (last !== 'floor' && last !== 'ceiling')) return { setting: path };
  if (keys[1] === 'links' && keys.length === 4) return { setting: `sla.${last}`, link: keys[2] as string };
  return keys.length === 2 || (keys[1] === 'default' && keys.length === 3)
    ? { setting: `sla.${last}` }
    : { setting: path };
}

/** Whether a path is a setting that can be explained. */
export function isSetting(doc: PolicyDocument, path: string): boolean {
  const { setting } = settingOf(path);
  if (OVERRIDABLE.includes(setting)) return true;
  const value = valueAt(doc, splitPath(setting));
  return value !== undefined && (typeof value !== 'object' || Array.isArray(value));
}

/** What is wrong with a path that is no setting, and what there is instead; undefined for what does not look like a path of the policy. */
export function notASetting(doc: PolicyDocument, path: string): string | undefined {
  const first = path.split('.')[0] as string;
  if (isSetting(doc, path) || !Object.hasOwn(doc, first)) return undefined;
  const value = valueAt(doc, splitPath(path));
  if (!isTree(value)) return noSuchField(path);
  const below = Object.keys(value).map((key) => `${path}.${key}`);
  return below.length === 0 ? 'nothing is written there' : `is no single setting; there are ${below.join(', ')}`;
}

/** An override that holds for a guest. */
export interface SubjectRule {
  level: OverrideLevel;
  name: string;
  path: string;
  /** Of a label; 0 where it has none. */
  rank?: number;
  /** The guest does not carry this label: one of its labels extends it. */
  isExtended?: true;
}

/** The overrides that hold for a guest, the strongest first. */
export function rulesOfSubject(doc: PolicyDocument, subject: PolicySubject): SubjectRule[] {
  return overrideRules(doc, subject).map(({ level, name, path, settings }) => {
    if (level !== 'label') return { level, name, path };
    const [key, value] = name.split('.') as [string, string];
    const isCarried = subject.labels?.[key] === value;
    const rank = 'rank' in settings && typeof settings.rank === 'number' ? settings.rank : 0;
    return { level, name, path, ...(isCarried ? { rank } : { isExtended: true as const }) };
  });
}

/**
 * Explains one setting.
 * @throws FairwayError POLICY_PATH (badInput) when there is no such setting.
 */
export function explainSetting(policy: CompiledPolicy, path: string, inputs: ExplainInputs): PolicyExplanation {
  const { doc } = policy;
  if (!isSetting(doc, path)) {
    throw new FairwayError(
      'POLICY_PATH',
      `${path}: there is no such setting; settings are those of the policy reference, and sla.floor and sla.ceiling`,
      ['badInput'],
    );
  }
  const { setting, link = inputs.link } = settingOf(path);
  const keys = setting.split('.');
  const rules: ValueRule[] = [];
  if (OVERRIDABLE.includes(setting)) {
    for (const { level, name, path: at, settings } of overrideRules(doc, inputs)) {
      const value = valueAt(settings, keys);
      if (value !== undefined) rules.push({ level, name, path: `${at}.${setting}`, value });
    }
  }
  if (setting.startsWith('sla.')) {
    const member = keys[1] as string;
    const ofLink = link === undefined ? undefined : valueAt(doc, ['sla', 'links', link, member]);
    if (link !== undefined && ofLink !== undefined) {
      rules.push({ level: 'link', name: link, path: `sla.links.${link}.${member}`, value: ofLink });
    }
    rules.push(ownRule(doc, ['sla', 'default', member]));
  } else rules.push(ownRule(doc, splitPath(setting)));
  const [rule, ...weaker] = rules as [ValueRule, ...ValueRule[]];
  const result = resultOf(effectivePolicy(policy, inputs), setting, link, inputs);
  return { path: setting, rule, weaker, ...(result === undefined ? {} : { result }) };
}

function ownRule(doc: PolicyDocument, keys: readonly string[]): ValueRule {
  const value = valueAt(doc, keys);
  const isDefault = JSON.stringify(value) === JSON.stringify(valueAt(DEFAULT_POLICY, keys));
  return { level: isDefault ? 'default' : 'document', name: null, path: keys.join('.'), value };
}

/** What the setting comes to, as the decisions would have it. */
function resultOf(
  policy: CompiledPolicy,
  setting: string,
  link: string | undefined,
  { capacityBps, rateBps }: ExplainInputs,
): PolicyExplanation['result'] {
  const { floorBps, ceilingBps } = policy.slaFor(link ?? '', capacityBps);
  const inputs = { capacity: capacityBps, floor: floorBps, ceiling: ceilingBps, rate: rateBps };
  if (setting === 'sla.floor') return { bps: floorBps, note: null, inputs };
  if (setting === 'sla.ceiling') return { bps: ceilingBps, note: null, inputs };
  const which = RESERVATIONS.find((name) => setting === `reservation.${name}`);
  return which === undefined ? undefined : reserved(policy, which, inputs);
}

/** An expression's value and what the floor leaves of it: no slice is ever larger. */
function reserved(policy: CompiledPolicy, which: ReservationName, inputs: Variables): PolicyExplanation['result'] {
  const { bps, note } = policy.judge(which, inputs);
  const most = Math.max(0, inputs.capacity - inputs.floor);
  if (bps === null || bps <= most) return { bps, note, inputs };
  return { bps: most, note: 'the floor leaves no more', inputs };
}

/** Every setting that overrides may have, for one guest: those an override gives first. */
export function explainSubject(policy: CompiledPolicy, inputs: ExplainInputs): PolicyExplanation[] {
  const all = OVERRIDABLE.map((path) => explainSetting(policy, path, inputs));
  const isOwn = (e: PolicyExplanation) => e.rule.level === 'document' || e.rule.level === 'default';
  return [...all.filter((e) => !isOwn(e)), ...all.filter(isOwn)];
}
