// That a build which is not wanted any more ends, and all that it started.
import { describe, expect, test } from 'vitest';
import type { ProgressEvent } from '../../src/builds/progress.ts';
import type { Bench } from '../support/build-bench.ts';
import { listCommandLines } from '../support/command-lines.ts';

export function abortContract(getBench: () => Bench, { hasRun }: { readonly hasRun: boolean }): void {
  describe('an abort', () => {
    test('before the build starts nothing', async () => {
      const { place, prepare } = getBench();
      const reason = new Error('before');
      const order = await prepare({ containerFile: `FROM ${place.base}\n` });
      const events: ProgressEvent[] = [];
      const options = { signal: AbortSignal.abort(reason), report: (entry: ProgressEvent) => events.push(entry) };
      await expect(place.backend.build(order, options)).rejects.toBe(reason);
      expect(events).toEqual([]);
    });

    test('settles with its reason, and no process of the build continues', async () => {
      const { place, prepare } = getBench();
      const stop = new AbortController();
      const reason = new Error('enough');
      // Of this test alone, also among others that run at the same time.
      const seconds = 100_000 + Math.floor(Math.random() * 1e9);
      const order = await prepare({
        containerFile: `FROM ${place.base}\nCOPY a /a\n${hasRun ? `RUN echo ready; sleep ${seconds}\n` : ''}`,
        context: { a: String(seconds) },
      });
      const report = ({ text }: ProgressEvent) => {
        if (!hasRun || text === 'ready') stop.abort(reason);
      };
      await expect(place.backend.build(order, { signal: stop.signal, report })).rejects.toBe(reason);
      expect(listCommandLines(new RegExp(order.directory))).toEqual([]);
      // A daemon ends it once it has seen that nobody waits.
      const isSleeping = () => listCommandLines(new RegExp(`sleep ${seconds}$`));
      await expect.poll(isSleeping).toEqual([]);
    });
  });
}
