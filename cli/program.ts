/**
 * The grammar of the command line: commands, options and help. What a command does is in `commands/`, loaded only when
 * it runs, so that `fairway --help` starts fast and a part that is missing on a machine disturbs only its own command.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import type { MultifdCompression } from '../contracts/agent.ts';
import type { Priority, Strategy, Technique } from '../contracts/common.ts';
import type { Topic } from '../contracts/feed.ts';
import { parseRateBps } from '../contracts/units.ts';
import { VERSION } from '../contracts/version.ts';
import { EXIT, type Terminal } from './terminal.ts';

// The words are written out here, checked against the contracts' types: loading the schemas would triple the start-up.
const PRIORITIES = ['high', 'medium', 'low'] as const satisfies readonly Priority[];
const TECHNIQUES = ['pre-copy', 'post-copy', 'hybrid', 'stop-and-copy'] as const satisfies readonly Technique[];
const COMPRESSIONS = ['none', 'zlib', 'zstd'] as const satisfies readonly MultifdCompression[];
const STRATEGIES = ['serial', 'parallel'] as const satisfies readonly Strategy[];
const TOPICS = ['topology', 'rates', 'slices', 'migrations', 'decisions', 'policy'] as const satisfies readonly Topic[];
const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;

const EXIT_HELP = `
Exit status: ${EXIT.ok} done · ${EXIT.failed} failed · ${EXIT.usage} wrong usage or bad input · ${EXIT.unreachable} controller unreachable or token refused · ${EXIT.interrupted} interrupted`;

/** Runs one command line and gives its exit status. Never throws: errors become a message and a status. */
export async function run(argv: readonly string[], terminal: Terminal): Promise<number> {
  let status: number = EXIT.ok;
  const program = buildProgram(terminal, (code) => {
    status = code;
  });
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return status;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    const { explain } = await import('./errors.ts');
    const { message, exit } = explain(error, terminal);
    terminal.err(`fairway: ${message}\n`);
    return exit;
  }
}

