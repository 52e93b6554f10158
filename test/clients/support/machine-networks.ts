// What buildah does with networks concerns the whole machine, wherever its storage is: one file of tests at a time.
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll } from 'vitest';

/** A name of the kernel, not a file: it is free again when its process ends, however it does. */
const NAME = '\0veneer-tests-networks';

/** Keeps the networks of the machine for the tests of the suite that calls it, which wait until no other file has them. */
export function useMachineNetworks(): void {
  const server = createServer();

  beforeAll(async () => {
    for (;;) {
      server.listen(NAME);
      const isOurs = await once(server, 'listening').then(
        () => true,
        () => false,
      );
      if (isOurs) return;
      await wait(100);
    }
  }, 600_000);

  afterAll(() => void server.close());
}
