/** The data centre's clock, with real time made by the test. */
import { type ElasticClock, elasticClock, sleepOn } from '../../../sim/elasticClock.ts';

describe('the elastic clock', () => {
  let realMs: number;
  let clock: ElasticClock;
  let startMs: number;

  beforeEach(() => {
    jest.useFakeTimers({ doNotFake: ['performance', 'Date'] });
    realMs = 0;
    clock = elasticClock(5, 100, () => realMs);
    startMs = clock.now();
  });
  afterEach(() => {
    clock.close();
    expect(jest.getTimerCount()).toBe(0);
    jest.useRealTimers();
  });

  /** Lets real time pass in ticks of 4 ms. */
  const run = (ms: number) => {
    for (const end = realMs + ms; realMs < end; ) {
      realMs += 4;
      jest.advanceTimersByTime(4);
    }
  };

  test('runs faster than real time', () => {
    run(200);
    expect(clock.now() - startMs).toBe(1000);
  });

  test('a pause of the process moves it by no more than a step', () => {
    run(40);
    realMs += 10_000;
    expect(clock.now() - startMs).toBe(300);
    jest.advanceTimersByTime(4);
    expect(clock.now() - startMs).toBe(300);
    run(40);
    expect(clock.now() - startMs).toBe(500);
  });

  test('timers fire in the order they are due, once or again and again, until cancelled', () => {
    const fired: string[] = [];
    clock.after(60, () => fired.push('late'));
    clock.after(45, () => fired.push('early'));
    const cancel = clock.after(50, () => fired.push('cancelled'));
    const stop = clock.every(100, () => fired.push('again'));
    cancel();
    run(72);
    expect(fired).toEqual(['early', 'late', 'again', 'again', 'again']);
    stop();
    run(100);
    expect(fired).toHaveLength(5);
  });

  test('a timer may cancel one that is due with it, and periods missed are not made up for', () => {
    const fired: string[] = [];
    clock.after(1, () => cancel());
    const cancel = clock.after(2, () => fired.push('cancelled'));
    clock.every(20, () => fired.push('tick'));
    realMs += 1000;
    jest.advanceTimersByTime(4);
    expect(fired).toEqual(['tick']);
  });

  test('sleeping ends with the time or the signal', async () => {
    const stop = new AbortController();
    const slept = sleepOn(clock, 50, stop.signal);
    run(20);
    await expect(slept).resolves.toBeUndefined();
    const interrupted = sleepOn(clock, 50, stop.signal);
    stop.abort(new Error('enough'));
    await expect(interrupted).rejects.toThrow('enough');
    await expect(sleepOn(clock, 50, stop.signal)).rejects.toThrow('enough');
  });
});