function buildProgram(terminal: Terminal, finish: (status: number) => void): Command {
  const fairway = new Command('fairway')
    .description('Keeps a fair way open for live VM migrations on OpenFlow networks.')
    .version(VERSION)
    .configureOutput({ writeOut: (s) => terminal.out(s), writeErr: (s) => terminal.err(s) })
    .configureHelp({ showGlobalOptions: false })
    .exitOverride()
    .showHelpAfterError('(--help says how it is used)')
    .addHelpText('after', EXIT_HELP);

  const command = (parent: Command, usage: string, description: string, examples: readonly string[]) =>
    parent
      .command(usage)
      .description(description)
      .addHelpText('after', `\nExamples:\n${examples.map((e) => `  $ ${e}`).join('\n')}\n${EXIT_HELP}`);
  /** An action: loads its module, runs it, keeps its exit status. */
  const does = <O, A extends unknown[]>(load: () => Promise<Run<O, A>>) =>
    async function (this: Command, ...args: unknown[]) {
      // commander passes the arguments of the command, then its options, then the command.
      const given = args.slice(0, -2) as A;
      finish((await (await load())(terminal, this.opts() as O, ...given)) ?? EXIT.ok);
    };

  configured(
    command(fairway, 'controller', 'Run the controller: switches, agents, operators and the feed connect to it.', [
      'fairway controller --config examples/controller.yaml',
      'fairway controller --set openflow.host=0.0.0.0 --set policy.store=redis',
      'fairway controller --app learning --listen 0.0.0.0:6653',
    ]),
  )
    .addOption(
      new Option('--app <app>', 'what runs: fairway, or learning, a plain learning switch that reads no configuration')
        .choices(['fairway', 'learning'])
        .default('fairway'),
    )
    .addOption(
      new Option(
        '--listen <host:port>',
        'where switches connect, with --app learning (default: 127.0.0.1:6653)',
      ).argParser(listenAddress),
    )
    .option('--json', 'print the ports in use as one JSON object once it listens')
    .option('--remove-flows', 'at the end take everything of ours out of the connected switches')
    .action(does(async () => (await import('./commands/serve.ts')).controller));

  configured(
    command(fairway, 'agent', 'Run the agent of this host: it drives QEMU or libvirt as the controller decides.', [
      'fairway agent --config examples/agent.yaml',
      'FAIRWAY_HOST=host1 FAIRWAY_CONTROLLER=ws://10.0.0.1:8653 fairway agent',
    ]),
  )
    .addHelpText(
      'after',
      '\nSIGTERM and SIGINT end the agent, not its guests nor their copies: an agent that is started again with the same\n' +
        'runDir goes on with them. (Emulated guests end with it.)',
    )
    .action(does(async () => (await import('./commands/serve.ts')).agent));

  command(fairway, 'demo', 'Evacuate a loaded host in an emulated data centre; needs no switch, no root, no Redis.', [
    'fairway demo',
    'fairway demo --json --speed 10',
  ])
    .option('--speed <factor>', 'how many times faster than real time', positive)
    .option('--seed <number>', 'seed of the random numbers', wholeNumber)
    .option('--json', 'print one demo-result/1 object and nothing else on standard output')
    .action(does(async () => (await import('./commands/demo.ts')).demo));

  connected(
    command(fairway, 'migrate', 'Move guests to another host.', [
      'fairway migrate web1 --to host2 --priority high --wait',
      'fairway migrate db1,db2,db3 --to host2 --strategy serial --json',
      'fairway migrate web1 --to host2 --technique pre-copy --multifd zstd',
    ]),
  )
    .argument('<guests>', 'names of the guests, separated by commas; several make a group', names)
    .requiredOption('--to <host>', 'destination host')
    .addOption(new Option('--priority <priority>', 'how urgent it is').choices(PRIORITIES).default('medium'))
    .addOption(new Option('--technique <technique>', 'override the decision').choices(TECHNIQUES))
    .addOption(new Option('--strategy <strategy>', 'override the decision').choices(STRATEGIES))
    .option('--auto-converge', "slow the guest's processors down while passes do not pay")
    .option('--xbzrle', 'send only what changed of a page that was sent before')
    .option('--xbzrle-cache <MiB>', 'memory for the pages sent before, a power of two; with --xbzrle', countingNumber)
    .addOption(
      new Option('--multifd <compression>', 'several connections, and how pages are compressed on them').choices(
        COMPRESSIONS,
      ),
    )
    .option('--channels <number>', 'connections of --multifd (default: 2)', countingNumber)
    .option(
      '--deadline <time>',
      'by when they are to be done, from now on, such as 90s or 5m; they are planned',
      milliseconds,
    )
    .addOption(
      new Option('--storage <mode>', "what becomes of the guests' disks (docs/agent.md)").choices([
        ...['shared', 'mirrored', 'on-demand'],
      ]),
    )
    .option('--pull-rate <rate>', 'with --storage on-demand: fetch the rest in the background, e.g. 50Mbit/s', rate)
    .option('--wait', 'show progress until all have ended; fail unless all are done')
    .option('--json', 'print what was started, with --wait what became of it, as one JSON object')
    .action(does(async () => (await import('./commands/migrate.ts')).migrate));

  connected(
    command(
      fairway,
      'evacuate',
      'Empty a host: choose destinations, plan, show when each guest moves, and move them.',
      [
        'fairway evacuate host1 --dry-run',
        'fairway evacuate host1 --priority high --deadline 10m --yes',
        'fairway evacuate host1 --priority medium --priority db1=high --deadline db1=2m --exclude host9 --json',
      ],
    ),
  )
    .argument('<host>', 'host to empty')
    .option(
      '--priority <priority>',
      'of all guests, or guest=priority of one (repeatable; default: the label priority of each, else medium)',
      prioritySetting,
      [],
    )
    .option('--deadline <time>', 'for all guests, or guest=time for one, such as 5m (repeatable)', deadlineSetting, [])
    .option('--exclude <host>', 'a host that takes no guests (repeatable)', collect, [])
    .option('--dry-run', 'only show where guests would go and when')
    .option('--yes', 'do not ask before it starts; without a screen nobody is asked')
    .option('--json', 'print one JSON object at the end and nothing else on standard output')
    .action(does(async () => (await import('./commands/evacuate.ts')).evacuate));

  connected(
    command(
      fairway,
      'explain',
      'Why a migration waits or runs as it does, what would change it, when it will be done.',
      ['fairway explain web1-1f2e3d4c', 'fairway explain web1 --json | jq .end'],
    ),
  )
    .argument('<migration>', 'id of a migration, or a guest: then its last one')
    .option('--json', 'print the record as one JSON object')
    .action(does(async () => (await import('./commands/explain.ts')).explain));

  connected(
    command(fairway, 'pull', 'Fetch the disks that a guest left behind (storage on-demand), or show how far that is.', [
      'fairway pull web1 --rate "80 Mbit/s" --wait',
      'fairway pull web1-1f2e3d4c --stop',
      'fairway pull web1 --json | jq .pull',
    ]),
  )
    .argument('<migration>', 'id of a migration, or a guest: then its last one')
    .option('--rate <rate>', 'begin, or go on at this rate at the most, e.g. 80Mbit/s', rate)
    .option('--stop', 'fetch no more than the guest reads; what was fetched stays')
    .option('--wait', 'show progress until the pull has ended; fail unless all is there')
    .option('--json', 'print the migration as it is then as one JSON object')
    .action(does(async () => (await import('./commands/pull.ts')).pull));

  connected(
    command(fairway, 'cancel', 'Stop migrations; the guests go on where they were.', [
      'fairway cancel m-12',
      'fairway cancel m-12,m-13',
      'fairway cancel m-12 --forget',
    ]),
  )
    .argument('<migrations>', 'ids of the migrations, separated by commas', names)
    .option('--forget', 'give them up: the agent that would end them will not be back, and nobody knows how they end')
    .option('--json', 'print what one should know of each as one JSON object a line')
    .action(does(async () => (await import('./commands/migrate.ts')).cancel));

  connected(
    command(fairway, 'status', 'What the controller sees: switches, hosts, links with their rates, migrations.', [
      'fairway status',
      'fairway status --json | jq .migrations',
    ]),
  )
    .option('--json', 'print the whole status as one JSON object')
    .action(does(async () => (await import('./commands/status.ts')).status));

  connected(
    command(fairway, 'watch', 'Follow migrations as they run: progress bars on a screen, plain lines elsewhere.', [
      'fairway watch',
      'fairway watch --json --topics decisions,slices',
    ]),
  )
    .option('--topics <topics>', `topics of the feed, with --json: ${TOPICS.join(', ')} (default: all)`, topics)
    .option('--json', 'print each envelope of the feed as one JSON line')
    .action(does(async () => (await import('./commands/watch.ts')).watch));

  command(fairway, 'plan', 'Plan many migrations: when each runs, over which path and at what rate, and why.', [
    'fairway plan examples/plan-racks.json',
    'fairway plan instance.json --json --out plan.json',
    'fairway plan instance.json --check plan.json',
  ])
    .argument('<instance>', 'planning-instance/1 document (JSON); - for standard input')
    .option('--json', 'print one plan/1 document and nothing else on standard output')
    .option('--out <file>', 'write the plan/1 document to a file as well')
    .option(
      '--limit-per-host <number>',
      'at most so many migrations at a time out of, and into, a host',
      countingNumber,
    )
    .option(
      '--work <number>',
      'how much the search may do for each priority (default: about half a second)',
      wholeNumber,
    )
    .option('--seed <number>', 'seed of the random choices of the search', wholeNumber)
    .option('--check <plan>', 'do not plan: say what this plan/1 document breaks')
    .action(does(async () => (await import('./commands/plan.ts')).plan));

  const policy = command(fairway, 'policy', 'Read, change and check the policy document that the decisions obey.', [
    'fairway policy get reservation',
    'fairway policy set direction.windowMs=3000 reservation.medium="capacity - ceiling"',
    'fairway policy check policy.yaml',
    'fairway policy explain web1',
  ]);
  connected(
    command(policy, 'get', 'Print the policy in force, or one part of it.', [
      'fairway policy get > policy.yaml',
      'fairway policy get reservation.medium',
    ]),
  )
    .argument('[path]', 'dotted path, such as reservation.medium')
    .option('--json', 'print JSON; without a path with store and status of the last edit')
    .action(does(async () => (await import('./commands/policy.ts')).get));
  connected(
    command(policy, 'set', 'Change fields, all of them or none; running migrations follow at once.', [
      'fairway policy set reservation.periodMs=500',
      'fairway policy set sla.default.floor="100 Mbit/s" sla.default.ceiling="140 Mbit/s"',
    ]),
  )
    .argument('<assignments...>', 'PATH=VALUE, with dotted paths')
    .addOption(new Option('--author <name>', 'who makes the edit (default: user@machine)').env('FAIRWAY_AUTHOR'))
    .option('--json', 'print the policy that is now in force as one JSON object')
    .action(does(async () => (await import('./commands/policy.ts')).set));
  command(policy, 'check', 'Check a policy file (YAML or JSON) without a controller.', [
    'fairway policy check policy.yaml',
    'fairway policy check --json policy.yaml',
  ])
    .argument('<file>', 'policy file; - for standard input')
    .option('--json', 'print { "ok": …, "problem": …, "problems": […], "notes": […] } as one JSON object')
    .action(does(async () => (await import('./commands/policy.ts')).check));
  connected(
    command(policy, 'diff', 'Compare two policies field by field. Exit status 0: the same, 1: they differ.', [
      'fairway policy diff defaults policy.yaml',
      'fairway policy diff running new.yaml',
    ]),
  )
    .argument('<a>', 'policy file, - for standard input, `defaults`, or `running` for the one in force')
    .argument('<b>', 'the same')
    .option('--json', 'print { "same": …, "changes": [{ "path", "before", "after" }] } as one JSON object')
    .action(does(async () => (await import('./commands/policy.ts')).diff));
  connected(
    command(policy, 'explain', 'Which rule gives a value, which others it goes before, and what it comes to.', [
      'fairway policy explain web1',
      'fairway policy explain reservation.low --guest web1 --link "hv1:1->leaf"',
      'fairway policy explain reservation.low --guest web1 --capacity "200 Mbit/s" --rate "120 Mbit/s"',
      'fairway policy explain sla.floor --label tier=gold --label tenant=acme --file policy.yaml',
    ]),
  )
    .argument('<path-or-guest>', 'dotted path such as reservation.low, sla.floor or sla.ceiling; else a guest')
    .option('--guest <name>', 'for this guest; its labels and host are those that the controller knows')
    .option('--label <key=value>', 'for a guest with this label (repeatable)', collect, [])
    .option('--tenant <name>', "for a guest of this tenant (default: the guest's label tenant)")
    .option('--host <name>', 'for migrations from this host')
    .option('--link <link>', 'on this link: as it is shown (hv1:1->leaf, hv1:1), or <datapath id>:<port>')
    .option('--capacity <rate>', 'of a link with this capacity (default: that of the link, else "1 Gbit/s")')
    .option('--rate <rate>', 'whose workload is taken to want this (default: as on the link now, else "0 bit/s")')
    .option('--file <file>', 'of a policy file, - for standard input or `defaults`, instead of the one in force')
    .option('--json', 'print the explanations as one JSON object')
    .action(does(async () => (await import('./commands/policy.ts')).explain));
  connected(
    command(policy, 'history', 'The last edits: when, who, what, and why those refused were.', [
      'fairway policy history --limit 5',
      'fairway policy history --json | jq .edits[0]',
    ]),
  )
    .option('--limit <number>', 'print at most this many', wholeNumber)
    .option('--json', 'print { "edits": […] } as one JSON object, the newest first')
    .action(does(async () => (await import('./commands/policy.ts')).history));

  const token = command(fairway, 'token', 'Make tokens that expire, and say what a token is good for.', [
    'fairway token make --for 30d --host host1 --out host1.token',
    'fairway token show --token-file host1.token',
  ]);
  const tokenFile = (text: string) =>
    new Option('--token-file <file>', text).env('FAIRWAY_TOKEN_FILE').default('fairway.token');
  command(token, 'make', "Make a token with the controller's own, which stays good; needs no controller.", [
    'fairway token make --for 30d --host host1 --out host1.token',
    'fairway token make --for 12h --json',
  ])
    .requiredOption('--for <time>', 'how long it is good, such as 12h or 30d', milliseconds)
    .option('--host <host>', 'good for the agent of this host, and for nothing else')
    .option('--out <file>', 'write it to this file (mode 0600), in place of what is there, and print only until when')
    .addOption(tokenFile("file with the controller's token; FAIRWAY_TOKEN overrides"))
    .option('--json', 'print one JSON object')
    .action(does(async () => (await import('./commands/token.ts')).make));
  command(token, 'show', 'What a token is good for, and until when. Exit status 1: it has expired.', [
    'fairway token show --token-file /etc/fairway/token',
  ])
    .addOption(tokenFile('file with the token; FAIRWAY_TOKEN overrides'))
    .option('--json', 'print one JSON object')
    .action(does(async () => (await import('./commands/token.ts')).show));

  const lab = command(
    fairway,
    'lab',
    'The real network on one machine: Open vSwitch, QEMU and iperf3 in namespaces. Needs root.',
    ['sudo fairway lab run contention', 'sudo fairway lab run gang --json --out gang.json'],
  );
  command(lab, 'up', 'Build the network and leave it standing.', ['sudo fairway lab up'])
    .option('--json', 'print names and addresses as one JSON object')
    .action(does(async () => (await import('./commands/lab.ts')).up));
  command(lab, 'run', 'Build the network, run a scenario, take the network down.', [
    'sudo fairway lab run contention --json',
    'sudo fairway lab run readjust',
    'sudo fairway lab run moves --moves 5 --qemu-moves 0',
  ])
    .argument(
      '<scenario>',
      'contention, readjust, gang, evacuate, policy-edit, techniques, storage, moves or agent-faults',
    )
    .option('--moves <number>', 'moves: how often the stand-in guest moves in each mode (default: 50)', wholeNumber)
    .option('--qemu-moves <number>', 'moves: how often a QEMU guest moves after that (default: 3)', wholeNumber)
    .option('--json', 'print one lab-result/1 object and nothing else on standard output')
    .option('--out <file>', 'write the lab-result/1 object to a file as well')
    .option('--keep', 'leave the network standing afterwards')
    .action(does(async () => (await import('./commands/lab.ts')).runOne));
  command(lab, 'collect', 'Measure many migrations, one line each in a file; goes on where the file ends.', [
    'sudo fairway lab collect --out migrations.csv',
    'sudo fairway lab collect --out migrations.csv --rows 300 --json',
  ])
    .requiredOption('--out <file>', 'CSV file to write, or to go on with')
    .option('--rows <number>', 'rows of the plan', countingNumber, 160)
    .option('--seed <number>', 'seed of the plan; a file keeps to one', wholeNumber, 1)
    .option('--json', 'print what was done as one JSON object')
    .action(does(async () => (await import('./commands/lab.ts')).collectRows));
  command(lab, 'down', 'Take down what `lab up`, or a run that died, left behind.', ['sudo fairway lab down'])
    .option('--json', 'print what was removed as one JSON object')
    .action(does(async () => (await import('./commands/lab.ts')).down));

  return fairway;
}

