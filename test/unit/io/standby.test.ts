/** Roles of controllers: `controller/io/standby.ts` and the generation ids of `controller/core/roles.ts`. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { systemClock } from '../../../contracts/clock.ts';
import { silentLog } from '../../../contracts/log.ts';
import { nextGeneration, sameGeneration } from '../../../controller/core/roles.ts';
import { watchPrimary } from '../../../controller/io/standby.ts';

test('a generation id that is next is newer, also where ids go round', () => {
  for (const known of [0n, 1n, 0x7fff_ffff_ffff_ffffn, 0xffff_ffff_ffff_fffen])
    expect(BigInt.asIntN(64, nextGeneration(known) - known)).toBeGreaterThan(0n);
  expect(nextGeneration(0xffff_ffff_ffff_ffffn)).toBe(1n);
  expect(sameGeneration(5n)).toBe(5n);
  expect(sameGeneration(0xffff_ffff_ffff_ffffn)).toBe(0n);
});

test('a primary that answers is left alone; one that does not for five times is gone, once', async () => {
  let answers = 0;
  let isWell = true;
  const http = createServer((request, response) => {
    expect(request.url).toBe('/healthz');
    answers++;
    // One failure in between does not count for long.
    response.statusCode = isWell && answers !== 3 ? 200 : 500;
    response.end('{}');
  });
  await new Promise<void>((r) => http.listen(0, '127.0.0.1', r));
  let gone = 0;
  const stop = watchPrimary({
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    clock: systemClock(20),
    log: silentLog,
    onGone: () => {
      gone++;
    },
  });
  const until = async (holds: () => boolean) => {
    for (let i = 0; i < 1000 && !holds(); i++) await new Promise((r) => setTimeout(r, 10));
    expect(holds()).toBe(true);
  };
  await until(() => answers >= 8);
  expect(gone).toBe(0);
  isWell = false;
  await until(() => gone === 1);
  const asked = answers;
  await new Promise((r) => setTimeout(r, 300));
  expect([gone, answers]).toEqual([1, asked]);
  stop();
  http.closeAllConnections();
  await new Promise((r) => http.close(r));
});
