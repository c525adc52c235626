/**
 * `docs/policy-reference.md`, made from the schema in `contracts/policy.ts`, so that it cannot say anything else.
 * `npm run docs` writes it; a test sees to it that it is up to date.
 */
import { DEFAULT_POLICY, POLICY_FIELDS, type PolicyField } from '../contracts/policy.ts';
import { flattenPolicy } from './documentEdits.ts';

const SECTIONS: Readonly<Record<string, string>> = {
  format: 'Format',
  direction: 'Direction of traffic (step 1)',
  technique: 'Technique (step 2)',
  strategy: 'Strategy (step 3)',
  reservation: 'Reservation (step 4)',
  workload: 'What the workload wants (step 4)',
  sla: 'Limits of the workload (step 4)',
  marks: 'Marks (step 4)',
  finish: 'Finish (step 5)',
  limits: 'Limits',
  overrides: 'Overrides',
};

const HEAD = `# Reference of the policy document

<!-- Generated from contracts/policy.ts by \`npm run docs\`. Edit that file instead. -->

Every field of \`policy/1\`: its dotted path, its unit, the values it may have, its default and its meaning. How the document
is kept, edited and explained, and what expressions may contain, is in [policy.md](policy.md).

A field in ms also takes a text such as \`200 ms\`, \`1.5 s\`, \`2 min\`; a share also takes \`50 %\`; a field in bit/s also takes
\`4 Mbit/s\`. They are kept as plain numbers.
`;

/** The whole page. */
export function policyReference(): string {
  const defaults = new Map(Object.entries(flattenPolicy(DEFAULT_POLICY)));
  const sections = new Map<string, PolicyField[]>();
  for (const field of POLICY_FIELDS) {
    const section = field.path.split('.')[0] as string;
    sections.set(section, [...(sections.get(section) ?? []), field]);
  }
  const pages = [...sections].map(([section, fields]) => {
    const rows = fields.map((f) => {
      const initial = defaults.get(f.path);
      const cells = [`\`${f.path}\``, f.unit, f.range, initial === undefined ? 'none' : `\`${initial}\``, f.text];
      return `| ${cells.map((c) => c.replaceAll('|', '\\|')).join(' | ')} |\n`;
    });
    const head = '| field | unit | values | default | meaning |\n|---|---|---|---|---|\n';
    return `\n## ${SECTIONS[section] ?? section}\n\n${head}${rows.join('')}`;
  });
  return HEAD + pages.join('');
}