/** A command: its exit status, or nothing when all went well. */
type Run<O, A extends unknown[]> = (terminal: Terminal, options: O, ...args: A) => Promise<number | undefined>;

/** Options of commands that speak to a controller. */
function connected(command: Command): Command {
  return command
    .addOption(
      new Option('--url <url>', 'address of the controller').env('FAIRWAY_URL').default('http://127.0.0.1:8653'),
    )
    .addOption(
      new Option('--token-file <file>', 'file with the token; FAIRWAY_TOKEN overrides')
        .env('FAIRWAY_TOKEN_FILE')
        .default('fairway.token'),
    );
}

/** Options of commands that read a configuration file. */
function configured(command: Command): Command {
  return command
    .addOption(new Option('--config <file>', 'configuration file, YAML or JSON').env('FAIRWAY_CONFIG'))
    .option('--set <key=value>', 'override one key of it, e.g. http.port=0 (repeatable)', collect, [])
    .addOption(
      new Option('--log-level <level>', 'least level that is logged')
        .env('FAIRWAY_LOG_LEVEL')
        .choices(LOG_LEVELS)
        .default('info'),
    )
    .addHelpText(
      'after',
      '\nEach key of the configuration can also be set in the environment: FAIRWAY_ and the path in upper snake case,\n' +
        'such as FAIRWAY_HTTP_PORT for http.port. Stronger first: --set, environment, file, default.',
    );
}

