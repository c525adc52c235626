/** `controller/io/tls.ts`: the files of `openflow.tls`. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadTls } from '../../../controller/io/tls.ts';

const dir = mkdtempSync(join(tmpdir(), 'fairway-tls-'));
afterAll(() => rmSync(dir, { recursive: true }));
const path = (name: string) => join(dir, name);

test('files and rules are read; a file that is not there is named with its key', async () => {
  for (const name of ['key', 'cert', 'ca']) writeFileSync(path(name), name);
  const config = {
    key: path('key'),
    cert: path('cert'),
    ca: path('ca'),
    certificates: { '0000000000000011': 'hv1' },
    allowUnbound: true,
  };
  expect(await loadTls(config)).toEqual({
    key: Buffer.from('key'),
    cert: Buffer.from('cert'),
    ca: Buffer.from('ca'),
    rules: { byDpid: new Map([['0000000000000011', 'hv1']]), allowUnbound: true },
  });
  await expect(loadTls({ ...config, ca: path('missing') })).rejects.toMatchObject({
    code: 'TLS_FILES',
    labels: ['badInput'],
    message: expect.stringMatching(/openflow\.tls\.ca: .*missing/),
  });
});
