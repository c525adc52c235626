/** What `fairway lab run --help` says beside what the lab can do. */
import { run } from '../../../cli/program.ts';
import { EXIT } from '../../../cli/terminal.ts';
import { SCENARIOS } from '../../../sim/lab/run.ts';
import { screen } from '../cli/samples.ts';

test('the help names every scenario', async () => {
  const s = screen();
  expect(await run(['lab', 'run', '--help'], s.terminal)).toBe(EXIT.ok);
  for (const name of Object.keys(SCENARIOS)) expect(s.out()).toContain(name);
});