/** `high`, or `db1=high`; the guest is '' for all. */
function prioritySetting(text: string, before: [string, Priority][]): [string, Priority][] {
  const [value = '', guest = ''] = text.split('=').reverse();
  const priority = PRIORITIES.find((p) => p === value);
  if (priority === undefined || text.split('=').length > 2)
    throw new InvalidArgumentError(`Expected ${PRIORITIES.join(', ')} or guest=priority.`);
  return [...before, [guest, priority]];
}

/** `5m`, or `db1=5m`; the guest is '' for all. */
function deadlineSetting(text: string, before: [string, number][]): [string, number][] {
  const [value = '', guest = ''] = text.split('=').reverse();
  return [...before, [guest, milliseconds(value)]];
}

const MS = { ms: 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 } as const;

function milliseconds(text: string): number {
  const [, number, unit] = /^([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|min|h|d)$/.exec(text) ?? [];
  const ms = Math.round(Number(number) * MS[(unit ?? 's') as keyof typeof MS]);
  if (!(ms >= 1)) throw new InvalidArgumentError('Expected a time with its unit, such as 90s, 5m or 1h.');
  return ms;
}

const collect = (value: string, before: string[]) => [...before, value];

function names(text: string): string[] {
  const list = text.split(',').map((s) => s.trim());
  if (list.some((s) => s === '')) throw new InvalidArgumentError('Expected names separated by commas.');
  return list;
}

function topics(text: string): Topic[] {
  return names(text).map((name) => {
    const topic = TOPICS.find((t) => t === name);
    if (topic === undefined) throw new InvalidArgumentError(`Topics are ${TOPICS.join(', ')}.`);
    return topic;
  });
}

function positive(text: string): number {
  const n = Number(text);
  if (!(n > 0 && n < Infinity)) throw new InvalidArgumentError('Expected a number above 0.');
  return n;
}

function listenAddress(text: string): { host: string; port: number } {
  const [, bracketed, plain, port] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:]*)):([0-9]{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || Number(port) > 65_535)
    throw new InvalidArgumentError('Expected HOST:PORT, such as 0.0.0.0:6653 or [::]:6653.');
  return { host: host === '' ? '0.0.0.0' : host, port: Number(port) };
}

function rate(text: string): number {
  const bps = parseRateBps(text);
  if (bps === undefined || bps < 8000) throw new InvalidArgumentError('Say a rate such as 50Mbit/s.');
  return bps;
}

function countingNumber(text: string): number {
  const n = wholeNumber(text);
  if (n === 0) throw new InvalidArgumentError('Expected a whole number above 0.');
  return n;
}

function wholeNumber(text: string): number {
  if (!/^[0-9]{1,15}$/.test(text)) throw new InvalidArgumentError('Expected a whole number.');
  return Number(text);
}
